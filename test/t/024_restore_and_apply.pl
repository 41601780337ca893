# Rows of stock come into a database that is in use, by pg_restore and by logical replication:
# sellers in flight are waited for, nobody sells by a figure that is half there, and in the end all
# add up.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;

my $node = server('main', 'ordflow.workers = off');
my $dir = PostgreSQL::Test::Utils::tempdir;
restore($_) for '', '--single-transaction', '--jobs=3';
replicate();

# Customers try to hold a lamp all the time, from before it exists there.
sub customers
{
	my ($db) = @_;
	my @out = ('') x 3;
	my @runs = map {
		my $sql = "\\set ON_ERROR_STOP off\n\\set VERBOSITY sqlstate\n" . join '', map {
			hold("$db " . rand, 'lamp') =~ s/SELECT/SELECT pg_sleep(0.01),/r . " \\gset\n"
		} 1 .. 100;
		IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr($db) ],
			'<', \$sql, '>', '/dev/null', '2>', \$out[$_], IPC::Run::timeout(180));
	} 0 .. $#out;
	return (\@out, @runs);
}

sub restore
{
	my (@options) = grep { $_ ne '' } @_;
	my $name = "pg_restore @options";
	my ($from, $to) = map { "$_" . (@options ? $options[0] =~ s/\W//gr : '') } 'old', 'new';
	answer($node, "CREATE DATABASE $from; CREATE DATABASE $to");
	answer($node, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('lamp', 400);
		SELECT ordflow.submit_order(NULL, '[{"sku": "lamp", "quantity": 1, "unit_price": 1}]')
		FROM generate_series(1, 50);
		SELECT ordflow.reserve_stock('cart' || i, '[{"sku": "lamp", "quantity": 1}]')
		FROM generate_series(1, 20) AS i;
		SELECT ordflow.receive_stock('sku' || i, i) FROM generate_series(1, 500) AS i), $from);
	$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/$to.dump", $from ], "$name: dumped");

	# a database that has begun to sell: with rows of its own, whose ids no restored one has
	answer($node, q(CREATE EXTENSION ordflow;
		SELECT setval('ordflow.stock_stock_id_seq', 100000);
		SELECT ordflow.receive_stock('own', 10)), $to);
	my $seller = session($node, $to);
	act($seller, 'BEGIN; ' . hold('in flight', 'own', 3));
	my ($refused, @customers) = customers($to);
	my $restore = IPC::Run::start([ 'pg_restore', '--data-only', @options, '-d',
		$node->connstr($to), "$dir/$to.dump" ], '2>&1', IPC::Run::timeout(180));
	wait_until($node, q(SELECT count(*) > 0 FROM pg_locks WHERE NOT granted
		AND relation = 'ordflow.counter_gate'::regclass), $to);
	pass("$name: it waits for a seller in flight");
	act($seller, 'COMMIT');
	ok($restore->finish, "$name: restored");
	$_->finish for @customers;
	$seller->quit;

	my $states = join ' ', grep { !/^OF00[24]$/ } "@$refused" =~ /ERROR:  (\w{5})/g;
	is($states, '', "$name: customers hear that there is none, or not yet");
	my $sold = answer($node, q(SELECT count(*) FROM ordflow.holds WHERE reference !~ '^cart|^in f'),
		$to);
	cmp_ok($sold, '>', 0, "$name: in the end they get lamps");
	exactly($node, 'lamp', 330 - $sold, $name, $to);
	exactly($node, 'own', 7, $name, $to);
	exactly($node, 'sku77', 77, $name, $to);
	all_right($node, $name, $to);
	return;
}

# Two servers, whose stock is the same.
sub replicate
{
	my $publisher = server('publisher', 'wal_level = logical', 'max_wal_senders = 10',
		'max_replication_slots = 10', 'ordflow.workers = off');
	my $subscriber = server('subscriber', 'ordflow.workers = off');
	my $gate = q(SELECT count(*) > 0 FROM pg_locks WHERE NOT granted
		AND relation = 'ordflow.counter_gate'::regclass);
	answer($publisher, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('lamp', 10);
		CREATE PUBLICATION levels FOR TABLE ordflow.stock, ordflow.stock_movements,
			ordflow.stock_segments));
	answer($subscriber, q(CREATE EXTENSION ordflow;
		SELECT setval('ordflow.stock_stock_id_seq', 100000);
		SELECT ordflow.receive_stock('own', 10)));
	my $seller = session($subscriber);
	act($seller, 'BEGIN; ' . hold('in flight', 'own', 3));
	answer($subscriber, "CREATE SUBSCRIPTION apply CONNECTION '"
		. $publisher->connstr . q( dbname=postgres' PUBLICATION levels));
	wait_until($subscriber, $gate);
	is(act($seller, 'COMMIT'), '', 'the first copy waits for a seller in flight');
	wait_until($subscriber, q(SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel));
	exactly($subscriber, 'lamp', 10, 'copied');

	# changes: each waits for the seller, and drops what he has loaded
	for my $change (
		[ 'a receipt', q(SELECT ordflow.receive_stock('lamp', 5)), 14 ],
		[ 'an order', submission('lamp', 4), 10 ],
		[ 'a balance', q(UPDATE ordflow.stock SET on_hand = 1 WHERE sku = 'lamp'), 11 ],
		[ 'a new sku', q(SELECT ordflow.receive_stock('rug', 3)), 11 ])
	{
		my ($name, $sql, $left) = @$change;
		act($seller, 'BEGIN; ' . hold("seller $name", 'lamp'));
		answer($publisher, $sql);
		wait_until($subscriber, $gate);
		is(act($seller, $name eq 'a receipt' ? 'COMMIT' : 'ROLLBACK'), '',
			"$name: apply waits for a seller in flight");
		$publisher->wait_for_catchup('apply');
		exactly($subscriber, 'lamp', $left, "$name, applied");
	}
	exactly($subscriber, 'rug', 3, 'a new sku, applied');

	answer($publisher, 'TRUNCATE ordflow.stock_movements');
	$publisher->wait_for_catchup('apply');
	exactly($subscriber, $_->[0], $_->[1], 'TRUNCATE, applied') for [ 'own', 0 ], [ 'lamp', 1 ];
	$seller->quit;
	answer($subscriber, 'DELETE FROM ordflow.holds; DELETE FROM ordflow.hold_lines');
	all_right($subscriber, 'applied');
	return;
}

done_testing();

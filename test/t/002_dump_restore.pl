# A dump of a shop in full swing, restored, is the same shop and goes on selling; so is the dump of
# that one. The other server lacks a role that an effect names: no failure.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = server('source');
my $target = server('target');
my $dir = PostgreSQL::Test::Utils::tempdir;
answer($source, 'CREATE DATABASE shop');
shop($source, 'shop');
spread_ledger($source, 'shop');
audits_clean($source, 'the shop', 'shop');
my $rows = checksums($source, 'shop');
my %tables = map { (split /\|/)[0, 1] } split /\n/, $rows;
my @empty = grep { /^ordflow\./ && !$tables{$_} && !/counter_gate|parked/ } keys %tables;
is("@empty", '', 'the shop has rows in every table');

restores('custom', $source, 'shop', ['-Fc'], []);
restores('directory', $source, 'shop', [ '-Fd', '-j', '4' ], [ '-j', '4' ]);
restores('plain', $source, 'shop', ['-Fp']);
restores('inserts', $source, 'shop', [ '-Fp', '--column-inserts' ]);
restores('again', $target, 'directory', ['-Fc'], []);
restores('again', $source, 'shop', ['-Fc'], [ '--clean', '--if-exists' ]);

goes_on_selling($_) for qw(custom directory plain again);

# Dumps a database and restores it into one of the target server, which is created if need be.
sub restores
{
	my ($db, $from, $from_db, $dump, $restore) = @_;
	my $name = "$from_db to $db: @$dump @{ $restore // [] }";
	my $file = "$dir/$db.$from_db." . int(rand(1e9));
	answer($target, "CREATE DATABASE $db")
	  unless answer($target, "SELECT 1 FROM pg_database WHERE datname = '$db'");
	$from->command_ok([ 'pg_dump', @$dump, '-f', $file, $from_db ], "$name: dump");
	$target->command_ok(
		$restore ? [ 'pg_restore', '-d', $db, '--exit-on-error', @$restore, $file ]
		: [ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', $db, '-o', "$file.out", '-f', $file ],
		"$name: restore");
	same_checksums(checksums($target, $db), $rows, $name);
	is(answer($target, "SELECT ordflow.is_active('timer')", $db), 'f', "$name: it sleeps");
	audits_clean($target, $name, $db);
	return;
}

sub goes_on_selling
{
	my ($db) = @_;
	my $is = sub { is(answer($target, "SELECT $_[0]", $db), $_[1], "$db: $_[2]") };

	$is->(q(ordflow.submit_order('new', '[{"sku": "lamp", "quantity": 1, "unit_price": 1}]')),
		31, 'a new order gets the next id');
	$is->(q(ordflow.submit_order('c8', '[{"sku": "lamp", "quantity": 2, "unit_price": 19.99},
		{"sku": "vase", "quantity": 1, "unit_price": 5.05, "metadata": {"gift": true}},
		{"sku": "wrapping", "quantity": 1, "unit_price": 0.5, "stock": false}]', NULL, 'key 8',
		NULL, '{}', '[{"code": "shipping", "amount": 12}]', 'EUR')), 2,
		'a repeated key finds its order');
	$is->(q(ordflow.pay_order(1, 'bank', 'tx no 1', 36), (SELECT count(*) FROM ordflow.refunds
		WHERE state = 'held')), 'mismatch|0', 'a transaction id is known');
	$is->(q(ordflow.release_refund(max(refund_id)) FROM ordflow.refunds WHERE state = 'held'),
		'applied', 'and its refund held');
	$is->(q(ordflow.pay_order(2, 'bank', 'new', 57.53)), 'applied', 'a payment is applied');
	$is->(q(key FROM shop.notes WHERE event = 'pay' ORDER BY note_id DESC LIMIT 1), 2,
		'with its effect');
	$is->(q(ordflow.fire('ordflow.orders', '9', 'release')), 'pending_shipment',
		'the machine order has the event that the shop added');
	becomes($target, q(SELECT event, count(*), (SELECT state FROM ordflow.holds
		WHERE reference = 'cart:overdue') FROM ordflow.order_history
		WHERE actor = 'ordflow coordinator' GROUP BY 1 ORDER BY 1),
		"confirm|1|expired\nexpire|3|expired",
		"$db: the worker does what is overdue: a receipt, three orders, a hold", $db);
	becomes($target, q(SELECT target, key, sqlstate FROM ordflow.parked), 'shop.repairs|4|42704',
		"$db: but the effect of the role that is not there", $db);
	raises($target, q(UPDATE shop.repairs SET status = 'done' WHERE id = 2), 'OF001',
		"$db: the attached table refuses what is not legal", $db);
	raises($target, q(UPDATE shop.repairs SET status = 'open' WHERE id = 2), 'OF009',
		"$db: and what its guard refuses", $db);
	raises($target, q(SELECT ordflow.submit_order('c1', '[{"sku": "rug", "quantity": 1,
		"unit_price": 1}]')), 'OF006', "$db: the purchase limit counts what was bought", $db);
	raises($target, q(SELECT ordflow.submit_order('c3', '[{"sku": "lamp", "quantity": 1,
		"unit_price": 50}]', 'TEN') FROM generate_series(1, 2)), 'OF003',
		"$db: the coupon counts what was used", $db);
	$is->(q(ordflow.release_stock('cart:live'), ordflow.receive_stock('lamp', 1)), 'applied|87',
		'a hold is known, goods come in');
	audits_clean($target, "$db, having sold", $db);
	return;
}

done_testing();

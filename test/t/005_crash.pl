# The server is killed with SIGKILL, postmaster and all, while clients submit and pay: whatever was
# acknowledged is there after the restart, what was not committed is not, nothing needs repair.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use constant CLIENTS => 4;
use constant ORDERS => 5000;	# of one client: more than it gets done
use constant ACKNOWLEDGED => 200;	# before the kill

my $node = server('main', 'fsync = on');
my $dir = PostgreSQL::Test::Utils::tempdir;
answer($node, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock(sku, 1000000)
	FROM unnest(ARRAY['lamp', 'rug', 'vase']) AS sku));

crash($_) for 1 .. 2;
is(answer($node, q(SELECT ordflow.submit_order('last', '[{"sku": "rug", "quantity": 1,
	"unit_price": 1}]') > 0)), 't', 'it goes on selling');
audits_clean($node, 'in the end');

sub crash
{
	my ($round) = @_;
	my @clients = map { client($round, $_) } 1 .. CLIENTS;
	my $open = $node->background_psql('postgres');
	$open->query(qq(BEGIN; SELECT ordflow.submit_order('open', '[{"sku": "vase", "quantity": 1,
		"unit_price": 1}]');));

	$node->poll_query_until('postgres', 'SELECT count(*) >= ' . ACKNOWLEDGED
		. " FROM ordflow.payments WHERE transaction_id LIKE '$round.%'")
	  or die 'the clients do nothing';
	my @pids = split /\n/, answer($node, 'SELECT pid FROM pg_stat_activity');
	$node->kill9;
	kill KILL => @pids;
	for my $client (@clients, $open->{run})
	{
		eval { $client->finish };
	}
	for (my $waited = 0; kill 0 => @pids; $waited++)
	{
		die 'killed processes are still there' if $waited > 6000;
		usleep(10_000);
	}
	$node->start;
	compare($round, map { PostgreSQL::Test::Utils::slurp_file("$dir/$round.$_") } 1 .. CLIENTS);
	return;
}

# A client that submits, pays, then ships or cancels, and notes what was acknowledged.
sub client
{
	my ($round, $number) = @_;
	my $file = "$dir/$round.$number";
	my $script = join '', map { work("$round.$number.$_", $_) } 1 .. ORDERS;
	PostgreSQL::Test::Utils::append_to_file("$file.sql", $script);
	my @psql = ('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'));
	return IPC::Run::start([ @psql, '-f', "$file.sql" ], '>', $file, '2>', "$file.err");
}

sub work
{
	my ($key, $n) = @_;
	my $verb = ("cancel_order(:id)", "ship_order(:id, 'post', 'p')", '')[ $n % 3 ];
	return <<"SQL" . ($verb ? "SELECT :id, ordflow.$verb, 'done';\n" : '');
SELECT ordflow.submit_order('c', '[{"sku": "lamp", "quantity": 1, "unit_price": 5},
	{"sku": "rug", "quantity": 1, "unit_price": 5}]', idempotency_key => '$key') AS id \\gset
SELECT :id, 'submitted', '$key';
SELECT :id, ordflow.pay_order(:id, 'bank', '$key', 10), 'paid';
SQL
}

sub compare
{
	my ($round, @notes) = @_;
	my @acknowledged = map { split /\n/ } @notes;
	cmp_ok(scalar @acknowledged, '>=', ACKNOWLEDGED, "crash $round: clients were at work");

	answer($node, "DROP TABLE IF EXISTS notes;
		CREATE TABLE notes (id bigint, answer text, detail text);
		COPY notes FROM STDIN (DELIMITER '|', NULL 'none');
" . join("\n", @acknowledged, '\\.', ''));
	is( answer(
			$node, q(SELECT n.* FROM notes n LEFT JOIN ordflow.orders o ON o.order_id = n.id
				AND (n.answer <> 'submitted' OR o.idempotency_key = n.detail)
				WHERE o.order_id IS NULL)),
		'', "crash $round: every acknowledged order is there, with its key");
	is( answer(
			$node, q(SELECT n.* FROM notes n LEFT JOIN ordflow.payments p ON p.order_id = n.id
				AND p.result = 'applied' WHERE n.detail = 'paid' AND p.order_id IS NULL)),
		'', "crash $round: every acknowledged payment is there");
	is( answer(
			$node, q(SELECT n.* FROM notes n JOIN ordflow.orders o ON o.order_id = n.id
				WHERE n.answer = 'applied' AND n.detail = 'done'
				AND o.state NOT IN ('cancelled', 'pending_receipt'))),
		'', "crash $round: every acknowledged parcel and cancel is there");
	is(answer($node, "SELECT count(*) FROM ordflow.orders WHERE customer = 'open'"), 0,
		"crash $round: what was not committed is not");
	audits_clean($node, "crash $round");
	return;
}

done_testing();

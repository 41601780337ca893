# Many clients, few units, at every isolation level, with bulk calls, holds, cancels, expiries and
# savepoints: never oversold, no deadlock, and no error but 40001, which pgbench repeats. Those who
# order or hold units of one sku, and do nothing else, get not even that.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;

use constant CLIENTS => 8;
use constant SECONDS => 2;	# of each run

my $node = server('main');
my $dir = PostgreSQL::Test::Utils::tempdir;
answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	SELECT ordflow.receive_stock('only', 1);
	SELECT ordflow.receive_stock('s' || i, 40) FROM generate_series(1, 3) AS i;
	SELECT ordflow.create_coupon('FEW', 'percent', 10, '{"usage_limit": 15, "per_customer": 3}');
	SELECT ordflow.set_purchase_limit('s3', 6);

	CREATE FUNCTION line(sku text, quantity int) RETURNS jsonb LANGUAGE sql AS $$
		SELECT jsonb_build_object('sku', sku, 'quantity', quantity)
	$$;
	CREATE FUNCTION submission(customer text, a text, b text, quantity int, key text)
	RETURNS jsonb LANGUAGE sql AS $$
		SELECT jsonb_build_object('customer', customer, 'idempotency_key', key, 'lines',
			jsonb_build_array(line(a, quantity) || '{"unit_price": "1.05"}',
				line(b, 1) || '{"unit_price": 7}'))
	$$;

	-- one thing that a shop does; what a shop has to expect is caught, in a subtransaction
	CREATE FUNCTION act(what int, customer text, a text, b text, n int, k text) RETURNS void
	LANGUAGE plpgsql AS $$
	DECLARE
		id bigint := (SELECT o.order_id FROM ordflow.orders o WHERE o.state <> 'cancelled'
			ORDER BY md5(o.order_id || k) LIMIT 1);
	BEGIN
		CASE
		WHEN what < 8 THEN PERFORM ordflow.submit_order(customer,
			submission(customer, a, b, n, k)->'lines', CASE WHEN what < 3 THEN 'FEW' END,
			CASE WHEN what > 4 THEN k END, CASE WHEN what = 4 THEN interval '20 ms' END);
		WHEN what < 10 THEN PERFORM ordflow.submit_orders(jsonb_build_array(
			submission(customer, b, a, n, k), submission('guest', a, b, 99, k),
			submission('c0', a, b, n, k)));
		WHEN id IS NULL THEN NULL;
		WHEN what < 12 THEN PERFORM ordflow.pay_order(id, 'bank', id || '.' || n, payable)
			FROM ordflow.orders WHERE order_id = id;
		WHEN what < 13 THEN PERFORM ordflow.ship_order(id, 'post', k);
		WHEN what < 14 THEN PERFORM ordflow.refund_order(id);
		WHEN what < 16 THEN PERFORM ordflow.cancel_order(id);
		WHEN what < 18 THEN PERFORM ordflow.reserve_stock(k,
			jsonb_build_array(line(b, n), line(a, 1)), clock_timestamp() + n * interval '1 second');
		WHEN what < 19 THEN PERFORM ordflow.release_stock(k);
		ELSE PERFORM ordflow.run_due();
		END CASE;
	EXCEPTION WHEN OTHERS THEN
		IF SQLSTATE !~ '^OF00[1-6]$' THEN
			RAISE;
		END IF;
	END $$;

	-- the only unit is in one order at a time, or in none
	CREATE FUNCTION grab(who text) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM ordflow.submit_order(who, '[{"sku": "only", "quantity": 1, "unit_price": 1}]');
	EXCEPTION WHEN SQLSTATE 'OF002' THEN
		NULL;
	END $$;
	-- in a transaction of its own: a sale is not decided by its snapshot
	CREATE FUNCTION look() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF (SELECT count(*) FROM ordflow.orders o JOIN ordflow.order_lines USING (order_id)
			WHERE sku = 'only' AND o.state = 'pending_payment') > 1
		THEN
			RAISE 'the only unit was sold twice';
		END IF;
	END $$;
	CREATE FUNCTION let_go(who text) RETURNS void LANGUAGE sql AS $$
		SELECT ordflow.cancel_order(order_id) FROM ordflow.orders
		WHERE customer = who AND state = 'pending_payment'
	$$;
SQL

my $sets = join '', map { "\\set $_\n" } 'what random(0, 19)', 'c random(0, 9)', 'a random(1, 3)',
  'b random(1, 3)', 'n random(1, 3)', 'k random(1, 60)';
my $act = "SELECT act(:what, 'c' || :c, 's' || :a, 's' || :b, :n, 'k' || :k);\n";
my ($hot, $warm) = map { qq({"sku": "$_", "quantity": 1, "unit_price": 1}) } qw(hot warm);
my %scripts = (
	only => "SELECT grab('client' || :client_id);\nSELECT look();\n"
	  . "SELECT let_go('client' || :client_id);\n",
	plain => $sets . $act,
	order => "SELECT ordflow.submit_order(NULL, '[$hot]');\n",
	order_two => "SELECT ordflow.submit_order('c' || :client_id, '[$warm, $hot]');\n",
	hold => "\\set k random(1, 1000000000000)\n"
	  . qq(SELECT ordflow.reserve_stock('hot ' || :k, '[{"sku": "hot", "quantity": 1}]');\n),
	savepoint => "${sets}BEGIN;\nSAVEPOINT s;\n${act}ROLLBACK TO s;\n$sets${act}COMMIT;\n");
PostgreSQL::Test::Utils::append_to_file("$dir/$_", $scripts{$_}) for keys %scripts;

my @levels = ('read committed', 'repeatable read', 'serializable');
run($_, 'plain') for @levels;
run($_, 'only') for @levels;
is(answer($node, "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"), 0,
	'nobody met in a deadlock');
answer($node, "SELECT ordflow.receive_stock('$_', 1000000)") for qw(hot warm);
for my $level (@levels)
{
	local $ENV{PGOPTIONS} = isolation($level);
	$node->command_like(
		[
			'pgbench', '-n', '-c', CLIENTS, '-j', 2, '-T', SECONDS,
			(map { ('-f', "$dir/$_") } qw(order order_two hold)), 'postgres'
		],
		qr/number of failed transactions: 0 /, "$level, one sku: nobody has to begin again");
	audits_clean($node, "$level, one sku");
}

# Who waits for a subtransaction that was released, and rolled back by an outer savepoint later,
# goes on waiting for the whole transaction: so PostgreSQL may find deadlocks here; pgbench repeats.
run($_, 'plain', 'savepoint') for @levels;

is(answer($node, 'SELECT DISTINCT event FROM ordflow.order_history ORDER BY 1'),
	join("\n", qw(cancel expire pay refund ship submit)), 'orders went every way');

sub isolation
{
	my ($level) = @_;
	return '-c default_transaction_isolation=' . ($level =~ s/ /\\ /gr);
}

sub run
{
	my ($level, @scripts) = @_;
	my $name = "$level, @scripts";
	local $ENV{PGOPTIONS} = isolation($level);
	$node->command_ok(
		[
			'pgbench', '-n', '-c', CLIENTS, '-j', 2, '-T', SECONDS, '--max-tries=0',
			(map { ('-f', "$dir/$_") } @scripts), 'postgres'
		],
		"$name: no error but those that pgbench repeats");
	is( answer(
			$node, 'SELECT * FROM ordflow.stock_levels
				WHERE available < 0 OR reserved < 0 OR available <> on_hand - reserved'),
		'', "$name: no unit is promised twice");
	is( answer(
			$node, q(SELECT l.sku FROM ordflow.order_lines l JOIN ordflow.orders o USING (order_id)
				WHERE o.state <> 'cancelled' AND l.sku ~ '^s' GROUP BY l.sku
				HAVING sum(l.quantity - l.cancelled - l.returned) > 40)),
		'', "$name: no more is sold than came in");
	audits_clean($node, $name);
	return;
}

done_testing();

# The owner writes the tables behind the counters himself, by DML, COPY or TRUNCATE, while sellers
# are in flight: the write waits for them, whoever comes later waits for it, and then sells what
# the rows make, whether the write was committed or rolled back. In one transaction it may follow
# sales, but no sale may follow it.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;

# so that all movements stand in the first segment
my $node = server('main', 'ordflow.workers = off', 'max_prepared_transactions = 5');
answer($node, q(CREATE EXTENSION ordflow;
	SELECT ordflow.receive_stock('lamp', 10), ordflow.receive_stock('rug', 10)));
my ($seller, $writer, $late) = map { session($node) } 1 .. 3;

my $lamp = q((SELECT stock_id FROM ordflow.stock WHERE sku = 'lamp'));
my $columns = '(segment, stock_id, kind, on_hand, reserved, actor, at)';
my $all_columns = '(segment, stock_id, kind, on_hand, reserved, actor, at, movement_id)';
my $id = answer($node, "SELECT $lamp");
my $row = "1,$id,adjusted,3,0,owner,2026-01-01";

# how a table is written, and by how many units it changes what may be sold
my @writes = (
	[ 'UPDATE of a balance',
		q(UPDATE ordflow.stock SET on_hand = on_hand + 7 WHERE sku = 'lamp'), 7 ],
	[ 'UPDATE of all rows', 'UPDATE ordflow.stock SET on_hand = on_hand - 1', -1 ],
	[ 'MERGE', q(MERGE INTO ordflow.stock s USING (VALUES ('lamp')) AS v (sku) ON s.sku = v.sku
		WHEN MATCHED THEN UPDATE SET on_hand = on_hand + 1), 1 ],
	[ 'INSERT into the ledger', "INSERT INTO ordflow.stock_movements $columns
		VALUES (1, $lamp, 'adjusted', 5, 0, 'owner', now())", 5 ],
	[ 'INSERT into a partition', "INSERT INTO ordflow.stock_movements_1 $all_columns
		VALUES (1, $lamp, 'adjusted', -5, 0, 'owner', now(), 1000)", -5 ],
	[ 'COPY', "COPY ordflow.stock_movements $columns FROM PROGRAM 'echo $row' (FORMAT csv)", 3 ],
	[ 'COPY into a partition',
		"COPY ordflow.stock_movements_1 $all_columns FROM PROGRAM 'echo $row,1001'
		(FORMAT csv)", 3 ],
	[ 'UPDATE of the ledger', "UPDATE ordflow.stock_movements SET on_hand = on_hand - 1
		WHERE stock_id = $lamp AND kind = 'adjusted' AND on_hand = 3", -2 ],
	[ 'DELETE from the ledger',
		"DELETE FROM ordflow.stock_movements WHERE stock_id = $lamp AND kind = 'adjusted'", -4 ],
	[ 'a segment that counts as folded, which is taken back',
		'INSERT INTO ordflow.stock_segments (segment, opened_at, folded_at)
		VALUES (1, now(), now())' ]);

my $units = 10;
for my $write (@writes)
{
	my ($name, $sql, $change) = @$write;
	for my $end ('ROLLBACK', defined $change ? 'COMMIT' : ())
	{
		in_flight("$name, $end", $sql, $end, hold('seller', 'lamp'), hold('late', 'lamp'));
		$units += $change if $end eq 'COMMIT';
		answer($node, q(SELECT ordflow.release_stock('seller'))) if $end eq 'COMMIT';
		exactly($node, 'lamp', $units, "$name, $end");
		all_right($node, "$name, $end");
	}
}

# the uses of a coupon: two of four are gone
answer($node, q(SELECT ordflow.create_coupon('FOUR', 'fixed', 1, '{"usage_limit": 4}')));
act($seller, use_coupon()) for 1 .. 2;
my $used = "SELECT * FROM ordflow.coupon_redemptions ORDER BY redemption_id";
my $rows = answer($node, $used);
my @coupon_writes = (
	[ 'DELETE of redemptions', 'DELETE FROM ordflow.coupon_redemptions', 4 ],
	[ 'COPY of redemptions', "COPY ordflow.coupon_redemptions FROM PROGRAM 'echo \"$rows\"'
		(DELIMITER '|', NULL '')", 2 ],
	[ 'UPDATE of redemptions', q(UPDATE ordflow.coupon_redemptions SET state = 'returned'), 4 ],
	[ 'and back', q(UPDATE ordflow.coupon_redemptions SET state = 'locked'), 2 ],
	[ 'UPDATE of a coupon', q(UPDATE ordflow.coupons SET usage_limit = 3), 1 ]);
my $uses = 2;
for my $write (@coupon_writes)
{
	my ($name, $sql, $left) = @$write;
	for my $end (qw(ROLLBACK COMMIT))
	{
		# the one in flight gives his use back in both cases: he has written before the writer
		in_flight("$name, $end", $sql, $end, use_coupon(), use_coupon(), 'ROLLBACK');
		$uses = $left if $end eq 'COMMIT';
		is(count_uses(), $uses, "$name, $end: so often it can be used, and no more");
	}
}
all_right($node, 'the coupon');

# ---- all at once: sellers at each level, the owner, and the fold ----
my $dir = PostgreSQL::Test::Utils::tempdir;
my %scripts = (
	write => "UPDATE ordflow.stock SET on_hand = on_hand + 3 WHERE sku = 'lamp';\n"
	  . "UPDATE ordflow.stock SET on_hand = on_hand - 3 WHERE sku = 'lamp';\n",
	fold => "SELECT ordflow.fold_stock();\n");
for my $level ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
	$scripts{ lc substr($level, 0, 4) } =
	  "\\set n random(1, 4)\nBEGIN ISOLATION LEVEL $level;\nSELECT work(:n);\nCOMMIT;\n";
}
my %weights = (write => 1, fold => 1);
PostgreSQL::Test::Utils::append_to_file("$dir/$_", $scripts{$_}) for keys %scripts;
answer($node, <<'SQL');
	CREATE FUNCTION work(n int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		reference text := clock_timestamp()::text || random();
		lines jsonb := jsonb_build_array(jsonb_build_object('sku', 'lamp', 'quantity', n),
			jsonb_build_object('sku', 'rug', 'quantity', 1));
	BEGIN
		PERFORM ordflow.reserve_stock(reference, lines);
		IF n = 1 THEN
			RAISE SQLSTATE 'SH001';
		ELSIF n < 4 THEN
			PERFORM ordflow.release_stock(reference);
		ELSE
			PERFORM ordflow.commit_stock(reference);
			PERFORM ordflow.receive_stock('lamp', n), ordflow.receive_stock('rug', 1);
		END IF;
	EXCEPTION WHEN SQLSTATE 'SH001' OR SQLSTATE 'OF002' THEN
		NULL;
	END $$;
SQL
$node->command_ok(
	[
		'pgbench', '-n', '-c', 8, '-j', 2, '-T', 4, '--max-tries=0',
		(map { ('-f', "$dir/$_\@" . ($weights{$_} // 7)) } sort keys %scripts), 'postgres'
	],
	'sellers, the owner and the fold at once');
cmp_ok(answer($node, q(SELECT count(*) FROM ordflow.holds WHERE state = 'committed')), '>', 20,
	'all had a turn');
cmp_ok(answer($node, 'SELECT max(segment) FROM ordflow.stock_segments WHERE folded_at IS NOT NULL'),
	'>', 1, 'segments were folded');
exactly($node, 'lamp', $units, 'at once');
all_right($node, 'at once');

sub use_coupon
{
	return <<'SQL';
		SELECT ordflow.submit_order('ann', '[{"sku": "lesson", "stock": false, "quantity": 1,
			"unit_price": 5}]', 'FOUR') > 0
SQL
}

# How many of ten orders can use it now; none of them stays.
sub count_uses
{
	return answer($node, <<'SQL');
		BEGIN;
		SELECT count(*) FROM ordflow.submit_orders((SELECT jsonb_agg('{"customer": "bob",
			"coupon": "FOUR", "lines": [{"sku": "lesson", "stock": false, "quantity": 1,
			"unit_price": 5}]}'::jsonb) FROM generate_series(1, 10))) WHERE result = 'ok';
		ROLLBACK;
SQL
}

# A seller in flight, then the write, then a seller who comes late; each waits for the one before.
sub in_flight
{
	my ($name, $sql, $end, $sale, $late_sale, $seller_end) = @_;
	act($seller, 'BEGIN');
	like(act($seller, $sale), qr/^[1t]$/, "$name: a seller is in flight");
	act($writer, 'BEGIN');
	start($writer, $sql);
	waits($node, $writer, "$name, the writer");
	act($late, 'BEGIN');
	start($late, $late_sale);
	waits($node, $late, "$name, a late seller");
	is(act($seller, $seller_end // $end), '', "$name: the seller ends");
	is(result($writer), '', "$name: then it is written");
	waits($node, $late, "$name, the late seller still");
	is(act($writer, $end), '', "$name: the writer ends");
	like(result($late), qr/^[1t]$/, "$name: the late one sells");
	act($late, 'ROLLBACK');
	return;
}

done_testing();

# What passes by the gate, because somebody has disabled its trigger: audit() tells both the
# trigger and the counters that are wrong since, and when the trigger is back any direct write
# mends them. And what the view reservations tells of transactions that are open.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use Sessions;
use Test::More;

my $node = server('main', 'ordflow.workers = off');
answer($node, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock(sku, 10)
	FROM unnest('{lamp,rug,vase}'::text[]) AS sku;
	SELECT ordflow.create_coupon('TEN', 'percent', 10, '{"usage_limit": 10}');
	SELECT ordflow.submit_order('ann', '[{"sku": "x", "stock": false, "quantity": 1,
		"unit_price": 1}]', 'TEN')));
my $findings = "SELECT check_name, object FROM ordflow.audit() ORDER BY 1, 2";

# ---- a trigger that does not fire ----
my $raise = q(UPDATE ordflow.stock SET on_hand = on_hand + 5 WHERE sku = 'lamp');
my $lamp = answer($node, q(SELECT stock_id FROM ordflow.stock WHERE sku = 'lamp'));
for my $off ('DISABLE TRIGGER', 'ENABLE REPLICA TRIGGER')
{
	exactly($node, 'lamp', answer($node, q(SELECT available FROM ordflow.stock_levels
		WHERE sku = 'lamp')), "$off: the counter is loaded");
	set_triggers('stock', $off);
	like(answer($node, $findings), qr/^disabled_trigger\|counter_gate on ordflow.stock$/m,
		"$off: audit tells");
	answer($node, $raise);
	like(answer($node, $findings), qr/^stock_counter\|stock $lamp$/m,
		'and the counter that is wrong');
	set_triggers('stock', 'ENABLE ALWAYS TRIGGER');
	is(answer($node, $findings), "stock_counter|stock $lamp",
		'which the trigger alone does not mend');
	answer($node, 'UPDATE ordflow.stock SET sku = sku WHERE false');
	is(answer($node, $findings), '', 'a direct write does, be it of no row');
}
exactly($node, 'lamp', 20, 'mended');

# a restore and logical replication pass by a trigger that is no more than enabled
set_triggers('stock', 'ENABLE TRIGGER');
my $sick = q(SELECT fix FROM ordflow.doctor() WHERE object ~ '^counter_gate.* on ordflow.stock$');
isnt(my $fix = answer($node, $sick), '', 'ENABLE alone is not enough');
answer($node, $fix);
is(answer($node, $sick), '', 'the doctor knows what is');
answer($node, "SET session_replication_role = replica; $raise");
exactly($node, 'lamp', 25, 'replicated');

# the other tables
for my $other (
	[ 'stock_movements', "UPDATE ordflow.stock_movements SET on_hand = 11 WHERE stock_id = $lamp",
		'stock_counter' ],
	[ 'stock_movements_1', 'TRUNCATE ordflow.stock_movements_1', 'stock_counter' ],
	[ 'coupon_redemptions', q(UPDATE ordflow.coupon_redemptions SET state = 'returned'),
		'coupon_counter' ],
	[ 'coupons', 'UPDATE ordflow.coupons SET usage_limit = 5', 'coupon_counter' ])
{
	my ($table, $write, $check) = @$other;
	# the counters are loaded
	answer($node, 'BEGIN; ' . hold('load', 'lamp') . q(; SELECT ordflow.submit_order('bob',
		'[{"sku": "x", "stock": false, "quantity": 1, "unit_price": 1}]', 'TEN'); ROLLBACK));
	set_triggers($table, 'DISABLE TRIGGER');
	like(answer($node, $findings), qr/^disabled_trigger\|counter_gate on ordflow.$table$/m,
		"$table: audit tells of the trigger");
	answer($node, $write);
	like(answer($node, $findings), qr/^$check\|/m, "$table: and of the counter");
	set_triggers($table, 'ENABLE ALWAYS TRIGGER');
	answer($node, q(UPDATE ordflow.stock SET sku = sku WHERE sku = 'rug'));
	unlike(answer($node, $findings), qr/counter|trigger/, "$table: mended");
}
exactly($node, 'lamp', 15, 'what the balance has');

# ---- reservations: who has what in transactions that are open ----
answer($node, q(TRUNCATE ordflow.stock_movements; UPDATE ordflow.stock SET on_hand = 10));
my ($one, $other) = map { session($node) } 1 .. 2;
my $held = q(SELECT sku, quantity, pid, reference, order_id, expires_at, since <= clock_timestamp()
	FROM ordflow.reservations ORDER BY sku, quantity, pid);
is(answer($node, $held), '', 'nobody holds anything');
act($one, 'BEGIN; ' . hold('cart', 'lamp', 2));
act($one, submission('rug', 1));
act($other, 'BEGIN; ' . hold('other', 'lamp', 3));
my $lamp_and_rug = "lamp|2|$one->{pid}||||t\nlamp|3|$other->{pid}||||t\nrug|1|$one->{pid}||||t";
is(answer($node, $held), $lamp_and_rug, 'each open transaction is listed with its process');
is(answer($node, q(SELECT available, ordflow.available_stock('lamp') FROM ordflow.stock_levels
	WHERE sku = 'lamp')), '10|5',
	'a snapshot shows what is committed, available_stock() what is left');
is(act($one, q(SELECT available, ordflow.available_stock('lamp') FROM ordflow.stock_levels
	WHERE sku = 'lamp')), '8|5', 'to himself too, with his own');
act($one, 'SAVEPOINT s; ' . hold('more', 'lamp', 4));
is(answer($node, q(SELECT quantity FROM ordflow.reservations WHERE sku = 'lamp'
	AND pid = ) . $one->{pid}), 6, 'more of it adds up');
is( answer(
		$node, q(SELECT detail->0->'available', detail->0->'in_flight' FROM ordflow.submit_orders(
			'[{"lines": [{"sku": "lamp", "quantity": 2, "unit_price": 1}]}]'))),
	'1|9', 'who is refused is told how many units that are');
act($one, 'ROLLBACK TO s');
is(answer($node, $held), $lamp_and_rug, 'a savepoint gives back');
# what comes in, and what is sold of that, nobody else could have
act($other, q(SELECT ordflow.receive_stock('vase', 5)));
act($other, hold('own', 'vase', 4));
is(answer($node, $held), $lamp_and_rug, 'what is sold of own receipts is not listed');
act($other, hold('beyond', 'vase', 3));
is(answer($node, "SELECT quantity FROM ordflow.reservations WHERE pid = $other->{pid}
	AND sku = 'vase'"), 2, 'what goes beyond is');
is(answer($node, q(SELECT ordflow.available_stock('vase'))), 8, 'and is gone for others');
act($other, 'ROLLBACK');
is(act($one, 'COMMIT'), '', 'committed');
is(answer($node, q(SELECT sku, quantity, pid, reference ~ '^order:|^cart$', order_id IS NULL
	FROM ordflow.reservations ORDER BY sku)), "lamp|2||t|t\nrug|1||t|f",
	'then the rows tell, and no process');
exactly($node, $_->[0], $_->[1], 'in the end') for [ 'lamp', 8 ], [ 'rug', 9 ], [ 'vase', 10 ];
$_->quit for $one, $other;

# What is done to all triggers of the gate on a table.
sub set_triggers
{
	my ($table, $what) = @_;
	my @triggers = split /\n/, answer($node, "SELECT tgname FROM pg_trigger
		WHERE tgrelid = 'ordflow.$table'::regclass AND tgname ~ '^counter_gate'");
	answer($node, join ';', map { "ALTER TABLE ordflow.$table $what $_" } @triggers);
	return;
}

done_testing();

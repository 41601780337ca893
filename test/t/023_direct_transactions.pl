# Direct writes as parts of transactions: TRUNCATE, writes that come after sales or before them,
# savepoints, two writers, PREPARE TRANSACTION, and a deadlock. Afterwards the counters are right.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use Sessions;
use Test::More;

my $node = server('main', 'ordflow.workers = off', 'max_prepared_transactions = 5');
answer($node, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock(sku, 10)
	FROM unnest('{lamp,rug,vase}'::text[]) AS sku;
	SELECT ordflow.create_coupon('TEN', 'percent', 10, '{"usage_limit": 10}')));
my ($one, $other, $third) = map { session($node) } 1 .. 3;
my $more = 'UPDATE ordflow.stock SET on_hand = on_hand + 5';

# written, and then sold
answer($node, hold('cart', 'lamp', 3));
my @uses = (
	submission('rug'), hold('new', 'rug'), q(SELECT ordflow.receive_stock('rug', 1)),
	q(SELECT ordflow.adjust_stock('rug', -1, 'torn')),
	q(SELECT ordflow.adjust_stock('rug', 1, 'found')),
	q(SELECT ordflow.set_stock('rug', 20, 'counted')), q(SELECT ordflow.release_stock('cart')),
	q(SELECT ordflow.commit_stock('cart')), q(SELECT ordflow.submit_order('ann',
		'[{"sku": "x", "stock": false, "quantity": 1, "unit_price": 1}]', 'TEN')));
is(act($one, "BEGIN; $more; $_; COMMIT"), '55000', "after a direct write: $_ is refused") for @uses;
act($one, 'ROLLBACK');
is( act($one, 'BEGIN; UPDATE ordflow.coupon_redemptions SET at = now(); '
		. 'TRUNCATE ordflow.stock_segments; ' . submission('rug')),
	'55000', 'also after another table');
act($one, 'ROLLBACK');
exactly($node, 'lamp', 7, 'nothing was written');
is(act($one, "BEGIN; $more; " . q(SELECT available FROM ordflow.stock_levels WHERE sku = 'lamp')),
	12, 'what was written can be read');
is(act($one, q(SELECT ordflow.available_stock('lamp'))), 12, 'and is available, to him');
is(answer($node, q(SELECT ordflow.available_stock('lamp'))), 7, 'and to nobody else');
is(act($one, 'ROLLBACK'), '', 'rolled back');
exactly($node, 'lamp', 7, 'rolled back');
all_right($node, 'rolled back');

# a savepoint takes the write back
is(act($one, "BEGIN; SAVEPOINT s; $more; ROLLBACK TO s; " . hold('after', 'lamp', 7)), 7,
	'after a savepoint that is rolled back it sells what is there');
is(act($other, hold('beside', 'rug')), 1, 'and keeps nobody waiting');
is(act($one, 'COMMIT'), '', 'committed');
exactly($node, 'lamp', 0, 'all sold');
is(act($one, "BEGIN; SAVEPOINT s; $more; RELEASE s; " . hold('no', 'lamp')), '55000',
	'a savepoint that is released takes nothing back');
act($one, 'ROLLBACK');
is(act($one, "BEGIN; SAVEPOINT a; SAVEPOINT b; $more; RELEASE b; ROLLBACK TO a;"
		. q(SELECT ordflow.release_stock('after'))), 'applied',
	'nor does an inner one, but an outer one');
act($one, 'COMMIT');
exactly($node, 'lamp', 7, 'released');

# sold, and then written
is(act($one, 'BEGIN; ' . hold('mixed', 'lamp', 2) . "; $more; COMMIT"), 2, 'sold and then written');
exactly($node, 'lamp', 10, 'sold and then written');
is(act($one, 'BEGIN; ' . hold('never', 'lamp', 2) . "; $more; ROLLBACK"), 2, 'rolled back');
exactly($node, 'lamp', 10, 'sold, then written, then rolled back');
is( act($one, 'BEGIN; ' . hold('kept', 'lamp', 2) . "; SAVEPOINT s; $more; ROLLBACK TO s; COMMIT"),
	2, 'sold, then written in a savepoint that is rolled back');
exactly($node, 'lamp', 8, 'sold, the write rolled back');
all_right($node, 'sold and written');

# two writers: the second waits for the first, whatever the rows
act($one, q(BEGIN; UPDATE ordflow.stock SET on_hand = on_hand + 1 WHERE sku = 'lamp'));
act($other, 'BEGIN');
start($other, q(UPDATE ordflow.stock SET on_hand = on_hand + 1 WHERE sku = 'rug'));
waits($node, $other, 'a second writer');
act($one, 'COMMIT');
is(result($other), '', 'and then writes');
start($third, hold('third', 'lamp', 9));
waits($node, $third, 'a seller');
act($other, 'COMMIT');
is(result($third), 9, 'and then sells');
exactly($node, 'lamp', 0, 'two writers');

# two who have sold, and then write: one of them is told to begin again
answer($node, q(SELECT ordflow.receive_stock('lamp', 10)));
act($one, 'BEGIN; ' . hold('deadlock 1', 'lamp'));
act($other, 'BEGIN; ' . hold('deadlock 2', 'lamp'));
start($one, $more);
start($other, $more);
my @ends = sort map { result($_) } $one, $other;
is("@ends", ' 40P01', 'of two who sell and then write one has to begin again');
act($_, 'COMMIT') for $one, $other;
is(answer($node, q(SELECT count(*) FROM ordflow.holds WHERE reference ~ 'deadlock')), 1,
	'the other has done both');
exactly($node, 'lamp', 14, 'after the deadlock');
all_right($node, 'after the deadlock');

# PREPARE TRANSACTION
my $prepare = q(PREPARE TRANSACTION 'p');
raises($node, "BEGIN; $_; $prepare", '0A000', "$_ cannot be prepared") for
  $more, 'INSERT INTO ordflow.stock (sku) VALUES (\'new\')', 'TRUNCATE ordflow.stock_segments',
  'TRUNCATE ordflow.stock_movements', q(DELETE FROM ordflow.stock_movements),
  q(SELECT ordflow.release_stock('cart')), q(SELECT ordflow.commit_stock('cart')),
  q(SELECT ordflow.adjust_stock('rug', -1, 'torn')), q(SELECT ordflow.receive_stock('rug', 1)),
  q(SELECT ordflow.set_stock('rug', 1, 'counted')), hold('p', 'rug'), submission('rug'),
  q(SELECT ordflow.submit_order('ann',
	'[{"sku": "x", "stock": false, "quantity": 1, "unit_price": 1}]', 'TEN'));
raises($node, "BEGIN; SAVEPOINT s; $more; ROLLBACK TO s; $prepare", '',
	'what a savepoint took back can be prepared');
answer($node, q(ROLLBACK PREPARED 'p'));
exactly($node, 'lamp', 14, 'after the prepared ones');
all_right($node, 'after the prepared ones');

# TRUNCATE: rolled back, and not
my $truncate = 'TRUNCATE ordflow.stock_movements, ordflow.holds, ordflow.hold_lines';
for my $end (qw(ROLLBACK COMMIT))
{
	my $left = $end eq 'ROLLBACK' ? 14 : 11;
	act($other, 'BEGIN; ' . hold("in flight $end", 'lamp'));
	act($one, 'BEGIN');
	start($one, $truncate);
	waits($node, $one, "TRUNCATE, $end");
	act($other, 'ROLLBACK');
	is(result($one), '', "TRUNCATE, $end: done");
	start($third, hold("late $end", 'lamp', $left));
	waits($node, $third, "TRUNCATE, $end: a seller");
	act($one, $end);
	is(result($third), $left, "TRUNCATE, $end: he gets what is there");
	act($third, "SELECT ordflow.release_stock('late $end')");
	exactly($node, 'lamp', $left, "TRUNCATE, $end");
	all_right($node, "TRUNCATE, $end");
}
act($one, 'TRUNCATE ordflow.stock');
is(act($other, hold('gone', 'lamp')), 'OF004', 'without its row a sku is unknown');
answer($node, 'TRUNCATE ordflow.stock_movements, ordflow.holds, ordflow.hold_lines RESTART IDENTITY;
	TRUNCATE ordflow.stock RESTART IDENTITY');
is(act($other, q(SELECT ordflow.receive_stock('sofa', 2))), 2, 'ids begin at 1 again');
exactly($node, 'sofa', 2, 'the counter of the lamp is not that of the sofa');
all_right($node, 'in the end');

done_testing();

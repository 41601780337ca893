# The order tables of mall, litemall and yudao, and their own cancel and pay statements, in two
# sessions: once as they are, where the shop loses the race, and once with a machine attached.
#
# The second session has read the order before; its statements wait for the first one's commit.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;

use constant ORDERS => 60;

my $node = server('main', 'ordflow.workers = off');
for my $db ('bare', 'attached')
{
	answer($node, "CREATE DATABASE $db");
	my @scripts = ('shops_tables', $db eq 'bare' ? () : 'shops_machines');
	answer($node, slurp_file("$FindBin::Bin/lib/$_.sql"), $db) for @scripts;
	answer($node, 'CALL submit(1, ' . ORDERS . ')', $db);
}

# ---- what the shops say ----

my %mall = (
	pay => sub { <<"SQL" },
		UPDATE mall.oms_order SET status = 1, pay_type = 1, payment_time = localtimestamp
		WHERE id = $_[0] AND delete_status = 0 AND status = 0;
		UPDATE mall.pms_sku_stock SET stock = stock - 2, lock_stock = lock_stock - 2
		WHERE id = $_[0] AND stock >= 2 AND lock_stock >= 2;
SQL
	# the whole row that was read is written back by its key
	cancel => sub { <<"SQL" },
		UPDATE mall.oms_order SET member_id = 1, pay_type = 0, status = 4, confirm_status = 0,
			delete_status = 0, modify_time = localtimestamp WHERE id = $_[0];
		UPDATE mall.pms_sku_stock SET lock_stock = lock_stock - 2 WHERE id = $_[0];
SQL
	cancel_overdue => sub { <<"SQL" },
		UPDATE mall.oms_order SET status = 4 WHERE id IN ($_[0], $_[0] + 1);
		UPDATE mall.pms_sku_stock SET lock_stock = lock_stock - 2 WHERE id IN ($_[0], $_[0] + 1);
SQL
	ship => sub { <<"SQL" },
		UPDATE mall.oms_order SET delivery_sn = CASE id WHEN $_[0] THEN 'sf1' END,
			delivery_company = 'sf', delivery_time = localtimestamp, status = 2
		WHERE id IN ($_[0]) AND status = 1;
SQL
	close => sub { <<"SQL" },
		UPDATE mall.oms_order SET status = 4 WHERE delete_status = 0 AND id IN ($_[0]);
SQL
	look => sub { "SELECT o.status, s.stock, s.lock_stock FROM mall.oms_order o
		JOIN mall.pms_sku_stock s USING (id) WHERE id = $_[0]" });

# The version is the time of the last change, to the second: all this happens within one.
my $read = q('2026-01-01 12:00:00');
my %litemall = (
	pay => sub { <<"SQL" },
		UPDATE litemall.litemall_order SET order_status = 201, pay_id = 'wx$_[0]',
			pay_time = $read, update_time = $read WHERE id = $_[0] AND update_time = $read;
SQL
	cancel => sub { <<"SQL" },
		UPDATE litemall.litemall_order SET order_status = 102, end_time = $read,
			update_time = $read WHERE id = $_[0] AND update_time = $read AND NOT deleted;
		UPDATE litemall.litemall_goods_product SET number = number + 2 WHERE id = $_[0];
SQL
	look => sub { "SELECT o.order_status, p.number FROM litemall.litemall_order o
		JOIN litemall.litemall_goods_product p USING (id) WHERE id = $_[0]" });

my %yudao = (
	pay => sub { <<"SQL" },
		UPDATE yudao.trade_order SET status = 10, pay_status = true, pay_time = localtimestamp
		WHERE id = $_[0] AND status = 0;
SQL
	cancel => sub { <<"SQL" },
		WITH o AS (UPDATE yudao.trade_order SET status = 40, cancel_type = 30,
			cancel_time = localtimestamp WHERE id = $_[0] AND status = 0 RETURNING id)
		UPDATE yudao.product_sku AS s SET stock = stock + 2 FROM o WHERE s.id = o.id;
SQL
	refund_part => sub { "UPDATE yudao.trade_order SET refund_status = 10, refund_price = 400
		WHERE id = $_[0];" },
	refund_all => sub { "UPDATE yudao.trade_order SET refund_status = 20, refund_price = 1000
		WHERE id = $_[0];" },
	look => sub { "SELECT o.status, o.pay_status, o.refund_status, s.stock
		FROM yudao.trade_order o JOIN yudao.product_sku s USING (id) WHERE id = $_[0]" });

# ---- two sessions ----

my %first = map { $_ => session($node, $_) } 'bare', 'attached';
my %second = map { $_ => session($node, $_) } 'bare', 'attached';
my $last = 0;

# race(name, shop, first's statement, second's, expected): for bare and attached each the second's
# SQLSTATE or '', and the order and its stock in the end.
sub race
{
	my ($name, $shop, $mine, $other, %expected) = @_;
	my $level = delete $expected{level} // 'READ COMMITTED';
	$last += 2;
	for my $db ('bare', 'attached')
	{
		my ($state, $end) = @{ $expected{$db} };
		act($first{$db}, "BEGIN ISOLATION LEVEL $level; " . $shop->{$mine}->($last));
		act($second{$db}, "BEGIN ISOLATION LEVEL $level; " . $shop->{look}->($last));
		start($second{$db}, $shop->{$other}->($last));
		waits($node, $second{$db}, "$db: $name");
		is(act($first{$db}, 'COMMIT'), '', "$db: $name: $mine commits");
		is(result($second{$db}), $state, "$db: $name: what $other gets");
		act($second{$db}, 'COMMIT');
		is(answer($node, $shop->{look}->($last), $db), $end, "$db: $name: in the end");
	}
	return;
}

sub history
{
	my ($table, $key) = @_;
	return answer($node, "SELECT string_agg(concat_ws(' ', event, to_state), ', '
		ORDER BY history_id) FROM ordflow.object_history
		WHERE target = '$table' AND key = '$key'", 'attached');
}

# mall: an update by key overrides the payment, and unlocks units that are locked no longer
race('mall, cancel after pay', \%mall, 'pay', 'cancel',
	bare => [ '', '4|8|-2' ], attached => [ 'OF001', '1|8|0' ]);
is(history('mall.oms_order', $last), 'insert 0, pay 1', 'mall: its history is that of a sale');
race('mall, overdue batch after pay', \%mall, 'pay', 'cancel_overdue',
	bare => [ '', '4|8|-2' ], attached => [ 'OF001', '1|8|0' ]);
is(answer($node, $mall{look}->($last + 1), 'attached'), '0|10|2',
	'mall: of the batch that met the payment nothing is done, it is read again');
race('mall, close after cancel', \%mall, 'cancel', 'close',
	bare => [ '', '4|10|0' ], attached => [ '', '4|10|0' ]);
is(history('mall.oms_order', $last), 'insert 0, cancel 4', 'mall: a state set again is no step');
race('mall, cancel after pay, repeatable read', \%mall, 'pay', 'cancel', level => 'REPEATABLE READ',
	bare => [ '40001', '1|8|0' ], attached => [ '40001', '1|8|0' ]);

# its payment finds no row in state 0 and says "success" all the same; fire() does not
race('mall, pay after cancel', \%mall, 'cancel', 'pay',
	bare => [ '', '4|10|0' ], attached => [ '', '4|10|0' ]);
raises($node, "SELECT ordflow.fire('mall.oms_order', '$last', 'pay')", 'OF001',
	'attached: a payment by fire() hears that it is late', 'attached');

# its admin closes what has been paid and shipped, and gives nothing back
for my $db ('bare', 'attached')
{
	answer($node, $mall{pay}->(1) . $mall{ship}->(1), $db);
	is(sqlstate($node, $mall{close}->(1), $db), $db eq 'bare' ? '' : 'OF001',
		"$db: mall, close of a shipped order");
}

# litemall: within one second the version does not tell the two apart
race('litemall, cancel after pay', \%litemall, 'pay', 'cancel',
	bare => [ '', '102|10' ], attached => [ 'OF001', '201|8' ]);
race('litemall, pay after cancel', \%litemall, 'cancel', 'pay',
	bare => [ '', '201|10' ], attached => [ 'OF001', '102|10' ]);
is(history('litemall.litemall_order', $last), 'insert 101, cancel 102',
	'litemall: the cancelled order does not come back to life');

# yudao: compare-and-set loses none; but what it writes by key alone
race('yudao, cancel after pay', \%yudao, 'pay', 'cancel',
	bare => [ '', '10|t|0|8' ], attached => [ '', '10|t|0|8' ]);
race('yudao, pay after cancel', \%yudao, 'cancel', 'pay',
	bare => [ '', '40|f|0|10' ], attached => [ '', '40|f|0|10' ]);
raises($node, "SELECT ordflow.fire('yudao.trade_order', '$last', 'pay')", 'OF001',
	'yudao: a payment by fire() hears that it is late', 'attached');
race('yudao, part refund after full one', \%yudao, 'refund_all', 'refund_part',
	bare => [ '', '0|f|10|8' ], attached => [ 'OF001', '0|f|20|8' ]);
is(history('yudao.trade_order', $last), 'insert 0, insert 0, refund all 20',
	'yudao: two machines, one history');

# ---- deadlines ----

# A payment that is under way when the deadline passes stands; and what has expired stays so.
my ($paid, $late) = ($last + 2, $last + 3);
my %table = (
	'mall.oms_order' => [ \%mall, '1|8|0', '4|10|0' ],
	'litemall.litemall_order' => [ \%litemall, '201|8', '103|10' ],
	'yudao.trade_order' => [ \%yudao, '10|t|0|8', '40|f|0|10' ]);
my $pays = $first{attached};
act($pays, 'BEGIN');
for my $table (sort keys %table)
{
	my $shop = $table{$table}[0];
	is(answer($node, "SELECT bool_and(due_at > now()) FROM $table WHERE id = $late", 'attached'),
		't', "$table: the deadline is set by the machine");
	answer($node, "UPDATE $table SET due_at = now() WHERE id IN ($paid, $late)", 'attached');
	is(act($pays, $shop->{pay}->($paid)), '', "$table: a payment is under way");
}
is(answer($node, 'SELECT ordflow.run_due()', 'attached'), 3, 'run_due fires what nobody holds');
is(act($pays, 'COMMIT'), '', 'the payments commit after the deadline');
is(answer($node, 'SELECT ordflow.run_due()', 'attached'), 0, 'then there is nothing left to fire');
for my $table (sort keys %table)
{
	my ($shop, @expected) = @{ $table{$table} };
	is(answer($node, $shop->{look}->($paid), 'attached'), $expected[0], "$table: paid in time");
	is(answer($node, $shop->{look}->($late), 'attached'), $expected[1],
		"$table: expired, its units are back, once");
	is(history($table, $late) =~ s/^(?:insert \d+, )+//r,
		'expire ' . $expected[1] =~ s/\|.*//r, "$table: by the event of the timeout");
}
is(answer($node, 'SELECT cancel_type FROM yudao.trade_order WHERE id = ' . $late, 'attached'), 10,
	'yudao: the effect has filled in what its job fills in');

# litemall's payment notice reads the order afterwards, finds 103, takes it for unpaid
is(answer($node, $litemall{pay}->($late) . $litemall{look}->($late), 'bare'), '201|8',
	'bare: litemall, any state that it does not know is paid');
raises($node, $litemall{pay}->($late), 'OF001', 'attached: litemall, a late payment is refused',
	'attached');
is(answer($node, $litemall{look}->($late), 'attached'), '103|10', 'litemall: and nothing is sold');

# ---- every legal step, and what is illegal by the shops' own codes ----

my $next = $late + 1;
for my $walk (
	[ 'mall.oms_order', 'status', 0, 1, 2, 3 ],
	[ 'litemall.litemall_order', 'order_status', 101, 201, 202, 203 ],
	[ 'yudao.trade_order', 'status', 0, 10, 20, 30, 40 ])
{
	my ($table, $column, $from, @way) = @$walk;
	for my $to (@way)
	{
		raises($node, "UPDATE $table SET $column = 77 WHERE id = $next", 'OF001',
			"$table: no code 77 from $from", 'attached');
		is(sqlstate($node, "UPDATE $table SET $column = $to WHERE id = $next", 'attached'), '',
			"$table: from $from to $to");
		raises($node, "UPDATE $table SET $column = $from WHERE id = $next", 'OF001',
			"$table: not back to $from", 'attached');
		$from = $to;
	}
	is(answer($node, "SELECT count(*) FROM ordflow.available_events('$table', '$next')
		WHERE event !~ '^refund (?:part|all)'", 'attached'), 0, "$table: the end");
}

for my $report ([ 'mall.oms_order', 'mall', 'status' ],
	[ 'litemall.litemall_order', 'litemall', 'order_status' ],
	[ 'yudao.trade_order', 'yudao', 'status' ])
{
	is(answer($node, sprintf(q(SELECT * FROM ordflow.attach_report('%s', '%s', '%s')), @$report),
		'attached'), '', "$report->[0]: no row is illegal");
	answer($node, "SELECT ordflow.detach('$report->[0]')", 'attached');
}
is(sqlstate($node, 'UPDATE mall.oms_order SET status = 77 WHERE id = 1', 'attached'), '',
	'detached: the table is as it was');
$_->quit for values %first, values %second;
done_testing();

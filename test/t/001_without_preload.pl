# A server that does not preload ordflow: the extension can be created and restored, what needs no
# counter works, all else raises OF008 with the line that doctor() gives; that line is the cure.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = server('bare', "shared_preload_libraries = 'auto_explain'", 'fsync = on');
is(sqlstate($node, 'CREATE EXTENSION ordflow'), '', 'the extension can be created');

my $lines = q('[{"sku": "A", "quantity": 1, "unit_price": 1}]');
my @need_preload = (
	"receive_stock('A', 1)", "adjust_stock('A', 1, 'found')", "set_stock('A', 1, 'stocktaking')",
	"available_stock('A')", qq(reserve_stock('r', '[{"sku": "A", "quantity": 1}]')),
	"commit_stock('r')", "release_stock('r')", "quote_order('c', $lines)",
	"submit_order('c', $lines)", "submit_orders('[]')", "pay_order(1, 'bank', 't', 1)",
	"ship_order(1, 'post', 'p')", 'confirm_order(1)', 'cancel_order(1)', 'expire_order(1)',
	"extend_order(1, '1 hour')", "add_charge(1, 'c', 1)", 'refund_order(1)', 'run_due()',
	'activate()', 'deactivate()');
raises($node, "SELECT ordflow.$_", 'OF008', "$_ raises OF008") for @need_preload;

my (undef, undef, $err) = $node->psql('postgres', "SELECT ordflow.submit_order('c', $lines)");
like($err, qr/shared_preload_libraries = 'ordflow'/, 'the error brings the line');

my @need_nothing = (
	"create_coupon('C', 'percent', 10)", "alter_coupon('C', '{}')", "set_purchase_limit('A', 1)",
	"check_machine('order')", 'diagram()', 'audit()', "grant_access('pg_monitor', 'orders')",
	"revoke_access('pg_monitor', 'orders')", "is_active('timer')");
is(sqlstate($node, "SELECT * FROM ordflow.$_"), '', "$_ works") for @need_nothing;
is(answer($node, 'SELECT * FROM ordflow.' . $_), '', "$_ can be read")
  for qw(orders stock_levels reservations payments refunds order_history);
is(answer($node, "SELECT worker, state, problem FROM ordflow.workers WHERE worker = 'launcher'"),
	'launcher|off|ordflow is not preloaded', 'workers says why there is none');
raises($node, "SELECT ordflow.order_id('none')", 'OF004', 'order_id() works');

is(answer($node, 'SELECT severity, part, object FROM ordflow.doctor()'),
	'error|server|shared_preload_libraries', 'doctor() names the setting, and nothing else');
my $fix = answer($node, 'SELECT fix FROM ordflow.doctor()');
like($fix, qr/^shared_preload_libraries = 'auto_explain, ordflow'/, 'and keeps what is there');

$node->append_conf('postgresql.conf', $fix);
$node->restart;
is(answer($node, 'SELECT * FROM ordflow.doctor()'), '', 'with its line pasted doctor() is content');
is(answer($node, "SELECT ordflow.receive_stock('A', 1), ordflow.submit_order('c', $lines)"),
	'1|1', 'and the first order is sold');

# preloaded once, then not: what was sold stays to be seen
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
raises($node, 'SELECT ordflow.cancel_order(1)', 'OF008', 'without it again orders stand still');
is(answer($node, "SELECT state, (SELECT available FROM ordflow.stock_levels) FROM ordflow.orders"),
	'pending_payment|0', 'and can be read');
audits_clean($node, 'without preload');

done_testing();

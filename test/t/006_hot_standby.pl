# On a hot standby everything can be read and every verb raises 25006; promoted, it sells. Its
# workers start with the promotion.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Cluster;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
configure($primary);
$primary->start;
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

shop($primary, 'postgres');
$primary->wait_for_catchup($standby);

my $lines = q('[{"sku": "lamp", "quantity": 1, "unit_price": 1}]');
my @verbs = (
	"submit_order('c', $lines)",
	"submit_orders('[{\"customer\": \"c\", \"lines\": [{\"sku\": \"lamp\", \"quantity\": 1,
		\"unit_price\": 1}]}]')",
	"pay_order(2, 'bank', 'new', 1)", "pay_order(1000, 'bank', 'new', 1)",
	"ship_order(10, 'post', 'new')", 'confirm_order(15)', 'cancel_order(2)', 'expire_order(5)',
	"extend_order(2, '1 hour')", "add_charge(2, 'c', 1)", 'refund_order(10)',
	"refund_done(2, 'r')", "refund_failed(2, 'e')", "receive_stock('lamp', 1)",
	"adjust_stock('lamp', -1, 'broken')", "set_stock('lamp', 99, 'stocktaking')",
	"reserve_stock('r', '[{\"sku\": \"lamp\", \"quantity\": 1}]')", "commit_stock('cart:live')",
	"release_stock('cart:live')", "create_coupon('C', 'percent', 1)", "alter_coupon('TEN', '{}')",
	"set_purchase_limit('lamp', 1)", 'run_due()', "fire('shop.repairs', '1', 'finish')",
	"define_machine('m', '{\"states\": {\"a\": \"initial\"}, \"transitions\": []}')",
	"add_effect('order', 'ship', 'shop.note(jsonb,jsonb)')", "detach('shop.repairs')",
	"grant_access('pg_monitor', 'read')", 'activate()', 'deactivate()');
raises($standby, "SELECT ordflow.$_", '25006', "$_ raises 25006") for @verbs;
raises($primary, "BEGIN READ ONLY; SELECT ordflow.submit_order('c', $lines)", '25006',
	'so does a read-only transaction on the primary');

my @reads = (
	'SELECT * FROM ordflow.audit()', "SELECT ordflow.available_stock('lamp')",
	"SELECT ordflow.quote_order('c1', $lines, 'TEN')", "SELECT ordflow.order_id('no 1')",
	'SELECT ordflow.diagram()', 'SELECT * FROM ordflow.stock_levels ORDER BY 1, 2',
	'SELECT * FROM ordflow.reservations ORDER BY 1, 2, 3',
	'SELECT * FROM ordflow.available_events(10)',
	"SELECT * FROM ordflow.available_events('shop.repairs', '1')",
	"SELECT * FROM ordflow.check_machine('repair')",
	"SELECT * FROM ordflow.attach_report('shop.notes', 'repair', 'event')",
	'SELECT part, object FROM ordflow.doctor()', "SELECT ordflow.is_active('timer')");
is(answer($standby, $_), answer($primary, $_), "reads the same: $_") for @reads;
# sequences run ahead on a standby
same_checksums((map { checksums($_, 'postgres') =~ s/^.*_seq\|.*$//gmr } $standby, $primary),
	'the standby');


answer($primary, 'CREATE DATABASE live');
answer($primary, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('lamp', 10)), 'live');
order_lamp($primary, 'live', '3 s');
$primary->wait_for_catchup($standby);
$primary->stop('immediate');
becomes($standby, 'SELECT clock_timestamp() > expires_at, state FROM ordflow.orders',
	't|pending_payment', 'on the standby a deadline passes', 'live');
is(answer($standby, q(SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^ordflow')), 0,
	'no worker is there');
is( answer($standby, q(SELECT state, problem, fix FROM ordflow.workers
		WHERE worker = 'launcher')), 'not running|the server is in recovery|',
	'the view says why');
$standby->promote;
all_cancelled($standby, 'live', 'promoted');
audits_clean($standby, 'promoted, active', 'live');
is(answer($standby, "SELECT ordflow.submit_order('c', $lines) > 30"), 't', 'promoted, it sells');
is(answer($standby, "SELECT ordflow.pay_order(2, 'bank', 'new', 57.53)"), 'applied', 'and is paid');
is(answer($standby, 'SELECT ordflow.run_due()'), 5, 'and does what is due');
is(worker_complaints($standby), '', 'the workers have complained of nothing');
audits_clean($standby, 'promoted');

done_testing();

# A transaction that moved units or a coupon cannot be prepared; any other can. A server of its own,
# as the setting needs a restart.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Cluster;
use Test::More;

my $node = server('main', 'max_prepared_transactions = 5');
$node->safe_psql('postgres', q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('lamp', 10);
	SELECT ordflow.create_coupon('TEN', 'percent', 10)));
my $goods = q('[{"sku": "lamp", "quantity": 1, "unit_price": 1}]');
my $service = q('[{"sku": "lesson", "quantity": 1, "unit_price": 1, "stock": false}]');
my $prepare = q(PREPARE TRANSACTION 'p');

raises($node, "BEGIN; SELECT ordflow.$_; $prepare", '0A000', "$_ cannot be prepared")
	for "submit_order('c', $goods)", "submit_order('c', $service, 'TEN')",
	"receive_stock('lamp', 1)", "reserve_stock('r', '[{\"sku\": \"lamp\", \"quantity\": 1}]')";
is(answer($node, 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'nothing is left prepared');
is(answer($node, 'SELECT available FROM ordflow.stock_levels'), 10, 'nothing has moved');

$node->safe_psql('postgres', "BEGIN; SELECT ordflow.submit_order('c', $service); $prepare");
$node->safe_psql('postgres', q(COMMIT PREPARED 'p'));
is(answer($node, 'SELECT count(*) FROM ordflow.orders'), 1,
	'an order that moves nothing can be prepared');
is(answer($node, 'SELECT * FROM ordflow.audit()'), '', 'all agrees');

done_testing();

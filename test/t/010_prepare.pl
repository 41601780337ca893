# A transaction that moved units or a coupon cannot be prepared; any other can, and workers hear of
# it when it is committed, not before. A server of its own, as the setting needs a restart.
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

# what a savepoint took back did not move; what it keeps did
my $move = "SELECT ordflow.submit_order('c', $goods)";
raises($node, "BEGIN; SAVEPOINT a; $move; RELEASE a; SAVEPOINT b; ROLLBACK TO b; $prepare",
	'0A000', 'a released savepoint counts');
raises($node, "BEGIN; $move; SAVEPOINT a; $move; ROLLBACK TO a; $prepare",
	'0A000', 'what came before the savepoint counts');
raises($node, "BEGIN; SAVEPOINT a; SAVEPOINT b; $move; RELEASE b; ROLLBACK TO a; $prepare", '',
	'what was rolled back to a savepoint does not');
$node->safe_psql('postgres', q(ROLLBACK PREPARED 'p'));

$node->safe_psql('postgres', "BEGIN; SELECT ordflow.submit_order('c', $service); $prepare");
$node->safe_psql('postgres', q(COMMIT PREPARED 'p'));
is(answer($node, 'SELECT count(*) FROM ordflow.orders'), 1,
	'an order that moves nothing can be prepared');
is(answer($node, 'SELECT * FROM ordflow.audit()'), '', 'all agrees');

answer($node, 'CREATE DATABASE other');
answer($node, 'CREATE EXTENSION ordflow', 'other');
my $active = "SELECT ordflow.is_active('timer')";
my $prepared = "BEGIN; SELECT ordflow.submit_order('c', $service, pay_within => '1 s'); $prepare;";
my $session = $node->background_psql('other');
$session->query($prepared);
is($session->query($active), 'f', 'what is prepared has not activated the database');
$session->query(q(ROLLBACK PREPARED 'p'));
is($session->query($active), 'f', 'nor has what is rolled back');
$session->query($prepared);
becomes($node, q(SELECT count(*) FROM pg_stat_activity WHERE datname = 'other'
	AND backend_type = 'ordflow coordinator'), 0, 'nobody looks for it');
answer($node, q(COMMIT PREPARED 'p'), 'other');
is($session->query($active), 't', 'the commit has');
is(answer($node, 'SELECT count(*) FROM ordflow.orders', 'other'), 1, 'and brought the order');
all_cancelled($node, 'other', 'prepared');
$session->quit;

done_testing();

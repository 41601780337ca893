# A library of another version than the extension in the database answers OF011; doctor() says why.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use Test::More;

my $node = server('main', 'fsync = on');
my $lines = q('[{"sku": "A", "quantity": 1, "unit_price": 1}]');
my @verbs = (
	"submit_order('c', $lines)", "quote_order('c', $lines)", "pay_order(1, 'bank', 't', 1)",
	"receive_stock('A', 1)", "available_stock('A')", "create_coupon('C', 'percent', 1)",
	"define_machine('m', '{\"states\": {\"a\": \"initial\"}, \"transitions\": []}')", 'diagram()',
	'run_due()');

answer($node, 'CREATE EXTENSION ordflow');
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query('\set VERBOSITY sqlstate');
$session->query("SELECT ordflow.receive_stock('A', 9)");

my $version = answer($node, "SELECT extversion FROM pg_extension WHERE extname = 'ordflow'");
answer($node, "UPDATE pg_extension SET extversion = '0.0.1' WHERE extname = 'ordflow'");
raises($node, "SELECT ordflow.$_", 'OF011', "$_ raises OF011") for @verbs;
like(answer($node, "SELECT problem FROM ordflow.doctor() WHERE object = 'ordflow'"),
	qr/\Q$version\E.*0\.0\.1/, 'doctor() names both versions');
is(answer($node, "SELECT available FROM ordflow.stock_levels"), 9, 'what is there can be read');

answer($node, "UPDATE pg_extension SET extversion = '$version' WHERE extname = 'ordflow'");
is(answer($node, "SELECT ordflow.submit_order('c', $lines)"), 1, 'with the right version it sells');
is($session->query("SELECT ordflow.submit_order('c', $lines)"), 2,
	'also in the session that was open');
is(answer($node, 'SELECT * FROM ordflow.doctor()'), '', 'and doctor() is content');
$session->quit;

done_testing();

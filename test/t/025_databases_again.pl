# Counters of what is gone are gone: the extension dropped and created again, a database dropped
# and another one created with its oid and the same oids of tables. What is rolled back changes
# nothing.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use Sessions;
use Test::More;

my $node = server('main', 'ordflow.workers = off');

# ---- the extension ----
my ($one, $other) = map { session($node) } 1 .. 2;
act($one, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('lamp', 100)));
act($_, hold('cart' . $_->{pid}, 'lamp', 10)) for $one, $other;
act($one, q(BEGIN; DROP EXTENSION ordflow; ROLLBACK));
exactly($node, 'lamp', 80, 'DROP EXTENSION, rolled back');
is(act($other, hold('after', 'lamp', 80)), 80, 'another session sells all');
all_right($node, 'DROP EXTENSION, rolled back');

act($one, q(BEGIN; SAVEPOINT s; DROP EXTENSION ordflow; ROLLBACK TO s;)
		. q(SELECT ordflow.release_stock('after'); COMMIT));
exactly($node, 'lamp', 80, 'DROP EXTENSION in a savepoint, rolled back');

# a seller in flight is waited for
act($other, 'BEGIN; ' . hold('in flight', 'lamp', 1));
start($one, 'DROP EXTENSION ordflow');
waits($node, $one, 'DROP EXTENSION, while a seller is in flight');
act($other, 'COMMIT');
is(result($one), '', 'dropped');
is(act($other, hold('gone', 'lamp')), '3F000', 'nothing is left');
act($one, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('rug', 5)));
exactly($node, 'rug', 5, 'created again');
is(act($other, hold('all', 'rug', 5)), 5, 'the other session sells the new stock');
is(act($other, hold('more', 'rug', 1)), 'OF002', 'and no more');
all_right($node, 'created again');
act($one, q(BEGIN; DROP EXTENSION ordflow; CREATE EXTENSION ordflow;
	SELECT ordflow.receive_stock('vase', 7); COMMIT));
exactly($node, 'vase', 7, 'in one transaction');
is(act($other, hold('some', 'vase', 6)), 6, 'sold by the other session');
exactly($node, 'vase', 1, 'sold by the other session');
all_right($node, 'in one transaction');
$_->quit for $one, $other;

# ---- the database: copies of a template have the same oids of tables ----
answer($node, 'CREATE DATABASE shop');
answer($node, q(CREATE EXTENSION ordflow; SELECT ordflow.receive_stock('lamp', 5)), 'shop');
my $oid = 200000;
my $create = "CREATE DATABASE copy TEMPLATE shop OID = $oid";
answer($node, $create);
is(answer($node, q(SELECT 'ordflow.stock'::regclass::oid), 'copy'),
	answer($node, q(SELECT 'ordflow.stock'::regclass::oid), 'shop'), 'tables have the same oids');
answer($node, hold('cart', 'lamp', 5), 'copy');
exactly($node, 'lamp', 0, 'the copy is sold out', 'copy');
exactly($node, 'lamp', 5, 'its template is not', 'shop');
answer($node, 'DROP DATABASE copy');
answer($node, $create);
exactly($node, 'lamp', 5, 'the new copy has its units', 'copy');
answer($node, q(SELECT ordflow.receive_stock('lamp', 1000)), 'copy');
exactly($node, 'lamp', 1005, 'more came in', 'copy');
my $last = session($node, 'copy');
act($last, 'BEGIN; ' . hold('open', 'lamp', 1000));
raises($node, 'DROP DATABASE copy', '55006', 'a database that is in use is not dropped');
act($last, 'ROLLBACK');
$last->quit;
exactly($node, 'lamp', 1005, 'and keeps its units', 'copy');
answer($node, 'DROP DATABASE copy WITH (FORCE)');
answer($node, $create);
exactly($node, 'lamp', 5, 'the next one has not got what came into the last', 'copy');
all_right($node, 'the last copy', 'copy');
is(answer($node, 'SELECT oid FROM pg_database WHERE datname = \'copy\''), $oid, 'all had one oid');

done_testing();

# dual_write into another server, by a foreign table of postgres_fdw; and its triggers in a dump.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = server('main');
plan skip_all => 'postgres_fdw is not installed'
	unless answer($node, q(SELECT 1 FROM pg_available_extensions WHERE name = 'postgres_fdw'));
my ($host, $port) = ($node->host, $node->port);
my $options = q(options => '{"columns": {"id": "id", "total": "price * 2"}, "key": ["id"],
	"filter": "price > 0"}');
my $look = 'SELECT * FROM shop.copy ORDER BY 1';

answer($node, 'CREATE DATABASE away');
answer($node, <<'SQL', 'away');
	CREATE SCHEMA shop;
	CREATE TABLE shop.copy (id int PRIMARY KEY, total numeric CHECK (total < 1000));
SQL
answer($node, <<"SQL");
	CREATE EXTENSION ordflow;
	CREATE EXTENSION postgres_fdw;
	CREATE SCHEMA shop;
	CREATE TABLE shop.orders (id int PRIMARY KEY, price numeric);
	CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw
		OPTIONS (host '$host', port '$port', dbname 'away');
	CREATE USER MAPPING FOR CURRENT_USER SERVER away;
	CREATE FOREIGN TABLE shop.away (id int, total numeric) SERVER away
		OPTIONS (schema_name 'shop', table_name 'copy');
	CREATE FOREIGN TABLE shop.readable (id int, total numeric) SERVER away
		OPTIONS (schema_name 'shop', table_name 'copy', updatable 'false');
SQL

my $create = "SELECT ordflow.create_sync('away', source => 'shop.orders', mode => 'dual_write',
	$options, target => ";
raises($node, "$create 'shop.readable')", '0A000', 'a foreign table that takes no writes');
answer($node, "$create 'shop.away')");

answer($node, 'INSERT INTO shop.orders VALUES (1, 1), (2, 2), (3, 0), (4, 4)');
is(answer($node, $look, 'away'), "1|2\n2|4\n4|8", 'inserted');
answer($node, q(UPDATE shop.orders SET price = CASE id WHEN 3 THEN 3 WHEN 2 THEN 0 ELSE 9 END;
	UPDATE shop.orders SET id = 40 WHERE id = 4));
is(answer($node, $look, 'away'), "1|18\n3|6\n40|18", 'updated, a key too');
answer($node, 'BEGIN; DELETE FROM shop.orders; ROLLBACK; DELETE FROM shop.orders WHERE id = 3');
is(answer($node, $look, 'away'), "1|18\n40|18", 'deleted');
raises($node, 'UPDATE shop.orders SET price = 1000', '23514', 'what is refused there');
is(answer($node, 'SELECT max(price) FROM shop.orders'), 9, 'is not done here');
answer($node, 'DELETE FROM shop.copy WHERE id = 1', 'away');
answer($node, 'UPDATE shop.orders SET price = 5');
is(answer($node, $look, 'away'), "1|10\n2|10\n40|10",
	'a row that is missing there is written again');
answer($node, 'TRUNCATE shop.orders');
is(answer($node, $look, 'away'), '', 'truncated');

# A dump has the triggers, and a restored target is found by its name.
answer($node, q(SELECT ordflow.drop_sync('away');
	CREATE TABLE shop.here (id int PRIMARY KEY, total numeric)));
answer($node, "$create 'shop.here'); INSERT INTO shop.orders VALUES (1, 1)");
my $file = PostgreSQL::Test::Utils::tempdir . '/dump';
$node->command_ok([ 'pg_dump', '-f', $file, 'postgres' ], 'dump');
answer($node, 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-d', 'restored', '-o', "$file.out",
	'-f', $file ], 'restore');
answer($node, 'INSERT INTO shop.orders VALUES (2, 2);
	UPDATE shop.orders SET price = 7 WHERE id = 1', 'restored');
is(answer($node, 'SELECT * FROM shop.here ORDER BY 1', 'restored'), "1|14\n2|4",
	'a restored database writes on');
is(answer($node, 'SELECT * FROM shop.here'), '1|2', 'its own table');

done_testing();

# A table of counters that is too small: they take turns, and where all are pinned by open
# transactions 53400 tells so, and nothing is lost; it works again when those have ended.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;

use constant COUNTERS => 16;
use constant SKUS => 60;
use constant CLIENTS => 8;
use constant SECONDS => 4;

my $node = server('main', 'ordflow.stock_counters = ' . COUNTERS);
my $dir = PostgreSQL::Test::Utils::tempdir;
answer($node, 'CREATE EXTENSION ordflow; SELECT ordflow.receive_stock(\'s\' || i, 20)
	FROM generate_series(1, ' . (COUNTERS - 1) . ') AS i');
raises($node, 'SELECT ordflow.receive_stock(\'s\' || i, 20) FROM generate_series(1, ' . SKUS
	. ') AS i', '53400', 'more of them in one transaction are refused');
answer($node, join ';', map { "SELECT ordflow.receive_stock('s$_', 20)" } COUNTERS .. SKUS);
is(answer($node, 'SELECT count(*), sum(available) FROM ordflow.stock_levels'),
	SKUS . '|' . 20 * SKUS, 'one by one they go in');
all_right($node, 'filled');

# ---- full of pins ----
my ($one, $other, $last) = map { session($node) } 1 .. 3;
is(act($one, 'BEGIN; ' . cart('one', 1, 9)), 9, 'one holds nine counters');
is(act($other, 'BEGIN; ' . cart('other', 10, COUNTERS - 1)),
	COUNTERS - 10, 'another the rest but one');
is(act($last, cart('last', 20, 20)), 1, 'the one that is left serves others');
is(act($last, cart('last two', 21, 22)), '53400', 'but not two at once');
is(act($last, 'BEGIN; ' . hold('a', 's30')), 1, 'a third takes it');
is(act($other, 'SAVEPOINT s; ' . hold('no', 's40')), '53400', 'now there is none');
is(act($other, 'ROLLBACK TO s; ' . hold('yes', 's12')), 1, 'what is pinned can be sold on');
is(act($one, hold('shared', 's12')), 1, 'by others too');
raises($node, $_, '53400', "$_ says so") for submission('s41'),
  q(SELECT ordflow.receive_stock('s42', 1)), q(SELECT ordflow.adjust_stock('s43', -1, 'torn'));
is(answer($node, q(SELECT ordflow.available_stock('s41'))), 20, 'to look needs no counter');
is(answer($node, "SELECT result FROM ordflow.submit_orders('[{\"lines\": [{\"sku\": \"s12\",
	\"quantity\": 1, \"unit_price\": 1}]}]')"), 'ok', 'nor does what is pinned already');
audits_clean($node, 'full');
act($last, 'ROLLBACK');
is(act($last, hold('b', 's44')), 1, 'a rollback makes room');
act($one, 'ROLLBACK');
act($other, 'COMMIT');
is(act($last, cart('c', 30, 44)), 15, 'so does a commit');
exactly($node, "s$_->[0]", $_->[1], 'after the pins') for [ 1, 20 ], [ 10, 19 ], [ 12, 17 ],
  [ 41, 19 ], [ 44, 18 ], [ 30, 19 ];
all_right($node, 'after the pins');

# what a savepoint has pinned is free after its rollback
is(act($one, 'BEGIN; SAVEPOINT s; ' . cart('x', 1, COUNTERS)), COUNTERS, 'all are pinned');
is(act($other, hold('y', 's50')), '53400', 'full');
is(act($one, 'ROLLBACK TO s; ' . hold('x', 's2')), 1, 'the savepoint is rolled back');
is(act($other, hold('y', 's50')), 1, 'there is room');
act($one, 'COMMIT');

# ---- under load: more skus than counters, each used a moment ----
PostgreSQL::Test::Utils::append_to_file("$dir/load", <<'SQL');
\set a random(1, 60)
\set b random(1, 60)
\set end random(1, 4)
BEGIN;
SELECT act('s' || :a, 's' || :b, :end);
END;
SQL
answer($node, <<'SQL');
	CREATE FUNCTION act(a text, b text, what int) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		reference text := clock_timestamp()::text || random();
		lines jsonb := jsonb_build_array(jsonb_build_object('sku', a, 'quantity', 1),
			jsonb_build_object('sku', b, 'quantity', 1));
	BEGIN
		PERFORM ordflow.reserve_stock(reference, lines);
		IF what = 1 THEN
			RAISE SQLSTATE 'SH001';
		ELSIF what = 2 THEN
			PERFORM ordflow.release_stock(reference);
		ELSIF what = 3 THEN
			PERFORM ordflow.receive_stock(a, 1);
		END IF;
	EXCEPTION WHEN SQLSTATE 'SH001' OR SQLSTATE 'OF002' OR SQLSTATE '53400' THEN
		NULL;
	END $$;
SQL
$node->command_ok([ 'pgbench', '-n', '-c', CLIENTS, '-j', 2, '-T', SECONDS, '-f', "$dir/load",
	'postgres' ], 'clients sell more skus than there are counters');
cmp_ok(answer($node, 'SELECT count(*) FROM ordflow.holds'), '>', 200, 'they have sold');
all_right($node, 'under load');
my $s7 = answer($node, q(SELECT available FROM ordflow.stock_levels WHERE sku = 's7'));
exactly($node, 's7', $s7, 'under load');

# Holds one unit of each of these skus.
sub cart
{
	my ($reference, $first, $last) = @_;
	return "SELECT ordflow.reserve_stock('$reference', (SELECT jsonb_agg(jsonb_build_object(
		'sku', 's' || i, 'quantity', 1)) FROM generate_series($first, $last) AS i))";
}

done_testing();

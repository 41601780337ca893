# The ledger is folded into the balances and emptied while the shop sells: figures stay exact, also
# in a snapshot that is older than folds; a writer that stays open delays the fold and nobody else;
# kills, a dump in the middle of it, and the retention take nothing away.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use IPC::Run;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use Timers qw(crash);

use constant SKUS => 20;
use constant CLIENTS => 3;

my $node = server('main', "ordflow.fold_interval = '30ms'", 'max_connections = 40',
	'restart_after_crash = on');
my $dir = PostgreSQL::Test::Utils::tempdir;
my $levels = q(SELECT count(*), md5(string_agg(l::text, ',' ORDER BY l.sku))
	FROM ordflow.stock_levels AS l);
my $segment = 'SELECT coalesce(max(segment), 1) FROM ordflow.stock_segments';

create_shop();
old_snapshot();
coordinator_ended();
open_writer();
killed();
dumped('history is kept');
retention();
dumped('history is emptied');
is(worker_complaints($node), '', 'no worker complains');
done_testing();

sub create_shop
{
	answer($node, <<"SQL");
		CREATE EXTENSION ordflow;
		SELECT count(ordflow.receive_stock('s' || i, 1000000))
		FROM generate_series(1, @{[SKUS]}) AS i;
		CREATE FUNCTION act(what int, sku text, quantity int) RETURNS void LANGUAGE plpgsql AS \$\$
		DECLARE
			lines jsonb := jsonb_build_array(jsonb_build_object('sku', sku, 'quantity', quantity));
			id bigint;
			hold text := 'hold ' || gen_random_uuid();
		BEGIN
			IF what < 60 THEN
				id := ordflow.submit_order('c', jsonb_set(lines, '{0,unit_price}', '1'));
				IF what < 30 THEN
					PERFORM ordflow.cancel_order(id);
				ELSIF what < 40 THEN
					PERFORM ordflow.pay_order(id, 'bank', id::text, quantity);
					PERFORM ordflow.ship_order(id, 'post', id::text);
				END IF;
			ELSIF what < 90 THEN
				PERFORM ordflow.reserve_stock(hold, lines);
				IF what < 80 THEN
					PERFORM ordflow.release_stock(hold);
				END IF;
			ELSE
				PERFORM ordflow.receive_stock(sku, quantity);
			END IF;
		END \$\$;
SQL
	append_to_file("$dir/act.sql", <<"SQL");
\\set what random(0, 99)
\\set sku random(1, @{[SKUS]})
\\set quantity random(1, 3)
SELECT act(:what, 's' || :sku, :quantity);
SQL
	return;
}

# Clients that sell for so long.
sub load
{
	my ($seconds) = @_;
	return IPC::Run::start(
		[ 'pgbench', '-n', '-c', CLIENTS, '-T', $seconds, '-f', "$dir/act.sql",
			$node->connstr('postgres') ],
		'>', "$dir/pgbench.out", '2>&1');
}

# Whatever the ledger holds from the beginning on makes the levels, and all else agrees.
sub books_are_right
{
	my ($name, $db, $of) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$of //= $node;
	is(answer($of, <<'SQL', $db), '', "$name: the movements make the levels");
		SELECT s.sku, l.on_hand, m.on_hand, l.reserved, m.reserved
		FROM ordflow.stock AS s JOIN ordflow.stock_levels AS l USING (sku, location),
		LATERAL (SELECT sum(on_hand) AS on_hand, sum(reserved) AS reserved
			FROM ordflow.stock_movements WHERE stock_id = s.stock_id) AS m
		WHERE (l.on_hand, l.reserved) IS DISTINCT FROM (m.on_hand, m.reserved)
SQL
	return audits_clean($of, $name, $db);
}

# A session that keeps a snapshot and has no table locked, the name of the snapshot, and its levels.
sub hold_snapshot
{
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	my $snapshot = $session->query_safe('SELECT pg_export_snapshot()');
	my $expected = answer($node, "BEGIN ISOLATION LEVEL REPEATABLE READ;
		SET TRANSACTION SNAPSHOT '$snapshot'; $levels");
	return ($session, $snapshot, $expected);
}

# The coordinator has folded all there is.
sub all_folded
{
	my ($name, $db) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	becomes($node, 'SELECT count(*) FROM ordflow.stock_movements
		WHERE segment IN (SELECT segment FROM ordflow.open_segments)', 0, "$name: all is folded",
		$db);
	return is(answer($node, 'SELECT count(*) FROM ordflow.stock JOIN ordflow.stock_levels AS l
		USING (sku, location, on_hand, reserved)', $db),
		answer($node, 'SELECT count(*) FROM ordflow.stock', $db), "$name: in the balances");
}

sub old_snapshot
{
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	my $before = $session->query_safe($levels);
	my $first = answer($node, $segment);
	my $load = load(2);
	my %seen = ($before => 1);
	for (1 .. 15)
	{
		usleep(100_000);
		$seen{ $session->query_safe($levels) } = 1;
	}
	$load->finish;
	cmp_ok(answer($node, $segment), '>', $first + 10, 'there were folds under load');
	is_deeply([ keys %seen ], [$before], 'an old snapshot shows the same levels throughout');
	isnt(answer($node, $levels), $before, 'while a new one shows others');
	$session->query_safe('COMMIT');
	$session->quit;
	all_folded('under load');
	books_are_right('under load');
	return;
}

# Whoever takes over does not know who could write to the closed segment, and finds out.
sub coordinator_ended
{
	my $load = load(3);
	for (1 .. 10)
	{
		usleep(rand 250_000);
		answer($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE backend_type = 'ordflow coordinator'");
	}
	$load->finish;
	all_folded('coordinators ended');
	books_are_right('coordinators ended');
	return;
}

sub open_writer
{
	my $writer = $node->background_psql('postgres');
	$writer->query_safe('BEGIN');
	$writer->query_safe("SELECT act(50, 's1', 1)");
	my $written = $writer->query_safe('SELECT max(segment) FROM ordflow.stock_movements');
	answer($node, "SELECT act(90, 's1', 1)");
	becomes($node, $segment, $written + 1, 'a segment with an open writer is closed');
	load(1)->finish;
	unlike(slurp_file("$dir/pgbench.out"), qr/ERROR|aborted/, 'others sell meanwhile');
	my $folded = "SELECT count(*) FROM ordflow.stock_segments
		WHERE segment = $written AND folded_at IS NOT NULL";
	is(answer($node, "$segment UNION ALL $folded"), $written + 1 . "\n0", 'it is not folded');
	is(answer($node, "SELECT ordflow.fold_stock()"), 0, 'nor by hand');
	audits_clean($node, 'a writer is open');
	$writer->query_safe('COMMIT');
	$writer->quit;
	all_folded('the writer has ended');
	books_are_right('the writer has ended');
	return;
}

sub killed
{
	for my $round (1 .. 4)
	{
		my $load = load(30);
		usleep(300_000 + rand 400_000);
		crash($node, $load);
		$node->start;
		books_are_right("after kill $round");
	}
	load(1)->finish;
	all_folded('after the kills');
	books_are_right('after the kills');
	return;
}

# A dump is made in a snapshot whose levels are known; segments are opened, folded and emptied
# meanwhile.
sub dumped
{
	my ($name) = @_;
	(my $db = "dump of $name") =~ s/\W/_/g;
	my $load = load(3);
	usleep(500_000);
	my ($session, $snapshot, $expected) = hold_snapshot();
	my $first = answer($node, $segment);
	usleep(1_500_000);
	cmp_ok(answer($node, $segment), '>', $first, "dump, $name: there are folds meanwhile");
	$node->command_ok([ 'pg_dump', '-Fc', "--snapshot=$snapshot", '-f', "$dir/$db", 'postgres' ],
		"dump, $name");
	is($session->query_safe($levels), $expected, "dump, $name: the snapshot's levels are the same");
	$session->quit;
	$load->finish;
	answer($node, "CREATE DATABASE $db");
	$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $db, "$dir/$db" ], 'restore');
	is(answer($node, $levels, $db), $expected, "restored, $name: the levels of the snapshot");
	audits_clean($node, "restored, $name", $db);
	answer($node, "SELECT act(50, 's' || i, 1), act(90, 's' || i, 1)
		FROM generate_series(1, 5) AS i", $db);
	all_folded("restored, $name", $db);
	audits_clean($node, "restored, $name, and sold from", $db);
	return;
}

sub set_retention
{
	my ($retention) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET ordflow.movement_retention = $retention");
	$node->reload;
	return;
}

# What began before is held and open still when its movements have gone.
sub retention
{
	my $load = load(4);
	usleep(300_000);
	my ($session, $snapshot, $before) = hold_snapshot();
	my $reader = $node->background_psql('postgres');
	my $old = answer($node, 'SELECT max(movement_id) FROM ordflow.stock_movements');
	my $left = "SELECT count(*) > 0 FROM ordflow.stock_movements WHERE movement_id <= $old";
	set_retention(1);
	becomes($node, 'SELECT count(*) FROM ordflow.stock_segments WHERE retired_at IS NOT NULL', 1,
		'history is retired');
	$load->finish;
	usleep(1_500_000);
	is(answer($node, $left), 't', 'but kept as long as an old snapshot is');
	is($session->query_safe($levels), $before, 'whose levels are the same');
	audits_clean($node, 'retired');

	# a lock, without a snapshot
	$reader->query_safe('BEGIN; LOCK TABLE ordflow.stock_movements_1 IN ACCESS SHARE MODE');
	$session->query_safe('COMMIT');
	answer($node, "SELECT act(50, 's1', 1)");
	usleep(1_500_000);
	is(answer($node, $left), 't', 'it is kept as long as somebody has locked it');
	$reader->query_safe('COMMIT');
	answer($node, "SELECT act(50, 's1', 1)");
	becomes($node, $left, 'f', 'and emptied then');
	$_->quit for $session, $reader;

	load(2)->finish;
	audits_clean($node, 'emptied');
	becomes($node, 'SELECT count(*) FROM ordflow.stock_movements', 0,
		'in the end the ledger is empty');
	becomes($node, 'SELECT sum(pg_relation_size(inhrelid)) FROM pg_inherits
		WHERE inhparent = $$ordflow.stock_movements$$::regclass', 0, 'and takes no room');
	audits_clean($node, 'empty');
	answer($node, "SELECT ordflow.cancel_order(order_id) FROM ordflow.orders
		WHERE state = 'pending_payment' LIMIT 100");
	answer($node, "SELECT ordflow.release_stock(reference) FROM ordflow.holds
		WHERE state = 'held' LIMIT 100");
	audits_clean($node, 'what began before the ledger has ended');
	all_folded('in the end');
	audits_clean($node, 'in the end');
	return;
}

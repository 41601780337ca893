# Copies: a sync begins with the rows that are there. Whatever interrupts it, the target has each of
# them in the end, the stream goes on meanwhile, and no row goes back to what it was.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP;
use Ordflow;
use Redis;
use Test::More;
use Time::HiRes qw(sleep);

my $node = server('main', 'wal_level = logical', 'max_worker_processes = 30', 'autovacuum = off',
	'restart_after_crash = on');
my $redis = Redis::installed() ? Redis->new : undef;
answer($node, 'CREATE EXTENSION ordflow; CREATE SCHEMA shop; CREATE SCHEMA copy');
answer($node, "CREATE SERVER cache FOREIGN DATA WRAPPER ordflow_redis
	OPTIONS (port '@{[$redis->port]}')") if $redis;

kinds();
interrupted();
rewritten();
in_the_way();
part();
refused();
paused();
after_a_gap();
copied_database();
streams() if $redis;
read_your_writes() if $redis;
done_testing();

# ---- what the tests are made of ----

sub table
{
	my ($name, $rows, $columns) = @_;
	$columns //= 'id int PRIMARY KEY, v int, w text';
	answer($node, "CREATE TABLE shop.$name ($columns); CREATE TABLE copy.$name ($columns)");
	answer($node, "INSERT INTO shop.$name SELECT i, i, 'old' FROM generate_series(1, $rows) i")
	  if $rows;
	return;
}

sub sync
{
	my ($name, $options) = @_;
	return answer($node, "SELECT ordflow.create_sync('$name', 'shop.$name',
		target => 'copy.$name', options => '@{[$options // '{}']}')");
}

# One that takes its time.
sub slowly { return sync($_[0], '{"rate": 4000}'); }

sub progress
{
	my ($name, $columns) = @_;
	return answer($node, "SELECT $columns FROM ordflow.sync_progress WHERE name = '$name'");
}

sub is_done
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return becomes($node, "SELECT phase FROM ordflow.sync_progress WHERE name = '$name'", 'done',
		"$name: the copy ends");
}

sub same
{
	my ($name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(answer($node, "SELECT ordflow.wait_for_sync('$name', timeout => '60 s')"), 't',
		"$name: $what: arrives");
	return is(
		answer($node, "SELECT count(*) FROM (
			(SELECT * FROM shop.$name EXCEPT ALL SELECT * FROM copy.$name)
			UNION ALL (SELECT * FROM copy.$name EXCEPT ALL SELECT * FROM shop.$name)) d"),
		0, "$name: $what: the same rows");
}

sub kill_delivery
{
	my $pid = answer($node, "SELECT pid FROM pg_stat_activity
		WHERE backend_type = 'ordflow delivery' LIMIT 1");
	kill KILL => $pid or die "no process $pid";
	# the server restarts itself, and is away meanwhile
	for (1 .. 200)
	{
		sleep 0.1;
		my ($status) = $node->psql('postgres', 'SELECT 1', timeout => 20);
		return if defined $status && $status == 0;
	}
	die 'the server did not come back';
}

# Waits until at least so much of the copy is done.
sub until_done
{
	my ($name, $part) = @_;
	return $node->poll_query_until('postgres', "SELECT phase = 'copying' AND done >= $part
		FROM ordflow.sync_progress WHERE name = '$name'");
}

# ---- the tests ----

sub kinds
{
	table('kind', 0, q(id int PRIMARY KEY, j jsonb, t text[], n numeric(30,10), at timestamptz,
		b bytea, o bool, big text, twice int GENERATED ALWAYS AS (id * 2) STORED));
	answer($node, q(INSERT INTO shop.kind SELECT i, jsonb_build_object('a', i), ARRAY['x', NULL],
		i / 7.0, '2024-02-29 12:00+05:30'::timestamptz + i * interval '1 s',
		decode(md5(i::text), 'hex'), i % 2 = 0,
		CASE i % 10 WHEN 0 THEN (SELECT string_agg(md5(g::text || i), '')
			FROM generate_series(1, 400) g) END FROM generate_series(1, 2000) i));
	sync('kind');
	is_done('kind');
	same('kind', 'values of all types, TOASTed too');
	is(progress('kind', 'tables, tables_done, rows, done, time_left, restarts, phase, filter'),
		'1|1|2000|1|00:00:00|0|done|', 'the progress of a copy that is done');
	is(answer($node, "SELECT bytes > 1000000 AND rows_per_second > 0 AND finished_at > started_at
		FROM ordflow.sync_progress WHERE name = 'kind'"), 't', 'bytes, rate and times');
	answer($node, "UPDATE shop.kind SET n = 0 WHERE id = 10");
	same('kind', 'a change after it');

	answer($node, q(CREATE TABLE shop.part (id int, at date, v text, PRIMARY KEY (id, at))
			PARTITION BY RANGE (at);
		CREATE TABLE shop.part_1 (v text, at date NOT NULL, gone int, id int NOT NULL,
			PRIMARY KEY (id, at));
		ALTER TABLE shop.part_1 DROP gone;
		ALTER TABLE shop.part ATTACH PARTITION shop.part_1 FOR VALUES FROM ('2026-01-01')
			TO ('2026-02-01');
		CREATE TABLE shop.part_2 PARTITION OF shop.part DEFAULT;
		CREATE TABLE shop.empty PARTITION OF shop.part FOR VALUES FROM ('2020-01-01')
			TO ('2021-01-01');
		INSERT INTO shop.part SELECT i, '2026-01-01'::date + i % 60, 'v' || i
			FROM generate_series(1, 3000) i;
		CREATE TABLE copy.part (id int, at date, v text, PRIMARY KEY (id, at))));
	sync('part');
	is_done('part');
	same('part', 'of partitions');
	is(progress('part', 'tables, tables_done, rows'), '3|3|3000', 'each of them was copied');

	table('chosen', 1000);
	sync('chosen', '{"filter": "id % 3 = 0", "columns": {"id": "id", "v": "v + 1", "w": "w"}}');
	is_done('chosen');
	is(answer($node, 'SELECT count(*), bool_and(v = id + 1 AND id % 3 = 0) FROM copy.chosen'),
		'333|t', 'filter and expressions hold for the copy');
	table('none', 0);
	sync('none');
	is_done('none');
	return;
}

# The delivery, then the server, are killed in the middle: the copy goes on where it was.
sub interrupted
{
	table('long', 40_000);
	slowly('long');
	is(answer($node, "SELECT ordflow.wait_for_sync('long', timeout => '100 ms')"), 'f',
		'while rows are copied nothing is taken for being there');
	until_done('long', 0.2);
	is(answer($node, "SELECT state FROM ordflow.sync_status WHERE name = 'long'"), 'copying',
		'its state');
	my $began = progress('long', 'started_at');
	my $half = answer($node, "SELECT snapshot FROM ordflow.sync_copies WHERE phase = 'copying'");
	kill_delivery();
	answer($node, 'UPDATE shop.long SET v = -v WHERE id % 100 = 0');
	answer($node, 'DELETE FROM shop.long WHERE id % 1000 = 1; INSERT INTO shop.long
		SELECT i, i, $$new$$ FROM generate_series(50001, 50100) i');
	until_done('long', 0.6);
	cmp_ok(progress('long', 'rows'), '<', 40_000, 'it is not at its end');
	my $place = answer($node, 'SELECT max(place >> 16) FROM ordflow.sync_copy_places p
		JOIN ordflow.sync_copies c USING (sync_id) WHERE c.phase = $$copying$$');
	$node->stop('immediate');
	$node->start;
	cmp_ok(answer($node, 'SELECT max(place >> 16) FROM ordflow.sync_copy_places p
		JOIN ordflow.sync_copies c USING (sync_id) WHERE c.phase = $$copying$$'), '>=', $place,
		'what was copied stays copied');
	is(answer($node, "SELECT snapshot FROM ordflow.sync_copies WHERE phase = 'copying'"), $half,
		'it goes on');
	is_done('long');
	is(progress('long', 'restarts, started_at'), "0|$began", 'and never began again');
	same('long', 'interrupted');
	return;
}

sub rewritten
{
	table('moved', 20_000);
	answer($node, 'DELETE FROM shop.moved WHERE id % 2 = 0');
	slowly('moved');
	until_done('moved', 0.3);
	answer($node, 'VACUUM FULL shop.moved');
	is_done('moved');
	is(progress('moved', 'restarts, reason'), '1|shop.moved was rewritten',
		'a table that was rewritten is copied from its beginning, and the view says so');
	same('moved', 'rewritten');
	slowly_again('moved');
	answer($node, 'ALTER TABLE shop.moved ALTER v TYPE bigint');
	is_done('moved');
	same('moved', 'of another type');
	slowly_again('moved');
	answer($node, 'TRUNCATE shop.moved');
	is_done('moved');
	same('moved', 'emptied');
	table('dropped', 20_000);
	slowly('dropped');
	until_done('dropped', 0.2);
	answer($node, 'DROP TABLE shop.dropped');
	becomes($node, "SELECT phase FROM ordflow.sync_progress WHERE name = 'dropped'", 'done',
		'of a table that was dropped there is nothing left to copy');
	answer($node, "SELECT ordflow.drop_sync('dropped')");
	return;
}

sub slowly_again
{
	my ($name) = @_;
	answer($node, "SELECT ordflow.resync('$name')");
	return until_done($name, 0.2);
}

# A lock on the source holds up its copy, and no other sync.
sub in_the_way
{
	table('locked', 20_000);
	table('free', 10);
	sync('free');
	is_done('free');
	slowly('locked');
	until_done('locked', 0.2);
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query('BEGIN; LOCK TABLE shop.locked IN ACCESS EXCLUSIVE MODE');
	answer($node, 'UPDATE shop.free SET v = 0');
	same('free', 'beside a source that is locked');
	my $done = progress('locked', 'done');
	sleep 0.5;
	is(progress('locked', 'done'), $done, 'the copy waits');
	$session->query('COMMIT');
	$session->quit;
	is_done('locked');
	same('locked', 'unlocked');
	return;
}

# Of a part of the rows, while it is written.
sub part
{
	table('again', 5000);
	sync('again');
	is_done('again');
	answer($node, 'UPDATE copy.again SET w = $$spoiled$$ WHERE id BETWEEN 100 AND 199;
		DELETE FROM copy.again WHERE id BETWEEN 150 AND 160');
	my $others = 'SELECT md5(string_agg(xmin::text, $$,$$ ORDER BY id)) FROM copy.again
		WHERE id NOT BETWEEN 100 AND 199';
	my $before = answer($node, $others);
	answer($node, "SELECT ordflow.resync('again', 'id BETWEEN 100 AND 199 AND w = ''old''')");
	is_done('again');
	is(progress('again', 'rows, filter'), "100|id BETWEEN 100 AND 199 AND w = 'old'",
		'the rows that the filter lets pass');
	same('again', 'a part of it');
	is(answer($node, $others), $before, 'no other row was touched');

	# the rows of a session that has not committed, in savepoints too, come by the stream
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query('BEGIN; UPDATE shop.again SET v = 1 WHERE id = 1; SAVEPOINT a;
		UPDATE shop.again SET v = 2 WHERE id = 2; SAVEPOINT b;
		INSERT INTO shop.again VALUES (9001, 1, $$open$$)');
	answer($node, "SELECT ordflow.resync('again')");
	becomes($node, "SELECT phase FROM ordflow.sync_progress WHERE name = 'again'", 'done',
		'it waits for nobody');
	is(answer($node, 'SELECT v FROM copy.again WHERE id IN (1, 2) ORDER BY id'), "1\n2",
		'what was not committed is not sent');
	$session->query('RELEASE a; COMMIT');
	$session->quit;
	same('again', 'beside an open transaction');
	return;
}

# What the target refuses is put aside by its key, what the filter cannot be asked too.
sub refused
{
	for my $policy (qw(park skip))
	{
		my $name = "poison_$policy";
		table($name, 3000);
		answer($node, "ALTER TABLE copy.$name ADD CONSTRAINT not_that CHECK (v <> 1500)");
		sync($name, qq({"on_error": "$policy", "columns": {"id": "id", "v": "v",
			"w": "substr(w, 1, 9 + 1 / (id - 700))"}}));
		is_done($name);
		is(answer($node, "SELECT string_agg(key || ' ' || sqlstate, ', ' ORDER BY key::int)
			FROM ordflow.sync_dead_letters WHERE name = '$name'"), '700 22012, 1500 23514',
			"$policy: the rows that cannot be sent are dead letters");
		is(answer($node, "SELECT count(*) FROM copy.$name"), 2998, "$policy: all others are there");
		answer($node, "ALTER TABLE copy.$name DROP CONSTRAINT not_that;
			UPDATE shop.$name SET v = 7 WHERE id = 1500;
			SELECT ordflow.alter_sync('$name', '{\"columns\": null}');
			SELECT ordflow.replay_dead_letters('$name')");
		same($name, "$policy: replayed");
	}
	return;
}

sub paused
{
	table('held', 20_000);
	slowly('held');
	until_done('held', 0.2);
	answer($node, "SELECT ordflow.pause_sync('held')");
	sleep 0.5;
	my $rows = progress('held', 'rows');
	answer($node, 'UPDATE shop.held SET v = 0 WHERE id % 1000 = 0');
	sleep 0.5;
	is(progress('held', 'rows'), $rows, 'a sync that is paused copies nothing');
	answer($node, "SELECT ordflow.resume_sync('held')");
	is_done('held');
	same('held', 'paused and resumed');
	return;
}

# What was lost with the slot is copied again, by itself.
sub after_a_gap
{
	table('gap', 3000);
	sync('gap');
	is_done('gap');
	my $slot = answer($node, 'SELECT slot_name FROM pg_replication_slots');
	answer($node, "ALTER SYSTEM SET ordflow.workers = off");
	$node->restart;
	answer($node, "SELECT pg_drop_replication_slot('$slot');
		UPDATE shop.gap SET v = 5 WHERE id <= 50; INSERT INTO shop.gap VALUES (9000, 1, 'gap')");
	answer($node, "ALTER SYSTEM RESET ordflow.workers");
	$node->restart;
	becomes($node, "SELECT phase || restarts FROM ordflow.sync_progress WHERE name = 'gap'",
		'done1', 'after a gap the rows are copied again');
	like(progress('gap', 'reason'), qr/slot was lost/, 'for a reason that the view tells');
	same('gap', 'after a gap');
	is(answer($node, "SELECT state, problem FROM ordflow.sync_status WHERE name = 'gap'"),
		'streaming|', 'and goes on');
	return;
}

# A copy of the database sleeps; once it is activated, its targets get what its sources have.
sub copied_database
{
	answer($node, 'CREATE DATABASE twin TEMPLATE postgres');
	answer($node, 'UPDATE shop.gap SET v = 6 WHERE id <= 50', 'twin');
	is(answer($node, "SELECT state FROM ordflow.sync_status WHERE name = 'gap'", 'twin'),
		'inactive', 'it sleeps');
	answer($node, 'SELECT ordflow.drop_sync(name) FROM ordflow.syncs WHERE name <> $$gap$$;
		SELECT ordflow.activate()', 'twin');
	is($node->poll_query_until('twin', 'SELECT count(*) = 50 FROM copy.gap WHERE v = 6'), 1,
		'then it is copied');
	answer($node, 'DROP DATABASE twin');
	return;
}

# Of a stream: each row once as it stood, then the changes.
sub streams
{
	table('event', 20_000);
	answer($node, "SELECT ordflow.create_sync('event', 'shop.event', 'cache', 'events',
		options => '{\"type\": \"stream\", \"rate\": 5000}')");
	until_done('event', 0.3);
	answer($node, 'UPDATE shop.event SET v = -1 WHERE id % 500 = 0');
	kill_delivery();
	is_done('event');
	is(answer($node, "SELECT ordflow.wait_for_sync('event', timeout => '60 s')"), 't', 'arrives');
	my (%told, @wrong);
	my $entries = $redis->ask('--json', 'XRANGE', 'events', '-', '+');
	for my $entry (@{ decode_json($entries) })
	{
		my %message = @{ $entry->[1] };
		my $event = decode_json($message{value});
		my $id = $event->{key}{id};
		push @wrong, $id if $event->{snapshot} && $told{$id};
		push @wrong, $id if !$event->{snapshot} && ($event->{op} ne 'update' || $id % 500);
		$told{$id} = $event->{new}{v};
	}
	is(scalar keys %told, 20_000, 'a stream tells every row');
	is("@wrong", '', 'none twice as it stood, and none after its change');
	is((grep { $told{$_} != ($_ % 500 ? $_ : -1) } keys %told), 0, 'and the last word is right');
	return;
}

# A client that waits for its own commit reads it from the cache.
sub read_your_writes
{
	table('mine', 100);
	answer($node, "SELECT ordflow.create_sync('mine', 'shop.mine', 'cache', 'mine:{id}')");
	is_done('mine');
	my $stale = 0;
	for my $i (1 .. 100)
	{
		my $waited = answer($node, "UPDATE shop.mine SET v = 1000 + $i WHERE id = $i;
			SELECT ordflow.wait_for_sync('mine')");
		$stale++ if $waited ne 't' || $redis->ask('HGET', "mine:$i", 'v') ne 1000 + $i;
	}
	is($stale, 0, 'what was waited for is never stale');
	return;
}

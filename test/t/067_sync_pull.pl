# Syncs that are pulled, on a server whose wal_level is minimal: by a cursor, with rows that commit
# out of its order, and as full copies; to tables, Redis and files that fail as they are told to.
# Whatever is killed, each row arrives, and goes out once where the target can tell.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP;
use Ordflow;
use PostgreSQL::Test::Utils;
use Redis;
use Sessions qw(session act start result);
use Test::More;
use Time::HiRes qw(time usleep);

my $node = server('main', 'wal_level = minimal', 'max_wal_senders = 0',
	'max_worker_processes = 40', 'restart_after_crash = on', 'max_prepared_transactions = 2');
my $directory = PostgreSQL::Test::Utils::tempdir();
my $redis = Redis->installed ? Redis->new : undef;

answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	CREATE SCHEMA shop;
	-- what is written to a target, each time
	CREATE TABLE shop.writes
		(place bigint GENERATED ALWAYS AS IDENTITY, target text, id int, v int);
	CREATE FUNCTION shop.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		INSERT INTO shop.writes (target, id, v) VALUES (TG_TABLE_NAME, NEW.id, NEW.v);
		RETURN NULL;
	END $$;
SQL

late_times();
late_numbers();
late_xids();
prepared();
coarse_times();
many_writers();
killed();
scheduled();
paused_and_altered();
views();
full_copies();
refused_rows();
SKIP:
{
	skip('no redis-server', 1) unless $redis;
	redis();
}
SKIP:
{
	skip('ordflow_script was not built', 1)
	  unless -e $node->config_data('--pkglibdir') . '/ordflow_script.so';
	script_fails();
	script_crashes();
	script_is_cleared();
	script_was_emptied();
}
is(answer($node, 'SELECT count(*) FROM pg_replication_slots'), 0, 'no slot was needed');
done_testing();

# ---- what the tests are made of ----

sub pull
{
	my ($name) = @_;
	return answer($node, "SELECT ordflow.run_sync('$name')");
}

# A table and its copy, whose writes are noted.
sub tables
{
	my ($name, $cursor) = @_;
	answer($node, "CREATE TABLE shop.$name (id int PRIMARY KEY, v int, cursor $cursor);
		CREATE INDEX ON shop.$name (cursor);
		CREATE TABLE shop.${name}_copy (id int PRIMARY KEY, v int, cursor $cursor);
		CREATE TRIGGER note AFTER INSERT OR UPDATE ON shop.${name}_copy FOR EACH ROW
		EXECUTE FUNCTION shop.note()");
	return;
}

sub create_sync
{
	my ($name, $mode, $options, $server, $target) = @_;
	$options = encode_json({ $mode eq 'scheduled' ? (cursor => 'cursor') : (),
			%{ $options // {} } });
	my $to = $server ? "server => '$server', target => '$target'" :
	  sprintf q(target => '%s'), $target // "shop.${name}_copy";
	return answer($node, "SELECT ordflow.create_sync('$name', 'shop.$name', $to,
		mode => '$mode', options => '$options')");
}

sub mirror
{
	my ($name, $cursor, $options) = @_;
	tables($name, $cursor);
	return create_sync($name, 'scheduled', $options);
}

sub writes
{
	my ($name) = @_;
	return answer($node, "SELECT coalesce(string_agg(id || ':' || v, ' ' ORDER BY place), '')
		FROM shop.writes WHERE target = '${name}_copy'");
}

sub same
{
	my ($name, $what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(
		answer($node, "SELECT count(*) FROM (
			(TABLE shop.$name EXCEPT ALL TABLE shop.${name}_copy)
			UNION ALL (TABLE shop.${name}_copy EXCEPT ALL TABLE shop.$name)) d"),
		0, "$what: the same rows");
}

sub status
{
	my ($sync, $columns) = @_;
	return "SELECT $columns FROM ordflow.sync_status WHERE name = '$sync'";
}

# The server takes connections again.
sub is_up
{
	my ($status) = eval { $node->psql('postgres', 'SELECT 1', timeout => 10) };
	return defined $status && $status == 0;
}

# Ends the process that pulls the sync by a signal that it cannot handle, and all others with it.
sub kill_puller
{
	my ($name) = @_;
	my $pid = answer($node, "SELECT pid FROM ordflow.workers WHERE worker ~ '^puller .* $name\$'
		AND state = 'running'");
	return 0 unless $pid;
	kill 'KILL', $pid;
	for (1 .. 600)
	{
		last if !is_up();
		usleep(20_000);
	}
	for (1 .. 600)
	{
		last if is_up();
		usleep(50_000);
	}
	return 1;
}

# ---- rows that commit out of order ----

sub late_times
{
	mirror('late', 'timestamptz DEFAULT now()');
	my $slow = session($node);
	answer($node, 'INSERT INTO shop.late VALUES (1, 1)');
	is(pull('late'), 1, 'a row is pulled');
	is(pull('late'), 0, 'once');
	act($slow, 'BEGIN');
	act($slow, 'INSERT INTO shop.late VALUES (2, 2)');
	answer($node, 'INSERT INTO shop.late VALUES (3, 3)');
	is(pull('late'), 0, 'what is newer than an open transaction waits for it');
	answer($node, 'SELECT pg_sleep(5.2)');
	is(pull('late'), 0, 'it waits on');
	like(answer($node, status('late', 'state, problem')),
		qr/^idle\|rows from .* wait for the end of process $slow->{pid}, /,
		'the status tells of whom');
	like(answer($node, q(SELECT fix FROM ordflow.doctor() WHERE object = 'sync late')),
		qr/pg_stat_activity/, 'and so does the doctor');
	act($slow, 'COMMIT');
	is(pull('late'), 2, 'then both are pulled');
	is(writes('late'), '1:1 2:2 3:3', 'each once, in the order of the cursor');
	is(answer($node, status('late', 'state, problem')), 'idle|', 'all is well');

	# not a word of it yet, but its now() stands
	act($slow, 'BEGIN');
	answer($node, 'INSERT INTO shop.late VALUES (4, 4)');
	is(pull('late'), 0, 'one that has not written yet is waited for too');
	act($slow, 'INSERT INTO shop.late VALUES (5, 5)');
	act($slow, 'COMMIT');
	is(pull('late'), 2, 'its row is not missed');
	answer($node, 'UPDATE shop.late SET v = 10, cursor = now() WHERE id = 1');
	is(pull('late'), 1, 'an update');
	same('late', 'late commits');
	$slow->quit;
	return;
}

sub late_numbers
{
	answer($node, 'CREATE SEQUENCE shop.numbers');
	mirror('numbered', q(bigint DEFAULT nextval('shop.numbers')));
	my $slow = session($node);
	my $puller = session($node);
	act($slow, 'BEGIN');
	act($slow, 'INSERT INTO shop.numbered VALUES (1, 1)');
	answer($node, 'INSERT INTO shop.numbered VALUES (2, 2)');
	start($puller, q(SELECT ordflow.run_sync('numbered')));
	becomes($node, status('numbered', "state, problem ~ 'process $slow->{pid},'"), 'waiting|t',
		'a number: the pull waits for whoever writes the table');
	act($slow, 'COMMIT');
	is(result($puller), 2, 'a number: then both are pulled');
	is(writes('numbered'), '1:1 2:2', 'a number: in order');
	answer($node, 'INSERT INTO shop.numbered VALUES (3, 3)');
	act($slow, 'BEGIN');
	act($slow, 'SELECT count(*) FROM shop.numbered');
	is(pull('numbered'), 1, 'a number: who only reads is not waited for');
	act($slow, 'ROLLBACK');
	$_->quit for $slow, $puller;
	same('numbered', 'a number');
	return;
}

sub late_xids
{
	mirror('xids', 'xid8 DEFAULT pg_current_xact_id()');
	my $slow = session($node);
	act($slow, 'BEGIN');
	act($slow, 'SELECT pg_current_xact_id()');
	answer($node, 'INSERT INTO shop.xids VALUES (2, 2)');
	is(pull('xids'), 0, 'a transaction number: nothing above one that runs');
	act($slow, 'INSERT INTO shop.xids VALUES (1, 1)');
	act($slow, 'COMMIT');
	is(pull('xids'), 2, 'a transaction number: both');
	is(writes('xids'), '1:1 2:2', 'a transaction number: in order');
	$slow->quit;
	answer($node, q(UPDATE ordflow.sync_pulls SET cluster = '1/1' WHERE cluster IS NOT NULL));
	is(pull('xids'), 2, 'of another cluster it means nothing: all is pulled again');
	return;
}

sub prepared
{
	mirror('twice', 'timestamptz DEFAULT now()');
	answer($node, q(BEGIN; INSERT INTO shop.twice VALUES (1, 1); PREPARE TRANSACTION 'half'));
	answer($node, 'INSERT INTO shop.twice VALUES (2, 2)');
	is(pull('twice'), 0, 'a prepared transaction is open');
	like(answer($node, status('twice', 'problem')), qr/prepared transaction 'half'/,
		'and it is told of');
	answer($node, q(COMMIT PREPARED 'half'));
	is(pull('twice'), 2, 'until it is committed');
	same('twice', 'two phases');
	return;
}

# What a coarse clock has begun may be joined by later rows.
sub coarse_times
{
	mirror('coarse', 'timestamptz(0) DEFAULT clock_timestamp()');
	my $sent = 0;
	for my $id (1 .. 8)
	{
		answer($node, "INSERT INTO shop.coarse VALUES ($id, $id)");
		$sent += pull('coarse');
	}
	usleep(1_600_000);
	is($sent + pull('coarse'), 8, 'seconds: each row is sent');
	same('coarse', 'seconds');
	is(answer($node, q(SELECT count(*) FROM shop.writes WHERE target = 'coarse_copy')), 8,
		'seconds: once');
	mirror('daily', 'date DEFAULT current_date', { time_zone => 'UTC' });
	answer($node, 'INSERT INTO shop.daily VALUES (1, 1, current_date - 2), (2, 2, current_date)');
	is(pull('daily'), 1, 'a day is pulled when it is over');
	return;
}

# Transactions of all lengths, some of which are rolled back, while pulls follow one another.
sub many_writers
{
	mirror('busy', 'timestamptz DEFAULT now()', { schedule => '1 second', batch_rows => 7 });
	my $script = join '', map {
		sprintf("BEGIN; SELECT pg_sleep(random() * 0.06); INSERT INTO shop.busy (id, v) SELECT
			nextval('shop.numbers'), i FROM generate_series(1, 1 + (random() * 4)::int) i;
			SELECT pg_sleep(random() * 0.06); %s;\n", $_ % 10 ? 'COMMIT' : 'ROLLBACK')
	} 1 .. 60;
	at_once($node, map { [ 'postgres', $script ] } 1 .. 6);
	pull('busy');
	same('busy', 'many writers');
	is(answer($node, q(SELECT count(*) - count(DISTINCT id) FROM shop.writes
		WHERE target = 'busy_copy')), 0, 'many writers: no row went out twice');
	cmp_ok(answer($node, q(SELECT count(DISTINCT cursor) FROM shop.busy)), '>', 100,
		'many writers: it was something');
	answer($node, q(SELECT ordflow.drop_sync('busy')));
	return;
}

# ---- the end of the process ----

sub killed
{
	tables('killed', 'timestamptz DEFAULT now()');
	answer($node, 'INSERT INTO shop.killed SELECT i, i FROM generate_series(1, 3000) AS i');
	create_sync('killed', 'scheduled', { batch_rows => 50, rate => 1500 });
	my $asked = session($node);
	start($asked, q(SELECT ordflow.run_sync('killed')));
	becomes($node, q(SELECT count(*) > 200 FROM shop.killed_copy), 't', 'killed: it has begun');
	ok(kill_puller('killed'), 'killed: in the middle');
	becomes($node, q(SELECT count(*) > 1500 FROM shop.killed_copy), 't', 'killed: it goes on');
	answer($node, 'UPDATE shop.killed SET v = v + 1, cursor = now() WHERE id <= 5 OR id > 2995');
	$node->stop('immediate');
	$node->start;
	becomes($node, q(SELECT count(*) FROM shop.killed_copy), 2995, 'an immediate stop: it goes on');
	pull('killed');
	same('killed', 'killed twice');
	is(answer($node, q(SELECT count(*) FROM shop.writes WHERE target = 'killed_copy')), 3005,
		'killed twice: each row was written once, and those that were changed meanwhile again');
	eval { $asked->quit };
	return;
}

# ---- schedules ----

sub scheduled
{
	mirror('often', 'timestamptz DEFAULT now()', { schedule => '1 second' });
	for my $id (1 .. 3)
	{
		answer($node, "INSERT INTO shop.often VALUES ($id, $id)");
		becomes($node, 'SELECT count(*) FROM shop.often_copy', $id, "a schedule fires: $id");
	}
	is(writes('often'), '1:1 2:2 3:3', 'a schedule: each row once');
	is(answer($node, status('often', "state IN ('idle', 'pulling'),
		last_run > now() - interval '5 s', next_run > last_run, rows")), 't|t|t|3',
		'the status has the times');
	answer($node, q(SELECT ordflow.alter_sync('often', '{"schedule": "@yearly"}')));
	answer($node, 'INSERT INTO shop.often VALUES (4, 4)');
	usleep(2_500_000);
	is(answer($node, 'SELECT count(*) FROM shop.often_copy'), 3, 'another schedule holds at once');
	is(pull('often'), 1, 'it can be asked for beside');
	becomes($node, q(SELECT count(*) FROM ordflow.workers WHERE worker ~ '^puller .* often$'), 0,
		'its process goes when nothing is due');
	is(pull('often'), 0, 'and comes when it is asked for');
	return;
}

sub paused_and_altered
{
	mirror('held', 'timestamptz DEFAULT now()', { schedule => '1 second' });
	answer($node, q(SELECT ordflow.pause_sync('held')));
	answer($node, 'INSERT INTO shop.held VALUES (1, 1), (2, 2)');
	raises($node, q(SELECT ordflow.run_sync('held')), '55000', 'paused: not even asked for');
	usleep(2_200_000);
	is(answer($node, 'SELECT count(*) FROM shop.held_copy'), 0, 'paused: nothing is sent');
	is(answer($node, status('held', 'state')), 'paused', 'paused: the status says so');
	answer($node, q(SELECT ordflow.resume_sync('held')));
	becomes($node, 'SELECT count(*) FROM shop.held_copy', 2, 'resumed');
	answer($node, q(SELECT ordflow.alter_sync('held', '{"schedule": null, "filter": "v > 1"}')));
	answer($node, 'UPDATE shop.held SET cursor = now()');
	is(pull('held'), 2, 'altered: both were changed');
	is(answer($node, 'SELECT string_agg(id::text, $$ $$) FROM shop.held_copy'), 2,
		'a row that the filter refuses now is deleted');
	answer($node, 'ALTER TABLE shop.held_copy DROP COLUMN v');
	answer($node, 'UPDATE shop.held SET cursor = now()');
	raises($node, q(SELECT ordflow.run_sync('held')), 'OF007', 'a target that does not fit');
	like(answer($node, status('held', 'state, retry_at IS NOT NULL, problem')),
		qr/^failed\|t\|column "v" of table shop.held_copy does not exist/, 'the status says why');
	answer($node, 'ALTER TABLE shop.held_copy ADD COLUMN v int');
	is(pull('held'), 2, 'mended: at once when it is asked for');
	answer($node, q(SELECT ordflow.drop_sync('held')));
	is(answer($node, q(SELECT count(*) FROM ordflow.sync_pulls p
		WHERE NOT EXISTS (SELECT FROM ordflow.syncs s WHERE s.sync_id = p.sync_id))), 0,
		'dropped: nothing is left');
	return;
}

# ---- sources ----

sub views
{
	answer($node, q(CREATE TABLE shop.customer (id int PRIMARY KEY, name text);
		CREATE TABLE shop.sale (id int PRIMARY KEY, customer int, v int,
			cursor timestamptz DEFAULT now());
		CREATE VIEW shop.seen AS SELECT s.id, c.name, s.v, s.cursor
			FROM shop.sale s JOIN shop.customer c ON c.id = s.customer;
		CREATE TABLE shop.seen_copy (id int PRIMARY KEY, name text, v int, cursor timestamptz)));
	create_sync('seen', 'scheduled', { key => ['id'] });
	answer($node, q(INSERT INTO shop.customer VALUES (1, 'alice'), (2, 'bob');
		INSERT INTO shop.sale VALUES (1, 1, 5), (2, 2, 6), (3, NULL, 7)));
	is(pull('seen'), 2, 'a view');
	same('seen', 'a view');
	answer($node, q(UPDATE shop.sale SET customer = 2, cursor = now() WHERE id = 3));
	is(pull('seen'), 1, 'a view: a row comes');
	is(answer($node, q(SELECT name FROM shop.seen_copy WHERE id = 3)), 'bob', 'a view: its row');

	answer($node, q(CREATE MATERIALIZED VIEW shop.summed AS
		SELECT customer AS id, sum(v) AS v FROM shop.sale GROUP BY 1;
		CREATE TABLE shop.summed_copy (id int PRIMARY KEY, v bigint)));
	create_sync('summed', 'full', { key => ['id'] });
	becomes($node, 'SELECT count(*) FROM shop.summed_copy', 2,
		'a materialized view: a full copy is made at once');
	return;
}

# ---- full copies ----

sub full_copies
{
	tables('whole', 'timestamptz DEFAULT now()');
	answer($node, 'INSERT INTO shop.whole SELECT i, i FROM generate_series(1, 2500) AS i;
		INSERT INTO shop.whole_copy VALUES (9000, 1), (0, 0)');
	create_sync('whole', 'full', { columns => { id => 'id', v => 'v + 1', cursor => 'cursor' },
		filter => 'id % 2 = 0' });
	becomes($node, 'SELECT count(*) FROM shop.whole_copy', 1250, 'a full copy: made at once');
	is(answer($node, 'SELECT count(*) FROM shop.whole w JOIN shop.whole_copy c
		ON c.id = w.id AND c.v = w.v + 1'), 1250, 'a full copy: of what passes');
	answer($node, 'DELETE FROM shop.whole WHERE id <= 100; UPDATE shop.whole SET v = 0
		WHERE id = 102; INSERT INTO shop.whole VALUES (3000, 1)');
	is(pull('whole'), 1201, 'a full copy: all of it');
	is(answer($node, 'SELECT count(*), min(id), max(id), min(v) FROM shop.whole_copy'),
		'1201|102|3000|1', 'a full copy: what is gone is removed');
	is(answer($node, q(SELECT rows, removed FROM ordflow.sync_pulls p JOIN ordflow.syncs s
		USING (sync_id) WHERE name = 'whole')), '1201|50', 'a full copy: is counted');
	answer($node, 'TRUNCATE shop.whole');
	answer($node, q(SELECT ordflow.alter_sync('whole', '{"remove": false}')));
	is(pull('whole'), 0, 'nothing is there');
	is(answer($node, 'SELECT count(*) FROM shop.whole_copy'), 1201, 'remove false: it stays');
	answer($node, q(SELECT ordflow.alter_sync('whole', '{"remove": true}')));
	is(pull('whole'), 0, 'nothing is there still');
	is(answer($node, 'SELECT count(*) FROM shop.whole_copy'), 0, 'remove true: all goes');
	full_is_killed();
	full_keys();
	return;
}

sub full_is_killed
{
	answer($node, 'INSERT INTO shop.whole SELECT i, i FROM generate_series(1, 3000) AS i');
	answer($node,
		q(SELECT ordflow.alter_sync('whole', '{"rate": 1500, "batch_rows": 50, "filter": null}')));
	my $asked = session($node);
	start($asked, q(SELECT ordflow.run_sync('whole')));
	becomes($node, q(SELECT count(*) > 200 FROM shop.whole_copy), 't', 'a full copy: has begun');
	ok(kill_puller('whole'), 'a full copy: is killed');
	answer($node, 'DELETE FROM shop.whole WHERE id <= 10');
	answer($node, q(SELECT ordflow.alter_sync('whole', '{"rate": null}')));
	is(pull('whole'), 2990, 'a full copy: begins anew');
	is(answer($node, 'SELECT count(*), min(id), max(id) FROM shop.whole_copy'), '2990|11|3000',
		'a full copy: as the source is then');
	eval { $asked->quit };
	return;
}

# What is the same to the target's key is the same, however it is written.
sub full_keys
{
	answer($node, q(CREATE TABLE shop.odd (a numeric, b text, PRIMARY KEY (a, b));
		CREATE TABLE shop.odd_copy (a numeric, b char(5), PRIMARY KEY (b, a));
		INSERT INTO shop.odd VALUES (1.0, 'x'), (2, 'y');
		INSERT INTO shop.odd_copy VALUES (1.00, 'x'), (2, 'z'), (1, 'y')));
	create_sync('odd', 'full', { schedule => '@yearly' });
	becomes($node, q(SELECT string_agg(a || ':' || b, ' ' ORDER BY a) FROM shop.odd_copy),
		'1.00:x 2:y', 'keys are compared as the target sees them');
	return;
}

# ---- rows that are refused ----

sub refused_rows
{
	mirror('picky', 'timestamptz DEFAULT now()', { columns =>
			{ id => 'id', v => '100 / v', cursor => 'cursor' } });
	answer($node, 'ALTER TABLE shop.picky_copy ADD CHECK (v <> 50);
		INSERT INTO shop.picky VALUES (1, 1), (2, 0), (3, 2), (4, 4)');
	is(pull('picky'), 2, 'the others arrive');
	is(answer($node, q(SELECT string_agg(key || ' ' || state || ' ' || sqlstate, ', ' ORDER BY key)
		FROM ordflow.sync_dead_letters WHERE name = 'picky')), '2 dead 22012, 3 dead 23514',
		'by an expression, by a constraint: dead letters');
	answer($node, 'UPDATE shop.picky SET v = 5, cursor = now() WHERE id IN (2, 3, 4)');
	is(pull('picky'), 1, 'what comes later of their keys queues');
	answer($node, 'ALTER TABLE shop.picky_copy DROP CONSTRAINT picky_copy_v_check');
	is(answer($node, q(SELECT ordflow.replay_dead_letters('picky'))), 4, 'again');
	pull('picky');
	is(answer($node, q(SELECT string_agg(id || ':' || v, ' ' ORDER BY id) FROM shop.picky_copy)),
		'1:100 2:20 3:20 4:20', 'all are there, as they were last');
	is(answer($node, status('picky', 'dead_letters, waiting')), '0|0', 'no letter is left');

	answer($node, q(SELECT ordflow.alter_sync('picky', '{"on_error": "stop"}');
		UPDATE shop.picky SET v = 0, cursor = now() WHERE id = 1));
	raises($node, q(SELECT ordflow.run_sync('picky')), 'OF007', 'on_error stop: it fails');
	is(answer($node, status('picky', 'state, problem, dead_letters')),
		'failed|division by zero|0', 'and says why');
	answer($node, 'UPDATE shop.picky SET v = 10, cursor = now() WHERE id = 1');
	is(pull('picky'), 1, 'mended');

	# of a full copy nothing is removed then
	tables('most', 'int');
	answer($node, 'INSERT INTO shop.most VALUES (1, 0), (2, 1); INSERT INTO shop.most_copy
		VALUES (1, 7), (3, 7)');
	create_sync('most', 'full', { schedule => '@yearly', columns => { id => 'id', v => '1 / v' } });
	becomes($node, status('most', "state, problem ~ 'nothing was removed', dead_letters"),
		'idle|t|1', 'a row that cannot be sent: nothing is removed');
	is(answer($node, q(SELECT string_agg(id || ':' || v, ' ' ORDER BY id) FROM shop.most_copy)),
		'1:7 2:1 3:7', 'a row that cannot be sent keeps its place');
	answer($node, 'UPDATE shop.most SET v = 1');
	is(pull('most'), 2, 'mended: the full copy');
	is(answer($node, status('most', 'problem, dead_letters')), '|0', 'mended: no letter is left');
	is(answer($node, q(SELECT string_agg(id || ':' || v, ' ' ORDER BY id) FROM shop.most_copy)),
		'1:1 2:1', 'mended: what is gone is removed');
	return;
}

# ---- Redis ----

sub redis
{
	my $port = $redis->port;
	tables('cached', 'timestamptz DEFAULT now()');
	tables('told', 'timestamptz DEFAULT now()');
	answer($node, "CREATE SERVER cache FOREIGN DATA WRAPPER ordflow_redis
		OPTIONS (host '127.0.0.1', port '$port'); CREATE USER MAPPING FOR PUBLIC SERVER cache;
		INSERT INTO shop.cached VALUES (1, 1), (2, NULL);
		INSERT INTO shop.told SELECT i, i FROM generate_series(1, 2000) AS i");
	create_sync('cached', 'scheduled', {}, 'cache', 'cached:{id}');
	is(pull('cached'), 2, 'Redis: hashes');
	is($redis->ask('HGET', 'cached:1', 'v'), 1, 'Redis: a field');
	is($redis->ask('HEXISTS', 'cached:2', 'v'), 0, 'Redis: none of a null');
	answer($node, 'UPDATE shop.cached SET v = NULL, cursor = now() WHERE id = 1');
	pull('cached');
	is($redis->ask('HEXISTS', 'cached:1', 'v'), 0, 'Redis: a field goes');

	create_sync('told', 'scheduled', { type => 'stream', batch_rows => 40, rate => 2000 },
		'cache', 'told');
	my $asked = session($node);
	start($asked, q(SELECT ordflow.run_sync('told')));
	for (1 .. 300)
	{
		last if $redis->ask('XLEN', 'told') > 300;
		usleep(20_000);
	}
	ok(kill_puller('told'), 'Redis: killed in the middle of a stream');
	$node->stop('immediate');
	$node->start;
	pull('told');
	is($redis->ask('XLEN', 'told'), 2000, 'Redis: each entry is there once');
	my %seen = map { $_ => 1 } $redis->ask('XRANGE', 'told', '-', '+') =~ /"id":\s*(\d+)/g;
	is(scalar(keys %seen), 2000, 'Redis: of each row');
	eval { $asked->quit };
	redis_whole();
	answer($node, qq(SELECT ordflow.drop_sync('$_'))) for qw(told cached whole_cached);
	becomes($node, q(SELECT count(*) FROM ordflow.sync_pulls WHERE server = 'cache'), 0,
		'Redis: dropped');
	is(join(' ', $redis->keys_like('ordflow:*')), '', 'Redis: nothing of ours is left');
	return;
}

# Keys of rows that are gone go; others' that begin like ours stay.
sub redis_whole
{
	answer($node,
		'CREATE TABLE shop.whole_cached (id int, lang text, v int, PRIMARY KEY (id, lang));
		INSERT INTO shop.whole_cached SELECT i, $$en$$, i FROM generate_series(1, 3000) i');
	$redis->ask('SET', 'item:1:en:note', 'mine');
	$redis->ask('SET', 'item:77', 'mine');
	$redis->ask('HSET', 'item:9999:de', 'v', 'old');
	create_sync('whole_cached', 'full', { schedule => '@yearly' }, 'cache', 'item:{id}:{lang}');
	becomes($node, status('whole_cached', 'rows, last_run IS NOT NULL'), '3000|t',
		'Redis: a full copy is made at once');
	is($redis->ask('EXISTS', 'item:9999:de'), 0, 'Redis: what the source does not have is removed');
	answer($node, 'DELETE FROM shop.whole_cached WHERE id > 2');
	is(pull('whole_cached'), 2, 'Redis: a full copy');
	is(join(' ', $redis->keys_like('item:*')), 'item:1:en item:1:en:note item:2:en item:77',
		"Redis: what is gone is removed, and what is others' stays");
	return;
}

# ---- files ----

sub file_sync
{
	my ($name, $mode, $options) = @_;
	mkdir "$directory/$name";
	tables($name, 'timestamptz DEFAULT now()');
	answer($node, "CREATE SERVER $name FOREIGN DATA WRAPPER ordflow_script
		OPTIONS (path '$directory/$name', timeout '20')");
	create_sync($name, $mode, $options, $name, "$name:{id}");
	return;
}

sub outcomes
{
	my ($name, @lines) = @_;
	my $file = "$directory/$name/outcomes";
	PostgreSQL::Test::Utils::append_to_file("$file.mine", join('', map { "$_\n" } @lines));
	rename "$file.mine", $file or die "rename: $!";
	return;
}

# What has arrived: op, key, and the column v, in order.
sub arrived
{
	my ($name) = @_;
	my ($length) = PostgreSQL::Test::Utils::slurp_file("$directory/$name/position") =~ /^(\d+)/;
	my $text = substr PostgreSQL::Test::Utils::slurp_file("$directory/$name/items"), 0, $length;
	return join ', ', map { join ' ', $_->{op}, $_->{key}, $_->{fields}{v} // () }
	  map { decode_json($_) } split /\n/, $text;
}

sub script_fails
{
	file_sync('filed', 'scheduled');
	outcomes('filed', ('retry busy') x 3, 'reject 1 no such color', 'done');
	answer($node, 'INSERT INTO shop.filed VALUES (1, 1), (2, 2), (3, 3)');
	pull('filed');
	is(arrived('filed'), 'insert 1 1, insert 3 3', 'a file: busy thrice, then one is refused');
	is(answer($node, q(SELECT key, state, message FROM ordflow.sync_dead_letters
		WHERE name = 'filed')), '2|dead|no such color', 'a file: it is a dead letter');
	answer($node, 'UPDATE shop.filed SET v = 20, cursor = now() WHERE id = 2');
	pull('filed');
	answer($node, q(SELECT ordflow.replay_dead_letters('filed')));
	pull('filed');
	is(arrived('filed'), 'insert 1 1, insert 3 3, insert 2 2, put 2 20', 'a file: sent again');
	outcomes('filed', 'poison 5');
	answer($node, 'INSERT INTO shop.filed SELECT i, i FROM generate_series(4, 9) AS i');
	pull('filed');
	like(arrived('filed'), qr/put 4 4, put 6 6, put 7 7, put 8 8, put 9 9$/,
		'a file: nobody knows which: the one is found');
	outcomes('filed', 'misconfigured the password is wrong', 'moved');
	answer($node, 'UPDATE shop.filed SET v = 30, cursor = now() WHERE id = 3');
	raises($node, q(SELECT ordflow.run_sync('filed')), 'OF007', 'a file: somebody has to act');
	is(answer($node, status('filed', 'state, problem')), 'failed|the password is wrong',
		'a file: the status says so');
	becomes($node, status('filed', 'state, problem'), 'idle|', 'a file: tried again by itself');
	like(arrived('filed'), qr/put 9 9, put 3 30$/, 'a file: it is there, once');
	return;
}

# The process ends in the middle of a batch; PostgreSQL restarts all others.
sub script_crashes
{
	tables('crashed', 'timestamptz DEFAULT now()');
	answer($node, 'INSERT INTO shop.crashed SELECT i, i FROM generate_series(1, 45) AS i;
		DROP TABLE shop.crashed_copy');
	mkdir "$directory/crashed";
	outcomes('crashed', 'done', 'crash', 'done', 'crash');
	answer($node, "CREATE SERVER crashed FOREIGN DATA WRAPPER ordflow_script
		OPTIONS (path '$directory/crashed', timeout '20')");
	create_sync('crashed', 'scheduled', { batch_rows => 10, schedule => '1 second' },
		'crashed', 'crashed:{id}');
	my $lines = '';
	for (1 .. 600)
	{
		usleep(100_000);
		$lines = PostgreSQL::Test::Utils::slurp_file("$directory/crashed/outcomes");
		last if $lines !~ /^crash/m && is_up();
	}
	becomes($node, status('crashed', "state = 'idle' AND last_run IS NOT NULL"), 't',
		'killed in the middle of two batches: it ends');
	is(arrived('crashed'), join(', ', map { "insert $_ $_" } 1 .. 45),
		'killed in the middle of two batches: each once, in order');
	return;
}

sub script_is_cleared
{
	answer($node, q(SELECT ordflow.drop_sync('crashed')));
	becomes($node, q(SELECT count(*) FROM ordflow.sync_pulls WHERE server = 'crashed'), 0,
		'dropped: the row goes');
	ok(!-e "$directory/crashed/position", 'dropped: and what was kept at the target');
	return;
}

# Or put back: nothing that was sent is taken for there.
sub script_was_emptied
{
	file_sync('emptied', 'scheduled');
	answer($node, 'INSERT INTO shop.emptied VALUES (1, 1), (2, 2)');
	is(pull('emptied'), 2, 'before it is emptied');
	unlink map { "$directory/emptied/$_" } qw(position items);
	answer($node, 'INSERT INTO shop.emptied VALUES (3, 3)');
	is(pull('emptied'), 3, 'a target that was emptied is filled again');
	is(arrived('emptied'), 'insert 1 1, insert 2 2, insert 3 3', 'with everything');
	return;
}

# Background workers run tasks: as the owner of their kind, restricted, each in a transaction that
# ends the task too; they fail, time out, are cancelled and tried again, and the pool grows and
# shrinks with the work.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = server('main', 'max_worker_processes = 24', 'ordflow.task_workers_max = 4',
	'ordflow.task_worker_idle = 1s');
answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	CREATE ROLE owner LOGIN;
	CREATE ROLE clerk LOGIN;
	SELECT ordflow.grant_access(r::regrole, 'tasks') FROM unnest(ARRAY['owner', 'clerk']) AS r;
	CREATE TABLE treasure (gold int);
	INSERT INTO treasure VALUES (1);
	CREATE SCHEMA own AUTHORIZATION owner;
	SET ROLE owner;
	CREATE TABLE own.seen (task bigint, what text, who text, result text);
	CREATE FUNCTION own.tell(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO own.seen SELECT task_id, p::text, current_user, submitter::text
			FROM ordflow.current_task();
		RETURN jsonb_build_object('path', current_setting('search_path'), 'who', session_user);
	END $$;
	CREATE FUNCTION own.attack(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	DECLARE
		command text;
		result text;
	BEGIN
		FOREACH command IN ARRAY ARRAY['SET ROLE postgres', 'RESET ROLE',
			'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION postgres',
			'UPDATE public.treasure SET gold = 0', 'CREATE TEMP TABLE task_kinds (kind text)',
			'ALTER ROLE owner SUPERUSER', 'DELETE FROM ordflow.task_queue',
			'SELECT count(*) FROM ordflow.task_queue', 'COPY own.seen TO PROGRAM ''true''',
			'SELECT ordflow.complete_task(1, 1)',
			'LOAD ''dblink''', 'COMMIT'] LOOP
			BEGIN
				EXECUTE command;
				result := 'done';
			EXCEPTION WHEN OTHERS THEN
				result := SQLSTATE;
			END;
			INSERT INTO own.seen VALUES (0, command, current_user, result);
		END LOOP;
		PERFORM set_config('search_path', 'own', false);
		RETURN NULL;
	END $$;
	CREATE FUNCTION own.work(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO own.seen (task, what) SELECT task_id, 'work' FROM ordflow.current_task();
		PERFORM pg_sleep((p ->> 'sleep')::float8);
		IF p ? 'error' THEN RAISE EXCEPTION 'no %', p ->> 'error' USING ERRCODE = 'P0007'; END IF;
		RETURN p;
	END $$;
	SELECT ordflow.define_task('tell', 'own.tell(jsonb)');
	SELECT ordflow.define_task('attack', 'own.attack(jsonb)');
	SELECT ordflow.define_task('work', 'own.work(jsonb)',
		'{"max_attempts": 3, "backoff": "1 ms", "timeout": "2 s"}');
	SELECT ordflow.define_task('quick', 'own.work(jsonb)', '{"short": true, "max_attempts": 1}');
	SELECT ordflow.grant_kind('tell', 'clerk');
SQL

# who runs it, and who is told to have submitted it
my $tell = answer($node, "SELECT ordflow.submit_task('tell', '1')");
my $clerks = answer($node, "SET ROLE clerk; SELECT ordflow.submit_task('tell', '2')");
my $batch = answer($node, "SET ROLE clerk;
	SELECT ordflow.submit_batch('tell', ARRAY['3', '4']::jsonb[])");
is(answer($node, "SELECT ordflow.wait_batch($batch, '60 s')"), 't', 'a batch ends');
becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE state = 'succeeded'", 4, 'tasks end');
is(answer($node, 'SELECT what, who, result FROM own.seen ORDER BY what'),
	"1|owner|postgres\n2|owner|clerk\n3|owner|clerk\n4|owner|clerk",
	'handlers run as the owner of the kind, and are told the submitter');
is(answer($node, "SELECT DISTINCT result FROM ordflow.tasks"),
	'{"who": "owner", "path": "pg_catalog, pg_temp"}',
		'with a search_path of ours, logged in as it');

# what it may not do, whoever submits it
answer($node, "DELETE FROM own.seen; SELECT ordflow.submit_task('attack')");
becomes($node, "SELECT state FROM ordflow.tasks WHERE kind = 'attack'", 'succeeded',
	'an attack ends');
is(answer($node, "SELECT what, result FROM own.seen WHERE result = 'done'"), '',
	'nothing of it is allowed');
is(answer($node, 'SELECT DISTINCT who FROM own.seen'), 'owner', 'and it is nobody else meanwhile');
is(answer($node, 'SELECT gold FROM treasure'), 1, 'the treasure is there');
$tell = answer($node, "SELECT ordflow.submit_task('tell', '5')");
becomes($node, "SELECT result ->> 'path' FROM ordflow.tasks WHERE task_id = $tell",
	'pg_catalog, pg_temp', 'what it has set is set no more');

# errors, timeouts
answer($node, 'DELETE FROM own.seen');
my $bad = answer($node, q(SELECT ordflow.submit_task('work', '{"sleep": 0, "error": "paper"}')));
becomes($node, "SELECT state, attempts, sqlstate, error FROM ordflow.tasks WHERE task_id = $bad",
	'dead|3|P0007|no paper', 'a task that fails is dead after max_attempts');
is(answer($node, 'SELECT count(*) FROM own.seen'), 0, 'what its attempts wrote is rolled back');
answer($node, q(SELECT ordflow.define_task('work', 'own.work(jsonb)',
	'{"max_attempts": 1, "timeout": "100 ms"}')));
my $slow = answer($node, q(SELECT ordflow.submit_task('work', '{"sleep": 60}')));
becomes($node, "SELECT state, sqlstate, error FROM ordflow.tasks WHERE task_id = $slow",
	'dead|57014|the handler ran longer than its timeout of 100 ms', 'one that takes too long too');
my $short = answer($node, q(SELECT ordflow.submit_batch('quick', array_agg(CASE i WHEN 50
	THEN '{"sleep": 0, "error": "ink"}' ELSE '{"sleep": 0}' END::jsonb)) FROM generate_series(1,
		100) AS i));
becomes($node, "SELECT succeeded, dead, state FROM ordflow.batches WHERE batch_id = $short",
	'99|1|finished', 'of short ones that share a transaction the bad one alone fails');
is(answer($node, 'SELECT count(*) FROM own.seen'), 99, 'and leaves nothing');

# what would be checked at the commit, as nobody in particular, is refused
answer($node, <<'SQL');
	SET ROLE owner;
	CREATE TABLE own.late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
	INSERT INTO own.late VALUES (1);
	CREATE FUNCTION own.late(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN INSERT INTO own.late VALUES (p::int); RETURN NULL; END $$;
	SELECT ordflow.define_task('late', 'own.late(jsonb)', '{"short": true, "max_attempts": 1}');
	SELECT ordflow.submit_batch('late', ARRAY['1', '2']::jsonb[]);
SQL
becomes($node, "SELECT payload, state, sqlstate FROM ordflow.tasks WHERE kind = 'late'
	AND state <> 'queued'
	AND state <> 'running' ORDER BY 1", "1|dead|42501\n2|succeeded|",
		'a deferred trigger is refused');

# a commit that fails: the last of a batch cannot submit on_finish
answer($node, <<'SQL');
	CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
	CREATE TRIGGER refuse BEFORE INSERT ON ordflow.task_queue_1 FOR EACH ROW
		WHEN (NEW.payload ? 'succeeded') EXECUTE FUNCTION refuse();
SQL
my $stuck = answer($node, q(SELECT ordflow.submit_batch('quick',
	array_fill('{"sleep": 0}'::jsonb, ARRAY[20]), '{"on_finish": "tell"}')));
becomes($node, "SELECT succeeded, state FROM ordflow.batches WHERE batch_id = $stuck", '19|running',
	'a group that cannot be committed is run again one by one');
answer($node, 'DROP TRIGGER refuse ON ordflow.task_queue_1');
becomes($node, "SELECT state FROM ordflow.batches WHERE batch_id = $stuck", 'finished',
	'and the one in the way again and again');
becomes($node, "SELECT result ->> 'who' FROM ordflow.tasks WHERE task_id =
	(SELECT on_finish_task FROM ordflow.batches WHERE batch_id = $stuck)", 'owner',
		'on_finish runs');

# a handler that goes away
answer($node, "SELECT ordflow.define_task('work', 'own.work(jsonb)',
	'{\"max_attempts\": 2, \"backoff\": \"1 ms\"}');
	DROP FUNCTION own.attack(jsonb); SELECT ordflow.submit_task('attack')");
becomes($node, "SELECT sqlstate FROM ordflow.tasks WHERE kind = 'attack' AND attempts > 0
	AND state <> 'succeeded'", '42883', 'a handler that is gone is a failed attempt');
like(answer($node, "SELECT problem FROM ordflow.doctor() WHERE object = 'kind attack'"),
	qr/does not exist/, 'and the doctor says so');

# cancelling what runs
answer($node, 'DELETE FROM own.seen');
my $long = answer($node, q(SELECT ordflow.submit_task('work', '{"sleep": 50}')));
becomes($node, "SELECT state FROM ordflow.tasks WHERE task_id = $long", 'running', 'it runs');
is(answer($node, "SELECT mode FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 6
	AND objid = $long"), 'ExclusiveLock', 'under an advisory lock');
answer($node, "BEGIN; SELECT ordflow.cancel_task($long); ROLLBACK");
is(answer($node, "SELECT state FROM ordflow.tasks WHERE task_id = $long"), 'running',
	'a cancel that is rolled back interrupts nobody');
is(answer($node, "SELECT ordflow.cancel_task($long)"), 1, 'one that is committed');
becomes($node, "SELECT count(*) FROM pg_locks WHERE objid = $long AND objsubid = 6", 0, 'does');
is(answer($node, "SELECT state, attempts FROM ordflow.tasks WHERE task_id = $long"),
	'cancelled|0', 'it is cancelled');
my $many = answer($node, q(SELECT ordflow.submit_batch('work', array_fill('{"sleep": 50}'::jsonb,
	ARRAY[50]))));
becomes($node, "SELECT running FROM ordflow.batches WHERE batch_id = $many", 4,
	'four run at a time');
is(answer($node, "SELECT count(*), count(*) FILTER (WHERE state = 'running')
	FROM ordflow.workers WHERE worker LIKE 'pool owner%'"), '4|4', 'by as many workers');
is(answer($node, "SELECT ordflow.cancel_batch($many)"), 50, 'a batch is cancelled');
becomes($node, "SELECT running, cancelled, state FROM ordflow.batches WHERE batch_id = $many",
	'0|50|cancelled', 'with all that ran');
is(answer($node, 'SELECT count(*) FROM own.seen'), 0, 'and nothing of it is there');

# the pool goes when there is nothing to do, and a kind that is paused starts nobody
becomes($node, "SELECT count(*) FROM ordflow.workers WHERE worker LIKE 'pool%'", 0,
	'workers that have nothing to do go');
answer($node, "SELECT ordflow.pause_kind('tell'); SELECT ordflow.submit_task('tell', '6')");
usleep(300_000);
is(answer($node, "SELECT count(*) FROM ordflow.workers WHERE worker LIKE 'pool%'"), 0,
	'a kind that is paused needs nobody');
answer($node, "SELECT ordflow.resume_kind('tell')");
becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE payload = '6' AND state = 'succeeded'", 1,
	'one that is resumed does');

# later, and a worker that is told to end
answer($node, "SELECT ordflow.submit_task('tell', '7',
	jsonb_build_object('run_at', clock_timestamp() + interval '300 ms'))");
is(answer($node, "SELECT state FROM ordflow.tasks WHERE payload = '7'"), 'queued', 'not yet');
becomes($node, "SELECT started_at >= run_at FROM ordflow.tasks WHERE payload = '7'
	AND state = 'succeeded'",
	't', 'in its time');
$long = answer($node, q(SELECT ordflow.submit_task('work', '{"sleep": 1}')));
becomes($node, "SELECT state FROM ordflow.tasks WHERE task_id = $long", 'running', 'it runs');
answer($node, "SELECT pg_terminate_backend(pid) FROM ordflow.workers WHERE worker LIKE 'pool%'");
becomes($node, "SELECT state, attempts FROM ordflow.tasks WHERE task_id = $long", 'succeeded|1',
	'a task whose worker is terminated runs again, and that was no attempt');
# a handler that cancels its own task, and one that cancels the next of its group
answer($node, <<'SQL');
	DELETE FROM own.seen;
	SET ROLE owner;
	CREATE FUNCTION own.quit(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO own.seen (task, what) SELECT task_id, 'quit' FROM ordflow.current_task();
		PERFORM ordflow.cancel_task(task_id + p::int) FROM ordflow.current_task() WHERE p <> '2';
		RETURN p;
	END $$;
	SELECT ordflow.define_task('quit', 'own.quit(jsonb)');
	SELECT ordflow.define_task('next', 'own.quit(jsonb)', '{"short": true}');
	SELECT ordflow.submit_task('quit', '0');
	SELECT ordflow.submit_batch('next', array_fill('1'::jsonb, ARRAY[40]) || '2'::jsonb);
SQL
becomes($node, "SELECT state FROM ordflow.tasks WHERE kind = 'quit'", 'cancelled',
	'a handler may cancel its own task');
becomes($node, "SELECT queued, succeeded + cancelled, state FROM ordflow.batches
	WHERE kind = 'next'",
	'0|41|finished', 'or the next one');
is(answer($node, "SELECT count(*) FROM own.seen"), answer($node, "SELECT count(*) FROM ordflow.tasks
	WHERE kind = 'quit' OR kind = 'next' AND state = 'succeeded'"),
	'what those wrote that ran is there, of the others nothing');
is(answer($node, "SELECT sum(running) FROM ordflow.task_lanes"), 0, 'nobody holds anything');

# an owner as whom no worker can log in
answer($node, q(CREATE ROLE mute; CREATE FUNCTION mute(p jsonb) RETURNS jsonb LANGUAGE sql RETURN p;
	ALTER FUNCTION mute(jsonb) OWNER TO mute));
my $old = answer($node, "SELECT current_setting('server_version_num')::int < 170000") eq 't';
raises($node, "SELECT ordflow.define_task('mute', 'mute(jsonb)')", $old ? '42501' : '',
	'before PostgreSQL 17 the owner of a handler must be allowed to log in');
is(worker_complaints($node), '', 'no worker has anything to complain of');
done_testing();

sub usleep { return Time::HiRes::usleep(@_); }

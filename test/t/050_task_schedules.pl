# Schedules fire in their time, once, whatever is killed: the task and the row that says so are one
# commit. What comes too late goes by misfire, what would overlap by overlap.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = server('main', 'fsync = on', 'max_worker_processes = 24', 'restart_after_crash = on');
answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	CREATE ROLE clerk LOGIN;
	SELECT ordflow.grant_access('clerk', 'tasks');
	CREATE FUNCTION work(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep((p ->> 'sleep')::float8);
		RETURN NULL;
	END $$;
	SELECT ordflow.define_task('work', 'work(jsonb)'), ordflow.define_task('service');
	SELECT ordflow.grant_kind('service', 'clerk');
	SELECT ordflow.schedule_task('each', '1 second', 'work', '{"sleep": 0}');
SQL
my $fired = "SELECT count(*) FROM ordflow.tasks WHERE kind = 'work' AND state = 'succeeded'";
$node->poll_query_until('postgres', "SELECT ($fired) >= 3") or die 'it does not fire';
is(answer($node, "SELECT count(*)
	FILTER (WHERE started_at < run_at), count(DISTINCT run_at) = count(*),
	bool_and(extract(epoch FROM run_at)::numeric % 1 = 0) FROM ordflow.tasks"), '0|t|t',
	'it fires each second, once, not early');
cmp_ok(answer($node, 'SELECT max(extract(epoch FROM submitted_at - run_at)) FROM ordflow.tasks'),
	'<',
	1, 'and in its time');

# killed again and again: each second has its task, but for what was past when the server was back
answer($node, "SELECT ordflow.schedule_task('all', '1 second', 'service', '{}',
	'{\"misfire\": \"all\", \"overlap\": \"allow\"}')");
my $since = answer($node, "SELECT last_slot FROM ordflow.task_schedules WHERE name = 'all'");
for (1 .. 12)
{
	usleep(300_000 + int rand 400_000);
	$node->stop('immediate');
	$node->start;
	usleep(200_000);
	answer($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE backend_type = 'ordflow coordinator'");
}
usleep(1_500_000);
is(answer($node, "SELECT ordflow.unschedule_task('all'), ordflow.unschedule_task('each')"), 't|t',
	'they are ended');
is(answer($node, "SELECT count(*) = count(DISTINCT run_at),
	count(*) = extract(epoch FROM max(run_at) - min(run_at)) + 1,
	min(run_at) - '$since' <= interval '1 s' FROM ordflow.tasks WHERE kind = 'service'"), 't|t|t',
	'through 24 kills none is lost, none doubled');

# misfire: what became of the time while nothing ran
answer($node, q(DELETE FROM ordflow.task_queue; SELECT ordflow.deactivate()));
answer($node, "SELECT ordflow.schedule_task('$_', '1 second', 'service', to_jsonb('$_'::text),
	'{\"misfire\": \"$_\", \"overlap\": \"allow\"}')") for qw(skip once all);
answer($node, "UPDATE ordflow.task_schedules
	SET last_slot = date_trunc('second', now()) - interval '1 hour'");
my $woke = answer($node, 'SELECT ordflow.activate(); SELECT clock_timestamp()') =~ s/^\n//r;
becomes($node, "SELECT count(*) >= 3550 FROM ordflow.tasks WHERE payload = '\"all\"'", 't',
	'misfire all: each');
is(answer($node, "SELECT payload #>> '{}', count(*) FROM ordflow.tasks
	WHERE run_at < '$woke'::timestamptz - interval '6 s' AND payload <> '\"all\"' GROUP BY 1"), '',
	'skip: none; once: none but the last');
cmp_ok(answer($node, "SELECT count(*) FROM ordflow.tasks WHERE payload = '\"once\"'
	AND run_at <= '$woke'::timestamptz - interval '4 s'"), '<=', 2, 'once: the last one');
answer($node, "SELECT ordflow.unschedule_task(name) FROM ordflow.schedules");

# overlap, of a task that takes longer than the time between two
answer($node, 'DELETE FROM ordflow.task_queue');
answer($node, "SELECT ordflow.schedule_task('$_', '1 second', 'work', jsonb_build_object('sleep',
	2.5,
	'how', '$_'), '{\"overlap\": \"$_\"}')") for qw(skip queue allow);
usleep(6_500_000);
my $running = "SELECT count(*) FROM ordflow.tasks WHERE payload ->> 'how' =";
cmp_ok(answer($node, "$running 'allow'"), '>=', 5, 'allow: each in its time');
cmp_ok(answer($node, "$running 'skip'"), '<=', 3,
	'skip: those that come while it runs are dropped');
cmp_ok(answer($node, "$running 'queue'"), '<=', 3, 'queue: they wait');
is(answer($node, "SELECT pending > 0 FROM ordflow.schedules WHERE name = 'queue'"), 't',
	'and are counted');
answer($node, "SELECT ordflow.unschedule_task(name) FROM ordflow.schedules WHERE name <> 'queue'");
is(answer($node, "SELECT count(*) FROM ordflow.tasks a JOIN ordflow.tasks b ON a.task_id < b.task_id
	AND a.finished_at > b.started_at WHERE a.payload ->> 'how' = 'queue'
		AND b.payload ->> 'how' = 'queue'
	OR a.payload ->> 'how' = 'skip' AND b.payload ->> 'how' = 'skip'"), 0,
		'none runs beside its like');
answer($node, "SELECT ordflow.unschedule_task('queue')");

# who may not submit any more fires no more, and nobody else is held up
answer($node, q(SET ROLE clerk; SELECT ordflow.schedule_task('clerks', '1 second', 'service',
	'"clerk"')));
$node->poll_query_until('postgres', q(SELECT count(*) > 0 FROM ordflow.tasks
	WHERE payload = '"clerk"'))
  or die 'it does not fire';
is(answer($node, q(SELECT DISTINCT submitter FROM ordflow.tasks WHERE payload = '"clerk"')),
	'clerk',
	'a schedule submits as who made it');
answer($node, q(SELECT ordflow.revoke_kind('service', 'clerk');
	SELECT ordflow.complete_task(task_id, token) FROM ordflow.claim_tasks('service', 10000)));
my $then = answer($node, q(SELECT count(*) FROM ordflow.tasks WHERE payload = '"clerk"'));
usleep(2_200_000);
is(answer($node, q(SELECT count(*) FROM ordflow.tasks WHERE payload = '"clerk"')), $then,
	'without the grant it does not');
is(worker_complaints($node), '', 'no worker has anything to complain of');
done_testing();

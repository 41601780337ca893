# Copies of a database with tasks: a dump, a parallel one and a TEMPLATE hold all of them, and sleep
# until somebody wakes them; rows that are written by hand are found.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = server('main', 'max_worker_processes = 24');
my $dir = PostgreSQL::Test::Utils::tempdir;
answer($node, 'CREATE DATABASE shop');
answer($node, <<'SQL', 'shop');
	CREATE EXTENSION ordflow;
	CREATE TABLE done (task bigint);
	CREATE FUNCTION work(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		IF p = '"bad"' THEN RAISE 'bad'; END IF;
		INSERT INTO public.done SELECT task_id FROM ordflow.current_task();
		RETURN p;
	END $$;
	SELECT ordflow.define_task('work', 'work(jsonb)', '{"max_attempts": 1}');
	SELECT ordflow.define_task('service', NULL, '{"per_key": 1}'), ordflow.define_task('end',
		'work(jsonb)');
	SELECT ordflow.submit_batch('work', ARRAY['1', '"bad"', '3']::jsonb[], '{"on_finish": "end"}');
SQL
becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE state IN ('succeeded', 'dead')", 4,
	'some tasks are done', 'shop');
answer($node, <<'SQL', 'shop');
	SELECT ordflow.pause_kind('work');
	SELECT ordflow.submit_batch('work', array_fill('"later"'::jsonb, ARRAY[500]),
		'{"on_finish": "end"}');
	SELECT ordflow.submit_task('work', '"far"',
		jsonb_build_object('run_at', clock_timestamp() + interval '5 days'));
	SELECT ordflow.submit_task('service', to_jsonb(n), jsonb_build_object('key', 'k', 'unique_key',
		'u' || n))
		FROM generate_series(1, 3) AS n;
	SELECT ordflow.submit_shards('service', 2);
	SELECT ordflow.schedule_task('each second', '1 second', 'service');
	SELECT ordflow.unschedule_task('each second');
	SELECT ordflow.schedule_task('nightly', '@daily', 'service');
	SELECT ordflow.fail_task(task_id, token, 'x', '1 h') FROM ordflow.claim_tasks('service');
	SELECT ordflow.grant_kind('service', 'pg_monitor');
SQL
my $tables = q(SELECT count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM );
my $facts = join ';', map { "$tables ordflow.$_ AS t" } qw(task_kinds task_grants task_queue
	task_outcomes task_attempts task_batches task_batch_ends task_unique task_schedules);
my $before = answer($node, $facts, 'shop');

# as it stands in the views, but for what is of one database
my $seen = q(SELECT kind, state, count(*), sum(attempts) FROM ordflow.tasks GROUP BY 1, 2
	ORDER BY 1, 2;
	SELECT kind, total, queued, succeeded, dead, state FROM ordflow.batches ORDER BY batch_id;
	SELECT kind, cause, error FROM ordflow.dead_tasks);
my $view = answer($node, $seen, 'shop');
answer($node, 'CREATE DATABASE template_copy TEMPLATE shop');
$node->command_ok([ 'pg_dump', '-Fd', '-j4', '-f', "$dir/dump", 'shop' ], 'pg_dump -j 4');
answer($node, 'CREATE DATABASE dump_copy');
$node->command_ok([ 'pg_restore', '-j4', '-d', 'dump_copy', "$dir/dump" ], 'pg_restore -j 4');
$node->command_ok([ 'pg_dump', '-f', "$dir/plain.sql", 'shop' ], 'pg_dump');
answer($node, 'CREATE DATABASE plain_copy');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/plain.sql", 'plain_copy' ],
	'psql -f');

for my $copy (qw(template_copy dump_copy plain_copy))
{
	is(answer($node, $facts, $copy), $before, "$copy: the rows are there");
	is(answer($node, $seen, $copy), $view, "$copy: and what they mean");
	answer($node, "SELECT ordflow.resume_kind('work'); SELECT ordflow.define_task('new');
		SELECT ordflow.submit_task('work', '\"new\"')", $copy);
	usleep(300_000);
	is(answer($node, "SELECT ordflow.is_active('task'), count(*) FROM ordflow.tasks WHERE
		state = 'running' OR state = 'succeeded'", $copy), 'f|3', "$copy: it sleeps");
	is(answer($node, "SELECT count(*) FROM ordflow.claim_tasks('service', 10)", $copy), 0,
		"$copy: gives nothing out");
	like(answer($node, "SELECT problem FROM ordflow.doctor() WHERE object = 'ordflow.task_queue'",
		$copy),
		qr/no worker acts/, "$copy: the doctor says so");
	is(answer($node, "SELECT state FROM ordflow.schedules", $copy), 'inactive',
		"$copy: schedules too");
	answer($node, 'SELECT ordflow.activate()', $copy);
	becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE kind = 'work'
		AND state = 'succeeded'", 503,
		"$copy: wakes, and does what was queued", $copy);
	becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE kind = 'end' AND state = 'succeeded'",
		2,
		"$copy: on_finish too, once", $copy);
	is(answer($node, "SELECT count(*) FROM ordflow.claim_tasks('service', 10)", $copy), 3,
		"$copy: one of the key, two shards");
	is(answer($node, "SELECT ordflow.submit_task('service', '9', '{\"unique_key\": \"u2\"}') =
		(SELECT task_id FROM ordflow.tasks WHERE unique_key = 'u2')", $copy), 't',
		"$copy: unique keys hold");
	is(answer($node, 'SELECT count(*), count(DISTINCT task) FROM done', $copy), '505|505',
		"$copy: each has left its row once");
}
is(answer($node, $facts, 'shop'), $before, 'of the first one nothing was taken');

# rows written by hand, by who may: found, though no function of ours has told of them
answer($node, <<'SQL', 'plain_copy');
	INSERT INTO ordflow.task_queue (kind_id, payload) SELECT kind_id, '"by hand"'
		FROM ordflow.task_kinds
	WHERE kind = 'work';
SQL
becomes($node, q(SELECT state FROM ordflow.tasks WHERE payload = '"by hand"'), 'succeeded',
	'a row that was inserted by hand', 'plain_copy');
answer($node, q(DELETE FROM done; DELETE FROM ordflow.task_outcomes o USING ordflow.task_queue q
	WHERE q.task_id = o.task_id AND q.payload = '"by hand"'), 'plain_copy');
becomes($node, 'SELECT count(*) FROM done', 1, 'an outcome that was deleted by hand: it runs again',
	'plain_copy');

# dropped and made anew while sessions know the old one
answer($node, 'DROP EXTENSION ordflow; CREATE EXTENSION ordflow', 'plain_copy');
answer($node, "SELECT ordflow.define_task('work', 'work(jsonb)');
	SELECT ordflow.submit_task('work', '1')",
	'plain_copy');
becomes($node, 'SELECT state FROM ordflow.tasks', 'succeeded', 'a new extension', 'plain_copy');
answer($node, "DROP DATABASE $_") for qw(template_copy dump_copy plain_copy shop);
is(worker_complaints($node), '', 'no worker has anything to complain of');
done_testing();

# Finished tasks go when their time is over, without leaving dead rows: partitions take turns.
# What is open, dead or to be kept longer stays. A snapshot that is held delays that, and nothing
# else.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = server('main', 'max_worker_processes = 24', 'ordflow.task_retention = 3s',
	'ordflow.task_worker_idle = 2s', 'autovacuum = off');
answer($node, <<'SQL');
	CREATE EXTENSION ordflow;
	CREATE FUNCTION work(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		IF p = '"bad"' THEN RAISE 'bad'; END IF;
		RETURN p;
	END $$;
	SELECT ordflow.define_task('work', 'work(jsonb)', '{"short": true, "max_attempts": 1}');
	SELECT ordflow.define_task('kept', 'work(jsonb)', '{"retention": "1 day"}');
	SELECT ordflow.define_task('service'), ordflow.define_task('end', 'work(jsonb)');
	SELECT ordflow.submit_batch('work', array_agg(to_jsonb(i))) FROM generate_series(1, 5000) AS i;
	SELECT ordflow.submit_task('work', '"bad"'), ordflow.submit_task('kept', '"kept"');
	SELECT ordflow.submit_batch('service', ARRAY['"open"', '"held"', '"done"']::jsonb[],
		'{"on_finish": "end"}');
	SELECT ordflow.submit_task('service', '"u"', '{"unique_key": "u"}');
	SELECT ordflow.submit_batch('service', ARRAY['"cancelled"', '"cancelled"']::jsonb[]);
	SELECT ordflow.cancel_batch(max(batch_id)) FROM ordflow.batches;
SQL
my $service = $node->background_psql('postgres');
$service->query(q(CREATE TEMP TABLE c AS SELECT * FROM ordflow.claim_tasks('service', 3)));
$service->query(q(SELECT ordflow.complete_task(task_id, token) FROM c WHERE payload = '"done"'));
$service->query(q(SELECT ordflow.release_task(task_id, token) FROM c WHERE payload = '"open"'));
my $holder = $node->background_psql('postgres');
$holder->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM ordflow.task_queue');
becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE kind = 'work' AND state IN ('succeeded',
	'dead')", 5001,
	'tasks are done');

# the view forgets them, though the snapshot keeps the rows
my $open = "SELECT payload #>> '{}', state FROM ordflow.tasks ORDER BY 1";
my $rest = join "\n", 'bad|dead', 'done|succeeded', 'held|running', 'kept|succeeded',
	'open|queued', 'u|queued';
becomes($node, "$open", join("\n", grep { !/^done/ } split /\n/, $rest),
	'what is over is forgotten');
is(answer($node, 'SELECT count(*) FROM ordflow.task_attempts'), 1, 'with what hung on it');
is(answer($node, 'SELECT array_agg(total ORDER BY batch_id) FROM ordflow.batches'), '{3}',
	'batches too, but for those with an open task');
is($holder->query('SELECT count(*) FROM ordflow.task_queue'), 5008, 'an older snapshot sees all');
$holder->query('COMMIT');
becomes($node, "SELECT sum(pg_relation_size(format('ordflow.task_queue_%s', p))) < 100000
	FROM generate_series(1, 8) AS p", 't', 'when it is gone the disk is free');
$node->poll_query_until('postgres', 'SELECT count(*) = 0 FROM ordflow.task_segments
	WHERE retired_at IS NOT NULL');
is(answer($node, $open), join("\n", grep { !/^done/ } split /\n/, $rest),
	'nothing else has changed');

# what was copied goes on as if nothing had been
is($service->query(q(SELECT ordflow.complete_task(task_id, token) FROM c
	WHERE payload = '"held"')), 'applied',
	'a task that was held all the time is completed');
is($service->query(q(SELECT payload FROM ordflow.claim_tasks('service', 10))), qq("open"\n"u"),
	'those that were open are to be had');
is(answer($node, q(SELECT ordflow.submit_task('service', '"v"', '{"unique_key": "u"}') =
	(SELECT task_id FROM ordflow.tasks WHERE payload = '"u"'))), 't',
		'a unique key is still taken');
$service->query(q(SELECT ordflow.complete_task(t.task_id, x.token) FROM ordflow.tasks t,
	LATERAL (SELECT 0 AS token) x WHERE false));
$service->quit;
becomes($node, q(SELECT count(*) FROM ordflow.task_claims()), 0, 'the service is gone');
answer($node, q(SELECT ordflow.complete_task(task_id, token) FROM ordflow.claim_tasks('service',
	10)));
is(answer($node, "SELECT state, succeeded FROM ordflow.batches WHERE kind = 'service'
	AND total = 3"),
	'finished|3', 'the batch ends with what was done before');
becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE kind = 'end'", 1,
	'and on_finish is submitted');

# settings count at once; what is just being put back stays, though its time is over
my $retry = $node->background_psql('postgres');
$retry->query('BEGIN');
is($retry->query('SELECT ordflow.retry_task(task_id) FROM ordflow.dead_tasks'), 1,
	'a dead one is put back');
answer($node, $_)
  for "SELECT ordflow.define_task('kept', 'work(jsonb)')",
  "ALTER SYSTEM SET ordflow.task_dead_retention = '1s'",
  "ALTER SYSTEM SET ordflow.task_retention = '4s'",
  'SELECT pg_reload_conf()';
becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE kind = 'kept'", 0,
	'what was to be kept longer goes when it is not any more');
$retry->query('COMMIT');
$retry->quit;
becomes($node, "SELECT count(*) FROM ordflow.task_attempts WHERE cause = 'error'", 2,
	'and the dead one has been tried again');

# of a batch that is open all is kept that its figures need
answer($node, <<'SQL');
	SELECT ordflow.submit_batch('service', ARRAY['"a"', '"b"', '"c"']::jsonb[]);
	SELECT ordflow.cancel_task(max(task_id)) FROM ordflow.tasks WHERE payload = '"c"';
SQL
becomes($node, q(SELECT count(*) FROM ordflow.task_queue_0 WHERE payload IN ('"a"', '"b"', '"c"')),
	3, 'tasks of an open batch are kept');

# a server that starts again finds what is open in the parts that count
answer($node, q(SELECT ordflow.submit_batch('service', array_agg(to_jsonb(i)))
	FROM generate_series(1, 10) AS i));
$node->restart;
is(answer($node, q(SELECT count(*) FROM ordflow.claim_tasks('service', 100))), 12,
	'after a restart');
is(answer($node, 'SELECT queued + running, succeeded, cancelled FROM ordflow.batches
	ORDER BY batch_id DESC OFFSET 1 LIMIT 1'), '2|0|1', 'and figures as they were');

# no dead rows, however long it runs: parts take turns
answer($node, q(SELECT ordflow.submit_batch('work', array_agg(to_jsonb(i))) FROM generate_series(1,
	2000) AS i)),
  Time::HiRes::usleep(700_000) for 1 .. 10;
becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE kind = 'work' AND state = 'queued'", 0,
	'all is done');
is(answer($node, "SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables
	WHERE relname ~ '^task_(queue|outcomes)_[1-8]'"), 0,
		'no dead row in any part that takes turns');
becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE kind = 'work' AND state = 'succeeded'", 0,
	'and all of it goes');
is(worker_complaints($node), '', 'no worker has anything to complain of');
done_testing();

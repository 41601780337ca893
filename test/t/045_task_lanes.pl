# A kind with max_concurrent 4 never runs more than four at a time, whatever the number of workers,
# services and those who wait: counted in the handler itself. Keys and rates hold as well.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use Handler;
use Ordflow;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $handler = Handler::build();
plan skip_all => 'no C compiler, or no headers of the server' unless $handler;

my $node = server('main', 'max_connections = 120', 'max_worker_processes = 80',
	'ordflow.task_workers_min = 64', 'ordflow.task_workers_max = 64');
answer($node, <<"SQL");
	CREATE EXTENSION ordflow;
	CREATE FUNCTION counting(jsonb) RETURNS jsonb LANGUAGE c AS '$handler', 'test_count';
	CREATE FUNCTION counted() RETURNS text LANGUAGE c AS '$handler', 'test_counted';
	CREATE TABLE log (key text, n int, began timestamptz, ended timestamptz);
	CREATE FUNCTION keyed(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS \$\$
	DECLARE
		began timestamptz := clock_timestamp();
	BEGIN
		PERFORM pg_sleep(0.002);
		INSERT INTO public.log VALUES (p ->> 'key', (p ->> 'n')::int, began, clock_timestamp());
		RETURN NULL;
	END \$\$;
	SELECT ordflow.define_task('four', 'counting(jsonb)', '{"max_concurrent": 4}');
	SELECT ordflow.define_task('keyed', 'keyed(jsonb)', '{"per_key": 1}');
	SELECT ordflow.define_task('rate', 'keyed(jsonb)', '{"rate": 100}');
	SELECT ordflow.define_task('service', NULL, '{"max_concurrent": 4}');
SQL
becomes($node, "SELECT count(*) FROM ordflow.workers WHERE worker LIKE 'pool%' AND pid IS NOT NULL",
	64, 'sixty-four workers');
answer($node, "SELECT ordflow.submit_batch('four', array_fill('{}'::jsonb, ARRAY[2000]))");
becomes($node, "SELECT state FROM ordflow.batches WHERE kind = 'four'", 'finished', 'they do all');
is(answer($node, 'SELECT counted()'), '4 at once, 2000 in all',
	'four at once, never more, all once');

# each key in its order, one at a time; keys beside each other
answer($node, q(SELECT count(ordflow.submit_task('keyed', jsonb_build_object('key', k, 'n', n),
	jsonb_build_object('key', k))) FROM generate_series(1, 50) AS n, unnest(ARRAY['a', 'b',
		'c']) AS k));
becomes($node, "SELECT count(*) FROM ordflow.tasks WHERE kind = 'keyed' AND state = 'succeeded'",
	150,
	'tasks of keys');
is(answer($node, 'SELECT count(*)
	FROM (SELECT began < lag(ended) OVER w AS beside, n < lag(n) OVER w AS
	before FROM log WINDOW w AS (PARTITION BY key ORDER BY began)) AS x WHERE beside OR before'), 0,
	'no two of a key beside each other, none before its time');
is(answer($node, 'SELECT count(*) > 0 FROM log a JOIN log b ON a.key < b.key
	AND a.began < b.ended AND b.began < a.ended'), 't', 'different keys beside each other');

# a rate
answer($node, q(DELETE FROM log; SELECT ordflow.submit_batch('rate', array_fill('{}'::jsonb,
	ARRAY[150]))));
becomes($node, "SELECT state FROM ordflow.batches WHERE kind = 'rate'", 'finished', 'at a rate');
cmp_ok(answer($node, 'SELECT extract(epoch FROM max(began) - min(began)) FROM log'), '>=', 1.3,
	'no more than a hundred a second, but for those of the first tenth');

# services, of which many wait
answer($node, q(CREATE TABLE running (n int); INSERT INTO running
	VALUES (0); CREATE TABLE most (n int);
	SELECT ordflow.submit_batch('service', array_fill('{}'::jsonb, ARRAY[200]))));
my $claimer = <<'SQL';
DO $$
DECLARE
	c record;
	idle int := 0;
	held int;
BEGIN
	WHILE idle < 3 LOOP
		SELECT * INTO c FROM ordflow.claim_tasks('service', 1, wait => '300 ms');
		IF NOT FOUND THEN
			idle := idle + 1;
			COMMIT;
			CONTINUE;
		END IF;
		COMMIT;
		SELECT count(*) INTO held FROM ordflow.task_claims()
			JOIN ordflow.task_queue q USING (task_id)
			JOIN ordflow.task_kinds k ON k.kind_id = q.kind_id AND k.kind = 'service';
		INSERT INTO most VALUES (held);
		PERFORM ordflow.complete_task(c.task_id, c.token);
		COMMIT;
	END LOOP;
END $$;
SQL
is(join('', at_once($node, map { [ 'postgres', $claimer ] } 1 .. 20)), '', 'twenty services');
is(answer($node, "SELECT succeeded FROM ordflow.batches WHERE kind = 'service'"), 200, 'do all');
cmp_ok(answer($node, 'SELECT max(n) FROM most'), '<=', 4, 'four at once');
done_testing();

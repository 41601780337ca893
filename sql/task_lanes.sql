-- Which task comes next: by priority, then by number; within max_concurrent, rate and the keys' turns.
\a \t
\set VERBOSITY sqlstate
SELECT ordflow.define_task('tlan');
SELECT ordflow.submit_task('tlan', to_jsonb(p), jsonb_build_object('priority', p)) > 0 FROM unnest(ARRAY[0, 5, 9, 5, 0]) AS p;
SELECT payload FROM ordflow.claim_tasks('tlan', 3);
SELECT ordflow.submit_task('tlan', '"last, first"', '{"priority": 9}') > 0;
SELECT payload FROM ordflow.claim_tasks('tlan', 10);

-- max_concurrent: strict, and whoever ends makes room; so does a release
SELECT ordflow.define_task('tlan two', NULL, '{"max_concurrent": 2}');
SELECT ordflow.submit_batch('tlan two', ARRAY['1', '2', '3', '4']::jsonb[]) > 0;
CREATE TEMP TABLE c AS SELECT * FROM ordflow.claim_tasks('tlan two', 10);
SELECT payload FROM c;
SELECT count(*) FROM ordflow.claim_tasks('tlan two', 10);
SELECT count(*) FROM ordflow.claim_task((SELECT max(task_id) FROM ordflow.tasks WHERE kind = 'tlan two'));
SELECT ordflow.complete_task(task_id, token) FROM c WHERE payload = '1';
SELECT payload FROM ordflow.claim_tasks('tlan two', 10);
SELECT ordflow.release_task(task_id, token) FROM c WHERE payload = '2';
SELECT payload FROM ordflow.claim_tasks('tlan two', 10);

-- per_key: one of each key at a time, each key in its order; those without a key are free
SELECT ordflow.define_task('tlan key', NULL, '{"per_key": 1}');
SELECT ordflow.submit_task('tlan key', to_jsonb(k || n), jsonb_build_object('key', k)) > 0 FROM generate_series(1, 3) AS n, unnest(ARRAY['a', 'b']) AS k ORDER BY n, k;
SELECT ordflow.submit_task('tlan key', '"free"') > 0;
CREATE TEMP TABLE k AS SELECT * FROM ordflow.claim_tasks('tlan key', 10);
SELECT payload FROM k ORDER BY task_id;
SELECT count(*) FROM ordflow.claim_tasks('tlan key', 10);
SELECT busy_keys FROM ordflow.task_lanes WHERE kind = 'tlan key';
SELECT ordflow.complete_task(task_id, token) FROM k WHERE payload = '"a1"';
SELECT payload FROM ordflow.claim_tasks('tlan key', 10);
-- one that is given back comes before those that wait
SELECT ordflow.release_task(task_id, token) FROM k WHERE payload = '"b1"';
SELECT payload FROM ordflow.claim_tasks('tlan key', 10);
DISCARD ALL;
SELECT payload FROM ordflow.claim_tasks('tlan key', 10) ORDER BY payload;

-- rate: a burst of a tenth of a second, and no more at once
SELECT ordflow.define_task('tlan rate', NULL, '{"rate": 20}');
SELECT ordflow.submit_batch('tlan rate', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 20) AS i)) > 0;
SELECT count(*) BETWEEN 1 AND 4 AS few FROM ordflow.claim_tasks('tlan rate', 20);

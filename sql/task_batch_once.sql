-- Batches: several verbs in one transaction, and verbs for very many tasks in one statement.
\a \t
\set VERBOSITY sqlstate
SELECT ordflow.define_task('tonce', NULL, '{"max_attempts": 1}');
CREATE FUNCTION pg_temp.figures(b bigint) RETURNS TABLE (queued int, running int, succeeded int, dead int, cancelled int, state text)
LANGUAGE sql AS $$ SELECT queued, running, succeeded, dead, cancelled, state FROM ordflow.batches WHERE batch_id = b $$;
CREATE FUNCTION pg_temp.fail_all() RETURNS bigint
LANGUAGE sql AS $$ SELECT count(ordflow.fail_task(task_id, token, 'x')) FROM ordflow.claim_tasks('tonce', 10000) $$;

-- put back, and then cancelled
SELECT ordflow.submit_batch('tonce', ARRAY['1', '2']::jsonb[]) AS b \gset
SELECT pg_temp.fail_all();
SELECT * FROM pg_temp.figures(:b);
BEGIN;
SELECT ordflow.retry_batch(:b);
SELECT ordflow.cancel_batch(:b);
COMMIT;
SELECT * FROM pg_temp.figures(:b);
SELECT state FROM ordflow.tasks WHERE batch_id = :b;
SELECT count(*) FROM ordflow.claim_tasks('tonce');

-- cancelled, and then put back: that is refused
SELECT ordflow.submit_batch('tonce', ARRAY['1', '2']::jsonb[]) AS b \gset
SELECT ordflow.fail_task(task_id, token, 'x') FROM ordflow.claim_tasks('tonce');
SELECT first_task AS t FROM ordflow.task_batches WHERE batch_id = :b \gset
BEGIN;
SELECT ordflow.cancel_batch(:b);
SELECT ordflow.retry_batch(:b), ordflow.retry_task(:t), ordflow.cancel_task(:t + 1);
COMMIT;
SELECT * FROM pg_temp.figures(:b);

-- a dead task put back and cancelled: the end is written anew
SELECT ordflow.submit_batch('tonce', ARRAY['1', '2']::jsonb[]) AS b \gset
SELECT first_task AS t FROM ordflow.task_batches WHERE batch_id = :b \gset
SELECT pg_temp.fail_all();
BEGIN;
SELECT ordflow.retry_task(:t), ordflow.cancel_task(:t);
COMMIT;
SELECT * FROM pg_temp.figures(:b);
SELECT ordflow.wait_batch(:b, '0 s') AS ended;

-- the last task completed, and then the batch cancelled: nothing is left to be
SELECT ordflow.submit_batch('tonce', ARRAY['1']::jsonb[]) AS b \gset
BEGIN;
SELECT ordflow.complete_task(task_id, token) FROM ordflow.claim_tasks('tonce');
SELECT ordflow.cancel_batch(:b);
COMMIT;
SELECT * FROM pg_temp.figures(:b);

-- an empty one
BEGIN;
SELECT ordflow.submit_batch('tonce', '{}') AS b \gset
SELECT ordflow.cancel_batch(:b);
COMMIT;
SELECT * FROM pg_temp.figures(:b);

-- more tasks than the server has places for locks, and as many as a session may hold
SELECT count(ordflow.submit_task('tonce', to_jsonb(i))) FROM generate_series(1, 25000) AS i;
SELECT pg_temp.fail_all();
SELECT pg_temp.fail_all();
SELECT pg_temp.fail_all();
SELECT sum(ordflow.retry_task(task_id)) FROM ordflow.dead_tasks WHERE kind = 'tonce' AND batch_id IS NULL;
SELECT sum(ordflow.cancel_task(task_id)) FROM (SELECT task_id FROM ordflow.tasks WHERE kind = 'tonce' AND state = 'queued' LIMIT 10000) s;
SELECT count(*) FROM ordflow.tasks WHERE kind = 'tonce' AND state = 'queued';

-- Batches: progress, the end, on_finish once, cancel and retry.
\a \t
\set VERBOSITY sqlstate
SELECT ordflow.define_task('tbat', NULL, '{"max_attempts": 1}'), ordflow.define_task('tbat done');
CREATE FUNCTION pg_temp.progress(b bigint) RETURNS TABLE (queued int, running int, succeeded int, dead int, cancelled int, state text, ended boolean)
LANGUAGE sql AS $$ SELECT queued, running, succeeded, dead, cancelled, state, finished_at IS NOT NULL FROM ordflow.batches WHERE batch_id = b $$;
SELECT ordflow.submit_batch('tbat', ARRAY['1', '2', '3', '4']::jsonb[], '{"on_finish": "tbat done"}') AS b \gset
SELECT ordflow.wait_batch(:b, '0 s') AS ended;
CREATE TEMP TABLE c AS SELECT * FROM ordflow.claim_tasks('tbat', 3);
SELECT * FROM pg_temp.progress(:b);
SELECT ordflow.complete_task(task_id, token) FROM c WHERE payload = '1';
SELECT ordflow.fail_task(task_id, token, 'x') FROM c WHERE payload = '2';
SELECT * FROM pg_temp.progress(:b);

-- the last ones, first rolled back, then in one transaction
SELECT ordflow.complete_task(task_id, token) FROM c WHERE payload = '3';
BEGIN;
SELECT ordflow.complete_task(task_id, token) FROM ordflow.claim_tasks('tbat');
ROLLBACK;
SELECT count(*) FROM ordflow.tasks WHERE kind = 'tbat done';
SELECT * FROM pg_temp.progress(:b);
SELECT ordflow.complete_task(task_id, token) FROM ordflow.claim_tasks('tbat');
SELECT * FROM pg_temp.progress(:b);
SELECT ordflow.wait_batch(:b, '60 s') AS ended;
SELECT payload - 'batch_id' AS payload FROM ordflow.tasks WHERE kind = 'tbat done';
SELECT on_finish_task = (SELECT task_id FROM ordflow.tasks WHERE kind = 'tbat done') AS it FROM ordflow.batches WHERE batch_id = :b;

-- the dead one put back: the batch goes on, and its second end runs on_finish no more
SELECT ordflow.retry_batch(:b), ordflow.retry_batch(:b);
SELECT * FROM pg_temp.progress(:b);
SELECT ordflow.wait_batch(:b, '0 s') AS ended;
SELECT ordflow.complete_task(task_id, token) FROM ordflow.claim_tasks('tbat');
SELECT * FROM pg_temp.progress(:b);
SELECT count(*) FROM ordflow.tasks WHERE kind = 'tbat done';

-- cancelled: what is open is over, what is held turns stale, on_finish runs
SELECT ordflow.submit_batch('tbat', ARRAY['1', '2', '3']::jsonb[], '{"on_finish": "tbat done"}') AS b \gset
CREATE TEMP TABLE d AS SELECT * FROM ordflow.claim_tasks('tbat', 2);
SELECT ordflow.complete_task(task_id, token) FROM d WHERE payload = '1';
BEGIN;
SELECT ordflow.cancel_batch(:b);
ROLLBACK;
SELECT * FROM pg_temp.progress(:b);
SELECT ordflow.cancel_batch(:b), ordflow.cancel_batch(:b);
SELECT * FROM pg_temp.progress(:b);
SELECT payload, state FROM ordflow.tasks WHERE batch_id = :b ORDER BY task_id;
SELECT ordflow.complete_task(task_id, token) FROM d;
SELECT count(*) FROM ordflow.claim_tasks('tbat', 10);
SELECT ordflow.retry_batch(:b);
SELECT count(*) FROM ordflow.tasks WHERE kind = 'tbat done';
SELECT ordflow.wait_batch(:b, '60 s') AS ended;

-- what this transaction submits it cannot wait for
BEGIN;
SELECT ordflow.submit_batch('tbat', ARRAY['1']::jsonb[]) AS n \gset
SELECT ordflow.wait_batch(:n, '1 s');
ROLLBACK;

-- a batch whose progress nobody has asked for since it was pushed out of memory is counted anew
SELECT ordflow.submit_batch('tbat', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 1000) AS i)) AS m \gset
SELECT count(ordflow.complete_task(task_id, token)) FROM ordflow.claim_tasks('tbat', 600);
UPDATE ordflow.task_batches SET shards = shards WHERE batch_id = :m;
UPDATE ordflow.task_kinds SET notify = notify WHERE kind = 'tbat';
SELECT * FROM pg_temp.progress(:m);
SELECT count(ordflow.complete_task(task_id, token)) FROM ordflow.claim_tasks('tbat', 1000);
SELECT * FROM pg_temp.progress(:m);

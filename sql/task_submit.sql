-- submit_task(), submit_batch(), submit_shards(): all or nothing, started when the transaction has committed.
\a \t
\set VERBOSITY sqlstate
SELECT ordflow.define_task('tsub');
SELECT ordflow.define_task('tsub done');
SELECT ordflow.submit_task('tsub', '{"n": 1}') AS one \gset
SELECT ordflow.submit_batch('tsub', ARRAY['{"n": 2}', '"text"', 'null', '[1, 2]']::jsonb[], '{"priority": 9, "key": "k", "on_finish": "tsub done"}') AS b \gset
SELECT state, priority, key, payload, attempts, submitter = current_user AS mine, submitted_at IS NOT NULL AS dated, batch_id = :b AS in_batch, shard
FROM ordflow.tasks WHERE kind = 'tsub' ORDER BY task_id;
SELECT kind, total, queued, running, succeeded, failed, dead, cancelled, state, priority, key, on_finish, finished_at FROM ordflow.batches WHERE batch_id = :b;
SELECT array_agg(payload ORDER BY t.task_id - b.first_task) FROM ordflow.tasks t JOIN ordflow.batches b USING (batch_id) WHERE batch_id = :b;

-- what is not committed is not to be had
BEGIN;
SELECT ordflow.submit_task('tsub', '"rolled back"') > :one AS later;
SELECT count(*) FROM ordflow.claim_tasks('tsub', 100) WHERE payload = '"rolled back"';
ROLLBACK;
SELECT count(*) FROM ordflow.tasks WHERE kind = 'tsub' AND payload = '"rolled back"';
BEGIN;
SAVEPOINT s;
SELECT ordflow.submit_batch('tsub', ARRAY['"of the savepoint"']::jsonb[]) > :b AS later;
ROLLBACK TO s;
SELECT ordflow.submit_task('tsub', '"kept"') > 0;
COMMIT;
SELECT payload FROM ordflow.claim_tasks('tsub', 100) WHERE jsonb_typeof(payload) = 'string' ORDER BY payload;
DISCARD ALL;

-- an empty batch ends at once, and its on_finish is there
SELECT ordflow.submit_batch('tsub', '{}', '{"on_finish": "tsub done"}') AS e \gset
SELECT total, state, finished_at IS NOT NULL AS finished FROM ordflow.batches WHERE batch_id = :e;
SELECT payload - 'batch_id' AS payload, payload -> 'batch_id' = to_jsonb(:e) AS its FROM ordflow.claim_tasks('tsub done');

-- shards
SELECT ordflow.submit_shards('tsub', 3, '{"day": "today"}') AS s \gset
SELECT payload, shard, shards FROM ordflow.tasks WHERE batch_id = :s ORDER BY task_id;

-- unique_key: the open one is returned; when it has ended the key is free
SELECT ordflow.submit_task('tsub done', '1', '{"unique_key": "u"}') AS u \gset
SELECT ordflow.submit_task('tsub done', '2', '{"unique_key": "u"}') = :u AS the_same, ordflow.submit_task('tsub', '2', '{"unique_key": "u"}') <> :u AS of_another_kind;
SELECT ordflow.complete_task(task_id, token) FROM ordflow.claim_task(:u);
SELECT ordflow.submit_task('tsub done', '3', '{"unique_key": "u"}') > :u AS another;
SELECT count(*) FROM ordflow.tasks WHERE unique_key = 'u' AND kind = 'tsub done';

-- later: not to be had before
SELECT ordflow.define_task('tsub later');
SELECT ordflow.submit_task('tsub later', '1', jsonb_build_object('run_at', clock_timestamp() + interval '1 hour 1 minute')) > 0,
  ordflow.submit_task('tsub later', '2', jsonb_build_object('run_at', clock_timestamp() + interval '1 minute')) > 0,
  ordflow.submit_task('tsub later', '3', '{"run_at": "2020-01-01 00:00Z"}') > 0;
SELECT payload FROM ordflow.claim_tasks('tsub later', 10);
SELECT payload, state, run_at > clock_timestamp() AS later FROM ordflow.tasks WHERE kind = 'tsub later' ORDER BY task_id;
SELECT ready, later, running FROM ordflow.task_lanes WHERE kind = 'tsub later';

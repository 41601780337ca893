-- What becomes of tasks that fail: tried again after a backoff, dead at last, put back.
\a \t
\set VERBOSITY sqlstate
SELECT ordflow.define_task('tfin', NULL, '{"max_attempts": 3, "backoff": "1 hour"}');
SELECT ordflow.submit_batch('tfin', ARRAY['1', '2']::jsonb[]) AS b \gset
SELECT task_id, token FROM ordflow.claim_tasks('tfin') \gset
SELECT ordflow.fail_task(:task_id, :token, 'first');
SELECT state, attempts, error, sqlstate, run_at - clock_timestamp() BETWEEN interval '47 min' AND interval '73 min' AS backed_off FROM ordflow.tasks WHERE task_id = :task_id;
SELECT queued, running, failed, dead, state FROM ordflow.batches WHERE batch_id = :b;
SELECT count(*) FROM ordflow.claim_task(:task_id);

-- the time that the caller says wins; the third failure is the last
SELECT ordflow.define_task('tfin', NULL, '{"max_attempts": 3, "backoff": "1 ms"}');
CREATE FUNCTION pg_temp.fail(id bigint, error text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    c record;
BEGIN
    SELECT * INTO c FROM ordflow.claim_task(id);
    RETURN c.attempt || ' ' || ordflow.fail_task(id, c.token, error, '0 s');
END $$;
SELECT max(task_id) AS second FROM ordflow.tasks WHERE batch_id = :b \gset
SELECT pg_temp.fail(:second, 'a');
SELECT pg_temp.fail(:second, 'b');
SELECT pg_temp.fail(:second, repeat('x', 3000));
SELECT pg_temp.fail(:second, 'd');
SELECT task_id = :second AS it, attempts, cause, sqlstate, length(error), payload FROM ordflow.dead_tasks WHERE batch_id = :b;
SELECT attempt, cause, left(error, 1) AS error, retry_at IS NULL AS last FROM ordflow.task_attempts WHERE task_id = :second ORDER BY attempt;
SELECT queued, failed, dead, state FROM ordflow.batches WHERE batch_id = :b;
SELECT object, left(problem, 17) AS problem FROM ordflow.doctor() WHERE object = 'kind tfin';

-- put back: attempts are counted anew, once
SELECT ordflow.retry_task(:second), ordflow.retry_task(:second), ordflow.retry_task(:task_id);
SELECT state, attempts FROM ordflow.tasks WHERE task_id = :second;
SELECT queued, failed, dead, state FROM ordflow.batches WHERE batch_id = :b;
SELECT pg_temp.fail(:second, 'a');
SELECT ordflow.complete_task(task_id, token, '"at last"') FROM ordflow.claim_task(:second);
SELECT state, attempts, result FROM ordflow.tasks WHERE task_id = :second;
SELECT attempt, cause FROM ordflow.task_attempts WHERE task_id = :second ORDER BY attempt;

-- cancelled: of an open task, of one that is held; of one that is finished nothing
SELECT ordflow.cancel_task(:task_id), ordflow.cancel_task(:task_id), ordflow.cancel_task(:second);
SELECT queued, succeeded, dead, cancelled, state FROM ordflow.batches WHERE batch_id = :b;
SELECT ordflow.submit_task('tfin', '3', '{"unique_key": "u"}') AS u \gset
SELECT token FROM ordflow.claim_task(:u) \gset
BEGIN;
SELECT ordflow.cancel_task(:u);
SELECT ordflow.complete_task(:u, :token);
ROLLBACK;
SELECT state FROM ordflow.tasks WHERE task_id = :u;
SELECT ordflow.cancel_task(:u);
SELECT state FROM ordflow.tasks WHERE task_id = :u;
SELECT ordflow.complete_task(:u, :token), ordflow.fail_task(:u, :token, 'x'), ordflow.release_task(:u, :token);
SELECT ordflow.retry_task(:u);
SELECT ordflow.submit_task('tfin', '3', '{"unique_key": "u"}') > :u AS free_again;

-- a dead one whose unique key another has
SELECT ordflow.define_task('tfin once', NULL, '{"max_attempts": 1}');
SELECT ordflow.submit_task('tfin once', '1', '{"unique_key": "v"}') AS d \gset
SELECT pg_temp.fail(:d, 'x');
SELECT ordflow.submit_task('tfin once', '2', '{"unique_key": "v"}') > :d AS another;
SELECT ordflow.retry_task(:d);
SELECT state FROM ordflow.tasks WHERE task_id = :d;

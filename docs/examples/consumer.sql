-- One round of a consumer in psql: waits for a task of kind "report", works on it, completes it.
--
--     while psql -X -f consumer.sql; do :; done
--
-- The claim belongs to this session: whatever ends psql, SIGKILL included, the task is another's at once.
\set ON_ERROR_STOP on
\pset tuples_only on
\pset format unaligned

CALL ordflow.wait_for_tasks('report', '10 s');

SELECT count(*) = 1 AS claimed, max(task_id) AS task_id, max(token) AS token,
       max(attempt) AS attempt, (array_agg(payload))[1] ->> 'month' AS month
FROM ordflow.claim_tasks('report') \gset

\if :claimed
    \echo task :task_id, attempt :attempt
    -- The work. What it writes here is committed together with the end of the task, or not at all.
    BEGIN;
    CREATE TABLE IF NOT EXISTS reports (task_id bigint PRIMARY KEY, month int, made_at timestamptz DEFAULT now());
    INSERT INTO reports (task_id, month) VALUES (:task_id, :month);
    SELECT ordflow.complete_task(:task_id, :token, '{"pages": 3}') AS answer \gset
    -- stale: the claim was lost meanwhile, and the work is another's
    SELECT :'answer' = 'applied' AS ours \gset
    \if :ours
        COMMIT;
    \else
        ROLLBACK;
    \endif
    \echo task :task_id: :answer
\endif

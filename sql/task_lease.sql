-- claim_tasks() with a lease: the claim belongs to whoever has the token, until the lease is over.
\a \t
\set VERBOSITY sqlstate
SELECT ordflow.define_task('tlse', NULL, '{"max_concurrent": 3}');
SELECT ordflow.submit_batch('tlse', ARRAY['1', '2', '3', '4']::jsonb[]) AS b \gset
CREATE TABLE tlse AS SELECT * FROM ordflow.claim_tasks('tlse', 2, '1 hour');
SELECT state, pid, lease_until > clock_timestamp() + interval '59 min' AS long FROM ordflow.tasks WHERE batch_id = :b ORDER BY task_id;

-- it outlives the session, and DISCARD ALL
DISCARD ALL;
\c -
SELECT ordflow.complete_task(task_id, token, '"by another session"') FROM tlse WHERE payload = '1';
SELECT count(*) FROM ordflow.current_task();

-- over: the task is free, and the token is stale
SELECT task_id, token FROM tlse WHERE payload = '2' \gset
SELECT ordflow.extend_task(:task_id, :token, '10 ms');
SELECT pg_sleep(0.05);
SELECT ordflow.complete_task(:task_id, :token), ordflow.extend_task(:task_id, :token, '1 s'), ordflow.fail_task(:task_id, :token, 'late');
SELECT payload, attempt FROM ordflow.claim_tasks('tlse', 1, '1 hour');
SELECT ordflow.complete_task(:task_id, :token);

-- of a lease that was made in a transaction that rolls back nothing is left
BEGIN;
SELECT payload FROM ordflow.claim_tasks('tlse', 1, '1 hour');
ROLLBACK;

-- within max_concurrent: two more, one is held
SELECT payload FROM ordflow.claim_tasks('tlse', 10, '1 hour');
SELECT count(*) FROM ordflow.claim_tasks('tlse', 10, '1 hour');

-- without lease: another session is told that it is not the holder
SELECT ordflow.submit_task('tlse', '5') > 0, ordflow.define_task('tlse');
SELECT task_id, token FROM ordflow.claim_tasks('tlse') \gset
SELECT ordflow.extend_task(:task_id, :token, '1 s');
CREATE TABLE tlse_held AS SELECT :task_id AS task_id, :token AS token;
\c -
DO $$ BEGIN FOR i IN 1..100 LOOP
  EXIT WHEN NOT EXISTS (SELECT FROM ordflow.task_claims() NATURAL JOIN tlse_held);
  PERFORM pg_sleep(0.05);
END LOOP; END $$;
SELECT ordflow.complete_task(task_id, token) FROM tlse_held;
SELECT state FROM ordflow.tasks NATURAL JOIN tlse_held;
DROP TABLE tlse, tlse_held;

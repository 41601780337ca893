-- claim_tasks() without lease: the claim is the transaction's until it has committed, and then the session's.
\a \t
\set VERBOSITY sqlstate
SELECT ordflow.define_task('tclm');
SELECT ordflow.submit_batch('tclm', ARRAY['1', '2', '3', '4', '5']::jsonb[]) AS b \gset
PREPARE held AS SELECT payload, state, pid = pg_backend_pid() AS mine, lease_until FROM ordflow.tasks WHERE batch_id = :b AND state <> 'queued' ORDER BY task_id;

-- in the order of submission
SELECT payload, attempt FROM ordflow.claim_tasks('tclm', 2);
EXECUTE held;
SELECT attempt, key, shard, submitter = current_user AS mine FROM ordflow.current_task() ORDER BY task_id;

-- what a transaction claimed goes back with it, or with its savepoint; what was claimed before stays
BEGIN;
SELECT payload FROM ordflow.claim_tasks('tclm');
SAVEPOINT s;
SELECT payload FROM ordflow.claim_tasks('tclm');
EXECUTE held;
ROLLBACK TO s;
EXECUTE held;
SELECT payload FROM ordflow.claim_tasks('tclm', 10);
ROLLBACK;
EXECUTE held;

-- neither the application's own locks nor an error take a claim away
SELECT pg_advisory_unlock_all();
SELECT 1 / 0;
EXECUTE held;
SELECT running FROM ordflow.batches WHERE batch_id = :b;

-- DISCARD ALL and the end of the session do
\set ECHO none
DISCARD ALL;
\set ECHO all
SELECT count(*) FROM ordflow.task_claims() JOIN ordflow.tasks USING (task_id) WHERE batch_id = :b;
SELECT count(*) FROM ordflow.claim_tasks('tclm', 10);
\c -
DO $$ BEGIN FOR i IN 1..100 LOOP
  EXIT WHEN NOT EXISTS (SELECT FROM ordflow.task_claims() JOIN ordflow.tasks USING (task_id) WHERE kind = 'tclm');
  PERFORM pg_sleep(0.05);
END LOOP; END $$;
SELECT payload, state FROM ordflow.tasks WHERE kind = 'tclm' ORDER BY task_id;

-- complete, fail and release are the transaction's too
SELECT array_agg(task_id ORDER BY payload) AS ids, array_agg(token ORDER BY payload) AS tokens FROM ordflow.claim_tasks('tclm', 5) \gset
BEGIN;
SELECT ordflow.complete_task((:'ids'::bigint[])[1], (:'tokens'::bigint[])[1]), ordflow.fail_task((:'ids'::bigint[])[2], (:'tokens'::bigint[])[2], 'no'),
  ordflow.release_task((:'ids'::bigint[])[3], (:'tokens'::bigint[])[3]);
SELECT ordflow.complete_task((:'ids'::bigint[])[1], (:'tokens'::bigint[])[1]), ordflow.complete_task((:'ids'::bigint[])[3], (:'tokens'::bigint[])[3]);
ROLLBACK;
SELECT payload, state, attempts FROM ordflow.tasks WHERE kind = 'tclm' ORDER BY task_id;
SELECT ordflow.complete_task((:'ids'::bigint[])[1], (:'tokens'::bigint[])[1], '{"done": 1}'),
  ordflow.fail_task((:'ids'::bigint[])[2], (:'tokens'::bigint[])[2], 'no', '1 hour'), ordflow.release_task((:'ids'::bigint[])[3], (:'tokens'::bigint[])[3]);
SELECT payload, state, attempts, result, error, run_at > clock_timestamp() + interval '59 min' AS later FROM ordflow.tasks WHERE kind = 'tclm' ORDER BY task_id;
SELECT payload, attempt FROM ordflow.claim_tasks('tclm', 10);

-- claim and complete in one statement, and in one transaction; of a task of this transaction nothing is to be had
SELECT ordflow.submit_task('tclm', '"at once"') > 0;
SELECT ordflow.complete_task(task_id, token) FROM ordflow.claim_tasks('tclm');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT ordflow.submit_task('tclm', '"never seen"') > 0;
SELECT count(*) FROM ordflow.claim_tasks('tclm', 10);
ROLLBACK;

-- by number: one that is held or finished is not to be had; a run that holds it leaves it out
SELECT ordflow.submit_batch('tclm', ARRAY['11', '12', '13']::jsonb[]) AS c \gset
SELECT payload FROM ordflow.claim_task((SELECT first_task + 1 FROM ordflow.batches WHERE batch_id = :c));
SELECT payload FROM ordflow.claim_task((SELECT first_task + 1 FROM ordflow.batches WHERE batch_id = :c));
SELECT payload FROM ordflow.claim_tasks('tclm', 10);
SELECT payload FROM ordflow.claim_task((SELECT first_task FROM ordflow.batches WHERE batch_id = :b));

-- a kind that is paused gives nothing out
SELECT ordflow.submit_task('tclm', '"paused"') AS p, ordflow.pause_kind('tclm') \gset
SELECT count(*) FROM ordflow.claim_tasks('tclm');
SELECT count(*) FROM ordflow.claim_task(:p);
SELECT ordflow.resume_kind('tclm');
SELECT payload FROM ordflow.claim_tasks('tclm');

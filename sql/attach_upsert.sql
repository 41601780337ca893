-- INSERT ... ON CONFLICT DO UPDATE: the final row counts, not the one that was proposed.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_ups;
CREATE TABLE att_ups.job (id int PRIMARY KEY, status text, due timestamptz, runs int DEFAULT 0);
CREATE INDEX ON att_ups.job (due);
SELECT ordflow.define_machine('att_ups', '{"states": {"new": "initial", "run": "normal", "done": "final"},
  "transitions": [{"from": "new", "event": "start", "to": "run"}, {"from": "run", "event": "end", "to": "done", "after": "1 hour"}]}');
SELECT ordflow.attach('att_ups.job', 'att_ups', 'status', due_column => 'due');

-- the first inserts, the second updates: "run" is no initial state, but the step from "new" is legal
INSERT INTO att_ups.job VALUES (1, 'new') ON CONFLICT (id) DO UPDATE SET status = excluded.status;
INSERT INTO att_ups.job VALUES (1, 'run') ON CONFLICT (id) DO UPDATE SET status = excluded.status, runs = job.runs + 1;
SELECT id, status, due > now() AS due, runs FROM att_ups.job;

-- no conflict, so "run" would be inserted; a conflict, but no legal step
INSERT INTO att_ups.job VALUES (2, 'run') ON CONFLICT (id) DO UPDATE SET status = excluded.status;
INSERT INTO att_ups.job VALUES (1, 'new') ON CONFLICT (id) DO UPDATE SET status = excluded.status;

-- the state is left alone, or nothing is done at all
INSERT INTO att_ups.job VALUES (1, 'done') ON CONFLICT (id) DO UPDATE SET runs = job.runs + 1;
INSERT INTO att_ups.job VALUES (1, 'nonsense') ON CONFLICT DO NOTHING;
INSERT INTO att_ups.job VALUES (1, 'nonsense') ON CONFLICT (id) DO UPDATE SET runs = 0 WHERE false;
SELECT id, status, due > now() AS due, runs FROM att_ups.job;
INSERT INTO att_ups.job VALUES (1, 'done') ON CONFLICT (id) DO UPDATE SET status = excluded.status;
SELECT id, status, due, runs FROM att_ups.job;

-- both at once
INSERT INTO att_ups.job VALUES (3, 'new');
INSERT INTO att_ups.job VALUES (3, 'run'), (4, 'new') ON CONFLICT (id) DO UPDATE SET status = excluded.status;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_ups.job' ORDER BY history_id;
ROLLBACK;

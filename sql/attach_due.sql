-- The due column: set when a state with a timeout is entered, cleared when one without is, left alone otherwise.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_due;
CREATE TABLE att_due.job (id int PRIMARY KEY, status text DEFAULT 'new', due timestamptz, note text);
SELECT ordflow.define_machine('att_due', '{"states": {"new": "initial", "run": "normal", "idle": "normal", "done": "final"},
  "transitions": [{"from": "new", "event": "start", "to": "run", "after": "1 day"},
    {"from": "run", "event": "fail", "to": "done", "after": "1 mon"}, {"from": "run", "event": "rest", "to": "idle"},
    {"from": "idle", "event": "start", "to": "run"}, {"from": "new", "event": "touch", "to": "new"}]}');

-- attach says that there is no index
SET LOCAL client_min_messages = notice;
SELECT ordflow.attach('att_due.job', 'att_due', 'status', due_column => 'due');
CREATE INDEX ON att_due.job (due);
CREATE FUNCTION pg_temp.due() RETURNS TABLE (id int, status text, due text) LANGUAGE sql AS $$
SELECT id, status, CASE WHEN due IS NULL THEN 'never'
  WHEN due BETWEEN now() + interval '1 day' AND clock_timestamp() + interval '1 day' THEN 'in a day'
  WHEN due BETWEEN now() + interval '1 mon' AND clock_timestamp() + interval '1 mon' THEN 'in a month'
  ELSE to_char(due AT TIME ZONE 'UTC', 'YYYY-MM-DD') END FROM att_due.job ORDER BY id $$;

-- INSERT: computed unless given; states of rows that were there before are not touched
INSERT INTO att_due.job (id) VALUES (1);
INSERT INTO att_due.job (id, due) VALUES (2, '2030-01-01 00:00+00');
SELECT * FROM pg_temp.due();

-- UPDATE: entered, left for a state without, entered again, by fire as well
UPDATE att_due.job SET status = 'run' WHERE id = 1;
SELECT ordflow.fire('att_due.job', '2', 'start');
SELECT * FROM pg_temp.due();
UPDATE att_due.job SET status = 'idle' WHERE id = 1;
SELECT ordflow.fire('att_due.job', '2', 'fail');
SELECT * FROM pg_temp.due();
SELECT ordflow.fire('att_due.job', '1', 'start');
SELECT * FROM pg_temp.due();

-- a change of state wins over what the same UPDATE says; without one the shop may move the deadline
INSERT INTO att_due.job (id) VALUES (3);
UPDATE att_due.job SET status = 'run', due = '2040-01-01' WHERE id = 3;
SELECT * FROM pg_temp.due() WHERE id = 3;
UPDATE att_due.job SET due = '2040-01-01' WHERE id = 3;
UPDATE att_due.job SET note = 'later' WHERE id = 3;
SELECT id, status, due = '2040-01-01' FROM att_due.job WHERE id = 3;

-- an event that keeps the state keeps its deadline
INSERT INTO att_due.job (id, due) VALUES (4, '2041-01-01');
SELECT ordflow.fire('att_due.job', '4', 'touch');
SELECT due = '2041-01-01' FROM att_due.job WHERE id = 4;
SELECT event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_due.job' AND key = '4' ORDER BY history_id;
ROLLBACK;

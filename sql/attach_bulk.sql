-- One UPDATE of many rows: every row is judged by itself, one illegal row refuses them all.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_bulk;
CREATE TABLE att_bulk.task (id int PRIMARY KEY, status text DEFAULT 'new', due timestamptz);
CREATE INDEX ON att_bulk.task (due);
SELECT ordflow.define_machine('att_bulk', '{"states": {"new": "initial", "run": "normal", "done": "final", "dead": "final"},
  "transitions": [{"from": "new", "event": "start", "to": "run"}, {"from": "run", "event": "end", "to": "done"},
                  {"from": "new", "event": "kill", "to": "dead"}, {"from": "run", "event": "kill", "to": "dead", "after": "1 hour"}]}');
SELECT ordflow.attach('att_bulk.task', 'att_bulk', 'status', due_column => 'due');
INSERT INTO att_bulk.task (id) SELECT n FROM generate_series(1, 1000) n;
UPDATE att_bulk.task SET status = 'run' WHERE id % 2 = 0;
SELECT status, count(*), count(due) FROM att_bulk.task GROUP BY 1 ORDER BY 1;

-- from two states to one, by two transitions
UPDATE att_bulk.task SET status = 'dead' WHERE id <= 10;
SELECT from_state, event, count(*) FROM ordflow.object_history
WHERE target = 'att_bulk.task' AND to_state = 'dead' GROUP BY 1, 2 ORDER BY 1;

-- 'new' rows cannot end: nothing of it happens
UPDATE att_bulk.task SET status = 'done' WHERE id BETWEEN 11 AND 1000;
SELECT status, count(*) FROM att_bulk.task GROUP BY 1 ORDER BY 1;

-- states that differ from row to row, and a join
UPDATE att_bulk.task SET status = CASE status WHEN 'new' THEN 'run' ELSE 'done' END WHERE status IN ('new', 'run');
UPDATE att_bulk.task t SET status = 'dead' FROM generate_series(1, 100) g WHERE t.id = g AND t.status = 'run';
SELECT status, count(*), count(due) FROM att_bulk.task GROUP BY 1 ORDER BY 1;
SELECT event, count(*), count(DISTINCT key) FROM ordflow.object_history WHERE target = 'att_bulk.task' GROUP BY 1 ORDER BY 1;
ROLLBACK;

-- available_events(target, key): what the state of a row takes, and when the timeout fires.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA met;
CREATE TABLE met.ticket (id int PRIMARY KEY, status text, mood text, due timestamptz);
CREATE INDEX ON met.ticket (due);
CREATE FUNCTION met.never(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT false';
SELECT ordflow.define_machine('met', '{"states": {"new": "initial", "open": "normal", "done": "final"},
  "transitions": [{"from": null, "event": "file", "to": "new"},
    {"from": "new", "event": "take", "to": "open", "guard": "met.never(jsonb,jsonb)"},
    {"from": "new", "event": "drop", "to": "done", "after": "2 days"}, {"from": "open", "event": "close", "to": "done"}]}');
SELECT ordflow.attach('met.ticket', 'met', 'status', due_column => 'due');
INSERT INTO met.ticket (id, status) VALUES (1, 'new');
INSERT INTO met.ticket (id, status, due) VALUES (2, 'new', '2100-01-01 00:00+00');

-- guards are not asked; due is what stands in the row
SELECT event, to_state, at > now() + interval '47 hours' AS in_two_days FROM ordflow.available_events('met.ticket', '1');
SELECT event, at = '2100-01-01 00:00+00' FROM ordflow.available_events('met.ticket', '2') WHERE at IS NOT NULL;
UPDATE met.ticket SET due = NULL WHERE id = 2;
SELECT event, to_state, at FROM ordflow.available_events('met.ticket', '2');
UPDATE met.ticket SET status = 'done' WHERE id = 1;
SELECT * FROM ordflow.available_events('met.ticket', '1');

-- all machines of the table are told
SELECT ordflow.define_machine('met_mood', '{"states": {"calm": "initial"}, "transitions": [{"from": "calm", "event": "sigh", "to": "calm"}]}');
UPDATE met.ticket SET mood = 'calm';
SELECT ordflow.attach('met.ticket', 'met_mood', 'mood');
SELECT event, to_state FROM ordflow.available_events('met.ticket', '2') ORDER BY 1;

SELECT * FROM ordflow.available_events('met.ticket', '3');
SELECT * FROM ordflow.available_events('met.ticket', 'three');
SELECT * FROM ordflow.available_events('met.ticket', NULL);
SELECT * FROM ordflow.available_events(NULL, '1');
SELECT * FROM ordflow.available_events('pg_class', '1');
SELECT * FROM ordflow.available_events('met.nothing', '1');

-- it reads as the caller
CREATE ROLE regress_met;
GRANT USAGE ON SCHEMA met TO regress_met;
SELECT ordflow.grant_access('regress_met', 'orders');
SET ROLE regress_met;
SELECT * FROM ordflow.available_events('met.ticket', '1');
ROLLBACK;

-- Defining a machine of one's own again replaces it, but never takes the state from under a row.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA mrep;
CREATE TABLE mrep.jobs (id int PRIMARY KEY, status text, due timestamptz);
CREATE INDEX ON mrep.jobs (due);
CREATE TABLE mrep.plain (id int PRIMARY KEY, status text);
CREATE FUNCTION mrep.note(jsonb, jsonb) RETURNS void LANGUAGE sql AS '';
SELECT ordflow.define_machine('mrep', '{"states": {"new": {"kind": "initial", "label": "fresh"}, "old": "final", "odd": "normal"},
  "transitions": [{"from": "new", "event": "age", "to": "old"}, {"from": "new", "event": "turn", "to": "odd"}]}');
SELECT ordflow.add_effect('mrep', 'age', 'mrep.note(jsonb,jsonb)');
SELECT ordflow.attach('mrep.jobs', 'mrep', 'status', due_column => 'due');
SELECT ordflow.attach('mrep.plain', 'mrep', 'status');
INSERT INTO mrep.jobs VALUES (1, 'new');
UPDATE mrep.jobs SET status = 'odd';

-- "odd" would vanish under the row of jobs
SELECT ordflow.define_machine('mrep', '{"states": {"new": "initial", "old": "final"}, "transitions": []}');
SELECT state, kind, label FROM ordflow.states WHERE machine = 'mrep' ORDER BY state;
SELECT event FROM ordflow.transitions WHERE machine = 'mrep' ORDER BY ordinal;

-- kept, it may lose its label, its kind and its transitions; effects stay
SELECT ordflow.define_machine('mrep', '{"states": {"odd": "final", "new": "initial", "late": "normal"},
  "transitions": [{"from": "odd", "event": "return", "to": "new"}, {"from": "new", "event": "age", "to": "late"}]}');
SELECT state, kind, label FROM ordflow.states WHERE machine = 'mrep' ORDER BY state;
SELECT ordinal, event, to_state FROM ordflow.transitions WHERE machine = 'mrep' ORDER BY ordinal;
SELECT event, effect FROM ordflow.effects WHERE machine = 'mrep';
UPDATE mrep.jobs SET status = 'new';
UPDATE mrep.jobs SET status = 'old';
UPDATE mrep.jobs SET status = 'late';

-- a timeout needs a due column in every table that has the machine
SELECT ordflow.define_machine('mrep', '{"states": {"new": "initial", "late": "normal"},
  "transitions": [{"from": "new", "event": "age", "to": "late", "after": "1 day"}]}');
SELECT ordflow.detach('mrep.plain');
SELECT ordflow.define_machine('mrep', '{"states": {"new": "initial", "late": "normal"},
  "transitions": [{"from": "new", "event": "age", "to": "late", "after": "1 day"}]}');
INSERT INTO mrep.jobs VALUES (2, 'new');
SELECT id, status, due - now() > interval '23 hours' AS tomorrow FROM mrep.jobs ORDER BY id;

-- the row of a table that was detached does not count
INSERT INTO mrep.plain VALUES (1, 'odd');
SELECT ordflow.define_machine('mrep', '{"states": {"new": "initial", "late": "normal"}, "transitions": []}');
SELECT count(*) FROM ordflow.transitions WHERE machine = 'mrep';
ROLLBACK;

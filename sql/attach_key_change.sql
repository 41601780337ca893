-- An UPDATE that changes key and state together is one step, recorded under the new key.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_key;
CREATE TABLE att_key.doc (id int PRIMARY KEY, status text, due timestamptz, code text UNIQUE);
CREATE INDEX ON att_key.doc (due);
SELECT ordflow.define_machine('att_key', '{"states": {"a": "initial", "b": "normal", "c": "final"}, "transitions": [
  {"from": "a", "event": "go", "to": "b", "after": "1 h"}, {"from": "b", "event": "end", "to": "c"}]}');
SELECT ordflow.attach('att_key.doc', 'att_key', 'status', due_column => 'due');
INSERT INTO att_key.doc (id, status) VALUES (1, 'a'), (2, 'a');
UPDATE att_key.doc SET id = 10 WHERE id = 1;
UPDATE att_key.doc SET id = 11, status = 'b' WHERE id = 10;
UPDATE att_key.doc SET id = id + 1, status = 'c' WHERE id = 2;
UPDATE att_key.doc SET id = -id, status = CASE status WHEN 'a' THEN 'b' ELSE 'c' END;
SELECT id, status, due FROM att_key.doc ORDER BY id;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_key.doc' ORDER BY history_id;
SELECT ordflow.detach('att_key.doc');

-- another unique column as key; one without a value cannot be told from others
UPDATE att_key.doc SET code = 'no ' || id;
SELECT ordflow.attach('att_key.doc', 'att_key', 'status', 'code', 'due');
INSERT INTO att_key.doc VALUES (1, 'a', NULL, 'one');
SELECT ordflow.fire('att_key.doc', 'one', 'go');
UPDATE att_key.doc SET code = NULL WHERE id = 1;
UPDATE att_key.doc SET status = 'c' WHERE id = 1;
UPDATE att_key.doc SET status = 'c', code = 'uno' WHERE id = 1;
INSERT INTO att_key.doc VALUES (2, 'a', NULL, NULL);
SELECT ordflow.fire('att_key.doc', '1', 'end');
SELECT key, event FROM ordflow.object_history WHERE target = 'att_key.doc' AND key IN ('one', 'uno') ORDER BY history_id;

-- it is not taken with rows that have none; one that loses it later can be changed but for its state
CREATE TABLE att_key.open (id int, status text, due timestamptz, code text UNIQUE);
CREATE INDEX ON att_key.open (due);
INSERT INTO att_key.open VALUES (1, 'a', NULL, NULL);
SELECT ordflow.attach('att_key.open', 'att_key', 'status', 'code', 'due');
UPDATE att_key.open SET code = 'one';
SELECT ordflow.attach('att_key.open', 'att_key', 'status', 'code', 'due');
UPDATE att_key.open SET code = NULL;
UPDATE att_key.open SET id = 2, due = 'infinity';
UPDATE att_key.open SET status = 'b';
SELECT * FROM att_key.open;
ROLLBACK;

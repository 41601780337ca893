-- States are compared byte by byte, also where the column's collation takes different ones for equal.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_col;
CREATE COLLATION att_col.any_case (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false);
CREATE TABLE att_col.doc (id int PRIMARY KEY, status text COLLATE att_col.any_case, due timestamptz);
CREATE INDEX ON att_col.doc (due);
SELECT ordflow.define_machine('att_col', '{"states": {"a": "initial", "A": "normal", "b": "final"}, "transitions": [
  {"from": "a", "event": "raise", "to": "A", "after": "1 h"}, {"from": "A", "event": "end", "to": "b", "after": "2 h"}]}');
SELECT ordflow.attach('att_col.doc', 'att_col', 'status', due_column => 'due');
INSERT INTO att_col.doc VALUES (1, 'a'), (2, 'a'), (3, 'a');
INSERT INTO att_col.doc VALUES (4, 'A');
UPDATE att_col.doc SET status = 'A' WHERE id = 1;
UPDATE att_col.doc SET status = 'a' WHERE id = 1;
UPDATE att_col.doc SET status = 'B' WHERE id = 1;
SELECT ordflow.fire('att_col.doc', '2', 'raise');
SELECT id, status, due > now() + interval '90 min' AS later FROM att_col.doc ORDER BY id;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_col.doc' AND from_state <> '' ORDER BY history_id;
ROLLBACK;

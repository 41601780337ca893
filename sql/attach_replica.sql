-- The triggers are ORIGIN: under session_replication_role = replica rows are taken as they come, without history.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_rpl;
CREATE TABLE att_rpl.doc (id int PRIMARY KEY, status text, due timestamptz);
CREATE INDEX ON att_rpl.doc (due);
SELECT ordflow.define_machine('att_rpl', '{"states": {"a": "initial", "b": "normal"}, "transitions": [
  {"from": "a", "event": "go", "to": "b", "after": "1 h"}]}');
SELECT ordflow.attach('att_rpl.doc', 'att_rpl', 'status', due_column => 'due');
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'att_rpl.doc'::regclass ORDER BY tgname COLLATE "C";
SET LOCAL session_replication_role = replica;
INSERT INTO att_rpl.doc VALUES (1, 'b'), (2, 'a');
UPDATE att_rpl.doc SET status = 'zzz' WHERE id = 2;
SET LOCAL session_replication_role = origin;
SELECT count(*) FROM ordflow.object_history WHERE target = 'att_rpl.doc';
SELECT id, status, due FROM att_rpl.doc ORDER BY id;

-- what is fired is checked and has its history, but the due column is the triggers' business
SET LOCAL session_replication_role = replica;
INSERT INTO att_rpl.doc VALUES (3, 'a');
SELECT ordflow.fire('att_rpl.doc', '3', 'leap');
SELECT ordflow.fire('att_rpl.doc', '3', 'go');
SET LOCAL session_replication_role = origin;
SELECT event FROM ordflow.object_history WHERE target = 'att_rpl.doc';
SELECT id, status, due FROM att_rpl.doc WHERE id = 3;

-- afterwards such a row is seen for what it is
SELECT key, state FROM ordflow.attach_report('att_rpl.doc', 'att_rpl', 'status');
UPDATE att_rpl.doc SET status = 'a' WHERE id = 2;
SELECT ordflow.fire('att_rpl.doc', '2', 'go');
SELECT * FROM ordflow.available_events('att_rpl.doc', '2');
ALTER TABLE att_rpl.doc DISABLE TRIGGER "~ordflow_status_update";
UPDATE att_rpl.doc SET status = 'a' WHERE id = 2;
ALTER TABLE att_rpl.doc ENABLE TRIGGER "~ordflow_status_update";
SELECT ordflow.fire('att_rpl.doc', '2', 'go');
ROLLBACK;

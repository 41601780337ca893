-- A BEFORE trigger of the table that changes the state: what counts is the final row.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_bef;
CREATE TABLE att_bef.doc (id int PRIMARY KEY, status text, due timestamptz, wish text);
CREATE INDEX ON att_bef.doc (due);
CREATE FUNCTION att_bef.wish() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN NEW.status = coalesce(NEW.wish, NEW.status); RETURN NEW; END $$;
CREATE TRIGGER wish BEFORE INSERT OR UPDATE ON att_bef.doc FOR EACH ROW EXECUTE FUNCTION att_bef.wish();
SELECT ordflow.define_machine('att_bef', '{"states": {"new": "initial", "open": "normal", "shut": "final"},
  "transitions": [{"from": "new", "event": "open", "to": "open"}, {"from": "open", "event": "shut", "to": "shut", "after": "1 hour"}]}');
SELECT ordflow.attach('att_bef.doc', 'att_bef', 'status', due_column => 'due');

-- an INSERT that is changed to an illegal and to a legal state
INSERT INTO att_bef.doc VALUES (1, 'new', NULL, 'shut');
INSERT INTO att_bef.doc VALUES (1, 'shut', NULL, 'new');
SELECT id, status FROM att_bef.doc;

-- UPDATE: legal made illegal, illegal made legal, and a change nobody asked for
UPDATE att_bef.doc SET status = 'open', wish = 'shut' WHERE id = 1;
UPDATE att_bef.doc SET status = 'shut', wish = 'open' WHERE id = 1;
UPDATE att_bef.doc SET wish = 'shut' WHERE id = 1;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_bef.doc' ORDER BY history_id;

-- the due column follows the final state, as our trigger fires last of all
CREATE TRIGGER "zzz_last" BEFORE UPDATE ON att_bef.doc FOR EACH ROW EXECUTE FUNCTION att_bef.wish();
INSERT INTO att_bef.doc VALUES (2, 'new', NULL, NULL);
UPDATE att_bef.doc SET wish = 'open' WHERE id = 2;
SELECT status, due > now() FROM att_bef.doc WHERE id = 2;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'att_bef.doc'::regclass AND tgtype & 2 = 2 ORDER BY tgname COLLATE "C";

-- but of one whose name sorts even later, which doctor() tells
CREATE TRIGGER "~~last" BEFORE UPDATE ON att_bef.doc FOR EACH ROW EXECUTE FUNCTION att_bef.wish();
CREATE TRIGGER "~~never" BEFORE DELETE ON att_bef.doc FOR EACH ROW EXECUTE FUNCTION att_bef.wish();
SELECT severity, part, object, fix FROM ordflow.doctor() WHERE object ~ 'att_bef';
SELECT fix FROM ordflow.doctor() WHERE object ~ 'att_bef' \gexec
SELECT * FROM ordflow.doctor() WHERE object ~ 'att_bef';

-- fire() notices that a trigger prevents its change
INSERT INTO att_bef.doc VALUES (3, 'new', NULL, 'new');
SELECT ordflow.fire('att_bef.doc', '3', 'open');
SELECT id, status FROM att_bef.doc ORDER BY id;
ROLLBACK;

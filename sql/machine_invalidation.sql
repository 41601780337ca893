-- A machine that was changed is seen at once in the same session, and so is a change taken back.
\a \t
\set VERBOSITY sqlstate
CREATE SCHEMA minv;
CREATE TABLE minv.doc (id int PRIMARY KEY, status text);
CREATE FUNCTION minv.guard(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE TABLE minv.log (line text);
CREATE FUNCTION minv.effect(object jsonb, args jsonb) RETURNS void LANGUAGE sql
AS $$ INSERT INTO minv.log VALUES (object->>'key') $$;
SELECT ordflow.define_machine('minv', '{"states": {"a": "initial", "b": "normal", "c": "normal"},
  "transitions": [{"from": "a", "event": "go", "to": "b", "guard": "minv.guard(jsonb,jsonb)"}]}');
SELECT ordflow.attach('minv.doc', 'minv', 'status');
INSERT INTO minv.doc VALUES (1, 'a'), (2, 'a'), (3, 'a'), (4, 'a');
UPDATE minv.doc SET status = 'c' WHERE id = 1;
UPDATE minv.doc SET status = 'b' WHERE id = 1;

-- a transition more, in the same transaction and taken back with it
BEGIN;
SELECT ordflow.define_machine('minv', '{"states": {"a": "initial", "b": "normal", "c": "normal"},
  "transitions": [{"from": "a", "event": "leap", "to": "c"}]}');
UPDATE minv.doc SET status = 'c' WHERE id = 2;
ROLLBACK;
UPDATE minv.doc SET status = 'c' WHERE id = 2;
UPDATE minv.doc SET status = 'b' WHERE id = 2;

-- the same with a savepoint
BEGIN;
SAVEPOINT s;
SELECT ordflow.add_effect('minv', 'go', 'minv.effect(jsonb,jsonb)');
UPDATE minv.doc SET status = 'b' WHERE id = 3;
TABLE minv.log;
ROLLBACK TO s;
UPDATE minv.doc SET status = 'b' WHERE id = 3;
TABLE minv.log;
ROLLBACK;

-- the functions behind it: another body, none, one again
CREATE OR REPLACE FUNCTION minv.guard(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT false';
UPDATE minv.doc SET status = 'b' WHERE id = 3;
DROP FUNCTION minv.guard;
UPDATE minv.doc SET status = 'b' WHERE id = 3;
CREATE FUNCTION minv.guard(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
UPDATE minv.doc SET status = 'b' WHERE id = 3;

-- a schema that takes the place of another
CREATE SCHEMA minv_new;
CREATE FUNCTION minv_new.guard(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE FUNCTION public.minv_swap(old text, new text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('ALTER SCHEMA %I RENAME TO minv_between', old);
  EXECUTE format('ALTER SCHEMA %I RENAME TO %I', new, old);
  EXECUTE format('ALTER SCHEMA minv_between RENAME TO %I', new);
END $$;
INSERT INTO minv.doc VALUES (5, 'a'), (6, 'a');
UPDATE minv.doc SET status = 'b' WHERE id = 5;
SELECT minv_swap('minv', 'minv_new');
UPDATE minv_new.doc SET status = 'b' WHERE id = 6;
SELECT minv_swap('minv', 'minv_new');
UPDATE minv.doc SET status = 'b' WHERE id = 6;

-- rows that the owner of the tables writes by hand, under session_replication_role too
UPDATE ordflow.transitions SET guard = NULL, to_state = 'c' WHERE machine = 'minv';
UPDATE minv.doc SET status = 'c' WHERE id = 4;
SET session_replication_role = replica;
INSERT INTO ordflow.transitions (machine, from_state, event, to_state, ordinal) VALUES ('minv', 'c', 'back', 'a', 9);
RESET session_replication_role;
SELECT ordflow.fire('minv.doc', '4', 'back');

SELECT id, status FROM minv.doc ORDER BY id;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'minv.doc' AND from_state <> '' ORDER BY history_id;
SET client_min_messages = warning;
DROP SCHEMA minv, minv_new CASCADE;
DROP FUNCTION minv_swap;
DELETE FROM ordflow.transitions WHERE machine = 'minv';
DELETE FROM ordflow.states WHERE machine = 'minv';
DELETE FROM ordflow.machines WHERE machine = 'minv';
DELETE FROM ordflow.object_history WHERE target IN ('minv.doc', 'minv_new.doc');

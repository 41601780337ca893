-- Savepoints and exception blocks: what is rolled back leaves no history and disturbs nothing after it.
\a \t
\set VERBOSITY sqlstate
BEGIN;
CREATE SCHEMA att_sav;
CREATE TABLE att_sav.doc (id int PRIMARY KEY, status text);
CREATE FUNCTION att_sav.picky(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql
AS $$ BEGIN IF args ? 'fail' THEN RAISE EXCEPTION 'no'; END IF; END $$;
SELECT ordflow.define_machine('att_sav', '{"states": {"a": "initial", "b": "normal", "c": "normal"}, "transitions": [
  {"from": "a", "event": "go", "to": "b", "effect": "att_sav.picky(jsonb,jsonb)"}, {"from": "b", "event": "on", "to": "c"}]}');
SELECT ordflow.attach('att_sav.doc', 'att_sav', 'status');
INSERT INTO att_sav.doc VALUES (1, 'a'), (2, 'a'), (3, 'a');
SAVEPOINT one;
SELECT ordflow.fire('att_sav.doc', '1', 'go');
SAVEPOINT two;
SELECT ordflow.fire('att_sav.doc', '1', 'on');
ROLLBACK TO two;
SELECT ordflow.fire('att_sav.doc', '1', 'go');
ROLLBACK TO two;
UPDATE att_sav.doc SET status = 'c' WHERE id = 1;
ROLLBACK TO one;
SELECT status FROM att_sav.doc WHERE id = 1;

-- a fire that failed in an exception block is not taken for one under way
CREATE FUNCTION pg_temp.attempt(key text, event text, args jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  RETURN ordflow.fire('att_sav.doc', key, event, args);
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE;
END $$;
SELECT pg_temp.attempt('2', 'go', '{"fail": true}');
SELECT pg_temp.attempt('2', 'on', '{}');
SELECT pg_temp.attempt('2', 'go', '{}');
SELECT pg_temp.attempt('3', 'go', '{"fail": true}');
SAVEPOINT three;
UPDATE att_sav.doc SET status = 'c' WHERE id = 3;
ROLLBACK TO three;
UPDATE att_sav.doc SET status = 'b' WHERE id = 3;
SELECT id, status FROM att_sav.doc ORDER BY id;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_sav.doc' ORDER BY history_id;
ROLLBACK;

-- nothing of it outlives the transaction
SELECT count(*) FROM ordflow.object_history WHERE target = 'att_sav.doc';

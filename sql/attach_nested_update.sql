-- Updates that a user's trigger makes while an event is being fired are judged like any other.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_nst;
CREATE TABLE att_nst.doc (id int PRIMARY KEY, status text, twin int, to_twin text);
SELECT ordflow.define_machine('att_nst', '{"states": {"a": "initial", "b": "normal", "c": "normal"}, "transitions": [
  {"from": "a", "event": "go", "to": "b"}, {"from": "b", "event": "on", "to": "c"}]}');
SELECT ordflow.attach('att_nst.doc', 'att_nst', 'status');
CREATE FUNCTION att_nst.twin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE att_nst.doc SET status = NEW.to_twin WHERE id = NEW.twin;
  RETURN NEW;
END $$;
CREATE TRIGGER twin BEFORE UPDATE OF status ON att_nst.doc FOR EACH ROW WHEN (NEW.twin IS NOT NULL) EXECUTE FUNCTION att_nst.twin();

-- the twin's step is illegal, though it is the step that is fired on the other row
INSERT INTO att_nst.doc VALUES (1, 'a', 2, 'c'), (2, 'a', NULL, NULL);
SELECT ordflow.fire('att_nst.doc', '1', 'go');
-- legal, by the same event, and by another
UPDATE att_nst.doc SET to_twin = 'b' WHERE id = 1;
SELECT ordflow.fire('att_nst.doc', '1', 'go');
UPDATE att_nst.doc SET to_twin = 'c' WHERE id = 1;
UPDATE att_nst.doc SET status = 'c' WHERE id = 1;
SELECT id, status FROM att_nst.doc ORDER BY id;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_nst.doc' AND from_state IS NOT NULL
ORDER BY key, history_id;

-- a trigger that turns the fired change of its own row into another one
CREATE FUNCTION att_nst.turn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.status = 'c'; RETURN NEW; END $$;
CREATE TRIGGER turn BEFORE UPDATE OF status ON att_nst.doc FOR EACH ROW WHEN (NEW.id = 3) EXECUTE FUNCTION att_nst.turn();
CREATE FUNCTION att_nst.skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER skip BEFORE UPDATE OF status ON att_nst.doc FOR EACH ROW WHEN (NEW.id = 4) EXECUTE FUNCTION att_nst.skip();
INSERT INTO att_nst.doc VALUES (3, 'a'), (4, 'a'), (5, 'a');
SELECT ordflow.fire('att_nst.doc', '3', 'go');
SELECT ordflow.fire('att_nst.doc', '4', 'go');
UPDATE att_nst.doc SET status = 'b' WHERE id = 4;
SELECT id, status FROM att_nst.doc WHERE id > 2 ORDER BY id;

-- an AFTER trigger that goes one step further on the same row
CREATE FUNCTION att_nst.further() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN UPDATE att_nst.doc SET status = 'c' WHERE id = NEW.id; RETURN NULL; END $$;
CREATE TRIGGER further AFTER UPDATE OF status ON att_nst.doc FOR EACH ROW WHEN (NEW.id = 5 AND NEW.status = 'b')
  EXECUTE FUNCTION att_nst.further();
SELECT ordflow.fire('att_nst.doc', '5', 'go');
SELECT status FROM att_nst.doc WHERE id = 5;
SELECT event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_nst.doc' AND key = '5' ORDER BY at;

-- one that comes to the fired state by a way of its own, which is illegal
CREATE FUNCTION att_nst.detour() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE att_nst.doc SET status = 'c' WHERE id = NEW.id;
  UPDATE att_nst.doc SET status = 'b' WHERE id = NEW.id;
  RETURN NULL;
END $$;
CREATE TRIGGER detour AFTER UPDATE OF status ON att_nst.doc FOR EACH ROW WHEN (NEW.id = 6 AND OLD.status = 'a' AND NEW.status = 'b')
  EXECUTE FUNCTION att_nst.detour();
INSERT INTO att_nst.doc VALUES (6, 'a'), (7, 'a');
SELECT ordflow.fire('att_nst.doc', '6', 'go');
SELECT status FROM att_nst.doc WHERE id = 6;

-- one that tries the fired change first and takes it back
CREATE FUNCTION att_nst.try() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF pg_trigger_depth() = 1 THEN
    BEGIN
      BEGIN
        UPDATE att_nst.doc SET status = 'b' WHERE id = NEW.id;
      EXCEPTION WHEN division_by_zero THEN
      END;
      RAISE 'back';
    EXCEPTION WHEN raise_exception THEN
    END;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER try BEFORE UPDATE OF status ON att_nst.doc FOR EACH ROW WHEN (NEW.id = 7) EXECUTE FUNCTION att_nst.try();
SELECT ordflow.fire('att_nst.doc', '7', 'go', '{"by": "fire"}');
SELECT event, from_state, to_state, data FROM ordflow.object_history WHERE target = 'att_nst.doc' AND key = '7' AND from_state <> '';
ROLLBACK;

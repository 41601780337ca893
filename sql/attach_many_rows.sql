-- The history of a statement that changes many rows is written together, which nobody can tell from what they see.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_man;
SELECT ordflow.define_machine('att_man', '{"states": {"a": "initial", "b": "normal", "c": "normal"}, "transitions": [
  {"from": "a", "event": "go", "to": "b"}, {"from": "b", "event": "on", "to": "c"}, {"from": "c", "event": "back", "to": "a"}]}');
CREATE TABLE att_man.job (id int PRIMARY KEY, status text DEFAULT 'a');
SELECT ordflow.attach('att_man.job', 'att_man', 'status');
INSERT INTO att_man.job SELECT i FROM generate_series(1, 1000) i;
CREATE FUNCTION att_man.seen(OUT rows bigint, OUT keys bigint, OUT ordered boolean) LANGUAGE sql AS $$
SELECT count(*), count(DISTINCT key), count(DISTINCT history_id) = count(*) FROM ordflow.object_history WHERE target = 'att_man.job' $$;

SELECT * FROM att_man.seen();
UPDATE att_man.job SET status = 'b';
SELECT * FROM att_man.seen();

-- one that fails in the midst of it leaves nothing
UPDATE att_man.job SET status = CASE WHEN id = 900 THEN 'a' ELSE 'c' END;
SELECT * FROM att_man.seen();
UPDATE att_man.job SET status = 'c' WHERE id % 2 = 0;
SAVEPOINT s;
UPDATE att_man.job SET status = 'a' WHERE id % 2 = 0;
SELECT * FROM att_man.seen();
ROLLBACK TO s;
SELECT * FROM att_man.seen();

-- what a statement's own other parts see, as ever: the state before it
WITH moved AS (UPDATE att_man.job SET status = 'a' WHERE id % 4 = 0 RETURNING id)
  SELECT count(*), (SELECT rows FROM att_man.seen()) FROM moved;
SELECT * FROM att_man.seen();

-- a trigger sees what came before it, row by row
CREATE TABLE att_man.looked (id int, rows bigint);
CREATE FUNCTION att_man.look() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO att_man.looked SELECT NEW.id, count(*) FROM ordflow.object_history h WHERE h.target = 'att_man.job'; RETURN NULL; END $$;
CREATE TRIGGER "~z" AFTER UPDATE ON att_man.job FOR EACH ROW EXECUTE FUNCTION att_man.look();
UPDATE att_man.job SET status = 'c' WHERE id IN (1, 3, 5);
SELECT * FROM att_man.looked ORDER BY id;
DROP TRIGGER "~z" ON att_man.job;

-- so does a trigger of another table that the statement writes to, and what it does is undone alone
CREATE TABLE att_man.log (id int);
CREATE FUNCTION att_man.look_too() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO att_man.looked SELECT NEW.id, count(*) FROM ordflow.object_history h WHERE h.target = 'att_man.job';
  BEGIN
    PERFORM ordflow.fire('att_man.job', '998', 'back');
    RAISE division_by_zero;
  EXCEPTION WHEN division_by_zero THEN
  END;
  RETURN NULL;
END $$;
CREATE TRIGGER look AFTER INSERT ON att_man.log FOR EACH ROW EXECUTE FUNCTION att_man.look_too();
TRUNCATE att_man.looked;
WITH moved AS (UPDATE att_man.job SET status = 'c' WHERE status = 'b' AND id BETWEEN 7 AND 100 RETURNING id)
  INSERT INTO att_man.log SELECT min(id) FROM moved;
SELECT count(*) FROM att_man.job WHERE status = 'c' AND id BETWEEN 7 AND 100;
SELECT rows FROM att_man.looked;
SELECT * FROM att_man.seen();

-- a step inside a step: a cascade, a trigger's own statement, an effect that looks
CREATE TABLE att_man.child (id int PRIMARY KEY, job int REFERENCES att_man.job ON UPDATE CASCADE, status text DEFAULT 'a');
SELECT ordflow.attach('att_man.child', 'att_man', 'status');
INSERT INTO att_man.child SELECT i, i FROM generate_series(1, 100) i;
CREATE FUNCTION att_man.children() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN UPDATE att_man.child SET status = 'b' WHERE job = NEW.id AND status = 'a'; RETURN NULL; END $$;
CREATE TRIGGER children AFTER UPDATE ON att_man.job FOR EACH ROW EXECUTE FUNCTION att_man.children();
UPDATE att_man.job SET status = 'b' WHERE status = 'a';
SELECT target, event, count(*) FROM ordflow.object_history WHERE target ~ '^att_man' GROUP BY 1, 2 ORDER BY 1, 2;
DROP TRIGGER children ON att_man.job;
CREATE FUNCTION att_man.count(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO att_man.looked SELECT (object ->> 'key')::int, count(*) FROM ordflow.object_history h WHERE h.target = 'att_man.job';
END $$;
SELECT ordflow.add_effect('att_man', 'back', 'att_man.count(jsonb, jsonb)');
TRUNCATE att_man.looked;
UPDATE att_man.job SET status = CASE status WHEN 'b' THEN 'c' ELSE 'a' END WHERE id IN (1, 2, 3, 4, 5, 6);
SELECT max(rows) - min(rows), count(*) FROM att_man.looked;
SELECT * FROM att_man.seen();
ROLLBACK;

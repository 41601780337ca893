-- A guard or effect sees what has been done up to now, however its volatility is declared.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA hsn;
CREATE TABLE hsn.room (id int PRIMARY KEY, status text NOT NULL);
CREATE TABLE hsn.log (key text, event text);
CREATE FUNCTION hsn.one_at_most(object jsonb, args jsonb) RETURNS boolean LANGUAGE sql STABLE
AS $$ SELECT count(*) <= 1 FROM hsn.room WHERE status = 'taken' $$;
CREATE FUNCTION hsn.effect(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql
AS $$ BEGIN INSERT INTO hsn.log VALUES (object->>'key', object->>'event'); END $$;
CREATE FUNCTION hsn.is_logged(object jsonb, args jsonb) RETURNS boolean LANGUAGE plpgsql STABLE
AS $$ BEGIN RETURN EXISTS (SELECT FROM hsn.log WHERE key = object->>'key' AND event = 'take'); END $$;
SELECT ordflow.define_machine('hsn', '{"states": {"free": "initial", "taken": "normal", "clean": "final"}, "transitions": [
  {"from": "free", "event": "take", "to": "taken", "guard": "hsn.one_at_most(jsonb,jsonb)", "effect": "hsn.effect(jsonb,jsonb)"},
  {"from": "taken", "event": "clean", "to": "clean", "guard": "hsn.is_logged(jsonb,jsonb)"}]}');
SELECT ordflow.attach('hsn.room', 'hsn', 'status');
INSERT INTO hsn.room SELECT n, 'free' FROM generate_series(1, 3) n;

-- the rows of the statement itself
UPDATE hsn.room SET status = 'taken';
UPDATE hsn.room SET status = 'taken' WHERE id = 1;
SELECT ordflow.fire('hsn.room', '1', 'clean');
-- what an earlier call in the statement did
SELECT ordflow.fire('hsn.room', '2', e) FROM unnest('{take,clean}'::text[]) WITH ORDINALITY AS u (e, n) ORDER BY n;
SELECT id, status FROM hsn.room ORDER BY id;
ROLLBACK;

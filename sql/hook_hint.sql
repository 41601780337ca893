-- Where a guard, an effect or a trigger is refused something, a hint tells why; a hint of its own is left.
\a \t
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA hhi;
CREATE TABLE hhi.doc (id int PRIMARY KEY, status text, own_hint boolean);
CREATE FUNCTION hhi.refuse(own_hint boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF own_hint THEN RAISE 'not you' USING ERRCODE = '42501', HINT = 'Ask the boss.'; END IF;
  RAISE 'not you' USING ERRCODE = '42501';
END $$;
CREATE FUNCTION hhi.guard(object jsonb, args jsonb) RETURNS boolean LANGUAGE plpgsql
AS $$ BEGIN PERFORM hhi.refuse((object #>> '{row,own_hint}')::boolean); RETURN true; END $$;
CREATE FUNCTION hhi.before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM hhi.refuse(NEW.own_hint); RETURN NEW; END $$;
SELECT ordflow.define_machine('hhi', '{"states": {"a": "initial", "b": "normal", "c": "final"}, "transitions": [
  {"from": "a", "event": "go", "to": "b", "guard": "hhi.guard(jsonb,jsonb)"}, {"from": "a", "event": "end", "to": "c"}]}');
SELECT ordflow.attach('hhi.doc', 'hhi', 'status');
INSERT INTO hhi.doc VALUES (1, 'a', true), (2, 'a', false);
CREATE TRIGGER before BEFORE UPDATE ON hhi.doc FOR EACH ROW EXECUTE FUNCTION hhi.before();
CREATE FUNCTION pg_temp.hint(key int, event text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  hint text;
BEGIN
  PERFORM ordflow.fire('hhi.doc', key::text, event);
EXCEPTION WHEN insufficient_privilege THEN
  GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
  RETURN split_part(hint, ',', 1);
END $$;
SELECT key, event, pg_temp.hint(key, event) FROM generate_series(1, 2) key, unnest('{go,end}'::text[]) event ORDER BY 1, 2 DESC;
ROLLBACK;

-- Effects: the transition's own first, then those of the event in the order they were added; all in the same transaction.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_eff;
CREATE TABLE att_eff.lamp (id int PRIMARY KEY, status text);
CREATE TABLE att_eff.log (n int GENERATED ALWAYS AS IDENTITY, who text, object jsonb, args jsonb, stands text);
CREATE FUNCTION att_eff.own(o jsonb, a jsonb) RETURNS void LANGUAGE sql
AS $$ INSERT INTO att_eff.log (who, object, args, stands) SELECT 'own', o, a, status FROM att_eff.lamp WHERE id = (o->>'key')::int $$;
CREATE FUNCTION att_eff.zulu(o jsonb, a jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO att_eff.log (who) VALUES ('zulu') $$;
CREATE FUNCTION att_eff.alpha(o jsonb, a jsonb) RETURNS void LANGUAGE sql AS $$ INSERT INTO att_eff.log (who) VALUES ('alpha') $$;
CREATE FUNCTION att_eff.odd(o jsonb, a jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF (o->>'key')::int % 2 = 1 THEN RAISE EXCEPTION 'odd' USING ERRCODE = 'SH002'; END IF;
END $$;
SELECT ordflow.define_machine('att_eff', '{"states": {"off": "initial", "on": "normal"}, "transitions": [
  {"from": "off", "event": "press", "to": "on", "effect": "att_eff.own(jsonb,jsonb)"},
  {"from": "on", "event": "press", "to": "off"}, {"from": "on", "event": "fail", "to": "off"}]}');
SELECT ordflow.add_effect('att_eff', 'press', 'att_eff.zulu(jsonb,jsonb)');
SELECT ordflow.add_effect('att_eff', 'press', 'att_eff.alpha(jsonb,jsonb)');
SELECT ordflow.attach('att_eff.lamp', 'att_eff', 'status');
INSERT INTO att_eff.lamp VALUES (1, 'off'), (2, 'off');

UPDATE att_eff.lamp SET status = 'on' WHERE id = 1;
SELECT who, object, args, stands FROM att_eff.log ORDER BY n;
TRUNCATE att_eff.log;
SELECT ordflow.fire('att_eff.lamp', '2', 'press', '{"finger": "thumb"}');
SELECT who, object - 'row' AS object, args, stands FROM att_eff.log ORDER BY n;
TRUNCATE att_eff.log;

-- an event without an effect of its own has those that were added; another event between the same states has none
SELECT ordflow.fire('att_eff.lamp', '1', 'press');
SELECT ordflow.fire('att_eff.lamp', '2', 'fail');
SELECT who FROM att_eff.log ORDER BY n;
TRUNCATE att_eff.log;

-- an effect that fails fails the step and all that came before it
SELECT ordflow.add_effect('att_eff', 'press', 'att_eff.odd(jsonb,jsonb)');
UPDATE att_eff.lamp SET status = 'on' WHERE id = 1;
SELECT ordflow.fire('att_eff.lamp', '1', 'press');
UPDATE att_eff.lamp SET status = 'on';
SELECT id, status FROM att_eff.lamp ORDER BY id;
UPDATE att_eff.lamp SET status = 'on' WHERE id = 2;
SELECT count(*) FROM att_eff.log;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_eff.lamp' ORDER BY history_id;
ROLLBACK;

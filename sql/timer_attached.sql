-- Timeouts of attached tables: fired by run_due with guards, effects, history; one after the other where one leads to the next.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
CREATE SCHEMA tatt;
CREATE TABLE tatt.trial (id int PRIMARY KEY, plan text, due timestamptz, vip boolean);
CREATE INDEX ON tatt.trial (due);
CREATE TABLE tatt.log (n int GENERATED ALWAYS AS IDENTITY, line text);
CREATE FUNCTION tatt.vip(o jsonb, a jsonb) RETURNS boolean LANGUAGE sql AS $$ SELECT (o #>> '{row,vip}')::boolean $$;
CREATE FUNCTION tatt.log(o jsonb, a jsonb) RETURNS void LANGUAGE sql
AS $$ INSERT INTO tatt.log (line) VALUES (concat_ws(' ', o->>'key', o->>'event', o->>'to', a)) $$;
SELECT ordflow.define_machine('tatt', '{"states": {"trial": "initial", "free": "normal", "gold": "normal", "gone": "final"}, "transitions": [
  {"from": "trial", "event": "end", "to": "gold", "after": "14 days", "guard": "tatt.vip(jsonb,jsonb)"},
  {"from": "trial", "event": "end", "to": "free", "after": "14 days", "effect": "tatt.log(jsonb,jsonb)"},
  {"from": "free", "event": "forget", "to": "gone", "after": "1 year"}, {"from": "gold", "event": "end", "to": "free"}]}');
SELECT ordflow.add_effect('tatt', 'forget', 'tatt.log(jsonb,jsonb)');
SELECT ordflow.attach('tatt.trial', 'tatt', 'plan', due_column => 'due');
INSERT INTO tatt.trial (id, plan, vip) VALUES (1, 'trial', true), (2, 'trial', false), (3, 'trial', NULL), (4, 'trial', true);
SELECT ordflow.run_due();
UPDATE tatt.trial SET due = clock_timestamp() WHERE id < 4;
SELECT ordflow.run_due();
SELECT id, plan, due > clock_timestamp() + interval '364 days' AS in_a_year, due IS NULL AS never FROM tatt.trial ORDER BY id;
SELECT line FROM tatt.log ORDER BY line;
SELECT key, event, from_state, to_state, reason, data FROM ordflow.object_history WHERE target = 'tatt.trial' AND from_state IS NOT NULL ORDER BY key;
TRUNCATE tatt.log;

-- as of two years later: what a step leads to is due from that time on, not in the same run
UPDATE tatt.trial SET vip = false WHERE id = 4;
SELECT ordflow.run_due(now() + interval '2 years') >= 3;
SELECT id, plan, due > now() + interval '2 years 364 days' AS in_three_years FROM tatt.trial ORDER BY id;
SELECT line FROM tatt.log ORDER BY line;

-- a row with a due time in a state without a timeout: it is parked, and no run is stopped by it
UPDATE tatt.trial SET due = clock_timestamp() WHERE id = 1;
INSERT INTO tatt.trial (id, plan, due) VALUES (5, 'trial', clock_timestamp());
SELECT ordflow.run_due();
SELECT id, plan FROM tatt.trial WHERE id IN (1, 5) ORDER BY id;
SELECT key, event, sqlstate FROM ordflow.parked WHERE target = 'tatt.trial';

-- detached, a table has no timeouts
SELECT ordflow.detach('tatt.trial');
UPDATE tatt.trial SET plan = 'trial', due = clock_timestamp();
SELECT ordflow.run_due();
ROLLBACK;

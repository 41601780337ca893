-- Two machines on one table: an object that one of them has parked is not held up in the other.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
CREATE SCHEMA ttwo;
CREATE TABLE ttwo.sale (id int PRIMARY KEY, goods text, money text, goods_due timestamptz, money_due timestamptz);
CREATE INDEX ON ttwo.sale (goods_due);
CREATE INDEX ON ttwo.sale (money_due);
CREATE FUNCTION ttwo.no(jsonb, jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
SELECT ordflow.define_machine('ttwo_goods', '{"states": {"here": "initial", "sent": "final"}, "transitions": [
  {"from": "here", "event": "send", "to": "sent", "after": "1 h", "effect": "ttwo.no(jsonb,jsonb)"}]}');
SELECT ordflow.define_machine('ttwo_money', '{"states": {"open": "initial", "dunned": "normal", "lost": "final"}, "transitions": [
  {"from": "open", "event": "dun", "to": "dunned", "after": "1 h"}, {"from": "dunned", "event": "lose", "to": "lost", "after": "1 h"}]}');
SELECT ordflow.attach('ttwo.sale', 'ttwo_goods', 'goods', due_column => 'goods_due');
SELECT ordflow.attach('ttwo.sale', 'ttwo_money', 'money', due_column => 'money_due');

-- one cannot go on, the other does, at once and when the first is tried again
INSERT INTO ttwo.sale VALUES (1, 'here', 'open', clock_timestamp(), clock_timestamp());
SELECT ordflow.run_due();
SELECT goods, money FROM ttwo.sale;
SELECT event, attempts FROM ordflow.parked WHERE target = 'ttwo.sale';
UPDATE ttwo.sale SET money_due = clock_timestamp();
UPDATE ordflow.parked SET retry_at = clock_timestamp() + interval '1 h' WHERE target = 'ttwo.sale';
SELECT ordflow.run_due();
SELECT goods, money FROM ttwo.sale;
SELECT event, attempts FROM ordflow.parked WHERE target = 'ttwo.sale';
UPDATE ordflow.parked SET retry_at = clock_timestamp() WHERE target = 'ttwo.sale';
SELECT ordflow.run_due();
SELECT event, attempts FROM ordflow.parked WHERE target = 'ttwo.sale';

-- both in one run, repaired
CREATE OR REPLACE FUNCTION ttwo.no(jsonb, jsonb) RETURNS void LANGUAGE sql AS '';
INSERT INTO ttwo.sale VALUES (2, 'here', 'open', clock_timestamp(), clock_timestamp());
UPDATE ordflow.parked SET retry_at = clock_timestamp() WHERE target = 'ttwo.sale';
SELECT ordflow.run_due();
SELECT id, goods, money FROM ttwo.sale ORDER BY id;
SELECT count(*) FROM ordflow.parked WHERE target = 'ttwo.sale';

-- events of the same name
CREATE TABLE ttwo.lot (id int PRIMARY KEY, goods text, money text, goods_due timestamptz, money_due timestamptz);
CREATE INDEX ON ttwo.lot (goods_due);
CREATE INDEX ON ttwo.lot (money_due);
CREATE OR REPLACE FUNCTION ttwo.no(jsonb, jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
SELECT ordflow.define_machine('ttwo_' || name, format('{"states": {"open": "initial", "over": "final"}, "transitions": [
  {"from": "open", "event": "lose", "to": "over", "after": "1 h"%s}]}', effect)::jsonb)
FROM (VALUES ('first', ', "effect": "ttwo.no(jsonb,jsonb)"'), ('second', '')) AS v (name, effect);
SELECT ordflow.attach('ttwo.lot', 'ttwo_first', 'goods', due_column => 'goods_due');
SELECT ordflow.attach('ttwo.lot', 'ttwo_second', 'money', due_column => 'money_due');
INSERT INTO ttwo.lot VALUES (1, 'open', 'open', clock_timestamp(), '2100-01-01');
SELECT ordflow.run_due();
SELECT target, key, state_column, event, attempts FROM ordflow.parked WHERE target = 'ttwo.lot';
UPDATE ttwo.lot SET money_due = clock_timestamp();
SELECT ordflow.run_due();
SELECT goods, money FROM ttwo.lot;
SELECT state_column, attempts FROM ordflow.parked WHERE target = 'ttwo.lot';
ROLLBACK;

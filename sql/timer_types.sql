-- Timeouts of tables with all kinds of keys, odd names and several machines.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
CREATE SCHEMA "Timer Types";
SELECT ordflow.define_machine('ttyp', '{"states": {"new": "initial", "o''ld": "final"}, "transitions": [{"from": "new", "event": "a\"ge", "to": "o''ld", "after": "1 h"}]}');
CREATE DOMAIN "Timer Types".code AS text CHECK (VALUE <> '');
CREATE TABLE "Timer Types"."By Text" ("Key" text PRIMARY KEY, "State" varchar(20), "Due" timestamptz, "Other" text, "Other Due" timestamptz);
CREATE TABLE "Timer Types".by_uuid (id uuid PRIMARY KEY, s text, d timestamptz);
CREATE TABLE "Timer Types".by_numeric (id numeric PRIMARY KEY, s text, d timestamptz);
CREATE TABLE "Timer Types".by_domain (id "Timer Types".code PRIMARY KEY, s text, d timestamptz);
CREATE TABLE "Timer Types".by_time (id timestamptz PRIMARY KEY, s text, d timestamptz);
CREATE INDEX ON "Timer Types"."By Text" ("Due");
CREATE INDEX ON "Timer Types"."By Text" ("Other Due");
SET LOCAL client_min_messages = warning;
SELECT ordflow.attach('"Timer Types"."By Text"', 'ttyp', 'State', due_column => 'Due');
SELECT ordflow.attach('"Timer Types"."By Text"', 'ttyp', 'Other', due_column => 'Other Due');
SELECT ordflow.attach(t, 'ttyp', 's', due_column => 'd') FROM (SELECT oid::regclass AS t FROM pg_class
  WHERE relnamespace = '"Timer Types"'::regnamespace AND relname LIKE 'by\_%' AND relkind = 'r' ORDER BY relname) AS t;
INSERT INTO "Timer Types"."By Text" VALUES ('it''s', 'new', clock_timestamp(), 'new', NULL), ('', 'new', NULL, 'new', clock_timestamp());
INSERT INTO "Timer Types".by_uuid VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'new', clock_timestamp());
INSERT INTO "Timer Types".by_numeric VALUES (1.50, 'new', clock_timestamp()), ('NaN', 'new', '-infinity'), (2, 'new', 'infinity');
INSERT INTO "Timer Types".by_domain VALUES ('x', 'new', clock_timestamp());
INSERT INTO "Timer Types".by_time VALUES ('2020-01-01', 'new', clock_timestamp());
SELECT ordflow.run_due();
SELECT "Key", "State", "Due" IS NULL, "Other", "Other Due" IS NULL FROM "Timer Types"."By Text" ORDER BY 1;
SELECT id, s, d IS NULL FROM "Timer Types".by_numeric ORDER BY id;
SELECT target, key, event FROM ordflow.object_history WHERE target LIKE '"Timer Types"%' AND from_state IS NOT NULL AND target NOT LIKE '%by_time'
ORDER BY 1, 2;
SELECT count(*) FROM ordflow.parked WHERE target LIKE '"Timer Types"%';

-- a numeric key that is parked is known again however it is written
UPDATE "Timer Types".by_numeric SET d = clock_timestamp() WHERE id = 1.5;
SELECT ordflow.run_due();
SELECT key, event FROM ordflow.parked WHERE target LIKE '"Timer Types"%';
SELECT ordflow.run_due();
SELECT attempts FROM ordflow.parked WHERE target LIKE '"Timer Types"%';
ROLLBACK;

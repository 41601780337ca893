-- The output plugin's own JSON: what a message has of each kind of change.
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/slots.sql'
\set VERBOSITY sqlstate
\a \t
CREATE SCHEMA sjson;
CREATE TABLE sjson.t (id int PRIMARY KEY, name text, n numeric(10, 2), ok boolean, doc json);
CREATE TABLE sjson."od""d" ("a b" int, "c\d" text, PRIMARY KEY ("c\d", "a b"));
CREATE TABLE sjson.whole (id int PRIMARY KEY, name text);
ALTER TABLE sjson.whole REPLICA IDENTITY FULL;
CREATE TABLE sjson.keyless (id int, name text);
CREATE TABLE sjson.named (id int PRIMARY KEY, code text NOT NULL, note text);
CREATE UNIQUE INDEX named_code ON sjson.named (code);
ALTER TABLE sjson.named REPLICA IDENTITY USING INDEX named_code;
\set slot sync_plugin_json
\i :include

-- insert, update, key changed, delete
INSERT INTO sjson.t VALUES (1, 'one', 1.50, true, E'{"a":\n\t[1, "\\n"]}'), (2, NULL, NULL, NULL, NULL);
UPDATE sjson.t SET name = E'\x01\x1f\\"\r\b\f/é€😀' WHERE id = 1;
UPDATE sjson.t SET id = 3 WHERE id = 2;
DELETE FROM sjson.t WHERE id = 3;
SELECT pg_temp.told(:'slot', 'tables', 'sjson.*');

-- names that need quotes; a key in its own order
INSERT INTO sjson."od""d" VALUES (1, 'x');
UPDATE sjson."od""d" SET "a b" = 2;
DELETE FROM sjson."od""d";
SELECT pg_temp.told(:'slot', 'tables', 'sjson.*');

-- the whole row before it
INSERT INTO sjson.whole VALUES (1, 'one');
UPDATE sjson.whole SET name = NULL;
DELETE FROM sjson.whole;
SELECT pg_temp.told(:'slot', 'tables', 'sjson.*');

-- neither key nor identity: a delete tells that there was one; an identity that is not the key
INSERT INTO sjson.keyless VALUES (1, 'one');
UPDATE sjson.keyless SET name = 'two';
DELETE FROM sjson.keyless;
INSERT INTO sjson.named VALUES (1, 'a', 'x');
UPDATE sjson.named SET code = 'b';
DELETE FROM sjson.named;
SELECT pg_temp.told(:'slot', 'tables', 'sjson.*');

-- ordinals go on through savepoints; what is rolled back is not told
BEGIN;
INSERT INTO sjson.t VALUES (4, 'four');
SAVEPOINT s;
INSERT INTO sjson.t VALUES (5, 'five');
ROLLBACK TO s;
INSERT INTO sjson.t VALUES (6, 'six');
COMMIT;
BEGIN;
INSERT INTO sjson.t VALUES (7, 'seven');
ROLLBACK;
SELECT pg_temp.told(:'slot', 'tables', 'sjson.*');

-- truncate and messages
TRUNCATE sjson.t, sjson.whole RESTART IDENTITY CASCADE;
SELECT 'sent' FROM pg_logical_emit_message(true, 'sjson', 'hello');
SELECT 'sent' FROM pg_logical_emit_message(true, 'another', 'hello');
BEGIN;
SELECT 'sent' FROM pg_logical_emit_message(false, 'sjson', '\x00ff'::bytea);
INSERT INTO sjson.keyless VALUES (2);
COMMIT;
SELECT pg_temp.told(:'slot', 'tables', 'sjson.*', 'message_prefixes', 'sjson, other');

-- transactions; one without anything of ours is none
BEGIN;
INSERT INTO sjson.t VALUES (8, 'eight');
UPDATE sjson.t SET name = 'acht';
COMMIT;
INSERT INTO sjson.keyless VALUES (3);
SELECT pg_temp.told(:'slot', 'tables', 'sjson.t', 'include_transactions', 'on');

-- keys beside values
INSERT INTO sjson.t VALUES (9, 'nine');
DELETE FROM sjson.t WHERE id = 9;
INSERT INTO sjson.keyless VALUES (4);
SELECT pg_temp.told(:'slot', 'tables', 'sjson.*', 'include_key', 'on');
-- the fields that are masked above
INSERT INTO sjson.t VALUES (10, 'ten');
SELECT m->>'lsn' ~ '^[0-9A-F]+/[0-9A-F]+$', (m->>'lsn')::pg_lsn < (m->>'commit_lsn')::pg_lsn, (m->>'xid')::bigint > 0,
       m->>'committed_at' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$', now() - (m->>'committed_at')::timestamptz < '1 min'
FROM pg_logical_slot_get_changes(:'slot', NULL, NULL, 'tables', 'sjson.t'), CAST(data AS json) AS m;
SELECT pg_drop_replication_slot(:'slot');
SET client_min_messages = warning;
DROP SCHEMA sjson CASCADE;

-- Debezium's messages: envelope, source, keys, tombstones, transactions.
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/slots.sql'
\set VERBOSITY sqlstate
\a \t
CREATE SCHEMA sdbz;
CREATE TABLE sdbz.t (id int PRIMARY KEY, name text, amount numeric(10, 2), at timestamptz);
CREATE TABLE sdbz.whole (id int PRIMARY KEY, name text);
ALTER TABLE sdbz.whole REPLICA IDENTITY FULL;
CREATE TABLE sdbz.keyless (id int);
\set slot sync_plugin_debezium
\i :include

-- all fields, in their order
INSERT INTO sdbz.t VALUES (1, 'one', 12.34, '2024-02-29 12:00:00.5+02');
SELECT pg_temp.told(:'slot', 'format', 'debezium', 'tables', 'sdbz.*', 'server_name', 'shop');
-- of an update the row before is told with REPLICA IDENTITY FULL, of a delete else its key
UPDATE sdbz.t SET name = 'two';
DELETE FROM sdbz.t;
INSERT INTO sdbz.whole VALUES (1, 'one');
UPDATE sdbz.whole SET name = 'two';
DELETE FROM sdbz.whole;
SELECT pg_temp.told_rows(:'slot', 'tables', 'sdbz.*');
-- a changed key: delete and insert; with keys a tombstone between them
INSERT INTO sdbz.t VALUES (1, 'one');
UPDATE sdbz.t SET id = 2;
UPDATE sdbz.t SET id = id;
DELETE FROM sdbz.t;
SELECT 'peeked' FROM pg_logical_slot_peek_changes(:'slot', NULL, NULL, 'format', 'debezium', 'tables', 'sdbz.*') LIMIT 1;
SELECT pg_temp.told_rows(:'slot', 'tables', 'sdbz.*', 'include_key', 'on', 'tombstones', 'on');
-- truncate, messages, and a delete of nobody knows what, which is left out with a warning
TRUNCATE sdbz.t, sdbz.keyless;
SELECT 'sent' FROM pg_logical_emit_message(true, 'sdbz', 'hello');
INSERT INTO sdbz.keyless VALUES (1), (2);
DELETE FROM sdbz.keyless;
SELECT pg_temp.told(:'slot', 'format', 'debezium', 'tables', 'sdbz.*', 'include_key', 'on', 'message_prefixes', 'sdbz');
-- transactions
BEGIN;
INSERT INTO sdbz.t VALUES (1), (2);
INSERT INTO sdbz.whole VALUES (1);
UPDATE sdbz.t SET id = 3 WHERE id = 1;
COMMIT;
SELECT pg_temp.told(:'slot', 'format', 'debezium', 'tables', 'sdbz.*', 'include_transactions', 'on', 'include_key', 'on');
-- what is masked above
INSERT INTO sdbz.t VALUES (5);
INSERT INTO sdbz.t VALUES (6);
SELECT s->>'db' = current_database(), s->>'name' = current_database(),
       (s->>'ts_ms')::bigint = (s->>'ts_us')::bigint / 1000, (s->>'ts_ns')::bigint = (s->>'ts_us')::bigint * 1000,
       abs(extract(epoch FROM now()) - (s->>'ts_ms')::bigint / 1000.0) < 60, (m->>'ts_ms')::bigint >= (s->>'ts_ms')::bigint,
       (s->>'sequence')::json->>1 = s->>'lsn', (s->>'sequence')::json->>0 < s->>'lsn' AS behind, s->>'snapshot', s->>'xmin'
FROM pg_logical_slot_get_changes(:'slot', NULL, NULL, 'format', 'debezium', 'tables', 'sdbz.*'),
     CAST(data AS json) AS m, CAST(m->>'source' AS json) AS s;
SELECT pg_drop_replication_slot(:'slot');
SET client_min_messages = warning;
DROP SCHEMA sdbz CASCADE;

-- Maxwell's JSON: transactions by xid, xoffset and commit; key, data and old.
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/slots.sql'
\set VERBOSITY sqlstate
\a \t
CREATE SCHEMA smax;
CREATE TABLE smax.t (id int, part text, n numeric(12, 2), ok boolean, at timestamptz, b bytea, j jsonb, PRIMARY KEY (part, id));
CREATE TABLE smax.whole (id int PRIMARY KEY, name text, n int);
ALTER TABLE smax.whole REPLICA IDENTITY FULL;
CREATE TABLE smax.keyless (id int);
\set slot sync_plugin_maxwell
\i :include

INSERT INTO smax.t VALUES (1, 'a', 12.30, true, '2024-02-29 10:00:00.25+02', '\x00ff', '{"a": [1, null]}'), (2, 'a', 'NaN', NULL, 'infinity', NULL, NULL);
UPDATE smax.t SET ok = false WHERE id = 1;
UPDATE smax.t SET id = 3 WHERE id = 2;
DELETE FROM smax.t WHERE id = 3;
INSERT INTO smax.whole VALUES (1, NULL, 1);
UPDATE smax.whole SET name = 'one';
UPDATE smax.whole SET name = NULL;
DELETE FROM smax.whole;
SELECT pg_temp.told(:'slot', 'format', 'maxwell', 'tables', 'smax.*');
-- the last one of ours ends the transaction, whatever else is in it
BEGIN;
INSERT INTO smax.whole VALUES (2, ',"xoffset":7,', 1);
INSERT INTO smax.whole VALUES (3, ',"xoffset":7,', 1);
TRUNCATE smax.keyless;
SELECT 'sent' FROM pg_logical_emit_message(true, 'smax', 'hello');
COMMIT;
INSERT INTO smax.keyless VALUES (1);
SELECT pg_temp.told(:'slot', 'format', 'maxwell', 'tables', 'smax.whole', 'include_key', 'on');
-- deletes of nobody knows what are none
DELETE FROM smax.keyless;
INSERT INTO smax.keyless VALUES (2);
SELECT pg_temp.told(:'slot', 'format', 'maxwell', 'tables', 'smax.*', 'include_key', 'on');
INSERT INTO smax.keyless VALUES (1);
SELECT abs(extract(epoch FROM now()) - (m->>'ts')::bigint) < 60, (m->>'xid')::bigint > 0, m->>'database' = current_database()
FROM pg_logical_slot_get_changes(:'slot', NULL, NULL, 'format', 'maxwell', 'tables', 'smax.*'), CAST(data AS jsonb) AS m;
SELECT pg_drop_replication_slot(:'slot');
SET client_min_messages = warning;
DROP SCHEMA smax CASCADE;

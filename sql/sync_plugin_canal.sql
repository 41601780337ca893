-- Canal's FlatMessage: fields, types as MySQL has them, old, and what the WAL does not tell.
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/slots.sql'
\set VERBOSITY sqlstate
\a \t
CREATE SCHEMA scanal;
CREATE TABLE scanal.t (id bigint, part smallint, ok boolean, r real, d double precision, n numeric(12, 2), free numeric, c char(3), v varchar(20),
    unbound varchar, txt text, day date, tod time, at timestamp, atz timestamptz, b bytea, j jsonb, u uuid, tags text[], PRIMARY KEY (part, id));
CREATE TABLE scanal.whole (id int PRIMARY KEY, name text, n int, big text);
ALTER TABLE scanal.whole REPLICA IDENTITY FULL;
ALTER TABLE scanal.whole ALTER big SET STORAGE EXTERNAL;
CREATE TABLE scanal.big (id int PRIMARY KEY, n int, big text);
ALTER TABLE scanal.big ALTER big SET STORAGE EXTERNAL;
CREATE TABLE scanal.keyless (id int);
\set slot sync_plugin_canal
\i :include

INSERT INTO scanal.t VALUES (1, 2, true, 1.5, 'NaN', 12.3, 1e-3, 'ab', 'x', 'y', E'"\n', '2024-02-29', '10:11:12.5', '2024-02-29 10:00:00',
    '2024-02-29 10:00:00.25+02', '\x0041ff5c22', '{"a": null}', '00000000-0000-0000-0000-000000000001', '{a,NULL}');
INSERT INTO scanal.t (id, part, day, at, atz) VALUES (2, 2, 'infinity', '-infinity', 'infinity'), (3, 2, '0044-03-15 BC', '-infinity', '12000-01-01');
SELECT pg_temp.told(:'slot', 'format', 'canal', 'tables', 'scanal.*');
-- the row before is known by its key alone: old has what changed of it, or nothing
UPDATE scanal.t SET v = 'z' WHERE id = 3;
UPDATE scanal.t SET id = 4 WHERE id = 2;
DELETE FROM scanal.t WHERE id = 4;
SELECT (m->'pkNames')::text, m->>'isDdl', m->>'type', m->'data'->0->>'v', m->>'data' ~ '"v"', m->'old', m->>'database' = current_database()
FROM pg_logical_slot_get_changes(:'slot', NULL, NULL, 'format', 'canal', 'tables', 'scanal.*'), CAST(data AS jsonb) AS m;
-- it is known as a whole
INSERT INTO scanal.whole VALUES (1, 'one', 1, repeat('x', 3000));
UPDATE scanal.whole SET name = NULL, n = 2;
UPDATE scanal.whole SET name = 'two';
UPDATE scanal.whole SET id = 2;
UPDATE scanal.whole SET big = 'small';
DELETE FROM scanal.whole;
SELECT m->>'type', left(m->'data'->0->>'big', 10), (m->'data'->0) - 'big', length(nullif(m->'old', 'null')->0->>'big'), (nullif(m->'old', 'null')->0) - 'big'
FROM pg_logical_slot_get_changes(:'slot', NULL, NULL, 'format', 'canal', 'tables', 'scanal.*'), CAST(data AS jsonb) AS m;
-- a TOASTed value that the update left alone is not in the data
INSERT INTO scanal.big VALUES (1, 1, repeat('x', 3000));
UPDATE scanal.big SET n = 2;
SELECT m->>'type', length(m->'data'->0->>'big'), m->'data'->0 ? 'big', m->'sqlType'
FROM pg_logical_slot_get_changes(:'slot', NULL, NULL, 'format', 'canal', 'tables', 'scanal.*'), CAST(data AS jsonb) AS m;
-- truncate; messages and deletes of nobody knows what are none
TRUNCATE scanal.t;
SELECT 'sent' FROM pg_logical_emit_message(true, 'scanal', 'hello');
INSERT INTO scanal.keyless VALUES (1);
DELETE FROM scanal.keyless;
SELECT pg_temp.told(:'slot', 'format', 'canal', 'tables', 'scanal.*');
INSERT INTO scanal.keyless VALUES (1);
SELECT abs(extract(epoch FROM now()) - (m->>'es')::bigint / 1000.0) < 60, (m->>'ts')::bigint >= (m->>'es')::bigint, (m->>'id')::bigint > 0
FROM pg_logical_slot_get_changes(:'slot', NULL, NULL, 'format', 'canal', 'tables', 'scanal.*'), CAST(data AS jsonb) AS m;
SELECT pg_drop_replication_slot(:'slot');
SET client_min_messages = warning;
DROP SCHEMA scanal CASCADE;

-- What a client of the output plugin may ask for, and what it is refused with 22023.
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/slots.sql'
\set VERBOSITY sqlstate
\a \t
CREATE SCHEMA sopt;
CREATE SCHEMA "So,pt";
CREATE TABLE sopt.a (id int PRIMARY KEY, secret text, note text);
CREATE TABLE sopt.times (id int PRIMARY KEY, at timestamptz, took interval, raw bytea, cash money);
CREATE TABLE sopt."B.b" (id int PRIMARY KEY);
CREATE TABLE "So,pt".c (id int PRIMARY KEY);
\set slot sync_plugin_options
\i :include
INSERT INTO sopt.a VALUES (1, 'hidden', 'seen');
INSERT INTO sopt."B.b" VALUES (1);
INSERT INTO "So,pt".c VALUES (1);
CREATE FUNCTION pg_temp.peek(VARIADIC options text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT concat(m->>'schema', '.', m->>'table', ' ', m->>'new')
        FROM pg_logical_slot_peek_changes('sync_plugin_options', NULL, NULL, VARIADIC options), CAST(data AS json) AS m;
EXCEPTION WHEN OTHERS THEN
    RETURN NEXT sqlstate || ' ' || sqlerrm;
END $$;

-- which tables
SELECT pg_temp.peek('tables', 'sopt.a');
SELECT pg_temp.peek('tables', ' SOPT.A ,sopt."B.b"');
SELECT pg_temp.peek('tables', 'sopt.*');
SELECT pg_temp.peek('tables', '"So,pt".*, sopt.none, none.*');
SELECT pg_temp.peek('tables', 'sopt."*"');
SELECT names, pg_temp.peek('tables', names) FROM unnest(ARRAY['a', 'a.b.c', 'sopt.', '.a', 'sopt.a,', ',', '*', '*.*', '"sopt.a', 'sopt a', 'so"pt.a', '""."a"']) AS names;
-- which columns
SELECT pg_temp.peek('tables', 'sopt.a', 'exclude_columns', 'sopt.a.secret');
SELECT pg_temp.peek('tables', 'sopt.a', 'exclude_columns', 'sopt.a.secret, sopt.a.id, sopt.a.note, sopt.a.none');
SELECT names, pg_temp.peek('exclude_columns', names) FROM unnest(ARRAY['sopt.a', 'a', 'sopt.a.*.b', 'sopt.a.']) AS names;
-- values that are none
SELECT name, pg_temp.peek(name, 'maybe') FROM unnest(ARRAY['format', 'origin', 'include_key', 'include_transactions', 'publish_via_root', 'streaming', 'tombstones']) AS name;
SELECT name, pg_temp.peek(name, '') FROM unnest(ARRAY['format', 'origin', 'include_key', 'server_name']) AS name;
-- options that are none, and those that other formats have
SELECT pg_temp.peek('include-xids', '1');
SELECT pg_temp.peek('Format', 'json');
SELECT format, option, pg_temp.peek('format', format, option, 'on')
FROM unnest(ARRAY['debezium', 'canal', 'maxwell']) AS format, unnest(ARRAY['streaming', 'include_transactions', 'tombstones']) AS option
WHERE (format, option) <> ('debezium', 'include_transactions');
SELECT pg_temp.peek('tombstones', 'on', 'include_key', 'on');
\set VERBOSITY default
SELECT * FROM pg_logical_slot_peek_changes(:'slot', NULL, NULL, 'nonsense', '1');
SELECT * FROM pg_logical_slot_peek_changes(:'slot', NULL, NULL, 'format', 'avro');
\set VERBOSITY sqlstate

-- what comes from elsewhere
SELECT pg_replication_origin_create('sync_plugin_options') > 0;
SELECT pg_replication_origin_session_setup('sync_plugin_options');
INSERT INTO sopt.a VALUES (2, 'replicated', 'here');
SELECT pg_replication_origin_session_reset();
SELECT pg_replication_origin_drop('sync_plugin_options');
SELECT pg_temp.peek('tables', 'sopt.a');
SELECT pg_temp.peek('tables', 'sopt.a', 'origin', 'any');
SELECT pg_temp.peek('tables', 'sopt.a', 'origin', 'none');

-- a reader leaves the session's settings alone, whether it reads to the end or fails
SET timezone = 'Asia/Tokyo';
SET datestyle = 'German';
SET bytea_output = 'escape';
INSERT INTO sopt.times VALUES (1, '29.02.2024 12:00+09', '1 day 02:00', '\x00', '1');
SELECT pg_temp.peek('tables', 'sopt.times');
SELECT count(*) > 0 FROM pg_logical_slot_peek_changes(:'slot', NULL, NULL);
SHOW timezone;
SELECT pg_temp.peek('tables', 'wrong');
SHOW timezone;
SHOW datestyle;
RESET timezone;
RESET datestyle;
RESET bytea_output;

-- large transactions before their end, for who asks for it
SET logical_decoding_work_mem = '64kB';
SELECT 'read' FROM pg_logical_slot_get_changes(:'slot', NULL, NULL) LIMIT 1;
BEGIN;
INSERT INTO sopt.a SELECT g, repeat('x', 100) FROM generate_series(1000, 2000) AS g;
SAVEPOINT s;
INSERT INTO sopt.a SELECT g, repeat('x', 100) FROM generate_series(3000, 4000) AS g;
ROLLBACK TO s;
INSERT INTO sopt.a SELECT g, repeat('x', 100) FROM generate_series(5000, 6000) AS g;
COMMIT;
WITH told AS (SELECT data::json AS m FROM pg_logical_slot_peek_changes(:'slot', NULL, NULL, 'tables', 'sopt.a', 'streaming', 'on'))
SELECT m->>'op' AS op, count(*) > 1 AS many, bool_and(m->>'xid' IS NOT NULL), bool_or(m->>'commit_lsn' IS NOT NULL), bool_or((m->>'changes')::int >= 2002)
FROM told GROUP BY 1 ORDER BY 1;
SELECT count(*), count(DISTINCT m->>'ordinal'), bool_and(m->>'commit_lsn' IS NOT NULL)
FROM pg_logical_slot_peek_changes(:'slot', NULL, NULL, 'tables', 'sopt.a'), CAST(data AS json) AS m;
RESET logical_decoding_work_mem;
SELECT pg_drop_replication_slot(:'slot');
SET client_min_messages = warning;
DROP SCHEMA sopt, "So,pt" CASCADE;

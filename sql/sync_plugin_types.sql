-- Values of every type, and tables of every kind, as the formats write them.
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/slots.sql'
\set VERBOSITY sqlstate
\a \t
SET client_min_messages = warning;
CREATE SCHEMA styp;
CREATE TYPE styp.mood AS ENUM ('sad', 'it''s "fine"');
CREATE DOMAIN styp.cents AS numeric(30, 10) CHECK (VALUE >= 0);
CREATE DOMAIN styp.few AS styp.cents;
CREATE TYPE styp.pair AS (x int, y text);
CREATE TABLE styp.t (id uuid, i2 smallint, i4 int, i8 bigint, o oid, f4 real, f8 double precision, n numeric(30, 10), nn numeric, ns numeric(5, 0), m money,
    ok boolean, c char(5), v varchar(9), ch "char", nm name, txt text, b bytea, d date, tod time, tod3 time(3), todz timetz, ts timestamp, ts3 timestamp(3),
    tz timestamptz, iv interval, j json, jb jsonb, ia int[], ta text[], na numeric(6, 2)[], ea styp.mood[], e styp.mood, dom styp.few, p styp.pair, ip inet,
    b1 bit(1), b9 bit(9), bv varbit, pt point, ir int4range, x xml, PRIMARY KEY (id, i2));
ALTER TABLE styp.t REPLICA IDENTITY FULL;
\set slot sync_plugin_types
\i :include
CREATE PROCEDURE pg_temp.add(VARIADIC columns text[]) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO styp.t (id, i2, %s) VALUES (%L, 1, %s)', columns[1], '00000000-0000-0000-0000-000000000001',
                   (SELECT string_agg(quote_nullable(c), ', ') FROM unnest(columns[2:]) AS c));
    DELETE FROM styp.t;
END $$;
CREATE FUNCTION pg_temp.rows(format text) RETURNS SETOF text LANGUAGE sql AS $$
SELECT (SELECT string_agg(key || ' ' || value, '  ' ORDER BY at) FROM json_each_text(row) WITH ORDINALITY AS c (key, value, at) WHERE at > 2 AND value IS NOT NULL)
FROM pg_logical_slot_peek_changes('sync_plugin_types', NULL, NULL, 'tables', 'styp.t', 'format', format), CAST(data AS json) AS m,
     coalesce(m->'new', m->'after', CASE WHEN lower(m->>'type') = 'insert' THEN coalesce(m->'data'->0, m->'data') END) AS row
WHERE row IS NOT NULL AND json_typeof(row) = 'object'
$$;
CALL pg_temp.add('i4, i8, o, f4, f8', '-2147483648', '9223372036854775807', '4294967295', '1e-10', '5e-324');
CALL pg_temp.add('i4, i8, o, f4, f8', '0', '-9223372036854775808', '0', 'NaN', '-Infinity');
CALL pg_temp.add('n, nn, ns, m', '12345678901234567890.0123456789', '-1e-20', '-99999', '-$1,234.56');
CALL pg_temp.add('n, nn, ns, m', '0', 'NaN', '-128', '128.00');
CALL pg_temp.add('n, nn, ns', '-0.0000000001', '1e30', '255');
CALL pg_temp.add('n, nn, dom', 'NaN', '-Infinity', '99.99');
CALL pg_temp.add('ok, c, v, ch, nm, txt', 'f', 'ab', 'x', 'y', 'a name', E'tab\there');
CALL pg_temp.add('ok, txt, b', 't', '', '\x');
CALL pg_temp.add('b, d, tod, tod3, todz', '\xdeadbeef01', '2024-02-29', '23:59:59.999999', '24:00:00', '01:02:03.4+05:30');
CALL pg_temp.add('d, ts, ts3, tz', '0044-03-15 BC', '1969-12-31 23:59:59.999999', '1970-01-01 00:00:00.001', '2024-06-01 12:00:00+02');
CALL pg_temp.add('d, ts, ts3, tz', '-infinity', 'infinity', '-infinity', '-infinity');
CALL pg_temp.add('d, ts, ts3, tz', '12024-01-01', '294276-12-31 23:59:59.999999', '0001-01-01 BC', '0044-03-15 12:00:00+00 BC');
CALL pg_temp.add('d, ts, ts3, tz', '0001-01-01', '9999-12-31 23:59:59.999999', '0001-01-01', '10000-01-01 00:00:00+00');
CALL pg_temp.add('iv', '1 year -2 mons +3 days -04:05:06.789');
CALL pg_temp.add('iv', '178000000 years');
CALL pg_temp.add('j, jb', E'{"b": 1,\n"a": "\\u00e9"}', '{"b": 1.50, "a": [true, null]}');
CALL pg_temp.add('ia, ta, na, ea', '[2:3]={1,NULL}', '{"a \"b\" \\",NULL,"null",""}', '{{1.5,-2},{0,NULL}}', '{sad,"it''s \"fine\""}');
CALL pg_temp.add('ia, ta', '{}', '{}');
CALL pg_temp.add('e, p, ip, ir, x', 'it''s "fine"', '(1,"a,b")', '10.0.0.0/8', '[1,5)', '<a b="c"/>');
CALL pg_temp.add('b1, b9, bv, pt', '1', '100000010', '101', '(1.5,-0.25)');
SELECT pg_temp.rows('json');
SELECT pg_temp.rows('debezium');
SELECT pg_temp.rows('canal');
SELECT pg_temp.rows('maxwell');
DROP TABLE styp.t;

-- generated columns that are stored; without a key; keys of two columns
CREATE TABLE styp.generated (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE styp.keyless (a int, b text);
CREATE TABLE styp.composite (a int, b text, c int, PRIMARY KEY (c, a));
INSERT INTO styp.generated VALUES (21);
INSERT INTO styp.keyless VALUES (1, 'x');
INSERT INTO styp.composite VALUES (1, 'x', 2);
SELECT data::json->'key', data::json->'new' FROM pg_logical_slot_get_changes(:'slot', NULL, NULL, 'tables', 'styp.generated, styp.keyless, styp.composite');

-- a megabyte, in the row and out of line; unchanged it is told as such
CREATE TABLE styp.big (id int PRIMARY KEY, n int, body text, raw bytea, list text[]);
ALTER TABLE styp.big ALTER body SET STORAGE EXTERNAL, ALTER raw SET STORAGE EXTERNAL, ALTER list SET STORAGE EXTERNAL;
INSERT INTO styp.big SELECT 1, 1, string_agg(md5(g::text), '' ORDER BY g), decode(string_agg(md5(g::text), '' ORDER BY g), 'hex'), array_agg(md5(g::text) ORDER BY g)
FROM generate_series(1, 32768) AS g;
INSERT INTO styp.big VALUES (2, 1, repeat('compress ', 100000), NULL, NULL);
UPDATE styp.big SET n = 2;
SELECT length(m->'new'->>'body'), md5(m->'new'->>'body') = (SELECT md5(body) FROM styp.big WHERE id = (m->'new'->>'id')::int) AS same,
       (m->'new'->>'raw')::bytea = (SELECT raw FROM styp.big WHERE id = (m->'new'->>'id')::int) AS same, m->'unchanged'
FROM pg_logical_slot_peek_changes(:'slot', NULL, NULL, 'tables', 'styp.big'), CAST(data AS json) AS m;
SELECT left(m->'after'->>'body', 40), left(m->'after'->>'raw', 40), left(m->'after'->>'list', 40)
FROM pg_logical_slot_get_changes(:'slot', NULL, NULL, 'tables', 'styp.big', 'format', 'debezium'), CAST(data AS json) AS m;

-- partitions, told as their root in its columns, or as themselves
CREATE TABLE styp.root (id int, region text, note text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE styp.mid (note text, gone int, region text NOT NULL, id int NOT NULL) PARTITION BY RANGE (id);
ALTER TABLE styp.mid DROP gone;
ALTER TABLE styp.root ATTACH PARTITION styp.mid FOR VALUES IN ('eu');
CREATE TABLE styp.leaf PARTITION OF styp.mid FOR VALUES FROM (1) TO (100);
CREATE TABLE styp.other PARTITION OF styp.root DEFAULT;
INSERT INTO styp.root VALUES (1, 'eu', 'x');
UPDATE styp.root SET note = 'y';
UPDATE styp.root SET region = 'us';
DELETE FROM styp.root;
TRUNCATE styp.root;
TRUNCATE styp.leaf;
SELECT pg_temp.told(:'slot', 'tables', 'styp.leaf');
INSERT INTO styp.root VALUES (1, 'eu', 'x');
UPDATE styp.root SET region = 'us';
TRUNCATE styp.root;
TRUNCATE styp.leaf;
SELECT data::json->>'op', data::json->>'table', data::json->'key', data::json->'new' FROM pg_logical_slot_peek_changes(:'slot', NULL, NULL, 'tables', 'styp.*');
SELECT data::json->>'op', data::json->>'table', data::json->'key', data::json->'new'
FROM pg_logical_slot_get_changes(:'slot', NULL, NULL, 'tables', 'styp.*', 'publish_via_root', 'off');

-- two hundred columns
DO $$ BEGIN
    EXECUTE (SELECT format('CREATE TABLE styp.wide (%s)', string_agg(format('c%s int', g), ', ' ORDER BY g)) FROM generate_series(1, 200) AS g);
    EXECUTE (SELECT format('INSERT INTO styp.wide VALUES (%s)', string_agg(g::text, ', ' ORDER BY g)) FROM generate_series(1, 200) AS g);
END $$;
SELECT (SELECT count(*) = 200 AND bool_and(key = 'c' || value) FROM json_each_text(data::json->'new')) FROM pg_logical_slot_get_changes(:'slot', NULL, NULL, 'tables', 'styp.wide');
SELECT pg_drop_replication_slot(:'slot');
DROP SCHEMA styp CASCADE;

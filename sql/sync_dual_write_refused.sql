-- dual_write: what cannot be a sync, and what a row cannot be.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
SET client_min_messages = warning;
BEGIN;
CREATE SCHEMA dual;
CREATE TABLE dual.s (id int PRIMARY KEY, v text, n int, later int, UNIQUE (n) DEFERRABLE);
CREATE UNIQUE INDEX ON dual.s (v) WHERE n > 0;
CREATE TABLE dual.t (id int PRIMARY KEY, v text, n smallint UNIQUE, g int GENERATED ALWAYS AS (id * 2) STORED,
    i int GENERATED ALWAYS AS IDENTITY);
CREATE TABLE dual.identity (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
CREATE VIEW dual.view AS TABLE dual.s;
CREATE TEMP TABLE temporary (LIKE dual.s INCLUDING ALL);
CREATE TABLE dual.parted (id int PRIMARY KEY) PARTITION BY LIST (id);
CREATE TABLE dual.part PARTITION OF dual.parted DEFAULT;
CREATE FUNCTION pg_temp.sync(options jsonb, source text DEFAULT 'dual.s', target text DEFAULT 'dual.t') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ordflow.create_sync('dual_refused', source => source::regclass, target => target, mode => 'dual_write', options => options);
    PERFORM ordflow.drop_sync('dual_refused');
    RETURN 'made';
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate;
END $$;

-- columns and expressions
SELECT pg_temp.sync('{"columns": {"id": "id"}, "key": ["id"]}');
SELECT pg_temp.sync('{"columns": {"id": "id", "gone": "v"}, "key": ["id"]}');
SELECT pg_temp.sync('{"columns": {"id": "id", "v": "gone"}, "key": ["id"]}');
SELECT pg_temp.sync('{"columns": {"id": "id", "ctid": "v"}, "key": ["id"]}');
SELECT pg_temp.sync('{"columns": {"id": "id", "v": "ctid::text"}, "key": ["id"]}');
SELECT pg_temp.sync('{"columns": {"id": "id", "g": "n"}, "key": ["id"]}');
SELECT pg_temp.sync('{"columns": {"id": "id", "i": "n"}, "key": ["id"]}');
SELECT pg_temp.sync('{"columns": {"id": "id"}, "key": ["id"]}', target => 'dual.identity');
SELECT pg_temp.sync('{"columns": {"id": "id", "n": "v"}, "key": ["id"]}');
SELECT pg_temp.sync('{"columns": {"id": "id", "v": "gone(v)"}, "key": ["id"]}');
SELECT pg_temp.sync('{"columns": {"id": "id", "v": "("}, "key": ["id"]}');
SELECT pg_temp.sync(jsonb_build_object('columns', jsonb_build_object('id', 'id', 'v', e), 'key', '["id"]'::jsonb))
FROM unnest(ARRAY['v, n', 'v AS x', 'v FROM dual.s', 'DISTINCT v', 'v WHERE true', 'v ORDER BY 1', 'v; DROP TABLE dual.s',
    'v UNION SELECT v', 'DEFAULT', '*', 's.*', '$1']) AS e;
SELECT pg_temp.sync(jsonb_build_object('columns', jsonb_build_object('id', 'id', 'v', e), 'key', '["id"]'::jsonb))
FROM unnest(ARRAY['max(v)', '(SELECT v)', 'max(v) OVER ()', 'regexp_split_to_table(v, '','')']) AS e;
SELECT pg_temp.sync('{"columns": {"id": "id"}, "key": ["id"], "filter": "n"}');
SELECT pg_temp.sync('{"columns": {"id": "id"}, "key": ["id"], "filter": "gone > 0"}');

-- keys: of the target, then of the source
CREATE TABLE dual.keyless (id int);
SELECT pg_temp.sync('{"columns": {"id": "id"}}', target => 'dual.keyless');
SELECT pg_temp.sync('{"columns": {"id": "id"}, "key": ["id", "id"]}');
SELECT pg_temp.sync('{"columns": {"v": "v"}, "key": ["id"]}');
SELECT pg_temp.sync('{"columns": {"id": "id", "v": "v"}, "key": ["v"]}');
SELECT pg_temp.sync('{"columns": {"id": "id", "v": "v"}, "key": ["id", "v"]}');
SELECT pg_temp.sync('{"columns": {"id": "id + 1"}, "key": ["id"]}');
SELECT pg_temp.sync('{"columns": {"id": "later"}, "key": ["id"]}');
SELECT pg_temp.sync('{"columns": {"id": "n"}, "key": ["id"]}');
CREATE UNIQUE INDEX ON dual.t (v, id);
SELECT pg_temp.sync('{"columns": {"id": "id", "v": "''constant''"}, "key": ["id", "v"]}');

-- tables
SELECT pg_temp.sync('{"key": ["id"]}', target => 'dual.s');
SELECT pg_temp.sync('{"key": ["id"]}', source => 'dual.part', target => 'dual.parted');
SELECT pg_temp.sync('{"key": ["id"]}', source => 'dual.parted', target => 'dual.part');
SELECT pg_temp.sync('{"key": ["id"]}', target => 'dual.view');
SELECT pg_temp.sync('{"key": ["id"]}', source => 'dual.view');
SELECT pg_temp.sync('{"key": ["id"]}', target => 'temporary');
SELECT pg_temp.sync('{"key": ["id"]}', source => 'temporary');

-- one sync for a target, which is not dropped by the way
SELECT ordflow.create_sync('dual_one', source => 'dual.s', target => 'dual.t', mode => 'dual_write',
    options => '{"columns": {"id": "id", "v": "v", "n": "n"}, "key": ["id"]}');
SELECT pg_temp.sync('{"columns": {"id": "id"}, "key": ["id"]}', source => 'dual.parted');
DROP TABLE dual.t;
ALTER TABLE dual.t ALTER v SET NOT NULL;

-- rows: a value that does not fit, a key that is NULL, what the target demands, columns that go
INSERT INTO dual.s VALUES (1, 'x', 40000);
INSERT INTO dual.s VALUES (1, NULL, 4);
INSERT INTO dual.s VALUES (1, 'x', 4);
ALTER TABLE dual.s RENAME later TO sooner;
UPDATE dual.s SET v = 'y';
ALTER TABLE dual.s RENAME v TO w;
UPDATE dual.s SET w = 'z';
TABLE dual.t;
SELECT ordflow.drop_sync('dual_one');
UPDATE dual.s SET w = 'z';
DROP TABLE dual.t;
ROLLBACK;

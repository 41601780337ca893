-- create_sync: what is refused, and that nothing of it stays.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA shop_create;
CREATE TABLE shop_create.item (id int PRIMARY KEY, name text, price numeric(10,2));
CREATE TABLE shop_create.copy (id int PRIMARY KEY, name text, price numeric(10,2));
CREATE TABLE shop_create.keyless (id int, name text);
CREATE TABLE shop_create.no_unique (id int, name text);
CREATE UNLOGGED TABLE shop_create.unlogged (id int PRIMARY KEY);
CREATE VIEW shop_create.seen AS SELECT * FROM shop_create.item;
CREATE SERVER shop_create_redis FOREIGN DATA WRAPPER ordflow_redis OPTIONS (port '1');
CREATE USER MAPPING FOR PUBLIC SERVER shop_create_redis;

-- the state and message that a call ends with
CREATE FUNCTION pg_temp.try(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
    EXECUTE 'SELECT ' || call;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', sqlstate, sqlerrm, nullif(hint, ''));
END $$;

\set to_table 'ordflow.create_sync(''s'', ''shop_create.item'', target => ''shop_create.copy'', options => %L)'
\set to_redis 'ordflow.create_sync(''s'', ''shop_create.item'', ''shop_create_redis'', %L, options => %L)'

-- modes and targets
SELECT mode, pg_temp.try(format($$ ordflow.create_sync('s', 'shop_create.item', target => 'shop_create.copy', mode => %L) $$, mode))
FROM unnest(ARRAY['scheduled', 'emit', 'often']) AS mode;
SELECT pg_temp.try($$ ordflow.create_sync('s', 'shop_create.item', options => '{"copy": false}') $$);
SELECT pg_temp.try($$ ordflow.create_sync('s', 'shop_create.item', target => 'shop_create.gone', options => '{"copy": false}') $$);
SELECT pg_temp.try($$ ordflow.create_sync('s', 'shop_create.item', target => 'shop_create.item', options => '{"copy": false}') $$);
SELECT pg_temp.try($$ ordflow.create_sync('s', 'shop_create.item', target => 'shop_create.no_unique', options => '{"copy": false, "columns": ["id", "name"]}') $$);
SELECT pg_temp.try($$ ordflow.create_sync('s', 'shop_create.item', target => 'shop_create.seen', options => '{"copy": false}') $$);
SELECT pg_temp.try($$ ordflow.create_sync('s', 'shop_create.item', 'gone', 'k:{id}', options => '{"copy": false}') $$);

-- sources
SELECT source, pg_temp.try(format($$ ordflow.create_sync('s', %L, target => 'shop_create.copy', options => '{"copy": false}') $$, source))
FROM unnest(ARRAY['shop_create.gone', 'shop_create.keyless', 'shop_create.unlogged', 'shop_create.seen', 'pg_class']) AS source;
SELECT pg_temp.try($$ ordflow.create_sync('s', 'shop_create.keyless', 'shop_create_redis', 'k:{id}', options => '{"copy": false}') $$);

-- options
SELECT options, pg_temp.try(format(:'to_table', options)) FROM unnest(ARRAY[
    '[]', '{"copy": "no"}', '{"colums": []}', '{"type": "hash"}', '{"columns": {}}', '{"columns": ["id", "id"]}', '{"columns": ["id", 7]}',
    '{"copy": false, "columns": ["id", "colour"]}', '{"copy": false, "columns": {"id": "id", "colour": "name"}}',
    '{"copy": false, "key": ["name"]}', '{"copy": false, "key": "id"}', '{"copy": false, "filter": "price >"}',
    '{"copy": false, "filter": "colour = 1"}', '{"format": "avro"}', '{"on_error": "ignore"}', '{"on_truncate": 1}',
    '{"batch_rows": 0}', '{"batch_rows": 1.5}', '{"rate": "fast"}']) AS options;
SELECT target, options, pg_temp.try(format(:'to_redis', target, options)) FROM (VALUES
    ('item:{id}', '{"copy": false, "type": "set"}'), ('item:{colour}', '{"copy": false}'), ('item:{id', '{"copy": false}'),
    ('item:{name}', '{"copy": false}'), (NULL, '{"copy": false}'), ('item:{id}', '{"copy": false, "type": "string"}'),
    ('item:{id}', '{"copy": false, "maxlen": 5}'), ('item:{id}', '{"copy": false, "type": "evict", "ttl": "1 day"}'),
    ('item:{id}', '{"copy": false, "ttl": "soon"}'), ('item:{id}', '{"copy": false, "ttl": "0 s"}')) AS t (target, options);

-- arguments
SELECT call, pg_temp.try(call) FROM unnest(ARRAY[
    $$ordflow.create_sync(NULL, 'shop_create.item')$$, $$ordflow.create_sync('', 'shop_create.item')$$,
    $$ordflow.create_sync('s', NULL)$$, $$ordflow.create_sync('s', 'shop_create.item', options => NULL)$$,
    $$ordflow.drop_sync('s')$$, $$ordflow.alter_sync('s', '{}')$$, $$ordflow.pause_sync('s')$$, $$ordflow.resume_sync('s')$$,
    $$ordflow.replay_dead_letters('s')$$, $$ordflow.check_sync('s')$$, $$ordflow.preview_sync('s')$$,
    $$ordflow.emit('gone', 't', 'k', '{}')$$, $$ordflow.emit('shop_create_redis', NULL, 'k', '{}')$$,
    $$ordflow.emit('shop_create_redis', 't', repeat('k', 256), '{}')$$, $$ordflow.emit('shop_create_redis', 't', 'k', NULL)$$]) AS call;
SELECT ordflow.wait_for_sync('s');
BEGIN;
CREATE TABLE shop_create.written ();
SELECT ordflow.wait_for_sync('s');
ROLLBACK;

-- a role without rights
CREATE ROLE ordflow_syncer;
GRANT USAGE ON SCHEMA shop_create TO ordflow_syncer;
SELECT ordflow.grant_access('ordflow_syncer', 'sync');
SET ROLE ordflow_syncer;
SELECT pg_temp.try(format(:'to_table', '{"copy": false}'));
SELECT pg_temp.try(format(:'to_redis', 'item:{id}', '{"copy": false}'));
SELECT pg_temp.try($$ ordflow.emit('shop_create_redis', 't', 'k', '{}') $$);
RESET ROLE;
GRANT SELECT ON shop_create.item TO ordflow_syncer;
SET ROLE ordflow_syncer;
SELECT pg_temp.try(format(:'to_table', '{"copy": false}'));
SELECT pg_temp.try(format(:'to_redis', 'item:{id}', '{"copy": false}'));
RESET ROLE;
ALTER TABLE shop_create.item ENABLE ROW LEVEL SECURITY;
SET ROLE ordflow_syncer;
SELECT pg_temp.try(format(:'to_table', '{"copy": false}'));
RESET ROLE;

SELECT count(*) FROM ordflow.syncs WHERE name = 's';
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'shop_create.item'::regclass;
SELECT ordflow.revoke_access('ordflow_syncer', 'sync');
REVOKE ALL ON SCHEMA shop_create FROM ordflow_syncer;
DROP SCHEMA shop_create CASCADE;
DROP SERVER shop_create_redis CASCADE;
DROP ROLE ordflow_syncer;

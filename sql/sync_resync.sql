-- create_sync() asks for a copy, resync() for another: what the ledger has, and what is refused.
\set VERBOSITY default
\set SHOW_CONTEXT never
CREATE SCHEMA shop_resync;
CREATE TABLE shop_resync.item (id int PRIMARY KEY, name text);
CREATE TABLE shop_resync.copy (LIKE shop_resync.item INCLUDING ALL);
CREATE TABLE shop_resync.beside (LIKE shop_resync.item INCLUDING ALL);
CREATE FUNCTION pg_temp.try(verb text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE 'SELECT ' || verb;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(hint, ''));
END $$;

SELECT ordflow.create_sync('items', 'shop_resync.item', target => 'shop_resync.copy');
SELECT ordflow.create_sync('beside', 'shop_resync.item', target => 'shop_resync.beside', mode => 'dual_write');
SELECT name, source, phase, filter, tables, rows, done, time_left, restarts, reason FROM ordflow.sync_progress;
SELECT state FROM ordflow.sync_status WHERE name = 'items';

-- one copy at a time
SELECT pg_temp.try($$ ordflow.resync('items') $$);
UPDATE ordflow.sync_copies SET phase = 'done', restarts = 2, reason = 'item was rewritten', finished_at = now();
SELECT pg_temp.try($$ ordflow.resync('items', 'id > 5 AND name IS NOT NULL') $$);
SELECT name, phase, filter, restarts, reason, finished_at FROM ordflow.sync_progress;
SELECT is_fresh, snapshot, lsn FROM ordflow.sync_copies;
UPDATE ordflow.sync_copies SET phase = 'done';

-- refused, and nothing changed
SELECT call, pg_temp.try(call) FROM unnest(ARRAY[
    $$ordflow.resync('gone')$$,
    $$ordflow.resync(NULL)$$,
    $$ordflow.resync('beside')$$,
    $$ordflow.resync('items', 'id >')$$,
    $$ordflow.resync('items', 'true) OR (true')$$,
    $$ordflow.resync('items', 'true); DROP TABLE shop_resync.item; SELECT (1')$$,
    $$ordflow.resync('items', 'id, name')$$,
    $$ordflow.resync('items', 'true -- ')$$,
    $$ordflow.resync('items', 'count(*) > 1')$$,
    $$ordflow.resync('items', 'nothing = 1')$$,
    $$ordflow.resync('items', 'name')$$]) AS call;
SELECT phase, filter FROM ordflow.sync_copies;

-- options are one expression each
SELECT options, pg_temp.try(format('ordflow.alter_sync(''items'', %L)', options)) FROM unnest(ARRAY[
    '{"filter": "true) FROM (VALUES (1)"}',
    '{"filter": "id > 1 -- and a comment"}',
    '{"columns": {"id": "id", "name": "upper(name), 1"}}',
    '{"columns": {"id": "id", "name": "upper(name)"}}',
    '{"columns": {"id": "id", "name": "(SELECT max(name) FROM shop_resync.copy)"}}']) AS options;

-- nobody else
CREATE ROLE ordflow_resync;
SELECT ordflow.grant_access('ordflow_resync', 'sync');
SET ROLE ordflow_resync;
SELECT pg_temp.try($$ ordflow.resync('items') $$);
RESET ROLE;
SELECT ordflow.drop_sync(name) FROM ordflow.syncs ORDER BY name;
SELECT count(*) FROM ordflow.sync_copies;
DROP OWNED BY ordflow_resync;
DROP ROLE ordflow_resync;
DROP SCHEMA shop_resync CASCADE;

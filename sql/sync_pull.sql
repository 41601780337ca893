-- Syncs that are pulled: what is taken and what is refused; no worker runs here.
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET client_min_messages = warning;
SET TimeZone = 'Europe/Berlin';
CREATE SCHEMA shop_pull;
CREATE TABLE shop_pull.item (id int PRIMARY KEY, name text, price numeric(10,2), at timestamptz, local timestamp, day date,
    number bigint, xid xid8, place point, tag uuid);
CREATE TABLE shop_pull.copy (LIKE shop_pull.item INCLUDING ALL);
CREATE TABLE shop_pull.keyless (id int, at timestamptz);
CREATE VIEW shop_pull.seen AS SELECT id, name, at FROM shop_pull.item;
CREATE TABLE shop_pull.seen_copy (id int PRIMARY KEY, name text, at timestamptz);
CREATE MATERIALIZED VIEW shop_pull.kept AS SELECT id, name, at FROM shop_pull.item;
CREATE SEQUENCE shop_pull.sequence;
CREATE FOREIGN DATA WRAPPER shop_pull_wrapper;
CREATE SERVER shop_pull_far FOREIGN DATA WRAPPER shop_pull_wrapper;
CREATE FOREIGN TABLE shop_pull.far (id int, name text, at timestamptz) SERVER shop_pull_far;
CREATE VIEW shop_pull.far_seen AS SELECT * FROM shop_pull.far;
CREATE SERVER shop_pull_redis FOREIGN DATA WRAPPER ordflow_redis OPTIONS (port '1');
CREATE USER MAPPING FOR PUBLIC SERVER shop_pull_redis;

-- the state and message that a call ends with
CREATE FUNCTION pg_temp.try(source text, mode text, options text, target text DEFAULT 'shop_pull.copy', server name DEFAULT NULL)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
    PERFORM ordflow.create_sync('s', ('shop_pull.' || source)::regclass, server, target, mode, options::jsonb);
    PERFORM ordflow.drop_sync('s');
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', sqlstate, sqlerrm, nullif(hint, ''));
END $$;

-- cursors
SELECT options, pg_temp.try('item', 'scheduled', options) FROM unnest(ARRAY['{}', '{"cursor": "gone"}', '{"cursor": "place"}',
    '{"cursor": 7}', '{"cursor": "at"}', '{"cursor": "local"}', '{"cursor": "day"}', '{"cursor": "number"}', '{"cursor": "xid"}',
    '{"cursor": "tag"}', '{"cursor": "name"}', '{"cursor": "id"}']) AS options;
SELECT options, pg_temp.try('item', 'scheduled', options) FROM unnest(ARRAY['{"cursor": "at", "overlap": "5 min"}',
    '{"cursor": "at", "overlap": "soon"}', '{"cursor": "at", "overlap": true}', '{"cursor": "at", "overlap": "-1 s"}', '{"cursor": "number", "overlap": -1}',
    '{"cursor": "number", "overlap": 100}',
    '{"cursor": "number", "overlap": "5 min"}', '{"cursor": "tag", "overlap": 1}', '{"cursor": "price", "overlap": 0.5}']) AS options;

-- schedules
SELECT options, pg_temp.try('item', 'full', options) FROM unnest(ARRAY['{}', '{"schedule": "*/5 * * * *"}',
    '{"schedule": "10 seconds"}', '{"schedule": "often"}', '{"schedule": "0 0 30 2 *"}', '{"schedule": 10}',
    '{"schedule": "@daily", "time_zone": "Asia/Shanghai"}', '{"schedule": "@daily", "time_zone": "Moon/Crater"}',
    '{"remove": false}', '{"remove": "no"}', '{"cursor": "at"}', '{"copy": false}', '{"batch_rows": 0}']) AS options;
SELECT options, pg_temp.try('item', 'cdc', options) FROM unnest(ARRAY['{"cursor": "at"}', '{"schedule": "@daily"}',
    '{"remove": true}']) AS options;

-- sources and keys
SELECT source, mode, options, pg_temp.try(source, mode, options, 'shop_pull.seen_copy') FROM (VALUES
    ('seen', 'scheduled', '{"cursor": "at"}'), ('seen', 'scheduled', '{"cursor": "at", "key": ["gone"]}'),
    ('seen', 'scheduled', '{"cursor": "at", "key": ["id"]}'), ('seen', 'full', '{"key": ["id"]}'),
    ('seen', 'scheduled', '{"cursor": "at", "key": ["id"], "columns": {"id": "id + 1"}}'),
    ('keyless', 'scheduled', '{"cursor": "at"}'), ('keyless', 'scheduled', '{"cursor": "at", "key": ["id"]}'),
    ('kept', 'scheduled', '{"cursor": "at", "key": ["id"]}'), ('kept', 'full', '{"key": ["id"]}'),
    ('far', 'scheduled', '{"cursor": "at", "key": ["id"]}'), ('far', 'scheduled', '{"cursor": "at", "key": ["id"], "overlap": "0 s"}'),
    ('far_seen', 'scheduled', '{"cursor": "at", "key": ["id"]}'), ('far', 'full', '{"key": ["id"]}'),
    ('sequence', 'full', '{}')) AS t (source, mode, options);
SELECT pg_temp.try('seen', 'full', '{}', 'seen:{id}', 'shop_pull_redis');
SELECT pg_temp.try('seen', 'full', '{"key": ["id"]}', 'seen:{id}', 'shop_pull_redis');
SELECT pg_temp.try('item', 'full', '{}', 'shop_pull.item');

-- what becomes of one: the row of its pulls, its time zone, the next time of its schedule
SELECT ordflow.create_sync('pull scheduled', 'shop_pull.item', target => 'shop_pull.copy', mode => 'scheduled',
    options => '{"cursor": "at", "schedule": "30 2 * * *"}'),
    ordflow.create_sync('pull full', 'shop_pull.seen', 'shop_pull_redis', 'seen:{id}', 'full', '{"key": ["id"], "time_zone": "UTC"}'),
    ordflow.create_sync('pull dual', 'shop_pull.item', target => 'shop_pull.seen_copy', mode => 'dual_write',
    options => '{"columns": ["id", "name", "at"]}');
SELECT s.name, s.options, p.server, p.state, p.pull, p.bound, p.next_at < clock_timestamp() AS at_once
FROM ordflow.syncs s LEFT JOIN ordflow.sync_pulls p USING (sync_id) WHERE s.source ~ '^shop_pull' AND mode <> 'dual_write' ORDER BY name;
SELECT name, state, rows, errors, problem, last_run, to_char(next_run, 'HH24:MI') FROM ordflow.sync_status WHERE name = 'pull scheduled';
INSERT INTO shop_pull.item (id, name) VALUES (1, 'cup');
SELECT op, target, key, fields FROM ordflow.preview_sync('pull full');

-- verbs
SELECT ordflow.alter_sync('pull scheduled', '{"schedule": "0 5 * * *", "time_zone": "UTC"}');
SELECT to_char(p.next_at AT TIME ZONE 'UTC', 'HH24:MI'), p.pull FROM ordflow.sync_pulls p JOIN ordflow.syncs s USING (sync_id) WHERE s.name = 'pull scheduled';
SELECT ordflow.alter_sync('pull scheduled', '{"cursor": null}');
SELECT ordflow.alter_sync('pull scheduled', '{"cursor": "gone"}');
SELECT ordflow.alter_sync('pull scheduled', '{"schedule": "often"}');
UPDATE ordflow.sync_pulls SET bound = '2024-01-01', until = '2024-01-02' WHERE server IS NULL;
SELECT ordflow.alter_sync('pull scheduled', '{"cursor": "day", "schedule": null}');
SELECT p.bound, p.until, p.next_at FROM ordflow.sync_pulls p JOIN ordflow.syncs s USING (sync_id) WHERE s.name = 'pull scheduled';
SELECT ordflow.wait_for_sync('pull scheduled');
SELECT ordflow.run_sync('pull scheduled');
SELECT ordflow.run_sync('pull dual');
SELECT ordflow.run_sync('pull never');
SELECT ordflow.run_sync(NULL);
SELECT ordflow.pause_sync('pull scheduled'), ordflow.pause_sync('pull full');
SELECT ordflow.run_sync('pull scheduled');
SELECT name, state FROM ordflow.sync_status WHERE name ~ '^pull' ORDER BY name;
SELECT ordflow.resume_sync('pull scheduled');
BEGIN;
CREATE TABLE shop_pull.written ();
SELECT ordflow.run_sync('pull scheduled');
ROLLBACK;

-- no circle
SELECT ordflow.create_sync('pull back', 'shop_pull.copy', target => 'shop_pull.item', mode => 'full');

-- a schedule that nobody serves
UPDATE ordflow.sync_pulls p SET next_at = now() - interval '1 hour' FROM ordflow.syncs s WHERE s.sync_id = p.sync_id AND s.name = 'pull scheduled';
SELECT severity, object FROM ordflow.doctor() WHERE object = 'sync pull scheduled';
CREATE ROLE ordflow_puller;
SELECT ordflow.grant_access('ordflow_puller', 'sync');
SET ROLE ordflow_puller;
SELECT ordflow.run_sync('pull scheduled');
RESET ROLE;
SELECT ordflow.drop_sync('pull scheduled'), ordflow.drop_sync('pull full'), ordflow.drop_sync('pull dual');
SELECT count(*) FROM ordflow.sync_pulls;

SELECT ordflow.revoke_access('ordflow_puller', 'sync');
DROP ROLE ordflow_puller;
DROP SERVER shop_pull_redis CASCADE;
DROP FOREIGN DATA WRAPPER shop_pull_wrapper CASCADE;
DROP SCHEMA shop_pull CASCADE;

-- Syncs as rows: made, previewed, altered, paused, dropped; no worker runs here.
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CREATE SCHEMA shop_verbs;
CREATE TABLE shop_verbs.item (id int, lang text, name text, price numeric(10,2), PRIMARY KEY (lang, id));
CREATE TABLE shop_verbs.copy (id int, lang text, label text, twice numeric, PRIMARY KEY (lang, id));
INSERT INTO shop_verbs.item VALUES (1, 'en', 'cup', 2.5), (1, 'de', 'Tasse', NULL), (2, 'en', 'a "b"\{', 1e3);
CREATE SERVER shop_verbs_redis FOREIGN DATA WRAPPER ordflow_redis OPTIONS (port '1');
CREATE USER MAPPING FOR PUBLIC SERVER shop_verbs_redis;

SELECT ordflow.create_sync('to table', 'shop_verbs.item', target => 'shop_verbs.copy', options =>
    '{"copy": false, "columns": {"id": "id", "lang": "lang", "label": "upper(name)", "twice": "price * 2"}, "filter": "price > 2 OR price IS NULL"}');
SELECT * FROM ordflow.preview_sync('to table') ORDER BY key;

-- targets: a column's text, a brace; the key of several columns
SELECT ordflow.create_sync('hash', 'shop_verbs.item', 'shop_verbs_redis', '{{x}:{lang}:{id}', options => '{"copy": false}');
SELECT op, target, key, fields FROM ordflow.preview_sync('hash', 2);
SELECT ordflow.create_sync('json', 'shop_verbs.item', 'shop_verbs_redis', 'i:{id}:{lang}', options => '{"copy": false, "type": "json"}');
SELECT target, body FROM ordflow.preview_sync('json');
SELECT ordflow.create_sync('evict', 'shop_verbs.item', 'shop_verbs_redis', 'e:{id}:{lang}', options => '{"copy": false, "type": "evict"}');
SELECT op, target, fields, body FROM ordflow.preview_sync('evict', 1);
SELECT ordflow.create_sync('stream', 'shop_verbs.item', 'shop_verbs_redis', 'items', options =>
    '{"copy": false, "type": "stream", "format": "maxwell", "columns": ["id", "lang", "name"]}');
SELECT op, target, key, body::jsonb -> 'data' AS data FROM ordflow.preview_sync('stream', 1);
SELECT ordflow.preview_sync('hash', 0);

-- the name is taken
SELECT ordflow.create_sync('hash', 'shop_verbs.item', 'shop_verbs_redis', 'x:{lang}:{id}', options => '{"copy": false}');

SELECT name, source, server, target, mode, paused, options FROM ordflow.syncs WHERE source = 'shop_verbs.item' ORDER BY name;
SELECT ordflow.alter_sync('hash', '{"ttl": "1 hour", "copy": null}');
SELECT ordflow.alter_sync('hash', '{"ttl": "1 hour"}');
SELECT options FROM ordflow.syncs WHERE name = 'hash';
SELECT ordflow.alter_sync('hash', '{"ttl": null}');
SELECT options FROM ordflow.syncs WHERE name = 'hash';
SELECT ordflow.alter_sync('hash', '{"colour": 1}');
SELECT ordflow.alter_sync('hash', '7');
SELECT ordflow.pause_sync('hash');
SELECT paused FROM ordflow.syncs WHERE name = 'hash';
SELECT ordflow.resume_sync('hash');
SELECT paused FROM ordflow.syncs WHERE name = 'hash';
SELECT ordflow.replay_dead_letters('hash');
SELECT ordflow.wait_for_sync('hash', timeout => '0 s');
SELECT ordflow.wait_for_sync('hash', timeout => '-1 s');

-- a circle has no end
SELECT ordflow.create_sync('back', 'shop_verbs.copy', target => 'shop_verbs.item', options => '{"copy": false, "columns": ["id", "lang"]}');

-- all tables of a schema by one statement
SELECT format('CREATE TABLE shop_verbs.many_%s (id int PRIMARY KEY)', g) FROM generate_series(1, 20) AS g \gexec
SELECT count(ordflow.create_sync(tablename, format('%I.%I', schemaname, tablename)::regclass, 'shop_verbs_redis', tablename || ':{id}',
    options => '{"copy": false}'))
FROM pg_tables WHERE schemaname = 'shop_verbs' AND tablename ~ '^many';

-- others do not touch them
CREATE ROLE ordflow_other;
SELECT ordflow.grant_access('ordflow_other', 'sync');
SET ROLE ordflow_other;
SELECT ordflow.drop_sync('hash');
SELECT ordflow.pause_sync('hash');
SELECT ordflow.alter_sync('hash', '{}');
SELECT * FROM ordflow.preview_sync('hash');
SELECT * FROM ordflow.check_sync('hash');
RESET ROLE;

SELECT count(ordflow.drop_sync(name)) FROM ordflow.syncs;
SELECT count(*) FROM ordflow.syncs, ordflow.sync_starts;
SELECT ordflow.revoke_access('ordflow_other', 'sync');
DROP ROLE ordflow_other;
DROP SCHEMA shop_verbs CASCADE;
DROP SERVER shop_verbs_redis CASCADE;

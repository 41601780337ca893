-- verify_sync() of a table that is written in the same transaction, and what it refuses.
\set VERBOSITY default
\set SHOW_CONTEXT never
CREATE SCHEMA shop_verify;
CREATE TABLE shop_verify.item (id int, part text, v numeric, j jsonb, x xml, o bool, at timestamptz,
    twice int GENERATED ALWAYS AS (id * 2) STORED, PRIMARY KEY (part, id));
CREATE TABLE shop_verify.copy (id int, part text, v numeric(10,2), j jsonb, x xml, o bool, at timestamptz,
    twice int GENERATED ALWAYS AS (id * 2) STORED, PRIMARY KEY (id, part));
SELECT ordflow.create_sync('items', 'shop_verify.item', target => 'shop_verify.copy', mode => 'dual_write',
    options => '{"key": ["id", "part"]}');
INSERT INTO shop_verify.item SELECT i, 'p' || i % 7, i, jsonb_build_object('i', i), '<a/>', i % 2 = 0, '2026-01-01'
FROM generate_series(1, 2500) i;
SELECT * FROM ordflow.verify_sync('items');

-- numbers are compared as numbers; what is wrong is told by the source's key
SET session_replication_role = replica;   -- behind the triggers' back
UPDATE shop_verify.copy SET v = 17.00 WHERE id = 17;
UPDATE shop_verify.copy SET v = NULL WHERE id = 18;
UPDATE shop_verify.copy SET x = '<b/>' WHERE id = 19;
UPDATE shop_verify.copy SET j = '{"i": 20, "more": 1}', o = NULL WHERE id = 20;
DELETE FROM shop_verify.copy WHERE id IN (21, 2500);
INSERT INTO shop_verify.copy VALUES (9000, 'quote"d', 1), (9001, '', 1);
RESET session_replication_role;
SELECT * FROM ordflow.verify_sync('items') ORDER BY key COLLATE "C";
SELECT ordflow.repair_sync('items');

-- what it refuses
\set VERBOSITY sqlstate
BEGIN;
UPDATE shop_verify.item SET v = 0 WHERE id = 1;
SELECT * FROM ordflow.verify_sync('items');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM ordflow.verify_sync('items');
ROLLBACK;
SELECT * FROM ordflow.verify_sync('gone');
SELECT * FROM ordflow.verify_sync(NULL);
CREATE SERVER shop_verify_files FOREIGN DATA WRAPPER ordflow_script OPTIONS (path '/tmp');
SELECT ordflow.create_sync('files', 'shop_verify.item', 'shop_verify_files', 'rows');
SELECT * FROM ordflow.verify_sync('files');
CREATE ROLE ordflow_verify;
SELECT ordflow.grant_access('ordflow_verify', 'sync');
SET ROLE ordflow_verify;
SELECT * FROM ordflow.verify_sync('items');
SELECT ordflow.repair_sync('items');
RESET ROLE;
\set VERBOSITY terse

SELECT ordflow.drop_sync(name) FROM ordflow.syncs ORDER BY name;
DROP OWNED BY ordflow_verify;
DROP ROLE ordflow_verify;
DROP SERVER shop_verify_files;
DROP SCHEMA shop_verify CASCADE;

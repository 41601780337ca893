-- Tables that change while their changes wait to be read: each is told as the table was then.
\getenv abs_srcdir PG_ABS_SRCDIR
\set include :abs_srcdir '/sql/include/slots.sql'
\set VERBOSITY sqlstate
\a \t
SET client_min_messages = warning;
CREATE SCHEMA ssch;
CREATE TABLE ssch.t (id int PRIMARY KEY, a text, b int);
CREATE TYPE ssch.mood AS ENUM ('sad');
\set slot sync_plugin_schema
\i :include
CREATE FUNCTION pg_temp.told_short(name) RETURNS SETOF text LANGUAGE sql AS $$
SELECT concat_ws(' ', m->>'op', concat(m->>'schema', '.', m->>'table'), m->>'key', m->>'new')
FROM pg_logical_slot_get_changes($1, NULL, NULL, 'message_prefixes', 'none'), CAST(data AS json) AS m
WHERE m->>'schema' LIKE 'ssch%'
$$;
-- columns added, dropped, renamed, of another type
INSERT INTO ssch.t VALUES (1, 'one', 1);
ALTER TABLE ssch.t ADD c text DEFAULT 'def', ADD e int;
INSERT INTO ssch.t VALUES (2, 'two', 2);
UPDATE ssch.t SET a = 'uno' WHERE id = 1;
ALTER TABLE ssch.t DROP a;
INSERT INTO ssch.t VALUES (3, 3);
ALTER TABLE ssch.t RENAME b TO bb;
ALTER TABLE ssch.t ALTER bb TYPE numeric(10, 2);
INSERT INTO ssch.t VALUES (4, 4.5);
BEGIN;
ALTER TABLE ssch.t ADD f ssch.mood;
INSERT INTO ssch.t (id, f) VALUES (5, 'sad');
ALTER TABLE ssch.t ALTER f TYPE text;
INSERT INTO ssch.t (id, f) VALUES (6, 'glad');
COMMIT;
SELECT pg_temp.told_short(:'slot');
-- keys and identities
ALTER TABLE ssch.t DROP CONSTRAINT t_pkey;
INSERT INTO ssch.t (id, bb) VALUES (7, 7);
UPDATE ssch.t SET bb = id;
ALTER TABLE ssch.t ADD PRIMARY KEY (bb);
UPDATE ssch.t SET e = 1 WHERE id = 7;
ALTER TABLE ssch.t REPLICA IDENTITY FULL;
DELETE FROM ssch.t WHERE id = 7;
ALTER TABLE ssch.t REPLICA IDENTITY DEFAULT;
DELETE FROM ssch.t WHERE id < 5;
SELECT pg_temp.told_short(:'slot');
-- rewritten, emptied, renamed, moved, dropped
INSERT INTO ssch.t (id, bb) VALUES (10, 10);
VACUUM FULL ssch.t;
CLUSTER ssch.t USING t_pkey;
INSERT INTO ssch.t (id, bb) VALUES (11, 11);
TRUNCATE ssch.t;
INSERT INTO ssch.t (id, bb) VALUES (12, 12);
ALTER TABLE ssch.t RENAME TO tt;
INSERT INTO ssch.tt (id, bb) VALUES (13, 13);
ALTER SCHEMA ssch RENAME TO ssch2;
INSERT INTO ssch2.tt (id, bb) VALUES (14, 14);
CREATE SCHEMA ssch3;
ALTER TABLE ssch2.tt SET SCHEMA ssch3;
INSERT INTO ssch3.tt (id, bb) VALUES (15, 15);
DROP TABLE ssch3.tt;
CREATE TABLE ssch3.tt (id text PRIMARY KEY);
INSERT INTO ssch3.tt VALUES ('new');
SELECT pg_temp.told_short(:'slot');
-- a value added to a type; a copy of the table is told as such
ALTER TYPE ssch2.mood ADD VALUE 'glad';
CREATE TABLE ssch3.copied AS SELECT id, 'glad'::ssch2.mood AS m FROM ssch3.tt;
ALTER TYPE ssch2.mood RENAME VALUE 'glad' TO 'merry';
INSERT INTO ssch3.copied VALUES ('x', 'merry');
-- not told: unlogged and temporary tables
CREATE UNLOGGED TABLE ssch3.unlogged AS SELECT 1 AS a;
CREATE TEMP TABLE temporary AS SELECT 1 AS a;
SELECT pg_temp.told_short(:'slot');
-- the root of a partition renamed between
CREATE TABLE ssch3.root (id int PRIMARY KEY, a int) PARTITION BY RANGE (id);
CREATE TABLE ssch3.leaf PARTITION OF ssch3.root DEFAULT;
INSERT INTO ssch3.root VALUES (1, 1);
ALTER TABLE ssch3.root RENAME TO trunk;
INSERT INTO ssch3.trunk VALUES (2, 2);
ALTER TABLE ssch3.trunk RENAME a TO aa;
INSERT INTO ssch3.trunk VALUES (3, 3);
ALTER TABLE ssch3.trunk DETACH PARTITION ssch3.leaf;
INSERT INTO ssch3.leaf VALUES (4, 4);
SELECT pg_temp.told_short(:'slot');
SELECT pg_drop_replication_slot(:'slot');
DROP SCHEMA ssch2, ssch3 CASCADE;

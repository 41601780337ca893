-- Keys of any type with an equality: written in any way its input takes, told as it stands in the row.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA fire_key;
SELECT ordflow.define_machine('fire_key', '{"states": {"a": "initial", "b": "normal"}, "transitions": [{"from": "a", "event": "go", "to": "b"}]}');
CREATE DOMAIN fire_key.positive AS bigint CHECK (VALUE > 0);
CREATE TYPE fire_key.size AS ENUM ('small', 'large');
CREATE TABLE fire_key.num (k numeric PRIMARY KEY, s text);
CREATE TABLE fire_key.uid (k uuid PRIMARY KEY, s text);
CREATE TABLE fire_key.txt (k text PRIMARY KEY, s text);
CREATE TABLE fire_key.dom (k fire_key.positive PRIMARY KEY, s text);
CREATE TABLE fire_key.enu (k fire_key.size PRIMARY KEY, s text);
CREATE TABLE fire_key.ts (k timestamptz PRIMARY KEY, s text);
CREATE TABLE fire_key.fix (k char(5) PRIMARY KEY, s text);
CREATE TABLE fire_key.arr (k int[] PRIMARY KEY, s text);
SELECT ordflow.attach(t, 'fire_key', 's') FROM (SELECT oid::regclass AS t FROM pg_class
  WHERE relnamespace = 'fire_key'::regnamespace AND relkind = 'r' ORDER BY relname) AS t;
INSERT INTO fire_key.num VALUES (1.50, 'a'), ('NaN', 'a');
INSERT INTO fire_key.uid VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a');
INSERT INTO fire_key.txt VALUES ('it''s "odd", isn''t it', 'a'), ('', 'a'), (repeat('x', 5000), 'a');
INSERT INTO fire_key.dom VALUES (7, 'a');
INSERT INTO fire_key.enu VALUES ('small', 'a');
INSERT INTO fire_key.ts VALUES ('2020-02-29 12:00+00', 'a');
INSERT INTO fire_key.fix VALUES ('ab', 'a');
INSERT INTO fire_key.arr VALUES ('{1,2}', 'a');

SELECT ordflow.fire('fire_key.num', '1.5', 'go');
SELECT ordflow.fire('fire_key.num', 'nan', 'go');
SELECT ordflow.fire('fire_key.uid', '{A0EEBC999C0B4EF8BB6D6BB9BD380A11}', 'go');
SELECT ordflow.fire('fire_key.txt', 'it''s "odd", isn''t it', 'go');
SELECT ordflow.fire('fire_key.txt', '', 'go');
SELECT ordflow.fire('fire_key.txt', repeat('x', 5000), 'go');
SELECT ordflow.fire('fire_key.dom', '7', 'go');
SELECT ordflow.fire('fire_key.enu', 'small', 'go');
SELECT ordflow.fire('fire_key.ts', '2020-02-29 13:00:00+01', 'go');
SELECT ordflow.fire('fire_key.fix', 'ab   ', 'go');
SELECT ordflow.fire('fire_key.arr', '{1, 2}', 'go');
SELECT ordflow.fire('fire_key.dom', '-7', 'go');
SELECT ordflow.fire('fire_key.enu', 'medium', 'go');
SELECT ordflow.fire('fire_key.uid', 'a0', 'go');

SELECT target, left(key, 40), length(key), event FROM ordflow.object_history WHERE target LIKE 'fire\_key.%' AND event = 'go'
AND target <> 'fire_key.ts' ORDER BY history_id;
SELECT key::timestamptz = '2020-02-29 12:00+00' FROM ordflow.object_history WHERE target = 'fire_key.ts' AND event = 'go';

-- a plain UPDATE of all of them once more
UPDATE fire_key.num SET s = 'b' WHERE s = 'b';
UPDATE fire_key.txt SET s = 'a';

-- a type without equality is no key
CREATE TABLE fire_key.json (k int PRIMARY KEY, s text, j json);
SELECT ordflow.attach('fire_key.json', 'fire_key', 's', 'j');
ROLLBACK;

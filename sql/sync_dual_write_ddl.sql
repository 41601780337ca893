-- dual_write: source, target and functions that change under a session that has written already.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
SET client_min_messages = warning;
BEGIN;
CREATE SCHEMA dual;
CREATE FUNCTION dual.f(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1 || '' first''';
CREATE TYPE dual.color AS ENUM ('red', 'green');
CREATE DOMAIN dual.number AS int CHECK (VALUE < 100);
CREATE TABLE dual.source (gone text, id int PRIMARY KEY, v text, w int, c dual.color, g text GENERATED ALWAYS AS (v || '!') STORED);
CREATE TABLE dual.target (id dual.number, c dual.color, v varchar(20), w numeric(4, 1), g text, PRIMARY KEY (id, c));
SELECT ordflow.create_sync('dual_ddl', source => 'dual.source', target => 'dual.target', mode => 'dual_write',
    options => '{"columns": {"id": "id", "c": "coalesce(c, ''red'')", "v": "dual.f(v)", "w": "w / 3.0", "g": "g"}, "key": ["id", "c"]}');
\set look 'SELECT * FROM dual.target ORDER BY id;'

INSERT INTO dual.source VALUES (NULL, 1, 'one', 10, NULL), (NULL, 2, 'two', 20, 'green');
UPDATE dual.source SET c = 'green' WHERE id = 1;
:look
-- a function is another, and is gone
CREATE OR REPLACE FUNCTION dual.f(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1 || '' second''';
UPDATE dual.source SET w = w + 1 WHERE id = 1;
:look
DROP FUNCTION dual.f;
UPDATE dual.source SET w = w + 1;
CREATE FUNCTION dual.f(text) RETURNS varchar LANGUAGE plpgsql AS 'BEGIN RETURN ''third '' || $1; END';
UPDATE dual.source SET w = w + 1;
:look
-- columns of the source come, go and change their type
ALTER TABLE dual.source DROP COLUMN gone, ADD COLUMN more int DEFAULT 7;
UPDATE dual.source SET v = 'v' WHERE id = 1;
ALTER TABLE dual.source ALTER w TYPE bigint USING w * 10, ALTER id TYPE bigint;
INSERT INTO dual.source VALUES (3, 'three', 30);
:look
-- and those of the target
ALTER TABLE dual.target ALTER w TYPE numeric(6, 3), ADD COLUMN own text DEFAULT 'own';
UPDATE dual.source SET w = 31 WHERE id = 3;
SELECT w, own FROM dual.target WHERE id = 3;
ALTER TABLE dual.target DROP COLUMN g;
UPDATE dual.source SET w = 32 WHERE id = 3;
ALTER TABLE dual.target ADD COLUMN g char(9);
UPDATE dual.source SET w = 33 WHERE id = 3;
SELECT w, g FROM dual.target WHERE id = 3;
-- its types hold
INSERT INTO dual.source VALUES (100, 'a domain', 1);
UPDATE dual.source SET v = 'far too long a text for it' WHERE id = 3;
UPDATE dual.source SET w = 100000 WHERE id = 3;
-- without the index of its key nothing is written
ALTER TABLE dual.target DROP CONSTRAINT target_pkey;
UPDATE dual.source SET w = 34 WHERE id = 3;
ALTER TABLE dual.target ADD UNIQUE (c, id);
UPDATE dual.source SET w = 34 WHERE id = 3;
-- switched off as any trigger is
ALTER TABLE dual.source DISABLE TRIGGER USER;
UPDATE dual.source SET w = 35 WHERE id = 3;
TRUNCATE dual.source;
ALTER TABLE dual.source ENABLE TRIGGER USER;
SET session_replication_role = replica;
INSERT INTO dual.source VALUES (5, 'five', 5);
RESET session_replication_role;
SELECT id, w FROM dual.target ORDER BY id;
DELETE FROM dual.source;
DROP SCHEMA dual CASCADE;
ROLLBACK;

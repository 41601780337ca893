-- dual_write: syncs that write one another's sources.
\a \t
\set ON_ERROR_ROLLBACK on
SET client_min_messages = warning;
BEGIN;
CREATE SCHEMA dual;
CREATE TABLE dual.a (id int PRIMARY KEY, v text);
CREATE TABLE dual.b (key int PRIMARY KEY, value text);
CREATE TABLE dual.c (id int PRIMARY KEY, v text);
SELECT ordflow.create_sync('dual_ab', source => 'dual.a', target => 'dual.b', mode => 'dual_write',
    options => '{"columns": {"key": "id", "value": "v"}, "key": ["key"]}');
SELECT ordflow.create_sync('dual_ba', source => 'dual.b', target => 'dual.a', mode => 'dual_write',
    options => '{"columns": {"id": "key", "v": "value"}, "key": ["id"]}');
CREATE VIEW dual.both AS SELECT * FROM dual.a FULL JOIN dual.b ON a.id = b.key ORDER BY a.id;

-- either may be written
INSERT INTO dual.a VALUES (1, 'a'), (2, 'a'), (3, 'a');
INSERT INTO dual.b VALUES (4, 'b'), (5, 'b');
UPDATE dual.b SET value = 'b2' WHERE key = 1;
UPDATE dual.a SET v = 'a2' WHERE id = 4;
TABLE dual.both;
UPDATE dual.a SET id = id + 10 WHERE id IN (1, 4);
UPDATE dual.b SET key = key + 20 WHERE key IN (2, 5);
DELETE FROM dual.b WHERE key = 3;
TABLE dual.both;

-- another row that a trigger of the target writes goes back
CREATE FUNCTION dual.more() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dual.b VALUES (NEW.key + 100, 'more');
    RETURN NULL;
END $$;
CREATE TRIGGER more AFTER INSERT ON dual.b FOR EACH ROW WHEN (NEW.key < 10) EXECUTE FUNCTION dual.more();
INSERT INTO dual.a VALUES (6, 'x'), (7, 'x');
TABLE dual.both;

TRUNCATE dual.a;
TABLE dual.both;
INSERT INTO dual.a VALUES (1, 'a');
TRUNCATE dual.b;
TABLE dual.both;

-- a circle of three
SELECT ordflow.drop_sync('dual_ba');
SELECT ordflow.create_sync('dual_bc', source => 'dual.b', target => 'dual.c', mode => 'dual_write',
    options => '{"columns": {"id": "key", "v": "value"}, "key": ["id"]}');
SELECT ordflow.create_sync('dual_ca', source => 'dual.c', target => 'dual.a', mode => 'dual_write', options => '{"key": ["id"]}');
INSERT INTO dual.a VALUES (11, 'a');
INSERT INTO dual.b VALUES (12, 'b');
INSERT INTO dual.c VALUES (13, 'c');
UPDATE dual.c SET v = v || '!';
SELECT a.*, b.*, c.* FROM dual.a FULL JOIN dual.b ON a.id = b.key FULL JOIN dual.c ON c.id = b.key ORDER BY 1;

-- what comes back each time as another row has no end
CREATE FUNCTION dual.back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dual.c VALUES (NEW.id + 1, 'on');
    RETURN NULL;
END $$;
CREATE TRIGGER back AFTER INSERT ON dual.a FOR EACH ROW WHEN (NEW.id >= 1000) EXECUTE FUNCTION dual.back();
\set VERBOSITY sqlstate
INSERT INTO dual.a VALUES (1000, 'on');
INSERT INTO dual.a VALUES (999, 'off');
SELECT id FROM dual.b FULL JOIN dual.c ON id = key WHERE id >= 999;
ROLLBACK;

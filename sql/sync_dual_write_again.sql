-- dual_write: rows that change again before their trigger fires, and keys that pass from row to row.
\a \t
SET client_min_messages = warning;
BEGIN;
CREATE SCHEMA dual;
CREATE TABLE dual.source (id int PRIMARY KEY, v text);
CREATE TABLE dual.target (id int PRIMARY KEY, v text);
SELECT ordflow.create_sync('dual_again', source => 'dual.source', target => 'dual.target', mode => 'dual_write',
    options => '{"columns": {"id": "id", "v": "v"}, "key": ["id"], "filter": "v <> ''hidden''"}');
CREATE VIEW dual.differences AS
    SELECT 'source' AS only_in, s.* FROM (SELECT * FROM dual.source WHERE v <> 'hidden' EXCEPT TABLE dual.target) AS s
    UNION ALL SELECT 'target', t.* FROM (TABLE dual.target EXCEPT TABLE dual.source) AS t;
CREATE VIEW dual.rows AS SELECT string_agg(id || v, ' ' ORDER BY id) FROM dual.target;

-- keys move up where the row above has just moved; the order of the heap allows it
INSERT INTO dual.source SELECT i, 'a' FROM generate_series(5, 1, -1) AS i;
UPDATE dual.source SET v = 'v' || id, id = id + 1;
TABLE dual.rows;
TABLE dual.differences;
DELETE FROM dual.source;

-- an earlier trigger changes the row again: value, key, filter, delete, delete and insert, insert after delete
CREATE FUNCTION dual.again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.v = 'comes back' THEN
            INSERT INTO dual.source VALUES (OLD.id, 'back');
        END IF;
        RETURN NULL;
    END IF;
    CASE NEW.v
        WHEN 'value' THEN UPDATE dual.source SET v = 'value again' WHERE id = NEW.id;
        WHEN 'key' THEN UPDATE dual.source SET id = id + 1000, v = 'key again' WHERE id = NEW.id;
        WHEN 'old key' THEN UPDATE dual.source SET id = OLD.id, v = 'old key again' WHERE id = NEW.id;
        WHEN 'hide' THEN UPDATE dual.source SET v = 'hidden' WHERE id = NEW.id;
        WHEN 'delete' THEN DELETE FROM dual.source WHERE id = NEW.id;
        WHEN 'twin' THEN
            DELETE FROM dual.source WHERE id = NEW.id;
            INSERT INTO dual.source VALUES (NEW.id, 'twin again');
        WHEN 'other' THEN UPDATE dual.source SET v = 'by another' WHERE id = 100;
        ELSE NULL;
    END CASE;
    RETURN NULL;
END $$;
CREATE TRIGGER again AFTER INSERT OR UPDATE OR DELETE ON dual.source FOR EACH ROW EXECUTE FUNCTION dual.again();
INSERT INTO dual.source VALUES (1, 'value'), (2, 'key'), (3, 'hide'), (4, 'delete'), (5, 'twin'), (100, 'x'), (6, 'other'), (7, 'plain');
TABLE dual.rows;
TABLE dual.differences;
DELETE FROM dual.source;
SELECT count(*) FROM dual.target;

INSERT INTO dual.source SELECT i, 'x' FROM generate_series(1, 8) AS i UNION ALL SELECT 100, 'x';
UPDATE dual.source SET v = (ARRAY['value', 'key', 'hide', 'delete', 'twin', 'other', 'hidden', 'plain'])[id] WHERE id < 100;
TABLE dual.rows;
TABLE dual.differences;
-- with a key of the statement's own
UPDATE dual.source SET id = id + 10, v = (ARRAY['value', 'key', 'hide', 'delete', 'twin', 'old key', 'value', 'key'])[id] WHERE id < 9;
TABLE dual.rows;
TABLE dual.differences;
UPDATE dual.source SET v = 'comes back' WHERE id < 100;
DELETE FROM dual.source WHERE id < 100;
TABLE dual.rows;
TABLE dual.differences;
ROLLBACK;

-- a function of the statement changes rows that the statement has changed
BEGIN;
CREATE SCHEMA dual;
CREATE TABLE dual.source (id int PRIMARY KEY, v text);
CREATE TABLE dual.target (id int PRIMARY KEY, v text);
SELECT ordflow.create_sync('dual_again', source => 'dual.source', target => 'dual.target', mode => 'dual_write', options => '{"key": ["id"]}');
INSERT INTO dual.source SELECT i, 'x' FROM generate_series(1, 4) AS i;
CREATE FUNCTION dual.meddle(id int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE dual.source s SET v = v || ' and by ' || meddle.id WHERE s.id < meddle.id AND v LIKE 'set%';
    RETURN 'set';
END $$;
UPDATE dual.source SET v = dual.meddle(id);
SELECT count(*), bool_or(t.v LIKE '% and by 4') FROM dual.source s JOIN dual.target t USING (id, v);

-- a sync reads what stands in the source past its policies, as triggers see every row
CREATE FUNCTION dual.again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE dual.source SET v = 'again' WHERE id = NEW.id AND v <> 'again';
    RETURN NULL;
END $$;
CREATE TRIGGER again AFTER INSERT ON dual.source FOR EACH ROW EXECUTE FUNCTION dual.again();
ALTER TABLE dual.source ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
INSERT INTO dual.source VALUES (5, 'x');
SELECT v FROM dual.target WHERE id = 5;
ROLLBACK;

-- dual_write: the target is written as the sync's owner, in a security-restricted operation, whoever writes the source.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
SET client_min_messages = error;
BEGIN;
CREATE ROLE dual_owner;
CREATE ROLE dual_writer;
CREATE SCHEMA dual;
GRANT USAGE ON SCHEMA dual, ordflow TO dual_owner, dual_writer;
CREATE FUNCTION dual.who(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1 || '' by '' || current_user';
CREATE TABLE dual.source (id int PRIMARY KEY, v text);
CREATE TABLE dual.target (id int PRIMARY KEY, v text, written_by text DEFAULT current_user);
ALTER TABLE dual.source OWNER TO dual_owner;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON dual.source TO dual_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON dual.target TO dual_owner;
GRANT EXECUTE ON FUNCTION ordflow.create_sync TO dual_owner;
SET ROLE dual_owner;
SELECT ordflow.create_sync('dual_roles', source => 'dual.source', target => 'dual.target', mode => 'dual_write',
    options => '{"columns": {"id": "id", "v": "dual.who(v)"}, "key": ["id"]}');
SET ROLE dual_writer;
SET search_path = dual, public;
INSERT INTO source VALUES (1, 'one'), (2, 'two');
UPDATE source SET v = 'three' WHERE id = 2;
SHOW search_path;
SELECT current_user;
TABLE target;
RESET ROLE;
TABLE dual.target;
-- without TRUNCATE it deletes
SET ROLE dual_writer;
TRUNCATE source;
RESET ROLE;
SELECT count(*) FROM dual.target;

-- row level security of the target is that of the owner
ALTER TABLE dual.target ENABLE ROW LEVEL SECURITY;
CREATE POLICY few ON dual.target TO dual_owner USING (id < 10) WITH CHECK (id < 10);
INSERT INTO dual.target VALUES (20, 'not his');
SET ROLE dual_writer;
INSERT INTO source VALUES (3, 'x');
INSERT INTO source VALUES (11, 'x');
INSERT INTO source VALUES (20, 'x');
TRUNCATE source;
RESET ROLE;
SELECT id FROM dual.target;
ALTER TABLE dual.target DISABLE ROW LEVEL SECURITY;

-- a privilege that he has lost fails the statement: of the target, and of a function
REVOKE UPDATE ON dual.target FROM dual_owner;
INSERT INTO dual.source VALUES (4, 'x');
GRANT UPDATE ON dual.target TO dual_owner;
REVOKE EXECUTE ON FUNCTION dual.who FROM PUBLIC;
INSERT INTO dual.source VALUES (4, 'x');
GRANT EXECUTE ON FUNCTION dual.who TO dual_owner;
INSERT INTO dual.source VALUES (4, 'x');

-- a trigger of the target cannot become another, nor leave a setting behind
CREATE FUNCTION dual.hostile() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.v LIKE 'role%' THEN
        SET ROLE dual_writer;
    ELSIF NEW.v LIKE 'temp%' THEN
        CREATE TEMP TABLE left_behind ();
    END IF;
    SET work_mem = '77MB';
    NEW.written_by = current_user;
    RETURN NEW;
END $$;
CREATE TRIGGER hostile BEFORE INSERT ON dual.target FOR EACH ROW EXECUTE FUNCTION dual.hostile();
INSERT INTO dual.source VALUES (5, 'role');
INSERT INTO dual.source VALUES (5, 'temp');
INSERT INTO dual.source VALUES (5, 'set');
SELECT written_by, current_setting('work_mem') <> '77MB' FROM dual.target WHERE id = 5;

-- what shadows operators or functions in the writer's path is not found
CREATE FUNCTION dual.shadow(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR dual.= (LEFTARG = int, RIGHTARG = int, FUNCTION = dual.shadow);
SET search_path = dual, pg_catalog;
DELETE FROM dual.source WHERE id OPERATOR(pg_catalog.=) 5;
SELECT count(*) FROM dual.target;
RESET search_path;
DROP OPERATOR dual.= (int, int);

-- a deferred constraint of the target is refused, and told how to go on
CREATE TABLE dual.parent (v text PRIMARY KEY);
GRANT SELECT ON dual.parent TO dual_owner;
TRUNCATE dual.target;
ALTER TABLE dual.target ADD FOREIGN KEY (v) REFERENCES dual.parent DEFERRABLE INITIALLY DEFERRED;
CREATE FUNCTION pg_temp.hint() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    INSERT INTO dual.source VALUES (6, 'x');
    RETURN 'written';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN sqlstate || (hint LIKE '%SET CONSTRAINTS ... IMMEDIATE%');
END $$;
SELECT pg_temp.hint();
SET CONSTRAINTS ALL IMMEDIATE;
SELECT pg_temp.hint();
INSERT INTO dual.parent VALUES ('x by dual_owner');
SELECT pg_temp.hint();

-- nobody but the extension's owner makes such triggers: they would write as whom they name
SET ROLE dual_owner;
CREATE TRIGGER mine AFTER INSERT ON dual.source FOR EACH ROW
    EXECUTE FUNCTION ordflow.dual_write_changed('mine', 'postgres', 'dual.target', '', '1', 'id', 'id');
RESET ROLE;
ALTER ROLE dual_owner RENAME TO dual_renamed;
INSERT INTO dual.source VALUES (7, 'x');
ROLLBACK;

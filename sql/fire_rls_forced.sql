-- A policy that is forced on the table's owner binds him whoever has fired before in the session, and nobody else.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA frf;
CREATE ROLE regress_frf;
GRANT USAGE ON SCHEMA frf, ordflow TO regress_frf;
GRANT EXECUTE ON FUNCTION ordflow.fire TO regress_frf;
SELECT ordflow.define_machine('frf', '{"states": {"a": "initial", "b": "final"}, "transitions": [{"from": "a", "event": "go", "to": "b"}]}');
CREATE FUNCTION pg_temp.make(name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format('CREATE TABLE %s (id int PRIMARY KEY, status text, shown boolean)', name);
  EXECUTE format('INSERT INTO %s SELECT n, ''a'', n = 9 FROM generate_series(1, 9) n', name);
  PERFORM ordflow.attach(name::regclass, 'frf', 'status');
  EXECUTE format('ALTER TABLE %s OWNER TO regress_frf', name);
  EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
  EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name);
  EXECUTE format('CREATE POLICY shown ON %s USING (shown)', name);
END $$;

-- a superuser first, then the owner
SELECT pg_temp.make('frf.one');
SELECT ordflow.fire('frf.one', '1', 'go');
SET ROLE regress_frf;
SELECT ordflow.fire('frf.one', '2', 'go');
SELECT ordflow.fire('frf.one', '9', 'go');
RESET ROLE;
SELECT id, status FROM frf.one WHERE status = 'b' ORDER BY id;

-- the owner first
SELECT pg_temp.make('frf.two');
SET ROLE regress_frf;
SELECT ordflow.fire('frf.two', '1', 'go');
SELECT ordflow.fire('frf.two', '9', 'go');
RESET ROLE;
SELECT ordflow.fire('frf.two', '2', 'go');
SELECT id, status FROM frf.two WHERE status = 'b' ORDER BY id;
ROLLBACK;

-- A user's table is changed as its owner, in a security-restricted operation, whoever calls run_due.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
CREATE SCHEMA town;
CREATE ROLE regress_town;
GRANT USAGE, CREATE ON SCHEMA town TO regress_town;
SELECT ordflow.grant_access('regress_town', 'admin');
SET ROLE regress_town;
CREATE TABLE town.job (id int PRIMARY KEY, status text, due timestamptz, sql text);
CREATE INDEX ON town.job (due);
CREATE TABLE town.log (line text);
CREATE FUNCTION town.evil() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO town.log VALUES (format('%s as %s', TG_WHEN, current_user));
  IF NEW.sql IS NOT NULL THEN EXECUTE NEW.sql; END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER before BEFORE UPDATE ON town.job FOR EACH ROW EXECUTE FUNCTION town.evil();
CREATE CONSTRAINT TRIGGER after AFTER UPDATE ON town.job DEFERRABLE FOR EACH ROW EXECUTE FUNCTION town.evil();
SELECT ordflow.define_machine('town', '{"states": {"new": "initial", "old": "final"}, "transitions": [{"from": "new", "event": "age", "to": "old", "after": "1 h"}]}');
SELECT ordflow.attach('town.job', 'town', 'status', due_column => 'due');
INSERT INTO town.job VALUES (1, 'new', clock_timestamp(), NULL), (2, 'new', clock_timestamp(), 'RESET ROLE'),
  (3, 'new', clock_timestamp(), 'CREATE TEMP TABLE x (y int)'), (4, 'new', clock_timestamp(), 'DELETE FROM ordflow.orders');
RESET ROLE;
SELECT ordflow.run_due();
SELECT id, status FROM town.job ORDER BY id;
SELECT key, sqlstate FROM ordflow.parked WHERE target = 'town.job' ORDER BY key;
SELECT DISTINCT line FROM town.log ORDER BY 1;

-- a trigger that is deferred cannot run in that operation
SET ROLE regress_town;
DROP TRIGGER after ON town.job;
CREATE CONSTRAINT TRIGGER after AFTER UPDATE ON town.job DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION town.evil();
RESET ROLE;
INSERT INTO town.job VALUES (5, 'new', clock_timestamp());
SELECT ordflow.run_due();
SELECT id, status FROM town.job WHERE id = 5;
SELECT key, sqlstate FROM ordflow.parked WHERE target = 'town.job' AND key = '5';

-- row level security: the owner is free of his policies, unless he forces them on himself
SET ROLE regress_town;
DROP TRIGGER after ON town.job;
UPDATE town.job SET due = NULL;
INSERT INTO town.job VALUES (6, 'new', clock_timestamp());
CREATE POLICY none ON town.job FOR UPDATE USING (false);
ALTER TABLE town.job ENABLE ROW LEVEL SECURITY;
RESET ROLE;
SELECT ordflow.run_due();
SELECT id, status FROM town.job WHERE id = 6;
ALTER TABLE town.job FORCE ROW LEVEL SECURITY;
INSERT INTO town.job VALUES (7, 'new', clock_timestamp());
SELECT ordflow.run_due();
SELECT id, status FROM town.job WHERE id = 7;
SELECT key, sqlstate FROM ordflow.parked WHERE target = 'town.job' AND key = '7';
ROLLBACK;

-- A guard may hold up a timeout: the object is parked with OF009 and tried again; one that is locked or gone holds up nothing.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
CREATE SCHEMA tgrd;
CREATE TABLE tgrd.job (id int PRIMARY KEY, status text, due timestamptz, ready boolean);
CREATE INDEX ON tgrd.job (due);
CREATE FUNCTION tgrd.ready(o jsonb, a jsonb) RETURNS boolean LANGUAGE sql AS $$ SELECT (o #>> '{row,ready}')::boolean $$;
SELECT ordflow.define_machine('tgrd', '{"states": {"new": "initial", "old": "final"}, "transitions": [
  {"from": "new", "event": "age", "to": "old", "after": "1 h", "guard": "tgrd.ready(jsonb,jsonb)"}]}');
SELECT ordflow.attach('tgrd.job', 'tgrd', 'status', due_column => 'due');
INSERT INTO tgrd.job VALUES (1, 'new', clock_timestamp(), true), (2, 'new', clock_timestamp(), false), (3, 'new', clock_timestamp(), true);
SELECT ordflow.run_due();
SELECT id, status FROM tgrd.job ORDER BY id;
SELECT key, event, sqlstate FROM ordflow.parked WHERE target = 'tgrd.job';
UPDATE tgrd.job SET ready = true;
UPDATE ordflow.parked SET retry_at = clock_timestamp() WHERE target = 'tgrd.job';
SELECT ordflow.run_due();
SELECT id, status FROM tgrd.job ORDER BY id;
SELECT count(*) FROM ordflow.parked WHERE target = 'tgrd.job';

-- the function is gone: all are parked; a table without its due column is left out with a warning
INSERT INTO tgrd.job VALUES (4, 'new', clock_timestamp(), true), (5, 'new', clock_timestamp(), true);
DROP FUNCTION tgrd.ready;
SELECT ordflow.run_due();
SELECT key, sqlstate FROM ordflow.parked WHERE target = 'tgrd.job' ORDER BY 1;
UPDATE ordflow.parked SET retry_at = clock_timestamp() WHERE target = 'tgrd.job';
ALTER TABLE tgrd.job RENAME due TO due_at;
SELECT ordflow.run_due();
ALTER TABLE tgrd.job RENAME due_at TO due;
SELECT id, status FROM tgrd.job WHERE id > 3 ORDER BY id;
ROLLBACK;

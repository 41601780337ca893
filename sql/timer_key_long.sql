-- An object is parked under a key of any length, with the beginning of a message of any length.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
CREATE SCHEMA tlong;
CREATE TABLE tlong.parcel (code bytea PRIMARY KEY, status text, due timestamptz);
CREATE INDEX ON tlong.parcel (due);
CREATE FUNCTION tlong.no() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.code = 'no' THEN RAISE EXCEPTION 'x%', repeat(U&'\00e4', 3000); END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER no BEFORE UPDATE ON tlong.parcel FOR EACH ROW EXECUTE FUNCTION tlong.no();

-- a key that fits into an index, and as text does not: older than the machine, it never gets a history
INSERT INTO tlong.parcel VALUES ('yes', 'new', '2020-01-01'), ('no', 'new', '2020-01-01'),
  ((SELECT string_agg(sha256(n::text::bytea), '' ORDER BY n) FROM generate_series(1, 75) n), 'new', '2020-01-01');
SELECT ordflow.define_machine('tlong', '{"states": {"new": "initial", "old": "final"}, "transitions": [
  {"from": "new", "event": "age", "to": "old", "after": "1 h"}]}');
SELECT ordflow.attach('tlong.parcel', 'tlong', 'status', due_column => 'due');
SELECT ordflow.run_due();
SELECT length(code), status FROM tlong.parcel ORDER BY 1;
SELECT length(key), attempts, sqlstate, octet_length(error) <= 2000 AND error ~ U&'^(x\00e4+|index row .*)$' AS clipped
FROM ordflow.parked WHERE target = 'tlong.parcel' ORDER BY 1;
UPDATE ordflow.parked SET retry_at = clock_timestamp() WHERE target = 'tlong.parcel';
SELECT ordflow.run_due();
SELECT length(key), attempts FROM ordflow.parked WHERE target = 'tlong.parcel' ORDER BY 1;
DROP TRIGGER no ON tlong.parcel;
DELETE FROM tlong.parcel WHERE length(code) > 3;
UPDATE ordflow.parked SET retry_at = clock_timestamp() WHERE target = 'tlong.parcel';
SELECT ordflow.run_due();
SELECT count(*) FROM ordflow.parked WHERE target = 'tlong.parcel';
ROLLBACK;

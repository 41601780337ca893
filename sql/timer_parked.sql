-- An object whose timeout fails is parked alone: the others go on, it comes again after 1 s, 2 s, 4 s ... and leaves when it succeeds.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
CREATE SCHEMA tprk;
CREATE TABLE tprk.job (id int PRIMARY KEY, status text, due timestamptz);
CREATE INDEX ON tprk.job (due);
CREATE TABLE tprk.bad (id int);
CREATE FUNCTION tprk.picky(o jsonb, a jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM tprk.bad WHERE id = (o->>'key')::int) THEN
    RAISE EXCEPTION 'job % is bad', o->>'key' USING ERRCODE = 'SH005';
  END IF;
END $$;
SELECT ordflow.define_machine('tprk', '{"states": {"new": "initial", "old": "final"}, "transitions": [
  {"from": "new", "event": "age", "to": "old", "after": "1 h", "effect": "tprk.picky(jsonb,jsonb)"}]}');
SELECT ordflow.attach('tprk.job', 'tprk', 'status', due_column => 'due');
INSERT INTO tprk.job SELECT n, 'new', clock_timestamp() FROM generate_series(1, 100) n;
INSERT INTO tprk.bad VALUES (1), (50), (51), (100);
SELECT ordflow.run_due();
SELECT status, count(*) FROM tprk.job GROUP BY 1 ORDER BY 1;
SELECT key, event, attempts, sqlstate, error, retry_at - interval '1 s' BETWEEN now() AND clock_timestamp() AS in_a_second
FROM ordflow.parked WHERE target = 'tprk.job' ORDER BY key::int;
SELECT count(*) FROM ordflow.object_history WHERE target = 'tprk.job' AND event = 'age';

-- not before its time, then doubling, at most an hour
UPDATE ordflow.parked SET retry_at = clock_timestamp() + interval '10 min' WHERE target = 'tprk.job';
SELECT ordflow.run_due();
SELECT max(attempts) FROM ordflow.parked WHERE target = 'tprk.job';
SELECT ordflow.run_due(now() + interval '1 h') IS NOT NULL;
SELECT key, attempts, retry_at = now() + interval '1 h 2 s' AS two_seconds_later FROM ordflow.parked WHERE target = 'tprk.job' ORDER BY key::int;
SELECT ordflow.run_due(now() + interval '2 h') IS NOT NULL;
SELECT key, attempts, retry_at = now() + interval '2 h 4 s' AS four_seconds_later FROM ordflow.parked WHERE target = 'tprk.job' ORDER BY key::int;
UPDATE ordflow.parked SET attempts = 11, retry_at = clock_timestamp() WHERE target = 'tprk.job' AND key = '1';
UPDATE ordflow.parked SET attempts = 1000, retry_at = clock_timestamp() WHERE target = 'tprk.job' AND key = '50';
SELECT ordflow.run_due();
SELECT key, attempts, round(extract(epoch FROM retry_at - clock_timestamp()) / 100) * 100 AS seconds FROM ordflow.parked
WHERE target = 'tprk.job' AND key IN ('1', '50') ORDER BY 1;

-- repaired: it fires and leaves the table; by hand at once
DELETE FROM tprk.bad;
UPDATE ordflow.parked SET retry_at = clock_timestamp() WHERE target = 'tprk.job' AND key IN ('1', '51');
SELECT ordflow.run_due();
SELECT ordflow.fire('tprk.job', '50', 'age');
SELECT id, status FROM tprk.job WHERE id IN (1, 50, 51, 100) ORDER BY id;
SELECT key FROM ordflow.parked WHERE target = 'tprk.job' ORDER BY key;

-- what is not due any more leaves it when its time has come: fired by hand, deleted, put off
INSERT INTO tprk.job SELECT n, 'new', clock_timestamp() FROM generate_series(200, 202) n;
INSERT INTO tprk.bad VALUES (100), (200), (201), (202);
UPDATE ordflow.parked SET retry_at = clock_timestamp() WHERE target = 'tprk.job' AND key = '100';
SELECT ordflow.run_due();
DELETE FROM tprk.job WHERE id = 200;
UPDATE tprk.job SET due = '2100-01-01' WHERE id = 201;
UPDATE ordflow.parked SET retry_at = clock_timestamp() + interval '1 h' WHERE target = 'tprk.job' AND key = '202';
UPDATE ordflow.parked SET retry_at = clock_timestamp() WHERE target = 'tprk.job' AND key <> '202';
SELECT ordflow.run_due();
SELECT key, attempts FROM ordflow.parked WHERE target = 'tprk.job' ORDER BY key;
ROLLBACK;

-- Keys of several columns are JSON arrays of their values as text; and keys of types that have a text of their own.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_com;
SET LOCAL client_min_messages = warning;
SELECT ordflow.define_machine('att_com', '{"states": {"a": "initial", "b": "normal", "c": "final"}, "transitions": [
  {"from": "a", "event": "go", "to": "b"}, {"from": "a", "event": "late", "to": "c", "after": "1 h"},
  {"from": "b", "event": "end", "to": "c"}]}');
CREATE TABLE att_com.bill (shop text, no int, day date, status text DEFAULT 'a', due timestamptz, PRIMARY KEY (shop, day, no));
CREATE INDEX ON att_com.bill (due);
SELECT ordflow.attach('att_com.bill', 'att_com', 'status', due_column => 'due');
INSERT INTO att_com.bill VALUES ('x', 1, '2026-01-02'), ('x', 2, '2026-01-02'), ('a "b", [c]', 1, '2026-01-02'), ('ü', -3, 'infinity');

-- in the order of the primary key; numbers may be numbers, spaces do not matter, dates are written in one way whatever the session's style
SELECT ordflow.fire('att_com.bill', '["x", "2026-01-02", 1]', 'go');
SET LOCAL datestyle = 'German';
SELECT ordflow.fire('att_com.bill', ' ["x","2.1.2026","2"] ', 'go', '{"reason": "asked"}');
SELECT ordflow.fire('att_com.bill', '["a \"b\", [c]", "2026-01-02", "1"]', 'go');
SELECT ordflow.fire('att_com.bill', '["\u00fc", "infinity", "-3"]', 'go');
UPDATE att_com.bill SET status = 'c' WHERE no = 2;
SELECT key, event, from_state, to_state, reason FROM ordflow.object_history WHERE target = 'att_com.bill' ORDER BY history_id;
SELECT event, to_state FROM ordflow.available_events('att_com.bill', '["x", "2026-01-02", 1]');

-- what is no key, and a key that is nobody's
SELECT ordflow.fire('att_com.bill', 'x', 'go');
SELECT ordflow.fire('att_com.bill', '["x", "2026-01-02"]', 'go');
SELECT ordflow.fire('att_com.bill', '["x", "2026-01-02", 1, 1]', 'go');
SELECT ordflow.fire('att_com.bill', '["x", "2026-01-02", null]', 'go');
SELECT ordflow.fire('att_com.bill', '["x", "2026-01-02", [1]]', 'go');
SELECT ordflow.fire('att_com.bill', '{"shop": "x"}', 'go');
SELECT ordflow.fire('att_com.bill', '["x", "2026-01-02", "one"]', 'go');
\set VERBOSITY default
SELECT ordflow.fire('att_com.bill', '["x"]', 'go');
SELECT ordflow.fire('att_com.bill', '["y", "2026-01-02", 1]', 'go');
UPDATE att_com.bill SET status = 'a' WHERE no = -3;
\set VERBOSITY sqlstate

-- deadlines; a row that cannot be fired is parked by its key and tried again by it
INSERT INTO att_com.bill VALUES ('z', 1, '2026-01-02', 'a', clock_timestamp()), ('z', 2, '2026-01-02', 'a', clock_timestamp());
CREATE FUNCTION att_com.refuse(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN IF object -> 'row' ->> 'no' = '2' THEN RAISE 'no %', object ->> 'key'; END IF; END $$;
SELECT ordflow.add_effect('att_com', 'late', 'att_com.refuse(jsonb, jsonb)');
SELECT ordflow.run_due();
SELECT no, status FROM att_com.bill WHERE shop = 'z' ORDER BY no;
SELECT key, error FROM ordflow.parked WHERE target = 'att_com.bill';
SELECT ordflow.run_due();
SELECT ordflow.drop_effect('att_com', 'late', 'att_com.refuse(jsonb, jsonb)');
UPDATE ordflow.parked SET retry_at = now() WHERE target = 'att_com.bill';
SELECT ordflow.run_due();
SELECT no, status FROM att_com.bill WHERE shop = 'z' ORDER BY no;
SELECT count(*) FROM ordflow.parked WHERE target = 'att_com.bill';

-- a part of the key changes with the state: the history names the row as it is afterwards
UPDATE att_com.bill SET no = 7, status = 'c' WHERE shop = 'x' AND no = 1;
SELECT key, event FROM ordflow.object_history WHERE target = 'att_com.bill' AND key ~ '7';

-- one column: uuid, timestamptz, an array
CREATE TABLE att_com.uuid (id uuid PRIMARY KEY, status text);
CREATE TABLE att_com.moment (id timestamptz PRIMARY KEY, status text);
CREATE TABLE att_com.list (id int[] PRIMARY KEY, status text);
SELECT ordflow.define_machine('att_com_plain', '{"states": {"a": "initial", "b": "normal"}, "transitions": [
  {"from": "a", "event": "go", "to": "b"}]}');
SELECT ordflow.attach(t, 'att_com_plain', 'status') FROM unnest('{att_com.uuid, att_com.moment, att_com.list}'::regclass[]) t;
INSERT INTO att_com.uuid VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'a');
INSERT INTO att_com.moment VALUES ('2026-01-02 03:04:05.678+00', 'a');
INSERT INTO att_com.list VALUES ('{1,2}', 'a');
SELECT ordflow.fire('att_com.uuid', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'go');
SELECT ordflow.fire('att_com.moment', '2026-01-02 03:04:05.678+00', 'go');
SELECT ordflow.fire('att_com.list', '{1, 2}', 'go');
SELECT ordflow.fire('att_com.list', '{1, 2, 3}', 'go');
SELECT target, key, event FROM ordflow.object_history WHERE target ~ '^att_com.(uuid|moment|list)' ORDER BY history_id;

-- of types that settings write in several ways
CREATE TABLE att_com.odd (a float8, b interval, c tstzrange, d bytea, status text, PRIMARY KEY (a, b, c, d));
SELECT ordflow.attach('att_com.odd', 'att_com_plain', 'status');
INSERT INTO att_com.odd VALUES (0.1::float8 + 0.2, '1 day 2:00', '[2026-02-01 00:00+00,2026-03-04 00:00+00)', '\x00ff', 'a');
SET LOCAL extra_float_digits = 0;
SET LOCAL datestyle = 'SQL, DMY';
SET LOCAL intervalstyle = 'iso_8601';
SET LOCAL bytea_output = 'escape';
SELECT ordflow.fire('att_com.odd', key, 'go') FROM ordflow.object_history WHERE target = 'att_com.odd';
SELECT key, event FROM ordflow.object_history WHERE target = 'att_com.odd' ORDER BY history_id;

-- a unique column of one's own choice instead of the key
SELECT ordflow.detach('att_com.bill');
ALTER TABLE att_com.bill ADD number bigint GENERATED ALWAYS AS IDENTITY UNIQUE;
SELECT ordflow.attach('att_com.bill', 'att_com', 'status', 'number', 'due');
INSERT INTO att_com.bill VALUES ('n', 1, '2026-01-02');
SELECT ordflow.fire('att_com.bill', currval('att_com.bill_number_seq')::text, 'go');
SELECT * FROM ordflow.attach_report('att_com.bill', 'att_com_plain', 'status');
ROLLBACK;

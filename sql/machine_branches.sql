-- Several transitions of one event from one state: the first by ordinal whose guard lets the object pass.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA mbr;
CREATE TABLE mbr.loan (id int PRIMARY KEY, state text, amount int);
CREATE FUNCTION mbr.small(object jsonb, args jsonb) RETURNS boolean LANGUAGE sql
AS $$ SELECT (object #>> '{row,amount}')::int <= 100 $$;
CREATE FUNCTION mbr.fair(object jsonb, args jsonb) RETURNS boolean LANGUAGE sql
AS $$ SELECT (object #>> '{row,amount}')::int <= 1000 $$;
SELECT ordflow.define_machine('mbr', '{"states": {"asked": "initial", "granted": "final", "review": "normal", "board": "normal"},
  "transitions": [
    {"from": "asked", "event": "decide", "to": "granted", "guard": "mbr.small(jsonb,jsonb)"},
    {"from": "asked", "event": "decide", "to": "review", "guard": "mbr.fair(jsonb,jsonb)"},
    {"from": "asked", "event": "decide", "to": "board", "guard": "mbr.fair(jsonb,jsonb)"},
    {"from": "review", "event": "decide", "to": "board"}]}');
SELECT ordflow.attach('mbr.loan', 'mbr', 'state');
INSERT INTO mbr.loan VALUES (1, 'asked', 100), (2, 'asked', 101), (3, 'asked', 1001), (4, 'asked', 50);
SELECT ordflow.fire('mbr.loan', '1', 'decide');
SELECT ordflow.fire('mbr.loan', '2', 'decide');
SELECT ordflow.fire('mbr.loan', '2', 'decide');

-- no guard lets it pass: each is named, once
SELECT ordflow.fire('mbr.loan', '3', 'decide');
CREATE FUNCTION pg_temp.refusal() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  RETURN ordflow.fire('mbr.loan', '3', 'decide');
EXCEPTION WHEN SQLSTATE 'OF009' THEN
  RETURN format('small %s, fair %s', regexp_count(SQLERRM, 'mbr.small'), regexp_count(SQLERRM, 'mbr.fair'));
END $$;
SELECT pg_temp.refusal();

-- a plain UPDATE says where it leads: that guard alone is asked
UPDATE mbr.loan SET state = 'granted' WHERE id = 3;
UPDATE mbr.loan SET state = 'board' WHERE id = 4;
SELECT id, state FROM mbr.loan ORDER BY id;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'mbr.loan' AND from_state IS NOT NULL
ORDER BY history_id;
SELECT * FROM ordflow.available_events('mbr.loan', '3');

-- the order of the definition counts, not that of names
SELECT ordflow.define_machine('mbr', '{"states": {"asked": "initial", "granted": "final", "review": "normal", "board": "normal"},
  "transitions": [{"from": "asked", "event": "decide", "to": "review"}, {"from": "asked", "event": "decide", "to": "board"}]}');
SELECT ordflow.fire('mbr.loan', '3', 'decide');
ROLLBACK;

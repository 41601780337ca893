-- Guards of a transition: false and NULL refuse (OF009), an error of its own comes through.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_grd;
CREATE TABLE att_grd.claim (id int PRIMARY KEY, status text, amount int, judge text);
CREATE TABLE att_grd.seen (object jsonb, args jsonb);
CREATE FUNCTION att_grd.affordable(object jsonb, args jsonb) RETURNS boolean LANGUAGE sql
AS $$ SELECT (object #>> '{row,amount}')::int <= 100 $$;
CREATE FUNCTION att_grd.judged(object jsonb, args jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO att_grd.seen VALUES (object, args);
  IF object #>> '{row,judge}' IS NULL THEN
    RAISE EXCEPTION 'nobody has judged' USING ERRCODE = 'SH001';
  END IF;
  RETURN args->>'verdict' IS DISTINCT FROM 'no';
END $$;
SELECT ordflow.define_machine('att_grd', '{"states": {"filed": "initial", "open": "normal", "paid": "final"}, "transitions": [
  {"from": "filed", "event": "open", "to": "open", "guard": "att_grd.affordable(jsonb,jsonb)"},
  {"from": "open", "event": "pay", "to": "paid", "guard": "att_grd.judged(jsonb,jsonb)"}]}');
SELECT ordflow.attach('att_grd.claim', 'att_grd', 'status');
INSERT INTO att_grd.claim VALUES (1, 'filed', 100), (2, 'filed', 101), (3, 'filed', NULL);

-- by UPDATE and by fire: true, false, NULL
UPDATE att_grd.claim SET status = 'open' WHERE id = 1;
UPDATE att_grd.claim SET status = 'open' WHERE id = 2;
UPDATE att_grd.claim SET status = 'open' WHERE id = 3;
SELECT ordflow.fire('att_grd.claim', '2', 'open');
SELECT ordflow.fire('att_grd.claim', '3', 'open');
-- fire asks about the row as it stands, a plain UPDATE about the row as it will be
UPDATE att_grd.claim SET status = 'open', amount = 99 WHERE id = 2;
UPDATE att_grd.claim SET status = 'open' WHERE id IN (1, 3);

-- its own error, whoever asks
UPDATE att_grd.claim SET status = 'paid' WHERE id = 1;
SELECT ordflow.fire('att_grd.claim', '1', 'pay');
UPDATE att_grd.claim SET judge = 'dredd' WHERE id IN (1, 2);
SELECT ordflow.fire('att_grd.claim', '1', 'pay', '{"verdict": "no"}');
SELECT id, status FROM att_grd.claim ORDER BY id;

-- what it is given
SELECT ordflow.fire('att_grd.claim', '1', 'pay', '{"verdict": "yes", "reason": "law"}');
UPDATE att_grd.claim SET status = 'paid' WHERE id = 2;
SELECT object, args FROM att_grd.seen;
SELECT key, event, to_state, reason, data FROM ordflow.object_history
WHERE target = 'att_grd.claim' AND from_state IS NOT NULL ORDER BY history_id;
ROLLBACK;

-- An attached table: a plain UPDATE of the state that is no legal transition is refused, a legal one is recorded.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_upd;
CREATE TABLE att_upd.parcel (id int PRIMARY KEY, status text, note text);
SELECT ordflow.define_machine('att_upd', '{"states": {"packed": "initial", "sent": "normal", "lost": "final", "arrived": "final"},
  "transitions": [{"from": "packed", "event": "send", "to": "sent"}, {"from": "sent", "event": "arrive", "to": "arrived"},
                  {"from": "sent", "event": "lose", "to": "lost"}, {"from": "packed", "event": "lose", "to": "lost"}]}');
SELECT ordflow.attach('att_upd.parcel', 'att_upd', 'status');
INSERT INTO att_upd.parcel VALUES (1, 'packed'), (2, 'packed');

UPDATE att_upd.parcel SET status = 'sent' WHERE id = 1;
UPDATE att_upd.parcel SET status = 'arrived', note = 'at the door' WHERE id = 1;

-- no such step, no such state, no state, out of a final state
UPDATE att_upd.parcel SET status = 'arrived' WHERE id = 2;
UPDATE att_upd.parcel SET status = 'Sent' WHERE id = 2;
UPDATE att_upd.parcel SET status = '' WHERE id = 2;
UPDATE att_upd.parcel SET status = NULL WHERE id = 2;
UPDATE att_upd.parcel SET status = 'lost' WHERE id = 1;

-- the refusal names what would be legal
CREATE FUNCTION pg_temp.detail(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
  EXECUTE sql;
  RETURN 'no error';
EXCEPTION WHEN SQLSTATE 'OF001' THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
  RETURN detail;
END $$;
SELECT d LIKE '%send (to sent)%' AS send, d LIKE '%lose (to lost)%' AS lose, d LIKE '%arrive%' AS arrive
FROM pg_temp.detail('UPDATE att_upd.parcel SET status = ''arrived'' WHERE id = 2') AS d;

-- other columns, the same state again, and a row deleted are nobody's business
UPDATE att_upd.parcel SET note = 'fragile' WHERE id = 2;
UPDATE att_upd.parcel SET status = 'packed' WHERE id = 2;
UPDATE att_upd.parcel SET status = status;
DELETE FROM att_upd.parcel WHERE id = 1;

TABLE att_upd.parcel;
SELECT key, event, from_state, to_state, actor = session_user AS me, reason, data, at BETWEEN now() AND clock_timestamp() AS now
FROM ordflow.object_history WHERE target = 'att_upd.parcel' ORDER BY history_id;
ROLLBACK;

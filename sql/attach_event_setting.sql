-- Two events between the same two states: a plain UPDATE means the first by ordinal, or the one that ordflow.event names.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_evt;
CREATE TABLE att_evt.sale (id int PRIMARY KEY, status text);
CREATE FUNCTION att_evt.never(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT false';
SELECT ordflow.define_machine('att_evt', '{"states": {"open": "initial", "gone": "final", "sold": "final"}, "transitions": [
  {"from": "open", "event": "withdraw", "to": "gone"}, {"from": "open", "event": "abandon", "to": "gone"},
  {"from": "open", "event": "seize", "to": "gone", "guard": "att_evt.never(jsonb,jsonb)"}, {"from": "open", "event": "sell", "to": "sold"}]}');
SELECT ordflow.attach('att_evt.sale', 'att_evt', 'status');
INSERT INTO att_evt.sale SELECT n, 'open' FROM generate_series(1, 9) n;
UPDATE att_evt.sale SET status = 'gone' WHERE id = 1;

SET LOCAL ordflow.event = 'abandon';
UPDATE att_evt.sale SET status = 'gone' WHERE id = 2;
-- where the named event does not lead there, the first that does
UPDATE att_evt.sale SET status = 'sold' WHERE id = 3;
SET LOCAL ordflow.event = 'no such event';
UPDATE att_evt.sale SET status = 'gone' WHERE id = 4;
SET LOCAL ordflow.event = 'sell';
UPDATE att_evt.sale SET status = 'gone' WHERE id = 5;

-- the named event is judged by its own guard
SET LOCAL ordflow.event = 'seize';
UPDATE att_evt.sale SET status = 'gone' WHERE id = 6;

-- fire names its event itself
SELECT ordflow.fire('att_evt.sale', '7', 'abandon');
SAVEPOINT s;
SET LOCAL ordflow.event = 'abandon';
ROLLBACK TO s;
SET LOCAL ordflow.event = '';
UPDATE att_evt.sale SET status = 'gone' WHERE id = 8;
SELECT key, event, to_state FROM ordflow.object_history WHERE target = 'att_evt.sale' AND from_state IS NOT NULL ORDER BY history_id;

-- the setting: at most 255 bytes
SELECT set_config('ordflow.event', repeat('e', 256), true);
ROLLBACK;
SHOW ordflow.event;

-- INSERT ... ON CONFLICT on a table with int status codes: the final row counts, not the proposed one.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA cod_ups;
CREATE TABLE cod_ups.bill (id bigint PRIMARY KEY, status int NOT NULL DEFAULT 0, due timestamptz, tries int DEFAULT 0);
CREATE INDEX ON cod_ups.bill (due);
SELECT ordflow.define_machine('cod_ups', '{"states": {"0": "initial", "10": "normal", "20": "normal", "40": "final"},
  "transitions": [{"from": "0", "event": "pay", "to": "10"}, {"from": "10", "event": "ship", "to": "20"},
                  {"from": "0", "event": "expire", "to": "40", "after": "1 hour"}]}');
SELECT ordflow.attach('cod_ups.bill', 'cod_ups', 'status', due_column => 'due');

-- inserted by default, then paid by the same statement
INSERT INTO cod_ups.bill (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET status = 10;
SELECT id, status, due > now() AS due FROM cod_ups.bill;
INSERT INTO cod_ups.bill (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET status = 10;
SELECT id, status, due FROM cod_ups.bill;

-- "20" is no initial state, but a legal step; from there "10" is none
INSERT INTO cod_ups.bill VALUES (2, 20) ON CONFLICT (id) DO UPDATE SET status = excluded.status;
INSERT INTO cod_ups.bill VALUES (1, 20) ON CONFLICT (id) DO UPDATE SET status = excluded.status;
INSERT INTO cod_ups.bill VALUES (1, 10) ON CONFLICT (id) DO UPDATE SET status = excluded.status;
INSERT INTO cod_ups.bill VALUES (1, 99) ON CONFLICT (id) DO UPDATE SET tries = bill.tries + 1 RETURNING status, tries;
INSERT INTO cod_ups.bill VALUES (1, 99) ON CONFLICT DO NOTHING;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'cod_ups.bill' ORDER BY history_id;
ROLLBACK;

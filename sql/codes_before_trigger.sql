-- A BEFORE trigger that derives the status code from other columns: what counts is the final row.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA cod_bef;
CREATE TABLE cod_bef.bill (id int PRIMARY KEY, total int, paid int DEFAULT 0, sent int DEFAULT 0, status int DEFAULT 0, due timestamptz);
CREATE INDEX ON cod_bef.bill (due);
CREATE FUNCTION cod_bef.derive() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.status := CASE WHEN NEW.sent >= NEW.total THEN 20 WHEN NEW.paid >= NEW.total THEN 10 ELSE NEW.status END;
  RETURN NEW;
END $$;
CREATE TRIGGER derive BEFORE INSERT OR UPDATE ON cod_bef.bill FOR EACH ROW EXECUTE FUNCTION cod_bef.derive();
SELECT ordflow.define_machine('cod_bef', '{"states": {"0": "initial", "10": "normal", "20": "final", "40": "final"},
  "transitions": [{"from": "0", "event": "pay", "to": "10"}, {"from": "10", "event": "ship", "to": "20"},
                  {"from": "0", "event": "expire", "to": "40", "after": "1 hour"}]}');
SELECT ordflow.attach('cod_bef.bill', 'cod_bef', 'status', due_column => 'due');

-- no statement names the status; the due column follows what the trigger makes of it
INSERT INTO cod_bef.bill (id, total) VALUES (1, 5), (2, 5);
UPDATE cod_bef.bill SET paid = paid + 3 WHERE id = 1;
SELECT status, due > now() AS due FROM cod_bef.bill WHERE id = 1;
UPDATE cod_bef.bill SET paid = paid + 3 WHERE id = 1;
SELECT status, due FROM cod_bef.bill WHERE id = 1;
UPDATE cod_bef.bill SET sent = 5 WHERE id = 1;

-- sent without being paid; paid from the start; another legal state than was asked for, by UPDATE and by fire()
UPDATE cod_bef.bill SET sent = 5 WHERE id = 2;
INSERT INTO cod_bef.bill (id, total, paid) VALUES (3, 5, 5);
UPDATE cod_bef.bill SET paid = 5, status = 40 WHERE id = 2;
SELECT ordflow.fire('cod_bef.bill', '2', 'ship');
SELECT id, status FROM cod_bef.bill ORDER BY id;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'cod_bef.bill' ORDER BY history_id;

-- a change of something else that means an illegal step
INSERT INTO cod_bef.bill (id, total) VALUES (4, 5);
UPDATE cod_bef.bill SET total = 0 WHERE id = 4;
SELECT status FROM cod_bef.bill WHERE id = 4;
ROLLBACK;

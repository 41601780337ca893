-- Foreign keys that write the state: ON UPDATE CASCADE, ON DELETE SET NULL and SET DEFAULT.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_fk;
CREATE TABLE att_fk.code (status text PRIMARY KEY);
INSERT INTO att_fk.code VALUES ('new'), ('paid'), ('void');
CREATE TABLE att_fk.shop (no int PRIMARY KEY);
CREATE TABLE att_fk.bill (no int PRIMARY KEY, status text DEFAULT 'void' REFERENCES att_fk.code ON UPDATE CASCADE ON DELETE SET DEFAULT,
  shop int REFERENCES att_fk.shop ON DELETE CASCADE);
CREATE TABLE att_fk.line (bill int REFERENCES att_fk.bill ON UPDATE CASCADE ON DELETE CASCADE, status text);
SELECT ordflow.define_machine('att_fk', '{"states": {"new": "initial", "paid": "normal", "payed": "normal", "void": "final"},
  "transitions": [{"from": "new", "event": "pay", "to": "paid"}, {"from": "paid", "event": "void", "to": "void"},
                  {"from": "paid", "event": "respell", "to": "payed"}]}');
SELECT ordflow.attach('att_fk.bill', 'att_fk', 'status');
INSERT INTO att_fk.shop VALUES (1);
INSERT INTO att_fk.bill VALUES (1, 'new', 1), (2, 'new', 1);
INSERT INTO att_fk.line VALUES (1, 'x');
UPDATE att_fk.bill SET status = 'paid' WHERE no = 1;

-- a code that is renamed renames the state of its rows: legal once, illegal the other time
UPDATE att_fk.code SET status = 'payed' WHERE status = 'paid';
UPDATE att_fk.code SET status = 'fresh' WHERE status = 'new';
SELECT no, status FROM att_fk.bill ORDER BY no;

-- a code that goes away sets the default: not legal from "new"
DELETE FROM att_fk.code WHERE status = 'new';

-- SET NULL leaves no state
ALTER TABLE att_fk.bill DROP CONSTRAINT bill_status_fkey;
ALTER TABLE att_fk.bill ADD FOREIGN KEY (status) REFERENCES att_fk.code ON DELETE SET NULL;
DELETE FROM att_fk.code WHERE status = 'new';

-- the key cascades to others and is no step of its own
UPDATE att_fk.bill SET no = 10 WHERE no = 1;
SELECT bill FROM att_fk.line;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_fk.bill' ORDER BY history_id;

-- deleting is free
DELETE FROM att_fk.shop;
SELECT count(*) FROM att_fk.bill;
ROLLBACK;

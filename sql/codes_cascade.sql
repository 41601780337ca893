-- Foreign keys that write the status code: ON UPDATE CASCADE, ON DELETE SET DEFAULT and SET NULL.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA cod_fk;
CREATE TABLE cod_fk.code (code smallint PRIMARY KEY, name text);
INSERT INTO cod_fk.code VALUES (0, 'unpaid'), (10, 'paid'), (40, 'closed');
CREATE TABLE cod_fk.bill (id int PRIMARY KEY, status smallint DEFAULT 40 REFERENCES cod_fk.code ON UPDATE CASCADE ON DELETE SET DEFAULT);
SELECT ordflow.define_machine('cod_fk', '{"states": {"0": "initial", "10": "normal", "11": "normal", "40": "final"},
  "transitions": [{"from": "0", "event": "pay", "to": "10"}, {"from": "10", "event": "recode", "to": "11"},
                  {"from": "11", "event": "close", "to": "40"}]}');
SELECT ordflow.attach('cod_fk.bill', 'cod_fk', 'status');
INSERT INTO cod_fk.bill VALUES (1, 0), (2, 0);
UPDATE cod_fk.bill SET status = 10 WHERE id = 1;

-- a code that is renumbered takes its rows along: legal, and not
UPDATE cod_fk.code SET code = 11 WHERE code = 10;
UPDATE cod_fk.code SET code = 1 WHERE code = 0;
SELECT * FROM cod_fk.bill ORDER BY id;

-- a code that is deleted sends its rows to the default: not legal from 0, legal from 11
DELETE FROM cod_fk.code WHERE code = 0;
DELETE FROM cod_fk.code WHERE code = 11;
SELECT * FROM cod_fk.bill ORDER BY id;

-- SET NULL leaves no state
ALTER TABLE cod_fk.bill DROP CONSTRAINT bill_status_fkey;
ALTER TABLE cod_fk.bill ADD FOREIGN KEY (status) REFERENCES cod_fk.code ON DELETE SET NULL;
DELETE FROM cod_fk.code WHERE code = 0;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'cod_fk.bill' ORDER BY history_id;
ROLLBACK;

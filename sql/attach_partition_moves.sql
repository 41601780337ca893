-- A table partitioned by its state column: the row moves with each event, which is one step and no end and no beginning.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_mov;
SET LOCAL client_min_messages = warning;
SELECT ordflow.define_machine('att_mov', '{"states": {"open": "initial", "paid": "normal", "done": "final", "gone": "final"},
  "transitions": [{"from": "open", "event": "pay", "to": "paid"}, {"from": "paid", "event": "end", "to": "done"},
  {"from": "open", "event": "expire", "to": "gone", "after": "1 hour"}]}');
SELECT ordflow.define_machine('att_mov_refund', '{"states": {"0": "initial", "1": "normal", "2": "final"}, "transitions": [
  {"from": "0", "event": "ask", "to": "1"}, {"from": "1", "event": "refund", "to": "2"}]}');
CREATE TABLE att_mov.bill (id int, status text NOT NULL DEFAULT 'open', refund int NOT NULL DEFAULT 0, due timestamptz, note text,
  PRIMARY KEY (id, status)) PARTITION BY LIST (status);
CREATE INDEX ON att_mov.bill (due);
CREATE TABLE att_mov.open PARTITION OF att_mov.bill FOR VALUES IN ('open');
CREATE TABLE att_mov.paid PARTITION OF att_mov.bill FOR VALUES IN ('paid');
CREATE TABLE att_mov.rest PARTITION OF att_mov.bill DEFAULT;
SELECT ordflow.attach('att_mov.bill', 'att_mov', 'status', due_column => 'due');
SELECT ordflow.attach('att_mov.bill', 'att_mov_refund', 'refund', 'id');
CREATE FUNCTION att_mov.history() RETURNS TABLE (key text, event text, from_state text, to_state text) LANGUAGE sql AS $$
DELETE FROM ordflow.object_history WHERE target = 'att_mov.bill' RETURNING key, event, from_state, to_state $$;

INSERT INTO att_mov.bill SELECT i FROM generate_series(1, 9) i;
SELECT count(*), count(DISTINCT (key, event)) FROM att_mov.history();
UPDATE att_mov.bill SET status = 'paid' WHERE id IN (1, 2);
SELECT * FROM att_mov.history();
UPDATE att_mov.bill SET status = 'done' WHERE id = 3;
UPDATE att_mov.bill SET status = 'done', refund = 1 WHERE id = 1;
UPDATE att_mov.bill SET refund = 2 WHERE id = 1;
UPDATE att_mov.bill SET refund = 2, status = 'paid' WHERE id = 4;
SELECT * FROM att_mov.history();
SELECT ordflow.fire('att_mov.bill', '5', 'pay');
SELECT ordflow.fire('att_mov.bill', '5', 'ask');
SELECT ordflow.fire('att_mov.bill', '5', 'end');
SELECT ordflow.fire('att_mov.bill', '5', 'end');
SELECT * FROM att_mov.history();
SELECT tableoid::regclass, id, status, refund, due IS NOT NULL AS due FROM att_mov.bill ORDER BY id;

-- the timer
UPDATE att_mov.bill SET due = clock_timestamp() WHERE id IN (6, 7);
SELECT ordflow.run_due();
SELECT * FROM att_mov.history() ORDER BY key;
SELECT tableoid::regclass, id, status, due FROM att_mov.bill WHERE id IN (6, 7) ORDER BY id;

-- deleting and inserting is no move, in one statement either
WITH gone AS (DELETE FROM att_mov.bill WHERE id = 8 RETURNING id) INSERT INTO att_mov.bill (id, status) SELECT id, 'paid' FROM gone;
WITH gone AS (DELETE FROM att_mov.bill WHERE id = 8 RETURNING id) INSERT INTO att_mov.bill (id) SELECT id FROM gone;
SELECT * FROM att_mov.history();

-- MERGE, and an upsert, whose row moves
MERGE INTO att_mov.bill b USING (VALUES (8, 'paid'), (9, 'paid'), (10, 'open')) AS v (id, status) ON b.id = v.id
  WHEN MATCHED THEN UPDATE SET status = v.status WHEN NOT MATCHED THEN INSERT (id, status) VALUES (v.id, v.status);
SELECT * FROM att_mov.history();

-- a savepoint takes it back
SAVEPOINT s;
UPDATE att_mov.bill SET status = 'done' WHERE id = 8;
ROLLBACK TO s;
UPDATE att_mov.bill SET status = 'done' WHERE id = 9;
UPDATE att_mov.bill SET status = 'open' WHERE id = 8;
SELECT * FROM att_mov.history();

-- a trigger that skips the row on its way leaves no trace: the next row begins as it should
CREATE FUNCTION att_mov.skip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER skip BEFORE INSERT ON att_mov.rest FOR EACH ROW WHEN (NEW.note = 'skip') EXECUTE FUNCTION att_mov.skip();
UPDATE att_mov.bill SET status = 'done', note = 'skip' WHERE id = 8;
INSERT INTO att_mov.bill (id, status) VALUES (11, 'done');
INSERT INTO att_mov.bill (id) VALUES (11);
SELECT * FROM att_mov.history();

-- so it is within one statement, whatever comes instead of the row
CREATE TRIGGER skip BEFORE INSERT ON att_mov.paid FOR EACH ROW WHEN (NEW.note = 'skip') EXECUTE FUNCTION att_mov.skip();
INSERT INTO att_mov.bill (id, note) VALUES (12, 'skip');
MERGE INTO att_mov.bill b USING (VALUES (12), (50)) AS v (id) ON b.id = v.id
  WHEN MATCHED THEN UPDATE SET status = 'paid' WHEN NOT MATCHED THEN INSERT (id, status) VALUES (v.id, 'paid');
MERGE INTO att_mov.bill b USING (VALUES (12), (51)) AS v (id) ON b.id = v.id
  WHEN MATCHED THEN UPDATE SET status = 'paid' WHEN NOT MATCHED THEN INSERT (id) VALUES (v.id);
SELECT id, status, due > now() AS due FROM att_mov.bill WHERE id IN (12, 50, 51);
SELECT * FROM att_mov.history();

-- a foreign key that refuses the row while it moves
CREATE TABLE att_mov.customer (id int PRIMARY KEY);
INSERT INTO att_mov.customer VALUES (1);
ALTER TABLE att_mov.bill ADD customer int REFERENCES att_mov.customer;
UPDATE att_mov.bill SET status = 'paid', customer = 2 WHERE id = 51;
INSERT INTO att_mov.bill (id, status) VALUES (52, 'paid');
INSERT INTO att_mov.bill (id) VALUES (53);
DO $$ BEGIN UPDATE att_mov.bill SET status = 'paid', customer = 2 WHERE id = 51; EXCEPTION WHEN foreign_key_violation THEN END $$;
INSERT INTO att_mov.bill (id, status) VALUES (54, 'paid');
UPDATE att_mov.bill SET status = 'paid', customer = 1 WHERE id = 51;
SELECT * FROM att_mov.history();

-- a trigger that moves another row while one is on its way
CREATE FUNCTION att_mov.follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.id = 10 THEN UPDATE att_mov.bill SET status = 'paid' WHERE id = 11; END IF; RETURN NEW; END $$;
CREATE TRIGGER follow BEFORE INSERT ON att_mov.paid FOR EACH ROW EXECUTE FUNCTION att_mov.follow();
UPDATE att_mov.bill SET status = 'paid' WHERE id = 10;
SELECT * FROM att_mov.history();

-- the same key twice, which only the state keeps apart, is nobody's
INSERT INTO att_mov.bill (id) VALUES (10);
SELECT ordflow.fire('att_mov.bill', '10', 'pay');
ROLLBACK;

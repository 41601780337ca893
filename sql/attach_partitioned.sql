-- A machine on a partitioned table holds for all partitions, those of later included.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_ptd;
SET LOCAL client_min_messages = warning;
SELECT ordflow.define_machine('att_ptd', '{"states": {"0": "initial", "10": "normal", "20": "final", "40": "final"}, "transitions": [
  {"from": "0", "event": "pay", "to": "10"}, {"from": "10", "event": "send", "to": "20"},
  {"from": "0", "event": "expire", "to": "40", "after": "1 hour"}]}');
CREATE TABLE att_ptd.bill (no bigint, day date, status int NOT NULL DEFAULT 0, due timestamptz, PRIMARY KEY (day, no))
  PARTITION BY RANGE (day);
CREATE INDEX ON att_ptd.bill (due);
CREATE TABLE att_ptd.old (extra text, day date NOT NULL, due timestamptz, status int NOT NULL, no bigint NOT NULL);
ALTER TABLE att_ptd.old DROP extra;
ALTER TABLE att_ptd.bill ATTACH PARTITION att_ptd.old FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE att_ptd.new PARTITION OF att_ptd.bill FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (no);
CREATE TABLE att_ptd.new1 PARTITION OF att_ptd.new FOR VALUES IN (1, 2, 3);
INSERT INTO att_ptd.bill VALUES (9, '2026-01-01', 77);

-- rows of partitions count
SELECT ordflow.attach('att_ptd.bill', 'att_ptd', 'status', due_column => 'due');
SELECT * FROM ordflow.attach_report('att_ptd.bill', 'att_ptd', 'status');
DELETE FROM att_ptd.bill;
SELECT ordflow.attach('att_ptd.bill', 'att_ptd', 'status', due_column => 'due');
CREATE TABLE att_ptd.later PARTITION OF att_ptd.bill FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
CREATE TABLE att_ptd.joined (no bigint NOT NULL, day date NOT NULL, status int NOT NULL, due timestamptz);
ALTER TABLE att_ptd.bill ATTACH PARTITION att_ptd.joined FOR VALUES FROM ('2026-04-01') TO ('2026-05-01');

-- through the table and past it
INSERT INTO att_ptd.bill SELECT 1, d FROM unnest('{2026-01-05, 2026-02-05, 2026-03-05, 2026-04-05}'::date[]) d;
INSERT INTO att_ptd.old (no, day, status) VALUES (2, '2026-01-05', 0);
INSERT INTO att_ptd.later (no, day, status) VALUES (2, '2026-03-05', 10);
INSERT INTO att_ptd.joined (no, day, status) VALUES (3, '2026-04-05', 0);
UPDATE att_ptd.bill SET status = 10 WHERE no = 1;
UPDATE att_ptd.old SET status = 20 WHERE no = 1;
UPDATE att_ptd.joined SET status = 20 WHERE no = 3;
SELECT ordflow.fire('att_ptd.bill', '["2026-02-05", 1]', 'send');
SELECT tableoid::regclass, no, status, due > now() AS due FROM att_ptd.bill ORDER BY 1, 2;
SELECT target, key, event, from_state, to_state FROM ordflow.object_history WHERE target ~ '^att_ptd' ORDER BY history_id;

-- deadlines
UPDATE att_ptd.bill SET due = clock_timestamp() WHERE due IS NOT NULL AND no < 3;
SELECT ordflow.run_due();
SELECT tableoid::regclass, no, status FROM att_ptd.bill WHERE status IN (0, 40) ORDER BY 1, 2;

-- to another partition, without an event and with one, and out of all of them
UPDATE att_ptd.bill SET day = '2026-03-15' WHERE no = 3;
UPDATE att_ptd.bill SET day = '2026-01-15', status = 10 WHERE no = 3;
UPDATE att_ptd.bill SET day = '2026-02-15', status = 0 WHERE no = 3;
UPDATE att_ptd.bill SET day = '2027-02-15', status = 20 WHERE no = 3;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_ptd.bill' AND key ~ '3"]' ORDER BY history_id;
SELECT tableoid::regclass, to_char(day, 'YYYY-MM-DD'), status, due FROM att_ptd.bill WHERE no = 3;

-- partitions are attached and detached by their table
\set VERBOSITY default
SELECT ordflow.attach('att_ptd.new1', 'att_ptd', 'status');
SELECT ordflow.fire('att_ptd.new1', '["2026-02-05", 1]', 'send');
SELECT ordflow.detach('att_ptd.new1');
\set VERBOSITY sqlstate
ALTER TABLE att_ptd.bill DETACH PARTITION att_ptd.joined;
UPDATE att_ptd.joined SET status = 99 WHERE no = 1;
SELECT ordflow.detach('att_ptd.bill');
UPDATE att_ptd.bill SET status = 99 WHERE no = 1;
SELECT count(*) FROM pg_trigger WHERE tgrelid::regclass::text ~ '^att_ptd' AND NOT tgisinternal;
ROLLBACK;

-- An attached table that is made a partition afterwards: a moving UPDATE would pass its triggers by, so nothing is written and doctor() tells.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_par;
CREATE TABLE att_par.new (id int PRIMARY KEY, status text NOT NULL, note text);
CREATE TABLE att_par.timed (id int PRIMARY KEY, status text NOT NULL, note text, due timestamptz);
CREATE INDEX ON att_par.timed (due);
SELECT ordflow.define_machine('att_par', '{"states": {"a": "initial", "b": "normal", "c": "final"}, "transitions": [
  {"from": "a", "event": "go", "to": "b"}, {"from": "b", "event": "end", "to": "c"}]}');
SELECT ordflow.attach('att_par.new', 'att_par', 'status');
SELECT ordflow.attach('att_par.timed', 'att_par', 'status', due_column => 'due');
INSERT INTO att_par.new VALUES (1, 'a');
INSERT INTO att_par.timed VALUES (1, 'a');
CREATE TABLE att_par.all (id int NOT NULL, status text NOT NULL, note text) PARTITION BY LIST (status);
CREATE TABLE att_par.rest PARTITION OF att_par.all DEFAULT;
ALTER TABLE att_par.all ATTACH PARTITION att_par.new FOR VALUES IN ('a', 'b');
CREATE TABLE att_par.parts (id int NOT NULL, status text NOT NULL, note text, due timestamptz) PARTITION BY RANGE (id);
CREATE TABLE att_par.part PARTITION OF att_par.parts DEFAULT;
ALTER TABLE att_par.parts ATTACH PARTITION att_par.timed FOR VALUES FROM (1) TO (9);

INSERT INTO att_par.all VALUES (2, 'a');
INSERT INTO att_par.new VALUES (2, 'a');
UPDATE att_par.all SET status = 'b';
SELECT ordflow.fire('att_par.new', '1', 'go');
UPDATE att_par.parts SET note = 'x';
UPDATE att_par.parts SET id = 10, status = 'c';
SELECT ordflow.run_due() IS NOT NULL;
SELECT severity, part, object, problem, fix FROM ordflow.doctor() WHERE object ~ '^att_par' ORDER BY object;
SELECT tableoid::regclass, id, status FROM att_par.all;

-- set free, it goes on
SELECT split_part(fix, '   --', 1) FROM ordflow.doctor() WHERE object ~ '^att_par' ORDER BY object \gexec
SELECT ordflow.fire('att_par.new', '1', 'go');
UPDATE att_par.timed SET status = 'c';
UPDATE att_par.timed SET status = 'b';
SELECT * FROM ordflow.doctor() WHERE object ~ '^att_par';
ROLLBACK;

-- What attach does not take, each with its SQLSTATE.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_uns;
SELECT ordflow.define_machine('att_uns', '{"states": {"a": "initial"}, "transitions": []}');
SELECT ordflow.define_machine('att_uns_due', '{"states": {"a": "initial"}, "transitions": [{"from": "a", "event": "e", "to": "a", "after": "1 h"}]}');
CREATE TYPE att_uns.mood AS ENUM ('a');
CREATE DOMAIN att_uns.state AS text;
CREATE TABLE att_uns.t (id int PRIMARY KEY, txt text, vc varchar, num int, small smallint, fixed char(3), mood att_uns.mood,
  dom att_uns.state, list text[], doc jsonb, gen text GENERATED ALWAYS AS ('a') STORED, due timestamptz, plain timestamp, part numeric,
  twice int, maybe int, gone text, due_gen timestamptz GENERATED ALWAYS AS ('2030-01-01 00:00+00') STORED);
CREATE UNIQUE INDEX ON att_uns.t (maybe) WHERE maybe > 0;
CREATE INDEX ON att_uns.t (twice);
CREATE UNIQUE INDEX ON att_uns.t (abs(num));
CREATE UNIQUE INDEX ON att_uns.t (small, num);
ALTER TABLE att_uns.t DROP gone;

-- state columns hold the machine's states, and their values have one text each
SELECT ordflow.attach('att_uns.t', 'att_uns', 'num');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'small');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'part');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'plain');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'list');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'doc');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'gen');

-- columns that are not there
SELECT ordflow.attach('att_uns.t', 'att_uns', 'nothing');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'gone');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'ctid');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'txt', 'nothing');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'txt', due_column => 'nothing');

-- keys: unique, by one column, whole, and not of an expression
SELECT ordflow.attach('att_uns.t', 'att_uns', 'txt', 'twice');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'txt', 'maybe');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'txt', 'num');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'txt', 'small');

-- due columns: timestamptz, not generated, there where the machine has timeouts
SELECT ordflow.attach('att_uns.t', 'att_uns', 'txt', due_column => 'plain');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'txt', due_column => 'txt');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'txt', due_column => 'due_gen');
SELECT ordflow.attach('att_uns.t', 'att_uns_due', 'txt');

-- tables
CREATE TABLE att_uns.nokey (status text);
CREATE TABLE att_uns.two (a int, b int, status text, PRIMARY KEY (a, status));
CREATE TABLE att_uns.parts (id int PRIMARY KEY, status text, due timestamptz) PARTITION BY RANGE (id);
CREATE TABLE att_uns.part PARTITION OF att_uns.parts FOR VALUES FROM (1) TO (9);
CREATE TABLE att_uns.days (id int, status text, due timestamptz) PARTITION BY RANGE (due);
CREATE TABLE att_uns.only (status text PRIMARY KEY) PARTITION BY LIST (status);
CREATE FOREIGN DATA WRAPPER att_uns;
CREATE SERVER att_uns FOREIGN DATA WRAPPER att_uns;
CREATE TABLE att_uns.far (id int, status text) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE att_uns.away PARTITION OF att_uns.far FOR VALUES FROM (1) TO (9) SERVER att_uns;
CREATE VIEW att_uns.view AS SELECT * FROM att_uns.two;
SELECT ordflow.attach('att_uns.nokey', 'att_uns', 'status');
SELECT ordflow.attach('att_uns.two', 'att_uns', 'status');
SELECT ordflow.attach('att_uns.part', 'att_uns', 'status');
SELECT ordflow.attach('att_uns.days', 'att_uns', 'status', due_column => 'due');
SELECT ordflow.attach('att_uns.only', 'att_uns', 'status');
SELECT ordflow.attach('att_uns.far', 'att_uns', 'status');
SELECT ordflow.attach('att_uns.away', 'att_uns', 'status');
SELECT ordflow.attach('att_uns.view', 'att_uns', 'status');
SELECT ordflow.attach('att_uns.t_pkey', 'att_uns', 'id');
SELECT ordflow.attach('pg_class', 'att_uns', 'relname');
SELECT ordflow.attach(1::regclass, 'att_uns', 'status');

-- machines
SELECT ordflow.attach('att_uns.t', 'order', 'txt');
SELECT ordflow.attach('att_uns.t', 'nothing', 'txt');
SELECT ordflow.attach(NULL, 'att_uns', 'txt');
SELECT ordflow.attach('att_uns.t', NULL, 'txt');
SELECT ordflow.attach('att_uns.t', 'att_uns', NULL);
SELECT ordflow.attach('att_uns.t', 'att_uns', 'vc');
SELECT ordflow.attach('att_uns.t', 'att_uns', 'vc');
SELECT count(*) FROM pg_trigger WHERE tgrelid::regclass::text ~ '^att_uns' AND NOT tgisinternal;
ROLLBACK;

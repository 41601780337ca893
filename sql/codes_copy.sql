-- COPY FROM into a table with smallint status codes is checked and recorded like INSERT.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA cod_cpy;
CREATE TABLE cod_cpy.bill (id int PRIMARY KEY, status smallint, due timestamptz);
CREATE INDEX ON cod_cpy.bill (due);
SELECT ordflow.define_machine('cod_cpy', '{"states": {"0": "initial", "10": "initial", "40": "final"},
  "transitions": [{"from": "0", "event": "pay", "to": "10"}, {"from": "0", "event": "expire", "to": "40", "after": "1 day"}]}');
SELECT ordflow.attach('cod_cpy.bill', 'cod_cpy', 'status', due_column => 'due');

-- imported orders may be paid already; a code is a number, however it is written
COPY cod_cpy.bill (id, status) FROM stdin;
1	0
2	10
3	+010
\.
COPY cod_cpy.bill (id, status) FROM stdin;
4	0
5	40
\.
COPY cod_cpy.bill (id, status) FROM stdin;
4	\N
\.
SELECT id, status, due > now() + interval '23 hours' AS tomorrow FROM cod_cpy.bill ORDER BY id;
COPY cod_cpy.bill (id, status) FROM stdin (FORMAT csv, HEADER);
id,status
6,0
\.
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'cod_cpy.bill' ORDER BY history_id;
ROLLBACK;

-- COPY FROM is checked and recorded like INSERT.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_cpy;
CREATE TABLE att_cpy.row (id int PRIMARY KEY, status varchar(10), due timestamptz);
CREATE INDEX ON att_cpy.row (due);
SELECT ordflow.define_machine('att_cpy', '{"states": {"new": "initial", "old": "normal", "gone": "final"},
  "transitions": [{"from": "new", "event": "age", "to": "old", "after": "1 day"}, {"from": "old", "event": "go", "to": "gone"}]}');
SELECT ordflow.attach('att_cpy.row', 'att_cpy', 'status', due_column => 'due');
COPY att_cpy.row (id, status) FROM stdin;
1	new
2	new
\.
COPY att_cpy.row (id, status) FROM stdin;
3	new
4	old
\.
COPY att_cpy.row (id, status) FROM stdin;
3	\N
\.
SELECT id, status, due > now() + interval '23 hours' AS tomorrow FROM att_cpy.row ORDER BY id;
SELECT key, event, from_state, to_state FROM ordflow.object_history WHERE target = 'att_cpy."row"' ORDER BY history_id;

-- a restore in another state: as the owner under session_replication_role
SET LOCAL session_replication_role = replica;
COPY att_cpy.row FROM stdin (DELIMITER ',');
5,gone,2001-01-01 00:00:00+00
\.
RESET session_replication_role;
SELECT id, status FROM att_cpy.row WHERE id = 5;
UPDATE att_cpy.row SET status = 'new' WHERE id = 5;
ROLLBACK;

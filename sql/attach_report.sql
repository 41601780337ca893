-- Rows in states that the machine does not have: attach refuses, attach_report lists them.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_rep;
CREATE TABLE att_rep.doc (id int PRIMARY KEY, status text);
CREATE TABLE att_rep.pair (a int, b text, status varchar, PRIMARY KEY (a, b));
CREATE TABLE att_rep.bare (status text);
SELECT ordflow.define_machine('att_rep', '{"states": {"new": "initial", "old": "normal"}, "transitions": [{"from": "new", "event": "age", "to": "old"}]}');
INSERT INTO att_rep.doc VALUES (1, 'new'), (2, 'old'), (3, 'NEW'), (4, NULL), (5, '');
SELECT ordflow.attach('att_rep.doc', 'att_rep', 'status');
SELECT key, state, state IS NULL AS none FROM ordflow.attach_report('att_rep.doc', 'att_rep', 'status') ORDER BY key;
DELETE FROM att_rep.doc WHERE id IN (3, 5);
SELECT ordflow.attach('att_rep.doc', 'att_rep', 'status');
UPDATE att_rep.doc SET status = 'new' WHERE id = 4;
SELECT count(*) FROM ordflow.attach_report('att_rep.doc', 'att_rep', 'status');

-- rows in any state of the machine stay as they are: no history, not begun anew
SELECT ordflow.attach('att_rep.doc', 'att_rep', 'status');
SELECT count(*) FROM ordflow.object_history WHERE target = 'att_rep.doc';
UPDATE att_rep.doc SET status = 'old' WHERE id = 4;

-- keys of several columns, no key at all
INSERT INTO att_rep.pair VALUES (1, 'x "y"', 'odd'), (2, 'z', 'new');
INSERT INTO att_rep.bare VALUES ('odd'), ('new');
SELECT * FROM ordflow.attach_report('att_rep.pair', 'att_rep', 'status');
SELECT key IS NULL, state FROM ordflow.attach_report('att_rep.bare', 'att_rep', 'status');

-- it reads as the caller, under his policies
CREATE ROLE regress_att_rep;
GRANT USAGE ON SCHEMA att_rep TO regress_att_rep;
SELECT ordflow.grant_access('regress_att_rep', 'admin');
SET ROLE regress_att_rep;
SELECT * FROM ordflow.attach_report('att_rep.bare', 'att_rep', 'status');
RESET ROLE;
GRANT SELECT ON att_rep.bare TO regress_att_rep;
SET ROLE regress_att_rep;
SELECT count(*) FROM ordflow.attach_report('att_rep.bare', 'att_rep', 'status');
RESET ROLE;

SELECT * FROM ordflow.attach_report('att_rep.doc', 'nothing', 'status');
SELECT * FROM ordflow.attach_report('att_rep.doc', 'att_rep', 'nothing');
SELECT * FROM ordflow.attach_report(NULL, 'att_rep', 'status');
SELECT * FROM ordflow.attach_report('att_rep.doc', NULL, 'status');
SELECT * FROM ordflow.attach_report('att_rep.doc', 'att_rep', NULL);
ROLLBACK;

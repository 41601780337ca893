-- detach: rows and history stay, nothing is checked any more; our own table keeps its machine.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_det;
CREATE TABLE att_det.doc (id int PRIMARY KEY, status text, due timestamptz);
CREATE INDEX ON att_det.doc (due);
CREATE FUNCTION att_det.mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER mine BEFORE UPDATE ON att_det.doc FOR EACH ROW EXECUTE FUNCTION att_det.mine();
SELECT ordflow.define_machine('att_det', '{"states": {"new": "initial", "old": "normal"}, "transitions": [{"from": "new", "event": "age", "to": "old", "after": "1 h"}]}');
SELECT ordflow.attach('att_det.doc', 'att_det', 'status', due_column => 'due');
INSERT INTO att_det.doc VALUES (1, 'new');
SELECT ordflow.fire('att_det.doc', '1', 'age');
SELECT ordflow.detach('att_det.doc', 'due');
SELECT ordflow.detach('att_det.doc');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'att_det.doc'::regclass;
UPDATE att_det.doc SET status = 'whatever';
SELECT ordflow.fire('att_det.doc', '1', 'age');
SELECT event, to_state FROM ordflow.object_history WHERE target = 'att_det.doc' ORDER BY history_id;
SELECT ordflow.detach('att_det.doc');
SELECT ordflow.detach(NULL);
SELECT ordflow.detach('att_det.nothing');

-- dropping the table, or the triggers by hand, is the owner's right
UPDATE att_det.doc SET status = 'new';
SELECT ordflow.attach('att_det.doc', 'att_det', 'status', due_column => 'due');
DROP TRIGGER "~ordflow_due_status" ON att_det.doc;
UPDATE att_det.doc SET status = 'old';
SELECT due FROM att_det.doc;
DROP TABLE att_det.doc;

-- a machine of ours is not taken off, and goes on no other table
SELECT ordflow.detach('ordflow.orders');
SELECT ordflow.detach('ordflow.orders', 'state');
SELECT ordflow.detach('ordflow.orders', 'customer');
ROLLBACK;

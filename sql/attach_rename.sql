-- Renaming the table and its schema changes nothing; renaming a column that the machine needs asks for detach and attach.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_ren;
CREATE TABLE att_ren.doc (id int PRIMARY KEY, status text, due timestamptz, note text);
CREATE INDEX ON att_ren.doc (due);
SELECT ordflow.define_machine('att_ren', '{"states": {"a": "initial", "b": "normal", "c": "final"},
  "transitions": [{"from": "a", "event": "go", "to": "b", "after": "1 h"}, {"from": "b", "event": "end", "to": "c", "after": "1 h"}]}');
SELECT ordflow.attach('att_ren.doc', 'att_ren', 'status', due_column => 'due');
INSERT INTO att_ren.doc (id, status) VALUES (1, 'a'), (2, 'a');
ALTER TABLE att_ren.doc RENAME TO "Paper";
ALTER SCHEMA att_ren RENAME TO "Att Ren";
UPDATE "Att Ren"."Paper" SET status = 'b' WHERE id = 1;
SELECT ordflow.fire('"Att Ren"."Paper"', '1', 'end');
UPDATE "Att Ren"."Paper" SET status = 'c' WHERE id = 2;
SELECT target, key, event FROM ordflow.object_history WHERE target ~* 'att.ren' ORDER BY history_id;

-- the state column: nothing is written unchecked, fire and reading say what to do
SAVEPOINT whole;
ALTER TABLE "Att Ren"."Paper" RENAME status TO state;
UPDATE "Att Ren"."Paper" SET state = 'b' WHERE id = 2;
UPDATE "Att Ren"."Paper" SET note = 'x' WHERE id = 2;
INSERT INTO "Att Ren"."Paper" (id, state) VALUES (3, 'a');
SELECT ordflow.fire('"Att Ren"."Paper"', '2', 'go');
SELECT * FROM ordflow.available_events('"Att Ren"."Paper"', '2');
SELECT ordflow.detach('"Att Ren"."Paper"', 'state');
SELECT ordflow.detach('"Att Ren"."Paper"', 'status');
SELECT ordflow.attach('"Att Ren"."Paper"', 'att_ren', 'state', due_column => 'due');
UPDATE "Att Ren"."Paper" SET state = 'b' WHERE id = 2;
UPDATE "Att Ren"."Paper" SET state = 'a' WHERE id = 2;
ROLLBACK TO whole;

-- the key and the due column
ALTER TABLE "Att Ren"."Paper" RENAME id TO no;
UPDATE "Att Ren"."Paper" SET status = 'b' WHERE no = 2;
SELECT ordflow.fire('"Att Ren"."Paper"', '2', 'go');
ROLLBACK TO whole;
ALTER TABLE "Att Ren"."Paper" DROP due;
UPDATE "Att Ren"."Paper" SET status = 'b' WHERE id = 2;
SELECT ordflow.detach('"Att Ren"."Paper"');
UPDATE "Att Ren"."Paper" SET status = 'z' WHERE id = 2;
ROLLBACK TO whole;

-- a column that is dropped or changes its type takes no rows with it
ALTER TABLE "Att Ren"."Paper" ALTER id TYPE text;
UPDATE "Att Ren"."Paper" SET status = 'b' WHERE id = '2';
SELECT ordflow.fire('"Att Ren"."Paper"', '2', 'end');
SELECT key, event FROM ordflow.object_history WHERE target ~* 'att.ren' ORDER BY history_id DESC LIMIT 2;
ROLLBACK;

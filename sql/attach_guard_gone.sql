-- A guard or effect whose function is gone or has become another kind of function refuses the step, never lets it pass.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA att_gone;
CREATE TABLE att_gone.doc (id int PRIMARY KEY, status text);
CREATE FUNCTION att_gone.guard(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION att_gone.effect(jsonb, jsonb) RETURNS void LANGUAGE sql AS '';
SELECT ordflow.define_machine('att_gone', '{"states": {"a": "initial", "b": "normal"}, "transitions": [
  {"from": "a", "event": "go", "to": "b", "guard": "att_gone.guard(jsonb,jsonb)"},
  {"from": "b", "event": "back", "to": "a", "effect": "att_gone.effect(jsonb,jsonb)"}]}');
SELECT ordflow.attach('att_gone.doc', 'att_gone', 'status');
INSERT INTO att_gone.doc VALUES (1, 'a');
UPDATE att_gone.doc SET status = 'b';
UPDATE att_gone.doc SET status = 'a';

DROP FUNCTION att_gone.guard;
UPDATE att_gone.doc SET status = 'b';
SELECT ordflow.fire('att_gone.doc', '1', 'go');

-- a function of the same name and arguments that answers something else is not that guard
CREATE FUNCTION att_gone.guard(jsonb, jsonb) RETURNS text LANGUAGE sql AS $$ SELECT 'f' $$;
UPDATE att_gone.doc SET status = 'b';
DROP FUNCTION att_gone.guard;
CREATE FUNCTION att_gone.guard(jsonb, jsonb) RETURNS SETOF boolean LANGUAGE sql AS 'SELECT true';
UPDATE att_gone.doc SET status = 'b';
DROP FUNCTION att_gone.guard;
CREATE PROCEDURE att_gone.guard(jsonb, jsonb) LANGUAGE sql AS '';
UPDATE att_gone.doc SET status = 'b';
SELECT severity, state FROM ordflow.check_machine('att_gone');
DROP PROCEDURE att_gone.guard;
SELECT status FROM att_gone.doc;

-- back again
CREATE FUNCTION att_gone.guard(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
UPDATE att_gone.doc SET status = 'b';
ALTER FUNCTION att_gone.effect RENAME TO effekt;
UPDATE att_gone.doc SET status = 'a';
ALTER FUNCTION att_gone.effekt RENAME TO effect;
UPDATE att_gone.doc SET status = 'a';

-- the right to execute it is asked for at each step, of the role that registered it
CREATE ROLE regress_att_gone;
GRANT USAGE ON SCHEMA att_gone TO regress_att_gone;
UPDATE ordflow.transitions SET role = 'regress_att_gone' WHERE machine = 'att_gone' AND guard IS NOT NULL;
UPDATE att_gone.doc SET status = 'b';
UPDATE att_gone.doc SET status = 'a';
REVOKE EXECUTE ON FUNCTION att_gone.guard FROM PUBLIC;
UPDATE att_gone.doc SET status = 'b';
GRANT EXECUTE ON FUNCTION att_gone.guard TO PUBLIC;
ALTER ROLE regress_att_gone RENAME TO regress_att_gone_2;
UPDATE att_gone.doc SET status = 'b';
SELECT status FROM att_gone.doc;
ROLLBACK;

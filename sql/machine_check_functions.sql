-- check_machine: guards and effects whose function or role is gone or may not be executed.
\a \t
BEGIN;
CREATE SCHEMA mcf;
CREATE ROLE regress_mcf;
GRANT USAGE ON SCHEMA mcf, ordflow TO regress_mcf;
SELECT ordflow.grant_access('regress_mcf', 'admin');
CREATE FUNCTION mcf.guard(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION mcf.effect(jsonb, jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION mcf.after(jsonb, jsonb) RETURNS void LANGUAGE sql AS '';
SET ROLE regress_mcf;
SELECT ordflow.define_machine('mcf', '{"states": {"a": "initial", "b": "final"},
  "transitions": [{"from": "a", "event": "go", "to": "b", "guard": "mcf.guard(jsonb,jsonb)", "effect": "mcf.effect(jsonb,jsonb)"}]}');
SELECT ordflow.add_effect('mcf', 'go', 'mcf.after(jsonb,jsonb)');
RESET ROLE;
SELECT count(*) FROM ordflow.check_machine('mcf');

SAVEPOINT whole;
DROP FUNCTION mcf.guard;
SELECT severity, state, problem FROM ordflow.check_machine('mcf');
ROLLBACK TO whole;
SELECT count(*) FROM ordflow.check_machine('mcf');
ALTER FUNCTION mcf.effect RENAME TO effekt;
DROP FUNCTION mcf.after;
SELECT severity, state, problem FROM ordflow.check_machine('mcf');
ROLLBACK TO whole;

REVOKE EXECUTE ON FUNCTION mcf.guard FROM PUBLIC;
SELECT severity, state, problem FROM ordflow.check_machine('mcf');
ROLLBACK TO whole;

-- the same name with another result is another function
DROP FUNCTION mcf.guard;
CREATE FUNCTION mcf.guard(jsonb, jsonb) RETURNS void LANGUAGE sql AS '';
SELECT severity, state, problem ~ 'mcf.guard' FROM ordflow.check_machine('mcf');
ROLLBACK TO whole;

ALTER ROLE regress_mcf RENAME TO regress_mcf_left;
SELECT severity, state, problem FROM ordflow.check_machine('mcf') ORDER BY problem;
ROLLBACK;

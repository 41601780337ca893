-- add_effect and drop_effect: what they take, each refusal with its SQLSTATE.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA eff_add;
CREATE FUNCTION eff_add.e(jsonb, jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION eff_add."Q x"(jsonb, jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION eff_add.bool(jsonb, jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION eff_add.three(jsonb, jsonb, jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION eff_add.trig() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
SELECT ordflow.add_effect('order', 'pay', 'eff_add.e(jsonb,jsonb)');
SELECT ordflow.add_effect('order', 'pay', 'eff_add."Q x"(jsonb,jsonb)');
SELECT ordflow.add_effect('order', 'ship', 'eff_add.e(jsonb,jsonb)');
SELECT event, ordinal, effect, role = current_user AS mine FROM ordflow.effects WHERE machine = 'order' ORDER BY event, ordinal;

-- twice, on nothing, of the wrong kind
SELECT ordflow.add_effect('order', 'pay', 'eff_add.e(jsonb,jsonb)');
SELECT ordflow.add_effect('order', 'payy', 'eff_add.e(jsonb,jsonb)');
SELECT ordflow.add_effect('orders', 'pay', 'eff_add.e(jsonb,jsonb)');
SELECT ordflow.add_effect('order', 'pay', 'eff_add.f(jsonb,jsonb)');
SELECT ordflow.add_effect('order', 'pay', 1::regprocedure);
SELECT ordflow.add_effect('order', 'pay', 'eff_add.bool(jsonb,jsonb)');
SELECT ordflow.add_effect('order', 'pay', 'eff_add.three(jsonb,jsonb,jsonb)');
SELECT ordflow.add_effect('order', 'pay', 'eff_add.trig()');
SELECT ordflow.add_effect(NULL, 'pay', 'eff_add.e(jsonb,jsonb)');
SELECT ordflow.add_effect('order', NULL, 'eff_add.e(jsonb,jsonb)');
SELECT ordflow.add_effect('order', 'pay', NULL);
SELECT ordflow.add_effect('', 'pay', 'eff_add.e(jsonb,jsonb)');

SELECT ordflow.drop_effect('order', 'pay', 'eff_add.e(jsonb,jsonb)');
SELECT ordflow.drop_effect('order', 'pay', 'eff_add.e(jsonb,jsonb)');
SELECT ordflow.drop_effect('order', 'cancel', 'eff_add.e(jsonb,jsonb)');
SELECT ordflow.drop_effect('nothing', 'pay', 'eff_add.e(jsonb,jsonb)');
SELECT ordflow.drop_effect(NULL, 'pay', 'eff_add.e(jsonb,jsonb)');
SELECT ordflow.drop_effect('order', NULL, 'eff_add.e(jsonb,jsonb)');
SELECT ordflow.drop_effect('order', 'pay', NULL);
SELECT ordflow.add_effect('order', 'pay', 'eff_add.e(jsonb,jsonb)');
SELECT event, ordinal, effect FROM ordflow.effects WHERE machine = 'order' ORDER BY event, ordinal;

-- who may not execute the function may not hang it on
CREATE ROLE regress_eff_add;
GRANT USAGE ON SCHEMA eff_add TO regress_eff_add;
SELECT ordflow.grant_access('regress_eff_add', 'admin');
REVOKE EXECUTE ON FUNCTION eff_add.e FROM PUBLIC;
SET ROLE regress_eff_add;
SELECT ordflow.add_effect('order', 'confirm', 'eff_add.e(jsonb,jsonb)');
SELECT ordflow.add_effect('order', 'confirm', 'eff_add."Q x"(jsonb,jsonb)');
RESET ROLE;
SELECT role FROM ordflow.effects WHERE event = 'confirm';
ROLLBACK;

-- Deferred constraints: an effect or guard that touches one is refused, with the hint SET CONSTRAINTS ... IMMEDIATE.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA eff_def;
CREATE TABLE eff_def.parent (id int PRIMARY KEY);
CREATE TABLE eff_def.child (id int REFERENCES eff_def.parent DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION eff_def.child(o jsonb, a jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO eff_def.child VALUES (1)';
SELECT ordflow.add_effect('order', 'cancel', 'eff_def.child(jsonb,jsonb)');
SELECT ordflow.receive_stock('eff_def', 5);
SELECT ordflow.submit_order('eff_def', '[{"sku": "eff_def", "quantity": 1, "unit_price": 1}]') AS o \gset
INSERT INTO eff_def.parent VALUES (1);
SELECT ordflow.cancel_order(:o);
CREATE FUNCTION pg_temp.hint(o bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
  RETURN ordflow.cancel_order(o);
EXCEPTION WHEN insufficient_privilege THEN
  GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
  RETURN hint;
END $$;
SELECT pg_temp.hint(:o) LIKE '%SET CONSTRAINTS ... IMMEDIATE%';
SELECT state FROM ordflow.orders WHERE order_id = :o;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT ordflow.cancel_order(:o);
SELECT state FROM ordflow.orders WHERE order_id = :o;
TABLE eff_def.child;

-- immediate it is checked inside the effect
SELECT ordflow.submit_order('eff_def', '[{"sku": "eff_def", "quantity": 1, "unit_price": 1}]') AS o \gset
DELETE FROM eff_def.child;
DELETE FROM eff_def.parent;
SELECT ordflow.cancel_order(:o);
ROLLBACK;

-- Temporary objects of the caller that bear our names change nothing: neither for our functions nor for guards and effects.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA eff_shd;
CREATE ROLE regress_eff_shd;
SELECT ordflow.grant_access('regress_eff_shd', 'orders'), ordflow.grant_access('regress_eff_shd', 'stock');
GRANT USAGE ON SCHEMA eff_shd TO regress_eff_shd;
CREATE TABLE eff_shd.log (line text);
CREATE FUNCTION eff_shd.log(o jsonb, a jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO eff_shd.log VALUES (format('%s %s %s', o->>'event', upper('effect'), current_setting('search_path')));
END $$;
SELECT ordflow.add_effect('order', e, 'eff_shd.log(jsonb,jsonb)') FROM unnest('{submit,cancel}'::text[]) e;

SET ROLE regress_eff_shd;
CREATE TEMP TABLE stock (stock_id bigint, sku text, location text, available bigint);
CREATE TEMP TABLE orders (order_id bigint, state text, customer text);
CREATE TEMP TABLE stock_movements (stock_id bigint, on_hand bigint, reserved bigint);
CREATE TEMP TABLE coupons (code text);
CREATE TEMP TABLE purchase_limits (sku text);
CREATE TEMP TABLE log (line text);
CREATE TEMP VIEW pg_proc AS SELECT 1 AS one;
CREATE FUNCTION pg_temp.upper(text) RETURNS text LANGUAGE sql AS $$ SELECT 'shadowed' $$;
CREATE FUNCTION pg_temp.equal(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
CREATE OPERATOR pg_temp.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.equal);
SET LOCAL search_path = pg_temp, pg_catalog;
SELECT ordflow.receive_stock('eff_shd', 3);
SELECT ordflow.reserve_stock('eff_shd', '[{"sku": "eff_shd", "quantity": 1}]');
SELECT ordflow.submit_order('eff_shd', '[{"sku": "eff_shd", "quantity": 2, "unit_price": 1}]', idempotency_key => 'k') AS o \gset
SELECT ordflow.submit_order('eff_shd', '[{"sku": "eff_shd", "quantity": 1, "unit_price": 1}]');
SELECT ordflow.cancel_order(:o), ordflow.available_stock('eff_shd');
SELECT ordflow.order_id(:'o') OPERATOR(pg_catalog.=) :o;
SELECT (SELECT count(*) FROM stock), (SELECT count(*) FROM orders), (SELECT count(*) FROM stock_movements), (SELECT count(*) FROM log);
RESET ROLE;
RESET search_path;
SELECT line FROM eff_shd.log;
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'eff_shd';
SELECT * FROM ordflow.audit();
ROLLBACK;

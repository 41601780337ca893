-- A purchase limit: units of a sku one customer may buy, over all locations, lines and orders.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('lim', 100), ordflow.receive_stock('lim', 100, 'shop'), ordflow.receive_stock('lim2', 100);
SELECT ordflow.set_purchase_limit('lim', 5);
SELECT per_customer, valid_until FROM ordflow.purchase_limits WHERE sku = 'lim';
CREATE FUNCTION pg_temp.buy(customer text, lines jsonb) RETURNS bigint LANGUAGE sql AS $$ SELECT ordflow.submit_order(customer, lines) $$;
CREATE FUNCTION pg_temp.counts() RETURNS TABLE (customer text, quantity bigint) LANGUAGE sql AS $$
SELECT c.customer, c.quantity FROM ordflow.purchase_counts c JOIN ordflow.purchase_limits USING (limit_id) WHERE sku = 'lim' ORDER BY 1 $$;
SELECT pg_temp.buy('ada', '[{"sku": "lim", "quantity": 6, "unit_price": 1}]');
SELECT pg_temp.buy('ada', '[{"sku": "lim", "quantity": 2, "unit_price": 1}, {"sku": "lim2", "quantity": 90, "unit_price": 1}]') IS NOT NULL;
SELECT pg_temp.buy('ada', '[{"sku": "lim", "quantity": 2, "unit_price": 1, "location": "shop"}, {"sku": "lim", "quantity": 2, "unit_price": 1}]');
SELECT pg_temp.buy('ada', '[{"sku": "lim", "quantity": 2, "unit_price": 1, "location": "shop"}, {"sku": "lim", "quantity": 1, "unit_price": 1}]') IS NOT NULL;
SELECT pg_temp.buy('ada', '[{"sku": "lim", "quantity": 1, "unit_price": 1}]');
SELECT pg_temp.buy('bob', '[{"sku": "lim", "quantity": 5, "unit_price": 1}]') IS NOT NULL;
SELECT * FROM pg_temp.counts();

-- a guest cannot be counted; what is not limited is nobody's business; no stock is a limit all the same
SELECT pg_temp.buy(NULL, '[{"sku": "lim", "quantity": 1, "unit_price": 1}]');
SELECT pg_temp.buy(NULL, '[{"sku": "lim2", "quantity": 1, "unit_price": 1}]') IS NOT NULL;
SELECT pg_temp.buy('ada', '[{"sku": "lim", "quantity": 1, "unit_price": 1, "stock": false}]');

-- the detail names the sku, its lines, what was bought and what is allowed
CREATE FUNCTION pg_temp.detail(customer text, lines jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
  PERFORM ordflow.submit_order(customer, lines);
EXCEPTION WHEN SQLSTATE 'OF006' THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
  RETURN detail;
END $$;
SELECT pg_temp.detail('ada', '[{"sku": "lim2", "quantity": 1, "unit_price": 1}, {"sku": "lim", "quantity": 1, "unit_price": 1}, {"sku": "lim", "quantity": 2, "unit_price": 1}]');
SELECT pg_temp.detail(NULL, '[{"sku": "lim", "quantity": 1, "unit_price": 1}]');

-- refused, an order has taken nothing
SELECT sku, location, reserved FROM ordflow.stock_levels WHERE sku ~ '^lim' ORDER BY 1, 2;
SELECT * FROM pg_temp.counts();
SELECT ordflow.quote_order('ada', '[{"sku": "lim", "quantity": 1, "unit_price": 1}]')->'problems'->0->>'problem';
SELECT ordflow.quote_order('cyd', '[{"sku": "lim", "quantity": 5, "unit_price": 1}]')->'problems';

-- in bulk each adds to the one before
SELECT result FROM ordflow.submit_orders('[{"customer": "cyd", "lines": [{"sku": "lim", "quantity": 3, "unit_price": 1}]},
  {"customer": "cyd", "lines": [{"sku": "lim", "quantity": 3, "unit_price": 1}]}, {"customer": "cyd", "lines": [{"sku": "lim", "quantity": 2, "unit_price": 1}]},
  {"customer": null, "lines": [{"sku": "lim", "quantity": 1, "unit_price": 1}]}, {"customer": "dan", "lines": [{"sku": "lim", "quantity": 5, "unit_price": 1}]}]');
SELECT * FROM pg_temp.counts();
SELECT * FROM ordflow.audit();
ROLLBACK;

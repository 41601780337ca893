-- skus: the discount is taken from these lines alone; min_total asks what they come to.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.create_coupon('cscp', 'fixed', 10, '{"skus": ["cscp b", "cscp d", "cscp z"]}') IS NOT NULL;
SELECT ordflow.create_coupon('cscp 50', 'percent', 50, '{"skus": ["cscp b"], "min_total": 20}') IS NOT NULL;
SELECT code, skus, currency, min_total FROM ordflow.coupons WHERE code ~ '^cscp' ORDER BY 1;
CREATE FUNCTION pg_temp.sell(coupon text, lines jsonb) RETURNS TABLE (line int, sku text, amount numeric, discount numeric) LANGUAGE plpgsql AS $$
DECLARE o bigint;
BEGIN
  o = ordflow.submit_order('cscp', (SELECT jsonb_agg(value || '{"stock": false}') FROM jsonb_array_elements(lines)), coupon);
  RETURN QUERY SELECT l.line_no, l.sku, l.amount, l.discount FROM ordflow.order_lines l WHERE order_id = o ORDER BY 1;
END $$;
SELECT * FROM pg_temp.sell('cscp', '[{"sku": "cscp a", "quantity": 1, "unit_price": 100}, {"sku": "cscp b", "quantity": 2, "unit_price": 10},
  {"sku": "cscp c", "quantity": 1, "unit_price": 7}, {"sku": "cscp d", "quantity": 1, "unit_price": 20}, {"sku": "cscp b", "quantity": 1, "unit_price": 0.5}]');

-- never more than the lines in scope come to
SELECT * FROM pg_temp.sell('cscp', '[{"sku": "cscp a", "quantity": 1, "unit_price": 100}, {"sku": "cscp d", "quantity": 1, "unit_price": 4}]');

-- none of them in the order; case and blanks count
SELECT * FROM pg_temp.sell('cscp', '[{"sku": "cscp a", "quantity": 1, "unit_price": 100}]');
SELECT * FROM pg_temp.sell('cscp', '[{"sku": "CSCP B", "quantity": 1, "unit_price": 100}, {"sku": "cscp b ", "quantity": 1, "unit_price": 9}]');

-- min_total counts the lines in scope: at it and below it
SELECT * FROM pg_temp.sell('cscp 50', '[{"sku": "cscp b", "quantity": 2, "unit_price": 10}, {"sku": "cscp a", "quantity": 1, "unit_price": 1}]');
SELECT * FROM pg_temp.sell('cscp 50', '[{"sku": "cscp b", "quantity": 1, "unit_price": 19.99}, {"sku": "cscp a", "quantity": 1, "unit_price": 100}]');

-- taken away by alter_coupon, all lines are in
SELECT ordflow.alter_coupon('cscp', '{"skus": null}');
SELECT * FROM pg_temp.sell('cscp', '[{"sku": "cscp a", "quantity": 1, "unit_price": 30}, {"sku": "cscp b", "quantity": 1, "unit_price": 10}]');
SELECT * FROM ordflow.audit();
ROLLBACK;

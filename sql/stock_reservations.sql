-- The view reservations: who holds which units, orders and holds alike; its sums are what is reserved.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('sres', 50), ordflow.receive_stock('sres', 50, 'shop');
CREATE FUNCTION pg_temp.submit(lines jsonb) RETURNS bigint LANGUAGE sql AS $$ SELECT ordflow.submit_order('sres', lines) $$;
SELECT pg_temp.submit('[{"sku": "sres", "quantity": 1, "unit_price": 1}, {"sku": "sres", "quantity": 2, "unit_price": 3}]') AS unpaid,
  pg_temp.submit('[{"sku": "sres", "quantity": 5, "unit_price": 1, "location": "shop"}]') AS paid,
  pg_temp.submit('[{"sku": "sres", "quantity": 7, "unit_price": 1}]') AS gone,
  pg_temp.submit('[{"sku": "sres", "quantity": 1, "unit_price": 1}]') AS cancelled \gset
SELECT ordflow.pay_order(:paid, 'sres', '1', 5), ordflow.ship_order(:paid, 'c', '1', '[{"line": 1, "quantity": 2}]');
SELECT ordflow.pay_order(:gone, 'sres', '2', 7), ordflow.ship_order(:gone, 'c', '2');
SELECT ordflow.cancel_order(:cancelled);
SELECT ordflow.reserve_stock('cart:sres', '[{"sku": "sres", "quantity": 3}, {"sku": "sres", "quantity": 1, "location": "shop"}]', '2100-01-01 00:00+00');
SELECT ordflow.reserve_stock('sres done', '[{"sku": "sres", "quantity": 3}]'), ordflow.release_stock('sres done');
SELECT sku, location, quantity, CASE order_id WHEN :unpaid THEN 'unpaid' WHEN :paid THEN 'paid' END AS whose,
  CASE WHEN order_id IS NULL THEN reference ELSE replace(reference, order_id::text, 'id') END AS reference,
  since <= clock_timestamp() AS since, expires_at = '2100-01-01 00:00+00' AS at_2100, expires_at IS NULL AS never
FROM ordflow.reservations WHERE sku = 'sres' ORDER BY order_id, location, quantity;
SELECT location, sum(quantity) FROM ordflow.reservations WHERE sku = 'sres' GROUP BY 1
EXCEPT SELECT location, reserved FROM ordflow.stock_levels WHERE sku = 'sres';
ROLLBACK;

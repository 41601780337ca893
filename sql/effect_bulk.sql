-- submit_orders: an effect on submit that fails refuses its own order alone, with its SQLSTATE and message.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA eff_blk;
CREATE TABLE eff_blk.log (customer text);
CREATE FUNCTION eff_blk.check(o jsonb, a jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO eff_blk.log VALUES (o #>> '{row,customer}');
  IF o #>> '{row,customer}' = 'banned' THEN
    RAISE EXCEPTION 'customer is banned' USING ERRCODE = 'SH004';
  END IF;
END $$;
SELECT ordflow.add_effect('order', 'submit', 'eff_blk.check(jsonb,jsonb)');
SELECT ordflow.receive_stock('eff_blk', 4);
SELECT ordflow.create_coupon('eff_blk', 'fixed', 1, '{"usage_limit": 2}') IS NOT NULL;
SELECT ordflow.set_purchase_limit('eff_blk', 3);
SELECT ordinality, order_id IS NOT NULL AS made, result, detail FROM ordflow.submit_orders('[
  {"customer": "ada", "lines": [{"sku": "eff_blk", "quantity": 1, "unit_price": 5}], "coupon": "eff_blk"},
  {"customer": "banned", "lines": [{"sku": "eff_blk", "quantity": 2, "unit_price": 5}], "coupon": "eff_blk", "idempotency_key": "k"},
  {"customer": "bob", "lines": [{"sku": "eff_blk", "quantity": 1, "unit_price": 5}]}]');
TABLE eff_blk.log;
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'eff_blk';
SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'eff_blk' AND state IN ('locked', 'used');
SELECT customer, quantity FROM ordflow.purchase_counts JOIN ordflow.purchase_limits USING (limit_id) WHERE sku = 'eff_blk' ORDER BY 1;
SELECT count(*) FROM ordflow.orders WHERE customer = 'banned';
SELECT count(*) FROM ordflow.order_history h WHERE NOT EXISTS (SELECT FROM ordflow.orders o WHERE o.order_id = h.order_id);
SELECT * FROM ordflow.audit();

-- its idempotency key is free again; a single submit raises the effect's error
SELECT ordflow.submit_order('banned', '[{"sku": "eff_blk", "quantity": 1, "unit_price": 5}]', idempotency_key => 'k');
SELECT ordflow.drop_effect('order', 'submit', 'eff_blk.check(jsonb,jsonb)');
SELECT ordflow.submit_order('banned', '[{"sku": "eff_blk", "quantity": 1, "unit_price": 7}]', idempotency_key => 'k') IS NOT NULL;
ROLLBACK;

-- Coupons and orders that live on across transactions: one key, one use; a repeat and a refused payment take no second one.
\a \t
\set VERBOSITY sqlstate
SELECT ordflow.create_coupon('crew', 'fixed', 2, '{"usage_limit": 2, "per_customer": 2}') IS NOT NULL;
\set submit 'SELECT ordflow.submit_order(''crew'', ''[{"sku": "crew", "quantity": 1, "unit_price": 10, "stock": false}]'', ''crew'', ''key'')'
:submit AS o \gset
:submit = :o;
:submit = :o;
SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'crew' AND state IN ('locked', 'used');
SELECT ordflow.pay_order(:o, 'crew', '1', 10);
SELECT state FROM ordflow.coupon_redemptions WHERE order_id = :o;
SELECT ordflow.pay_order(:o, 'crew', '2', 8);
SELECT state FROM ordflow.coupon_redemptions WHERE order_id = :o;
SELECT ordflow.pay_order(:o, 'crew', '2', 8), ordflow.pay_order(:o, 'crew', '3', 8);
SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'crew' AND state IN ('locked', 'used');
:submit = :o;
-- the key with another coupon, or without, is another order
SELECT ordflow.submit_order('crew', '[{"sku": "crew", "quantity": 1, "unit_price": 10, "stock": false}]', NULL, 'key');
SELECT ordflow.cancel_order(:o);
:submit = :o;
SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'crew' AND state IN ('locked', 'used');
SELECT state, slot FROM ordflow.coupon_redemptions WHERE order_id = :o;
SELECT * FROM ordflow.audit();

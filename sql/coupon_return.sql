-- A cancelled order's coupon: returned while the coupon is still valid, expired when it is not; its own, not another order's.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE FUNCTION pg_temp.sell() RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.submit_order('cret', '[{"sku": "cret", "quantity": 1, "unit_price": 10, "stock": false}]', 'cret') $$;
CREATE FUNCTION pg_temp.told(VARIADIC orders bigint[]) RETURNS text LANGUAGE sql AS $$
SELECT string_agg(state || coalesce(' in slot ' || slot, ''), ', ' ORDER BY order_id) FROM ordflow.coupon_redemptions WHERE order_id = ANY (orders) $$;
SELECT ordflow.create_coupon('cret', 'fixed', 1, '{"usage_limit": 10, "per_customer": 10}') IS NOT NULL;
SELECT pg_temp.sell() AS a, pg_temp.sell() AS b, pg_temp.sell() AS c, pg_temp.sell() AS d \gset
SELECT pg_temp.told(:a, :b, :c, :d);
SELECT ordflow.pay_order(:c, 'cret', '1', 9), ordflow.pay_order(:d, 'cret', '2', 9);
SELECT pg_temp.told(:a, :b, :c, :d);
SELECT ordflow.cancel_order(:b), ordflow.cancel_order(:c);
SELECT pg_temp.told(:a, :b, :c, :d);
SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'cret' AND state IN ('locked', 'used');

-- its time is over: the use is given back all the same, the redemption says expired
SELECT ordflow.alter_coupon('cret', '{"valid_until": "2001-01-01"}');
SELECT ordflow.cancel_order(:a), ordflow.refund_order(:d) IS NOT NULL;
SELECT pg_temp.told(:a, :b, :c, :d);
SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'cret' AND state IN ('locked', 'used');
SELECT state FROM ordflow.orders WHERE order_id = :d;

-- disabled is not over
SELECT ordflow.alter_coupon('cret', '{"valid_until": null}');
SELECT pg_temp.sell() AS a \gset
SELECT ordflow.alter_coupon('cret', '{"enabled": false}');
SELECT ordflow.cancel_order(:a);
SELECT pg_temp.told(:a);

-- a part that is refunded returns nothing, nor does a refund after shipping
SELECT ordflow.alter_coupon('cret', '{"enabled": true}');
SELECT ordflow.submit_order('cret', '[{"sku": "cret", "quantity": 4, "unit_price": 10, "stock": false}]', 'cret') AS a, pg_temp.sell() AS b \gset
SELECT ordflow.pay_order(:a, 'cret', '3', 39), ordflow.pay_order(:b, 'cret', '4', 9);
SELECT ordflow.refund_order(:a, '[{"line": 1, "quantity": 3}]') IS NOT NULL, ordflow.ship_order(:b, 'c', 't'), ordflow.refund_order(:b) IS NOT NULL;
SELECT pg_temp.told(:a, :b);
SELECT ordflow.refund_order(:a) IS NOT NULL;
SELECT pg_temp.told(:a, :b);
SELECT check_name FROM ordflow.audit();
ROLLBACK;

-- a coupon that somebody deleted does not stop a cancel
SELECT ordflow.create_coupon('cret gone', 'fixed', 1, '{"usage_limit": 10, "per_customer": 10}') IS NOT NULL;
SELECT ordflow.submit_order('cret', '[{"sku": "cret", "quantity": 1, "unit_price": 10, "stock": false}]', 'cret gone') AS a \gset
CREATE TEMP TABLE kept AS SELECT * FROM ordflow.coupons WHERE code = 'cret gone';
DELETE FROM ordflow.coupons WHERE code = 'cret gone';
SELECT ordflow.cancel_order(:a);
SELECT state, slot FROM ordflow.coupon_redemptions WHERE order_id = :a;
INSERT INTO ordflow.coupons SELECT * FROM kept;
SELECT * FROM ordflow.audit();

-- run_due cancels unpaid orders whose time is over, and confirms shipped ones; it answers how many.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
SELECT ordflow.receive_stock('tord', 100);
SELECT ordflow.create_coupon('tord', 'fixed', 1, '{"usage_limit": 10}') IS NOT NULL;
CREATE FUNCTION pg_temp.submit() RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.submit_order('tord', '[{"sku": "tord", "quantity": 2, "unit_price": 5}]', 'tord', pay_within => '1 hour') $$;
SELECT pg_temp.submit() AS a, pg_temp.submit() AS b, pg_temp.submit() AS paid, pg_temp.submit() AS shipped, pg_temp.submit() AS later \gset
SELECT ordflow.pay_order(:paid, 'tord', '1', 9), ordflow.pay_order(:shipped, 'tord', '2', 9), ordflow.ship_order(:shipped, 'c', 't');
SELECT ordflow.run_due();

-- two unpaid, one shipped are due; one at exactly this microsecond; the paid one is never
UPDATE ordflow.orders SET expires_at = clock_timestamp() - interval '1 day' WHERE order_id IN (:a, :paid);
UPDATE ordflow.orders SET due_at = expires_at WHERE order_id = :a;
UPDATE ordflow.orders SET expires_at = u.t, due_at = u.t FROM (SELECT clock_timestamp() AS t) u WHERE order_id = :b;
UPDATE ordflow.orders SET due_at = clock_timestamp() - interval '1 s' WHERE order_id = :shipped;
SELECT ordflow.run_due();
SELECT ordflow.run_due();
SELECT state, cancel_reason, due_at IS NULL AS done FROM ordflow.orders WHERE order_id IN (:a, :b, :paid, :shipped, :later) ORDER BY order_id;
SELECT event, from_state, to_state, reason FROM ordflow.order_history WHERE order_id IN (:a, :b, :shipped) AND reason IS NOT NULL ORDER BY order_id, seq;
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'tord';
SELECT r.state, count(*) FROM ordflow.coupon_redemptions r JOIN ordflow.coupons USING (coupon_id) WHERE code = 'tord' GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'tord' AND state IN ('locked', 'used');

-- a deadline that was moved by extend_order counts
UPDATE ordflow.orders SET expires_at = clock_timestamp() + interval '1 min', due_at = clock_timestamp() + interval '1 min' WHERE order_id = :later;
SELECT ordflow.extend_order(:later, '1 hour') > clock_timestamp() + interval '1 hour';
SELECT ordflow.run_due(clock_timestamp() + interval '30 min') IS NOT NULL;
SELECT state FROM ordflow.orders WHERE order_id = :later;
SELECT ordflow.run_due(clock_timestamp() + interval '2 hours') >= 1;
SELECT state FROM ordflow.orders WHERE order_id = :later;
SELECT * FROM ordflow.audit();
ROLLBACK;

-- ordflow.orders is a table with machine "order": fire and UPDATE take cancel, expire, confirm; the rest is for the verbs.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('fire_ord', 100);
SELECT ordflow.create_coupon('fire_ord', 'fixed', 1, '{"usage_limit": 5}') IS NOT NULL;
CREATE FUNCTION pg_temp.submit() RETURNS bigint LANGUAGE sql
AS $$ SELECT ordflow.submit_order('fo', '[{"sku": "fire_ord", "quantity": 10, "unit_price": 5}]', 'fire_ord') $$;
CREATE FUNCTION pg_temp.told(bigint) RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' | ', o.state, cancel_reason, (SELECT state FROM ordflow.coupon_redemptions r WHERE r.order_id = o.order_id),
  'held ' || coalesce((SELECT sum(reserved) FROM ordflow.stock_movements m WHERE m.order_id = o.order_id), 0), CASE WHEN due_at IS NOT NULL THEN 'due' END,
  (SELECT string_agg(event, ',' ORDER BY seq) FROM ordflow.order_history h WHERE h.order_id = o.order_id))
FROM ordflow.orders o WHERE order_id = $1 $$;

-- cancel, by fire and by UPDATE
SELECT pg_temp.submit() AS a, pg_temp.submit() AS b \gset
SELECT ordflow.fire('ordflow.orders', :'a', 'cancel', '{"reason": "fraud"}');
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id = :b;
SELECT pg_temp.told(:a);
SELECT pg_temp.told(:b);
SELECT ordflow.available_stock('fire_ord');

-- expire: not before its time
SELECT pg_temp.submit() AS a, pg_temp.submit() AS b \gset
SELECT ordflow.fire('ordflow.orders', :'a', 'expire');
SET LOCAL ordflow.event = 'expire';
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id = :b;
UPDATE ordflow.orders SET expires_at = clock_timestamp() - interval '1 us', due_at = clock_timestamp() - interval '1 us' WHERE order_id IN (:a, :b);
SELECT ordflow.fire('ordflow.orders', :'a', 'expire');
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id = :b;
RESET ordflow.event;
SELECT pg_temp.told(:a);
SELECT pg_temp.told(:b);

-- pay, ship, refund and submit are refused; so is any other step
SELECT pg_temp.submit() AS a, pg_temp.submit() AS b \gset
SELECT ordflow.fire('ordflow.orders', :'a', 'pay');
UPDATE ordflow.orders SET state = 'pending_shipment' WHERE order_id = :a;
UPDATE ordflow.orders SET state = 'completed' WHERE order_id = :a;
UPDATE ordflow.orders SET state = 'packed' WHERE order_id = :a;
SELECT ordflow.pay_order(id, 'fo', 'fo' || id, 49) FROM unnest(ARRAY[:a, :b]) id;
SELECT ordflow.fire('ordflow.orders', :'a', 'ship');
UPDATE ordflow.orders SET state = 'pending_receipt' WHERE order_id = :a;
SELECT ordflow.fire('ordflow.orders', :'a', 'refund');
SELECT ordflow.fire('ordflow.orders', :'a', 'submit');
SELECT ordflow.fire('ordflow.orders', :'a', 'expire');
SELECT ordflow.fire('ordflow.orders', :'a', 'confirm');
SELECT pg_temp.told(:a);

-- confirm; a paid order that is cancelled leaves its refund due
SELECT ordflow.ship_order(:a, 'c', 'fo');
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id = :a;
SELECT ordflow.fire('ordflow.orders', :'a', 'confirm', '{"reason": "carrier"}');
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id = :b;
SELECT pg_temp.told(:a);
SELECT pg_temp.told(:b);
SELECT amount, state, reason FROM ordflow.refunds WHERE order_id = :b;
SELECT * FROM ordflow.audit();
ROLLBACK;

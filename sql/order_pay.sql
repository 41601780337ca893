-- pay in time, amount and currency equal: pending_shipment, coupon used, due_at cleared; expires_at stays.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('order_pay', 'fixed', 1) > 0 AS coupon;
SELECT pg_temp.sell('order_pay', 'pending_payment', 'order_pay') AS id \gset
SELECT * FROM pg_temp.look(:id);
SELECT ordflow.pay_order(:id, 'wechat', 'order_pay 1', 9.0, 'CNY');
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.history(:id);
SELECT expires_at > clock_timestamp() AS expires_at_stays FROM ordflow.orders WHERE order_id = :id;
SELECT provider, transaction_id, amount, currency, result, original, actor = session_user AS actor
FROM ordflow.payments WHERE order_id = :id;
SELECT p.payment_id = (h.data->>'payment_id')::bigint AS payment_in_history
FROM ordflow.order_history h JOIN ordflow.payments p USING (order_id) WHERE h.order_id = :id AND h.event = 'pay';
-- paid is not shipped
SELECT * FROM pg_temp.stock('order_pay');
SELECT quantity, expires_at FROM ordflow.reservations WHERE order_id = :id;
SELECT * FROM ordflow.audit(:'began');

-- cancel, unpaid: stock released, coupon returned, nothing to refund; also after the deadline.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('order_cancel_unpaid', 'fixed', 1, '{"usage_limit": 2}') > 0 AS coupon;
SELECT pg_temp.sell('order_cancel_unpaid', 'pending_payment', 'order_cancel_unpaid') AS id \gset
SELECT pg_temp.sell('order_cancel_unpaid', 'pending_payment', 'order_cancel_unpaid') AS overdue \gset
SELECT * FROM pg_temp.stock('order_cancel_unpaid');
SELECT pg_temp.used('order_cancel_unpaid');
SELECT pg_temp.overdue(:overdue);
SELECT ordflow.cancel_order(:id), ordflow.cancel_order(:overdue, 'fraud');
SELECT * FROM pg_temp.look(:id) UNION ALL SELECT * FROM pg_temp.look(:overdue);
SELECT * FROM pg_temp.history(:id);
SELECT cancel_reason, due_at, expires_at IS NOT NULL AS expires_at FROM ordflow.orders WHERE customer = 'order_cancel_unpaid'
ORDER BY order_id;
SELECT * FROM pg_temp.stock('order_cancel_unpaid');
SELECT pg_temp.used('order_cancel_unpaid');
-- again: nothing changes
SELECT ordflow.cancel_order(:id, 'other');
SELECT * FROM pg_temp.look(:id);
SELECT count(*) AS history, (SELECT cancel_reason FROM ordflow.orders WHERE order_id = :id)
FROM ordflow.order_history WHERE order_id = :id;
SELECT * FROM pg_temp.stock('order_cancel_unpaid');
SELECT * FROM ordflow.audit(:'began');

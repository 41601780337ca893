-- expire: not before the deadline; at it stock released and the coupon returned, as for a cancel.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('order_expire', 'fixed', 1) > 0 AS coupon;
SELECT pg_temp.sell('order_expire', 'pending_payment', 'order_expire') AS id \gset
SELECT ordflow.expire_order(:id);
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.stock('order_expire');
SELECT pg_temp.overdue(:id);
-- overdue and unswept it holds its units still, and reservations tells until when
SELECT quantity, expires_at < clock_timestamp() AS past FROM ordflow.reservations WHERE order_id = :id;
SELECT ordflow.expire_order(:id);
SELECT ordflow.expire_order(:id);
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.history(:id);
SELECT cancel_reason FROM ordflow.orders WHERE order_id = :id;
SELECT * FROM pg_temp.stock('order_expire');
SELECT count(*) FROM ordflow.reservations WHERE order_id = :id;
SELECT * FROM ordflow.audit(:'began');

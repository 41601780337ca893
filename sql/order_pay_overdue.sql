-- pay at or after expires_at: expire is applied first, then the late payment, in one commit.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('order_pay_overdue', 'fixed', 1) > 0 AS coupon;
SELECT pg_temp.sell('order_pay_overdue', 'pending_payment', 'order_pay_overdue') AS id \gset
UPDATE ordflow.orders SET expires_at = t, due_at = t
FROM (SELECT clock_timestamp() - interval '1 microsecond' AS t) AS c WHERE order_id = :id;
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.stock('order_pay_overdue');
SELECT ordflow.pay_order(:id, 'p', 'order_pay_overdue', 9);
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.history(:id);
SELECT * FROM pg_temp.stock('order_pay_overdue');
SELECT cancel_reason FROM ordflow.orders WHERE order_id = :id;
-- one transaction wrote all of it
SELECT count(DISTINCT x) AS transactions FROM (
    SELECT xmin::text FROM ordflow.orders WHERE order_id = :id
    UNION ALL SELECT xmin::text FROM ordflow.payments WHERE order_id = :id
    UNION ALL SELECT xmin::text FROM ordflow.refunds WHERE order_id = :id
    UNION ALL SELECT xmin::text FROM ordflow.order_history WHERE order_id = :id AND seq > 1
    UNION ALL SELECT xmin::text FROM ordflow.stock_movements WHERE order_id = :id AND kind = 'released') AS w (x);
-- the same report again changes nothing
SELECT ordflow.pay_order(:id, 'p', 'order_pay_overdue', 9);
SELECT * FROM pg_temp.look(:id);
SELECT * FROM ordflow.audit(:'began');

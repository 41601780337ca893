-- A payment for a cancelled order is recorded as late with a refund due for all of it, however the order was cancelled.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('pay_late', 'cancelled') AS unpaid, pg_temp.sell('pay_late', 'pending_shipment') AS paid,
    pg_temp.sell('pay_late') AS expired, pg_temp.sell('pay_late', 'completed') AS refunded \gset
SELECT ordflow.cancel_order(:paid);
SELECT pg_temp.overdue(:expired);
SELECT ordflow.expire_order(:expired);
SELECT ordflow.refund_order(:refunded) > 0 AS refund;
SELECT * FROM pg_temp.stock('pay_late');
CREATE TABLE pg_temp.cancelled AS SELECT * FROM unnest(ARRAY[:unpaid, :paid, :expired, :refunded]) WITH ORDINALITY AS c (id, n);
SELECT l.* FROM cancelled c, pg_temp.look(c.id) l ORDER BY n;
-- too much, too little, another currency: late all the same
SELECT n, ordflow.pay_order(id, 'p', 'pay_late ' || n, CASE n WHEN 3 THEN 0.01 ELSE 9 + n END, CASE n WHEN 4 THEN 'USD' END)
FROM cancelled ORDER BY n;
SELECT l.* FROM cancelled c, pg_temp.look(c.id) l ORDER BY n;
SELECT c.n, h.event, h.from_state, h.to_state, h.reason, h.data->>'result' AS result,
    (h.data->>'refund_id')::bigint = r.refund_id AS refund, p.currency, r.currency
FROM cancelled c JOIN ordflow.payments p ON p.order_id = c.id JOIN ordflow.refunds r USING (payment_id)
JOIN ordflow.order_history h ON h.order_id = c.id
WHERE p.result = 'late' AND h.seq = (SELECT max(seq) FROM ordflow.order_history WHERE order_id = c.id) ORDER BY n;
SELECT cancel_reason FROM cancelled c JOIN ordflow.orders o ON o.order_id = c.id ORDER BY n;
-- the goods stay where they are
SELECT * FROM pg_temp.stock('pay_late');
SELECT * FROM ordflow.audit(:'began');

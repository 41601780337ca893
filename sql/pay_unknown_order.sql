-- A payment for an order that does not exist is recorded with a refund due.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.pay_order(0, 'p', 'pay_unknown_order 1', 12.5), ordflow.pay_order(-1, 'p', 'pay_unknown_order 2', 8, 'USD'),
    ordflow.pay_order(9223372036854775807, 'p', 'pay_unknown_order 3', 8);
-- the setting is the currency of a payment that names none
SET ordflow.currency = 'JPY';
SELECT ordflow.pay_order(0, 'p', 'pay_unknown_order 4', 500);
RESET ordflow.currency;
SELECT p.order_id, p.amount, p.currency, p.result, p.original, r.order_id, r.amount, r.currency, r.state, r.reason
FROM ordflow.payments p JOIN ordflow.refunds r USING (payment_id) WHERE p.transaction_id LIKE 'pay_unknown_order _' ORDER BY 2, 3;
SELECT count(*) FROM ordflow.order_history WHERE order_id IN (0, -1, 9223372036854775807);
SELECT ordflow.refund_done(refund_id, 'r') FROM ordflow.refunds WHERE order_id = -1 AND reason = 'unknown_order';
SELECT * FROM ordflow.audit(:'began');

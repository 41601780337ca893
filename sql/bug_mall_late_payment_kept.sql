-- mall: the notice of a payment that comes after the timeout finds no unpaid order, is answered "success",
-- and the money stays with the shop without a trace. Here: recorded as late, all of it due to go back.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('bug_mall_late_payment_kept') AS id \gset
SELECT pg_temp.overdue(:id);
SELECT ordflow.expire_order(:id);
SELECT ordflow.pay_order(:id, 'alipay', 'bug_mall_late_payment_kept', 10);
SELECT * FROM pg_temp.look(:id);
SELECT r.amount, r.currency, r.state, r.reason, p.provider, p.transaction_id
FROM ordflow.refunds r JOIN ordflow.payments p USING (payment_id) WHERE r.order_id = :id;
-- nothing is missing in the sums
SELECT sum(p.amount) = sum(r.amount) AS balanced FROM ordflow.payments p LEFT JOIN ordflow.refunds r USING (payment_id)
WHERE p.order_id = :id AND p.result <> 'applied';
SELECT * FROM ordflow.audit(:'began');

-- A transaction id seen before with other values is a mismatch whose refund is held until a person has looked at it.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('pay_foreign_transaction') AS a, pg_temp.sell('pay_foreign_transaction') AS b,
    pg_temp.sell('pay_foreign_transaction', 'cancelled') AS c, pg_temp.sell('pay_foreign_transaction') AS d \gset
SELECT ordflow.pay_order(:a, 'p', 'pay_foreign_transaction', 10);
SELECT pg_temp.overdue(:d);
-- another order, another amount, another currency, no order at all, an order that is cancelled, one that is overdue
SELECT ordflow.pay_order(:b, 'p', 'pay_foreign_transaction', 10), ordflow.pay_order(:a, 'p', 'pay_foreign_transaction', 11),
    ordflow.pay_order(:a, 'p', 'pay_foreign_transaction', 10, 'USD'), ordflow.pay_order(0, 'p', 'pay_foreign_transaction', 10),
    ordflow.pay_order(:c, 'p', 'pay_foreign_transaction', 10), ordflow.pay_order(:d, 'p', 'pay_foreign_transaction', 10);
-- the same id of another provider is another transaction
SELECT ordflow.pay_order(:b, 'q', 'pay_foreign_transaction', 10);
SELECT o.n, p.provider, p.amount, p.currency, p.result, p.original, r.state, r.reason
FROM ordflow.payments p LEFT JOIN ordflow.refunds r USING (payment_id)
LEFT JOIN unnest(ARRAY[:a, :b, :c, :d]) WITH ORDINALITY AS o (id, n) ON o.id = p.order_id
WHERE p.transaction_id = 'pay_foreign_transaction' ORDER BY p.payment_id;
SELECT l.state, l.due FROM unnest(ARRAY[:a, :b, :c, :d]) WITH ORDINALITY AS o (id, n), pg_temp.look(id) l ORDER BY n;
-- the history of the order that was named has it
SELECT event, reason, data->>'result' AS result FROM ordflow.order_history WHERE order_id = :b ORDER BY seq;
SELECT count(*) FROM ordflow.audit(:'began') WHERE check_name = 'refund_held';
-- held is not done; looked at, it is due, or is not made
SELECT refund_id AS held FROM ordflow.refunds WHERE order_id = :b AND state = 'held' \gset
SELECT ordflow.refund_done(:held, 'x');
SELECT ordflow.release_refund(:held), ordflow.release_refund(:held);
SELECT ordflow.refund_done(:held, 'x');
SELECT ordflow.refund_failed(r.refund_id, 'no money came') FROM ordflow.refunds r JOIN ordflow.payments p USING (payment_id)
WHERE p.transaction_id = 'pay_foreign_transaction' AND r.state = 'held';
SELECT r.state, count(*) FROM ordflow.refunds r JOIN ordflow.payments p USING (payment_id)
WHERE p.transaction_id = 'pay_foreign_transaction' GROUP BY 1 ORDER BY 1;
SELECT ordflow.expire_order(:d);
SELECT * FROM ordflow.audit(:'began');

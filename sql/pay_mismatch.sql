-- Another amount or another currency buys nothing: recorded, a refund due, the order waits on and can still be paid.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('pay_mismatch') AS id \gset
SELECT amount, currency, ordflow.pay_order(:id, 'p', 'pay_mismatch ' || n, amount, currency)
FROM (VALUES (1, 9.99, NULL), (2, 10.01, NULL), (3, 10, 'USD'), (4, 10, 'JPY'), (5, 10.001, 'CNY'), (6, 1000, NULL))
    AS v (n, amount, currency) ORDER BY n;
SELECT state, due FROM pg_temp.look(:id);
SELECT p.amount, p.currency, p.result, p.original, r.amount, r.currency, r.state, r.reason
FROM ordflow.payments p JOIN ordflow.refunds r USING (payment_id) WHERE p.order_id = :id ORDER BY p.payment_id;
SELECT seq, event, from_state, to_state, reason, data->>'result' AS result FROM ordflow.order_history WHERE order_id = :id ORDER BY 1;
SELECT * FROM pg_temp.stock('pay_mismatch');
-- two halves do not make a whole
SELECT ordflow.pay_order(:id, 'p', 'pay_mismatch half ' || n, 5) FROM generate_series(1, 2) n;
SELECT ordflow.pay_order(:id, 'p', 'pay_mismatch right', 10);
SELECT state, due FROM pg_temp.look(:id);
-- nothing is left for it in the order's own refunds but what it paid rightly
SELECT ordflow.refund_order(:id) > 0 AS refund;
SELECT sum(amount) FILTER (WHERE result = 'applied') AS applied, sum(amount) AS came_in,
    (SELECT sum(amount) FROM ordflow.refunds WHERE order_id = :id) AS goes_back
FROM ordflow.payments WHERE order_id = :id;
SELECT * FROM ordflow.audit(:'began');

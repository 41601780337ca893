-- A repeat of provider, transaction, order, amount and currency is a duplicate in every state: nothing changes.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('pay_duplicate') AS id \gset
SELECT ordflow.pay_order(:id, 'p', 'pay_duplicate', 10);
SELECT pg_temp.fingerprint() AS before \gset
-- the amount however it is written, the order's currency whether named or not
SELECT ordflow.pay_order(:id, 'p', 'pay_duplicate', 10), ordflow.pay_order(:id, 'p', 'pay_duplicate', 10.000),
    ordflow.pay_order(:id, 'p', 'pay_duplicate', 10, 'CNY');
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
SELECT ordflow.ship_order(:id, 'c', 't');
SELECT ordflow.pay_order(:id, 'p', 'pay_duplicate', 10);
SELECT ordflow.confirm_order(:id);
SELECT ordflow.pay_order(:id, 'p', 'pay_duplicate', 10);
SELECT ordflow.refund_order(:id) > 0 AS refund;
SELECT pg_temp.fingerprint() AS before \gset
SELECT ordflow.pay_order(:id, 'p', 'pay_duplicate', 10);
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
SELECT * FROM pg_temp.look(:id);

-- so is a repeat of a report that bought nothing
SELECT pg_temp.sell('pay_duplicate', 'cancelled') AS gone, pg_temp.sell('pay_duplicate') AS open,
    pg_temp.sell('pay_duplicate', 'completed') AS paid \gset
CREATE TABLE pg_temp.reports (id bigint, transaction_id text, amount numeric);
INSERT INTO reports VALUES (:gone, 'pay_duplicate late', 10), (:open, 'pay_duplicate mismatch', 9), (:paid, 'pay_duplicate twice', 10),
    (0, 'pay_duplicate unknown', 7), (:open, 'pay_duplicate late', 10);
SELECT transaction_id, ordflow.pay_order(id, 'p', transaction_id, amount) FROM reports;
SELECT transaction_id, ordflow.pay_order(id, 'p', transaction_id, amount) FROM reports;
SELECT p.transaction_id, p.result, p.original, r.state, r.amount = p.amount AS whole
FROM ordflow.payments p LEFT JOIN ordflow.refunds r USING (payment_id)
WHERE p.transaction_id LIKE 'pay_duplicate %' ORDER BY p.payment_id;
-- what is held is let go, so that the audit has nothing to say
SELECT ordflow.release_refund(refund_id) FROM ordflow.refunds WHERE order_id = :open AND state = 'held';
SELECT * FROM ordflow.audit(:'began');

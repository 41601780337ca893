-- Whatever is reported to whatever order, in any order of events: money in = applied + refunds of the other payments.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT setseed(0.25);
SELECT n, pg_temp.sell('pay_money_in', s) AS id INTO TEMP sold
FROM (SELECT n, (ARRAY['pending_payment', 'pending_payment', 'pending_payment', 'pending_shipment', 'partly shipped', 'pending_receipt',
    'completed', 'cancelled'])[1 + n % 8] AS s FROM generate_series(0, 39) n) AS s;
SELECT count(pg_temp.overdue(id)) AS overdue FROM sold WHERE n % 8 = 1;
-- 400 reports: 60 transaction ids, three amounts, two currencies, an unknown order now and then
CREATE TABLE pg_temp.reports AS
SELECT i, 'pay_money_in ' || floor(random() * 60) AS transaction_id, (ARRAY[10, 10, 10, 9.5])[1 + floor(random() * 4)::int] AS amount,
    (ARRAY['CNY', 'CNY', NULL, 'USD'])[1 + floor(random() * 4)::int] AS currency, floor(random() * 42)::int AS n
FROM generate_series(1, 400) i;
SELECT r.i, r.transaction_id, r.amount, coalesce(r.currency, 'CNY') AS currency, coalesce(s.id, -r.n) AS order_id,
    ordflow.pay_order(coalesce(s.id, -r.n), 'p', r.transaction_id, r.amount, r.currency) AS result INTO TEMP answers
FROM reports r LEFT JOIN sold s USING (n) ORDER BY r.i;
-- every kind of answer came; each distinct report is one payment and has one answer that is not duplicate
SELECT string_agg(DISTINCT result, ', ' ORDER BY result) FROM answers;
SELECT count(*) FILTER (WHERE result <> 'duplicate') = count(DISTINCT (transaction_id, amount, currency, order_id)) AS once,
    count(*) FILTER (WHERE result <> 'duplicate')
    = (SELECT count(*) FROM ordflow.payments WHERE transaction_id LIKE 'pay_money_in %') AS recorded FROM answers;
SELECT count(*) AS told_otherwise FROM answers a JOIN ordflow.payments p USING (transaction_id, amount, currency, order_id)
WHERE a.result NOT IN ('duplicate', p.result);
SELECT sum(p.amount) = sum(p.amount) FILTER (WHERE p.result = 'applied') + sum(r.amount) FILTER (WHERE p.result <> 'applied') AS balanced,
    count(*) FILTER (WHERE p.result <> 'applied' AND r.amount IS DISTINCT FROM p.amount) AS lost,
    count(*) FILTER (WHERE p.result = 'applied' AND r.amount IS NOT NULL) AS given_away
FROM ordflow.payments p LEFT JOIN ordflow.refunds r USING (payment_id) WHERE p.transaction_id LIKE 'pay_money_in %';
-- a payment was applied only where the order was unpaid and in time, and at most once
SELECT max(c) FROM (SELECT count(*) AS c FROM ordflow.payments WHERE result = 'applied' GROUP BY order_id) AS a;
SELECT count(*) FROM ordflow.payments p JOIN sold s ON s.id = p.order_id
WHERE p.transaction_id LIKE 'pay_money_in %' AND p.result = 'applied' AND n % 8 NOT IN (0, 2);
SELECT count(ordflow.expire_order(id)) AS expired FROM sold WHERE n % 8 = 1;
-- what is held is let go, so that the audit has nothing to say
SELECT count(ordflow.release_refund(r.refund_id)) > 0 AS held FROM ordflow.refunds r JOIN ordflow.payments p USING (payment_id)
WHERE p.transaction_id LIKE 'pay_money_in %' AND r.state = 'held';
SELECT * FROM ordflow.audit(:'began');

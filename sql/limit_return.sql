-- What is cancelled, expired, refunded or taken back counts no more against a purchase limit.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('lret', 100);
SELECT ordflow.set_purchase_limit('lret', 4);
CREATE FUNCTION pg_temp.buy(quantity int) RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.submit_order('ada', jsonb_build_array(jsonb_build_object('sku', 'lret', 'quantity', quantity, 'unit_price', 1))) $$;
CREATE FUNCTION pg_temp.counted() RETURNS bigint LANGUAGE sql AS $$
SELECT quantity FROM ordflow.purchase_counts JOIN ordflow.purchase_limits USING (limit_id) WHERE sku = 'lret' AND customer = 'ada' $$;
SELECT pg_temp.buy(4) AS o \gset
SELECT pg_temp.buy(1);
SELECT ordflow.cancel_order(:o), pg_temp.counted();
SELECT pg_temp.buy(3) AS o \gset
SELECT pg_temp.counted();
UPDATE ordflow.orders SET expires_at = clock_timestamp(), due_at = clock_timestamp() WHERE order_id = :o;
SELECT ordflow.expire_order(:o), pg_temp.counted();

-- refunded before shipping, returned after it, in parts
SELECT pg_temp.buy(4) AS o \gset
SELECT ordflow.pay_order(:o, 'lret', '1', 4), ordflow.refund_order(:o, '[{"line": 1, "quantity": 1}]') IS NOT NULL, pg_temp.counted();
SELECT ordflow.ship_order(:o, 'c', 't'), ordflow.refund_order(:o, '[{"line": 1, "quantity": 1}]') IS NOT NULL, pg_temp.counted();
-- money alone returns no unit
SELECT ordflow.refund_order(:o, amount => 1) IS NOT NULL, pg_temp.counted();
SELECT pg_temp.buy(3);
SELECT pg_temp.buy(2) AS p \gset
SELECT ordflow.refund_order(:o) IS NOT NULL, pg_temp.counted();

-- a paid order that is cancelled
SELECT ordflow.pay_order(:p, 'lret', '2', 2), ordflow.cancel_order(:p), pg_temp.counted();
SELECT * FROM ordflow.audit();

-- a count that is wrong stops no cancel, it stays at 0 and the audit says so
SELECT pg_temp.buy(2) AS o, pg_temp.buy(2) AS p \gset
UPDATE ordflow.purchase_counts SET quantity = 1 WHERE customer = 'ada' AND limit_id IN (SELECT limit_id FROM ordflow.purchase_limits WHERE sku = 'lret');
SELECT check_name FROM ordflow.audit();
SELECT ordflow.cancel_order(:o), pg_temp.counted();
ROLLBACK;

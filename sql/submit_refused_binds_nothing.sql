-- A refused submit binds nothing: no row, no unit, no use of a coupon or limit, and its key is free for another order.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('submit_refused ' || s, n) FROM (VALUES ('a', 5), ('b', 1)) v (s, n);
SELECT ordflow.create_coupon('submit_refused', 'fixed', 1, '{"usage_limit": 1, "min_total": 3}') > 0 AS coupon;
SELECT ordflow.set_purchase_limit('submit_refused a', 4);
SELECT pg_temp.fingerprint() AS before \gset
CREATE FUNCTION pg_temp.submit(a int, b int, more text DEFAULT '') RETURNS text LANGUAGE sql AS $$
SELECT pg_temp.try(format('SELECT ''ok'' FROM ordflow.submit_order(''submit_refused'', %L, idempotency_key => ''k'' %s)',
    jsonb_build_array(
        jsonb_build_object('sku', 'submit_refused a', 'quantity', a, 'unit_price', 1),
        jsonb_build_object('sku', 'submit_refused b', 'quantity', b, 'unit_price', 1)), more)) $$;
-- the second line's stock; the limit after stock; the coupon after both; the payable; a number that is taken
SELECT pg_temp.submit(1, 2), pg_temp.submit(6, 1), pg_temp.submit(5, 1), pg_temp.submit(1, 1, ', coupon => ''submit_refused'''),
    pg_temp.submit(1, 1, ', coupon => ''unknown'''), pg_temp.submit(1, 1, $$, charges => '[{"code": "x", "amount": -3}]'$$);
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
SELECT ordflow.submit_order(NULL, '[{"sku": "x", "stock": false, "quantity": 1, "unit_price": 1}]', order_no => 'submit_refused') > 0
    AS taken;
SELECT pg_temp.fingerprint() AS before \gset
SELECT pg_temp.submit(1, 1, ', order_no => ''submit_refused''');
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- a rolled back submit frees its key too
BEGIN;
SELECT pg_temp.submit(4, 1);
ROLLBACK;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
SELECT pg_temp.submit(3, 1, ', coupon => ''submit_refused''');
SELECT pg_temp.submit(3, 1);
SELECT * FROM pg_temp.stock('submit_refused');
SELECT * FROM ordflow.audit(:'began');
SELECT * FROM ordflow.audit() WHERE check_name = 'purchase_count';

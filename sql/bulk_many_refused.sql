-- submit_orders: hundreds of orders hold the only unit one after the other and are refused, and the first that may have it gets it.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bulk_many_refused ' || s, n) FROM (VALUES ('unit', 1), ('limited', 10)) v (s, n);
SELECT ordflow.set_purchase_limit('bulk_many_refused limited', 1);
SELECT r.result, count(*), min(ordinality), max(ordinality) FROM ordflow.submit_orders((
    SELECT jsonb_agg(jsonb_build_object('customer', 'c' || n, 'idempotency_key', 'bulk_many_refused', 'lines', jsonb_build_array(
        jsonb_build_object('sku', 'bulk_many_refused unit', 'quantity', 1, 'unit_price', 1),
        jsonb_build_object('sku', 'bulk_many_refused limited', 'quantity', CASE n WHEN 300 THEN 1 ELSE 2 END, 'unit_price', 1))) ORDER BY n)
    FROM generate_series(1, 301) n)) r GROUP BY 1 ORDER BY 3;
SELECT customer FROM ordflow.orders WHERE idempotency_key = 'bulk_many_refused';
SELECT * FROM pg_temp.stock('bulk_many_refused');
SELECT * FROM ordflow.audit(:'began');
SELECT * FROM ordflow.audit() WHERE check_name = 'purchase_count';

-- submit_orders: twins inside a call. The first that is accepted has the key; the others are duplicates or conflicts.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bulk_twins', 5);
CREATE FUNCTION pg_temp.bulk(wanted text[], number text DEFAULT NULL) RETURNS TABLE (n int, wanted text, result text, same_as int)
LANGUAGE sql AS $$
SELECT s.ordinality, w, s.result, CASE WHEN s.order_id IS NOT NULL THEN min(s.ordinality) OVER (PARTITION BY s.order_id) END
FROM unnest(wanted) WITH ORDINALITY AS w (w, n) JOIN ordflow.submit_orders((
    SELECT jsonb_agg(jsonb_build_object('order_no', number, 'customer', nullif(split_part(w, ' ', 1), '-'),
        'idempotency_key', nullif(split_part(w, ' ', 2), '-'), 'lines', jsonb_build_array(jsonb_build_object('sku', 'bulk_twins',
        'quantity', split_part(w, ' ', 3)::int, 'unit_price', 1))) ORDER BY n)
    FROM unnest(wanted) WITH ORDINALITY AS w (w, n))) s ON s.ordinality = w.n ORDER BY 1 $$;
-- customer, key, quantity
SELECT * FROM pg_temp.bulk('{anna k 1,anna k 1,berta k 1,anna k 1,anna k 2,- k 1,- k 1,- - 1}');
SELECT * FROM pg_temp.stock('bulk_twins');
-- a refused twin leaves the key to the next, whatever it asks for
SELECT * FROM pg_temp.bulk('{anna k2 2,anna k2 1,anna k2 2,anna k2 1}');
SELECT * FROM pg_temp.stock('bulk_twins');
SELECT customer, idempotency_key, count(*), sum(quantity) FROM ordflow.orders JOIN ordflow.order_lines USING (order_id)
WHERE sku = 'bulk_twins' GROUP BY 1, 2 ORDER BY 1, 2;
-- the same with a number of the shop's own
SELECT ordflow.receive_stock('bulk_twins', 2);
SELECT * FROM pg_temp.bulk('{anna - 3,anna - 1,anna - 1,anna k3 1}', 'bulk_twins');
SELECT * FROM pg_temp.stock('bulk_twins');
SELECT * FROM ordflow.audit(:'began');

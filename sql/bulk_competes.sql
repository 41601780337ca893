-- submit_orders: orders of one call compete in the order they were given in, for units, limits and uses of a coupon.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bulk_competes ' || s, n) FROM (VALUES ('a', 5), ('b', 100)) v (s, n);
SELECT ordflow.set_purchase_limit('bulk_competes b', 4);
SELECT ordflow.create_coupon('bulk_competes', 'percent', 10, '{"usage_limit": 2}') > 0 AS coupon;
CREATE FUNCTION pg_temp.bulk(sku text, wanted int[], more jsonb) RETURNS TABLE (wanted int, result text, available bigint)
LANGUAGE sql AS $$
SELECT w, s.result, coalesce(s.detail->0->>'available', s.detail->0->>'bought')::bigint
FROM unnest(wanted) WITH ORDINALITY AS w (w, n) JOIN ordflow.submit_orders((
    SELECT jsonb_agg(more || jsonb_build_object('lines', jsonb_build_array(jsonb_build_object(
        'sku', sku, 'quantity', w, 'unit_price', 1))) ORDER BY n)
    FROM unnest(wanted) WITH ORDINALITY AS w (w, n))) s ON s.ordinality = w.n ORDER BY w.n $$;
SELECT * FROM pg_temp.bulk('bulk_competes a', '{2,4,2,2,1,1}', '{}');
SELECT * FROM pg_temp.bulk('bulk_competes b', '{3,2,1,1}', '{"customer": "bulk_competes"}');
SELECT * FROM pg_temp.bulk('bulk_competes b', '{1,1,1}', '{"customer": "bulk_competes 2", "coupon": "bulk_competes"}');
SELECT * FROM pg_temp.stock('bulk_competes');
SELECT pg_temp.used('bulk_competes');
SELECT * FROM ordflow.audit(:'began');
SELECT * FROM ordflow.audit() WHERE check_name = 'purchase_count';

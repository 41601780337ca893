-- mall #376, #353, #381, #136, #221, #885, #883 (and many shops): more is sold than there is. Here: units are taken under the lock of
-- their row, so the last one goes once. (Sessions at once: see the isolation specs.)
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bug_mall_oversell', 10);
SELECT r.result, count(*) FROM ordflow.submit_orders((SELECT jsonb_agg(jsonb_build_object('customer', 'mall ' || n,
    'lines', '[{"sku": "bug_mall_oversell", "quantity": 1, "unit_price": 1}]'::jsonb)) FROM generate_series(1, 25) n)) r
GROUP BY 1 ORDER BY 1;
SELECT * FROM pg_temp.stock('bug_mall_oversell');
SELECT pg_temp.try($$SELECT ordflow.submit_order(NULL, '[{"sku": "bug_mall_oversell", "quantity": 1, "unit_price": 1}]')$$) AS sold_out,
    pg_temp.try($$SELECT ordflow.reserve_stock('bug_mall_oversell', '[{"sku": "bug_mall_oversell", "quantity": 1}]')$$) AS hold,
    pg_temp.try($$SELECT ordflow.adjust_stock('bug_mall_oversell', -1, 'broken')$$) AS adjust;
-- one that is given back can be sold once more
SELECT ordflow.cancel_order(min(order_id)) FROM ordflow.order_lines WHERE sku = 'bug_mall_oversell';
SELECT n, pg_temp.try($$SELECT 'ok' FROM ordflow.submit_order(NULL, '[{"sku": "bug_mall_oversell", "quantity": 1, "unit_price": 1}]')$$)
FROM generate_series(1, 2) n;
SELECT * FROM pg_temp.stock('bug_mall_oversell');
SELECT * FROM ordflow.audit(:'began');

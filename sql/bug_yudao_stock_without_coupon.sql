-- yudao-cloud #310: stock was deducted in one service and the coupon failed in another. Here: all of a submit or nothing.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bug_yudao_all_or_nothing ' || s, 10) FROM unnest('{a,b}'::text[]) s;
SELECT ordflow.create_coupon('bug_yudao_all_or_nothing', 'fixed', 1, '{"usage_limit": 1}') > 0 AS coupon;
PREPARE submit AS SELECT ordflow.submit_order('c', '[{"sku": "bug_yudao_all_or_nothing a", "quantity": 2, "unit_price": 5},
    {"sku": "bug_yudao_all_or_nothing b", "quantity": 2, "unit_price": 5}]', 'bug_yudao_all_or_nothing') > 0 AS sold;
EXECUTE submit;
SELECT pg_temp.fingerprint() AS before \gset
EXECUTE submit;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
SELECT * FROM pg_temp.stock('bug_yudao_all_or_nothing');
SELECT * FROM ordflow.audit(:'began');

-- mall #1002, #1003: a coupon worth more than the goods, and one coupon in five submits at once, made payables of -824.00.
-- Here: a discount never exceeds the lines in its scope, and a use is taken once.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bug_mall_coupon', 100);
SELECT ordflow.create_coupon('bug_mall_coupon', 'fixed', 1000, '{"usage_limit": 1}') > 0 AS coupon;
\set line '[{"sku": "bug_mall_coupon", "quantity": 2, "unit_price": 88}]'
SELECT ordinality, result, detail->0->>'reason' AS reason FROM ordflow.submit_orders((SELECT jsonb_agg(jsonb_build_object(
    'customer', 'mall ' || n, 'coupon', 'bug_mall_coupon', 'lines', :'line'::jsonb)) FROM generate_series(1, 5) n));
-- one by one, with a key each, as five requests would
SELECT n, pg_temp.try(format('SELECT ordflow.submit_order(''mall 6'', %L, ''bug_mall_coupon'', %L)', :'line', n))
FROM generate_series(1, 5) n;
SELECT subtotal, discount, payable, state FROM ordflow.orders WHERE coupon = 'bug_mall_coupon';
SELECT pg_temp.used('bug_mall_coupon');
SELECT * FROM pg_temp.stock('bug_mall_coupon');
-- lines out of its scope keep their price; a charge cannot bring the payable below zero either
SELECT ordflow.create_coupon('bug_mall_coupon scope', 'fixed', 1000, '{"skus": ["bug_mall_coupon"]}') > 0 AS coupon;
SELECT ordflow.submit_order('mall 7', '[{"sku": "bug_mall_coupon", "quantity": 1, "unit_price": 88},
    {"sku": "s", "stock": false, "quantity": 1, "unit_price": 12}]', 'bug_mall_coupon scope') AS id \gset
SELECT line_no, amount, discount, payable FROM ordflow.order_lines WHERE order_id = :id ORDER BY 1;
SELECT pg_temp.try($$SELECT ordflow.submit_order('mall 8', '[{"sku": "bug_mall_coupon", "quantity": 1, "unit_price": 88}]',
    'bug_mall_coupon scope', charges => '[{"code": "points", "amount": -0.01}]')$$);
SELECT * FROM ordflow.audit(:'began');

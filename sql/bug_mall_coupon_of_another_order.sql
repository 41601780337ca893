-- mall: a cancel releases the first coupon of that kind that the customer has used, which may be another order's.
-- Here: a redemption belongs to its order.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('bug_mall_other_order', 'fixed', 1, '{"per_customer": 3, "usage_limit": 3}') > 0 AS coupon;
SELECT ordflow.receive_stock('bug_mall_other_order', 10);
SELECT n, ordflow.submit_order('mall', '[{"sku": "bug_mall_other_order", "quantity": 1, "unit_price": 5}]', 'bug_mall_other_order') AS id
INTO TEMP sold FROM generate_series(1, 3) n;
SELECT ordflow.pay_order(id, 'p', 'bug_mall_other_order ' || n, 4) FROM sold WHERE n = 1;
-- the second one goes
SELECT ordflow.cancel_order(id) FROM sold WHERE n = 2;
SELECT n, state, coupon FROM sold, pg_temp.look(id) ORDER BY n;
SELECT pg_temp.used('bug_mall_other_order');
-- one use is free, not two
SELECT n, pg_temp.try($$SELECT 'ok' FROM ordflow.submit_order('mall', '[{"sku": "bug_mall_other_order", "quantity": 1, "unit_price": 5}]',
    'bug_mall_other_order')$$) FROM generate_series(1, 2) n;
SELECT ordflow.cancel_order(id), ordflow.cancel_order(id) FROM sold ORDER BY n;
SELECT n, state, coupon FROM sold, pg_temp.look(id) ORDER BY n;
SELECT pg_temp.used('bug_mall_other_order');
SELECT * FROM ordflow.audit(:'began');

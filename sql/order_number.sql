-- order_no is the shop's own number, unique, or the order id; order_id finds it.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.submit_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1}]', order_no => 'order_number A-1') AS id
\gset
SELECT order_no FROM ordflow.orders WHERE order_id = :id;
SELECT ordflow.order_id('order_number A-1') = :id AS found;
SELECT ordflow.submit_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1}]') AS plain \gset
SELECT ordflow.order_id(:'plain') = :plain AS found;
SELECT ordflow.order_id('order_number a-1');
SELECT ordflow.order_id('');
SELECT ordflow.order_id(NULL);
SELECT ordflow.order_id(repeat('x', 256));
-- taken
SELECT ordflow.submit_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 2}]', order_no => 'order_number A-1');
SELECT ordflow.submit_order('c', '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 2}]', idempotency_key => 'k',
    order_no => 'order_number A-1');
-- a number that is the id of an order still to come: 23505 once it comes, a result in bulk
BEGIN;
SELECT last_value AS last FROM ordflow.orders_order_id_seq \gset
SELECT count(ordflow.submit_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1}]', order_no => n::text))
FROM generate_series(:last + 101, :last + 200) n;
SELECT result, detail->0->>'sqlstate' AS sqlstate, order_id IS NULL AS none FROM ordflow.submit_orders(
    '[{"customer": "order_number", "lines": [{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1}]}]');
SELECT result, count(*) FROM ordflow.submit_orders((SELECT jsonb_agg(
    '{"customer": "order_number", "lines": [{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1}]}'::jsonb)
    FROM generate_series(1, 5))) GROUP BY 1;
SELECT pg_temp.try($$SELECT ordflow.submit_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1}]')$$);
ROLLBACK;
SELECT * FROM ordflow.audit(:'began');

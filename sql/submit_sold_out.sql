-- submit_order, submit_orders: what is sold out is answered before anything is written; a key that has an order has its answer.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('submit_sold_out', 2);
CREATE FUNCTION pg_temp.wanted(quantity int, VARIADIC keys text[]) RETURNS jsonb LANGUAGE sql AS $$
SELECT jsonb_agg(jsonb_build_object('customer', 'submit_sold_out', 'idempotency_key', nullif(key, '-'), 'lines', jsonb_build_array(
    jsonb_build_object('sku', 'submit_sold_out', 'quantity', quantity, 'unit_price', 1))) ORDER BY n)
FROM unnest(keys) WITH ORDINALITY AS k (key, n) $$;
SELECT order_id AS id FROM ordflow.submit_orders(pg_temp.wanted(2, 'k')) \gset

-- refused, without a key, with a free one, and beside one that has an order: no transaction id is taken
BEGIN;
SELECT result, order_id, detail FROM ordflow.submit_orders(pg_temp.wanted(1, '-', 'free'));
SELECT result, order_id = :id AS same FROM ordflow.submit_orders(pg_temp.wanted(2, 'k'));
SAVEPOINT s;
SELECT ordflow.submit_order('submit_sold_out', pg_temp.wanted(1, '-') -> 0 -> 'lines', idempotency_key => 'free');
ROLLBACK TO SAVEPOINT s;
COMMIT;
BEGIN;
SELECT result FROM ordflow.submit_orders(pg_temp.wanted(1, '-', 'free'));
SELECT pg_current_xact_id_if_assigned() IS NULL AS nothing_written;
COMMIT;

-- the key is free for the next; a line that is there does not help one that is not
SELECT ordflow.receive_stock('submit_sold_out other', 5);
SELECT pg_temp.try($$SELECT ordflow.submit_order('submit_sold_out', '[{"sku": "submit_sold_out other", "quantity": 1, "unit_price": 1},
    {"sku": "submit_sold_out", "quantity": 1, "unit_price": 1}]')$$);
SELECT ordflow.cancel_order(:id);
SELECT result FROM ordflow.submit_orders(pg_temp.wanted(1, 'free', 'k', '-'));
SELECT * FROM pg_temp.stock('submit_sold_out');

-- of an expired hold the units are there; of one's own release too
SELECT ordflow.receive_stock('submit_sold_out', 2);
SELECT ordflow.reserve_stock('submit_sold_out', '[{"sku": "submit_sold_out", "quantity": 2}]', clock_timestamp() + interval '1 day');
SELECT result FROM ordflow.submit_orders(pg_temp.wanted(1, '-', '-', '-'));
UPDATE ordflow.holds SET expires_at = clock_timestamp() - interval '1 second' WHERE reference = 'submit_sold_out';
SELECT result FROM ordflow.submit_orders(pg_temp.wanted(2, '-'));
SELECT order_id AS id FROM ordflow.orders WHERE customer = 'submit_sold_out' ORDER BY order_id DESC LIMIT 1 \gset
BEGIN;
SELECT ordflow.cancel_order(:id);
SELECT result FROM ordflow.submit_orders(pg_temp.wanted(2, '-'));
ROLLBACK;

-- a sku is what it is called now
UPDATE ordflow.stock SET sku = 'submit_sold_out was' WHERE sku = 'submit_sold_out';
SELECT result FROM ordflow.submit_orders(pg_temp.wanted(1, '-'));
SELECT ordflow.receive_stock('submit_sold_out', 1);
SELECT result FROM ordflow.submit_orders(pg_temp.wanted(1, '-'));
BEGIN;
SELECT ordflow.receive_stock('submit_sold_out gone', 1);
SELECT ordflow.submit_order('submit_sold_out', '[{"sku": "submit_sold_out gone", "quantity": 1, "unit_price": 1}]') > 0 AS sold;
ROLLBACK;
SELECT ordflow.receive_stock('submit_sold_out gone', 1);
SELECT ordflow.submit_order('submit_sold_out', '[{"sku": "submit_sold_out gone", "quantity": 1, "unit_price": 1}]') > 0 AS sold;
SELECT * FROM pg_temp.stock('submit_sold_out');
SELECT * FROM ordflow.audit(:'began');

-- TRUNCATE of the tables of orders is refused, for their owner too: stock, coupons and refunds would be left behind.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('fot', 5);
SELECT ordflow.submit_order('fot', '[{"sku": "fot", "quantity": 1, "unit_price": 1}]') AS o \gset
TRUNCATE ordflow.orders;
TRUNCATE ordflow.orders CASCADE;
TRUNCATE ordflow.order_lines;
TRUNCATE ordflow.order_history;
TRUNCATE ordflow.payments;
TRUNCATE ordflow.order_charges, ordflow.orders;
SELECT state FROM ordflow.orders WHERE order_id = :o;
SELECT * FROM ordflow.audit();
ROLLBACK;

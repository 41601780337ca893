-- TRUNCATE of ordflow.orders is refused, for its owner too.
\a \t
\set VERBOSITY sqlstate
BEGIN;
SELECT ordflow.receive_stock('fot', 5);
SELECT ordflow.submit_order('fot', '[{"sku": "fot", "quantity": 1, "unit_price": 1}]') IS NOT NULL;
TRUNCATE ordflow.orders;
ROLLBACK;

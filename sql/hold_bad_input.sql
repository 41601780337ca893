-- Bad input of reserve_stock, each with its SQLSTATE, and nothing held.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('hbad', 10);
CREATE FUNCTION pg_temp.hold(lines text) RETURNS bigint LANGUAGE sql AS $$ SELECT ordflow.reserve_stock('hbad', lines::jsonb) $$;
SELECT ordflow.reserve_stock(NULL, '[{"sku": "hbad", "quantity": 1}]');
SELECT ordflow.reserve_stock('', '[{"sku": "hbad", "quantity": 1}]');
SELECT ordflow.reserve_stock(repeat('r', 256), '[{"sku": "hbad", "quantity": 1}]');
SELECT ordflow.reserve_stock('order:1', '[{"sku": "hbad", "quantity": 1}]');
SELECT ordflow.reserve_stock('order:', '[{"sku": "hbad", "quantity": 1}]');
SELECT ordflow.reserve_stock('hbad', '[{"sku": "hbad", "quantity": 1}]', clock_timestamp());
SELECT ordflow.reserve_stock('hbad', '[{"sku": "hbad", "quantity": 1}]', '-infinity');

SELECT pg_temp.hold(NULL);
SELECT pg_temp.hold('[]');
SELECT pg_temp.hold('{}');
SELECT pg_temp.hold('null');
SELECT pg_temp.hold('7');
SELECT pg_temp.hold('[');
SELECT pg_temp.hold('["hbad"]');
SELECT pg_temp.hold('[[{"sku": "hbad", "quantity": 1}]]');
SELECT pg_temp.hold('[{}]');
SELECT pg_temp.hold('[{"sku": "hbad"}]');
SELECT pg_temp.hold('[{"quantity": 1}]');
SELECT pg_temp.hold('[{"sku": "hbad", "quantity": 1, "unit_price": 1}]');
SELECT pg_temp.hold('[{"sku": 1, "quantity": 1}]');
SELECT pg_temp.hold('[{"sku": "", "quantity": 1}]');
SELECT pg_temp.hold('[{"sku": null, "quantity": 1}]');
SELECT pg_temp.hold('[{"sku": "hbad", "quantity": null}]');
SELECT pg_temp.hold('[{"sku": "hbad", "quantity": "1"}]');
SELECT pg_temp.hold('[{"sku": "hbad", "quantity": 0}]');
SELECT pg_temp.hold('[{"sku": "hbad", "quantity": -1}]');
SELECT pg_temp.hold('[{"sku": "hbad", "quantity": 1.5}]');
SELECT pg_temp.hold('[{"sku": "hbad", "quantity": true}]');
SELECT pg_temp.hold('[{"sku": "hbad", "quantity": 1, "location": ""}]');
SELECT pg_temp.hold('[{"sku": "hbad", "quantity": 1, "location": 5}]');
SELECT pg_temp.hold(format('[{"sku": "%s", "quantity": 1}]', repeat('x', 256)));
SELECT pg_temp.hold(format('[{"sku": "hbad", "quantity": 1, "location": "%s"}]', repeat('x', 256)));
SELECT pg_temp.hold(repeat('[', 1000) || repeat(']', 1000));
SELECT pg_temp.hold(format('[%s]', (SELECT string_agg('{"sku": "hbad", "quantity": 1}', ',') FROM generate_series(1, 5001))));
SET LOCAL ordflow.max_lines = 2;
SELECT pg_temp.hold('[{"sku": "hbad", "quantity": 1}, {"sku": "hbad", "quantity": 1}, {"sku": "hbad", "quantity": 1}]');

SELECT reserved FROM ordflow.stock_levels WHERE sku = 'hbad';
SELECT count(*) FROM ordflow.holds WHERE reference = 'hbad';
-- null is the default location; a whole number may have a fraction of zeros
SELECT pg_temp.hold('[{"sku": "hbad", "quantity": 2.00, "location": null}, {"sku": "hbad", "quantity": 1e0}]');
ROLLBACK;

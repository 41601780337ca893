-- Sums of quantities beyond what a bigint holds are refused, not wrapped.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
SELECT ordflow.receive_stock('sovf', 1000000000000);
UPDATE ordflow.stock SET on_hand = 9223372036854775807 - 1000000000005 WHERE sku = 'sovf';
BEGIN;
SELECT ordflow.receive_stock('sovf', 6);
SELECT ordflow.adjust_stock('sovf', 6, 'x');
SELECT ordflow.receive_stock('sovf', 5);
SELECT on_hand = 9223372036854775807, available = 9223372036854775807 FROM ordflow.stock_levels WHERE sku = 'sovf';
-- the sum over locations too
SELECT ordflow.receive_stock('sovf', 1, 'shop');
SELECT ordflow.available_stock('sovf', NULL);
SELECT ordflow.available_stock('sovf');
-- lines of one hold that are added up
SELECT ordflow.reserve_stock('sovf', (SELECT jsonb_agg('{"sku": "sovf", "quantity": 1000000000000}'::jsonb) FROM generate_series(1, 5000)));
SELECT ordflow.reserve_stock('sovf', '[{"sku": "sovf", "quantity": 1000000000001}]');
SELECT ordflow.reserve_stock('sovf', '[{"sku": "sovf", "quantity": 1e400}]');
SELECT count(*) FROM ordflow.holds WHERE reference = 'sovf' AND state = 'held';
ROLLBACK;

-- rows that make too much: their counter cannot be loaded, and each try says so, until they are mended
UPDATE ordflow.stock SET on_hand = 9223372036854775807 WHERE sku = 'sovf';
SELECT ordflow.submit_order('sovf', '[{"sku": "sovf", "quantity": 1, "unit_price": 1}]');
BEGIN;
SELECT ordflow.receive_stock('sovf', 1);
SELECT ordflow.reserve_stock('sovf', '[{"sku": "sovf", "quantity": 1}]');
SELECT ordflow.receive_stock('sovf other', 1);
COMMIT;
SELECT ordflow.available_stock('sovf');
UPDATE ordflow.stock SET on_hand = 0 WHERE sku = 'sovf';
SELECT ordflow.reserve_stock('sovf', '[{"sku": "sovf", "quantity": 1000000000000}]');
SELECT ordflow.reserve_stock('sovf more', '[{"sku": "sovf", "quantity": 1}]');
SELECT ordflow.release_stock('sovf'), ordflow.available_stock('sovf');
SELECT * FROM ordflow.audit();

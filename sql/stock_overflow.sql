-- Sums of quantities beyond what a bigint holds are refused, not wrapped.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('sovf', 1000000000000);
UPDATE ordflow.stock SET available = 9223372036854775807 - 5 WHERE sku = 'sovf';
SELECT ordflow.receive_stock('sovf', 6);
SELECT ordflow.adjust_stock('sovf', 6, 'x');
SELECT ordflow.receive_stock('sovf', 5);
SELECT available = 9223372036854775807 FROM ordflow.stock WHERE sku = 'sovf';
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

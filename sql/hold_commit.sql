-- commit_stock: the units leave the shelf; applied, then duplicate.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('hcom', 10), ordflow.receive_stock('hcom2', 10);
SELECT ordflow.reserve_stock('hcom', '[{"sku": "hcom", "quantity": 4}, {"sku": "hcom2", "quantity": 1}]', clock_timestamp() + interval '1 h');
SELECT ordflow.commit_stock('hcom');
SELECT sku, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku ~ '^hcom' ORDER BY 1;
SELECT state, ended_at BETWEEN created_at AND clock_timestamp() AS ended FROM ordflow.holds WHERE reference = 'hcom';
SELECT kind, m.on_hand, m.reserved, reference, reason FROM ordflow.stock_movements m JOIN ordflow.stock USING (stock_id)
WHERE sku = 'hcom' ORDER BY movement_id;
SELECT ordflow.commit_stock('hcom');
SELECT sku, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku ~ '^hcom' ORDER BY 1;

-- what has left is not given back, nor after its time
SELECT ordflow.release_stock('hcom');
UPDATE ordflow.holds SET expires_at = clock_timestamp() WHERE reference = 'hcom';
SELECT ordflow.commit_stock('hcom');
SELECT ordflow.release_stock('hcom');
SELECT ordflow.run_due() IS NOT NULL;
SELECT sku, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku ~ '^hcom' ORDER BY 1;

-- released or expired it cannot be committed
SELECT ordflow.reserve_stock('hcom r', '[{"sku": "hcom", "quantity": 1}]'), ordflow.release_stock('hcom r');
SELECT ordflow.commit_stock('hcom r');
SELECT ordflow.reserve_stock('hcom e', '[{"sku": "hcom", "quantity": 1}]', clock_timestamp() + interval '1 h');
UPDATE ordflow.holds SET expires_at = clock_timestamp() WHERE reference = 'hcom e';
SELECT ordflow.commit_stock('hcom e');
SELECT sku, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'hcom';

SELECT ordflow.commit_stock('hcom nothing');
SELECT ordflow.commit_stock(NULL);
SELECT ordflow.commit_stock('');
SELECT ordflow.commit_stock('order:1');
SELECT ordflow.commit_stock(repeat('x', 256));
SELECT * FROM ordflow.audit();
ROLLBACK;

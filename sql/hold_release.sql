-- release_stock: the units are given back; applied, then duplicate.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('hrel', 10), ordflow.receive_stock('hrel2', 10);
SELECT ordflow.reserve_stock('hrel', '[{"sku": "hrel", "quantity": 4}, {"sku": "hrel2", "quantity": 10}]');
SELECT ordflow.release_stock('hrel');
SELECT sku, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku ~ '^hrel' ORDER BY 1;
SELECT state, ended_at IS NOT NULL AS ended FROM ordflow.holds WHERE reference = 'hrel';
SELECT kind, m.on_hand, m.reserved, reference, reason FROM ordflow.stock_movements m JOIN ordflow.stock USING (stock_id)
WHERE sku = 'hrel' ORDER BY movement_id;
SELECT ordflow.release_stock('hrel');

-- one whose time is over is written as expired and answers duplicate
SELECT ordflow.reserve_stock('hrel e', '[{"sku": "hrel", "quantity": 4}]', clock_timestamp() + interval '1 h');
UPDATE ordflow.holds SET expires_at = clock_timestamp() WHERE reference = 'hrel e';
SELECT ordflow.release_stock('hrel e');
SELECT state, ended_at IS NOT NULL AS ended FROM ordflow.holds WHERE reference = 'hrel e';
SELECT ordflow.release_stock('hrel e');
SELECT sku, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku ~ '^hrel' ORDER BY 1;
SELECT kind, reason FROM ordflow.stock_movements WHERE reference = 'hrel e' ORDER BY movement_id;

SELECT ordflow.release_stock('hrel nothing');
SELECT ordflow.release_stock(NULL);
SELECT ordflow.release_stock('');
SELECT ordflow.release_stock('order:1');
SELECT ordflow.release_stock(repeat('x', 256));
SELECT * FROM ordflow.audit();
ROLLBACK;

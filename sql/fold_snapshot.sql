-- A fold in a transaction that keeps its snapshot: it sees all that is committed nevertheless, and the
-- levels of that snapshot stay as they are.
CREATE TEMP VIEW figures AS
SELECT l.on_hand, l.reserved, l.available FROM ordflow.stock_levels l WHERE sku = 'fold-snapshot';

SELECT ordflow.receive_stock('fold-snapshot', 10);
SELECT ordflow.fold_stock() \g /dev/null
SELECT ordflow.fold_stock() \g /dev/null
SELECT ordflow.submit_order('c', '[{"sku": "fold-snapshot", "quantity": 3, "unit_price": 1}]') AS id \gset
SELECT ordflow.fold_stock() \g /dev/null

BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM figures;
SELECT ordflow.fold_stock() AS folded;
SELECT * FROM figures;
SELECT on_hand, reserved FROM ordflow.stock WHERE sku = 'fold-snapshot';
COMMIT;
SELECT * FROM figures;

SELECT ordflow.cancel_order(:id);
SELECT ordflow.fold_stock() \g /dev/null
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT * FROM figures;
SELECT ordflow.fold_stock() AS folded;
SELECT * FROM figures;
COMMIT;
SELECT on_hand, reserved FROM ordflow.stock WHERE sku = 'fold-snapshot';
SELECT * FROM ordflow.audit();

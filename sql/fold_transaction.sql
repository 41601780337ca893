-- fold_stock() in a transaction that sells: what it has closed itself it does not fold, since others
-- do not know yet; and what is rolled back was never closed.
CREATE TEMP VIEW figures AS
SELECT l.on_hand, l.available, ordflow.available_stock('fold-tx') AS counter
FROM ordflow.stock_levels l WHERE sku = 'fold-tx';
CREATE TEMP VIEW newest AS
SELECT m.segment = COALESCE((SELECT max(g.segment) FROM ordflow.stock_segments g), 1) AS in_the_current_segment
FROM ordflow.stock_movements m ORDER BY m.movement_id DESC LIMIT 1;

SELECT ordflow.receive_stock('fold-tx', 10);
SELECT ordflow.fold_stock() \g /dev/null
SELECT ordflow.fold_stock() \g /dev/null

BEGIN;
SELECT ordflow.receive_stock('fold-tx', 1);
SELECT ordflow.fold_stock() AS closed;
SELECT ordflow.receive_stock('fold-tx', 2);
SELECT * FROM newest;
SELECT ordflow.fold_stock() AS not_known_to_others;
SELECT * FROM figures;
COMMIT;
SELECT * FROM figures;
SELECT ordflow.fold_stock() AS one_movement;
SELECT * FROM figures;

-- a segment whose row is rolled back is written by nobody
BEGIN;
SELECT ordflow.fold_stock() \g /dev/null
SELECT ordflow.receive_stock('fold-tx', 4);
SELECT * FROM newest;
ROLLBACK;
SELECT ordflow.receive_stock('fold-tx', 8);
SELECT * FROM newest;

BEGIN;
SELECT ordflow.receive_stock('fold-tx', 16);
SAVEPOINT a;
SELECT ordflow.fold_stock() \g /dev/null
SELECT ordflow.receive_stock('fold-tx', 32);
SELECT * FROM newest;
ROLLBACK TO a;
SELECT ordflow.receive_stock('fold-tx', 64);
SELECT * FROM newest;
COMMIT;
SELECT * FROM figures;
SELECT ordflow.fold_stock() \g /dev/null
SELECT ordflow.fold_stock() \g /dev/null
SELECT * FROM figures;

-- a fold that is rolled back has not been
SELECT ordflow.receive_stock('fold-tx', 128);
SELECT ordflow.fold_stock() \g /dev/null
BEGIN;
SELECT ordflow.fold_stock() AS one_movement;
SELECT * FROM figures;
ROLLBACK;
SELECT * FROM figures;
SELECT ordflow.fold_stock() AS one_movement;
SELECT * FROM figures;
SELECT * FROM ordflow.audit();

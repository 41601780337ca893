-- A segment that is opened by a direct write, as a restore does, is the current one for sessions that
-- have sold before.
CREATE TEMP VIEW newest AS
SELECT m.segment = (SELECT max(g.segment) FROM ordflow.stock_segments g) AS in_the_current_segment
FROM ordflow.stock_movements m ORDER BY m.movement_id DESC LIMIT 1;

SELECT ordflow.receive_stock('fold-direct', 1);
INSERT INTO ordflow.stock_segments (segment, opened_at)
SELECT COALESCE(max(g.segment), 1) + 1, clock_timestamp() FROM ordflow.stock_segments g;
SELECT ordflow.receive_stock('fold-direct', 2);
SELECT * FROM newest;

BEGIN;
INSERT INTO ordflow.stock_segments (segment, opened_at)
SELECT max(g.segment) + 1, clock_timestamp() FROM ordflow.stock_segments g;
ROLLBACK;
SELECT ordflow.receive_stock('fold-direct', 4);
SELECT * FROM newest;
SELECT on_hand, ordflow.available_stock(sku) FROM ordflow.stock_levels WHERE sku = 'fold-direct';
SELECT ordflow.fold_stock() \g /dev/null
SELECT ordflow.fold_stock() \g /dev/null
SELECT on_hand FROM ordflow.stock WHERE sku = 'fold-direct';
SELECT * FROM ordflow.audit();

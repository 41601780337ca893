-- receive_stock: creates the sku at the location, adds, answers what is on hand after.
\a \t
\set VERBOSITY sqlstate
BEGIN;
SELECT ordflow.receive_stock('srec', 10);
SELECT ordflow.receive_stock('srec', 5, 'main');
SELECT ordflow.receive_stock('srec', 7, 'Werk 2');
SELECT ordflow.receive_stock(sku => 'srec', quantity => 1, reference => 'DN-4711');
SELECT sku, location, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'srec' ORDER BY location;
SET LOCAL ordflow.actor = 'dock 3';
SELECT ordflow.receive_stock('srec', 1000000000000, 'Werk 2', 'a "quoted" reference');
SELECT location, kind, m.on_hand, m.reserved, order_id, reference, reason, actor = session_user AS me, actor = 'dock 3' AS dock,
  at BETWEEN now() AND clock_timestamp() AS now, segment > 0 AS segment
FROM ordflow.stock_movements m JOIN ordflow.stock USING (stock_id) WHERE sku = 'srec' ORDER BY movement_id;

-- skus differ by case and by blanks
SELECT ordflow.receive_stock('Srec', 1), ordflow.receive_stock(' srec', 1), ordflow.receive_stock(repeat('s', 255), 1, repeat('l', 255));
SELECT count(*) FROM ordflow.stock WHERE sku IN ('srec', 'Srec', ' srec');
SELECT * FROM ordflow.audit();
ROLLBACK;

-- The ledger: every change of an order's life is one movement, and the sums are the levels.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('smov', 10), ordflow.receive_stock('smov2', 10);
SET LOCAL ordflow.actor = 'shop';
SELECT ordflow.submit_order('smov', '[{"sku": "smov", "quantity": 4, "unit_price": 1}, {"sku": "smov2", "quantity": 1, "unit_price": 1},
  {"sku": "smov", "quantity": 1, "unit_price": 2}]') AS o \gset
SELECT ordflow.pay_order(:o, 'smov', '1', 7);
SELECT ordflow.ship_order(:o, 'c', '1', '[{"line": 1, "quantity": 3}]');
SELECT ordflow.refund_order(:o, '[{"line": 1, "quantity": 2}]') IS NOT NULL;
SELECT ordflow.refund_order(:o, '[{"line": 2, "quantity": 1}]', restock => false) IS NOT NULL;
SELECT ordflow.ship_order(:o, 'c', '2');
SELECT sku, kind, m.on_hand, m.reserved, m.order_id = :o AS of_order, reference, reason, actor = 'shop' AS shop
FROM ordflow.stock_movements m JOIN ordflow.stock USING (stock_id) WHERE sku ~ '^smov' ORDER BY movement_id;
SELECT sku, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku ~ '^smov' ORDER BY sku;
SELECT line_no, shipped, returned, cancelled FROM ordflow.order_lines WHERE order_id = :o ORDER BY line_no;
SELECT * FROM ordflow.audit();

-- lines without stock leave no trace in it
SELECT ordflow.submit_order('smov', '[{"sku": "smov", "quantity": 4, "unit_price": 1, "stock": false}]') AS o \gset
SELECT count(*) FROM ordflow.stock_movements WHERE order_id = :o;
SELECT location IS NULL, stock_id IS NULL FROM ordflow.order_lines WHERE order_id = :o;
ROLLBACK;

-- reserve_stock: holds all lines or none, answers the units held.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('hres', 10), ordflow.receive_stock('hres', 5, 'shop'), ordflow.receive_stock('hres2', 1);
SET LOCAL ordflow.actor = 'cart service';
SELECT ordflow.reserve_stock('hres 1', '[{"sku": "hres", "quantity": 2}, {"sku": "hres", "quantity": 1, "location": "shop"},
  {"sku": "hres", "quantity": 3, "location": "main"}, {"sku": "hres2", "quantity": 1}]', '2100-01-01 00:00+00');
SELECT state, expires_at = '2100-01-01 00:00+00' AS at, actor, created_at BETWEEN now() AND clock_timestamp() AS now, ended_at
FROM ordflow.holds WHERE reference = 'hres 1';
SELECT s.sku, s.location, l.quantity FROM ordflow.hold_lines l JOIN ordflow.stock s USING (stock_id) WHERE reference = 'hres 1' ORDER BY 1, 2;
SELECT sku, location, kind, m.on_hand, m.reserved, order_id, reference, actor FROM ordflow.stock_movements m
JOIN ordflow.stock USING (stock_id) WHERE sku ~ '^hres' AND kind <> 'received' ORDER BY sku, location;
SELECT sku, location, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku ~ '^hres' ORDER BY 1, 2;

-- one line too many: nothing is held, the reference is free
SELECT ordflow.reserve_stock('hres 2', '[{"sku": "hres", "quantity": 1}, {"sku": "hres2", "quantity": 1}]');
SELECT ordflow.reserve_stock('hres 2', '[{"sku": "hres", "quantity": 3}, {"sku": "hres", "quantity": 3}]');
SELECT ordflow.reserve_stock('hres 2', '[{"sku": "hres", "quantity": 1, "location": "moon"}]');
SELECT count(*) FROM ordflow.holds WHERE reference = 'hres 2';
SELECT ordflow.reserve_stock('hres 2', '[{"sku": "hres", "quantity": 5}]');
SELECT expires_at IS NULL AS never FROM ordflow.holds WHERE reference = 'hres 2';
SELECT ordflow.reserve_stock('hres 3', '[{"sku": "hres", "quantity": 1, "location": "shop"}]', 'infinity');
SELECT expires_at IS NULL AS never FROM ordflow.holds WHERE reference = 'hres 3';
SELECT sku, location, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku ~ '^hres' ORDER BY 1, 2;

-- orders cannot have what is held
SELECT ordflow.submit_order('hres', '[{"sku": "hres", "quantity": 1, "unit_price": 1}]');
SELECT * FROM ordflow.audit();
ROLLBACK;

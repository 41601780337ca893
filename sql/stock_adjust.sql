-- adjust_stock: up and down, for a reason; downwards it takes from what is available, like an order.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('sadj', 10);
SELECT ordflow.receive_stock('sadj', 4, 'shop');
SELECT ordflow.adjust_stock('sadj', 3, 'found behind the shelf');
SELECT ordflow.adjust_stock('sadj', -1, 'broken');
SELECT ordflow.adjust_stock('sadj', -4, 'stolen', 'shop');
SELECT location, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sadj' ORDER BY location;
SELECT kind, m.on_hand, m.reserved, reason, reference FROM ordflow.stock_movements m JOIN ordflow.stock USING (stock_id)
WHERE sku = 'sadj' AND kind <> 'received' ORDER BY movement_id;

-- what is reserved is not there to be taken away
SELECT ordflow.reserve_stock('sadj', '[{"sku": "sadj", "quantity": 10}]');
SELECT ordflow.adjust_stock('sadj', -3, 'too many');
SELECT ordflow.adjust_stock('sadj', -2, 'just enough');
SELECT ordflow.adjust_stock('sadj', -1, 'none left', 'shop');
SELECT location, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sadj' ORDER BY location;

-- the units of an expired hold are
SELECT ordflow.release_stock('sadj');
SELECT ordflow.reserve_stock('sadj', '[{"sku": "sadj", "quantity": 10}]', clock_timestamp() + interval '1 h');
UPDATE ordflow.holds SET expires_at = clock_timestamp() WHERE reference = 'sadj';
SELECT ordflow.adjust_stock('sadj', -10, 'all gone');
SELECT location, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sadj' ORDER BY location;

-- unknown sku or location: it creates none
SELECT ordflow.adjust_stock('sadj', 1, 'x', 'nowhere');
SELECT ordflow.adjust_stock('sadj', -1, 'x', 'nowhere');
SELECT ordflow.adjust_stock('sadj nothing', 1, 'x');
SELECT count(*) FROM ordflow.stock WHERE sku ~ '^sadj';
SELECT * FROM ordflow.audit();
ROLLBACK;

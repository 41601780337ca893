-- What a transaction has received, released or taken back it may sell at once.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('sown', 3);
SELECT ordflow.submit_order('sown', '[{"sku": "sown", "quantity": 3, "unit_price": 1}]') AS o \gset
SELECT ordflow.submit_order('sown', '[{"sku": "sown", "quantity": 1, "unit_price": 1}]');
SELECT ordflow.cancel_order(:o);
SELECT ordflow.submit_order('sown', '[{"sku": "sown", "quantity": 3, "unit_price": 1}]') AS o \gset
SELECT ordflow.adjust_stock('sown', 1, 'found');
SELECT ordflow.reserve_stock('sown', '[{"sku": "sown", "quantity": 1}]');
SELECT ordflow.pay_order(:o, 'sown', '1', 3), ordflow.ship_order(:o, 'c', '1'), ordflow.refund_order(:o) IS NOT NULL;
SELECT ordflow.submit_order('sown', '[{"sku": "sown", "quantity": 3, "unit_price": 1}]') IS NOT NULL;
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sown';

-- rolled back with its savepoint, the receipt cannot be sold
SAVEPOINT s;
SELECT ordflow.receive_stock('sown', 1);
SELECT ordflow.submit_order('sown', '[{"sku": "sown", "quantity": 1, "unit_price": 1}]') IS NOT NULL;
ROLLBACK TO s;
SELECT ordflow.submit_order('sown', '[{"sku": "sown", "quantity": 1, "unit_price": 1}]');
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sown';

-- and what a savepoint sold is there again
SELECT ordflow.receive_stock('sown', 1);
SAVEPOINT s;
SELECT ordflow.submit_order('sown', '[{"sku": "sown", "quantity": 1, "unit_price": 1}]') IS NOT NULL;
ROLLBACK TO s;
SELECT ordflow.submit_order('sown', '[{"sku": "sown", "quantity": 1, "unit_price": 1}]') IS NOT NULL;
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sown';
SELECT * FROM ordflow.audit();
ROLLBACK;

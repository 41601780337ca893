-- fold_stock() moves sums from the ledger to the balances: no figure changes, and selling goes on.
-- The first call closes the segment, the second adds it up.
CREATE TEMP VIEW figures AS
SELECT l.on_hand, l.reserved, l.available, ordflow.available_stock('fold-stock') AS counter,
       s.on_hand AS balance, s.reserved AS balance_reserved
FROM ordflow.stock_levels l JOIN ordflow.stock s USING (sku, location) WHERE sku = 'fold-stock';

SELECT ordflow.receive_stock('fold-stock', 10);
SELECT ordflow.submit_order('c', '[{"sku": "fold-stock", "quantity": 3, "unit_price": 1}]') AS id \gset
SELECT * FROM figures;
SELECT ordflow.fold_stock() >= 0 AS closed;
SELECT * FROM figures;
SELECT ordflow.fold_stock() >= 2 AS folded;
SELECT * FROM figures;
SELECT ordflow.fold_stock() AS nothing_left;

-- paid and shipped: on hand and reserved go down together
SELECT ordflow.pay_order(:id, 'bank', 'fold-stock', 3);
SELECT ordflow.ship_order(:id, 'post', 'fold-stock');
SELECT * FROM figures;
SELECT ordflow.fold_stock() >= 0 AS closed;
SELECT ordflow.receive_stock('fold-stock', 100);
SELECT ordflow.fold_stock() >= 1 AS folded;
SELECT * FROM figures;

-- what is only held, too
SELECT ordflow.reserve_stock('fold-stock', '[{"sku": "fold-stock", "quantity": 7}]');
SELECT ordflow.fold_stock() >= 1 AS folded;
SELECT ordflow.fold_stock() >= 1 AS folded;
SELECT * FROM figures;
SELECT ordflow.release_stock('fold-stock');
SELECT * FROM figures;

-- the ledger has it all still
SELECT kind, m.on_hand, m.reserved FROM ordflow.stock_movements m JOIN ordflow.stock s USING (stock_id)
WHERE s.sku = 'fold-stock' ORDER BY movement_id;

-- however many folds there were, few rows tell of them
SELECT count(ordflow.receive_stock('fold-stock', 1)) FROM generate_series(1, 2) \g /dev/null
SELECT ordflow.fold_stock() \g /dev/null
SELECT ordflow.receive_stock('fold-stock', 1) \g /dev/null
SELECT ordflow.fold_stock() \g /dev/null
SELECT ordflow.receive_stock('fold-stock', 1) \g /dev/null
SELECT ordflow.fold_stock() \g /dev/null
SELECT count(*) <= 4 AS few, count(*) FILTER (WHERE folded_at IS NULL) <= 2 AS open FROM ordflow.stock_segments;
SELECT * FROM figures;
SELECT * FROM ordflow.audit();

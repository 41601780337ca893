-- stock_levels is what the caller's snapshot sees; available_stock() is what may be promised now.
CREATE TEMP VIEW figures AS
SELECT l.location, l.on_hand, l.reserved, l.available, ordflow.available_stock(l.sku, l.location) AS now
FROM ordflow.stock_levels l WHERE sku = 'levels' ORDER BY location;

SELECT ordflow.receive_stock('levels', 10);
SELECT ordflow.receive_stock('levels', 5, 'north');
SELECT ordflow.set_stock('levels', 0, 'opened', 'south');
SELECT * FROM figures;

-- own changes that are not committed are seen, and gone when rolled back
BEGIN;
SELECT ordflow.adjust_stock('levels', -4, 'broken');
SELECT ordflow.reserve_stock('levels-1', '[{"sku": "levels", "quantity": 2, "location": "north"}]');
SELECT * FROM figures;
SAVEPOINT a;
SELECT ordflow.receive_stock('levels', 7, 'south');
SELECT * FROM figures;
ROLLBACK TO a;
SELECT * FROM figures;
ROLLBACK;
SELECT * FROM figures;

-- a transaction with one snapshot: what it has begun with, and its own changes
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM figures;
SELECT ordflow.submit_order('c', '[{"sku": "levels", "quantity": 3, "unit_price": 2}]') AS id \gset
SELECT * FROM figures;
COMMIT;
SELECT ordflow.pay_order(:id, 'bank', 'levels', 6);
SELECT ordflow.ship_order(:id, 'post', 'levels', '[{"line": 1, "quantity": 2}]');
SELECT * FROM figures;
SELECT ordflow.refund_order(:id, '[{"line": 1, "quantity": 3}]') IS NOT NULL AS refunded;
SELECT * FROM figures;

-- a hold that has expired is reserved until it is swept, but its units may be promised
SELECT ordflow.reserve_stock('levels-2', '[{"sku": "levels", "quantity": 4, "location": "north"}]',
                             clock_timestamp() + interval '50 ms');
SELECT pg_sleep(0.06);
SELECT * FROM figures;
SELECT ordflow.run_due() \g /dev/null
SELECT * FROM figures;

-- the same in the ledger and in the balances
SELECT ordflow.fold_stock() \g /dev/null
SELECT ordflow.fold_stock() \g /dev/null
SELECT * FROM figures;
SELECT location, on_hand, reserved FROM ordflow.stock WHERE sku = 'levels' ORDER BY location;
SELECT * FROM ordflow.audit();

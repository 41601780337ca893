-- Columns, constraints and publications that the owner puts on ordflow.stock hold for sales too, which are written past the executor.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
SET client_min_messages = error;
BEGIN;
SELECT ordflow.receive_stock('sown_col', 10), ordflow.receive_stock('sown_col2', 10);
ALTER TABLE ordflow.stock ADD COLUMN shelf text DEFAULT 'A1', ADD COLUMN gone int,
  ADD COLUMN low boolean GENERATED ALWAYS AS (available < 5) STORED,
  ADD COLUMN label text GENERATED ALWAYS AS (sku || ': ' || available) STORED;
ALTER TABLE ordflow.stock DROP COLUMN gone;
ALTER TABLE ordflow.stock ADD CONSTRAINT own CHECK (sku <> 'sown_col' OR available > 1);
CREATE INDEX own ON ordflow.stock (label) WHERE low;
CREATE FUNCTION pg_temp.sell(quantity int) RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.submit_order('sown', jsonb_build_array(jsonb_build_object('sku', 'sown_col', 'quantity', quantity, 'unit_price', 1),
  jsonb_build_object('sku', 'sown_col2', 'quantity', quantity, 'unit_price', 1))) $$;
CREATE FUNCTION pg_temp.look() RETURNS TABLE (sku text, available bigint, shelf text, low boolean, label text) LANGUAGE sql AS $$
SELECT sku, available, shelf, low, label FROM ordflow.stock WHERE sku ~ '^sown_col' ORDER BY sku $$;
SELECT pg_temp.sell(6) AS o \gset
SELECT * FROM pg_temp.look();
SET LOCAL enable_seqscan = off;
SELECT sku FROM ordflow.stock WHERE low AND label = 'sown_col: 4';
RESET enable_seqscan;

-- the constraint refuses what a plain UPDATE may not do either
SELECT pg_temp.sell(3);
SELECT ordflow.reserve_stock('sown_col', '[{"sku": "sown_col", "quantity": 3}]');
UPDATE ordflow.stock SET available = 1 WHERE sku = 'sown_col';
SELECT pg_temp.sell(2) IS NOT NULL, ordflow.cancel_order(:o);
SELECT * FROM pg_temp.look();
SELECT * FROM ordflow.audit();

-- a publication whose filter asks for a column that the log does not hold; one that asks for the key
ALTER TABLE ordflow.stock DROP CONSTRAINT own, DROP COLUMN low, DROP COLUMN label;
CREATE PUBLICATION regress_own FOR TABLE ordflow.stock WHERE (available < 5000);
UPDATE ordflow.stock SET available = available WHERE sku = 'sown_col';
SELECT ordflow.submit_order('sown', '[{"sku": "sown_col", "quantity": 1, "unit_price": 1}]');
SELECT pg_temp.sell(1);
ALTER PUBLICATION regress_own SET TABLE ordflow.stock WHERE (stock_id > 0);
SELECT pg_temp.sell(1) IS NOT NULL;
SELECT sku, available FROM ordflow.stock WHERE sku ~ '^sown_col' ORDER BY sku;
-- the same for orders
ALTER PUBLICATION regress_own SET TABLE ordflow.orders WHERE (state <> 'cancelled');
SELECT ordflow.cancel_order(order_id) FROM ordflow.orders WHERE customer = 'sown' AND state = 'pending_payment' ORDER BY 1 LIMIT 1;
DROP PUBLICATION regress_own;
SELECT * FROM ordflow.audit();
ROLLBACK;

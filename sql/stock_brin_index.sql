-- An index that only sums up (BRIN, from PostgreSQL 16 on) on a column that sales change: the other indexes of ordflow.stock get no entry
-- into the middle of a row's versions, where later another row comes to lie.
\a \t
SET client_min_messages = error;
SELECT ordflow.receive_stock('sbrin', 1000);
CREATE INDEX sbrin ON ordflow.stock USING brin (available);
DO $$
BEGIN
  FOR n IN 1 .. 200 LOOP
    PERFORM ordflow.submit_order('sbrin', '[{"sku": "sbrin", "quantity": 1, "unit_price": 1}]');
    COMMIT;
  END LOOP;
  FOR n IN 1 .. 200 LOOP
    PERFORM ordflow.receive_stock('sbrin ' || n, n);
    COMMIT;
  END LOOP;
END $$;
DROP INDEX ordflow.sbrin;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT sku, available FROM ordflow.stock WHERE sku = 'sbrin' AND location = 'main';
SELECT count(*) FROM ordflow.stock WHERE stock_id = (SELECT stock_id FROM ordflow.order_lines WHERE sku = 'sbrin' LIMIT 1);
SELECT ordflow.available_stock('sbrin'), ordflow.available_stock('sbrin 200');
SELECT * FROM ordflow.audit();

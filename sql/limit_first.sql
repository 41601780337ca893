-- A session that remembers that there is no limit learns of the first one, and of the last one's end.
\a \t
\set VERBOSITY sqlstate
CREATE TEMP TABLE kept AS TABLE ordflow.purchase_limits;
CREATE FUNCTION pg_temp.buy(quantity int) RETURNS boolean LANGUAGE sql AS $$
SELECT ordflow.submit_order('lfst', jsonb_build_array(jsonb_build_object('sku', 'lfst', 'quantity', quantity, 'unit_price', 1, 'stock', false))) IS NOT NULL $$;
BEGIN;
DELETE FROM ordflow.purchase_limits;
SELECT pg_temp.buy(1), pg_temp.buy(1);
SELECT ordflow.set_purchase_limit('lfst', 1);
SAVEPOINT s;
SELECT pg_temp.buy(2);
ROLLBACK TO s;
DELETE FROM ordflow.purchase_limits;
SELECT pg_temp.buy(2);
SELECT ordflow.set_purchase_limit('lfst', 1);
SAVEPOINT s;
SELECT pg_temp.buy(2);
ROLLBACK TO s;
SELECT pg_temp.buy(1);
ROLLBACK;

-- taken back with the transaction, it is forgotten; truncated as well
SELECT count(*) FROM ordflow.purchase_limits WHERE sku = 'lfst';
BEGIN;
TRUNCATE ordflow.purchase_limits;
SELECT pg_temp.buy(3);
SET LOCAL session_replication_role = replica;
INSERT INTO ordflow.purchase_limits (sku, per_customer) VALUES ('lfst', 2);
SELECT pg_temp.buy(3);
ROLLBACK;
SELECT count(*) = (SELECT count(*) FROM kept) FROM ordflow.purchase_limits;

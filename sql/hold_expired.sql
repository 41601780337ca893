-- An expired hold never blocks a sale: its units are taken back by whoever needs them, before anybody has swept it.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('hexp', 10), ordflow.receive_stock('hexp2', 10);
CREATE FUNCTION pg_temp.hold(ref text, quantity int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM ordflow.reserve_stock(ref, jsonb_build_array(jsonb_build_object('sku', 'hexp', 'quantity', quantity),
    jsonb_build_object('sku', 'hexp2', 'quantity', quantity)), clock_timestamp() + interval '1 h');
  UPDATE ordflow.holds SET expires_at = clock_timestamp() - interval '1 us' WHERE reference = ref;
END $$;
SELECT pg_temp.hold('hexp 1', 4);
SELECT pg_temp.hold('hexp 2', 4);
SELECT ordflow.reserve_stock('hexp live', '[{"sku": "hexp", "quantity": 1}]', clock_timestamp() + interval '1 h');
SELECT sku, reserved, available FROM ordflow.stock_levels WHERE sku ~ '^hexp' ORDER BY 1;

-- a quote counts them in; a sale of what is free at once leaves them alone
SELECT ordflow.quote_order('hexp', '[{"sku": "hexp", "quantity": 9, "unit_price": 1}]') #> '{lines,0,available}';
SELECT ordflow.submit_order('hexp', '[{"sku": "hexp", "quantity": 1, "unit_price": 1}]') IS NOT NULL;
SELECT reference, state FROM ordflow.holds WHERE reference ~ '^hexp' ORDER BY 1;
-- a sale of more takes them, of both skus, and not the one that lives
SELECT ordflow.submit_order('hexp', '[{"sku": "hexp", "quantity": 7, "unit_price": 1}, {"sku": "hexp2", "quantity": 1, "unit_price": 1}]') IS NOT NULL;
SELECT reference, state, ended_at IS NOT NULL AS ended FROM ordflow.holds WHERE reference ~ '^hexp' ORDER BY 1;
SELECT sku, reserved, available FROM ordflow.stock_levels WHERE sku ~ '^hexp' ORDER BY 1;
SELECT ordflow.submit_order('hexp', '[{"sku": "hexp", "quantity": 2, "unit_price": 1}]');

-- another hold, several orders in bulk
SELECT pg_temp.hold('hexp 3', 1);
SELECT ordflow.reserve_stock('hexp 4', '[{"sku": "hexp", "quantity": 1}]');
SELECT ordflow.release_stock('hexp 4');
SELECT pg_temp.hold('hexp 6', 1);
SELECT result FROM ordflow.submit_orders('[{"lines": [{"sku": "hexp2", "quantity": 4, "unit_price": 1}]},
  {"lines": [{"sku": "hexp2", "quantity": 5, "unit_price": 1}, {"sku": "hexp", "quantity": 1, "unit_price": 1}]},
  {"lines": [{"sku": "hexp2", "quantity": 1, "unit_price": 1}]}]');
SELECT sku, reserved, available FROM ordflow.stock_levels WHERE sku ~ '^hexp' ORDER BY 1;
SELECT reference, state FROM ordflow.holds WHERE reference ~ '^hexp [3-6]' ORDER BY 1;

SELECT * FROM ordflow.audit();
ROLLBACK;

-- OF002 and OF004: the DETAIL is JSON that names every offending line, and nothing is taken.
\a \t
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE FUNCTION pg_temp.refused(sql text) RETURNS TABLE (state text, problem jsonb) LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
  EXECUTE sql;
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
  RETURN QUERY SELECT SQLSTATE, value FROM jsonb_array_elements(detail::jsonb);
END $$;
SELECT ordflow.receive_stock('sins a', 5), ordflow.receive_stock('sins b', 1), ordflow.receive_stock('sins c', 9);

-- an order: two of four lines, each with what is available
SELECT * FROM pg_temp.refused($$ SELECT ordflow.submit_order('sins', '[
  {"sku": "sins a", "quantity": 4, "unit_price": 1}, {"sku": "sins b", "quantity": 2, "unit_price": 1},
  {"sku": "sins c", "quantity": 9, "unit_price": 1}, {"sku": "sins a", "quantity": 2, "unit_price": 1}]') $$);

-- unknown ones beside those that are short
SELECT problem FROM pg_temp.refused($$ SELECT ordflow.submit_order('sins', '[
  {"sku": "sins x", "quantity": 1, "unit_price": 1}, {"sku": "sins a", "quantity": 6, "unit_price": 1},
  {"sku": "sins a", "quantity": 1, "unit_price": 1, "location": "moon"}]') $$);

-- a hold, an adjustment
SELECT * FROM pg_temp.refused($$ SELECT ordflow.reserve_stock('sins', '[
  {"sku": "sins b", "quantity": 1}, {"sku": "sins a", "quantity": 6}, {"sku": "sins b", "quantity": 1}]') $$);
SELECT * FROM pg_temp.refused($$ SELECT ordflow.reserve_stock('sins', '[{"sku": "sins x", "quantity": 1}, {"sku": "sins b", "quantity": 2}]') $$);
SELECT * FROM pg_temp.refused($$ SELECT ordflow.adjust_stock('sins b', -2, 'x') $$);
SELECT * FROM pg_temp.refused($$ SELECT ordflow.adjust_stock('sins x', -2, 'x') $$);
SELECT * FROM pg_temp.refused($$ SELECT ordflow.submit_order('sins', '[{"sku": "sins x", "quantity": 1, "unit_price": 1}]') $$);

-- in bulk the same JSON is in the row
SELECT result, value FROM ordflow.submit_orders('[{"customer": "sins", "lines": [{"sku": "sins a", "quantity": 6, "unit_price": 1},
  {"sku": "sins b", "quantity": 2, "unit_price": 1}]}]'), jsonb_array_elements(detail);
SELECT sku, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku ~ '^sins' ORDER BY sku;
SELECT count(*) FROM ordflow.holds WHERE reference = 'sins';
SELECT count(*) FROM ordflow.stock_movements JOIN ordflow.stock USING (stock_id) WHERE sku ~ '^sins' AND kind <> 'received';
SELECT * FROM ordflow.audit();
ROLLBACK;

-- set_stock: an ERP's absolute figure, booked as the difference.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.set_stock('sset', 20, 'stocktaking');
SELECT ordflow.set_stock('sset', 12, 'stocktaking');
SELECT ordflow.set_stock('sset', 12, 'again');
SELECT ordflow.set_stock('sset', 0, 'new location', 'shop');
SELECT location, kind, m.on_hand, m.reserved, reason FROM ordflow.stock_movements m JOIN ordflow.stock USING (stock_id)
WHERE sku = 'sset' ORDER BY movement_id;
SELECT location, on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sset' ORDER BY location;

-- reserved units are on hand: the figure may not go below them
SELECT ordflow.reserve_stock('sset', '[{"sku": "sset", "quantity": 5}]');
SELECT ordflow.set_stock('sset', 4, 'too low');
SELECT ordflow.set_stock('sset', 5, 'as low as it goes');
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sset' AND location = 'main';
SELECT ordflow.set_stock('sset', 30, 'up');
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sset' AND location = 'main';

-- the detail names what would be missing
CREATE FUNCTION pg_temp.detail() RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
  PERFORM ordflow.set_stock('sset', 2, 'too low');
EXCEPTION WHEN SQLSTATE 'OF002' THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
  RETURN detail;
END $$;
SELECT pg_temp.detail();

-- units of expired holds do not stand in the way, and are given back
UPDATE ordflow.holds SET expires_at = clock_timestamp() WHERE reference = 'sset';
SELECT ordflow.set_stock('sset', 2, 'hold expired');
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'sset' AND location = 'main';
SELECT state FROM ordflow.holds WHERE reference = 'sset';
SELECT * FROM ordflow.audit();
ROLLBACK;

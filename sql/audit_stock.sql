-- audit() on damaged stock, movements and holds.
\a \t
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('aus', 10), ordflow.receive_stock('aus2', 10);
SELECT ordflow.reserve_stock('aus', '[{"sku": "aus", "quantity": 3}, {"sku": "aus2", "quantity": 1}]');
SELECT ordflow.reserve_stock('aus done', '[{"sku": "aus", "quantity": 2}]'), ordflow.commit_stock('aus done');
SELECT ordflow.submit_order('aus', '[{"sku": "aus", "quantity": 1, "unit_price": 5}]') AS o \gset
SELECT * FROM ordflow.audit();
CREATE FUNCTION pg_temp.damage(sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE found text[];
BEGIN
  EXECUTE sql;
  SELECT array_agg(check_name || ': ' || regexp_replace(object, '(stock row|segment) \d+', 'N') ORDER BY check_name, object) INTO found
  FROM ordflow.audit() WHERE object ~ '^aus|^stock row|^segment';
  RAISE EXCEPTION USING MESSAGE = coalesce(found::text, 'nothing'), ERRCODE = 'SH099';
EXCEPTION WHEN SQLSTATE 'SH099' THEN
  RETURN NEXT SQLERRM;
END $$;
SELECT pg_temp.damage('UPDATE ordflow.stock SET on_hand = -11 WHERE sku = ''aus2''');
SELECT pg_temp.damage('UPDATE ordflow.stock SET reserved = -5 WHERE sku = ''aus''');
SELECT pg_temp.damage('UPDATE ordflow.stock SET reserved = 10 WHERE sku = ''aus2''');
SELECT pg_temp.damage('DELETE FROM ordflow.stock_movements WHERE kind = ''received'' AND stock_id = (SELECT stock_id FROM ordflow.stock WHERE sku = ''aus2'')');
SELECT pg_temp.damage('DELETE FROM ordflow.stock_movements WHERE reference = ''aus''');
SELECT pg_temp.damage('DELETE FROM ordflow.stock_movements WHERE reference = ''aus done'' AND kind = ''shipped''');
SELECT pg_temp.damage('UPDATE ordflow.hold_lines SET quantity = quantity + 1 WHERE reference = ''aus''');
SELECT pg_temp.damage('DELETE FROM ordflow.holds WHERE reference = ''aus''');
SELECT pg_temp.damage('UPDATE ordflow.holds SET state = ''released'', ended_at = now() WHERE reference = ''aus''');
SELECT pg_temp.damage('DELETE FROM ordflow.stock WHERE sku = ''aus2''');
SELECT pg_temp.damage('UPDATE ordflow.stock SET reserved = reserved + 1 WHERE sku = ''aus2''');
SELECT pg_temp.damage('INSERT INTO ordflow.stock_segments (segment, opened_at, folded_at) SELECT max(segment), now(), now() FROM ordflow.stock_movements
  ON CONFLICT (segment) DO UPDATE SET folded_at = now()');
SELECT pg_temp.damage('UPDATE ordflow.stock_movements SET segment = 9000000 WHERE reference = ''aus done''');
SELECT pg_temp.damage('UPDATE ordflow.stock_movements SET segment = 0 WHERE reference = ''aus done''');

-- an expired hold that nobody has swept is no finding
UPDATE ordflow.holds SET expires_at = clock_timestamp() WHERE reference = 'aus';
SELECT * FROM ordflow.audit();
SELECT ordflow.audit('2001-01-01') IS NOT NULL;
ROLLBACK;

-- stock that is wrong stops no sale of what is there, and none above it
\set VERBOSITY sqlstate
SELECT ordflow.receive_stock('aus3', 10), ordflow.receive_stock('aus4', 10);
UPDATE ordflow.stock SET on_hand = -8 WHERE sku = 'aus3';
SELECT ordflow.reserve_stock('aus3', '[{"sku": "aus3", "quantity": 2}]');
SELECT ordflow.reserve_stock('aus3 more', '[{"sku": "aus3", "quantity": 1}]');
SELECT * FROM ordflow.audit();
UPDATE ordflow.stock SET on_hand = -11 WHERE sku = 'aus3';
SELECT ordflow.reserve_stock('aus3 more', '[{"sku": "aus3", "quantity": 1}]');
SELECT ordflow.reserve_stock('aus4', '[{"sku": "aus4", "quantity": 10}]');
SELECT ordflow.available_stock('aus3'), ordflow.available_stock('aus4');
SELECT check_name, object, detail FROM ordflow.audit();
-- what comes in, or back, makes good for it first
SELECT ordflow.receive_stock('aus3', 2), ordflow.release_stock('aus3');
SELECT ordflow.reserve_stock('aus3 more', '[{"sku": "aus3", "quantity": 2}]');
SELECT ordflow.reserve_stock('aus3 more', '[{"sku": "aus3", "quantity": 1}]');
SELECT * FROM ordflow.audit();

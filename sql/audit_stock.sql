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
  SELECT array_agg(check_name || ': ' || regexp_replace(object, '\d{2,}|stock row \d+', 'N') ORDER BY check_name, object) INTO found
  FROM ordflow.audit() WHERE object ~ '^aus|^stock row';
  RAISE EXCEPTION USING MESSAGE = coalesce(found::text, 'nothing'), ERRCODE = 'SH099';
EXCEPTION WHEN SQLSTATE 'SH099' THEN
  RETURN NEXT SQLERRM;
END $$;
SELECT pg_temp.damage('UPDATE ordflow.stock SET available = available + 1 WHERE sku = ''aus''');
SELECT pg_temp.damage('UPDATE ordflow.stock SET on_hand = 1 WHERE sku = ''aus''');
SELECT pg_temp.damage('UPDATE ordflow.stock SET reserved = 1 WHERE sku = ''aus2''');
SELECT pg_temp.damage('UPDATE ordflow.stock SET on_hand = -11, available = available - 11 WHERE sku = ''aus2''');
SELECT pg_temp.damage('UPDATE ordflow.stock SET reserved = -5, available = available + 5 WHERE sku = ''aus''');
SELECT pg_temp.damage('DELETE FROM ordflow.stock_movements WHERE kind = ''received'' AND stock_id = (SELECT stock_id FROM ordflow.stock WHERE sku = ''aus2'')');
SELECT pg_temp.damage('DELETE FROM ordflow.stock_movements WHERE reference = ''aus''');
SELECT pg_temp.damage('DELETE FROM ordflow.stock_movements WHERE reference = ''aus done'' AND kind = ''shipped''');
SELECT pg_temp.damage('UPDATE ordflow.hold_lines SET quantity = quantity + 1 WHERE reference = ''aus''');
SELECT pg_temp.damage('DELETE FROM ordflow.holds WHERE reference = ''aus''');
SELECT pg_temp.damage('UPDATE ordflow.holds SET state = ''released'', ended_at = now() WHERE reference = ''aus''');
SELECT pg_temp.damage('DELETE FROM ordflow.stock WHERE sku = ''aus2''');
SELECT pg_temp.damage('INSERT INTO ordflow.stock_segments VALUES (1, true)');

-- an expired hold that nobody has swept is no finding
UPDATE ordflow.holds SET expires_at = clock_timestamp() WHERE reference = 'aus';
SELECT * FROM ordflow.audit();

-- stock that is wrong stops no sale of what is there, and none above it
UPDATE ordflow.stock SET available = 2 WHERE sku = 'aus2';
UPDATE ordflow.holds SET expires_at = NULL WHERE reference = 'aus';
SELECT ordflow.submit_order('aus', '[{"sku": "aus2", "quantity": 2, "unit_price": 5}]') IS NOT NULL;
\set VERBOSITY sqlstate
SELECT ordflow.submit_order('aus', '[{"sku": "aus2", "quantity": 1, "unit_price": 5}]');
SELECT check_name, object, detail FROM ordflow.audit();
SELECT ordflow.audit('2001-01-01') IS NOT NULL;
ROLLBACK;

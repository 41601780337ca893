-- Wrong rows in the ledger stop no fold: they are written, and found by audit(). Once they are mended
-- all is well.
CREATE FUNCTION pg_temp.write(sku text, on_hand bigint, reserved bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO ordflow.stock_movements (segment, stock_id, kind, on_hand, reserved, actor, at)
    SELECT COALESCE((SELECT max(g.segment) FROM ordflow.stock_segments g), 1), s.stock_id, 'adjusted', write.on_hand, write.reserved,
           'test', clock_timestamp()
    FROM ordflow.stock s WHERE s.sku = write.sku
$$;
SELECT ordflow.receive_stock('fold-wrong-' || g, 10) FROM generate_series(1, 3) g;
SELECT pg_temp.write('fold-wrong-1', -15, 0) \g /dev/null
SELECT pg_temp.write('fold-wrong-2', 9223372036854775807, 0) FROM generate_series(1, 3) \g /dev/null
SELECT pg_temp.write('fold-wrong-3', -1, -1) FROM generate_series(1, 3) \g /dev/null
INSERT INTO ordflow.stock_movements (segment, stock_id, kind, on_hand, reserved, actor, at)
SELECT COALESCE((SELECT max(g.segment) FROM ordflow.stock_segments g), 1), 999999999, 'adjusted', 1, 0, 'test', clock_timestamp();

SELECT ordflow.fold_stock() \g /dev/null
SELECT ordflow.fold_stock() >= 11 AS folded;
SELECT sku, on_hand, reserved FROM ordflow.stock WHERE sku ~ '^fold-wrong' ORDER BY sku;
SELECT check_name, regexp_replace(object, '\d{2,}$|(?<=stock row )\d+', 'N') AS object FROM ordflow.audit() ORDER BY 1, 2;

-- what is not there is not sold
\set VERBOSITY sqlstate
SELECT ordflow.reserve_stock('fold-wrong', '[{"sku": "fold-wrong-1", "quantity": 1}]');
SELECT ordflow.receive_stock('fold-wrong-2', 1);
\set VERBOSITY default

DELETE FROM ordflow.stock_movements m WHERE m.actor = 'test';
UPDATE ordflow.stock SET on_hand = 10, reserved = 0 WHERE sku ~ '^fold-wrong';
SELECT sku, ordflow.available_stock(sku) FROM ordflow.stock WHERE sku ~ '^fold-wrong' ORDER BY sku;

-- a movement in a segment that was never opened is found
SELECT COALESCE(max(g.segment), 1) + 5 AS segment FROM ordflow.stock_segments g \gset
INSERT INTO ordflow.stock_movements (segment, stock_id, kind, on_hand, reserved, actor, at)
SELECT :segment, s.stock_id, 'adjusted', 1, 0, 'test', clock_timestamp() FROM ordflow.stock s WHERE s.sku = 'fold-wrong-1';
SELECT check_name, detail FROM ordflow.audit();
DELETE FROM ordflow.stock_movements m WHERE m.actor = 'test';
SELECT * FROM ordflow.audit();

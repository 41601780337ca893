-- quote_order counts what other customers hold as gone, and the units of an expired hold as available.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('quote_holds', 10);
SELECT ordflow.reserve_stock('quote_holds 1', '[{"sku": "quote_holds", "quantity": 4}]');
CREATE FUNCTION pg_temp.available() RETURNS text LANGUAGE sql AS $$
SELECT q->'lines'->0->>'available' || ' ' || jsonb_array_length(q->'problems')
FROM ordflow.quote_order(NULL, '[{"sku": "quote_holds", "quantity": 7, "unit_price": 1}]') q $$;
SELECT pg_temp.available();
UPDATE ordflow.holds SET expires_at = clock_timestamp() - interval '1 microsecond' WHERE reference = 'quote_holds 1';
SELECT pg_temp.available(), ordflow.available_stock('quote_holds');
SELECT ordflow.submit_order(NULL, '[{"sku": "quote_holds", "quantity": 7, "unit_price": 1}]') > 0 AS sold;
SELECT pg_temp.available(), ordflow.available_stock('quote_holds');
SELECT * FROM ordflow.audit(:'began');

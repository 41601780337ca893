-- A price is a finite number, not negative, of at most 15 digits before and 10 after its point; all else changes nothing.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.fingerprint() AS before \gset
CREATE FUNCTION pg_temp.answers(price text) RETURNS TABLE (submit text, quote text, bulk text, sqlstate text) LANGUAGE sql AS $$
SELECT pg_temp.try(format('SELECT ordflow.submit_order(NULL, %L)', lines)),
    pg_temp.try(format('SELECT ordflow.quote_order(NULL, %L)', lines)),
    (SELECT s.result FROM ordflow.submit_orders(jsonb_build_array(jsonb_build_object('lines', lines::jsonb))) s),
    (SELECT s.detail->0->>'sqlstate' FROM ordflow.submit_orders(jsonb_build_array(jsonb_build_object('lines', lines::jsonb))) s)
FROM format('[{"sku": "s", "stock": false, "quantity": 1, "unit_price": %s}]', price) AS lines
$$;
SELECT p, a.* FROM unnest(ARRAY['-1', '-0.0000000001', '"-1"', '"NaN"', '"nan"', '"Infinity"', '"-Infinity"', '"inf"',
    '1000000000000000', '1e15', '1e131071', '123456789012345678901234567890', '"123456789012345678901234567890"',
    '0.123456789012345678901234567890', '0.00000000001', '1e-16383', '"1e5"', '"1,000"', '" 1"', '"1 "', '"+"', '"."', '"-"', '""',
    '"0x10"', '"１"', '"1.2.3"', '"ten"', 'true', 'null', '[]', '{}']) p, pg_temp.answers(p) a;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- what is a price
SELECT p, ordflow.quote_order(NULL, format('[{"sku": "s", "stock": false, "quantity": 1, "unit_price": %s}]', p)::jsonb)
    ->>'payable' AS payable
FROM unnest(ARRAY['0', '-0', '"-0"', '"+1"', '"1."', '".5"', '1e2', '0.0000000001', '9999999999999.9900000000', '"000000000000000000001"',
    '1.100000000000000000000000']) p;
SELECT ordflow.quote_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 999999999999999.9999999999}]',
    currency => 'JPY')->>'payable' AS payable;
SELECT * FROM ordflow.audit(:'began');

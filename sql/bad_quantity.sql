-- A quantity is a whole number from 1 to 1,000,000,000,000; anything else is refused and changes nothing.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bad_quantity', 100);
SELECT pg_temp.sell('bad_quantity sold', 'pending_shipment') AS id \gset
SELECT pg_temp.fingerprint() AS before \gset
CREATE FUNCTION pg_temp.answers(quantity text)
RETURNS TABLE (submit text, quote text, ship text, refund text, reserve text) LANGUAGE sql AS $$
SELECT pg_temp.try(format('SELECT ordflow.submit_order(NULL, ''[{"sku": "bad_quantity", "quantity": %s, "unit_price": 1}]'')', quantity)),
    pg_temp.try(format('SELECT ordflow.quote_order(NULL, ''[{"sku": "bad_quantity", "quantity": %s, "unit_price": 1}]'')', quantity)),
    pg_temp.try(format('SELECT ordflow.ship_order(%s, ''c'', ''t'', ''[{"line": 1, "quantity": %s}]'')', id, quantity)),
    pg_temp.try(format('SELECT ordflow.refund_order(%s, ''[{"line": 1, "quantity": %s}]'')', id, quantity)),
    pg_temp.try(format('SELECT ordflow.reserve_stock(''bad_quantity'', ''[{"sku": "bad_quantity", "quantity": %s}]'')', quantity))
FROM ordflow.orders o (id) WHERE customer = 'bad_quantity sold'
$$;
SELECT q, a.* FROM unnest(ARRAY['-1', '0', '-0', '0.5', '1.5', '1.0000000001', '0.9999999999', '1e-20', '1e-16383', '1000000000001',
    '2147483648000000', '9223372036854775807', '9223372036854775808', '18446744073709551617', '1e30', '1e131071', '-1e131071',
    '"1"', '"one"', 'true', 'null', '[]', '{}']) q, pg_temp.answers(q) a;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- quantities that overflow together: two lines of one sku, each of them possible
SELECT pg_temp.try($$SELECT ordflow.submit_order(NULL, '[{"sku": "bad_quantity", "quantity": 1000000000000, "unit_price": 0},
    {"sku": "bad_quantity", "quantity": 1000000000000, "unit_price": 0}]')$$);
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- the largest, and a whole number however it is written
SELECT q, ordflow.quote_order(NULL, format('[{"sku": "s", "stock": false, "quantity": %s, "unit_price": 0.01}]', q)::jsonb)
    ->'payable' AS payable
FROM unnest(ARRAY['1000000000000', '1e12', '2.0', '1.0000000000000000000000']) q;
SELECT * FROM ordflow.audit(:'began');

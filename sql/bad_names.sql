-- Names that nobody knows: sku, location, coupon, order, refund, line. OF004, and nothing changed.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bad_names', 10);
SELECT pg_temp.sell('bad_names sold', 'pending_shipment') AS id \gset
SELECT pg_temp.fingerprint() AS before \gset
CREATE FUNCTION pg_temp.submit(line jsonb, coupon text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
SELECT pg_temp.try(format('SELECT ordflow.submit_order(NULL, %L, %L)',
    jsonb_build_array('{"quantity": 1, "unit_price": 1}' || line), coupon)) $$;
SELECT pg_temp.submit('{"sku": "bad_names unknown"}') AS sku, pg_temp.submit('{"sku": "Bad_names"}') AS capital,
    pg_temp.submit('{"sku": "bad_names "}') AS blank, pg_temp.submit('{"sku": "bad_names", "location": "east"}') AS location,
    pg_temp.submit('{"sku": "bad_names"}', 'unknown') AS coupon;
SELECT c, string_agg(pg_temp.try('SELECT ' || replace(c, '(0', '(' || o)), ' ')
FROM unnest('{0,-1,9223372036854775807}'::text[]) o, unnest(ARRAY[
    'ordflow.add_charge(0, ''x'', 1)', 'ordflow.ship_order(0, ''c'', ''t'')', 'ordflow.confirm_order(0)', 'ordflow.cancel_order(0)',
    'ordflow.expire_order(0)', 'ordflow.extend_order(0, ''1 day'')', 'ordflow.refund_order(0)', 'ordflow.refund_done(0, ''r'')',
    'ordflow.refund_failed(0, ''e'')', 'ordflow.release_refund(0)', 'count(*) FROM ordflow.available_events(0)']) c
GROUP BY c ORDER BY c COLLATE "C";
SELECT pg_temp.try('SELECT ordflow.order_id(''bad_names'')') AS order_no,
    pg_temp.try(format('SELECT ordflow.ship_order(%s, ''c'', ''t'', ''[{"line": 2, "quantity": 1}]'')', :id)) AS ship,
    pg_temp.try(format('SELECT ordflow.ship_order(%s, ''c'', ''t'', ''[{"line": 1000000000000, "quantity": 1}]'')', :id)) AS ship,
    pg_temp.try(format('SELECT ordflow.refund_order(%s, ''[{"line": 2147483648, "quantity": 1}]'')', :id)) AS refund,
    pg_temp.try(format('SELECT ordflow.refund_order(%s, ''[{"line": 2, "quantity": 1}]'')', :id)) AS refund;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
SELECT * FROM ordflow.audit(:'began');

-- A repeat returns its order also when its coupon could not be used any more: nothing is decided anew.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
CREATE TABLE pg_temp.orders AS
SELECT c, 'submit_repeat_after ' || c AS code, ordflow.create_coupon('submit_repeat_after ' || c, 'percent', 50,
    '{"usage_limit": 1, "per_customer": 1, "max_discount": 4}') > 0 AS coupon, 0::bigint AS id
FROM unnest(ARRAY['used up', 'disabled', 'expired', 'dearer', 'worth more', 'gone']) c;
CREATE FUNCTION pg_temp.submit(code text, price int DEFAULT 10) RETURNS text LANGUAGE sql AS $$
SELECT pg_temp.try(format('SELECT ordflow.submit_order(''submit_repeat_after'', %L, %L, %2$L,
    charges => ''[{"code": "points", "amount": -6}]'')',
    jsonb_build_array(jsonb_build_object('sku', 'x', 'stock', false, 'quantity', 1, 'unit_price', price)), code)) $$;
UPDATE orders SET id = pg_temp.submit(code)::bigint;
SELECT ordflow.alter_coupon('submit_repeat_after disabled', '{"enabled": false}'),
    ordflow.alter_coupon('submit_repeat_after expired', '{"valid_until": "2020-01-01"}'),
    ordflow.alter_coupon('submit_repeat_after dearer', '{"min_total": 100}'),
    ordflow.alter_coupon('submit_repeat_after worth more', '{"max_discount": 5}');
UPDATE ordflow.coupons SET code = 'submit_repeat_after another code' WHERE code = 'submit_repeat_after gone';
SELECT pg_temp.fingerprint() AS before \gset
SELECT c, pg_temp.submit(code) = id::text AS same FROM orders;
-- one with other lines is a conflict, not a matter of the coupon
SELECT c, pg_temp.submit(code, 11) FROM orders;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- in bulk the same
CREATE FUNCTION pg_temp.bulk(price int) RETURNS TABLE (c text, result text, same boolean, problem text) LANGUAGE sql AS $$
SELECT o.c, s.result, s.order_id = o.id, jsonb_path_query_array(s.detail, '$.problem')::text
FROM pg_temp.orders o, ordflow.submit_orders(jsonb_build_array(jsonb_build_object('customer', 'submit_repeat_after', 'coupon', o.code,
    'lines', jsonb_build_array(jsonb_build_object('sku', 'x', 'stock', false, 'quantity', 1, 'unit_price', price)),
    'idempotency_key', o.code, 'charges', '[{"code": "points", "amount": -6}]'::jsonb))) s $$;
SELECT * FROM pg_temp.bulk(10);
SELECT * FROM pg_temp.bulk(11);
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- a first submit is still refused for the coupon
SELECT pg_temp.try($$SELECT ordflow.submit_order('submit_repeat_after', '[{"sku": "x", "stock": false, "quantity": 1, "unit_price": 1}]',
    'submit_repeat_after disabled', 'another key')$$);
UPDATE ordflow.coupons SET code = 'submit_repeat_after gone' WHERE code = 'submit_repeat_after another code';
SELECT * FROM ordflow.audit(:'began');

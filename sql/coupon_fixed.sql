-- A fixed coupon takes its amount off, never more than the lines in its scope come to.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('cfix', 100);
SELECT ordflow.create_coupon('cfix', 'fixed', 5) AS c \gset
SELECT coupon_id = :c, kind, value, currency, min_total, max_discount, valid_from, valid_until, usage_limit, per_customer, customer, skus, enabled, revision
FROM ordflow.coupons WHERE code = 'cfix';
CREATE FUNCTION pg_temp.sell(price numeric, coupon text, charges jsonb DEFAULT '[]', currency text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
WITH s AS MATERIALIZED (SELECT ordflow.submit_order('cfix', jsonb_build_array(jsonb_build_object('sku', 'cfix', 'quantity', 1, 'unit_price', price)),
  coupon, charges => charges, currency => currency) AS id)
SELECT id::text FROM s $$;
CREATE FUNCTION pg_temp.money(id text) RETURNS text LANGUAGE sql
AS $$ SELECT concat_ws(' | ', subtotal, discount, charges, payable, state, coupon) FROM ordflow.orders WHERE order_id = id::bigint $$;
SELECT pg_temp.sell(12.34, 'cfix') AS o \gset
SELECT pg_temp.money(:'o');
SELECT pg_temp.sell(5, 'cfix') AS o \gset
SELECT pg_temp.money(:'o');

-- more than the goods: charges are not discounted; nothing to pay goes straight to shipment, its coupon used
SELECT pg_temp.sell(3, 'cfix', '[{"code": "shipping", "amount": 2}]') AS o \gset
SELECT pg_temp.money(:'o');
SELECT pg_temp.sell(3, 'cfix') AS o \gset
SELECT pg_temp.money(:'o');
SELECT state FROM ordflow.coupon_redemptions WHERE order_id = :o;
SELECT pg_temp.sell(0, 'cfix') AS o \gset
SELECT pg_temp.money(:'o');

-- a coupon in another currency, in one without minor units, in one with three
SELECT pg_temp.sell(12, 'cfix', '[]', 'EUR');
SELECT ordflow.create_coupon('cfix yen', 'fixed', 150, '{"currency": "JPY"}') IS NOT NULL;
SELECT ordflow.create_coupon('cfix kwd', 'fixed', 0.125, '{"currency": "KWD"}') IS NOT NULL;
SELECT pg_temp.sell(1000, 'cfix yen', '[]', 'JPY') AS o \gset
SELECT pg_temp.money(:'o');
SELECT pg_temp.sell(1.5, 'cfix kwd', '[]', 'KWD') AS o \gset
SELECT pg_temp.money(:'o');
SET LOCAL ordflow.currency = 'JPY';
SELECT ordflow.create_coupon('cfix half', 'fixed', 0.5);
SELECT ordflow.create_coupon('cfix one', 'fixed', 1) IS NOT NULL;
SELECT currency FROM ordflow.coupons WHERE code = 'cfix one';
SELECT * FROM ordflow.audit();
ROLLBACK;

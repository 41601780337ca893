-- valid_from is the first moment of a coupon, valid_until the first moment after it.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE FUNCTION pg_temp.sell(coupon text) RETURNS boolean LANGUAGE sql AS $$
SELECT ordflow.submit_order('cval', '[{"sku": "cval", "quantity": 1, "unit_price": 10, "stock": false}]', coupon) IS NOT NULL $$;
SELECT ordflow.create_coupon('cval now', 'fixed', 1, jsonb_build_object('valid_from', clock_timestamp(), 'valid_until', clock_timestamp() + interval '1 h')) IS NOT NULL;
SELECT ordflow.create_coupon('cval soon', 'fixed', 1, jsonb_build_object('valid_from', clock_timestamp() + interval '1 h')) IS NOT NULL;
SELECT ordflow.create_coupon('cval past', 'fixed', 1, jsonb_build_object('valid_until', clock_timestamp())) IS NOT NULL;
SELECT ordflow.create_coupon('cval ever', 'fixed', 1, '{"valid_from": "-infinity", "valid_until": "infinity"}') IS NOT NULL;
SELECT pg_temp.sell('cval now'), pg_temp.sell('cval ever');
SELECT pg_temp.sell('cval soon');
SELECT pg_temp.sell('cval past');
SELECT code, valid_from IS NULL AS from_ever, valid_until IS NULL AS for_ever FROM ordflow.coupons WHERE code ~ '^cval' ORDER BY 1;

-- the clock counts, not the start of the transaction
SELECT ordflow.create_coupon('cval tx', 'fixed', 1, jsonb_build_object('valid_from', now() - interval '1 h', 'valid_until', now() + interval '1 us')) IS NOT NULL;
SELECT pg_sleep(0.001);
SELECT pg_temp.sell('cval tx');
SELECT ordflow.create_coupon('cval tx2', 'fixed', 1, jsonb_build_object('valid_from', now() + interval '1 us')) IS NOT NULL;
SELECT pg_temp.sell('cval tx2');

-- time zones are those of the session
SET LOCAL timezone = 'Asia/Shanghai';
SELECT ordflow.create_coupon('cval tz', 'fixed', 1, '{"valid_from": "2020-01-01", "valid_until": "2030-06-01 12:00"}') IS NOT NULL;
SELECT valid_from = '2019-12-31 16:00+00', valid_until = '2030-06-01 04:00+00' FROM ordflow.coupons WHERE code = 'cval tz';
ROLLBACK;

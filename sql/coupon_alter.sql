-- alter_coupon: the keys given change, null takes one away, all others stay; it counts up the revision.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE FUNCTION pg_temp.told() RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' | ', value, currency, 'min ' || min_total, 'max ' || max_discount, 'from ' || extract(year FROM valid_from AT TIME ZONE 'UTC'),
  'until ' || extract(year FROM valid_until AT TIME ZONE 'UTC'), 'limit ' || usage_limit, 'each ' || per_customer, customer, skus::text,
  CASE WHEN NOT enabled THEN 'off' END, 'revision ' || revision, CASE WHEN altered_at IS NOT NULL THEN 'altered' END)
FROM ordflow.coupons WHERE code = 'calt' $$;
SELECT ordflow.create_coupon('calt', 'percent', 20, '{"min_total": 5, "max_discount": "7.50", "valid_from": "2020-01-01 00:00+00",
  "valid_until": "2090-01-01 00:00+00", "usage_limit": 3, "per_customer": 2, "customer": "ada", "skus": ["a", "b"], "enabled": false}') IS NOT NULL;
SELECT pg_temp.told();
SELECT ordflow.alter_coupon('calt', '{}');
SELECT pg_temp.told();
SELECT ordflow.alter_coupon('calt', '{"enabled": true, "min_total": 6, "skus": ["c"]}');
SELECT pg_temp.told();
SELECT ordflow.alter_coupon('calt', '{"usage_limit": null, "per_customer": null, "customer": null, "valid_from": null, "valid_until": null, "skus": null}');
SELECT pg_temp.told();
SELECT ordflow.alter_coupon('calt', '{"enabled": false}'), ordflow.alter_coupon('calt', '{"enabled": null}');
SELECT pg_temp.told();
-- amounts keep it to its currency; without them and without one it is good in any
SELECT ordflow.alter_coupon('calt', '{"min_total": null, "max_discount": null}');
SELECT pg_temp.told();
SELECT ordflow.alter_coupon('calt', '{"currency": null}');
SELECT pg_temp.told();

-- refused as at creation, and then nothing changes
SELECT ordflow.alter_coupon('calt', '{"colour": "red"}');
SELECT ordflow.alter_coupon('calt', '{"usage_limit": 0}');
SELECT ordflow.alter_coupon('calt', '{"valid_from": "2020-01-01", "valid_until": "2019-01-01"}');
SELECT ordflow.alter_coupon('calt', '{"min_total": 0.001}');
SELECT ordflow.alter_coupon('calt', '{"skus": []}');
SELECT ordflow.alter_coupon('calt', '{"valid_until": "x"}');
SELECT ordflow.alter_coupon('calt', '{"code": "other"}');
SELECT ordflow.alter_coupon('calt', '[]');
SELECT ordflow.alter_coupon('calt', NULL);
SELECT ordflow.alter_coupon(NULL, '{}');
SELECT ordflow.alter_coupon('', '{}');
SELECT ordflow.alter_coupon('calt nothing', '{}');
SELECT pg_temp.told();

-- orders that were made keep what they were given
SELECT ordflow.submit_order('calt', '[{"sku": "x", "quantity": 1, "unit_price": 10, "stock": false}]', 'calt') AS o \gset
SELECT ordflow.alter_coupon('calt', '{"enabled": false, "max_discount": 1}');
SELECT ordflow.pay_order(:o, 'calt', '1', 8);
SELECT discount, state FROM ordflow.orders WHERE order_id = :o;
SELECT * FROM ordflow.audit();
ROLLBACK;

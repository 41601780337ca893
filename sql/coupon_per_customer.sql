-- per_customer: uses of one customer, each in a slot of its own; guests are refused.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE FUNCTION pg_temp.sell(customer text) RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.submit_order(customer, '[{"sku": "cpc", "quantity": 1, "unit_price": 10, "stock": false}]', 'cpc') $$;
CREATE FUNCTION pg_temp.told() RETURNS SETOF text LANGUAGE sql AS $$
SELECT concat_ws(' ', r.customer, coalesce(slot::text, '-'), state) FROM ordflow.coupon_redemptions r JOIN ordflow.coupons USING (coupon_id)
WHERE code = 'cpc' ORDER BY order_id $$;
SELECT ordflow.create_coupon('cpc', 'fixed', 1, '{"per_customer": 2}') IS NOT NULL;
SELECT pg_temp.sell('ada') AS a, pg_temp.sell('ada') AS b, pg_temp.sell('bob') AS c \gset
SELECT pg_temp.sell('ada');
SELECT pg_temp.sell('Ada') IS NOT NULL;
SELECT pg_temp.sell(NULL);
SELECT * FROM pg_temp.told();

-- the slot of a cancelled use is free again, and it is the one taken next
SELECT ordflow.cancel_order(:a);
SELECT ordflow.pay_order(:b, 'cpc', '1', 9);
SELECT pg_temp.sell('ada') IS NOT NULL;
SELECT pg_temp.sell('ada');
SELECT * FROM pg_temp.told();

-- in bulk
SELECT customer, result FROM unnest('{bob,bob,cyd}'::text[]) WITH ORDINALITY AS u (customer, ordinality)
JOIN ordflow.submit_orders('[{"customer": "bob", "coupon": "cpc", "lines": [{"sku": "cpc", "quantity": 1, "unit_price": 10, "stock": false}]},
  {"customer": "bob", "coupon": "cpc", "lines": [{"sku": "cpc", "quantity": 1, "unit_price": 10, "stock": false}]},
  {"customer": "cyd", "coupon": "cpc", "lines": [{"sku": "cpc", "quantity": 1, "unit_price": 10, "stock": false}]}]') USING (ordinality);

-- lowered, raised, taken away and set again: uses made without slots count
SELECT ordflow.alter_coupon('cpc', '{"per_customer": 1}');
SELECT pg_temp.sell('cyd');
SELECT ordflow.alter_coupon('cpc', '{"per_customer": null}');
SELECT pg_temp.sell('cyd') IS NOT NULL, pg_temp.sell('cyd') IS NOT NULL, pg_temp.sell(NULL) IS NOT NULL;
SELECT ordflow.alter_coupon('cpc', '{"per_customer": 3}');
SELECT pg_temp.sell('cyd');
SELECT ordflow.alter_coupon('cpc', '{"per_customer": 4}');
SELECT pg_temp.sell('cyd') IS NOT NULL;
SELECT pg_temp.sell('cyd');
SELECT r.customer, array_agg(slot ORDER BY slot) FROM ordflow.coupon_redemptions r JOIN ordflow.coupons USING (coupon_id)
WHERE code = 'cpc' AND slot IS NOT NULL GROUP BY 1 ORDER BY 1;

-- both limits at once: a use that one refuses is not counted by the other
SELECT ordflow.create_coupon('cpc both', 'fixed', 1, '{"per_customer": 1, "usage_limit": 2}') IS NOT NULL;
SELECT customer, result FROM unnest('{ada,ada,bob,cyd}'::text[]) WITH ORDINALITY AS u (customer, ordinality)
JOIN ordflow.submit_orders((SELECT jsonb_agg(jsonb_build_object('customer', c, 'coupon', 'cpc both',
  'lines', '[{"sku": "cpc", "quantity": 1, "unit_price": 10, "stock": false}]'::jsonb)) FROM unnest('{ada,ada,bob,cyd}'::text[]) c)) USING (ordinality);
SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'cpc both' AND state IN ('locked', 'used');
SELECT check_name, object FROM ordflow.audit();
ROLLBACK;

-- usage_limit: uses in all, unpaid orders included; what is cancelled is there again.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
SELECT ordflow.create_coupon('cuse', 'fixed', 1, '{"usage_limit": 3}') IS NOT NULL;
BEGIN;
CREATE FUNCTION pg_temp.sell(customer text) RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.submit_order(customer, '[{"sku": "cuse", "quantity": 1, "unit_price": 10, "stock": false}]', 'cuse') $$;
CREATE FUNCTION pg_temp.told() RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' ', count(*) FILTER (WHERE state IN ('locked', 'used')), 'of', usage_limit, string_agg(state, ',' ORDER BY order_id))
FROM ordflow.coupons JOIN ordflow.coupon_redemptions USING (coupon_id) WHERE code = 'cuse' GROUP BY usage_limit $$;
SELECT pg_temp.sell('a') AS a, pg_temp.sell('b') AS b, pg_temp.sell(NULL) AS c \gset
SELECT pg_temp.told();
SELECT pg_temp.sell('d');

-- paid it stays used; cancelled and expired it is given back; a second cancel gives nothing
SELECT ordflow.pay_order(:a, 'cuse', '1', 9);
SELECT pg_temp.told();
SELECT ordflow.cancel_order(:b), ordflow.cancel_order(:b);
SELECT pg_temp.told();
UPDATE ordflow.orders SET expires_at = clock_timestamp(), due_at = clock_timestamp() WHERE order_id = :c;
SELECT ordflow.pay_order(:c, 'cuse', '2', 9);
SELECT pg_temp.told();
SELECT pg_temp.sell('d') AS d, pg_temp.sell('e') AS e \gset
SELECT pg_temp.sell('f');
SELECT pg_temp.told();

-- a paid order that is cancelled gives it back as well; one that is refunded after shipping does not
SELECT ordflow.cancel_order(:a);
SELECT pg_temp.told();
SELECT ordflow.pay_order(:d, 'cuse', '3', 9), ordflow.ship_order(:d, 'c', 't'), ordflow.refund_order(:d) IS NOT NULL;
SELECT pg_temp.told();

-- in bulk each takes what the one before left
SELECT result FROM ordflow.submit_orders((SELECT jsonb_agg(jsonb_build_object('customer', 'bulk', 'coupon', 'cuse',
  'lines', '[{"sku": "cuse", "quantity": 1, "unit_price": 10, "stock": false}]'::jsonb)) FROM generate_series(1, 3)));
SELECT pg_temp.told();

-- changed: lower than what is used means no more, higher lets more in, none counts no more, set again it counts what is there
SELECT ordflow.alter_coupon('cuse', '{"usage_limit": 1}');
SELECT pg_temp.sell('g');
SELECT ordflow.alter_coupon('cuse', '{"usage_limit": 4}');
SELECT pg_temp.sell('g') AS g \gset
SELECT pg_temp.sell('h');
SELECT ordflow.alter_coupon('cuse', '{"usage_limit": null}');
SELECT pg_temp.sell('h') IS NOT NULL, pg_temp.sell('h') IS NOT NULL;
SELECT ordflow.cancel_order(:g);
SELECT ordflow.alter_coupon('cuse', '{"usage_limit": 6}');
SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'cuse' AND state IN ('locked', 'used');
SELECT pg_temp.sell('i') IS NOT NULL;
SELECT pg_temp.sell('j');
SELECT * FROM ordflow.audit();
ROLLBACK;

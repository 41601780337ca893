-- customer: a coupon that belongs to one customer.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE FUNCTION pg_temp.sell(customer text) RETURNS boolean LANGUAGE sql AS $$
SELECT ordflow.submit_order(customer, '[{"sku": "ccus", "quantity": 1, "unit_price": 10, "stock": false}]', 'ccus') IS NOT NULL $$;
SELECT ordflow.create_coupon('ccus', 'fixed', 1, '{"customer": "ada"}') IS NOT NULL;
SELECT pg_temp.sell('ada'), pg_temp.sell('ada');
SELECT pg_temp.sell('bob');
SELECT pg_temp.sell('Ada');
SELECT pg_temp.sell(NULL);
SELECT ordflow.alter_coupon('ccus', '{"customer": "bob"}');
SELECT pg_temp.sell('bob');
SELECT pg_temp.sell('ada');
SELECT ordflow.alter_coupon('ccus', '{"customer": null}');
SELECT pg_temp.sell('ada'), pg_temp.sell(NULL);
SELECT r.customer, r.state FROM ordflow.coupon_redemptions r JOIN ordflow.coupons USING (coupon_id) WHERE code = 'ccus' ORDER BY order_id;
ROLLBACK;

-- Saleor #544, Medusa PR #13760, Vendure PR #4660, mall, yudao: a coupon is redeemed more often than its limits allow.
-- Here: a use is taken from the coupon's counter before the order exists for anybody. (Sessions at once: see the isolation specs.)
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('bug_saleor', 'percent', 10, '{"usage_limit": 3, "per_customer": 2}') > 0 AS coupon;
CREATE FUNCTION pg_temp.use(customer text) RETURNS text LANGUAGE sql AS $$
SELECT pg_temp.try(format('SELECT ''ok'' FROM ordflow.submit_order(%L, ''[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 9}]'',
    ''bug_saleor'')', customer)) $$;
SELECT c, pg_temp.use(c) FROM unnest(ARRAY['anna', 'anna', 'anna', 'berta', 'berta', 'clara', NULL]) c;
SELECT pg_temp.used(code), (SELECT count(*) FROM ordflow.coupon_redemptions r WHERE r.coupon_id = c.coupon_id) AS redemptions
FROM ordflow.coupons c WHERE code = 'bug_saleor';
-- lowered below what is used: no further use; given back: one, for whoever may
SELECT ordflow.alter_coupon('bug_saleor', '{"usage_limit": 2, "per_customer": 1}');
SELECT ordflow.cancel_order(max(order_id)) FROM ordflow.orders WHERE coupon = 'bug_saleor' AND customer = 'anna';
SELECT c, pg_temp.use(c) FROM unnest(ARRAY['clara', 'anna']) c;
SELECT ordflow.cancel_order(max(order_id)) FROM ordflow.orders WHERE coupon = 'bug_saleor' AND customer = 'berta';
SELECT c, pg_temp.use(c) FROM unnest(ARRAY['anna', 'clara', 'clara']) c;
SELECT pg_temp.used('bug_saleor');
SELECT * FROM ordflow.audit(:'began');

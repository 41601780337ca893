-- litemall: a cancelled order returns its coupon without looking at its date, so it can be used again. (yudao looks.)
-- Here: a coupon that is not valid any more comes back as expired.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('bug_litemall_expired', 'fixed', 1, jsonb_build_object('valid_until', clock_timestamp() + interval '1 hour',
    'per_customer', 1)) > 0 AS coupon;
SELECT pg_temp.sell('bug_litemall_expired', 'pending_payment', 'bug_litemall_expired') AS id \gset
UPDATE ordflow.coupons SET valid_until = clock_timestamp() - interval '1 microsecond' WHERE code = 'bug_litemall_expired';
SELECT ordflow.cancel_order(:id);
SELECT * FROM pg_temp.look(:id);
SELECT pg_temp.try($$SELECT ordflow.submit_order('bug_litemall_expired', '[{"sku": "bug_litemall_expired", "quantity": 1,
    "unit_price": 5}]', 'bug_litemall_expired')$$);
SELECT * FROM ordflow.audit(:'began');

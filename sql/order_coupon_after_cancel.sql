-- A coupon comes back unused from a cancelled order if it is still valid, else expired.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('order_coupon_after_cancel ' || n, 'fixed', 1, '{"usage_limit": 1}') > 0 AS coupon
FROM generate_series(1, 6) n;
SELECT n, pg_temp.sell('order_coupon_after_cancel', CASE WHEN n % 2 = 0 THEN 'pending_shipment' ELSE 'pending_payment' END,
    'order_coupon_after_cancel ' || n) AS id INTO TEMP sold FROM generate_series(1, 6) n;
-- 1, 2: valid; 3, 4: expired meanwhile; 5, 6: disabled meanwhile
SELECT ordflow.alter_coupon('order_coupon_after_cancel ' || n, jsonb_build_object('valid_until', clock_timestamp() - interval '1 s'))
FROM generate_series(3, 4) n;
SELECT ordflow.alter_coupon('order_coupon_after_cancel ' || n, '{"enabled": false}') FROM generate_series(5, 6) n;
SELECT ordflow.cancel_order(id) FROM sold ORDER BY n;
SELECT n, look.* FROM sold, pg_temp.look(id) ORDER BY n;
-- the use is given back to the coupon's count
SELECT code, pg_temp.used(code) FROM ordflow.coupons WHERE code LIKE 'order_coupon_after_cancel %' ORDER BY 1;
-- the first two can be used again, once
SELECT n, pg_temp.try(format($$SELECT 'ok' FROM ordflow.submit_order('order_coupon_after_cancel',
    '[{"sku": "order_coupon_after_cancel", "quantity": 1, "unit_price": 5}]', 'order_coupon_after_cancel %s')$$, n))
FROM unnest(ARRAY[1, 2, 1, 3, 5]) n;
SELECT * FROM ordflow.audit(:'began');

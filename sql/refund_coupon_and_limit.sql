-- What a refund gives back: the units to the purchase limit at once, the coupon when an unshipped order ends by it.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('refund_coupon_and_limit', 'fixed', 2, '{"per_customer": 3}') > 0 AS coupon;
SELECT ordflow.set_purchase_limit('refund_coupon_and_limit', 6);
SELECT s, pg_temp.sell('refund_coupon_and_limit', s, 'refund_coupon_and_limit') AS id INTO TEMP sold
FROM unnest(ARRAY['pending_shipment', 'pending_receipt', 'completed']) s;
CREATE FUNCTION pg_temp.bought() RETURNS bigint LANGUAGE sql AS $$
SELECT quantity FROM ordflow.purchase_counts WHERE customer = 'refund_coupon_and_limit' $$;
CREATE FUNCTION pg_temp.buy(units int, coupon text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
SELECT pg_temp.peek(format('SELECT ''ok'' FROM ordflow.submit_order(%1$L, %2$L, %3$L)', 'refund_coupon_and_limit',
    jsonb_build_array(jsonb_build_object('sku', 'refund_coupon_and_limit', 'quantity', units, 'unit_price', 9)), coupon)) $$;
SELECT pg_temp.bought(), pg_temp.buy(1);
SELECT s, look.* FROM sold, pg_temp.look(id) ORDER BY id;
-- one unit of each: 8 a line less a discount of 2 over 2 units
SELECT count(ordflow.refund_order(id, '[{"line": 1, "quantity": 1}]')) FROM sold;
SELECT s, look.* FROM sold, pg_temp.look(id) ORDER BY id;
SELECT pg_temp.bought(), pg_temp.buy(3), pg_temp.buy(4), pg_temp.buy(1, 'refund_coupon_and_limit');
-- all of it
SELECT count(ordflow.refund_order(id)) FROM sold;
SELECT s, look.* FROM sold, pg_temp.look(id) ORDER BY id;
SELECT pg_temp.bought(), pg_temp.buy(6), pg_temp.buy(7), pg_temp.buy(1, 'refund_coupon_and_limit');
SELECT * FROM ordflow.audit(:'began');
SELECT * FROM ordflow.audit() WHERE check_name = 'purchase_count';

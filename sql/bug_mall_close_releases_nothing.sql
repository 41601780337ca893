-- mall: close by an administrator accepts any state and releases nothing: neither stock nor coupon, and the money is kept.
-- Here: a cancel gives all of it back, and an order of which something has shipped cannot be cancelled.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('bug_mall_close', 'fixed', 1) > 0 AS coupon;
SELECT s, pg_temp.sell('bug_mall_close ' || s, s, 'bug_mall_close') AS id INTO TEMP sold
FROM unnest(ARRAY['pending_payment', 'pending_shipment', 'partly shipped', 'pending_receipt', 'completed']) s;
SELECT s, pg_temp.try(format('SELECT ordflow.cancel_order(%s, ''admin'')', id)) FROM sold ORDER BY id;
SELECT s, look.* FROM sold, pg_temp.look(id) ORDER BY id;
SELECT * FROM pg_temp.stock('bug_mall_close');
SELECT * FROM ordflow.audit(:'began');

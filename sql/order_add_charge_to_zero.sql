-- add_charge down to 0: nothing is left to pay, so the order goes on to pending_shipment, its coupon used.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('order_add_charge_to_zero', 'fixed', 3) > 0 AS coupon;
SELECT pg_temp.sell('order_add_charge_to_zero', 'pending_payment', 'order_add_charge_to_zero') AS id \gset
SELECT * FROM pg_temp.look(:id);
SELECT ordflow.add_charge(:id, 'voucher', -7);
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.history(:id);
SELECT ordflow.pay_order(:id, 'p', 'order_add_charge_to_zero', 7), ordflow.expire_order(:id), ordflow.ship_order(:id, 'c', 't');
SELECT * FROM pg_temp.look(:id);
SELECT * FROM ordflow.audit(:'began');

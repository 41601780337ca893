-- cancel, paid: refund due, stock released, coupon returned; refused once anything has shipped.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('order_cancel_paid', 'fixed', 1, '{"per_customer": 1}') > 0 AS coupon;
SELECT pg_temp.sell('order_cancel_paid', 'pending_shipment', 'order_cancel_paid') AS id \gset
SELECT ordflow.cancel_order(:id, 'customer');
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.history(:id);
SELECT * FROM pg_temp.stock('order_cancel_paid');
SELECT r.amount = p.amount AS whole, r.currency, r.restock, r.actor = session_user AS actor
FROM ordflow.refunds r JOIN ordflow.payments p USING (payment_id) WHERE r.order_id = :id;
-- after a refund of some money only the rest is due
SELECT pg_temp.sell('order_cancel_paid', 'pending_shipment') AS part \gset
SELECT ordflow.refund_order(:part, amount => 3.5) > 0 AS refund;
SELECT ordflow.cancel_order(:part);
SELECT * FROM pg_temp.look(:part);
-- after a refund of a unit only the other one is released
SELECT pg_temp.sell('order_cancel_paid', 'pending_shipment') AS unit \gset
SELECT ordflow.refund_order(:unit, '[{"line": 1, "quantity": 1}]') > 0 AS refund;
SELECT * FROM pg_temp.stock('order_cancel_paid');
SELECT ordflow.cancel_order(:unit);
SELECT * FROM pg_temp.look(:unit);
SELECT * FROM pg_temp.stock('order_cancel_paid');
-- one of two has shipped
SELECT pg_temp.sell('order_cancel_paid', 'partly shipped') AS shipped \gset
SELECT ordflow.cancel_order(:shipped);
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id = :shipped;
SELECT ordflow.fire('ordflow.orders', :'shipped', 'cancel');
SELECT * FROM pg_temp.look(:shipped);
SELECT * FROM pg_temp.stock('order_cancel_paid');
SELECT * FROM ordflow.audit(:'began');

-- ship: on hand and reserved go down together; all shipped: pending_receipt with the auto-confirm deadline.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('order_ship', 'pending_shipment') AS id \gset
SELECT * FROM pg_temp.stock('order_ship');
SELECT ordflow.ship_order(:id, 'sf', 'SF1');
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.history(:id);
SELECT * FROM pg_temp.stock('order_ship');
SELECT * FROM pg_temp.lines(:id);
SELECT s.carrier, s.tracking_number, s.actor = session_user AS actor, l.line_no, l.quantity
FROM ordflow.shipments s JOIN ordflow.shipment_lines l USING (shipment_id) WHERE s.order_id = :id;
-- ten days by default, counted from the shipment; the payment deadline stays
SELECT o.due_at - h.at AS confirm_within, o.expires_at > o.created_at AS expires_at
FROM ordflow.orders o JOIN ordflow.order_history h USING (order_id) WHERE order_id = :id AND h.event = 'ship';
SELECT m.kind, m.on_hand, m.reserved FROM ordflow.stock_movements m WHERE m.order_id = :id ORDER BY m.movement_id;
SELECT count(*) FROM ordflow.reservations WHERE order_id = :id;
SELECT * FROM ordflow.audit(:'began');

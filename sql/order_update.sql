-- A plain UPDATE that is legal does what the verb does, for each of its rows.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('order_update', 'fixed', 1) > 0 AS coupon;
SELECT pg_temp.sell('order_update', 'pending_payment', 'order_update') AS unpaid \gset
SELECT pg_temp.sell('order_update', 'pending_shipment', 'order_update') AS paid \gset
SELECT pg_temp.sell('order_update', 'pending_receipt') AS shipped \gset
SELECT pg_temp.sell('order_update', 'pending_payment', 'order_update') AS overdue \gset
SELECT * FROM pg_temp.stock('order_update');
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id IN (:unpaid, :paid);
UPDATE ordflow.orders SET state = 'completed' WHERE order_id = :shipped;
SELECT pg_temp.overdue(:overdue);
BEGIN;
SET LOCAL ordflow.event = 'expire';
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id = :overdue;
COMMIT;
SELECT l.* FROM unnest(ARRAY[:unpaid, :paid, :shipped, :overdue]) WITH ORDINALITY AS u (id, n), pg_temp.look(u.id) l ORDER BY n;
SELECT h.seq, h.event, h.from_state, h.to_state, o.cancel_reason, o.updated_at = h.at AS touched
FROM ordflow.order_history h JOIN ordflow.orders o USING (order_id)
WHERE o.customer = 'order_update' AND h.event IN ('cancel', 'confirm', 'expire') ORDER BY o.order_id;
SELECT * FROM pg_temp.stock('order_update');
-- one row that may not fails the statement for all
SELECT pg_temp.sell('order_update') AS other \gset
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id IN (:other, :shipped);
SELECT l.* FROM unnest(ARRAY[:other, :shipped]) WITH ORDINALITY AS u (id, n), pg_temp.look(u.id) l ORDER BY n;
-- metadata is the shop's
UPDATE ordflow.orders SET metadata = '{"note": "fragile"}' WHERE order_id = :other RETURNING metadata;
SELECT * FROM ordflow.audit(:'began');

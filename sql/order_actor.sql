-- SET LOCAL ordflow.actor is written to history, charges, movements, payments, shipments and refunds; else the session user.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
BEGIN;
SET LOCAL ordflow.actor = 'admin:42';
SELECT pg_temp.sell('order_actor', 'pending_shipment') AS id \gset
SELECT ordflow.refund_order(:id, amount => 1) > 0 AS refund;
COMMIT;
SELECT ordflow.ship_order(:id, 'c', 't');
SET ordflow.actor = 'clerk';
SELECT pg_temp.sell('order_actor') AS charged \gset
SELECT ordflow.add_charge(:charged, 'fee', 1);
SELECT ordflow.fire('ordflow.orders', :'charged', 'cancel');
RESET ordflow.actor;
SELECT h.event, replace(h.actor, session_user, '(session user)') AS actor FROM ordflow.order_history h WHERE order_id = :id ORDER BY seq;
SELECT h.event, h.actor FROM ordflow.order_history h WHERE order_id = :charged ORDER BY seq;
SELECT 'charge' AS "in", actor FROM ordflow.order_charges WHERE order_id = :charged
UNION ALL SELECT 'payment', actor FROM ordflow.payments WHERE order_id = :id
UNION ALL SELECT 'refund', actor FROM ordflow.refunds WHERE order_id = :id
UNION ALL SELECT 'shipment', replace(actor, session_user, '(session user)') FROM ordflow.shipments WHERE order_id = :id
UNION ALL SELECT 'movement ' || kind, replace(actor, session_user, '(session user)') FROM ordflow.stock_movements
WHERE order_id IN (:id, :charged) ORDER BY 1, 2;
SET ordflow.actor = '';
SELECT pg_temp.sell('order_actor') AS plain \gset
SELECT actor = session_user AS "session user" FROM ordflow.order_history WHERE order_id = :plain;
SELECT n, pg_temp.try(format('SELECT length(set_config(''ordflow.actor'', repeat(''x'', %s), false))', n)) FROM unnest(ARRAY[255, 256]) n;
RESET ordflow.actor;
SELECT * FROM ordflow.audit(:'began');

-- confirm by customer, carrier or timeout completes the order; nothing fires by itself any more.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT r, pg_temp.sell('order_confirm', 'pending_receipt') AS id INTO TEMP sold
FROM unnest(ARRAY['customer', 'carrier', 'timeout', NULL]) r;
SELECT r, CASE WHEN r IS NULL THEN ordflow.confirm_order(id) ELSE ordflow.confirm_order(id, r) END FROM sold ORDER BY id;
SELECT h.*, look.state, look.due FROM sold, pg_temp.history(id) h, pg_temp.look(id) WHERE h.event = 'confirm' ORDER BY id;
SELECT r, ordflow.confirm_order(id, 'carrier') FROM sold ORDER BY id;
SELECT count(*) FROM sold, pg_temp.history(id) h WHERE h.event = 'confirm';
SELECT c, pg_temp.try(format('SELECT ordflow.confirm_order(%s, %L)', id, c)) FROM sold, unnest(ARRAY['', 'me', 'Customer', NULL]) c
WHERE r = 'customer';
-- stock left at the shipment
SELECT * FROM pg_temp.stock('order_confirm');
SELECT * FROM ordflow.audit(:'began');

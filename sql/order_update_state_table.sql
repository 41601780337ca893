-- A plain UPDATE of orders.state: each state to each other one. Only cancel and confirm are possible without a function.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
CREATE TABLE pg_temp.cells AS
SELECT s.n, s.state, pg_temp.sell('order_update_state ' || s.state, s.state) AS id
FROM unnest(ARRAY['pending_payment', 'pending_shipment', 'partly shipped', 'pending_receipt', 'completed', 'cancelled'])
     WITH ORDINALITY AS s (state, n);
CREATE FUNCTION pg_temp.update_to(new_state text)
RETURNS TABLE (pending_payment text, pending_shipment text, partly_shipped text, pending_receipt text, completed text,
    cancelled text) LANGUAGE sql AS $$
SELECT r[1], r[2], r[3], r[4], r[5], r[6]
FROM (SELECT array_agg(pg_temp.peek(
        format('UPDATE ordflow.orders SET state = %2$L WHERE order_id = %1$s RETURNING ''updated''', id, new_state))
        ORDER BY n) AS r FROM pg_temp.cells) AS c
$$;
-- to the state that it stands in: no transition
SELECT new_state, u.* FROM unnest(ARRAY['pending_payment', 'pending_shipment', 'pending_receipt', 'completed', 'cancelled', 'lost', NULL])
    AS new_state, pg_temp.update_to(new_state) u;
-- where two events join the same states the setting tells which one is meant
SET ordflow.event = 'expire';
SELECT event, u.* FROM current_setting('ordflow.event') event, pg_temp.update_to('cancelled') u;
SET ordflow.event = 'refund';
SELECT event, u.* FROM current_setting('ordflow.event') event, pg_temp.update_to('cancelled') u;
SET ordflow.event = 'cancel';
SELECT event, u.* FROM current_setting('ordflow.event') event, pg_temp.update_to('cancelled') u;
RESET ordflow.event;
SELECT c.state AS made, o.state FROM cells c JOIN ordflow.orders o ON o.order_id = c.id ORDER BY c.n;
SELECT * FROM ordflow.audit(:'began');

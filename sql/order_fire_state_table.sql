-- fire on ordflow.orders in each state: cancel, expire and confirm where the machine has them, else OF001; a verb's events never.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
CREATE TABLE pg_temp.cells AS
SELECT s.n, s.state, pg_temp.sell('order_fire_state ' || s.state, s.state) AS id
FROM unnest(ARRAY['pending_payment', 'pending_shipment', 'partly shipped', 'pending_receipt', 'completed', 'cancelled'])
     WITH ORDINALITY AS s (state, n);
CREATE FUNCTION pg_temp.fire(event text, prepare text DEFAULT '')
RETURNS TABLE (pending_payment text, pending_shipment text, partly_shipped text, pending_receipt text, completed text,
    cancelled text) LANGUAGE sql AS $$
SELECT r[1], r[2], r[3], r[4], r[5], r[6]
FROM (SELECT array_agg(pg_temp.peek(format('SELECT ordflow.fire(''ordflow.orders'', ''%1$s'', %2$L)' || prepare, id, event), id)
                       ORDER BY n) AS r FROM pg_temp.cells) AS c
$$;
\x
SELECT * FROM pg_temp.fire('cancel');
SELECT * FROM pg_temp.fire('expire');
-- the same at the deadline
SELECT * FROM pg_temp.fire('expire', ' FROM pg_temp.overdue(%1$s)');
SELECT * FROM pg_temp.fire('confirm');
\x
-- what only its function may do, and what nobody knows
SELECT e AS event, (SELECT string_agg(DISTINCT a, ',') FROM pg_temp.fire(e) f,
    unnest(ARRAY[f.pending_payment, f.pending_shipment, f.partly_shipped, f.pending_receipt, f.completed, f.cancelled]) a) AS answers
FROM unnest(ARRAY['submit', 'pay', 'ship', 'refund', 'fly', 'Cancel', '']) e;
SELECT c.state AS made, o.state FROM cells c JOIN ordflow.orders o ON o.order_id = c.id ORDER BY c.n;
SELECT * FROM ordflow.audit(:'began');

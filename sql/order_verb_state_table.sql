-- What each verb answers in each state, and where it leaves the order: every cell, undone after each.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
CREATE TABLE pg_temp.cells AS
SELECT s.n, s.state, pg_temp.sell('order_verb_state ' || s.state, s.state) AS id
FROM unnest(ARRAY['pending_payment', 'pending_shipment', 'partly shipped', 'pending_receipt', 'completed', 'cancelled'])
     WITH ORDINALITY AS s (state, n);
CREATE FUNCTION pg_temp.verb(call text)
RETURNS TABLE (pending_payment text, pending_shipment text, partly_shipped text, pending_receipt text, completed text,
    cancelled text) LANGUAGE sql AS $$
SELECT r[1], r[2], r[3], r[4], r[5], r[6]
FROM (SELECT array_agg(pg_temp.peek(format(call, id), id) ORDER BY n) AS r FROM pg_temp.cells) AS c
$$;
SELECT id AS unpaid FROM cells WHERE n = 1 \gset

\x
-- pay: what is asked; then too little; then at the deadline
SELECT * FROM pg_temp.verb($$SELECT ordflow.pay_order(%s, 'p', 'order_verb_state', 10)$$);
SELECT * FROM pg_temp.verb($$SELECT ordflow.pay_order(%s, 'p', 'order_verb_state', 9.99)$$);
SELECT pg_temp.peek(format($$SELECT ordflow.pay_order(%1$s, 'p', 'order_verb_state', 10) FROM pg_temp.overdue(%1$s)$$, :unpaid), :unpaid)
    AS overdue;
-- ship: all that is left; then one unit
SELECT * FROM pg_temp.verb($$SELECT ordflow.ship_order(%s, 'c', '2')$$);
SELECT * FROM pg_temp.verb($$SELECT ordflow.ship_order(%s, 'c', '2', '[{"line": 1, "quantity": 1}]')$$);
SELECT * FROM pg_temp.verb($$SELECT ordflow.confirm_order(%s)$$);
SELECT * FROM pg_temp.verb($$SELECT ordflow.cancel_order(%s)$$);
-- expire: before the deadline; then at it
SELECT * FROM pg_temp.verb($$SELECT ordflow.expire_order(%s)$$);
SELECT * FROM pg_temp.verb($$SELECT ordflow.expire_order(%1$s) FROM pg_temp.overdue(%1$s)$$);
-- refund: all that is left; one unit; money alone. An id stands for what it returns
SELECT * FROM pg_temp.verb($$SELECT 'id' FROM ordflow.refund_order(%s) AS id WHERE id > 0$$);
SELECT * FROM pg_temp.verb($$SELECT 'id' FROM ordflow.refund_order(%s, '[{"line": 1, "quantity": 1}]') AS id WHERE id > 0$$);
SELECT * FROM pg_temp.verb($$SELECT 'id' FROM ordflow.refund_order(%s, amount => 1) AS id WHERE id > 0$$);
-- and the two that are no events of the machine
SELECT * FROM pg_temp.verb($$SELECT ordflow.add_charge(%s, 'fee', 1)$$);
SELECT * FROM pg_temp.verb($$SELECT ordflow.extend_order(%s, '1 hour') > clock_timestamp()$$);
\x
-- all of it was undone
SELECT c.state AS made, o.state FROM cells c JOIN ordflow.orders o ON o.order_id = c.id ORDER BY c.n;
SELECT * FROM ordflow.audit(:'began');

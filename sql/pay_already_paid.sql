-- A second payment for a paid order is recorded with a refund due, in every state after the payment.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT s, pg_temp.sell('pay_already_paid', s) AS id INTO TEMP paid
FROM unnest(ARRAY['pending_shipment', 'partly shipped', 'pending_receipt', 'completed']) s;
SELECT s, ordflow.pay_order(id, 'p', 'pay_already_paid ' || s, 10) FROM paid ORDER BY id;
SELECT s, l.* FROM paid, pg_temp.look(id) l ORDER BY id;
SELECT s, h.event, h.from_state, h.to_state, h.reason FROM paid, pg_temp.history(id) h WHERE h.reason = 'already_paid' ORDER BY id;
-- the deadline of receipt did not move, and the first payment is what refunds of the order come from
SELECT s, due_at = (SELECT at FROM ordflow.order_history h WHERE h.order_id = id AND event = 'ship') + interval '10 days' AS due
FROM paid JOIN ordflow.orders o ON o.order_id = id WHERE s = 'pending_receipt';
SELECT s, ordflow.refund_order(id) > 0 AS refund FROM paid ORDER BY id;
SELECT s, l.state, l.refunds FROM paid, pg_temp.look(id) l ORDER BY id;
SELECT * FROM ordflow.audit(:'began');

-- The shop's own states and events of machine "order": an order on hold, and back, and cancelled from there.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('fos', 10);
SELECT ordflow.define_machine('order', '{"states": {"on_hold": "normal"}, "transitions": [
  {"from": "pending_payment", "event": "hold", "to": "on_hold"}, {"from": "on_hold", "event": "resume", "to": "pending_payment"},
  {"from": "pending_shipment", "event": "hold", "to": "on_hold"}, {"from": "on_hold", "event": "drop", "to": "cancelled"},
  {"from": "on_hold", "event": "cancel", "to": "cancelled", "after": "3 days"}, {"from": "completed", "event": "praise", "to": "completed"}]}');
SELECT * FROM ordflow.check_machine('order');
CREATE FUNCTION pg_temp.submit() RETURNS bigint LANGUAGE sql
AS $$ SELECT ordflow.submit_order('fos', '[{"sku": "fos", "quantity": 2, "unit_price": 5}]', pay_within => '1 hour') $$;

-- held, it cannot be paid; the money is taken note of; it is due in three days
SELECT pg_temp.submit() AS o \gset
SELECT ordflow.fire('ordflow.orders', :'o', 'hold', '{"reason": "address"}');
SELECT state, due_at BETWEEN now() + interval '71 hours' AND now() + interval '73 hours' AS three_days FROM ordflow.orders WHERE order_id = :o;
SELECT event, to_state, at IS NOT NULL AS timed FROM ordflow.available_events(:o) ORDER BY 1;
SELECT ordflow.pay_order(:o, 'fos', 'held', 10);
SELECT result FROM ordflow.payments WHERE order_id = :o;
SELECT amount, state FROM ordflow.refunds WHERE order_id = :o;
SELECT ordflow.ship_order(:o, 'c', 't');
SELECT ordflow.expire_order(:o);
SELECT ordflow.run_due() IS NOT NULL;
SELECT state FROM ordflow.orders WHERE order_id = :o;
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'fos';

-- back again: its payment deadline is the old one
UPDATE ordflow.orders SET state = 'pending_payment' WHERE order_id = :o;
SELECT state, due_at = expires_at AS due FROM ordflow.orders WHERE order_id = :o;
SELECT ordflow.fire('ordflow.orders', :'o', 'hold');
SELECT ordflow.fire('ordflow.orders', :'o', 'resume');
SELECT state, due_at = expires_at AS due FROM ordflow.orders WHERE order_id = :o;
SELECT event, from_state, to_state, reason FROM ordflow.order_history WHERE order_id = :o ORDER BY seq;

-- cancelled from there, by the shop's event, by cancel and by its timeout: stock goes back
SELECT ordflow.fire('ordflow.orders', :'o', 'hold');
SELECT ordflow.fire('ordflow.orders', :'o', 'drop');
SELECT state, cancel_reason FROM ordflow.orders WHERE order_id = :o;
SELECT pg_temp.submit() AS o \gset
SELECT ordflow.pay_order(:o, 'fos', '1', 10);
SELECT ordflow.fire('ordflow.orders', :'o', 'hold');
SELECT ordflow.cancel_order(:o, 'no answer');
SELECT state, cancel_reason FROM ordflow.orders WHERE order_id = :o;
SELECT amount, state FROM ordflow.refunds WHERE order_id = :o;
SELECT pg_temp.submit() AS o \gset
SELECT ordflow.fire('ordflow.orders', :'o', 'hold');
SELECT ordflow.run_due(now() + interval '4 days') >= 1;
SELECT state, cancel_reason FROM ordflow.orders WHERE order_id = :o;
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'fos';
SELECT ordflow.fire('ordflow.orders', :'o', 'praise');
SELECT check_name FROM ordflow.audit();
ROLLBACK;

-- available_events(order_id): what each state takes, and when the timeout fires.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('meo', 10);
SELECT ordflow.submit_order('meo', '[{"sku": "meo", "quantity": 2, "unit_price": 5}]', pay_within => '1 hour') AS o \gset
SELECT event, to_state, at = (SELECT expires_at FROM ordflow.orders WHERE order_id = :o) AS at FROM ordflow.available_events(:o);
SELECT ordflow.pay_order(:o, 'p', 'meo', 10);
SELECT event, to_state, at FROM ordflow.available_events(:o) ORDER BY 1, 2;
SELECT ordflow.ship_order(:o, 'c', 'meo');
SELECT event, to_state, at = (SELECT due_at FROM ordflow.orders WHERE order_id = :o) AS at FROM ordflow.available_events(:o) ORDER BY 1, 2;
SELECT ordflow.confirm_order(:o);
SELECT event, to_state, at FROM ordflow.available_events(:o) ORDER BY 1, 2;
SELECT ordflow.refund_order(:o) IS NOT NULL;
SELECT event, to_state, at FROM ordflow.available_events(:o);

-- extended deadlines and events of the shop are told too
SELECT ordflow.submit_order('meo', '[{"sku": "meo", "quantity": 1, "unit_price": 5}]', pay_within => '1 hour') AS o \gset
SELECT ordflow.extend_order(:o, '1 hour') AS extended \gset
SELECT event FROM ordflow.available_events(:o) WHERE at = :'extended';
SELECT ordflow.define_machine('order', '{"states": {}, "transitions": [{"from": "pending_payment", "event": "nudge", "to": "pending_payment"}]}');
SELECT event, to_state, at FROM ordflow.available_events(:o) WHERE event = 'nudge';

-- the same by the table and the key
SELECT event, to_state FROM ordflow.available_events('ordflow.orders', :'o') EXCEPT SELECT event, to_state FROM ordflow.available_events(:o);

SELECT * FROM ordflow.available_events(-1);
SELECT * FROM ordflow.available_events(NULL::bigint);
ROLLBACK;

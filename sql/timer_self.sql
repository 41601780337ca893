-- A timeout that leads back to its own state fires once each time its interval has passed, not for ever in one go.
\a \t
\set VERBOSITY sqlstate
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
CREATE SCHEMA tslf;
CREATE TABLE tslf.job (id int PRIMARY KEY, status text, due timestamptz);
CREATE INDEX ON tslf.job (due);
SELECT ordflow.define_machine('tslf', '{"states": {"waiting": "initial"}, "transitions": [{"from": "waiting", "event": "remind", "to": "waiting", "after": "1 h"}]}');
SELECT ordflow.attach('tslf.job', 'tslf', 'status', due_column => 'due');
INSERT INTO tslf.job VALUES (1, 'waiting', clock_timestamp());
SELECT ordflow.run_due();
SELECT status, due > clock_timestamp() + interval '59 min' AS again_in_an_hour FROM tslf.job;
SELECT ordflow.run_due();
SELECT event, from_state, to_state, reason FROM ordflow.object_history WHERE target = 'tslf.job' ORDER BY history_id;

-- by hand it begins its time anew, other events that keep the state do not
UPDATE tslf.job SET due = clock_timestamp() + interval '1 min';
SELECT ordflow.define_machine('tslf', '{"states": {"waiting": "initial"}, "transitions": [{"from": "waiting", "event": "poke", "to": "waiting"},
  {"from": "waiting", "event": "remind", "to": "waiting", "after": "1 h"}]}');
SELECT ordflow.fire('tslf.job', '1', 'poke');
SELECT due > clock_timestamp() + interval '59 min' AS again_in_an_hour FROM tslf.job;
SELECT ordflow.fire('tslf.job', '1', 'remind');
SELECT due > clock_timestamp() + interval '59 min' AS again_in_an_hour FROM tslf.job;

-- the same with a state of the shop's in machine "order", and a timeout on a built-in state that has none
SELECT ordflow.define_machine('order', '{"states": {"on_hold": "normal"}, "transitions": [{"from": "pending_shipment", "event": "hold", "to": "on_hold"},
  {"from": "on_hold", "event": "remind", "to": "on_hold", "after": "1 day"}, {"from": "cancelled", "event": "mourn", "to": "cancelled", "after": "2 days"}]}');
SELECT ordflow.submit_order('tslf', '[{"sku": "tslf", "quantity": 1, "unit_price": 0, "stock": false}]') AS o,
  ordflow.submit_order('tslf', '[{"sku": "tslf", "quantity": 1, "unit_price": 1, "stock": false}]') AS p \gset
SELECT ordflow.fire('ordflow.orders', :'o', 'hold'), ordflow.cancel_order(:p, 'not wanted');
UPDATE ordflow.orders SET due_at = clock_timestamp() WHERE order_id IN (:o, :p);
SELECT ordflow.run_due(), ordflow.run_due();
SELECT state, cancel_reason, due_at > clock_timestamp() + interval '23 hours' AS again, due_at > clock_timestamp() + interval '47 hours' AS later
FROM ordflow.orders WHERE order_id IN (:o, :p) ORDER BY order_id;
SELECT * FROM ordflow.audit();
ROLLBACK;

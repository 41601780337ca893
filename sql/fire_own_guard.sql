-- The shop's own event between built-in states, with a guard of its own: a plain UPDATE means the built-in one unless it is named.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA fog;
CREATE FUNCTION fog.suspicious(o jsonb, a jsonb) RETURNS boolean LANGUAGE sql
AS $$ SELECT o #>> '{row,customer}' = 'mallory' OR a->>'sure' = 'yes' $$;
CREATE FUNCTION fog.report(o jsonb, a jsonb) RETURNS void LANGUAGE plpgsql
AS $$ BEGIN PERFORM ordflow.adjust_stock('fog', -1, 'kept by the police'); END $$;
SELECT ordflow.receive_stock('fog', 20);
SELECT ordflow.define_machine('order', '{"states": {}, "transitions": [
  {"from": "pending_payment", "event": "fraud", "to": "cancelled", "guard": "fog.suspicious(jsonb,jsonb)", "effect": "fog.report(jsonb,jsonb)"},
  {"from": "pending_shipment", "event": "fraud", "to": "cancelled", "guard": "fog.suspicious(jsonb,jsonb)"}]}');
CREATE FUNCTION pg_temp.submit(customer text) RETURNS bigint LANGUAGE sql
AS $$ SELECT ordflow.submit_order(customer, '[{"sku": "fog", "quantity": 2, "unit_price": 5}]') $$;
SELECT pg_temp.submit('ada') AS a, pg_temp.submit('mallory') AS m, pg_temp.submit('mallory') AS n, pg_temp.submit('ada') AS p \gset
SELECT ordflow.fire('ordflow.orders', :'a', 'fraud');
SELECT ordflow.fire('ordflow.orders', :'a', 'fraud', '{"sure": "yes", "reason": "told us so"}');
SELECT ordflow.fire('ordflow.orders', :'m', 'fraud');
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id = :n;
SET LOCAL ordflow.event = 'fraud';
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id = :p;
RESET ordflow.event;

-- a paid one: its refund is due, its stock released, by the shop's event as by ours; not once something has shipped
SELECT ordflow.pay_order(:p, 'fog', '1', 10);
SELECT ordflow.fire('ordflow.orders', :'p', 'fraud', '{"sure": "yes"}');
SELECT amount, state, reason FROM ordflow.refunds WHERE order_id = :p;
SELECT pg_temp.submit('mallory') AS q \gset
SELECT ordflow.pay_order(:q, 'fog', '2', 10), ordflow.ship_order(:q, 'c', 't', '[{"line": 1, "quantity": 1}]');
SELECT ordflow.fire('ordflow.orders', :'q', 'fraud');

SELECT o.customer, o.state, o.cancel_reason, h.event, h.reason, h.data FROM ordflow.orders o JOIN ordflow.order_history h USING (order_id)
WHERE order_id IN (:a, :m, :n, :p, :q) AND h.event NOT IN ('submit', 'pay', 'ship') ORDER BY order_id;
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'fog';
SELECT * FROM ordflow.audit();
ROLLBACK;

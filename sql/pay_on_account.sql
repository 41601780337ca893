-- An order that an event of the shop's own sent to shipping unpaid is paid whenever the money comes; anything else goes back.
\set VERBOSITY sqlstate
BEGIN;
SELECT ordflow.define_machine('order', '{"states": {}, "transitions": [
    {"from": "pending_payment", "event": "approve", "to": "pending_shipment"}]}');
SELECT ordflow.submit_order('on account', '[{"sku": "x", "stock": false, "quantity": 1, "unit_price": 10}]') AS id \gset
SELECT ordflow.fire('ordflow.orders', :'id', 'approve');
SELECT ordflow.ship_order(:id, 'a', 'b');
SELECT * FROM ordflow.audit();
SELECT ordflow.pay_order(:id, 'on account', 'too little', 9);
SELECT ordflow.pay_order(:id, 'on account', 'right', 10);
SELECT ordflow.pay_order(:id, 'on account', 'right', 10);
SELECT ordflow.pay_order(:id, 'on account', 'once more', 10);
SELECT state FROM ordflow.orders WHERE order_id = :id;
SELECT transaction_id, result FROM ordflow.payments WHERE order_id = :id ORDER BY payment_id;
SELECT amount, state, reason FROM ordflow.refunds WHERE order_id = :id ORDER BY refund_id;
SELECT event, from_state, to_state, reason FROM ordflow.order_history WHERE order_id = :id ORDER BY seq;
SELECT * FROM ordflow.audit();
ROLLBACK;

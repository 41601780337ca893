-- Direct writes to ordflow.orders: the owner's INSERT is taken as it is, UPDATE is checked for him too, others may metadata at most.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE ROLE regress_fod;
SELECT ordflow.grant_access('regress_fod', 'orders');
SELECT ordflow.grant_access('regress_fod', 'read');
SELECT ordflow.receive_stock('fod', 5);
SELECT ordflow.submit_order('fod', '[{"sku": "fod", "quantity": 1, "unit_price": 1}]') AS o \gset

SET ROLE regress_fod;
UPDATE ordflow.orders SET metadata = '{"gift": true}' WHERE order_id = :o;
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id = :o;
UPDATE ordflow.orders SET payable = 0 WHERE order_id = :o;
DELETE FROM ordflow.orders WHERE order_id = :o;
TRUNCATE ordflow.orders;
INSERT INTO ordflow.orders SELECT * FROM ordflow.orders WHERE order_id = :o;
INSERT INTO ordflow.order_lines SELECT * FROM ordflow.order_lines WHERE order_id = :o;
UPDATE ordflow.stock SET on_hand = 99 WHERE sku = 'fod';
INSERT INTO ordflow.stock_movements SELECT * FROM ordflow.stock_movements LIMIT 0;
DELETE FROM ordflow.order_history;
UPDATE ordflow.coupons SET usage_limit = 99;
DELETE FROM ordflow.coupon_redemptions;
LOCK TABLE ordflow.counter_gate IN ROW EXCLUSIVE MODE;
INSERT INTO ordflow.payments SELECT * FROM ordflow.payments LIMIT 0;
INSERT INTO ordflow.states VALUES ('order', 'mine', 'normal');
UPDATE ordflow.transitions SET to_state = 'completed';
RESET ROLE;
SELECT state, metadata FROM ordflow.orders WHERE order_id = :o;

-- what a restore does: any state, no side effect
SELECT count(*) AS moved FROM ordflow.stock_movements \gset
INSERT INTO ordflow.orders (order_id, order_no, customer, state, currency, subtotal, discount, charges, payable, expires_at, due_at, metadata, created_at, updated_at)
SELECT -id, 'fod' || id, 'fod', state, 'CNY', 5, 0, 0, 5, now(), CASE WHEN state = 'pending_receipt' THEN now() + interval '1 h' END, '{}', now(), now()
FROM unnest('{pending_payment,pending_shipment,pending_receipt,completed,cancelled}'::text[]) WITH ORDINALITY AS s (state, id);
SELECT order_id, state, due_at IS NOT NULL AS due FROM ordflow.orders WHERE order_id < 0 ORDER BY order_id DESC;
SELECT count(*) FROM ordflow.order_history WHERE order_id < 0;
SELECT count(*) = :moved FROM ordflow.stock_movements;

-- the owner's UPDATE is judged: illegal, and legal with all that it does
UPDATE ordflow.orders SET state = 'completed' WHERE order_id = -1;
UPDATE ordflow.orders SET state = 'pending_payment' WHERE order_id = -5;
UPDATE ordflow.orders SET state = NULL WHERE order_id = -1;
UPDATE ordflow.orders SET expires_at = expires_at + interval '1 h' WHERE order_id = -1;
SELECT due_at = expires_at FROM ordflow.orders WHERE order_id = -1;
UPDATE ordflow.orders SET state = 'completed' WHERE order_id = -3;
SELECT state, due_at FROM ordflow.orders WHERE order_id = -3;
SELECT event, from_state, to_state FROM ordflow.order_history WHERE order_id = -3;
DELETE FROM ordflow.orders WHERE order_id < 0;
DELETE FROM ordflow.order_history WHERE order_id < 0;
SELECT * FROM ordflow.audit();
ROLLBACK;

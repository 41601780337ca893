-- One UPDATE over many orders is many steps: stock, coupons, limits and refunds follow each.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('fob', 100);
SELECT ordflow.set_purchase_limit('fob', 50);
SELECT ordflow.create_coupon('fob', 'percent', 10, '{"usage_limit": 20, "per_customer": 20}') IS NOT NULL;
CREATE TEMP TABLE made AS SELECT n, ordflow.submit_order('fob', '[{"sku": "fob", "quantity": 5, "unit_price": 10}]', 'fob') AS id FROM generate_series(1, 10) n;
SELECT ordflow.submit_order('fob', '[{"sku": "fob", "quantity": 1, "unit_price": 10}]');
SELECT ordflow.pay_order(id, 'fob', id::text, 45) FROM made WHERE n <= 4;
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'fob';

-- one of them has shipped: none is cancelled
SELECT ordflow.ship_order(id, 'c', 'fob', '[{"line": 1, "quantity": 1}]') FROM made WHERE n = 1;
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id IN (SELECT id FROM made);
SELECT state, count(*) FROM ordflow.orders WHERE order_id IN (SELECT id FROM made) GROUP BY 1 ORDER BY 1;

-- the others, paid and unpaid
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id IN (SELECT id FROM made WHERE n > 1);
SELECT state, count(*) FROM ordflow.orders WHERE order_id IN (SELECT id FROM made) GROUP BY 1 ORDER BY 1;
SELECT on_hand, reserved, available FROM ordflow.stock_levels WHERE sku = 'fob';
SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'fob' AND state IN ('locked', 'used');
SELECT r.state, count(*) FROM ordflow.coupon_redemptions r JOIN made ON id = order_id GROUP BY 1 ORDER BY 1;
SELECT quantity FROM ordflow.purchase_counts WHERE customer = 'fob';
SELECT count(*), sum(amount), min(state) FROM ordflow.refunds JOIN made ON id = order_id;
SELECT * FROM ordflow.audit();

-- metadata and the like are no step and leave no history
UPDATE ordflow.orders SET metadata = '{"x": 1}' WHERE order_id IN (SELECT id FROM made);
SELECT count(*) FROM ordflow.order_history JOIN made ON id = order_id WHERE event NOT IN ('submit', 'pay', 'ship', 'cancel');
ROLLBACK;

-- submit: a payable of 0 goes straight to pending_shipment, its coupon used, and nothing fires by itself.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('order_submit_payable_zero', 10);
SELECT ordflow.create_coupon('order_submit_payable_zero', 'percent', 100) > 0 AS coupon;
SELECT ordflow.submit_order('order_submit_payable_zero', '[{"sku": "order_submit_payable_zero", "quantity": 3, "unit_price": 4}]',
    coupon => 'order_submit_payable_zero') AS id \gset
SELECT ordflow.submit_order('order_submit_payable_zero', '[{"sku": "order_submit_payable_zero", "quantity": 1, "unit_price": 4}]',
    charges => '[{"code": "points", "amount": -4}]') AS points \gset
SELECT ordflow.submit_order(NULL, '[{"sku": "order_submit_payable_zero", "quantity": 1, "unit_price": 0.004}]') AS gift \gset
SELECT * FROM pg_temp.look(:id) UNION ALL SELECT * FROM pg_temp.look(:points) UNION ALL SELECT * FROM pg_temp.look(:gift);
SELECT * FROM pg_temp.history(:id);
SELECT expires_at IS NOT NULL AS expires_at FROM ordflow.orders WHERE order_id = :id;
SELECT * FROM pg_temp.stock('order_submit_payable_zero');

-- a payment for it buys nothing
SELECT ordflow.pay_order(:id, 'p', 'order_submit_payable_zero', 12);
SELECT * FROM pg_temp.look(:id);
-- nothing to pay, nothing to refund: the goods go back alone
SELECT ordflow.refund_order(:id, amount => 1);
SELECT ordflow.refund_order(:id, '[{"line": 1, "quantity": 1}]') > 0 AS refund;
SELECT ordflow.cancel_order(:id), ordflow.ship_order(:points, 'c', 't'), ordflow.ship_order(:gift, 'c', 't');
SELECT * FROM pg_temp.look(:id) UNION ALL SELECT * FROM pg_temp.look(:points) UNION ALL SELECT * FROM pg_temp.look(:gift);
SELECT * FROM pg_temp.stock('order_submit_payable_zero');
SELECT * FROM ordflow.audit(:'began');

-- submit: stock is reserved, the coupon locked, the payment deadline set, history written.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('order_submit', 10), ordflow.receive_stock('order_submit', 7, 'east');
SELECT ordflow.create_coupon('order_submit', 'fixed', 3) > 0 AS coupon;
-- summed over the lines of one (sku, location): 4 + 6 of 10 here, 7 of 7 there
SELECT ordflow.submit_order('order_submit', '[
    {"sku": "order_submit", "quantity": 4, "unit_price": 2.5},
    {"sku": "order_submit", "quantity": 7, "unit_price": "1", "location": "east", "metadata": {"gift": true}},
    {"sku": "order_submit", "quantity": 6, "unit_price": 0},
    {"sku": "wrapping", "quantity": 1, "unit_price": 1.5, "stock": false}]',
    coupon => 'order_submit', pay_within => '30 min', metadata => '{"channel": "web"}',
    charges => '[{"code": "shipping", "amount": 12}, {"code": "points", "amount": "-5"}]') AS id \gset

SELECT order_no = :'id' AS own_number, customer, state, currency, subtotal, discount, charges, payable, coupon,
    expires_at - created_at AS pay_within, due_at = expires_at AS due, cancel_reason, idempotency_key, metadata,
    updated_at = created_at AS fresh
FROM ordflow.orders WHERE order_id = :id;
SELECT line_no, sku, location, quantity, unit_price, amount, discount, payable, shipped, returned, metadata
FROM ordflow.order_lines WHERE order_id = :id ORDER BY 1;
SELECT charge_no, code, amount, reason, added, actor = session_user AS actor
FROM ordflow.order_charges WHERE order_id = :id ORDER BY 1;
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.history(:id);
SELECT * FROM pg_temp.stock('order_submit');
SELECT s.location, m.kind, m.on_hand, m.reserved
FROM ordflow.stock_movements m JOIN ordflow.stock s USING (stock_id) WHERE m.order_id = :id ORDER BY 1;
SELECT sku, location, reference = 'order:' || :id AS reference, quantity, since = o.created_at AS since,
    r.expires_at = o.expires_at AS until
FROM ordflow.reservations r JOIN ordflow.orders o USING (order_id) WHERE order_id = :id ORDER BY location, quantity;
-- the last unit went; nothing of a refused order stays
SELECT pg_temp.try($$SELECT ordflow.submit_order('order_submit',
    '[{"sku": "order_submit", "quantity": 1, "unit_price": 1, "location": "east"}]')$$);
SELECT count(*) FROM ordflow.orders WHERE customer = 'order_submit';
SELECT * FROM ordflow.audit(:'began');

-- refund_order with neither lines nor amount: all units and all money that is left; the order is cancelled.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('refund_all', 20);
SELECT s, ordflow.submit_order('refund_all', '[{"sku": "refund_all", "quantity": 3, "unit_price": 3.33},
    {"sku": "service", "quantity": 1, "unit_price": 1, "stock": false}]', charges => '[{"code": "shipping", "amount": 12}]') AS id
INTO TEMP sold FROM unnest(ARRAY['paid', 'partly', 'shipped', 'completed']) s;
SELECT s, ordflow.pay_order(id, 'p', 'refund_all ' || s, 22.99) FROM sold;
SELECT s, ordflow.ship_order(id, 'c', s, CASE s WHEN 'partly' THEN '[{"line": 1, "quantity": 1}]'::jsonb END) FROM sold
WHERE s <> 'paid';
SELECT s, ordflow.confirm_order(id) FROM sold WHERE s = 'completed';
SELECT * FROM pg_temp.stock('refund_all');
SELECT s, ordflow.refund_order(id, reason => 'regret') AS refund_id INTO TEMP refunds FROM sold;
SELECT s, look.* FROM sold, pg_temp.look(id) ORDER BY id;
SELECT s, l.* FROM sold, pg_temp.lines(id) l ORDER BY id, line;
SELECT s, r.restock, r.payment_id = p.payment_id AS payment, l.line_no, l.quantity, l.amount
FROM refunds JOIN ordflow.refunds r USING (refund_id) JOIN ordflow.payments p USING (payment_id)
JOIN ordflow.refund_lines l USING (refund_id) ORDER BY refund_id, line_no;
SELECT s, h.* FROM sold, pg_temp.history(id) h WHERE event = 'refund' ORDER BY id;
SELECT s, cancel_reason, due_at FROM sold JOIN ordflow.orders ON order_id = id ORDER BY id;
-- all came back
SELECT * FROM pg_temp.stock('refund_all');
SELECT m.kind, sum(m.on_hand) AS on_hand, sum(m.reserved) AS reserved
FROM ordflow.stock_movements m JOIN ordflow.stock USING (stock_id) WHERE sku = 'refund_all' GROUP BY 1 ORDER BY 1;
-- and there is nothing more to give
SELECT s, pg_temp.try(format('SELECT ordflow.refund_order(%s)', id)) FROM sold ORDER BY id;
SELECT * FROM ordflow.audit(:'began');

-- refund_order of lines: those units, unshipped first, and their share of the money.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('refund_lines ' || s, 10) FROM unnest('{a,b}'::text[]) s;
SELECT ordflow.submit_order('refund_lines', '[{"sku": "refund_lines a", "quantity": 4, "unit_price": 2.5},
    {"sku": "refund_lines b", "quantity": 2, "unit_price": 7}]', charges => '[{"code": "shipping", "amount": 5}]') AS id \gset
SELECT ordflow.pay_order(:id, 'p', 'refund_lines', 29);
SELECT ordflow.ship_order(:id, 'c', '1', '[{"line": 1, "quantity": 2}]');
-- 1 of the 2 that are left to ship
SELECT ordflow.refund_order(:id, '[{"line": 1, "quantity": 1}]') > 0 AS refund;
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.lines(:id);
SELECT * FROM pg_temp.stock('refund_lines');
-- 2 more: the last one that is left to ship and one of the two that went; both of the other line
SELECT ordflow.refund_order(:id, '[{"line": 2, "quantity": 2}, {"line": 1, "quantity": 2}]') > 0 AS refund;
-- all that was unshipped is refunded and something has shipped
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.lines(:id);
SELECT * FROM pg_temp.stock('refund_lines');
SELECT due_at - updated_at AS confirm_within FROM ordflow.orders WHERE order_id = :id;
-- more than is left, a line that is not there, twice the same, nothing
SELECT c, pg_temp.try(format('SELECT ordflow.refund_order(%s, %L)', :id, c)) FROM unnest(ARRAY['[{"line": 1, "quantity": 2}]',
    '[{"line": 2, "quantity": 1}]', '[{"line": 3, "quantity": 1}]', '[{"line": 1, "quantity": 1}, {"line": 1, "quantity": 1}]',
    '[{"line": 1, "quantity": 0}]', '[{"line": -1, "quantity": 1}]', '[{"line": 1, "quantity": 1, "amount": 1}]', '[]']) c;
-- the last unit: nothing is left of the order. What it paid for shipping stays with the shop
SELECT ordflow.refund_order(:id, '[{"line": 1, "quantity": 1}]') > 0 AS refund;
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.lines(:id);
SELECT * FROM pg_temp.stock('refund_lines');
SELECT l.line_no, l.quantity, l.amount FROM ordflow.refunds r JOIN ordflow.refund_lines l USING (refund_id)
WHERE r.order_id = :id ORDER BY refund_id, line_no;
SELECT event, from_state, to_state, data->'lines' AS lines, data->'amount' AS amount FROM ordflow.order_history
WHERE order_id = :id AND event = 'refund' ORDER BY seq;
SELECT * FROM ordflow.audit(:'began');

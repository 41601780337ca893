-- refund_order of lines with an amount: those units for that money, more or less than their share.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('refund_lines_and_amount', 10);
SELECT ordflow.submit_order('refund_lines_and_amount', '[{"sku": "refund_lines_and_amount", "quantity": 2, "unit_price": 10},
    {"sku": "refund_lines_and_amount", "quantity": 3, "unit_price": 1}]', charges => '[{"code": "shipping", "amount": 8}]') AS id \gset
SELECT ordflow.pay_order(:id, 'p', 'refund_lines_and_amount', 31);
SELECT ordflow.ship_order(:id, 'c', 't');
-- a unit of 10 for 7; the other for 10 and 2 of the shipping
SELECT ordflow.refund_order(:id, '[{"line": 1, "quantity": 1}]', 7) > 0 AS refund;
SELECT ordflow.refund_order(:id, '[{"line": 1, "quantity": 1}]', 15) > 0 AS refund;
SELECT * FROM pg_temp.lines(:id);
SELECT * FROM pg_temp.look(:id);
SELECT r.amount, l.line_no, l.quantity, l.amount FROM ordflow.refunds r JOIN ordflow.refund_lines l USING (refund_id)
WHERE r.order_id = :id ORDER BY refund_id, line_no;
-- not more than what is left, 9; then the computed money stops there
SELECT ordflow.refund_order(:id, '[{"line": 2, "quantity": 1}]', 9.01);
SELECT ordflow.refund_order(:id, '[{"line": 2, "quantity": 1}]', 8) > 0 AS refund;
SELECT ordflow.refund_order(:id, '[{"line": 2, "quantity": 2}]') > 0 AS refund;
SELECT * FROM pg_temp.lines(:id);
SELECT * FROM pg_temp.look(:id);
SELECT * FROM ordflow.audit(:'began');

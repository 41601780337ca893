-- ship, some lines only: the order stays in pending_shipment until all are shipped.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('order_ship_partial ' || s, 10) FROM unnest('{a,b}'::text[]) s;
SELECT ordflow.submit_order('order_ship_partial', '[
    {"sku": "order_ship_partial a", "quantity": 3, "unit_price": 1},
    {"sku": "order_ship_partial b", "quantity": 2, "unit_price": 1},
    {"sku": "warranty", "quantity": 1, "unit_price": 1, "stock": false}]') AS id \gset
SELECT ordflow.pay_order(:id, 'p', 'order_ship_partial', 6);
SELECT ordflow.ship_order(:id, 'sf', '1', '[{"line": 2, "quantity": 2}, {"line": 1, "quantity": 1}]');
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.lines(:id);
SELECT * FROM pg_temp.stock('order_ship_partial');
SELECT sku, quantity FROM ordflow.reservations WHERE order_id = :id;
-- more than is left, a line that is not there, nothing at all
SELECT c, pg_temp.try(format('SELECT ordflow.ship_order(%s, %L, %L, %L)', :id, 'sf', 'bad', c)) FROM unnest(ARRAY[
    '[{"line": 1, "quantity": 3}]', '[{"line": 2, "quantity": 1}]', '[{"line": 1, "quantity": 1}, {"line": 1, "quantity": 1}]',
    '[{"line": 4, "quantity": 1}]', '[{"line": 0, "quantity": 1}]', '[{"line": 1, "quantity": 0}]', '[{"line": 1}]', '[]']) c;
-- the rest
SELECT ordflow.ship_order(:id, 'sf', '2');
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.lines(:id);
SELECT * FROM pg_temp.stock('order_ship_partial');
SELECT s.tracking_number, l.line_no, l.quantity
FROM ordflow.shipments s JOIN ordflow.shipment_lines l USING (shipment_id) WHERE s.order_id = :id ORDER BY 1, 2;
SELECT seq, event, from_state, to_state, data->'lines' AS lines FROM ordflow.order_history WHERE order_id = :id ORDER BY 1;
SELECT * FROM ordflow.audit(:'began');

-- A line draws on its own location, "main" where none is named; ship, cancel and refund move the units of that location.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('order_locations', 10), ordflow.receive_stock('order_locations', 10, 'east'),
    ordflow.receive_stock('order_locations', 10, 'west');
SELECT '[{"sku": "order_locations", "quantity": 1, "unit_price": 5},
    {"sku": "order_locations", "quantity": 2, "unit_price": 5, "location": "east"}]' AS lines \gset
SELECT n, ordflow.submit_order('c', :'lines') AS id INTO TEMP sold FROM generate_series(1, 3) n;
SELECT l.line_no, l.location FROM ordflow.order_lines l, sold WHERE order_id = id AND n = 1 ORDER BY 1;
SELECT * FROM pg_temp.stock('order_locations');
SELECT ordflow.cancel_order(id) FROM sold WHERE n = 1;
SELECT * FROM pg_temp.stock('order_locations');
SELECT ordflow.pay_order(id, 'p', 'order_locations ' || n, 15) FROM sold WHERE n > 1;
SELECT ordflow.ship_order(id, 'c', 't', '[{"line": 2, "quantity": 1}]') FROM sold WHERE n = 2;
SELECT ordflow.ship_order(id, 'c', 't') FROM sold WHERE n = 3;
SELECT * FROM pg_temp.stock('order_locations');
SELECT count(ordflow.refund_order(id, '[{"line": 2, "quantity": 2}]')) FROM sold WHERE n > 1;
SELECT * FROM pg_temp.stock('order_locations');
SELECT n, look.* FROM sold, pg_temp.look(id) WHERE n > 1 ORDER BY n;
SELECT * FROM ordflow.audit(:'began');

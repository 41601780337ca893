-- submit_orders: no bad order, however bad, fails the others; each is invalid with the SQLSTATE of a single call.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bulk_bad_input', 100);
CREATE TABLE pg_temp.bad (n serial, o text);
INSERT INTO bad (o) VALUES ('1'), ('null'), ('[]'), ('"x"'), ('{}'), ('{"lines": null}'), ('{"lines": {}}'), ('{"lines": []}'), ('{"lines": [1]}'),
    ('{"lines": [[]]}'), ('{"lines": [LINE], "order": 1}'), ('{"lines": [LINE], "customer": ""}'), ('{"lines": [LINE], "customer": 7}'),
    ('{"lines": [LINE], "customer": "LONG"}'), ('{"lines": [LINE], "idempotency_key": "LONG"}'), ('{"lines": [LINE], "coupon": "LONG"}'),
    ('{"lines": [LINE], "order_no": "LONG"}'), ('{"lines": [LINE], "order_no": ""}'), ('{"lines": [LINE], "currency": "RMB"}'),
    ('{"lines": [LINE], "currency": "cny"}'), ('{"lines": [LINE], "currency": "LONG"}'), ('{"lines": [LINE], "pay_within": "-1 day"}'),
    ('{"lines": [LINE], "pay_within": "0"}'), ('{"lines": [LINE], "pay_within": "soon"}'), ('{"lines": [LINE], "pay_within": "200 years"}'),
    ('{"lines": [LINE], "pay_within": 15}'), ('{"lines": [LINE], "metadata": []}'), ('{"lines": [LINE], "metadata": 1}'),
    ('{"lines": [LINE], "charges": {}}'), ('{"lines": [LINE], "charges": [{"code": "x"}]}'), ('{"lines": [LINE], "charges": [{"code": "x", "amount": -1.01}]}'),
    ('{"lines": [LINE], "charges": [{"code": "x", "amount": 1e131071}]}'), ('{"lines": [LINE], "charges": [{"code": "x", "amount": -9e131071}]}'),
    ('{"lines": [{"sku": "x", "quantity": 1e131071, "unit_price": 1}]}'), ('{"lines": [{"sku": "x", "quantity": 1e-16383, "unit_price": 1}]}'),
    ('{"lines": [{"sku": "x", "quantity": 1, "unit_price": 1e131071}]}'), ('{"lines": [{"sku": "x", "quantity": 1, "unit_price": 1e-16383}]}'),
    ('{"lines": [{"sku": "x", "quantity": "1", "unit_price": 1}]}'), ('{"lines": [{"sku": "x", "quantity": 1, "unit_price": "NaN"}]}'),
    ('{"lines": [{"sku": "x", "quantity": 1000000000000, "unit_price": 999999999999999}]}');
SELECT b.n, b.o, s.result, s.detail->0->>'sqlstate' AS sqlstate, s.order_id FROM ordflow.submit_orders((
    SELECT jsonb_agg(replace(replace(o, 'LINE', '{"sku": "bulk_bad_input", "quantity": 1, "unit_price": 1}'), 'LONG', repeat('x', 256))::jsonb ORDER BY n)
    || '[{"customer": "bulk_bad_input", "lines": [{"sku": "bulk_bad_input", "quantity": 1, "unit_price": 1}]}]' FROM bad)) s
LEFT JOIN bad b ON s.ordinality = n WHERE s.result <> 'ok' ORDER BY s.ordinality;
SELECT count(*) AS sold FROM ordflow.orders WHERE customer = 'bulk_bad_input';
SELECT * FROM pg_temp.stock('bulk_bad_input');
SELECT * FROM ordflow.audit();

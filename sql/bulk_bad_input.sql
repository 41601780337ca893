-- submit_orders: no bad order, however bad, fails the others; each is invalid with the SQLSTATE of a single call.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bulk_bad_input', 100);
CREATE TABLE pg_temp.bad (n serial, o text);
INSERT INTO bad (o) VALUES ('1'), ('null'), ('[]'), ('"x"'), ('{}'), ('{"lines": null}'), ('{"lines": {}}'), ('{"lines": []}'),
    ('{"lines": [1]}'), ('{"lines": [[]]}'), ('{GOOD, "order": 1}'), ('{GOOD, "customer": ""}'), ('{GOOD, "customer": 7}'),
    ('{GOOD, "customer": "LONG"}'), ('{GOOD, "idempotency_key": "LONG"}'), ('{GOOD, "coupon": "LONG"}'), ('{GOOD, "order_no": "LONG"}'),
    ('{GOOD, "order_no": ""}'), ('{GOOD, "currency": "RMB"}'), ('{GOOD, "currency": "cny"}'), ('{GOOD, "currency": "LONG"}'),
    ('{GOOD, "pay_within": "-1 day"}'), ('{GOOD, "pay_within": "0"}'), ('{GOOD, "pay_within": "soon"}'),
    ('{GOOD, "pay_within": "200 years"}'), ('{GOOD, "pay_within": 15}'), ('{GOOD, "metadata": []}'), ('{GOOD, "metadata": 1}'),
    ('{GOOD, "charges": {}}'), ('{GOOD, "charges": [{"code": "x"}]}'), ('{GOOD, "charges": [{"code": "x", "amount": -1.01}]}'),
    ('{GOOD, "charges": [{"code": "x", "amount": 1e131071}]}'), ('{GOOD, "charges": [{"code": "x", "amount": -9e131071}]}');
INSERT INTO bad (o) SELECT format('{"lines": [{"sku": "x", "stock": false, "quantity": %s, "unit_price": %s}]}', q, p) FROM (VALUES
    ('1e131071', '1'), ('1e-16383', '1'), ('"1"', '1'), ('1.5', '1'), ('-1', '1'), ('1', '1e131071'), ('1', '1e-16383'), ('1', '-0.01'),
    ('1', '"NaN"'), ('1', '"-Infinity"'), ('1', '"1 or 2"'), ('1', 'true'), ('1000000000000', '999999999999999')) AS v (q, p);
SELECT coalesce(b.o, 'good') AS o, s.result, s.detail->0->>'sqlstate' AS sqlstate, s.order_id IS NULL AS none FROM ordflow.submit_orders((
    SELECT jsonb_agg(replace(replace(o, 'GOOD', '"lines": [{"sku": "bulk_bad_input", "quantity": 1, "unit_price": 1}]'),
        'LONG', repeat('x', 256))::jsonb ORDER BY n)
    || '[{"customer": "bulk_bad_input", "lines": [{"sku": "bulk_bad_input", "quantity": 1, "unit_price": 1}]}]' FROM bad)) s
LEFT JOIN bad b ON s.ordinality = n ORDER BY s.ordinality;
SELECT count(*) AS sold FROM ordflow.orders WHERE customer = 'bulk_bad_input';
SELECT * FROM pg_temp.stock('bulk_bad_input');
-- what is wrong with the call as a whole
SELECT j, pg_temp.try(format('SELECT count(*) FROM ordflow.submit_orders(%L)', j)) FROM unnest(ARRAY['{}', '1', 'null', '[}', NULL]) j;
SELECT pg_temp.try('SELECT count(*) FROM ordflow.submit_orders((SELECT jsonb_agg(i) FROM generate_series(1, 10001) i))') AS orders_10001;
SELECT result, count(*) FROM ordflow.submit_orders((SELECT jsonb_agg(i) FROM generate_series(1, 10000) i)) GROUP BY 1;
SELECT * FROM ordflow.audit(:'began');

-- quote_order is submit's own arithmetic: whatever it says without a problem is what submit writes, and it writes nothing.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('quote_agrees ' || s, 10, l) FROM unnest('{a,b}'::text[]) s, unnest('{main,east}'::text[]) l;
SELECT ordflow.create_coupon('quote_agrees', 'percent', 33, '{"skus": ["quote_agrees a", "service"], "max_discount": 7.77}') > 0 AS coupon;
SELECT '[{"sku": "quote_agrees a", "quantity": 3, "unit_price": 3.335},
    {"sku": "service", "quantity": 7, "unit_price": "0.999", "stock": false},
    {"sku": "quote_agrees b", "quantity": 1, "unit_price": 100, "location": "east"},
    {"sku": "quote_agrees a", "quantity": 5, "unit_price": 1}]' AS lines \gset
\set charges '[{"code": "shipping", "amount": 12}, {"code": "points", "amount": -5.5}]'
SELECT pg_temp.fingerprint() AS before \gset
SELECT ordflow.quote_order('c', :'lines', 'quote_agrees', :'charges') AS quote \gset
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
SELECT jsonb_pretty(:'quote'::jsonb - 'lines');
SELECT l.* FROM jsonb_to_recordset(:'quote'::jsonb->'lines') AS l (line int, sku text, location text, quantity bigint, unit_price numeric,
    amount numeric, discount numeric, payable numeric, available bigint);
SELECT ordflow.submit_order('c', :'lines', 'quote_agrees', charges => :'charges') AS id \gset
SELECT (o.currency, o.subtotal, o.discount, o.charges, o.payable) = (q.currency, q.subtotal, q.discount, q.charges, q.payable) AS same
FROM ordflow.orders o, jsonb_to_record(:'quote') AS q (currency text, subtotal numeric, discount numeric, charges numeric, payable numeric)
WHERE order_id = :id;
SELECT bool_and((l.sku, l.quantity, l.unit_price, l.amount, l.discount, l.payable) = (q.sku, q.quantity, q.unit_price, q.amount, q.discount,
    q.payable) AND l.location IS NOT DISTINCT FROM q.location) AS same, count(*)
FROM ordflow.order_lines l JOIN jsonb_to_recordset(:'quote'::jsonb->'lines') AS q (line int, sku text, location text, quantity bigint,
    unit_price numeric, amount numeric, discount numeric, payable numeric) ON q.line = l.line_no WHERE order_id = :id;
-- afterwards it sees what the order took
SELECT l->>'sku' AS sku, l->>'location' AS location, l->'available' AS available
FROM jsonb_array_elements(ordflow.quote_order('c', :'lines')->'lines') l;
-- other currencies, the setting
SELECT ordflow.quote_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1.2345}]', currency => 'KWD') - 'lines'
    AS dinar;
SET ordflow.currency = 'JPY';
SELECT ordflow.quote_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1.5}]') - 'lines' AS yen;
RESET ordflow.currency;
-- it may run where nothing can be written
BEGIN READ ONLY;
SELECT ordflow.quote_order(NULL, '[{"sku": "quote_agrees a", "quantity": 1, "unit_price": 1}]')->'payable' AS payable;
COMMIT;
SELECT * FROM ordflow.audit(:'began');

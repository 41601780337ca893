-- The same idempotency key with other arguments is OF005, for each argument that is compared; nothing changes.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('submit_key ' || s, 10, l) FROM unnest('{a,b}'::text[]) s, unnest('{main,east}'::text[]) l;
SELECT ordflow.create_coupon('submit_key ' || c, 'fixed', 1) > 0 AS coupon FROM unnest('{a,b}'::text[]) c;
CREATE FUNCTION pg_temp.submit(lines text, more text, change text DEFAULT ' -> ') RETURNS text LANGUAGE sql AS $$
SELECT pg_temp.try(replace(format('SELECT ordflow.submit_order(''submit_key'', %L, idempotency_key => ''k'' %s)', lines, more),
    split_part(change, ' -> ', 1), split_part(change, ' -> ', 2))) $$;
\set lines '[{"sku": "submit_key a", "quantity": 2, "unit_price": 2.55}, {"sku": "submit_key b", "quantity": 1, "unit_price": 1}]'
\set more ', coupon => ''submit_key a'', charges => ''[{"code": "shipping", "amount": 3}, {"code": "gift", "amount": 1}]'''
SELECT pg_temp.submit(:'lines', :'more') AS id \gset
SELECT pg_temp.fingerprint() AS before \gset
SELECT c AS change, pg_temp.submit(:'lines', :'more', c) FROM unnest(ARRAY['"quantity": 2 -> "quantity": 3', '2.55 -> 2.551',
    '"submit_key b" -> "submit_key a"', '2.55} -> 2.55, "metadata": {"size": 4}}', '2.55} -> 2.55, "location": "east"}',
    '2.55} -> 2.55, "stock": false}', '"unit_price": 1} -> "unit_price": 0}',
    -- a line less, a line more
    ', {"sku": "submit_key b", "quantity": 1, "unit_price": 1} -> ', '[{"sku" -> [{"sku": "x", "quantity": 1, "unit_price": 1}, {"sku"',
    -- the coupon and the charges
    'coupon => ''submit_key a'' -> coupon => ''submit_key b''', 'coupon => ''submit_key a'' -> coupon => NULL', 'shipping -> Shipping',
    '"amount": 3 -> "amount": 3.01', ', {"code": "gift", "amount": 1} -> ', 'shipping", "amount": 3 -> gift", "amount": 1',
    '[{"code" -> [{"code": "x", "amount": 0}, {"code"']) c;
-- the same lines and the same charges in another order; no charges; another currency
SELECT pg_temp.submit('[{"sku": "submit_key b", "quantity": 1, "unit_price": 1},
        {"sku": "submit_key a", "quantity": 2, "unit_price": 2.55}]', :'more') AS lines,
    pg_temp.submit(:'lines', ', coupon => ''submit_key a'', charges =>
        ''[{"code": "gift", "amount": 1}, {"code": "shipping", "amount": 3}]''') AS charges,
    pg_temp.submit(:'lines', ', coupon => ''submit_key a''') AS no_charges;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
SELECT pg_temp.submit(:'lines', :'more') = :'id' AS same;
-- a line's metadata is compared too
\set size '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1, "metadata": {"size": 4}}]'
SELECT pg_temp.submit(:'size', '', '''k'' -> ''k2''') > '' AS other_key;
SELECT m, pg_temp.submit(format('[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1%s}]', m), '', '''k'' -> ''k2''')
FROM unnest(ARRAY[', "metadata": {"size": 5}', ', "metadata": {}', '']) m;
-- and the currency, which is the setting where none is named
SELECT pg_temp.submit(:'size', ', currency => ''USD''', '''k'' -> ''k2''');
SET ordflow.currency = 'USD';
SELECT pg_temp.submit(:'size', '', '''k'' -> ''k2''');
RESET ordflow.currency;
-- the customer is not compared: the key is his own
SELECT ordflow.submit_order('submit_key 2', '[{"sku": "submit_key a", "quantity": 1, "unit_price": 1}]', idempotency_key => 'k') <> :id
    AS another;
SELECT * FROM ordflow.audit(:'began');

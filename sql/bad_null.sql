-- NULL in every argument of every function of orders: 22004 but where the signature says DEFAULT NULL, or the customer is a guest.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('bad_null', 'pending_shipment') AS id, pg_temp.sell('bad_null unpaid') AS unpaid \gset
SELECT ordflow.refund_order(:id, amount => 1) AS refund \gset
SELECT pg_temp.fingerprint() AS before \gset
CREATE TABLE pg_temp.words (word text, value text);
INSERT INTO words VALUES ('ID', :id), ('UNPAID', :unpaid), ('REFUND', :refund), ('PARTS', '''[{"line": 1, "quantity": 1}]'''),
    ('LINES', '''[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1}]''');
CREATE TABLE pg_temp.calls (function regprocedure, args text);
INSERT INTO calls VALUES
    ('ordflow.quote_order(text, jsonb, text, jsonb, text)', $$'c'|LINES|'bad_null'|'[]'|'CNY'$$),
    ('ordflow.submit_order(text, jsonb, text, text, interval, jsonb, jsonb, text, text)',
        $$'c'|LINES|NULL|'bad_null'|'1 day'|'{}'|'[]'|'CNY'|'bad_null'$$),
    ('ordflow.submit_orders(jsonb)', $$'[]'$$),
    ('ordflow.add_charge(bigint, text, numeric, text)', $$UNPAID|'code'|1|'reason'$$),
    ('ordflow.pay_order(bigint, text, text, numeric, text)', $$UNPAID|'p'|'bad_null'|10|'CNY'$$),
    ('ordflow.ship_order(bigint, text, text, jsonb)', $$ID|'c'|'t'|PARTS$$),
    ('ordflow.confirm_order(bigint, text)', $$ID|'customer'$$),
    ('ordflow.cancel_order(bigint, text)', $$ID|'customer'$$),
    ('ordflow.expire_order(bigint)', 'ID'),
    ('ordflow.extend_order(bigint, interval)', $$UNPAID|'1 day'$$),
    ('ordflow.refund_order(bigint, jsonb, numeric, boolean, text, text)', $$ID|PARTS|1|true|'reason'|'bad_null'$$),
    ('ordflow.refund_done(bigint, text)', $$REFUND|'r'$$),
    ('ordflow.refund_failed(bigint, text)', $$REFUND|'e'$$),
    ('ordflow.release_refund(bigint)', 'REFUND'),
    ('ordflow.order_id(text)', $$'bad_null'$$),
    ('ordflow.available_events(bigint)', 'ID'),
    ('ordflow.available_events(regclass, text)', $$'ordflow.orders'|'ID'$$);
-- the call with its n-th argument NULL; n = 0: as it is
CREATE FUNCTION pg_temp.answer(function regprocedure, args text, n int) RETURNS text LANGUAGE sql AS $$
SELECT pg_temp.peek(format('SELECT left(''accepted'' || count(x), 8) FROM (SELECT %s(%s) AS x) AS f', function::regproc,
    string_agg(CASE i WHEN n THEN 'NULL' ELSE replace(a, coalesce(word, a), coalesce(value, a)) END, ', ' ORDER BY i)))
FROM string_to_table(args, '|') WITH ORDINALITY AS a (a, i) LEFT JOIN pg_temp.words ON word = trim('''' FROM a)
$$;
SELECT function, string_agg(concat_ws(' ', proargnames[n], pg_temp.answer(function, args, n)), ', ' ORDER BY n) AS answers
FROM calls JOIN pg_proc p ON p.oid = function, generate_series(0, pronargs) n
GROUP BY function ORDER BY function::text COLLATE "C";
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- none is missing
SELECT object FROM ordflow.parts WHERE part = 'orders' AND privilege = 'EXECUTE'
AND substr(object, 10)::regprocedure NOT IN (SELECT function FROM calls) ORDER BY 1;
SELECT * FROM ordflow.audit(:'began');

-- Texts have 1 to 255 bytes: a customer name of 1 MB and every other one too long or empty is refused and changes nothing.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('bad_text', 'pending_shipment') AS id, pg_temp.sell('bad_text unpaid') AS unpaid \gset
SELECT ordflow.refund_order(:id, amount => 1) AS refund \gset
SELECT pg_temp.fingerprint() AS before \gset
CREATE FUNCTION pg_temp.line(text, form text DEFAULT '[{"sku": %s, "stock": false, "quantity": 1, "unit_price": 1}]')
RETURNS jsonb LANGUAGE sql AS $$ SELECT format(form, to_json($1))::jsonb $$;
CREATE TABLE pg_temp.calls AS
SELECT n, c AS call, replace(replace(replace(c, 'ID', :'id'), 'OPEN', :'unpaid'), 'REFUND', :'refund') AS sql
FROM unnest(ARRAY['submit_order(%L, pg_temp.line(''s''))', 'submit_order(NULL, pg_temp.line(''s''), %L)',
    'submit_order(NULL, pg_temp.line(''s''), NULL, %L)', 'submit_order(NULL, pg_temp.line(''s''), order_no => %L)',
    'submit_order(NULL, pg_temp.line(''s''), currency => %L)', 'submit_order(NULL, pg_temp.line(%L))',
    'submit_order(NULL, pg_temp.line(%L, ''[{"sku": "s", "location": %%s, "quantity": 1, "unit_price": 1}]''))',
    'submit_order(NULL, pg_temp.line(''s''), charges => pg_temp.line(%L, ''[{"code": %%s, "amount": 1}]''))',
    'quote_order(%L, pg_temp.line(''s''))', 'quote_order(NULL, pg_temp.line(''s''), %L)',
    'quote_order(NULL, pg_temp.line(''s''), currency => %L)', 'add_charge(OPEN, %L, 1)', 'add_charge(OPEN, ''x'', 1, %L)',
    'pay_order(OPEN, %L, ''bad_text'', 10)', 'pay_order(OPEN, ''p'', %L, 10)', 'pay_order(OPEN, ''p'', ''bad_text'', 10, %L)',
    'ship_order(ID, %L, ''t'')', 'ship_order(ID, ''c'', %L)', 'confirm_order(ID, %L)', 'cancel_order(ID, %L)',
    'refund_order(ID, reason => %L)', 'refund_order(ID, idempotency_key => %L)', 'refund_done(REFUND, %L)', 'order_id(%L)'])
    WITH ORDINALITY AS a (c, n);
-- nothing, 255 bytes, 256, 1 MB; of characters of three bytes 85, 86
SELECT call, string_agg(pg_temp.peek(format('SELECT ''ok'' FROM ordflow.' || sql, t)), ' ' ORDER BY o) AS answers
FROM calls, unnest(ARRAY['', repeat('x', 255), repeat('x', 256), repeat('x', 1048576), repeat('订', 85), repeat('订', 86)])
    WITH ORDINALITY AS t (t, o) GROUP BY n, call ORDER BY n;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- what a provider says went wrong alone may be longer
SELECT pg_temp.peek(format('SELECT ordflow.refund_failed(%s, repeat(''x'', 1048576))', :refund));
SELECT * FROM ordflow.audit(:'began');

-- Lines are an array of 1 to 5,000 objects with sku, quantity and price; anything else changes nothing.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bad_lines', 10000);
SELECT pg_temp.sell('bad_lines sold', 'pending_shipment') AS id \gset
SELECT pg_temp.fingerprint() AS before \gset
CREATE FUNCTION pg_temp.answers(lines text) RETURNS TABLE (submit text, quote text, ship text, refund text) LANGUAGE sql AS $$
SELECT pg_temp.try(format('SELECT ordflow.submit_order(NULL, %s)', lines)),
    pg_temp.try(format('SELECT ordflow.quote_order(NULL, %s)', lines)),
    pg_temp.try(format('SELECT ordflow.ship_order(%s, ''c'', ''t'', %s)', id, lines)),
    pg_temp.try(format('SELECT ordflow.refund_order(%s, %s)', id, lines))
FROM ordflow.orders o (id) WHERE customer = 'bad_lines sold' $$;
\set more '"quantity": 1, "unit_price": 1'
SELECT l, a.* FROM unnest(ARRAY['[]', '{}', '1', '"x"', 'true', 'null', '[null]', '[1]', '["x"]', '[[]]', '[{}]',
    '[[{"sku": "bad_lines", MORE}]]', '{"sku": "bad_lines", MORE}', '[{MORE}]', '[{"sku": "bad_lines", "unit_price": 1}]',
    '[{"sku": "bad_lines", "quantity": 1}]', '[{"sku": null, MORE}]', '[{"sku": "", MORE}]', '[{"sku": 7, MORE}]',
    '[{"sku": "bad_lines", MORE}, {}]', '[{"sku": "bad_lines", MORE, "location": ""}]', '[{"sku": "bad_lines", MORE, "stock": 1}]',
    '[{"sku": "bad_lines", MORE, "stock": false, "location": "main"}]', '[{"sku": "bad_lines", MORE, "metadata": []}]',
    '[{"sku": "bad_lines", MORE, "metadata": "x"}]']) l, quote_literal(replace(l, 'MORE', :'more')) q, pg_temp.answers(q) a;
CREATE FUNCTION pg_temp.many(n int, line text) RETURNS jsonb LANGUAGE sql AS $$
SELECT jsonb_agg(replace(line, 'N', i::text)::jsonb) FROM generate_series(1, n) i $$;
SELECT n, a.submit, a.quote, b.ship, b.refund FROM unnest(ARRAY[5001, 10000]) n,
    pg_temp.answers(format('pg_temp.many(%s, ''{"sku": "bad_lines", "quantity": 1, "unit_price": 1}'')', n)) a,
    pg_temp.answers(format('pg_temp.many(%s, ''{"line": N, "quantity": 1}'')', n)) b;
SELECT pg_temp.try('SELECT ordflow.submit_order(NULL, pg_temp.many(1, ''{"sku": "s", "quantity": 1, "unit_price": 1, "stock": false}''),
    charges => pg_temp.many(5001, ''{"code": "x", "amount": 1}''))') AS charges;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- 5,000 pass: one unit each
SELECT ordflow.submit_order(NULL, pg_temp.many(5000, '{"sku": "bad_lines", "quantity": 1, "unit_price": 0.01}')) AS many \gset
SELECT payable, (SELECT count(*) FROM ordflow.order_lines WHERE order_id = :many) AS lines FROM ordflow.orders WHERE order_id = :many;
SELECT ordflow.pay_order(:many, 'p', 'bad_lines', 50),
    ordflow.ship_order(:many, 'c', 't', pg_temp.many(5000, '{"line": N, "quantity": 1}'));
SELECT ordflow.refund_order(:many, pg_temp.many(5000, '{"line": N, "quantity": 1}')) > 0 AS refund;
SELECT * FROM pg_temp.look(:many);
SELECT * FROM pg_temp.stock('bad_lines') WHERE sku = 'bad_lines';
SELECT * FROM ordflow.audit(:'began');

-- A repeat may be written otherwise: what is compared are parsed values. Metadata, pay_within and order_no are not compared.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('submit_not_compared', 10);
CREATE FUNCTION pg_temp.submit(lines text, more text DEFAULT '') RETURNS text LANGUAGE sql AS $$
SELECT pg_temp.try(format('SELECT ordflow.submit_order(''submit_repeat not compared'', %L, idempotency_key => ''k'' %s %s)',
    replace(lines, 'SKU', 'submit_not_compared'), more,
    CASE WHEN more NOT LIKE '%charges%' THEN $c$, charges => '[{"code": "shipping", "amount": 3}]'$c$ END)) $$;
\set second '{"sku": "s", "quantity": 1, "unit_price": 0, "stock": false, "metadata": {"a": 1, "b": [1, 2]}}'
SELECT '[{"sku": "SKU", "quantity": 2, "unit_price": 2.55}, ' || :'second' || ']' AS lines \gset
SELECT pg_temp.submit(:'lines') AS id \gset
-- 2.55, 2.550, "2.55", 255e-2; keys in any order; what was left out written out
SELECT l, pg_temp.submit(replace(l, 'SECOND', :'second')) = :'id' AS same FROM unnest(ARRAY[
    '[{"sku": "SKU", "quantity": 2, "unit_price": 2.55}, SECOND]',
    '[{"unit_price": 2.550, "quantity": 2, "sku": "SKU"}, SECOND]',
    '[{"sku": "SKU", "quantity": 2.0, "unit_price": "2.55"}, SECOND]',
    '[{"sku": "SKU", "quantity": 2, "unit_price": 255e-2, "location": "main", "stock": true, "metadata": {}}, SECOND]',
    '[{"sku": "SKU", "quantity": 2, "unit_price": 2.55, "location": null, "stock": null, "metadata": null}, SECOND]']) l;
SELECT l, pg_temp.submit(format('[{"sku": "SKU", "quantity": 2, "unit_price": 2.55}, %s]', l)) = :'id' AS same FROM unnest(ARRAY[
    '{"metadata": {"b": [1, 2], "a": 1.0}, "stock": false, "unit_price": 0.0, "quantity": 1, "sku": "s"}',
    '{"sku": "s", "quantity": 1, "unit_price": "0", "stock": false, "location": null, "metadata": {"a": 1, "b": [1, 2]}}']) l;
SELECT m, pg_temp.submit(:'lines', m) = :'id' AS same FROM unnest(ARRAY[', metadata => ''{"channel": "app"}''', ', pay_within => ''1 day''',
    ', order_no => ''submit_repeat not compared''', ', currency => ''CNY''', ', coupon => NULL',
    ', charges => ''[{"amount": "3.00", "code": "shipping"}]''']) m;
-- nothing of a repeat was taken over
SELECT order_no = order_id::text AS own_number, metadata, expires_at - created_at AS pay_within FROM ordflow.orders WHERE order_id = :id;
SELECT count(*) FROM ordflow.orders WHERE customer = 'submit_repeat not compared';
SELECT reserved FROM pg_temp.stock('submit_not_compared') WHERE sku = 'submit_not_compared';
SELECT * FROM ordflow.audit(:'began');

-- The settings of orders: their defaults, what they change, and that what was submitted before stays as it was.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT name, setting, unit, context FROM pg_settings
WHERE name IN ('ordflow.currency', 'ordflow.pay_within', 'ordflow.confirm_within', 'ordflow.actor', 'ordflow.event', 'ordflow.max_lines')
ORDER BY name COLLATE "C";
CREATE FUNCTION pg_temp.submit(more text DEFAULT '') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    id bigint;
BEGIN
    EXECUTE 'SELECT ordflow.submit_order(NULL, ''[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1.5}]''' || more || ')' INTO id;
    RETURN (SELECT concat_ws(' ', currency, payable, expires_at - created_at) FROM ordflow.orders WHERE order_id = id);
END
$$;
SELECT pg_temp.submit();
SET ordflow.currency = 'JPY';
SET ordflow.pay_within = '2h';
SELECT pg_temp.submit(), pg_temp.submit(', currency => ''KWD'', pay_within => ''90 min''');
-- in a function's own settings, and for one transaction
ALTER FUNCTION pg_temp.submit SET ordflow.pay_within = '1d';
SELECT pg_temp.submit();
ALTER FUNCTION pg_temp.submit RESET ALL;
RESET ordflow.currency;
RESET ordflow.pay_within;
BEGIN;
SET LOCAL ordflow.pay_within = 3600;
SELECT pg_temp.submit();
COMMIT;
SELECT pg_temp.submit();
SELECT s, pg_temp.try('SET ' || s) FROM unnest(ARRAY['ordflow.currency = ''RMB''', 'ordflow.currency = ''cny''', 'ordflow.currency = ''''',
    'ordflow.pay_within = 0', 'ordflow.pay_within = -1', 'ordflow.pay_within = ''soon''', 'ordflow.confirm_within = 0',
    'ordflow.max_lines = 0', 'ordflow.max_lines = 5001', 'ordflow.pay_wihtin = 1']) s;
SET ordflow.max_lines = 1;
SELECT pg_temp.try($$SELECT ordflow.submit_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1},
    {"sku": "s", "stock": false, "quantity": 1, "unit_price": 1}]')$$);
RESET ordflow.max_lines;
-- months and days are counted from the clock at submit
SELECT ordflow.submit_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1}]', pay_within => '1 month 1 day') AS id
\gset
SELECT expires_at = created_at + interval '1 month 1 day' AS exact FROM ordflow.orders WHERE order_id = :id;
SELECT * FROM ordflow.audit(:'began');

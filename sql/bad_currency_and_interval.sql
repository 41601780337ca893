-- Currencies are codes of ISO 4217 in capitals; pay_within is above zero and at most 100 years. Anything else changes nothing.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('bad_currency') AS id \gset
SELECT pg_temp.fingerprint() AS before \gset
\set line '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1}]'
SELECT c, pg_temp.try(format('SELECT ordflow.submit_order(NULL, %L, currency => %L)', :'line', c)) AS submit,
    pg_temp.try(format('SELECT ordflow.quote_order(NULL, %L, currency => %L)', :'line', c)) AS quote,
    pg_temp.try(format('SELECT ordflow.pay_order(%s, ''p'', ''bad_currency'', 10, %L)', :id, c)) AS pay,
    pg_temp.try(format('SELECT ordflow.pay_order(0, ''p'', ''bad_currency'', 10, %L)', c)) AS pay_unknown
FROM unnest(ARRAY['RMB', 'cny', 'Cny', 'CNY ', ' CNY', 'CN', 'CNYY', 'XTS', 'XAU', 'DEM', '156', 'CNY JPY', 'Y J', '￥', '']) c;
SELECT w, pg_temp.try(format('SELECT ordflow.submit_order(NULL, %L, pay_within => %L)', :'line', w))
FROM unnest(ARRAY['-1 day', '0', '-1 microsecond', '1 month -32 days', '100 years 1 second', '178000000 years', 'soon', '']) w;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- an order that is due as soon as it is there
SELECT ordflow.submit_order(NULL, :'line', pay_within => '1 microsecond') AS brief \gset
SELECT ordflow.pay_order(:brief, 'p', 'bad_currency brief', 1), ordflow.expire_order(:brief);
SELECT * FROM pg_temp.look(:brief);
SELECT pg_temp.peek(format('SELECT ''ok'' FROM ordflow.submit_order(NULL, %L, pay_within => %L)', :'line', '100 years'));
SELECT * FROM ordflow.audit(:'began');

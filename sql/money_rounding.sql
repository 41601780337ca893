-- A line's amount is round(quantity x unit_price, minor units), half away from zero; so is a percentage.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
CREATE FUNCTION pg_temp.amount(currency text, quantity bigint, price text) RETURNS text LANGUAGE sql AS $$
SELECT pg_temp.try(format('SELECT ordflow.quote_order(NULL, %L, currency => %L)->>''subtotal''',
    format('[{"sku": "x", "stock": false, "quantity": %s, "unit_price": %s}]', quantity, price), currency))
$$;
SELECT v.*, pg_temp.amount(currency, quantity, price), pg_temp.amount(currency, quantity, price) = expected AS right
FROM (VALUES
    ('CNY', 1, '0.005', '0.01'), ('CNY', 1, '0.0049999999', '0.00'), ('CNY', 3, '0.335', '1.01'), ('CNY', 1, '2.675', '2.68'),
    ('CNY', 1, '0.025', '0.03'), ('CNY', 7, '0.0714285714', '0.50'), ('CNY', 1, '"1.005"', '1.01'), ('CNY', 1, '1.5e1', '15.00'),
    ('JPY', 1, '0.5', '1'), ('JPY', 1, '1.5', '2'), ('JPY', 1, '2.5', '3'), ('JPY', 1, '2.4999999999', '2'), ('JPY', 5, '0.1', '1'),
    ('KWD', 1, '0.0005', '0.001'), ('KWD', 1, '0.0004999999', '0.000'), ('KWD', 1, '1.2345', '1.235'), ('KWD', 3, '0.3335', '1.001'),
    ('CLF', 1, '0.00005', '0.0001'), ('CNY', 1000000000000, '0.0000000001', '100.00'), ('CNY', 1, '9999999999999.99', '9999999999999.99'),
    ('CNY', 1, '9999999999999.995', '10000000000000.00'), ('JPY', 1, '1e14', '100000000000000'),
    ('CNY', 1, '10000000000000.005', '22003'), ('JPY', 10, '100000000000000.1', '22003')) AS v (currency, quantity, price, expected);
-- sums of rounded amounts are never rounded again: three times 0.334 is 0.99, one line of three is 1.00
SELECT ordflow.quote_order(NULL, '[{"sku": "x", "stock": false, "quantity": 1, "unit_price": 0.334},
    {"sku": "x", "stock": false, "quantity": 1, "unit_price": 0.334}, {"sku": "x", "stock": false, "quantity": 1, "unit_price": 0.334}]')
    ->> 'subtotal' AS three, pg_temp.amount('CNY', 3, '0.334') AS one;
-- a percentage is taken from the sum of the rounded amounts
SELECT v, ordflow.create_coupon('money_rounding ' || v, 'percent', v) > 0 AS coupon FROM unnest(ARRAY[12.5, 50, 99.5, 0.5]) v;
SELECT v, t, ordflow.quote_order(NULL, jsonb_build_array(jsonb_build_object('sku', 'x', 'stock', false, 'quantity', 1, 'unit_price', t)),
    'money_rounding ' || v)->'discount' AS discount, round(t * v / 100, 2) AS expected
FROM unnest(ARRAY[12.5, 50, 99.5, 0.5]) v, unnest(ARRAY[1, 0.01, 0.03, 99.99]) t ORDER BY v, t;

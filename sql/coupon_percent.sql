-- A percentage is taken off the sum of the lines in scope, rounded once, half away from zero, and capped by max_discount.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.create_coupon('cper 10', 'percent', 10), ordflow.create_coupon('cper all', 'percent', 100),
  ordflow.create_coupon('cper odd', 'percent', 33.3333), ordflow.create_coupon('cper tiny', 'percent', 0.0001),
  ordflow.create_coupon('cper max', 'percent', 50, '{"max_discount": 20}'), ordflow.create_coupon('cper str', 'percent', 50, '{"max_discount": "0.01"}') \gset c_
SELECT code, value, currency, max_discount FROM ordflow.coupons WHERE code ~ '^cper' ORDER BY code;
CREATE FUNCTION pg_temp.quote(coupon text, currency text, VARIADIC prices numeric[]) RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' | ', q->>'subtotal', q->>'discount', q->>'payable', (SELECT string_agg(l->>'discount', ', ') FROM jsonb_array_elements(q->'lines') l))
FROM ordflow.quote_order('cper', (SELECT jsonb_agg(jsonb_build_object('sku', 'cper ' || n, 'quantity', 1, 'unit_price', p, 'stock', false))
  FROM unnest(prices) WITH ORDINALITY AS u (p, n)), coupon, '[]', currency) q $$;

-- 10 percent of 0.05 is 0.005, half goes up; of 0.04 it is nothing
SELECT pg_temp.quote('cper 10', 'CNY', 100);
SELECT pg_temp.quote('cper 10', 'CNY', 0.05);
SELECT pg_temp.quote('cper 10', 'CNY', 0.04);
SELECT pg_temp.quote('cper 10', 'JPY', 5);
SELECT pg_temp.quote('cper 10', 'JPY', 4);
SELECT pg_temp.quote('cper 10', 'KWD', 0.005);
-- the sum is rounded, not the lines
SELECT pg_temp.quote('cper 10', 'CNY', 0.04, 0.04, 0.04);
SELECT pg_temp.quote('cper all', 'CNY', 0.01, 19.99);
SELECT pg_temp.quote('cper odd', 'CNY', 100);
SELECT pg_temp.quote('cper tiny', 'CNY', 4999.99);
SELECT pg_temp.quote('cper tiny', 'CNY', 5000);
SELECT pg_temp.quote('cper odd', 'CNY', 999999999999);

-- the cap
SELECT pg_temp.quote('cper max', 'CNY', 39.99);
SELECT pg_temp.quote('cper max', 'CNY', 40.01);
SELECT pg_temp.quote('cper max', 'CNY', 1000);
SELECT pg_temp.quote('cper str', 'CNY', 1000);

-- a percentage without amounts is good in any currency, one with amounts in its own
SELECT ordflow.submit_order('cper', '[{"sku": "x", "quantity": 1, "unit_price": 10, "stock": false}]', 'cper 10', currency => 'EUR') IS NOT NULL;
SELECT ordflow.submit_order('cper', '[{"sku": "x", "quantity": 1, "unit_price": 10, "stock": false}]', 'cper max', currency => 'EUR');
ROLLBACK;

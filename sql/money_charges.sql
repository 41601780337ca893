-- Charges raise or lower the payable, at the currency's own decimals; a payable below zero is refused.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('money_charges', 'fixed', 4) > 0 AS coupon;
CREATE FUNCTION pg_temp.submitted(charges text, coupon text DEFAULT NULL, currency text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    id bigint;
BEGIN
    id = ordflow.submit_order(NULL, '[{"sku": "x", "stock": false, "quantity": 1, "unit_price": 10}]', charges => charges::jsonb,
        coupon => coupon, currency => currency);
    RETURN (SELECT concat_ws(' ', o.state, o.charges, o.payable) FROM ordflow.orders o WHERE order_id = id);
EXCEPTION WHEN OTHERS THEN RETURN sqlstate;
END
$$;
SELECT c, pg_temp.submitted(c) FROM unnest(ARRAY['[]', '[{"code": "a", "amount": 0}]', '[{"code": "a", "amount": "12.30"}]',
    '[{"code": "a", "amount": -9.99}]', '[{"code": "a", "amount": -10}]', '[{"code": "a", "amount": -10.01}]',
    '[{"code": "a", "amount": -20}, {"code": "a", "amount": 15}]', '[{"code": "a", "amount": 0.001}]']) c;
-- the coupon first, and never more than the goods: then the charges
SELECT c, pg_temp.submitted(c, 'money_charges') FROM unnest(ARRAY['[]', '[{"code": "a", "amount": -6}]',
    '[{"code": "a", "amount": -6.01}]', '[{"code": "a", "amount": 5}]']) c;
SELECT y, pg_temp.submitted('[{"code": "a", "amount": 0.5}]', NULL, y) AS half,
    pg_temp.submitted('[{"code": "a", "amount": 0.005}]', NULL, y) AS thousandths
FROM unnest(ARRAY['JPY', 'CNY', 'KWD']) y;
SELECT c, pg_temp.submitted(c) FROM unnest(ARRAY['null', '{}', '[1]', '[{}]', '[{"code": "a"}]', '[{"amount": 1}]',
    '[{"code": "", "amount": 1}]', '[{"code": "a", "amount": "NaN"}]', '[{"code": "a", "amount": 1e30}]', '[{"code": 1, "amount": 1}]',
    '[{"code": "a", "amount": 1e131071}]', '[{"code": "a", "amount": -1e131071}]', '[{"code": "a", "amount": true}]',
    '[{"code": "a", "amount": 1, "tax": 2}]', '[{"code": "a", "amount": "1 "}]', '[{"code": "a", "amount": "1e2"}]',
    '[{"code": "a", "amount": ""}]']) c;
SELECT * FROM ordflow.audit(:'began');

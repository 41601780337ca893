-- The money of k of n units is round(payable x k / n) less what earlier refunds took: together exactly the payable.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('refund_rounding', 1000);
SELECT v.*, ordflow.submit_order('refund_rounding', jsonb_build_array(jsonb_build_object(
    'sku', 'refund_rounding', 'quantity', quantity, 'unit_price', unit_price)), currency => v.currency) AS id INTO TEMP sold
FROM (VALUES (1, 'CNY', 3, 3.3334), (2, 'CNY', 7, 0.01), (3, 'CNY', 6, 0.0167), (4, 'JPY', 3, 33.5), (5, 'KWD', 8, 0.0375),
    (6, 'CNY', 3, 0.001)) AS v (n, currency, quantity, unit_price);
SELECT n, o.payable, CASE WHEN o.payable > 0 THEN ordflow.pay_order(id, 'p', 'refund_rounding ' || n, o.payable) END
FROM sold JOIN ordflow.orders o ON o.order_id = id ORDER BY n;
SELECT n, u, ordflow.refund_order(id, '[{"line": 1, "quantity": 1}]') AS refund_id INTO TEMP refunds
FROM sold, generate_series(1, quantity) u ORDER BY n, u;
SELECT n, string_agg(r.amount::text, ' ' ORDER BY u) AS unit_by_unit, sum(r.amount) = o.payable AS exact, o.state
FROM refunds JOIN ordflow.refunds r USING (refund_id) JOIN ordflow.orders o USING (order_id) GROUP BY n, o.payable, o.state ORDER BY n;
-- the same by plain arithmetic
CREATE FUNCTION pg_temp.decimals(currency text) RETURNS int LANGUAGE sql AS $$
SELECT CASE currency WHEN 'JPY' THEN 0 WHEN 'KWD' THEN 3 ELSE 2 END $$;
SELECT count(*) FROM refunds f JOIN ordflow.refunds r USING (refund_id) JOIN ordflow.orders o USING (order_id) JOIN sold USING (n)
WHERE r.amount <> round(o.payable * u / quantity, pg_temp.decimals(o.currency)) -
    round(o.payable * (u - 1) / quantity, pg_temp.decimals(o.currency));
SELECT * FROM ordflow.audit(:'began');

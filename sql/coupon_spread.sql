-- The discount is spread over the lines by largest remainder, ties to the lower line: the shares add up exactly.
\a \t
\set VERBOSITY sqlstate
BEGIN;
SELECT ordflow.create_coupon('cspr 1', 'fixed', 1) IS NOT NULL, ordflow.create_coupon('cspr 10', 'fixed', 10) IS NOT NULL,
  ordflow.create_coupon('cspr 3', 'fixed', 0.03) IS NOT NULL, ordflow.create_coupon('cspr big', 'fixed', 1000) IS NOT NULL;
CREATE FUNCTION pg_temp.spread(coupon text, VARIADIC prices numeric[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE o bigint;
BEGIN
  o = ordflow.submit_order('cspr', (SELECT jsonb_agg(jsonb_build_object('sku', 'cspr', 'quantity', 1, 'unit_price', p, 'stock', false))
    FROM unnest(prices) p), coupon);
  RETURN (SELECT format('%s = %s', max(d.discount), string_agg(l.discount::text, ' + ' ORDER BY line_no))
    FROM ordflow.order_lines l JOIN ordflow.orders d USING (order_id) WHERE order_id = o);
END $$;
SELECT pg_temp.spread('cspr 1', 10, 10, 10);
SELECT pg_temp.spread('cspr 1', 10, 20);
SELECT pg_temp.spread('cspr 1', 20, 10);
SELECT pg_temp.spread('cspr 10', 33.33, 33.33, 33.34);
SELECT pg_temp.spread('cspr 3', 1, 1);
SELECT pg_temp.spread('cspr 3', 1, 1, 1, 1);
SELECT pg_temp.spread('cspr 10', 0, 100, 0);
SELECT pg_temp.spread('cspr big', 0.01, 0.02, 0.03);
SELECT pg_temp.spread('cspr 10', 0.01, 9.99, 0.01);
SELECT pg_temp.spread('cspr 1', 0, 0);

-- a hundred odd baskets: shares add up, none is above its line or below nothing
SELECT setseed(0.5) IS NULL;
SELECT count(pg_temp.spread(CASE WHEN n % 2 = 0 THEN 'cspr 10' ELSE 'cspr 1' END, VARIADIC
  (SELECT array_agg(round((random() * 20)::numeric, 2)) FROM generate_series(1, 1 + n % 13)))) FROM generate_series(1, 100) n;
SELECT count(*) FROM ordflow.orders o WHERE customer = 'cspr'
  AND (discount <> (SELECT sum(discount) FROM ordflow.order_lines l WHERE l.order_id = o.order_id)
    OR payable <> (SELECT sum(payable) FROM ordflow.order_lines l WHERE l.order_id = o.order_id)
    OR discount <> least(subtotal, CASE coupon WHEN 'cspr 1' THEN 1 WHEN 'cspr 10' THEN 10 WHEN 'cspr 3' THEN 0.03 ELSE 1000 END));
SELECT count(*) FROM ordflow.order_lines l JOIN ordflow.orders o USING (order_id)
WHERE customer = 'cspr' AND (l.discount < 0 OR l.payable < 0 OR l.discount > l.amount);
SELECT * FROM ordflow.audit();
ROLLBACK;

-- Every reason for which a coupon is refused: OF003 with the reason in its JSON, the same in bulk and in a quote.
\a \t
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE FUNCTION pg_temp.lines() RETURNS jsonb LANGUAGE sql AS $$ SELECT '[{"sku": "cref", "quantity": 1, "unit_price": 10, "stock": false}]'::jsonb $$;
CREATE FUNCTION pg_temp.refused(coupon text, customer text DEFAULT 'ada', currency text DEFAULT NULL)
RETURNS TABLE (state text, problem jsonb, bulk boolean, quote boolean) LANGUAGE plpgsql AS $$
DECLARE detail text; b record; q jsonb;
BEGIN
  SELECT * INTO b FROM ordflow.submit_orders(jsonb_build_array(jsonb_build_object('customer', customer, 'lines', pg_temp.lines(),
    'coupon', coupon, 'currency', currency)));
  q = ordflow.quote_order(customer, pg_temp.lines(), coupon, '[]', currency);
  PERFORM ordflow.submit_order(customer, pg_temp.lines(), coupon, currency => currency);
  RETURN QUERY SELECT 'ok', NULL::jsonb, b.result = 'ok', q->'problems' = '[]';
EXCEPTION WHEN SQLSTATE 'OF003' OR SQLSTATE 'OF004' THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
  RETURN QUERY SELECT SQLSTATE, detail::jsonb, b.detail = detail::jsonb AND b.result = CASE SQLSTATE WHEN 'OF003' THEN 'coupon_refused'
    ELSE 'unknown_object' END, q->'problems' = detail::jsonb;
END $$;
SELECT ordflow.create_coupon('cref', 'fixed', 1), ordflow.create_coupon('cref off', 'fixed', 1, '{"enabled": false}'),
  ordflow.create_coupon('cref soon', 'fixed', 1, '{"valid_from": "2100-01-01"}'), ordflow.create_coupon('cref late', 'fixed', 1, '{"valid_until": "2001-01-01"}'),
  ordflow.create_coupon('cref eur', 'fixed', 1, '{"currency": "EUR"}'), ordflow.create_coupon('cref bob', 'fixed', 1, '{"customer": "bob"}'),
  ordflow.create_coupon('cref sku', 'fixed', 1, '{"skus": ["other"]}'), ordflow.create_coupon('cref min', 'fixed', 1, '{"min_total": 10.01}'),
  ordflow.create_coupon('cref all', 'fixed', 1, '{"usage_limit": 1}'), ordflow.create_coupon('cref one', 'fixed', 1, '{"per_customer": 1}') \gset c_
SELECT * FROM pg_temp.refused('cref');
SELECT * FROM pg_temp.refused('cref off');
SELECT * FROM pg_temp.refused('cref soon');
SELECT * FROM pg_temp.refused('cref late');
SELECT * FROM pg_temp.refused('cref eur');
SELECT * FROM pg_temp.refused('cref', 'ada', 'JPY');
SELECT * FROM pg_temp.refused('cref bob');
SELECT * FROM pg_temp.refused('cref bob', NULL);
SELECT * FROM pg_temp.refused('cref one', NULL);
SELECT * FROM pg_temp.refused('cref sku');
SELECT * FROM pg_temp.refused('cref min');
SELECT ordflow.submit_order('ada', pg_temp.lines(), 'cref all') IS NOT NULL, ordflow.submit_order('ada', pg_temp.lines(), 'cref one') IS NOT NULL;
SELECT * FROM pg_temp.refused('cref all');
SELECT * FROM pg_temp.refused('cref one');
SELECT * FROM pg_temp.refused('cref nothing');
SELECT * FROM pg_temp.refused('CREF');

-- nothing of a refused order is left
SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code ~ '^cref';
SELECT count(*) FROM ordflow.orders WHERE customer IN ('ada', 'bob') AND coupon ~ '^cref';
SELECT code, count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE usage_limit IS NOT NULL AND code ~ '^cref' GROUP BY 1;
SELECT * FROM ordflow.audit();
ROLLBACK;

-- submit_orders: a refused order leaves no row, no unit, no use of a limit or coupon and no key, whatever refused it.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bulk_refused ' || s, 10) FROM unnest('{a,b,c}'::text[]) s;
SELECT ordflow.set_purchase_limit('bulk_refused ' || s, 5) FROM unnest('{a,b,c}'::text[]) s;
SELECT ordflow.create_coupon('bulk_refused ' || s, 'fixed', 1, '{"usage_limit": 1, "per_customer": 1}') > 0 AS coupon
FROM unnest('{b,c}'::text[]) s;
SELECT ordflow.submit_order('x', '[{"sku": "x", "stock": false, "quantity": 1, "unit_price": 1}]', 'bulk_refused b') > 0 AS used_up;
CREATE TABLE public.bulk_refused_seen (customer text);
CREATE FUNCTION public.bulk_refused_effect(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.bulk_refused_seen SELECT object->'row'->>'customer';
    IF object->'row'->'metadata' ? 'refuse' THEN PERFORM 1 / 0; END IF;
END
$$;
SELECT ordflow.add_effect('order', 'submit', 'public.bulk_refused_effect(jsonb,jsonb)');
CREATE FUNCTION pg_temp.bulk(quantity int, more jsonb) RETURNS TABLE (sku text, result text, reason text, sqlstate text)
LANGUAGE sql AS $$
SELECT s, b.result, b.detail->0->>'reason', b.detail->0->>'sqlstate'
FROM unnest('{a,b,c}'::text[]) WITH ORDINALITY AS s (s, n) JOIN ordflow.submit_orders((
    SELECT jsonb_agg(jsonb_build_object('customer', 'c', 'idempotency_key', 'bulk_refused ' || s, 'lines', jsonb_build_array(
        jsonb_build_object('sku', 'bulk_refused ' || s, 'quantity', quantity, 'unit_price', 9))) || coalesce(more->s, '{}') ORDER BY s)
    FROM unnest('{a,b,c}'::text[]) s)) b ON b.ordinality = s.n ORDER BY n $$;
CREATE FUNCTION pg_temp.left_over()
RETURNS TABLE (orders bigint, lines bigint, history bigint, redemptions bigint, used bigint, bought numeric) LANGUAGE sql AS $$
SELECT (SELECT count(*) FROM ordflow.orders WHERE idempotency_key LIKE 'bulk_refused %'),
    (SELECT count(*) FROM ordflow.order_lines WHERE sku LIKE 'bulk_refused %'),
    (SELECT count(*) FROM ordflow.order_history h WHERE NOT EXISTS (SELECT FROM ordflow.orders o WHERE o.order_id = h.order_id)),
    (SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'bulk_refused c'),
    (SELECT pg_temp.used('bulk_refused c')),
    (SELECT coalesce(sum(quantity), 0) FROM ordflow.purchase_counts JOIN ordflow.purchase_limits USING (limit_id)
     WHERE sku LIKE 'bulk_refused %') $$;
-- refused for stock; for the limit; as bad input, for the coupon and by the effect
SELECT * FROM pg_temp.bulk(11, '{}');
SELECT * FROM pg_temp.bulk(6, '{}');
SELECT * FROM pg_temp.bulk(5, '{"a": {"order_no": ""}, "b": {"coupon": "bulk_refused b"},
    "c": {"coupon": "bulk_refused c", "metadata": {"refuse": true}}}');
SELECT * FROM pg_temp.stock('bulk_refused');
SELECT * FROM pg_temp.left_over();
SELECT * FROM public.bulk_refused_seen;
-- what the ledger saw meanwhile comes to nothing
SELECT sum(m.reserved) AS reserved, sum(m.on_hand) AS on_hand FROM ordflow.stock_movements m JOIN ordflow.stock USING (stock_id)
WHERE sku LIKE 'bulk_refused %';
SELECT count(*) FROM ordflow.reservations WHERE sku LIKE 'bulk_refused %';
-- the keys, the units, the limit and the coupon are free
SELECT * FROM pg_temp.bulk(4, '{"c": {"coupon": "bulk_refused c"}}');
SELECT * FROM pg_temp.left_over();
SELECT * FROM public.bulk_refused_seen;
SELECT ordflow.drop_effect('order', 'submit', 'public.bulk_refused_effect(jsonb,jsonb)');
DROP FUNCTION public.bulk_refused_effect;
DROP TABLE public.bulk_refused_seen;
SELECT * FROM pg_temp.stock('bulk_refused');
SELECT * FROM ordflow.audit(:'began');
SELECT * FROM ordflow.audit() WHERE check_name = 'purchase_count';

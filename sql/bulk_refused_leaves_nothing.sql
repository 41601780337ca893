-- submit_orders: a refused order leaves no row, no unit, no use of a limit or coupon and no key; the others go on.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bulk_refused ' || s, 10) FROM unnest('{a,b}'::text[]) s;
SELECT ordflow.set_purchase_limit('bulk_refused a', 5);
SELECT ordflow.create_coupon('bulk_refused', 'fixed', 1, '{"usage_limit": 1, "per_customer": 1}') > 0 AS coupon;
CREATE FUNCTION public.bulk_refused_effect(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.bulk_refused_seen SELECT object->'row'->>'customer';
    IF object->'row'->'metadata' ? 'refuse' THEN PERFORM 1 / 0; END IF;
END
$$;
CREATE TABLE public.bulk_refused_seen (customer text);
SELECT ordflow.add_effect('order', 'submit', 'public.bulk_refused_effect(jsonb,jsonb)');
SELECT pg_temp.fingerprint() AS before \gset
-- stock taken and the limit refuses; stock and limit taken and the coupon refuses (no guest may use it); all taken and the effect refuses
SELECT ordinality, order_id, result, jsonb_path_query_array(detail, '$.reason') AS reason, detail->0->>'sqlstate' AS sqlstate
FROM ordflow.submit_orders('[
    {"customer": "c", "idempotency_key": "bulk_refused 1", "lines": [{"sku": "bulk_refused a", "quantity": 6, "unit_price": 9}]},
    {"customer": "c", "idempotency_key": "bulk_refused 2", "coupon": "bulk_refused", "metadata": {"refuse": true},
     "lines": [{"sku": "bulk_refused a", "quantity": 5, "unit_price": 9}, {"sku": "bulk_refused b", "quantity": 10, "unit_price": 9}]},
    {"customer": "c", "idempotency_key": "bulk_refused 3", "coupon": "bulk_refused",
     "lines": [{"sku": "bulk_refused b", "quantity": 11, "unit_price": 9}, {"sku": "bulk_refused a", "quantity": 1, "unit_price": 9}]}]');
SELECT * FROM pg_temp.stock('bulk_refused');
SELECT count(*) AS orders FROM ordflow.orders WHERE idempotency_key LIKE 'bulk_refused %';
SELECT count(*) AS redemptions, (SELECT used FROM ordflow.coupons WHERE code = 'bulk_refused')
FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'bulk_refused';
SELECT coalesce(sum(quantity), 0) AS bought FROM ordflow.purchase_counts JOIN ordflow.purchase_limits USING (limit_id) WHERE sku = 'bulk_refused a';
SELECT count(*) AS lines FROM ordflow.order_lines WHERE sku LIKE 'bulk_refused _';
SELECT count(*) AS orphans FROM ordflow.order_history h WHERE NOT EXISTS (SELECT FROM ordflow.orders o WHERE o.order_id = h.order_id);
-- what the ledger saw meanwhile comes to nothing
SELECT coalesce(sum(m.reserved), 0) AS reserved, coalesce(sum(m.on_hand), 0) - 20 AS on_hand FROM ordflow.stock_movements m
JOIN ordflow.stock USING (stock_id) WHERE sku LIKE 'bulk_refused _';
SELECT * FROM public.bulk_refused_seen;
-- the same keys, and all of it again, this time to sell
SELECT ordinality, result FROM ordflow.submit_orders('[
    {"customer": "c", "idempotency_key": "bulk_refused 1", "lines": [{"sku": "bulk_refused a", "quantity": 6, "unit_price": 9}]},
    {"customer": "c", "idempotency_key": "bulk_refused 2", "coupon": "bulk_refused",
     "lines": [{"sku": "bulk_refused a", "quantity": 5, "unit_price": 9}, {"sku": "bulk_refused b", "quantity": 10, "unit_price": 9}]}]');
SELECT * FROM public.bulk_refused_seen;
SELECT ordflow.drop_effect('order', 'submit', 'public.bulk_refused_effect(jsonb,jsonb)');
DROP FUNCTION public.bulk_refused_effect;
DROP TABLE public.bulk_refused_seen;
SELECT * FROM pg_temp.stock('bulk_refused');
SELECT * FROM ordflow.audit();

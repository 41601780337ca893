-- submit_orders: every result of the closed list, a row for each order in the order they were given in.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bulk_results ' || s, 5) FROM unnest('{a,b,limited}'::text[]) s;
SELECT ordflow.create_coupon('bulk_results', 'fixed', 1, '{"min_total": 100}') > 0 AS coupon;
SELECT ordflow.set_purchase_limit('bulk_results limited', 2);
SELECT ordflow.submit_order('bulk_results', '[{"sku": "bulk_results a", "quantity": 1, "unit_price": 1}]', idempotency_key => 'k') AS known
\gset
CREATE FUNCTION public.bulk_results_effect(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF object->'row'->>'customer' = 'bulk_results refused' THEN
        RAISE SQLSTATE 'SH001' USING MESSAGE = 'credit limit', DETAIL = 'Limit 5.', HINT = 'Pay.';
    END IF;
END
$$;
SELECT ordflow.add_effect('order', 'submit', 'public.bulk_results_effect(jsonb,jsonb)');
SELECT s.ordinality, s.order_id = :known AS known, s.order_id IS NULL AS none, s.result,
    (SELECT string_agg(concat_ws(' ', p->>'problem', p->>'sqlstate'), ', ') FROM jsonb_array_elements(s.detail) p) AS problems
FROM ordflow.submit_orders('[
    {"customer": "bulk_results", "lines": [{"sku": "bulk_results a", "quantity": 1, "unit_price": 1}]},
    {"customer": "bulk_results", "lines": [{"sku": "bulk_results a", "quantity": 1, "unit_price": 1}], "idempotency_key": "k"},
    {"customer": "bulk_results", "lines": [{"sku": "bulk_results a", "quantity": 6, "unit_price": 1}]},
    {"customer": "bulk_results", "lines": [{"sku": "bulk_results a", "quantity": 1, "unit_price": 1}], "coupon": "bulk_results"},
    {"customer": "bulk_results", "lines": [{"sku": "unknown", "quantity": 1, "unit_price": 1}]},
    {"customer": "bulk_results", "lines": [{"sku": "bulk_results a", "quantity": 2, "unit_price": 1}], "idempotency_key": "k"},
    {"customer": "bulk_results", "lines": [{"sku": "bulk_results limited", "quantity": 3, "unit_price": 1}]},
    {"customer": "bulk_results", "lines": [{"sku": "bulk_results a", "quantity": 0, "unit_price": 1}]},
    {"customer": "bulk_results refused", "lines": [{"sku": "bulk_results a", "quantity": 1, "unit_price": 1}]},
    {"lines": [{"sku": "bulk_results b", "quantity": 5, "unit_price": 0}], "coupon": null, "metadata": null, "pay_within": "1 day"},
    {"customer": "bulk_results", "lines": [{"sku": "bulk_results a", "quantity": 1, "unit_price": 1}], "coupon": "unknown"}]') s;
SELECT ordflow.drop_effect('order', 'submit', 'public.bulk_results_effect(jsonb,jsonb)');
DROP FUNCTION public.bulk_results_effect;
SELECT o.customer, o.state, o.expires_at - o.created_at AS pay_within, l.sku, l.quantity
FROM ordflow.orders o JOIN ordflow.order_lines l USING (order_id) WHERE l.sku LIKE 'bulk_results %' ORDER BY order_id;
SELECT * FROM pg_temp.stock('bulk_results');
SELECT quantity FROM ordflow.purchase_counts JOIN ordflow.purchase_limits USING (limit_id)
WHERE sku = 'bulk_results limited' AND quantity > 0;
-- an empty array, and what is no array
SELECT count(*) FROM ordflow.submit_orders('[]');
SELECT j, pg_temp.try(format('SELECT count(*) FROM ordflow.submit_orders(%L)', j)) FROM unnest(ARRAY['{}', '1', '"x"', 'null', NULL]) j;
SELECT * FROM ordflow.audit(:'began');
SELECT * FROM ordflow.audit() WHERE check_name = 'purchase_count';

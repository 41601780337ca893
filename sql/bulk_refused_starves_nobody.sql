-- submit_orders: what an order took that is refused later is there for the orders after it in the same call.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bulk_starve ' || s, 10) FROM unnest('{a,b}'::text[]) s;
SELECT ordflow.set_purchase_limit('bulk_starve b', 1);
SELECT ordflow.create_coupon('bulk_starve ' || s, 'fixed', 1, '{"usage_limit": 1}') > 0 AS coupon FROM unnest('{free,used}'::text[]) s;
SELECT ordflow.submit_order('x', '[{"sku": "x", "stock": false, "quantity": 1, "unit_price": 1}]', 'bulk_starve used') > 0 AS used_up;
CREATE FUNCTION public.bulk_starve_effect(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF object->'row'->'metadata' ? 'refuse' THEN PERFORM 1 / 0; END IF;
END
$$;
SELECT ordflow.add_effect('order', 'submit', 'public.bulk_starve_effect(jsonb,jsonb)');
-- refused for its limit with all units in its hands: the second gets its own, the third what is left
SELECT ordinality, result FROM ordflow.submit_orders('[
    {"customer": "c", "lines": [{"sku": "bulk_starve a", "quantity": 10, "unit_price": 9},
                                {"sku": "bulk_starve b", "quantity": 2, "unit_price": 9}]},
    {"customer": "c", "lines": [{"sku": "bulk_starve a", "quantity": 3, "unit_price": 9}]},
    {"customer": "c", "lines": [{"sku": "bulk_starve a", "quantity": 1, "unit_price": 9}]},
    {"customer": "c", "lines": [{"sku": "bulk_starve a", "quantity": 7, "unit_price": 9}]}]');
-- refused for a coupon that is used up
SELECT ordinality, result FROM ordflow.submit_orders('[
    {"customer": "c", "lines": [{"sku": "bulk_starve a", "quantity": 6, "unit_price": 9}], "coupon": "bulk_starve used"},
    {"customer": "c", "lines": [{"sku": "bulk_starve a", "quantity": 4, "unit_price": 9}]}]');
-- refused by its effect with the limit's only unit and the coupon's only use
SELECT ordinality, result FROM ordflow.submit_orders('[
    {"customer": "d", "lines": [{"sku": "bulk_starve b", "quantity": 1, "unit_price": 9}], "coupon": "bulk_starve free",
     "metadata": {"refuse": true}},
    {"customer": "d", "lines": [{"sku": "bulk_starve b", "quantity": 1, "unit_price": 9}]},
    {"customer": "e", "lines": [{"sku": "bulk_starve b", "quantity": 1, "unit_price": 9}], "coupon": "bulk_starve free"}]');
SELECT ordflow.drop_effect('order', 'submit', 'public.bulk_starve_effect(jsonb,jsonb)');
DROP FUNCTION public.bulk_starve_effect;
SELECT * FROM pg_temp.stock('bulk_starve');
SELECT code, pg_temp.used(code) FROM ordflow.coupons WHERE code LIKE 'bulk_starve %' ORDER BY 1;
SELECT * FROM ordflow.audit(:'began');
SELECT * FROM ordflow.audit() WHERE check_name = 'purchase_count';

-- submit_orders: what an order took that is refused later is there for the orders after it in the same call.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bulk_starve', 10);
SELECT ordflow.set_purchase_limit('bulk_starve limited', 1);
SELECT ordflow.receive_stock('bulk_starve limited', 10);
SELECT ordflow.create_coupon('bulk_starve', 'fixed', 1, '{"usage_limit": 1}') > 0 AS coupon;
SELECT ordflow.create_coupon('bulk_starve used up', 'fixed', 1, '{"usage_limit": 1}') > 0 AS coupon;
SELECT ordflow.submit_order('x', '[{"sku": "x", "stock": false, "quantity": 1, "unit_price": 1}]', 'bulk_starve used up') > 0 AS used_up;
CREATE FUNCTION public.bulk_starve_effect(object jsonb, args jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF object->'row'->'metadata' ? 'refuse' THEN PERFORM 1 / 0; END IF;
END
$$;
SELECT ordflow.add_effect('order', 'submit', 'public.bulk_starve_effect(jsonb,jsonb)');
-- 1 is refused for its limit, 3 by its effect, 5 for its coupon: 2, 4 and 6 get what they need, and then nothing is left for 7
SELECT ordinality, result FROM ordflow.submit_orders('[
    {"customer": "c", "lines": [{"sku": "bulk_starve", "quantity": 10, "unit_price": 9},
                                {"sku": "bulk_starve limited", "quantity": 2, "unit_price": 9}]},
    {"customer": "c", "lines": [{"sku": "bulk_starve", "quantity": 5, "unit_price": 9}]},
    {"customer": "d", "lines": [{"sku": "bulk_starve", "quantity": 5, "unit_price": 9},
                                {"sku": "bulk_starve limited", "quantity": 1, "unit_price": 9}],
     "coupon": "bulk_starve", "metadata": {"refuse": true}},
    {"customer": "d", "lines": [{"sku": "bulk_starve limited", "quantity": 1, "unit_price": 9}], "coupon": "bulk_starve"},
    {"customer": "e", "lines": [{"sku": "bulk_starve", "quantity": 5, "unit_price": 9}], "coupon": "bulk_starve used up"},
    {"customer": "f", "lines": [{"sku": "bulk_starve", "quantity": 5, "unit_price": 9}]},
    {"customer": "g", "lines": [{"sku": "bulk_starve", "quantity": 1, "unit_price": 9}]}]');
SELECT ordflow.drop_effect('order', 'submit', 'public.bulk_starve_effect(jsonb,jsonb)');
DROP FUNCTION public.bulk_starve_effect;
SELECT * FROM pg_temp.stock('bulk_starve');
SELECT * FROM ordflow.audit();

-- submit_orders: the detail names every offending line and object, not the first; a raised error has the same JSON as DETAIL.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bulk_detail a', 5), ordflow.receive_stock('bulk_detail b', 1),
    ordflow.receive_stock('bulk_detail a', 2, 'east');
SELECT ordflow.set_purchase_limit('bulk_detail a', 3), ordflow.set_purchase_limit('bulk_detail b', 2);
SELECT ordflow.create_coupon('bulk_detail', 'fixed', 1, '{"usage_limit": 1, "customer": "somebody"}') > 0 AS coupon;
CREATE FUNCTION pg_temp.raised(o jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    PERFORM ordflow.submit_order(o->>'customer', o->'lines', o->>'coupon');
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN detail;
END
$$;
CREATE TABLE pg_temp.asked AS SELECT n, o FROM jsonb_array_elements('[
    {"lines": [{"sku": "bulk_detail a", "quantity": 3, "unit_price": 1}, {"sku": "bulk_detail b", "quantity": 2, "unit_price": 1},
        {"sku": "bulk_detail a", "quantity": 3, "unit_price": 2},
        {"sku": "bulk_detail a", "quantity": 2, "unit_price": 1, "location": "east"}]},
    {"lines": [{"sku": "unknown 1", "quantity": 1, "unit_price": 1}, {"sku": "bulk_detail b", "quantity": 9, "unit_price": 1},
        {"sku": "bulk_detail a", "quantity": 1, "unit_price": 1, "location": "west"},
        {"sku": "unknown 1", "quantity": 4, "unit_price": 1}]},
    {"customer": "bulk_detail", "lines": [{"sku": "bulk_detail a", "quantity": 2, "unit_price": 1},
        {"sku": "bulk_detail a", "quantity": 2, "unit_price": 1, "location": "east"}]},
    {"lines": [{"sku": "bulk_detail b", "quantity": 1, "unit_price": 1}]},
    {"customer": "bulk_detail", "coupon": "bulk_detail", "lines": [{"sku": "bulk_detail b", "quantity": 1, "unit_price": 1}]},
    {"customer": "bulk_detail", "coupon": "unknown", "lines": [{"sku": "bulk_detail b", "quantity": 1, "unit_price": 1}]}]')
    WITH ORDINALITY AS o (o, n);
\t \a
SELECT s.result, jsonb_pretty(s.detail), pg_temp.raised(o) = s.detail AS same
FROM ordflow.submit_orders((SELECT jsonb_agg(o ORDER BY n) FROM asked)) s JOIN asked ON n = s.ordinality ORDER BY n;
-- bad input: one problem is enough, with what a single call raises
SELECT s.result, s.detail->0->>'problem', s.detail->0->>'sqlstate', s.detail->0 ? 'message', s.detail->0 ? 'hint'
FROM ordflow.submit_orders('[{"lines": []}, {"lines": [{"sku": "x"}], "qty": 1}, 7]') s;
\t \a
SELECT * FROM ordflow.audit(:'began');
SELECT * FROM ordflow.audit() WHERE check_name = 'purchase_count';

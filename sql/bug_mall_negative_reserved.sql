-- mall's own demo data has 4 of 96 skus with negative locked stock, sum -48 (also Medusa #12401, #16569, Vendure #1557, #550):
-- counters drift. Here: after any sequence of verbs, repeats and refusals reserved is what the orders hold, and nothing is below zero.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT setseed(0.125);
SELECT ordflow.receive_stock('bug_mall_reserved ' || s, 15) FROM generate_series(1, 4) s;
CREATE TABLE pg_temp.done (verb text, result text);
CREATE FUNCTION pg_temp.storm(n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    id bigint;
    verb text;
    call text;
    units int;
BEGIN
    FOR i IN 1..n LOOP
        id = (SELECT o.order_id FROM ordflow.orders o WHERE o.customer = 'bug_mall_reserved' ORDER BY random() LIMIT 1);
        units = 1 + floor(random() * 4);
        verb = (ARRAY['submit', 'submit', 'pay', 'pay', 'ship', 'part', 'confirm', 'cancel', 'expire', 'refund', 'unit', 'lose'])
            [1 + floor(random() * 12)::int];
        call = CASE verb
            WHEN 'submit' THEN format('SELECT ''ok'' FROM ordflow.submit_order(''bug_mall_reserved'', %L)', jsonb_build_array(
                jsonb_build_object('sku', 'bug_mall_reserved ' || units, 'quantity', units, 'unit_price', 2),
                jsonb_build_object('sku', 'bug_mall_reserved 1', 'quantity', 1, 'unit_price', 3)))
            WHEN 'pay' THEN format('SELECT ordflow.pay_order(order_id, ''p'', ''bug_mall_reserved '' || order_id, payable)
                FROM ordflow.orders WHERE order_id = %s', id)
            WHEN 'ship' THEN format('SELECT ordflow.ship_order(%s, ''c'', ''%s'')', id, i % 3)
            WHEN 'part' THEN format('SELECT ordflow.ship_order(%s, ''c'', ''%s'', ''[{"line": 1, "quantity": 1}]'')', id, i % 3)
            WHEN 'expire' THEN format('SELECT ordflow.expire_order(%s)', id)
            WHEN 'refund' THEN format('SELECT ''ok'' FROM ordflow.refund_order(%s)', id)
            WHEN 'unit' THEN format('SELECT ''ok'' FROM ordflow.refund_order(%s, ''[{"line": 1, "quantity": 1}]'')', id)
            WHEN 'lose' THEN format('SELECT ''ok'' FROM ordflow.refund_order(%s, ''[{"line": 2, "quantity": 1}]'', restock => false)', id)
            ELSE format('SELECT ordflow.%s_order(%s)', verb, id) END;
        INSERT INTO pg_temp.done VALUES (verb, pg_temp.try(call));
    END LOOP;
END
$$;
SELECT pg_temp.storm(600);
-- nothing failed for another reason than its own
SELECT DISTINCT result FROM done WHERE result ~ '^[0-9A-Z]{5}$' AND result NOT IN ('OF001', 'OF002', 'OF005', '22023');
SELECT count(*) FILTER (WHERE result IN ('ok', 'applied')) > 100 AS done,
    count(*) FILTER (WHERE result NOT IN ('ok', 'applied')) > 100 AS refused FROM done;
SELECT s.sku, s.on_hand >= 0 AND s.reserved >= 0 AND s.available >= 0 AS positive, s.available = s.on_hand - s.reserved AS adds_up,
    s.reserved = coalesce(sum(r.quantity), 0) AS held
FROM ordflow.stock_levels s LEFT JOIN ordflow.reservations r USING (sku, location)
WHERE s.sku LIKE 'bug_mall_reserved %' GROUP BY s.sku, s.on_hand, s.reserved, s.available ORDER BY 1;
-- as Magento wants it: what a finished order reserved comes to zero
SELECT m.order_id, sum(m.reserved) FROM ordflow.stock_movements m JOIN ordflow.orders o USING (order_id)
WHERE o.customer = 'bug_mall_reserved' AND o.state IN ('cancelled', 'completed', 'pending_receipt')
GROUP BY 1 HAVING sum(m.reserved) <> 0;
SELECT * FROM ordflow.audit(:'began');

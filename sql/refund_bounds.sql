-- Whatever is asked, in any order: refunds never above the payment, returned never above shipped, units never twice.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT setseed(0.5);
SELECT ordflow.receive_stock('refund_bounds', 100000);
SELECT n, ordflow.submit_order('refund_bounds', jsonb_build_array(
        jsonb_build_object('sku', 'refund_bounds', 'quantity', 1 + n % 5, 'unit_price', round((random() * 20)::numeric, 4)),
        jsonb_build_object('sku', 'refund_bounds', 'quantity', 1 + n % 3, 'unit_price', round((random() * 9)::numeric, 4))),
    charges => jsonb_build_array(jsonb_build_object('code', 'shipping', 'amount', n % 7))) AS id
INTO TEMP sold FROM generate_series(1, 30) n;
SELECT count(ordflow.pay_order(id, 'p', 'refund_bounds ' || n, payable)) FROM sold JOIN ordflow.orders ON order_id = id WHERE payable > 0;
CREATE FUNCTION pg_temp.something(id bigint, i int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    part jsonb = jsonb_build_array(jsonb_build_object('line', 1 + floor(random() * 2), 'quantity', 1 + floor(random() * 3)));
    money numeric = round((random() * 12)::numeric, 2);
    back boolean = random() < 0.5;
BEGIN
    CASE floor(random() * 7)
        WHEN 0 THEN PERFORM ordflow.ship_order(id, 'c', i::text, part);
        WHEN 1 THEN PERFORM ordflow.ship_order(id, 'c', i::text);
        WHEN 2 THEN PERFORM ordflow.confirm_order(id);
        WHEN 3 THEN PERFORM ordflow.refund_order(id, part, restock => back);
        WHEN 4 THEN PERFORM ordflow.refund_order(id, amount => money);
        WHEN 5 THEN PERFORM ordflow.refund_order(id, part, money, back);
        ELSE PERFORM ordflow.cancel_order(id);
    END CASE;
    RETURN 'done';
EXCEPTION WHEN SQLSTATE 'OF001' OR SQLSTATE 'OF005' OR SQLSTATE '22023' THEN RETURN 'refused';
END
$$;
SELECT pg_temp.something(id, i) AS result, count(*) > 100 AS many FROM generate_series(1, 20) i, sold GROUP BY 1 ORDER BY 1;
SELECT count(*) FILTER (WHERE r.amount > p.amount) AS above_payment FROM ordflow.payments p
JOIN (SELECT payment_id, sum(amount) AS amount FROM ordflow.refunds GROUP BY 1) r USING (payment_id) JOIN sold ON id = p.order_id;
SELECT count(*) FILTER (WHERE returned > shipped) AS returned_above_shipped,
    count(*) FILTER (WHERE shipped + cancelled > quantity) AS more_units,
    count(*) FILTER (WHERE refunded > l.payable) AS refunded_above_payable
FROM ordflow.order_lines l JOIN sold ON id = order_id;
SELECT count(DISTINCT state) > 1 AS several FROM sold JOIN ordflow.orders ON order_id = id;
-- what left the shelf and what is promised is what the lines say
SELECT s.reserved = coalesce(sum(l.quantity - l.shipped - l.cancelled) FILTER (WHERE o.state <> 'cancelled'), 0) AS reserved,
    s.reserved >= 0 AS positive
FROM ordflow.stock_levels s, sold JOIN ordflow.orders o ON order_id = id JOIN ordflow.order_lines l USING (order_id)
WHERE s.sku = 'refund_bounds' GROUP BY s.reserved;
SELECT * FROM ordflow.audit(:'began');

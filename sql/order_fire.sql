-- fire does what the verb does: stock, coupon, refund, deadline and history follow; its reason is kept.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('order_fire', 'fixed', 1) > 0 AS coupon;
SELECT pg_temp.sell('order_fire', 'pending_payment', 'order_fire') AS unpaid \gset
SELECT pg_temp.sell('order_fire', 'pending_shipment', 'order_fire') AS paid \gset
SELECT pg_temp.sell('order_fire', 'pending_payment', 'order_fire') AS overdue \gset
SELECT pg_temp.sell('order_fire', 'pending_receipt') AS shipped \gset
SELECT * FROM pg_temp.stock('order_fire');
SELECT pg_temp.overdue(:overdue);
SELECT ordflow.fire('ordflow.orders', :'unpaid', 'cancel', '{"reason": "declined", "by": 7}'),
    ordflow.fire('ordflow.orders', :'paid', 'cancel'), ordflow.fire('ordflow.orders', :'overdue', 'expire'),
    ordflow.fire('ordflow.orders', :'shipped', 'confirm', '{"reason": "customer"}');
SELECT l.* FROM unnest(ARRAY[:unpaid, :paid, :overdue, :shipped]) WITH ORDINALITY AS u (id, n), pg_temp.look(u.id) l ORDER BY n;
SELECT h.event, h.from_state, h.to_state, h.reason, h.data, o.cancel_reason
FROM ordflow.order_history h JOIN ordflow.orders o USING (order_id)
WHERE o.customer = 'order_fire' AND h.event IN ('cancel', 'expire', 'confirm') ORDER BY o.order_id;
SELECT * FROM pg_temp.stock('order_fire');
-- an order that does not exist, a key that is no number
SELECT k, pg_temp.try(format('SELECT ordflow.fire(%L, %L, %L)', 'ordflow.orders', k, 'cancel')) FROM unnest('{0,-1,x}'::text[]) k;
-- the hint of what a verb keeps to itself names the function; the detail of what is illegal names what is legal
CREATE FUNCTION pg_temp.names(event text, wanted text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    hint text;
    detail text;
    id text = (SELECT max(order_id) FROM ordflow.orders WHERE customer = 'order_fire names');
BEGIN
    PERFORM ordflow.fire('ordflow.orders', id, event);
    RETURN NULL;
EXCEPTION WHEN SQLSTATE 'OF001' THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT, detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(' ', hint, detail) LIKE '%' || wanted || '%';
END
$$;
SELECT pg_temp.sell('order_fire names') AS names \gset
SELECT e, pg_temp.names(e, 'ordflow.' || e || '_order()') FROM unnest('{submit,pay,ship,refund}'::text[]) e;
SELECT w, pg_temp.names('confirm', w) FROM unnest('{pay,cancel,expire}'::text[]) w;
SELECT * FROM ordflow.audit(:'began');

-- The auto-confirm deadline is the setting at the shipment that completes the order; changing it moves no order.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SET ordflow.confirm_within = '36h';
SELECT pg_temp.sell('ship_confirm_deadline', 'pending_receipt') AS a, pg_temp.sell('ship_confirm_deadline', 'partly shipped') AS b \gset
SET ordflow.confirm_within = '1s';
SELECT ordflow.ship_order(:b, 'c', '2');
RESET ordflow.confirm_within;
SELECT due_at - (SELECT max(at) FROM ordflow.order_history h WHERE h.order_id = o.order_id AND event = 'ship') AS confirm_within
FROM ordflow.orders o WHERE order_id IN (:a, :b) ORDER BY order_id;
-- a refund of money keeps it; what comes back keeps it; extend_order moves it
SELECT due_at AS due FROM ordflow.orders WHERE order_id = :a \gset
SELECT ordflow.refund_order(:a, amount => 1) > 0 AS money, ordflow.refund_order(:a, '[{"line": 1, "quantity": 1}]') > 0 AS unit;
SELECT due_at = :'due' AS same FROM ordflow.orders WHERE order_id = :a;
SELECT ordflow.extend_order(:a, '1 day') = :'due'::timestamptz + interval '1 day' AS moved;
SELECT ordflow.confirm_order(:a, 'timeout'), ordflow.confirm_order(:b);
SELECT l.state, l.due FROM unnest(ARRAY[:a, :b]) u (id), pg_temp.look(u.id) l;
SELECT * FROM ordflow.audit(:'began');

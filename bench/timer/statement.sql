-- The other side of the storm: everything that is due cancelled by one statement, which writes the same
-- rows into the same tables and indexes. Triggers are off. The sorted inserts make it a sixth faster.
SET session_replication_role = replica;
\timing on
WITH cancelled AS (
    UPDATE ordflow.orders
    SET state = 'cancelled', cancel_reason = 'timeout', due_at = NULL, updated_at = now()
    WHERE state = 'pending_payment' AND due_at <= now() + interval '2 days'
    RETURNING order_id
), history AS (
    INSERT INTO ordflow.order_history (order_id, seq, event, from_state, to_state, actor, reason, at)
    SELECT h.order_id, 1 + max(h.seq), 'expire', 'pending_payment', 'cancelled', session_user, 'timeout', now()
    FROM cancelled JOIN ordflow.order_history h USING (order_id)
    GROUP BY h.order_id ORDER BY h.order_id
), released AS (
    SELECT l.order_id, l.stock_id, sum(l.quantity - l.shipped - l.cancelled)::bigint AS quantity
    FROM cancelled JOIN ordflow.order_lines l USING (order_id)
    WHERE l.stock_id IS NOT NULL AND l.shipped + l.cancelled < l.quantity
    GROUP BY l.order_id, l.stock_id ORDER BY l.order_id
)
INSERT INTO ordflow.stock_movements (segment, stock_id, kind, on_hand, reserved, order_id, actor, at)
SELECT g.segment, r.stock_id, 'released', 0, -r.quantity, r.order_id, session_user, now()
FROM released r, (SELECT max(segment) AS segment FROM ordflow.open_segments) g;

/* src/order/audit.sql: does everything agree */

CREATE FUNCTION ordflow.audit_orders(since timestamptz)
RETURNS TABLE (check_name text, object text, detail text)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
WITH o AS (
    SELECT * FROM ordflow.orders WHERE audit_orders.since IS NULL OR updated_at >= audit_orders.since
), lines AS (
    SELECT order_id, sum(l.amount) AS amount, sum(l.discount) AS discount, sum(l.payable) AS payable
    FROM ordflow.order_lines l JOIN o USING (order_id) GROUP BY order_id
), charges AS (
    SELECT order_id, sum(c.amount) AS amount
    FROM ordflow.order_charges c JOIN o USING (order_id) GROUP BY order_id
), history AS (
    SELECT order_id, max(seq) AS last, count(*) AS n, (array_agg(to_state ORDER BY seq DESC))[1] AS state
    FROM ordflow.order_history h JOIN o USING (order_id) GROUP BY order_id
), held AS (
    SELECT order_id, stock_id, sum(quantity - shipped - cancelled) AS quantity, sum(shipped) AS shipped
    FROM (SELECT l.order_id, l.stock_id, l.shipped,
                 CASE WHEN o.state = 'cancelled' THEN l.shipped + l.cancelled ELSE l.quantity END AS quantity,
                 l.cancelled
          FROM ordflow.order_lines l JOIN o USING (order_id) CROSS JOIN ordflow.ledger_start a
          WHERE l.stock_id IS NOT NULL AND o.created_at > a.at) AS l
    GROUP BY order_id, stock_id
), moved AS (
    SELECT m.order_id, m.stock_id, sum(m.reserved) AS reserved,
           -coalesce(sum(m.on_hand) FILTER (WHERE m.kind = 'shipped'), 0) AS shipped
    FROM ordflow.stock_movements m CROSS JOIN ordflow.ledger_start a
    LEFT JOIN ordflow.orders x ON x.order_id = m.order_id
    WHERE m.order_id IS NOT NULL
      AND (audit_orders.since IS NULL OR m.order_id IN (SELECT order_id FROM o))
      AND (a.at = '-infinity' OR x.created_at > a.at)   -- what began before has lost its movements
    GROUP BY m.order_id, m.stock_id
), paid AS (
    SELECT p.order_id, count(*) AS n, sum(p.amount) AS amount
    FROM ordflow.payments p JOIN o USING (order_id) WHERE p.result = 'applied' GROUP BY p.order_id
), refunded AS (
    SELECT payment_id, sum(r.amount) AS amount FROM ordflow.refunds r GROUP BY payment_id
)
SELECT 'order_money', 'order ' || order_id,
       format('subtotal %s, discount %s, charges %s; lines have %s and %s, charges %s', o.subtotal, o.discount,
              o.charges, l.amount, l.discount, coalesce(c.amount, 0))
FROM o LEFT JOIN lines l USING (order_id) LEFT JOIN charges c USING (order_id)
WHERE (o.subtotal, o.discount, o.charges) IS DISTINCT FROM (l.amount, l.discount, coalesce(c.amount, 0))
   OR o.payable <> o.subtotal - o.discount + o.charges OR o.payable < 0
UNION ALL
SELECT 'order_line', format('order %s, line %s', l.order_id, l.line_no),
       format('quantity %s, shipped %s, returned %s, cancelled %s; amount %s, discount %s, payable %s, refunded %s',
              l.quantity, l.shipped, l.returned, l.cancelled, l.amount, l.discount, l.payable, l.refunded)
FROM ordflow.order_lines l JOIN o USING (order_id)
WHERE NOT (l.quantity > 0 AND l.shipped >= 0 AND l.cancelled >= 0 AND l.returned BETWEEN 0 AND l.shipped
           AND l.shipped + l.cancelled <= l.quantity)
   OR NOT (l.payable = l.amount - l.discount AND l.discount >= 0 AND l.refunded BETWEEN 0 AND l.payable)
UNION ALL
SELECT 'order_history', 'order ' || order_id,
       format('it is %s; its history has %s rows up to %s and ends in %s', o.state, h.n, h.last, h.state)
FROM o LEFT JOIN history h USING (order_id)
WHERE h.state IS DISTINCT FROM o.state OR h.last IS DISTINCT FROM h.n
UNION ALL
SELECT 'order_deadline', 'order ' || order_id,
       format('it is %s, expires at %s, is due at %s', o.state, o.expires_at, coalesce(o.due_at::text, 'never'))
FROM o
WHERE (o.state = 'pending_payment' AND o.due_at IS DISTINCT FROM o.expires_at)
   OR (o.state IN ('pending_shipment', 'completed', 'cancelled') AND o.due_at IS NOT NULL
       AND NOT EXISTS (SELECT FROM ordflow.transitions t WHERE t.machine = 'order' AND t.from_state = o.state AND t.after IS NOT NULL))
UNION ALL
SELECT 'order_stock', format('order %s, stock %s', order_id, stock_id),
       format('its lines hold %s and shipped %s, its movements reserve %s and shipped %s',
              coalesce(h.quantity, 0), coalesce(h.shipped, 0), coalesce(m.reserved, 0), coalesce(m.shipped, 0))
FROM held h FULL JOIN moved m USING (order_id, stock_id)
WHERE coalesce(h.quantity, 0) <> coalesce(m.reserved, 0) OR coalesce(h.shipped, 0) <> coalesce(m.shipped, 0)
UNION ALL
SELECT 'stock_reserved', format('%s at %s', v.sku, v.location),
       format('reserved is %s, open orders and holds have %s', v.reserved, coalesce(p.quantity, 0))
FROM ordflow.stock_levels v
JOIN ordflow.stock s USING (sku, location)
LEFT JOIN (SELECT stock_id, sum(quantity) AS quantity
           FROM (SELECT l.stock_id, l.quantity - l.shipped - l.cancelled AS quantity
                 FROM ordflow.order_lines l JOIN ordflow.orders x USING (order_id)
                 WHERE audit_orders.since IS NULL AND l.stock_id IS NOT NULL AND x.state <> 'cancelled'
                 UNION ALL
                 SELECT l.stock_id, l.quantity FROM ordflow.hold_lines l JOIN ordflow.holds h USING (reference)
                 WHERE audit_orders.since IS NULL AND h.state = 'held') AS open
           GROUP BY stock_id) AS p USING (stock_id)
WHERE audit_orders.since IS NULL AND v.reserved <> coalesce(p.quantity, 0)
UNION ALL
SELECT 'order_coupon', 'order ' || order_id,
       format('it is %s, its coupon %s is %s', o.state, coalesce(o.coupon, 'none'), coalesce(r.state, 'not redeemed'))
FROM o LEFT JOIN ordflow.coupon_redemptions r USING (order_id)
WHERE (o.coupon IS NULL) <> (r.order_id IS NULL)
   OR (o.state = 'pending_payment' AND r.state <> 'locked')
   OR (o.state IN ('pending_shipment', 'pending_receipt', 'completed') AND r.state <> 'used')
   OR (o.state = 'cancelled' AND r.state = 'locked')
UNION ALL
SELECT 'order_payment', 'order ' || order_id,
       format('it is %s with a payable of %s, paid %s in %s payments', o.state, o.payable, coalesce(p.amount, 0), coalesce(p.n, 0))
FROM o LEFT JOIN paid p USING (order_id)
WHERE p.n > 1 OR (p.n = 1 AND p.amount <> o.payable)
   OR (p.n IS NULL AND o.payable > 0 AND o.state IN ('pending_shipment', 'pending_receipt', 'completed')
       AND NOT EXISTS (   -- sold on account, by an event of the shop's own
           SELECT FROM ordflow.order_history h WHERE h.order_id = o.order_id AND h.from_state = 'pending_payment'
           AND h.event <> 'pay'))
   OR (p.n = 1 AND o.state = 'pending_payment')
UNION ALL
SELECT 'payment_refund', 'payment ' || p.payment_id,
       format('%s %s, result %s, refunds %s', p.amount, p.currency, p.result, coalesce(r.amount, 0))
FROM ordflow.payments p LEFT JOIN refunded r USING (payment_id)
WHERE (audit_orders.since IS NULL OR p.at >= audit_orders.since)
  AND (r.amount > p.amount OR (p.result <> 'applied' AND r.amount IS DISTINCT FROM p.amount))
UNION ALL
SELECT 'refund_held', 'refund ' || r.refund_id,
       format('%s %s for order %s (%s): look at it, then call ordflow.release_refund() or ordflow.refund_failed()',
              r.amount, r.currency, r.order_id, r.reason)
FROM ordflow.refunds r
WHERE r.state = 'held' AND (audit_orders.since IS NULL OR r.updated_at >= audit_orders.since)
UNION ALL
SELECT 'orphan_lines', 'order ' || l.order_id, 'lines without their order'
FROM ordflow.order_lines l
WHERE audit_orders.since IS NULL AND NOT EXISTS (SELECT FROM ordflow.orders x WHERE x.order_id = l.order_id)
GROUP BY l.order_id
UNION ALL
SELECT 'purchase_count', format('limit %s, customer %s', limit_id, customer),
       format('counted %s, bought %s', coalesce(c.quantity, 0), coalesce(b.quantity, 0))
FROM (SELECT * FROM ordflow.purchase_counts WHERE audit_orders.since IS NULL) AS c
FULL JOIN (SELECT l.limit_id, x.customer, sum(l.quantity - l.returned - l.cancelled) AS quantity
           FROM ordflow.order_lines l JOIN ordflow.orders x USING (order_id)
           WHERE audit_orders.since IS NULL AND l.limit_id IS NOT NULL AND x.state <> 'cancelled'
           GROUP BY l.limit_id, x.customer) AS b USING (limit_id, customer)
WHERE coalesce(c.quantity, 0) <> coalesce(b.quantity, 0)
UNION ALL
SELECT 'disabled_trigger', format('%s on %s', t.tgname, t.tgrelid::regclass), 'changes of this table are not checked'
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgenabled IN ('D', 'R') AND NOT t.tgisinternal AND c.relnamespace = 'ordflow'::regnamespace
$$;
COMMENT ON FUNCTION ordflow.audit_orders(timestamptz) IS 'The part of ordflow.audit() about orders, payments and refunds.';

CREATE FUNCTION ordflow.audit(since timestamptz DEFAULT NULL)
RETURNS TABLE (check_name text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT * FROM ordflow.audit_orders(audit.since)
UNION ALL SELECT * FROM ordflow.audit_stock(audit.since)
UNION ALL SELECT * FROM ordflow.audit_coupons(audit.since)
UNION ALL
SELECT d.kind || '_counter', format('%s %s', d.kind, d.id),
       format('its counter is %s, the rows make %s; a write passed by the trigger counter_gate', d.counter, d.rows)
FROM ordflow.counter_differences() d
$$;
COMMENT ON FUNCTION ordflow.audit(timestamptz) IS
'Compares what must agree and returns a row for each disagreement; no row means that none of its checks fails. since: only what changed at or after it (checks that need everything are left out); NULL is everything. It reads one snapshot, so it may run beside sales; counters are compared where no open transaction uses them. The checks are listed in docs/audit.md.';

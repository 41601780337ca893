-- test/torture/checks.sql: what must be true whenever all clients are quiet; each statement tells,
-- in a row each, what is not: by statements of its own, not by those of ordflow.audit().
BEGIN ISOLATION LEVEL REPEATABLE READ;

-- What rows tell of calls: each call that changed something, by its tag.
CREATE TEMPORARY TABLE seen ON COMMIT DROP AS
SELECT 'submit' AS verb, metadata ->> 'tag' AS tag, order_id::text AS target, NULL AS answer, 1 AS units FROM ordflow.orders
UNION ALL SELECT 'reserve', reference, reference, NULL, 1 FROM ordflow.holds WHERE reference NOT LIKE 'shared%'
UNION ALL SELECT 'receive', reference, stock_id::text, NULL, on_hand FROM ordflow.stock_movements WHERE kind = 'received'
UNION ALL SELECT 'adjust', reason, stock_id::text, NULL, on_hand FROM ordflow.stock_movements
	WHERE kind = 'adjusted' AND reserved = 0
UNION ALL SELECT 'pay', transaction_id, order_id::text, result, 1 FROM ordflow.payments
UNION ALL SELECT 'ship', tracking_number, order_id::text, 'applied', 1 FROM ordflow.shipments
UNION ALL SELECT 'refund', idempotency_key, order_id::text, refund_id::text, 1 FROM ordflow.refunds
UNION ALL SELECT 'cancel', reason, order_id::text, 'applied', 1 FROM ordflow.order_history WHERE event = 'cancel';
CREATE INDEX ON pg_temp.seen (tag);

-- Calls by the order or hold, but those that were rolled back; certain: done, as was acknowledged.
CREATE TEMPORARY TABLE done ON COMMIT DROP AS
SELECT g.target, g.verb, bool_or(g.mark = 'A' AND g.answer IN ('applied', 'duplicate')) AS certain,
	bool_or(g.mark = 'A' AND g.answer = 'applied') AS applied
FROM torture.log g
WHERE g.verb IN ('pay', 'ship', 'confirm', 'cancel', 'refund', 'commit', 'release')
	AND g.tag NOT IN (SELECT r.tag FROM torture.log r WHERE r.mark = 'R')
GROUP BY g.target, g.verb;
CREATE TEMPORARY TABLE done_to ON COMMIT DROP AS
SELECT target, array_agg(verb) AS verbs, array_agg(verb) FILTER (WHERE certain) AS certain,
	bool_or(verb = 'pay' AND applied) AS paid
FROM pg_temp.done GROUP BY target;
ANALYZE pg_temp.seen, pg_temp.done_to;

SELECT 'audit', a.* FROM ordflow.audit() AS a;

-- The ledger is kept whole here: all movements of a sku make its balance.
SELECT 'movements make other levels', l.sku, l.on_hand, l.reserved, m.on_hand, m.reserved
FROM ordflow.stock_levels l JOIN ordflow.stock s USING (sku, location)
LEFT JOIN (SELECT stock_id, sum(on_hand) AS on_hand, sum(reserved) AS reserved
	FROM ordflow.stock_movements GROUP BY stock_id) AS m USING (stock_id)
WHERE (l.on_hand, l.reserved) IS DISTINCT FROM (m.on_hand, m.reserved);

SELECT 'negative', * FROM ordflow.stock_levels
WHERE on_hand < 0 OR reserved < 0 OR available < 0 OR available <> on_hand - reserved;

SELECT 'reserved is not what orders and holds have', l.sku, l.reserved, o.units AS orders, h.units AS holds
FROM ordflow.stock_levels l
LEFT JOIN (SELECT sku, sum(quantity - shipped - cancelled) AS units
	FROM ordflow.order_lines JOIN ordflow.orders USING (order_id)
	WHERE state IN ('pending_payment', 'pending_shipment', 'pending_receipt', 'completed') GROUP BY sku) AS o USING (sku)
LEFT JOIN (SELECT sku, sum(quantity) AS units
	FROM ordflow.hold_lines JOIN ordflow.holds USING (reference) JOIN ordflow.stock USING (stock_id)
	WHERE state = 'held' GROUP BY sku) AS h USING (sku)
WHERE l.reserved <> COALESCE(o.units, 0) + COALESCE(h.units, 0);

-- What came in, less what left, is what lies there.
SELECT 'goods do not add up', l.sku, l.on_hand, m.came, o.shipped, m.back, h.committed, m.written_off
FROM ordflow.stock_levels l JOIN ordflow.stock s USING (sku)
LEFT JOIN (SELECT stock_id, sum(on_hand) FILTER (WHERE kind = 'received' OR kind = 'adjusted' AND reserved = 0) AS came,
		sum(on_hand) FILTER (WHERE kind = 'returned') AS back,
		-sum(on_hand) FILTER (WHERE kind = 'adjusted' AND reserved < 0) AS written_off
	FROM ordflow.stock_movements GROUP BY stock_id) AS m USING (stock_id)
LEFT JOIN (SELECT stock_id, sum(shipped) AS shipped FROM ordflow.order_lines GROUP BY stock_id) AS o USING (stock_id)
LEFT JOIN (SELECT stock_id, sum(quantity) AS committed
	FROM ordflow.hold_lines JOIN ordflow.holds USING (reference)
	WHERE state = 'committed' GROUP BY stock_id) AS h USING (stock_id)
WHERE l.on_hand <> COALESCE(m.came, 0) - COALESCE(o.shipped, 0) + COALESCE(m.back, 0)
	- COALESCE(h.committed, 0) - COALESCE(m.written_off, 0);

SELECT 'units of an order were reserved otherwise', order_id, stock_id, l.units, m.units
FROM (SELECT order_id, stock_id, sum(quantity) AS units FROM ordflow.order_lines GROUP BY 1, 2) AS l
LEFT JOIN (SELECT order_id, stock_id, sum(reserved) AS units FROM ordflow.stock_movements
	WHERE kind = 'reserved' GROUP BY 1, 2) AS m USING (order_id, stock_id)
WHERE l.units IS DISTINCT FROM m.units;

SELECT 'more came back than was shipped', order_id, stock_id, l.*, m.back
FROM (SELECT order_id, stock_id, sum(shipped) AS shipped, sum(returned) AS returned
	FROM ordflow.order_lines GROUP BY 1, 2) AS l
LEFT JOIN (SELECT order_id, stock_id, sum(on_hand) AS back FROM ordflow.stock_movements
	WHERE kind = 'returned' GROUP BY 1, 2) AS m USING (order_id, stock_id)
WHERE l.returned > l.shipped OR m.back > l.returned;

SELECT 'coupon used too often', code, uses, most
FROM (SELECT code, (SELECT count(*) FROM ordflow.coupon_redemptions r
		WHERE r.coupon_id = c.coupon_id AND r.state IN ('locked', 'used')) AS uses,
	greatest(usage_limit, 10 /* at first */, (SELECT max(answer::bigint) FROM torture.log
		WHERE verb = 'alter' AND mark = 'T')) AS most
	FROM ordflow.coupons c WHERE code = 'MOVING'
	UNION ALL
	SELECT code, count(*), usage_limit FROM ordflow.coupons JOIN ordflow.coupon_redemptions r USING (coupon_id)
	WHERE code <> 'MOVING' AND r.state IN ('locked', 'used') GROUP BY code, usage_limit) AS c
WHERE uses > most;

SELECT 'history', order_id, count(*) FILTER (WHERE event = 'submit'), count(*) FILTER (WHERE event = 'pay'),
	count(*) FILTER (WHERE to_state = 'cancelled' AND from_state <> 'cancelled')
FROM ordflow.order_history GROUP BY order_id
HAVING count(*) FILTER (WHERE event = 'submit') <> 1 OR count(*) FILTER (WHERE event = 'pay' AND from_state <> to_state) > 1
	OR count(*) FILTER (WHERE to_state = 'cancelled' AND from_state <> 'cancelled') > 1;

-- What was acknowledged is there.
SELECT 'acknowledged order', g.*, o.customer, o.idempotency_key, o.metadata
FROM torture.log g LEFT JOIN ordflow.orders o ON o.order_id = g.answer::bigint
WHERE g.mark = 'A' AND g.verb = 'submit'
	AND CASE WHEN g.target IS NULL THEN o.metadata ->> 'tag' IS DISTINCT FROM g.tag
		ELSE o.idempotency_key IS DISTINCT FROM g.target END;

SELECT 'acknowledged twice', answer, count(*), min(tag), max(tag), min(target), max(target)
FROM torture.log WHERE mark = 'A' AND verb = 'submit' GROUP BY answer
HAVING count(DISTINCT COALESCE(target, tag)) > 1;
SELECT 'one key, two orders', target, count(DISTINCT answer)
FROM torture.log WHERE mark = 'A' AND verb = 'submit' AND target IS NOT NULL GROUP BY target
HAVING count(DISTINCT answer) > 1;

SELECT 'acknowledged, and not there', g.* FROM torture.log g
WHERE g.mark = 'A' AND NOT EXISTS (SELECT FROM seen s WHERE s.verb = g.verb AND s.tag = g.tag
		AND (s.target = g.target OR g.verb IN ('receive', 'adjust')) AND COALESCE(s.answer, g.answer) = g.answer)
	AND (g.verb IN ('receive', 'reserve', 'refund')
		OR g.verb = 'adjust' AND g.answer <> '0'
		OR g.verb IN ('ship', 'cancel') AND g.answer = 'applied'
		OR g.verb = 'pay' AND g.answer <> 'duplicate')
	AND g.target NOT LIKE 'shared%';

SELECT 'there, twice', verb, tag, count(*) FROM seen WHERE tag IS NOT NULL AND verb IN ('receive', 'adjust', 'pay', 'refund')
	AND tag <> 'the beginning' GROUP BY verb, tag HAVING count(*) > 1;

SELECT 'rolled back, and there', s.*, g.mark FROM seen s LEFT JOIN torture.log g
	ON g.verb = s.verb AND g.tag = s.tag AND g.mark IN ('A', 'R')
WHERE s.tag IS NOT NULL AND g.mark = 'R';

SELECT 'there, and nobody asked for it', s.* FROM seen s
WHERE s.tag <> 'the beginning' AND NOT EXISTS (SELECT FROM torture.log g WHERE g.tag = s.tag AND g.mark = 'T');

-- Each order, and each hold that one client alone knows, is in a state that calls have led to.
SELECT 'state of an order', order_id, state, expires_at, d.verbs, d.certain
FROM ordflow.orders o LEFT JOIN done_to d ON d.target = o.order_id::text
WHERE NOT COALESCE(CASE state
	WHEN 'pending_payment' THEN d.target IS NULL OR NOT d.paid AND NOT COALESCE(d.certain && ARRAY['ship', 'confirm', 'cancel'], false)
	WHEN 'pending_shipment' THEN d.verbs && ARRAY['pay'] AND NOT COALESCE(d.certain && ARRAY['cancel', 'confirm'], false)
	WHEN 'pending_receipt' THEN d.verbs && ARRAY['ship', 'refund'] AND NOT COALESCE(d.certain && ARRAY['cancel', 'confirm'], false)
	WHEN 'completed' THEN d.verbs && ARRAY['confirm']
	WHEN 'cancelled' THEN COALESCE(d.verbs && ARRAY['cancel', 'refund'], false)
		OR expires_at <= clock_timestamp() AND cancel_reason = 'timeout' AND NOT COALESCE(d.paid, false)
	END, false);

SELECT 'state of a hold', h.reference, state, expires_at, d.verbs, d.certain
FROM ordflow.holds h LEFT JOIN done_to d ON d.target = h.reference
WHERE h.reference NOT LIKE 'shared%' AND NOT COALESCE(CASE state
	WHEN 'held' THEN d.certain IS NULL OR expires_at <= clock_timestamp() AND NOT d.certain && ARRAY['commit']
	WHEN 'committed' THEN d.verbs && ARRAY['commit'] AND NOT COALESCE(d.certain && ARRAY['release'], false)
	WHEN 'released' THEN d.verbs && ARRAY['release'] AND NOT COALESCE(d.certain && ARRAY['commit'], false)
	WHEN 'expired' THEN expires_at <= clock_timestamp() AND NOT COALESCE(d.certain && ARRAY['commit'], false) END, false);
COMMIT;

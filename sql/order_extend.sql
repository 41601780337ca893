-- extend_order moves the deadline of the current state, payment or receipt, and tells it.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('order_extend') AS id \gset
SELECT expires_at AS before FROM ordflow.orders WHERE order_id = :id \gset
SELECT ordflow.extend_order(:id, '1 hour') = :'before'::timestamptz + interval '1 hour' AS an_hour;
SELECT expires_at = :'before'::timestamptz + interval '1 hour' AS expires_at, due_at = expires_at AS due_at FROM ordflow.orders
WHERE order_id = :id;
SELECT ordflow.extend_order(:id, '1 month 1 day') = :'before'::timestamptz + interval '1 hour' + interval '1 month 1 day' AS and_more;
SELECT e, pg_temp.try(format('SELECT ordflow.extend_order(%s, %L)', :id, e))
FROM unnest(ARRAY['0', '-1 second', '-1 day', '1 month -31 days', '300000 years', 'soon', NULL]) e;
-- 'infinity' is no interval up to PostgreSQL 16, and out of range from 17 on
SELECT pg_temp.try(format('SELECT ordflow.extend_order(%s, ''infinity'')', :id)) IN ('22007', '22008') AS refused;
SELECT event, from_state, to_state, (data->>'until')::timestamptz = o.expires_at AS until
FROM ordflow.order_history h JOIN ordflow.orders o USING (order_id) WHERE order_id = :id AND event = 'extend' ORDER BY seq;
-- whatever the session's style, the history tells the moment
SET DateStyle = 'SQL, DMY';
SET TimeZone = 'Asia/Shanghai';
SELECT ordflow.extend_order(:id, '1 hour') > :'before' AS extended;
RESET TimeZone;
RESET DateStyle;
SELECT (data->>'until')::timestamptz = o.expires_at AS until FROM ordflow.order_history h JOIN ordflow.orders o USING (order_id)
WHERE order_id = :id ORDER BY seq DESC LIMIT 1;
SELECT * FROM pg_temp.look(:id);
-- the payment deadline is not what is moved once the order waits for its receipt
SELECT pg_temp.sell('order_extend', 'pending_receipt') AS shipped \gset
SELECT expires_at AS expires, due_at AS due FROM ordflow.orders WHERE order_id = :shipped \gset
SELECT ordflow.extend_order(:shipped, '3 days') = :'due'::timestamptz + interval '3 days' AS three_days;
SELECT expires_at = :'expires' AS expires_at, due_at = :'due'::timestamptz + interval '3 days' AS due_at FROM ordflow.orders
WHERE order_id = :shipped;
-- a deadline that has passed is not moved: payment, receipt
SELECT pg_temp.sell('order_extend') AS overdue \gset
SELECT pg_temp.overdue(:overdue);
SELECT ordflow.extend_order(:overdue, '1 hour');
SELECT ordflow.expire_order(:overdue);
UPDATE ordflow.orders SET due_at = clock_timestamp() - interval '1 microsecond' WHERE order_id = :shipped;
SELECT ordflow.extend_order(:shipped, '1 hour');
SELECT ordflow.confirm_order(:shipped, 'timeout');
SELECT ordflow.extend_order(0, '1 hour');
-- extended in time it can be paid in time
SELECT ordflow.pay_order(:id, 'p', 'order_extend', 10);
SELECT * FROM ordflow.audit(:'began');

-- codingXiaxw/seckill #41: what of a payment at minute 16 of 15? Here: it is late, whether or not a sweep has come by, and one at
-- minute 15 less a moment is in time, whenever the sweep comes.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('bug_seckill') AS late, pg_temp.sell('bug_seckill') AS early \gset
UPDATE ordflow.orders SET created_at = created_at - interval '16 min', expires_at = expires_at - interval '16 min',
    due_at = due_at - interval '16 min' WHERE order_id = :late;
UPDATE ordflow.orders SET created_at = created_at - interval '14 min', expires_at = expires_at - interval '14 min',
    due_at = due_at - interval '14 min' WHERE order_id = :early;
SELECT ordflow.pay_order(:late, 'p', 'bug_seckill 16', 10), ordflow.pay_order(:early, 'p', 'bug_seckill 14', 10);
SELECT ordflow.expire_order(:late), ordflow.expire_order(:early);
SELECT * FROM pg_temp.look(:late) UNION ALL SELECT * FROM pg_temp.look(:early);
SELECT * FROM pg_temp.stock('bug_seckill');
SELECT * FROM ordflow.audit(:'began');

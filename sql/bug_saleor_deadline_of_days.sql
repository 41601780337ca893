-- Saleor counts a deadline as day x 24 + hour x 60 + minute, so a day is 24 minutes and limits of a day or more fire late.
-- Here: the deadline is a moment, stored with the order.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT w, ordflow.submit_order(NULL, '[{"sku": "s", "stock": false, "quantity": 1, "unit_price": 1}]', pay_within => w) AS id
INTO TEMP orders FROM unnest('{23:59:59.999999, 1 day, 25 hours, 3 days, 60 days}'::interval[]) w;
SELECT w, expires_at - created_at = w AS exact, due_at = expires_at AS due FROM orders JOIN ordflow.orders o ON order_id = id ORDER BY w;
-- an hour before it there is time, at it there is none
UPDATE ordflow.orders SET expires_at = t + interval '1 hour', due_at = t + interval '1 hour'
FROM clock_timestamp() t, orders WHERE order_id = id AND w <= '1 day';
SELECT w, ordflow.expire_order(id) FROM orders ORDER BY w;
SELECT w, pg_temp.overdue(id), ordflow.expire_order(id) FROM orders ORDER BY w;
SELECT * FROM ordflow.audit(:'began');

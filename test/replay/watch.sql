/* watch.sql: one look at the orders of unpaid.sql, and at what the worker says of itself. */
\set ON_ERROR_STOP on
\set QUIET on
\pset tuples_only on
\pset format unaligned
SELECT format('%s   %s unpaid   %s cancelled   at most %s ms late', to_char(clock_timestamp(), 'HH24:MI:SS.MS'),
    lpad(count(*) FILTER (WHERE state = 'pending_payment')::text, 2),
    lpad(count(*) FILTER (WHERE state = 'cancelled')::text, 2),
    to_char(coalesce(extract(epoch FROM max(h.at - o.expires_at)) * 1000, 0), 'FM999990.0'))
FROM ordflow.orders AS o LEFT JOIN ordflow.order_history AS h ON h.order_id = o.order_id AND h.event = 'expire'
WHERE customer LIKE 'undecided %';

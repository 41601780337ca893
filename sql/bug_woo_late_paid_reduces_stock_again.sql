-- mollie/WooCommerce #1252: a late "paid" turns a cancelled or refunded order back to processing and takes its stock again.
-- Here: neither state nor stock moves.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('bug_woo', 'cancelled') AS cancelled, pg_temp.sell('bug_woo', 'completed') AS refunded \gset
SELECT ordflow.refund_order(:refunded) > 0 AS refund;
SELECT * FROM pg_temp.stock('bug_woo');
SELECT ordflow.pay_order(:cancelled, 'mollie', 'bug_woo 1', 10), ordflow.pay_order(:refunded, 'mollie', 'bug_woo 2', 10);
SELECT * FROM pg_temp.stock('bug_woo');
SELECT * FROM pg_temp.look(:cancelled) UNION ALL SELECT * FROM pg_temp.look(:refunded);
SELECT * FROM ordflow.audit(:'began');

-- mall #998: the amount that is paid comes from the client and is never compared with the order: anything for 0.01.
-- Here: another amount is a mismatch and buys nothing.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('bug_mall_amount') AS id \gset
SELECT ordflow.pay_order(:id, 'alipay', 'bug_mall_amount', 0.01);
SELECT * FROM pg_temp.look(:id);
SELECT ordflow.ship_order(:id, 'c', 't');
SELECT ordflow.pay_order(:id, 'alipay', 'bug_mall_amount 2', 10);
SELECT * FROM pg_temp.look(:id);
SELECT * FROM ordflow.audit(:'began');

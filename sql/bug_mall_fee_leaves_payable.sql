-- mall #1004: a fee that an administrator adds leaves the payable as it was, and the old amount is paid.
-- Here: add_charge changes the payable, and only that amount pays the order.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('bug_mall_fee') AS id \gset
SELECT ordflow.add_charge(:id, 'freight', 7.5, 'island');
SELECT ordflow.pay_order(:id, 'alipay', 'bug_mall_fee old', 10), ordflow.pay_order(:id, 'alipay', 'bug_mall_fee', 17.5);
SELECT * FROM pg_temp.look(:id);
SELECT * FROM ordflow.audit(:'began');

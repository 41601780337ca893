-- mall: the timeout reads the order as unpaid and then closes it by its key, whatever it has become: payment and cancel both win.
-- Here: who comes second sees what the first has done.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('bug_mall_cancel_overrides_payment') AS id \gset
SELECT ordflow.pay_order(:id, 'p', 'bug_mall_cancel_overrides_payment', 10);
-- paid in time, the deadline passes, and every sweep there is comes by
SELECT pg_temp.overdue(:id);
UPDATE ordflow.orders SET due_at = NULL WHERE order_id = :id;
SELECT ordflow.expire_order(:id), ordflow.expire_order(:id);
SELECT ordflow.fire('ordflow.orders', :'id', 'expire');
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.stock('bug_mall_cancel_overrides_payment');
-- the other way round: cancelled first, the payment finds it so
SELECT pg_temp.sell('bug_mall_cancel_overrides_payment', 'cancelled') AS gone \gset
SELECT ordflow.pay_order(:gone, 'p', 'bug_mall_cancel_overrides_payment 2', 10);
SELECT * FROM pg_temp.look(:gone);
SELECT * FROM ordflow.audit(:'began');

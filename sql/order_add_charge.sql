-- add_charge: the new payable, while unpaid and in time; the amount that is paid is the new one.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('order_add_charge') AS id \gset
SELECT ordflow.add_charge(:id, 'gift wrapping', 2.5, 'asked by phone'), ordflow.add_charge(:id, 'rebate', -4);
SELECT subtotal, discount, charges, payable FROM ordflow.orders WHERE order_id = :id;
SELECT charge_no, code, amount, reason, added, actor = session_user AS actor FROM ordflow.order_charges WHERE order_id = :id ORDER BY 1;
SELECT seq, event, from_state, to_state, reason, data FROM ordflow.order_history WHERE order_id = :id ORDER BY 1;
SELECT a, pg_temp.try(format('SELECT ordflow.add_charge(%s, ''x'', %s)', :id, a))
FROM unnest(ARRAY['-8.51', '0.001', '''NaN''', '''Infinity''', '''-Infinity''', '1e30', '1e131000', '10000000000000', 'NULL']) a;
SELECT * FROM pg_temp.look(:id);
SELECT ordflow.pay_order(:id, 'p', 'order_add_charge old', 10), ordflow.pay_order(:id, 'p', 'order_add_charge', 8.5);
SELECT ordflow.add_charge(:id, 'late', 1);
-- at its deadline no more
SELECT pg_temp.sell('order_add_charge') AS overdue \gset
SELECT pg_temp.overdue(:overdue);
SELECT ordflow.add_charge(:overdue, 'late', 1);
SELECT ordflow.expire_order(:overdue);
SELECT ordflow.add_charge(0, 'x', 1);
SELECT ordflow.add_charge(:id, '', 1);
SELECT ordflow.add_charge(:id, repeat('x', 256), 1);
SELECT ordflow.add_charge(:id, 'x', 1, repeat('x', 256));
SELECT * FROM pg_temp.look(:id);
SELECT * FROM ordflow.audit(:'began');

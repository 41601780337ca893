-- litemall: states 102 and 103 are not "paid", so a late notice turns the cancelled order into 201 after its stock and coupon
-- went back: oversold. Here: a cancelled order never comes back.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('bug_litemall_revived', 'fixed', 1, '{"usage_limit": 1}') > 0 AS coupon;
SELECT ordflow.receive_stock('bug_litemall_revived', 2);
PREPARE submit (text) AS SELECT ordflow.submit_order($1, '[{"sku": "bug_litemall_revived", "quantity": 2, "unit_price": 5}]',
    'bug_litemall_revived') AS id;
EXECUTE submit ('first') \gset
SELECT ordflow.cancel_order(:id);
-- somebody else buys the units with the coupon; then the first one's payment comes in
EXECUTE submit ('second') \gset second_
SELECT ordflow.pay_order(:second_id, 'p', 'bug_litemall_revived 2', 9), ordflow.pay_order(:id, 'p', 'bug_litemall_revived 1', 9);
SELECT * FROM pg_temp.look(:id) UNION ALL SELECT * FROM pg_temp.look(:second_id);
SELECT * FROM pg_temp.stock('bug_litemall_revived');
SELECT pg_temp.used('bug_litemall_revived');
-- nor by any other way
SELECT s, pg_temp.try(format('UPDATE ordflow.orders SET state = %L WHERE order_id = %s', s, :id))
FROM unnest(ARRAY['pending_payment', 'pending_shipment', 'pending_receipt', 'completed']) s;
SELECT pg_temp.try(format('SELECT ordflow.ship_order(%s, ''c'', ''t'')', :id)) AS ship,
    pg_temp.try(format('SELECT ordflow.confirm_order(%s)', :id)) AS confirm,
    pg_temp.try(format('SELECT ordflow.extend_order(%s, ''1 day'')', :id)) AS extend;
SELECT ordflow.ship_order(:second_id, 'c', 't');
SELECT * FROM pg_temp.stock('bug_litemall_revived');
SELECT * FROM ordflow.audit(:'began');

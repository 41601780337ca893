-- In a currency without decimals the amount is compared as a number; the order's own amount in another currency is a mismatch.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('pay_mismatch_scale', 10);
SELECT ordflow.submit_order(NULL, '[{"sku": "pay_mismatch_scale", "quantity": 3, "unit_price": 100.5}]', currency => 'JPY') AS yen,
    ordflow.submit_order(NULL, '[{"sku": "pay_mismatch_scale", "quantity": 3, "unit_price": 0.0335}]', currency => 'KWD') AS dinar \gset
SELECT currency, payable FROM ordflow.orders WHERE order_id IN (:yen, :dinar) ORDER BY order_id;
SELECT ordflow.pay_order(:yen, 'p', 'pay_mismatch_scale 1', 302.5), ordflow.pay_order(:yen, 'p', 'pay_mismatch_scale 2', 302, 'CNY'),
    ordflow.pay_order(:yen, 'p', 'pay_mismatch_scale 3', 302.00, 'JPY');
SELECT ordflow.pay_order(:dinar, 'p', 'pay_mismatch_scale 4', 0.10), ordflow.pay_order(:dinar, 'p', 'pay_mismatch_scale 5', 0.101, 'KWD');
SELECT * FROM pg_temp.look(:yen) UNION ALL SELECT * FROM pg_temp.look(:dinar);
SELECT * FROM ordflow.audit(:'began');

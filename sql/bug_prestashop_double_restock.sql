-- PrestaShop #16869, #35460, Vendure #550: a partial refund with restock and then a cancel put the same units back twice.
-- Here: what a refund took back, no cancel gives back.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bug_prestashop', 100);
SELECT ordflow.submit_order('c', '[{"sku": "bug_prestashop", "quantity": 3, "unit_price": 5}]') AS id \gset
SELECT ordflow.pay_order(:id, 'p', 'bug_prestashop', 15);
SELECT ordflow.refund_order(:id, '[{"line": 1, "quantity": 2}]') > 0 AS refund;
SELECT * FROM pg_temp.stock('bug_prestashop');
SELECT ordflow.cancel_order(:id);
SELECT * FROM pg_temp.stock('bug_prestashop');
SELECT * FROM pg_temp.look(:id);
-- the same after the shipment: refund, refund again, refund of all
SELECT ordflow.submit_order('c', '[{"sku": "bug_prestashop", "quantity": 3, "unit_price": 5}]') AS id \gset
SELECT ordflow.pay_order(:id, 'p', 'bug_prestashop 2', 15), ordflow.ship_order(:id, 'c', 't');
SELECT ordflow.refund_order(:id, '[{"line": 1, "quantity": 2}]', idempotency_key => 'k')
    = ordflow.refund_order(:id, '[{"line": 1, "quantity": 2}]', idempotency_key => 'k') AS same;
SELECT ordflow.refund_order(:id, '[{"line": 1, "quantity": 2}]');
SELECT ordflow.refund_order(:id) > 0 AS refund;
SELECT ordflow.refund_order(:id);
SELECT ordflow.cancel_order(:id);
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.stock('bug_prestashop');
SELECT * FROM ordflow.audit(:'began');

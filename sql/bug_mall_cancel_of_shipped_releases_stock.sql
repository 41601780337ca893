-- mall and others: a cancel after the shipment puts units back into stock that are on their way to the customer.
-- Here: it is refused by every path, and a refund books goods in once, when the shop says that they are back.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('bug_mall_shipped', 'pending_receipt') AS id, pg_temp.sell('bug_mall_shipped part', 'partly shipped') AS part \gset
SELECT pg_temp.try(format('SELECT ordflow.cancel_order(%s)', o)),
    pg_temp.try(format('SELECT ordflow.fire(''ordflow.orders'', ''%s'', ''cancel'')', o)),
    pg_temp.try(format('UPDATE ordflow.orders SET state = ''cancelled'' WHERE order_id = %s', o)) FROM unnest(ARRAY[:id, :part]) o;
SELECT * FROM pg_temp.stock('bug_mall_shipped');
-- the money first, the goods are lost
SELECT ordflow.refund_order(:id, restock => false) > 0 AS lost;
SELECT * FROM pg_temp.look(:id);
-- of the other one unit never left: only that one is released, the other comes back when it is back
SELECT ordflow.refund_order(:part, '[{"line": 1, "quantity": 1}]') > 0 AS unshipped;
SELECT * FROM pg_temp.stock('bug_mall_shipped');
SELECT ordflow.refund_order(:part, '[{"line": 1, "quantity": 1}]') > 0 AS came_back;
SELECT * FROM pg_temp.stock('bug_mall_shipped');
SELECT * FROM ordflow.audit(:'began');

-- restock: refunded units go back into stock; without it unshipped ones are written off and shipped ones stay away.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT restock, state, pg_temp.sell(name, state) AS id, name INTO TEMP sold
FROM (SELECT restock, state, format('refund_restock %s %s', restock, state) AS name
      FROM unnest(ARRAY[true, false]) restock, unnest(ARRAY['pending_shipment', 'partly shipped', 'pending_receipt']) state) AS s;
SELECT * FROM pg_temp.stock('refund_restock');
SELECT count(ordflow.refund_order(id, restock => restock)) FROM sold;
SELECT * FROM pg_temp.stock('refund_restock');
SELECT s.restock, s.state, m.kind, m.on_hand, m.reserved, m.reason
FROM sold s JOIN ordflow.stock_movements m ON m.order_id = s.id WHERE m.kind IN ('released', 'adjusted', 'returned')
ORDER BY 1 DESC, 2, 3;
-- the money is the same
SELECT s.restock, s.state, r.restock, r.amount FROM sold s JOIN ordflow.refunds r ON r.order_id = s.id ORDER BY 1 DESC, 2;
SELECT * FROM ordflow.audit(:'began');

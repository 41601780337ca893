-- available_events tells what is legal for an order in its state, and when something fires by itself.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
CREATE TABLE pg_temp.cells AS
SELECT s.n, s.state, pg_temp.sell('order_available_events ' || s.state, s.state) AS id
FROM unnest(ARRAY['pending_payment', 'pending_shipment', 'pending_receipt', 'completed', 'cancelled']) WITH ORDINALITY AS s (state, n);
SELECT c.state, e.event, e.to_state, e.at = o.due_at AS at_due
FROM pg_temp.cells c JOIN ordflow.orders o ON o.order_id = c.id, ordflow.available_events(c.id) e ORDER BY c.n, 2, 3;
-- the same by table and key
SELECT c.state, array(SELECT e FROM ordflow.available_events(c.id) e ORDER BY 1)
    = array(SELECT e FROM ordflow.available_events('ordflow.orders', c.id::text) e ORDER BY 1) AS same
FROM pg_temp.cells c ORDER BY n;
SELECT pg_temp.try('SELECT count(*) FROM ordflow.available_events(0)'),
    pg_temp.try('SELECT count(*) FROM ordflow.available_events(NULL)'),
    pg_temp.try($$SELECT count(*) FROM ordflow.available_events('ordflow.orders', '0')$$);
SELECT * FROM ordflow.audit(:'began');

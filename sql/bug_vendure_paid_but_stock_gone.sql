-- Vendure #3065: the card is charged, and then there is no stock. Here: an order that can be paid holds its units.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bug_vendure', 2);
SELECT ordflow.submit_order('a', '[{"sku": "bug_vendure", "quantity": 2, "unit_price": 5}]') AS id \gset
-- nothing takes them meanwhile: an order, a hold, a breakage, the figure of an ERP
SELECT c, pg_temp.try('SELECT ordflow.' || c) FROM unnest(ARRAY[
    'submit_order(''b'', ''[{"sku": "bug_vendure", "quantity": 1, "unit_price": 5}]'')',
    'reserve_stock(''bug_vendure'', ''[{"sku": "bug_vendure", "quantity": 1}]'')',
    'adjust_stock(''bug_vendure'', -1, ''broken'')', 'set_stock(''bug_vendure'', 1, ''ERP'')']) c;
SELECT ordflow.pay_order(:id, 'p', 'bug_vendure', 10), ordflow.ship_order(:id, 'c', 't');
SELECT * FROM pg_temp.stock('bug_vendure');
SELECT * FROM ordflow.audit(:'began');

-- The same carrier and tracking number is the same parcel: with the same lines a duplicate, with others OF005.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('ship_repeat', 'partly shipped') AS id, pg_temp.sell('ship_repeat', 'partly shipped') AS other \gset
SELECT pg_temp.fingerprint() AS before \gset
SELECT ordflow.ship_order(:id, 'sell', '1', '[{"quantity": 1, "line": 1}]');
SELECT ordflow.ship_order(:id, 'sell', '1', '[{"line": 1, "quantity": 2}]');
SELECT ordflow.ship_order(:id, 'sell', '1');
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- another carrier, another order: another parcel
SELECT ordflow.ship_order(:id, 'other', '1', '[{"line": 1, "quantity": 1}]'), ordflow.ship_order(:other, 'other', '1');
SELECT * FROM pg_temp.look(:id);
-- all is shipped: whatever comes is a duplicate
SELECT pg_temp.fingerprint() AS before \gset
SELECT ordflow.ship_order(:id, 'sell', '1', '[{"line": 1, "quantity": 2}]'), ordflow.ship_order(:id, 'sell', '3'),
    ordflow.ship_order(:id, 'other', '1');
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
SELECT * FROM pg_temp.stock('ship_repeat');
SELECT * FROM ordflow.audit(:'began');

-- The same idempotency key with the same arguments returns the same order, whatever became of it, and changes nothing.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT s, pg_temp.sell('submit_repeat ' || s, s) AS first INTO TEMP states
FROM unnest(ARRAY['pending_payment', 'pending_shipment', 'partly shipped', 'pending_receipt', 'completed', 'cancelled']) s;
UPDATE ordflow.orders o SET idempotency_key = 'k' FROM states WHERE order_id = first;
SELECT pg_temp.fingerprint() AS before \gset
SELECT s, ordflow.submit_order('submit_repeat ' || s, jsonb_build_array(jsonb_build_object('sku', 'submit_repeat ' || s, 'quantity', 2,
    'unit_price', 5)), idempotency_key => 'k') = first AS same FROM states;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;

-- also when its stock is gone, when it is overdue, and after its price was changed by a charge
SELECT ordflow.receive_stock('submit_repeat', 2);
PREPARE submit AS SELECT ordflow.submit_order('submit_repeat', '[{"sku": "submit_repeat", "quantity": 2, "unit_price": 2.55}]',
    idempotency_key => 'k', charges => '[{"code": "shipping", "amount": 3}]') AS id;
EXECUTE submit \gset
SELECT * FROM pg_temp.stock('submit_repeat');
EXECUTE submit \gset again_
SELECT :id = :again_id AS same;
SELECT ordflow.add_charge(:id, 'gift wrapping', 2);
EXECUTE submit \gset again_
SELECT :id = :again_id AS same;
SELECT pg_temp.overdue(:id);
EXECUTE submit \gset again_
SELECT :id = :again_id AS same, state FROM pg_temp.look(:id);
SELECT ordflow.expire_order(:id);
EXECUTE submit \gset again_
SELECT :id = :again_id AS same, state FROM pg_temp.look(:id);
SELECT count(*) FROM ordflow.orders WHERE customer = 'submit_repeat';
SELECT * FROM ordflow.audit(:'began');

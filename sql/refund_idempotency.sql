-- The same key with the same arguments returns the same refund, in every state after; other arguments are OF005.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('refund_idempotency', 'completed') AS id, pg_temp.sell('refund_idempotency', 'completed') AS other \gset
SELECT ordflow.refund_order(:id, '[{"line": 1, "quantity": 1}]', 4, true, 'scratch', 'k') AS refund \gset
SELECT pg_temp.fingerprint() AS before \gset
SELECT ordflow.refund_order(:id, '[{"quantity": 1, "line": 1}]', 4.00, true, 'scratch', 'k') = :refund AS same;
SELECT c, pg_temp.try(format('SELECT ordflow.refund_order(%s, %s, idempotency_key => ''k'')', :id, c)) FROM unnest(ARRAY[
    $$'[{"line": 1, "quantity": 2}]', 4, true, 'scratch'$$, $$'[{"line": 1, "quantity": 1}]', 4.01, true, 'scratch'$$,
    $$'[{"line": 1, "quantity": 1}]', 4, false, 'scratch'$$, $$'[{"line": 1, "quantity": 1}]', 4, true, 'regret'$$,
    $$'[{"line": 1, "quantity": 1}]', NULL, true, 'scratch'$$, $$NULL, 4, true, 'scratch'$$, $$NULL, NULL$$]) c;
SELECT pg_temp.fingerprint() = :'before' AS unchanged;
-- a key belongs to its order
SELECT ordflow.refund_order(:other, amount => 1, idempotency_key => 'k') <> :refund AS another;
-- a refused refund binds nothing
SELECT ordflow.refund_order(:id, amount => 7, idempotency_key => 'k2');
SELECT ordflow.refund_order(:id, amount => 1, idempotency_key => 'k2') > 0 AS refund;
-- also once the order is cancelled
SELECT ordflow.refund_order(:id, idempotency_key => 'k3') AS rest \gset
SELECT ordflow.refund_order(:id, idempotency_key => 'k3') = :rest AS same,
    ordflow.refund_order(:id, '[{"line": 1, "quantity": 1}]', 4, true, 'scratch', 'k') = :refund AS same;
SELECT * FROM pg_temp.look(:id);
-- without a key twice is two refunds
SELECT ordflow.refund_order(:other, amount => 1) <> ordflow.refund_order(:other, amount => 1) AS two;
SELECT * FROM ordflow.audit(:'began');

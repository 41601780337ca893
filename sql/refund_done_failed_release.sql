-- refund_done, refund_failed and release_refund in every state of a refund.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('refund_done', 'completed') AS id \gset
SELECT s, ordflow.refund_order(:id, amount => 1) AS refund_id INTO TEMP refunds FROM unnest(ARRAY['due', 'done', 'failed']) s;
SELECT ordflow.pay_order(0, 'p', 'refund_done', 1), ordflow.pay_order(0, 'p', 'refund_done', 2);
INSERT INTO refunds SELECT 'held', r.refund_id FROM ordflow.refunds r JOIN ordflow.payments p USING (payment_id)
WHERE p.transaction_id = 'refund_done' AND r.state = 'held';
SELECT s, CASE s WHEN 'done' THEN ordflow.refund_done(refund_id, 'r1') ELSE ordflow.refund_failed(refund_id, 'account closed') END
FROM refunds WHERE s IN ('done', 'failed');
SELECT r.state, r.provider_refund_id, r.error FROM refunds JOIN ordflow.refunds r USING (refund_id) ORDER BY 1;

CREATE FUNCTION pg_temp.answers(call text) RETURNS TABLE (due text, held text, failed text, done text) LANGUAGE sql AS $$
SELECT min(a) FILTER (WHERE s = 'due'), min(a) FILTER (WHERE s = 'held'), min(a) FILTER (WHERE s = 'failed'),
    min(a) FILTER (WHERE s = 'done')
FROM (SELECT s, pg_temp.peek(format(call, refund_id), format('SELECT state FROM ordflow.refunds WHERE refund_id = %s', refund_id)) AS a
      FROM pg_temp.refunds) AS r
$$;
SELECT c, a.* FROM unnest(ARRAY['SELECT ordflow.refund_done(%s, ''r1'')', 'SELECT ordflow.refund_done(%s, ''r2'')',
    'SELECT ordflow.refund_failed(%s, ''again'')', 'SELECT ordflow.release_refund(%s)']) c, pg_temp.answers(c) a;
-- a later success takes the error away
SELECT ordflow.refund_done(refund_id, 'r3') FROM refunds WHERE s = 'failed';
SELECT r.state, r.provider_refund_id, r.error, r.updated_at > r.created_at AS later, r.actor = session_user AS actor
FROM refunds JOIN ordflow.refunds r USING (refund_id) WHERE s = 'failed';
-- an error may be long; no such refund
SELECT ordflow.refund_failed(refund_id, repeat('x', 3000)) FROM refunds WHERE s = 'held';
SELECT pg_temp.try('SELECT ordflow.refund_done(0, ''r'')'), pg_temp.try('SELECT ordflow.refund_failed(0, ''e'')'),
    pg_temp.try('SELECT ordflow.release_refund(0)');
SELECT * FROM ordflow.audit(:'began');

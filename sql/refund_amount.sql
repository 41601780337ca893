-- refund_order of an amount: money without goods, never above what is left of the payment.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('refund_amount', 'completed') AS id \gset
SELECT ordflow.refund_order(:id, amount => 4, reason => 'scratch') > 0 AS refund;
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.lines(:id);
SELECT a, pg_temp.try(format('SELECT ordflow.refund_order(%s, amount => %s)', :id, a))
FROM unnest(ARRAY['6.01', '0', '-1', '0.001', '''NaN''', '''Infinity''', '1e30']) a;
SELECT ordflow.refund_order(:id, amount => 6) > 0 AS refund;
SELECT pg_temp.try(format('SELECT ordflow.refund_order(%s, amount => 0.01)', :id));
SELECT * FROM pg_temp.look(:id);
SELECT count(*) AS lines FROM ordflow.refund_lines JOIN ordflow.refunds USING (refund_id) WHERE order_id = :id;
-- the goods can still come back, for nothing more
SELECT ordflow.refund_order(:id, '[{"line": 1, "quantity": 1}]') > 0 AS refund;
SELECT ordflow.refund_order(:id) > 0 AS refund;
SELECT * FROM pg_temp.look(:id);
SELECT * FROM pg_temp.lines(:id);
SELECT * FROM pg_temp.stock('refund_amount');
SELECT * FROM ordflow.audit(:'began');

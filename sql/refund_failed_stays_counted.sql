-- A refund that failed or is held still counts: its money is not refunded a second time.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('refund_failed_stays_counted', 'completed') AS id \gset
SELECT ordflow.refund_order(:id, amount => 10) AS refund \gset
SELECT ordflow.refund_failed(:refund, 'account closed');
SELECT ordflow.refund_order(:id, amount => 0.01);
SELECT * FROM pg_temp.look(:id);
SELECT ordflow.refund_done(:refund, 'by hand');
SELECT * FROM pg_temp.look(:id);
SELECT * FROM ordflow.audit(:'began');

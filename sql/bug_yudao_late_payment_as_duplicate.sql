-- yudao: a payment after the cancel has the pay-order id that is known, is taken for a duplicate notice, and is kept without refund.
-- Here: a duplicate is a report that was recorded; this one was not.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT pg_temp.sell('bug_yudao_duplicate') AS id \gset
SELECT ordflow.cancel_order(:id);
SELECT ordflow.pay_order(:id, 'yudao', 'bug_yudao_duplicate', 10);
SELECT * FROM pg_temp.look(:id);
-- now it is known
SELECT ordflow.pay_order(:id, 'yudao', 'bug_yudao_duplicate', 10) FROM generate_series(1, 3);
SELECT * FROM pg_temp.look(:id);
-- an order that was paid, cancelled and paid again by another transaction: each is its own
SELECT pg_temp.sell('bug_yudao_duplicate', 'pending_shipment') AS paid \gset
SELECT ordflow.cancel_order(:paid);
SELECT ordflow.pay_order(:paid, 'yudao', 'bug_yudao_duplicate 2', 10);
SELECT * FROM pg_temp.look(:paid);
SELECT * FROM ordflow.audit(:'began');

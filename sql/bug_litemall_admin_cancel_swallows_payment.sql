-- litemall: state 104, cancelled by an administrator, counts as paid, so the notice of a late payment is swallowed.
-- Here: whoever cancelled and why, a late payment is recorded and goes back.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT r, pg_temp.sell('bug_litemall_admin') AS id INTO TEMP sold FROM unnest(ARRAY['admin', 'fraud', 'inventory', 'paid elsewhere']) r;
SELECT r, ordflow.cancel_order(id, r) FROM sold ORDER BY id;
SELECT r, ordflow.pay_order(id, 'wechat', 'bug_litemall_admin ' || r, 10) FROM sold ORDER BY id;
SELECT r, cancel_reason, look.* FROM sold JOIN ordflow.orders ON order_id = id, pg_temp.look(id) ORDER BY id;
SELECT * FROM ordflow.audit(:'began');

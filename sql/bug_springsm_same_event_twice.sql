-- Spring Statemachine #579, #844, AASM #230, #577: the same event twice is accepted twice. Here: the second time is a duplicate,
-- or OF001 by name, and nothing happens again. (Sessions at once: see the isolation specs.)
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('bug_springsm', 'fixed', 1, '{"usage_limit": 9}') > 0 AS coupon;
SELECT pg_temp.sell('bug_springsm', 'pending_payment', 'bug_springsm') AS id,
    pg_temp.sell('bug_springsm', 'pending_shipment', 'bug_springsm') AS paid,
    pg_temp.sell('bug_springsm', 'pending_payment', 'bug_springsm') AS late \gset
SELECT pg_temp.overdue(:late);
CREATE FUNCTION pg_temp.twice(call text) RETURNS TABLE (first text, second text, unchanged boolean) LANGUAGE plpgsql AS $$
DECLARE
    before text;
BEGIN
    first = pg_temp.try(call);
    before = pg_temp.fingerprint();
    second = pg_temp.try(call);
    unchanged = before = pg_temp.fingerprint();
    RETURN NEXT;
END
$$;
SELECT event, t.* FROM (VALUES
    (1, 'pay', :id, 'pay_order(%s, ''p'', ''bug_springsm'', 9)'), (2, 'ship', :id, 'ship_order(%s, ''c'', ''t'')'),
    (3, 'confirm', :id, 'confirm_order(%s)'), (4, 'refund', :id, 'refund_order(%s, idempotency_key => ''k'') > 0'),
    (5, 'cancel', :paid, 'cancel_order(%s)'), (6, 'expire', :late, 'expire_order(%s)')) AS v (n, event, id, call),
    pg_temp.twice(format('SELECT ordflow.' || call, id)) t ORDER BY n;
SELECT pg_temp.sell('bug_springsm', 'pending_payment', 'bug_springsm') AS fired \gset
SELECT * FROM pg_temp.twice(format('SELECT ordflow.fire(''ordflow.orders'', ''%s'', ''cancel'')', :fired));
SELECT l.* FROM unnest(ARRAY[:id, :paid, :late, :fired]) WITH ORDINALITY AS u (id, n), pg_temp.look(u.id) l ORDER BY n;
SELECT * FROM pg_temp.stock('bug_springsm');
SELECT pg_temp.used('bug_springsm');
SELECT * FROM ordflow.audit(:'began');

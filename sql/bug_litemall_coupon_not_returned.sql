-- litemall #163 (PR #397), yudao #482: an order cancelled unpaid keeps its coupon, or the coupon makes the cancel fail.
-- Here: cancel, expiry, fire and UPDATE alike give it back, and it can be used again.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.create_coupon('bug_litemall_not_returned', 'percent', 10, '{"per_customer": 1, "usage_limit": 1}') > 0 AS coupon;
CREATE FUNCTION pg_temp.again(ending text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    id bigint = pg_temp.sell('bug_litemall_not_returned', 'pending_payment', 'bug_litemall_not_returned');
BEGIN
    PERFORM pg_temp.overdue(id);
    EXECUTE format(ending, id);
    RETURN (SELECT concat_ws(' ', state, coupon) FROM pg_temp.look(id));
END
$$;
SELECT e, pg_temp.again(e) FROM unnest(ARRAY['SELECT ordflow.cancel_order(%s)', 'SELECT ordflow.expire_order(%s)',
    'SELECT ordflow.pay_order(%1$s, ''p'', ''bug_litemall_not_returned %1$s'', 9)',
    'SELECT ordflow.fire(''ordflow.orders'', ''%s'', ''cancel'')', 'SELECT ordflow.fire(''ordflow.orders'', ''%s'', ''expire'')',
    'UPDATE ordflow.orders SET state = ''cancelled'' WHERE order_id = %s']) e;
SELECT pg_temp.used('bug_litemall_not_returned');
SELECT * FROM ordflow.audit(:'began');

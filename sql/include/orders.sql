\set ECHO none
-- sql/include/orders.sql: what the tests of orders share. All of it goes with the session.

-- an order in one row; due: what its due_at waits for
CREATE FUNCTION pg_temp.look(id bigint)
RETURNS TABLE (state text, payable numeric, due text, coupon text, payments text, refunds text) LANGUAGE sql AS $$
SELECT o.state, o.payable,
       CASE WHEN o.due_at IS NULL THEN 'never'
            WHEN o.state = 'pending_payment' AND o.due_at = o.expires_at THEN 'payment'
            WHEN o.state = 'pending_receipt' THEN 'receipt' ELSE 'wrong' END,
       (SELECT r.state FROM ordflow.coupon_redemptions r WHERE r.order_id = id),
       (SELECT string_agg(concat_ws(' ', p.result, p.amount), ', ' ORDER BY p.payment_id)
        FROM ordflow.payments p WHERE p.order_id = id),
       (SELECT string_agg(concat_ws(' ', r.state, r.amount, r.reason), ', ' ORDER BY r.refund_id)
        FROM ordflow.refunds r WHERE r.order_id = id)
FROM ordflow.orders o WHERE o.order_id = id
$$;

CREATE FUNCTION pg_temp.history(id bigint)
RETURNS TABLE (seq int, event text, from_state text, to_state text, reason text) LANGUAGE sql AS $$
SELECT h.seq, h.event, h.from_state, h.to_state, h.reason FROM ordflow.order_history h WHERE h.order_id = id ORDER BY 1
$$;

CREATE FUNCTION pg_temp.lines(id bigint)
RETURNS TABLE (line int, quantity bigint, shipped bigint, returned bigint, cancelled bigint, payable numeric, refunded numeric)
LANGUAGE sql AS $$
SELECT l.line_no, l.quantity, l.shipped, l.returned, l.cancelled, l.payable, l.refunded
FROM ordflow.order_lines l WHERE l.order_id = id ORDER BY 1
$$;

-- the sku of that name, and those whose names go on with a blank
CREATE FUNCTION pg_temp.stock(name text)
RETURNS TABLE (sku text, location text, on_hand bigint, reserved bigint, available bigint) LANGUAGE sql AS $$
SELECT s.sku, s.location, s.on_hand, s.reserved, s.available FROM ordflow.stock_levels s
WHERE starts_with(s.sku || ' ', name || ' ') ORDER BY 1, 2
$$;

-- how often the coupon is in use
CREATE FUNCTION pg_temp.used(coupon text) RETURNS bigint LANGUAGE sql AS $$
SELECT count(*) FROM ordflow.coupon_redemptions r JOIN ordflow.coupons c USING (coupon_id)
WHERE c.code = coupon AND r.state IN ('locked', 'used')
$$;

-- receives 10 units of sku name, lets customer name order 2 of them at 5.00 and takes the order on to a state;
-- "partly shipped" is pending_shipment with 1 of the 2 gone
CREATE FUNCTION pg_temp.sell(name text, state text DEFAULT 'pending_payment', coupon text DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    id bigint;
BEGIN
    PERFORM ordflow.receive_stock(name, 10);
    id = ordflow.submit_order(name, jsonb_build_array(jsonb_build_object('sku', name, 'quantity', 2, 'unit_price', 5)), coupon);
    IF state = 'cancelled' THEN
        PERFORM ordflow.cancel_order(id);
    ELSIF state <> 'pending_payment' THEN
        PERFORM ordflow.pay_order(id, 'sell', id::text, (SELECT o.payable FROM ordflow.orders o WHERE o.order_id = id));
    END IF;
    IF state = 'partly shipped' THEN
        PERFORM ordflow.ship_order(id, 'sell', '1', '[{"line": 1, "quantity": 1}]');
    ELSIF state IN ('pending_receipt', 'completed') THEN
        PERFORM ordflow.ship_order(id, 'sell', '1');
    END IF;
    IF state = 'completed' THEN
        PERFORM ordflow.confirm_order(id);
    END IF;
    RETURN id;
END
$$;

-- the owner moves a deadline that has not come by yet one microsecond into the past
CREATE FUNCTION pg_temp.overdue(id bigint) RETURNS boolean LANGUAGE sql AS $$
UPDATE ordflow.orders SET expires_at = t, due_at = t
FROM (SELECT clock_timestamp() - interval '1 microsecond' AS t) AS c WHERE order_id = id RETURNING true
$$;

-- what a statement answers, or its SQLSTATE
CREATE FUNCTION pg_temp.try(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE call INTO answer;
    RETURN coalesce(answer, 'null');
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate;
END
$$;

-- the same and what a query finds after, or the state of an order; then it is undone
CREATE FUNCTION pg_temp.peek(call text, query text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
    found text;
BEGIN
    EXECUTE call INTO answer;
    IF query IS NOT NULL THEN
        EXECUTE query INTO found;
    END IF;
    RAISE SQLSTATE 'UNDO0' USING MESSAGE = concat_ws(' > ', coalesce(answer, 'null'), found);
EXCEPTION
    WHEN SQLSTATE 'UNDO0' THEN RETURN sqlerrm;
    WHEN OTHERS THEN RETURN sqlstate;
END
$$;
CREATE FUNCTION pg_temp.peek(call text, id bigint) RETURNS text LANGUAGE sql AS $$
SELECT pg_temp.peek(call, format('SELECT state FROM ordflow.orders WHERE order_id = %s', id))
$$;

-- all rows of all tables of ordflow
CREATE FUNCTION pg_temp.fingerprint() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    rows text;
    result text = '';
    target regclass;
BEGIN
    FOR target IN SELECT oid FROM pg_class WHERE relnamespace = 'ordflow'::regnamespace AND relkind = 'r' ORDER BY relname LOOP
        EXECUTE format('SELECT md5(string_agg(t::text, E''\n'' ORDER BY t::text)) FROM %s AS t', target) INTO rows;
        result = concat_ws(E'\n', result, target, rows);
    END LOOP;
    RETURN result;
END
$$;

-- what this session did is audited from here on: a file that fails leaves no trace in the next one
SELECT clock_timestamp() AS began \gset

\set VERBOSITY sqlstate
\set ECHO all

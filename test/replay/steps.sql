/*
 * steps.sql: the verbs of the replay, each for a range of invoices (by seq), so that a file of any
 * size is a series of short transactions; and the words of the narration.
 *
 * What an order answers is checked on the spot; what came of it all is verify.sql's business.
 */
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;

CREATE FUNCTION replay.num(n numeric) RETURNS text RETURN to_char(n, 'FM999,999,999,999,990');
CREATE FUNCTION replay.gbp(n numeric) RETURNS text RETURN 'GBP ' || to_char(n, 'FM999,999,999,990.00');

CREATE FUNCTION replay.many(n numeric, what text) RETURNS text
RETURN replay.num(n) || ' ' || what || CASE WHEN n = 1 THEN '' ELSE 's' END;

-- A line of the narration, with the seconds since the line before.
CREATE FUNCTION replay.say(word text, what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    since numeric := extract(epoch FROM clock_timestamp() - current_setting('replay.clock')::timestamptz);
BEGIN
    PERFORM set_config('replay.clock', clock_timestamp()::text, false);
    RETURN format('%s %s %s', rpad(word, 10), rpad(what, 76), lpad(
        CASE WHEN since < 1 THEN round(since * 1000) || ' ms' ELSE round(since, 1) || ' s' END, 7));
END $$;

CREATE FUNCTION replay.start_clock() RETURNS text RETURN set_config('replay.clock', clock_timestamp()::text, false);

-- A line that the next one may replace.
CREATE FUNCTION replay.progress(word text, done bigint, total bigint DEFAULT NULL) RETURNS text
RETURN (SELECT format('~ %s %s of %s', rpad(word, 10), replay.num(done), replay.num(coalesce(total, max(seq))))
        FROM replay.invoice);

CREATE FUNCTION replay.require(ok boolean, what text, VARIADIC arguments anyarray) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF ok IS NOT TRUE THEN
        RAISE EXCEPTION '%', format(what, VARIADIC arguments);
    END IF;
END $$;

/* Enough of every code for all that the file sells and writes off, and some. */
CREATE FUNCTION replay.receive(first bigint, last bigint) RETURNS text LANGUAGE sql AS $$
    SELECT ordflow.receive_stock(sku, needed + needed / 10 + 10, reference => 'opening')
    FROM (SELECT sku, sum(CASE WHEN kind = 'goods' THEN quantity WHEN kind = 'adjustment' THEN -quantity ELSE 0 END)::bigint
              AS needed
          FROM replay.line
          WHERE kind IN ('goods', 'adjustment') OR kind LIKE 'return%'
          GROUP BY sku) stock;
    SELECT replay.progress('received', last)
$$;

CREATE FUNCTION replay.submit(first bigint, last bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer record;
BEGIN
    FOR answer IN
        SELECT * FROM ordflow.submit_orders((SELECT jsonb_agg(request ORDER BY seq)
                                             FROM replay.invoice WHERE seq BETWEEN first AND last))
    LOOP
        PERFORM replay.require(answer.result = 'ok', 'invoice number %s of the file: %s %s',
            (first + answer.ordinality - 1)::text, answer.result, answer.detail::text);
        UPDATE replay.invoice SET order_id = answer.order_id WHERE seq = first + answer.ordinality - 1;
    END LOOP;
    RETURN replay.progress('submitted', last);
END $$;

-- The shop's client lost the answer and sends the same again.
CREATE FUNCTION replay.submit_again(first bigint, last bigint) RETURNS text LANGUAGE sql AS $$
    UPDATE replay.invoice
    SET second_id = ordflow.submit_order(request ->> 'customer', request -> 'lines', request ->> 'coupon',
        request ->> 'idempotency_key', (request ->> 'pay_within')::interval, request -> 'metadata',
        request -> 'charges', request ->> 'currency', request ->> 'order_no')
    WHERE seq BETWEEN first AND last AND twice;
    SELECT replay.progress('submitted', last)
$$;

-- Orders of nothing to pay are past this step already. The provider reports some payments twice.
CREATE FUNCTION replay.pay(first bigint, last bigint) RETURNS text LANGUAGE sql AS $$
    SELECT replay.require(
        ordflow.pay_order(o.order_id, 'card', 'T' || i.invoice, o.payable, 'GBP') = 'applied'
        AND (NOT twice OR ordflow.pay_order(o.order_id, 'card', 'T' || i.invoice, o.payable, 'GBP') = 'duplicate'),
        'invoice %s was not paid', i.invoice)
    FROM replay.invoice i
    JOIN ordflow.orders o USING (order_id)
    WHERE seq BETWEEN first AND last AND fate NOT IN ('never paid', 'open') AND o.payable > 0;
    SELECT replay.progress('paid', last)
$$;

CREATE FUNCTION replay.call_off(first bigint, last bigint) RETURNS text LANGUAGE sql AS $$
    SELECT replay.require(ordflow.cancel_order(order_id) = 'applied', 'invoice %s was not cancelled', invoice)
    FROM replay.invoice
    WHERE seq BETWEEN first AND last AND fate = 'called off';
    SELECT replay.progress('called off', last)
$$;

-- The first parcel of two holds every other line, the last one what is left.
CREATE FUNCTION replay.ship(first bigint, last bigint) RETURNS text LANGUAGE sql AS $$
    SELECT replay.require(ordflow.ship_order(order_id, 'Royal Mail', 'RM' || invoice || '-1',
        (SELECT jsonb_agg(jsonb_build_object('line', order_line, 'quantity', quantity))
         FROM replay.line l
         WHERE l.invoice = i.invoice AND kind = 'goods' AND order_line % 2 = 1)) = 'applied',
        'the first parcel of invoice %s was not shipped', invoice)
    FROM replay.invoice i
    WHERE seq BETWEEN first AND last AND fate IN ('confirmed', 'on its way') AND two_parcels;

    SELECT replay.require(ordflow.ship_order(i.order_id, 'Royal Mail', 'RM' || invoice || '-2') = 'applied',
        'invoice %s was not shipped', invoice)
    FROM replay.invoice i
    JOIN ordflow.orders o USING (order_id)
    WHERE seq BETWEEN first AND last AND fate IN ('confirmed', 'on its way') AND o.state = 'pending_shipment';
    SELECT replay.progress('shipped', last)
$$;

CREATE FUNCTION replay.confirm(first bigint, last bigint) RETURNS text LANGUAGE sql AS $$
    SELECT replay.require(ordflow.confirm_order(order_id) = 'applied', 'invoice %s was not confirmed', invoice)
    FROM replay.invoice
    WHERE seq BETWEEN first AND last AND fate = 'confirmed';
    SELECT replay.progress('confirmed', last)
$$;

/* The lines of C invoices whose sale is in the file; the money goes back at once. */
CREATE FUNCTION replay.refund(first bigint, last bigint) RETURNS text LANGUAGE sql AS $$
    UPDATE replay.refund r
    SET refund_id = ordflow.refund_order(i.order_id, r.lines, r.charges, restock => true,
        reason => 'return ' || r.credit_note, idempotency_key => r.credit_note || '/' || r.seq)
    FROM replay.invoice i
    WHERE r.seq BETWEEN first AND last AND i.invoice = r.sale;

    -- a free order's refund is done as it is
    SELECT replay.require(ordflow.refund_done(refund_id, 'R' || refund_id) = 'applied',
        'the refund of %s was not done', credit_note)
    FROM replay.refund r
    JOIN ordflow.refunds USING (refund_id)
    WHERE r.seq BETWEEN first AND last AND state = 'due';
    SELECT replay.progress('returned', last, (SELECT max(seq) FROM replay.refund))
$$;

/* What is left of the C invoices: goods sold before the file begins. */
CREATE FUNCTION replay.receive_returns(first bigint, last bigint) RETURNS text LANGUAGE sql AS $$
    SELECT ordflow.receive_stock(sku, -quantity - matched, reference => 'return of an earlier day')
    FROM (SELECT l.line_no, l.sku, l.quantity,
                 coalesce((SELECT sum(quantity) FROM replay.match WHERE return_line = l.line_no), 0)::bigint AS matched
          FROM replay.line l
          WHERE kind IN ('return in part of an earlier day', 'return of an earlier day')
          ORDER BY l.line_no) earlier;
    SELECT replay.progress('returned', last)
$$;

CREATE FUNCTION replay.adjust(first bigint, last bigint) RETURNS text LANGUAGE sql AS $$
    SELECT ordflow.adjust_stock(sku, quantity, coalesce(nullif(btrim(description), ''), 'written off'))
    FROM (SELECT * FROM replay.line WHERE kind = 'adjustment' ORDER BY line_no) written_off;
    SELECT replay.progress('adjusted', last)
$$;

/* Time passes for those who never paid: run_due() as the clock will stand when it is up. */
CREATE FUNCTION replay.expire(first bigint, last bigint) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    WHILE ordflow.run_due(clock_timestamp() + interval '15 min') > 0 LOOP
    END LOOP;
    RETURN replay.progress('expired', last);
END $$;

/* For \gexec: the calls of one verb, 500 invoices each. */
CREATE FUNCTION replay.calls(verb text, last bigint) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT format('SELECT replay.%I(%s, %s)', verb, first, least(first + 499, last))
    FROM generate_series(1, last, 500) AS first
$$;
CREATE FUNCTION replay.calls(verb text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT replay.calls(verb, max(seq)) FROM replay.invoice
$$;

-- What bench/timer/run calls in each of its databases.
CREATE SCHEMA bench;

-- Orders of one line over 10,000 SKUs, in bulk, whose deadlines spread evenly over span.
CREATE PROCEDURE bench.submit(orders int, first_due timestamptz, span interval) LANGUAGE plpgsql AS $$
DECLARE
    clock timestamptz;
    calls int;
BEGIN
    FOR done IN 0 .. orders - 1 BY 10000 LOOP
        clock := clock_timestamp();
        SELECT count(*) FILTER (WHERE s.result = 'ok') INTO calls
        FROM ordflow.submit_orders((
            SELECT jsonb_agg(jsonb_build_object(
                'customer', 'c' || i,
                'pay_within', (first_due + span * i / orders - clock)::text,
                'lines', jsonb_build_array(jsonb_build_object(
                    'sku', (i::bigint * 7919 % 10000 + 1)::text, 'quantity', 1, 'unit_price', '10.00'))))
            FROM generate_series(done, least(done + 10000, orders) - 1) AS i)) AS s;
        IF calls <> least(10000, orders - done) THEN
            RAISE 'only % orders of a call were accepted', calls;
        END IF;
        COMMIT;
    END LOOP;
END $$;

-- The earliest and the latest deadline of bench.submit().
CREATE VIEW bench.deadlines AS
SELECT min(expires_at) AS first, max(expires_at) AS last FROM ordflow.orders WHERE customer LIKE 'c%';

-- When a cancel was committed, as PostgreSQL itself keeps it (track_commit_timestamp), the flush not included.
CREATE VIEW bench.cancels AS
SELECT expires_at, pg_xact_commit_timestamp(xmin) AS committed_at FROM ordflow.orders WHERE state = 'cancelled';

-- How late cancels were, in ms, of deadlines at or after since.
CREATE FUNCTION bench.lateness(since timestamptz DEFAULT '-infinity')
RETURNS TABLE (p50 float8, p99 float8, max float8) LANGUAGE sql AS $$
SELECT l[1], l[2], l[3]
FROM (SELECT percentile_cont(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (
          ORDER BY extract(epoch FROM c.committed_at - c.expires_at)::float8 * 1000) AS l
      FROM bench.cancels c WHERE c.expires_at >= since) p
$$;

-- What is wrong after the deadlines of all orders of bench.submit(): no row is right.
CREATE FUNCTION bench.problems(orders bigint) RETURNS SETOF text LANGUAGE sql AS $$
SELECT format('of %s orders %s were submitted, %s cancelled by timeout', orders, n, cancelled)
FROM (SELECT count(*) AS n, count(*) FILTER (WHERE state = 'cancelled' AND cancel_reason = 'timeout' AND due_at IS NULL) AS cancelled
      FROM ordflow.orders WHERE customer LIKE 'c%') o
WHERE n <> orders OR cancelled <> orders
UNION ALL
SELECT format('%s events expire in the history of %s orders', n, distinct_orders)
FROM (SELECT count(*) AS n, count(DISTINCT order_id) AS distinct_orders FROM ordflow.order_history WHERE event = 'expire') h
WHERE n <> orders OR distinct_orders <> orders
UNION ALL
SELECT format('%s orders reserve other units than they hold', count(*))
FROM (SELECT o.order_id FROM ordflow.orders o JOIN ordflow.stock_movements m USING (order_id)
      GROUP BY o.order_id, o.state HAVING sum(m.reserved) <> CASE o.state WHEN 'cancelled' THEN 0 ELSE 1 END) w
HAVING count(*) > 0
UNION ALL
SELECT format('%s stock rows differ from their movements', count(*))
FROM (SELECT l.sku FROM ordflow.stock_levels l JOIN ordflow.stock s USING (sku, location)
      JOIN ordflow.stock_movements m USING (stock_id)
      GROUP BY l.sku, l.location, l.available HAVING l.available <> sum(m.on_hand - m.reserved)) w
HAVING count(*) > 0
$$;

/*
 * sync.sql: the day's orders arrive in another table and, where there is a Redis (redis_port), in
 * Redis; then some more are placed, and what arrives is timed.
 */
\set ON_ERROR_STOP on
\set QUIET on
\pset border 0
\pset footer off

\echo THE ORDERS ELSEWHERE
CREATE SCHEMA analytics;
CREATE TABLE analytics.orders (order_id bigint PRIMARY KEY, customer text, state text, payable numeric, currency text, created_at timestamptz);
SELECT ordflow.create_sync('orders_to_table', 'ordflow.orders', target => 'analytics.orders',
    options => '{"columns": ["order_id", "customer", "state", "payable", "currency", "created_at"]}') \g /dev/null
SELECT :'redis_port' <> '' AS has_redis \gset
\if :has_redis
    CREATE SERVER cache FOREIGN DATA WRAPPER ordflow_redis OPTIONS (port :'redis_port');
    SELECT ordflow.create_sync('orders_to_redis', 'ordflow.orders', 'cache', 'order:{order_id}',
        options => '{"columns": ["order_id", "customer", "state", "payable"]}') \g /dev/null
\endif
DO $$
BEGIN
    FOR i IN 1 .. 600 LOOP
        EXIT WHEN (SELECT bool_and(phase = 'done') FROM ordflow.sync_progress);
        PERFORM pg_sleep(0.1);
        COMMIT;
    END LOOP;
END $$;
SELECT name AS copied, phase, rows, round(rows_per_second) AS "rows a second", restarts FROM ordflow.sync_progress ORDER BY name;
\echo

/* one more order after another, each waited for as a client would that reads it back */
CREATE TABLE analytics.waits (name text, ms double precision);
DO $$
DECLARE
    began timestamptz;
    sync text;
BEGIN
    FOR i IN 1 .. 60 LOOP
        UPDATE ordflow.orders SET metadata = jsonb_build_object('seen', i)
        WHERE order_id = (SELECT order_id FROM ordflow.orders ORDER BY order_id LIMIT 1 OFFSET i);
        COMMIT;
        FOREACH sync IN ARRAY ARRAY(SELECT name FROM ordflow.syncs ORDER BY name) LOOP
            began := clock_timestamp();
            PERFORM ordflow.wait_for_sync(sync);
            COMMIT;
            INSERT INTO analytics.waits VALUES (sync, EXTRACT(epoch FROM clock_timestamp() - began) * 1000);
            COMMIT;
        END LOOP;
    END LOOP;
END $$;
SELECT s.name AS sync, s.state, s.lag_bytes AS "lag, bytes", s.lag_seconds AS "lag, s", w.median AS "a change is there after, ms"
FROM ordflow.sync_status s
JOIN (SELECT name, round(percentile_cont(0.5) WITHIN GROUP (ORDER BY ms)::numeric, 1) AS median FROM analytics.waits GROUP BY name) w
    USING (name) ORDER BY name;
\echo
SELECT (SELECT count(*) FROM ordflow.orders) AS orders, (SELECT count(*) FROM analytics.orders) AS "in the table";
\echo

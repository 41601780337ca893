/*
 * unpaid.sql: customers who order the best sellers and never pay. Their orders run out within five
 * seconds, one every eighth of a second.
 */
\set ON_ERROR_STOP on
\set QUIET on
SET client_min_messages = warning;
SET ordflow.currency = 'GBP';

CREATE TABLE replay.unpaid AS
SELECT n, sku, unit_price
FROM generate_series(1, 32) AS n
JOIN (SELECT row_number() OVER (ORDER BY available DESC, sku) AS place, sku FROM ordflow.stock_levels) AS s ON place = n
JOIN LATERAL (SELECT max(unit_price) AS unit_price FROM ordflow.order_lines WHERE sku = s.sku) AS p ON unit_price IS NOT NULL;

SELECT count(*) AS n FROM ordflow.submit_orders((
    SELECT jsonb_agg(jsonb_build_object('customer', 'undecided ' || n, 'pay_within', format('%s ms', 1000 + n * 125),
        'lines', jsonb_build_array(jsonb_build_object('sku', sku, 'quantity', 1, 'unit_price', unit_price))))
    FROM replay.unpaid)) WHERE result = 'ok' \gset
\echo UNPAID ORDERS, CANCELLED BY THE WORKER WHILE YOU WATCH
\echo :n orders, due one after the other from the next second on

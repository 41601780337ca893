/*
 * show.sql: what a shop would look at when the day is over.
 * Variable: list, the file that has all lines of replay.listed.
 */
\set ON_ERROR_STOP on
\set QUIET on
\pset border 0
\pset footer off
\pset numericlocale on
\pset pager off
SET client_min_messages = warning;

\echo
\echo EVERY LINE OF THE FILE
\pset tuples_only on
SELECT became, lines
FROM (SELECT ordinal, rpad(became, 72) AS became, count(*) AS lines
      FROM replay.line JOIN replay.kind USING (kind) GROUP BY ordinal, became
      UNION ALL
      SELECT 98, repeat('-', 72), NULL
      UNION ALL
      SELECT 99, 'lines of the file', count(*) FROM replay.raw) AS account
ORDER BY ordinal;
\pset tuples_only off

SELECT count(*) AS listed, count(*) > 0 AS any, count(*) > 8 AS more FROM replay.listed \gset
\if :any
    \echo OF THESE, LISTED: :listed
    SELECT line_no AS "line", invoice, sku, lpad(quantity, 8) AS quantity, lpad(unit_price, 9) AS price, customer, reason
    FROM replay.listed LIMIT 8;
\endif
\if :more
    \echo ... all of them are in :list
    \echo
\endif

\echo ORDERS BY STATE
SELECT state, count(*) AS orders, sum(payable) AS "payable, GBP"
FROM ordflow.orders GROUP BY state ORDER BY count(*) DESC, state;

-- one that something came back of, else the one with the longest story
SELECT order_id AS told, order_no AS told_no, coalesce(customer, 'a guest') AS told_customer, payable AS told_payable
FROM ordflow.orders JOIN ordflow.order_history USING (order_id)
GROUP BY order_id
ORDER BY bool_or(event = 'refund') DESC, count(*) DESC, order_id LIMIT 1 \gset
\echo THE STORY OF ORDER :told_no (customer :told_customer, GBP :told_payable)
SELECT seq, to_char(at, 'HH24:MI:SS.MS') AS at, event, from_state AS from, to_state AS to, actor, reason
FROM ordflow.order_history WHERE order_id = :told ORDER BY seq;

\echo 'THE STATE MACHINE (ordflow.diagram(), for any Mermaid viewer)'
\pset tuples_only on
\pset format unaligned
SELECT ordflow.diagram();
\pset format aligned
\pset tuples_only off

\echo BEST SELLERS
SELECT sku, (SELECT left(description, 36) FROM replay.raw r
             WHERE r.sku = best.sku AND description <> '' ORDER BY line_no LIMIT 1) AS description,
       sold, on_hand AS "on hand", reserved, available
FROM (SELECT sku, sum(quantity - cancelled)::bigint AS sold
      FROM ordflow.order_lines JOIN ordflow.orders USING (order_id)
      WHERE state <> 'cancelled' GROUP BY sku ORDER BY sold DESC, sku LIMIT 8) AS best
JOIN ordflow.stock_levels USING (sku)
ORDER BY sold DESC, sku;

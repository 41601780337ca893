-- Medusa #16502: lines that draw on one stock row are each checked against the same figure, and together oversell.
-- Here: the demand is summed for each (sku, location) before the check.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('bug_medusa', 5), ordflow.receive_stock('bug_medusa', 5, 'east');
CREATE FUNCTION pg_temp.lines(VARIADIC l text[]) RETURNS jsonb LANGUAGE sql AS $$
SELECT jsonb_agg(jsonb_build_object('sku', 'bug_medusa', 'quantity', split_part(l, ' ', 1)::int, 'unit_price', n,
    'location', split_part(l, ' ', 2)) ORDER BY n) FROM unnest(l) WITH ORDINALITY AS l (l, n) $$;
SELECT l, pg_temp.peek(format('SELECT ''ok'' FROM ordflow.submit_order(NULL, %L)', pg_temp.lines(VARIADIC string_to_array(l, ', '))))
FROM unnest(ARRAY['5 main, 5 main', '3 main, 3 main', '5 main, 5 east', '3 main, 5 east, 2 main', '5 east, 1 main, 1 east', '6 main']) l;
SELECT jsonb_path_query_array(ordflow.quote_order(NULL, pg_temp.lines('3 main', '1 east', '3 main'))->'problems', '$.lines') AS lines;
-- a hold sums as well
SELECT pg_temp.peek($$SELECT ordflow.reserve_stock('bug_medusa',
    '[{"sku": "bug_medusa", "quantity": 3}, {"sku": "bug_medusa", "quantity": 3}]')$$);
SELECT ordflow.submit_order(NULL, pg_temp.lines('2 main', '3 main')) > 0 AS sold;
SELECT * FROM pg_temp.stock('bug_medusa');
SELECT * FROM ordflow.audit(:'began');

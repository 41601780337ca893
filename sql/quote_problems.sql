-- quote_order lists every problem at once: stock, unknown names, limits, the coupon, the payable.
\getenv dir PG_ABS_SRCDIR
\set include :dir '/sql/include/orders.sql'
\i :include
SELECT ordflow.receive_stock('quote_problems ' || s, n) FROM (VALUES ('a', 5), ('b', 1), ('c', 9)) v (s, n);
SELECT ordflow.set_purchase_limit('quote_problems b', 1), ordflow.set_purchase_limit('quote_problems c', 4);
SELECT ordflow.create_coupon('quote_problems', 'fixed', 1, '{"usage_limit": 1}') > 0 AS coupon;
SELECT ordflow.create_coupon('quote_problems old', 'fixed', 1, '{"valid_until": "2020-01-01"}') > 0 AS coupon;
CREATE FUNCTION pg_temp.problems(customer text, lines jsonb, coupon text DEFAULT NULL, charges jsonb DEFAULT '[]')
RETURNS TABLE (problem text, lines jsonb, object text, reason text, requested text, available text, bought text) LANGUAGE sql AS $$
SELECT p->>'problem', p->'lines', concat_ws(' at ', coalesce(p->>'sku', p->>'coupon'), p->>'location'),
    coalesce(p->>'reason', p->>'sqlstate'), p->>'requested', coalesce(p->>'available', p->>'per_customer'), p->>'bought'
FROM jsonb_array_elements(ordflow.quote_order(customer, lines, coupon, charges)->'problems') p $$;
SELECT '[{"sku": "quote_problems a", "quantity": 3, "unit_price": 1}, {"sku": "unknown", "quantity": 1, "unit_price": 1},
    {"sku": "quote_problems b", "quantity": 2, "unit_price": 1}, {"sku": "quote_problems a", "quantity": 3, "unit_price": 1}]' AS lines
\gset
SELECT * FROM pg_temp.problems('c', :'lines', 'quote_problems old', '[{"code": "x", "amount": -100}]');
SELECT * FROM pg_temp.problems('c', :'lines', 'unknown');
-- a guest, and one who has bought some
SELECT ordflow.submit_order('d', '[{"sku": "quote_problems c", "quantity": 3, "unit_price": 1}]', 'quote_problems') > 0 AS sold;
SELECT * FROM pg_temp.problems(NULL, '[{"sku": "quote_problems c", "quantity": 1, "unit_price": 1}]', 'quote_problems');
SELECT * FROM pg_temp.problems('d', '[{"sku": "quote_problems c", "quantity": 2, "unit_price": 1}]', 'quote_problems');
SELECT * FROM pg_temp.problems('e', '[{"sku": "quote_problems c", "quantity": 4, "unit_price": 1}]');
-- what it lists is what submit refuses for, and nothing listed is nothing refused
SELECT n, c, jsonb_array_length(ordflow.quote_order(c, l)->'problems') = 0 AS good,
    pg_temp.peek(format('SELECT ''ok'' FROM ordflow.submit_order(%L, %L)', c, l)) AS submit
FROM (SELECT n, c, jsonb_build_array(jsonb_build_object('sku', 'quote_problems ' || s, 'quantity', q, 'unit_price', 1)) AS l
      FROM (VALUES (1, 'e', 'a', 5), (2, 'e', 'a', 6), (3, 'd', 'c', 1), (4, 'd', 'c', 2), (5, NULL, 'c', 1), (6, NULL, 'a', 5),
          (7, 'e', 'd', 1)) AS v (n, c, s, q)) AS v ORDER BY n;
-- malformed arguments are raised
SELECT pg_temp.try('SELECT ordflow.quote_order(NULL, ''[]'')'), pg_temp.try('SELECT ordflow.quote_order(NULL, NULL)'),
    pg_temp.try('SELECT ordflow.quote_order(NULL, ''[{"sku": "x", "quantity": 0, "unit_price": 1}]'')');
SELECT * FROM ordflow.audit(:'began');
SELECT * FROM ordflow.audit() WHERE check_name = 'purchase_count';

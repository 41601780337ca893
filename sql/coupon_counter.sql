-- A coupon's uses are taken and given back with the transaction, the savepoint, the call that does it, at every isolation level.
\a \t
\set VERBOSITY sqlstate
CREATE FUNCTION pg_temp.sell(customer text) RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.submit_order(customer, '[{"sku": "ccnt", "quantity": 1, "unit_price": 10, "stock": false}]', 'ccnt') $$;
CREATE FUNCTION pg_temp.try(customer text DEFAULT 'x') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  RETURN pg_temp.sell(customer) > 0;
EXCEPTION WHEN SQLSTATE 'OF003' THEN
  RETURN SQLSTATE;
END $$;
CREATE FUNCTION pg_temp.told() RETURNS text LANGUAGE sql AS $$
SELECT string_agg(state, ' ' ORDER BY order_id) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'ccnt' $$;
SELECT ordflow.create_coupon('ccnt', 'fixed', 1, '{"usage_limit": 2}') IS NOT NULL;

-- rolled back it is there again, wholly or to a savepoint
SELECT pg_temp.sell('a') AS a \gset
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT pg_temp.try(), pg_temp.try();
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SAVEPOINT s;
SELECT pg_temp.try(), pg_temp.try();
ROLLBACK TO s;
SELECT pg_temp.sell('b') AS b \gset
SAVEPOINT t;
SELECT pg_temp.try();
RELEASE t;
COMMIT;
SELECT pg_temp.try(), pg_temp.told();

-- what a transaction gives back it may use itself, and again after it was rolled back
BEGIN;
SELECT ordflow.cancel_order(:a);
SAVEPOINT s;
SELECT pg_temp.try(), pg_temp.try();
ROLLBACK TO s;
SELECT pg_temp.try(), pg_temp.try(), pg_temp.told();
ROLLBACK;
SELECT pg_temp.try(), pg_temp.told();
BEGIN ISOLATION LEVEL SERIALIZABLE;
SAVEPOINT s;
SELECT ordflow.cancel_order(:a);
SAVEPOINT t;
SELECT pg_temp.try();
ROLLBACK TO s;
SELECT pg_temp.try();
SELECT ordflow.cancel_order(:b);
COMMIT;
SELECT pg_temp.try(), pg_temp.try(), pg_temp.told();

-- less than nothing is left: one that comes back makes no room
SELECT ordflow.alter_coupon('ccnt', '{"usage_limit": 1}');
BEGIN;
SELECT ordflow.cancel_order(:a), pg_temp.try();
COMMIT;
SELECT pg_temp.try(), pg_temp.told();

-- a refusal for the customer, or of one order of a bulk call, gives its use back
SELECT ordflow.alter_coupon('ccnt', '{"usage_limit": 2, "per_customer": 1}');
SELECT pg_temp.try(), pg_temp.try('c'), pg_temp.try('d'), pg_temp.told();
SELECT ordflow.alter_coupon('ccnt', '{"usage_limit": 4}');
CREATE FUNCTION pg_temp.refuse(jsonb, jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF $1->'row'->>'customer' = 'bad' THEN RAISE EXCEPTION 'no'; END IF;
END $$;
BEGIN;
SELECT ordflow.add_effect('order', 'submit', 'pg_temp.refuse(jsonb, jsonb)');
SELECT customer, result FROM unnest('{x,bad,e,f}'::text[]) WITH ORDINALITY AS u (customer, ordinality)
JOIN ordflow.submit_orders((SELECT jsonb_agg(jsonb_build_object('customer', c, 'coupon', 'ccnt',
  'lines', '[{"sku": "ccnt", "quantity": 1, "unit_price": 10, "stock": false}]'::jsonb)) FROM unnest('{x,bad,e,f}'::text[]) c)) USING (ordinality);
SELECT pg_temp.try('g'), pg_temp.told();
ROLLBACK;
SELECT pg_temp.try('g'), pg_temp.try('h'), pg_temp.try('i'), pg_temp.told();

-- a quote takes nothing, and knows
SELECT ordflow.quote_order('j', '[{"sku": "ccnt", "quantity": 1, "unit_price": 10, "stock": false}]', 'ccnt')->'problems'->0->>'reason';
SELECT ordflow.alter_coupon('ccnt', '{"usage_limit": 5}');
SELECT ordflow.quote_order('j', '[{"sku": "ccnt", "quantity": 1, "unit_price": 10, "stock": false}]', 'ccnt')->'problems' FROM generate_series(1, 2);
SELECT pg_temp.try('j'), pg_temp.try('k');
SELECT ordflow.quote_order('k', '[{"sku": "ccnt", "quantity": 1, "unit_price": 10, "stock": false}]', 'ccnt')->'problems'->0->>'reason';
SELECT * FROM ordflow.audit();

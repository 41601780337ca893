-- as_of: later than the clock it counts as the clock, but for superusers; earlier it leaves what was not due then.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
CREATE ROLE regress_tas LOGIN;
SELECT ordflow.grant_access('regress_tas', 'admin');
CREATE FUNCTION pg_temp.submit() RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.submit_order('tas', '[{"sku": "tas", "quantity": 1, "unit_price": 5, "stock": false}]', pay_within => '1 hour') $$;
SELECT pg_temp.submit() AS o, pg_temp.submit() AS p \gset
SET SESSION AUTHORIZATION regress_tas;
SELECT ordflow.run_due('infinity');
SELECT ordflow.run_due(clock_timestamp() + interval '2 hours');
RESET SESSION AUTHORIZATION;
SELECT state FROM ordflow.orders WHERE order_id = :o;

-- a superuser who plays a role of his is none meanwhile
SET ROLE regress_tas;
SELECT ordflow.run_due(clock_timestamp() + interval '2 hours');
RESET ROLE;
SELECT ordflow.run_due(clock_timestamp() + interval '2 hours') >= 2;
SELECT state, cancel_reason FROM ordflow.orders WHERE order_id IN (:o, :p) ORDER BY order_id;

SELECT pg_temp.submit() AS o \gset
UPDATE ordflow.orders SET expires_at = clock_timestamp() - interval '1 min', due_at = clock_timestamp() - interval '1 min' WHERE order_id = :o;
SELECT ordflow.run_due(clock_timestamp() - interval '2 min'), ordflow.run_due('-infinity');
SELECT state FROM ordflow.orders WHERE order_id = :o;
SET SESSION AUTHORIZATION regress_tas;
SELECT ordflow.run_due(clock_timestamp() - interval '30 s');
RESET SESSION AUTHORIZATION;
SELECT state FROM ordflow.orders WHERE order_id = :o;
SELECT at BETWEEN now() AND clock_timestamp() AS at_the_clock FROM ordflow.order_history WHERE order_id = :o AND event = 'expire';

SELECT ordflow.run_due(NULL);
SELECT ordflow.run_due(max_rows => NULL);
SELECT ordflow.run_due(max_rows => 0);
SELECT ordflow.run_due(max_rows => -1);
SELECT ordflow.run_due(max_rows => 100001);
SELECT ordflow.run_due(max_rows => 100000);
ROLLBACK;

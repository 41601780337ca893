-- set_purchase_limit again: what was bought keeps counting, unless the limit had ended; valid_until is the first moment after it.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE FUNCTION pg_temp.buy(quantity int) RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.submit_order('ada', jsonb_build_array(jsonb_build_object('sku', 'lset', 'quantity', quantity, 'unit_price', 1, 'stock', false))) $$;
SELECT pg_temp.buy(9) IS NOT NULL;
SELECT ordflow.set_purchase_limit('lset', 3);
SELECT pg_temp.buy(3) IS NOT NULL;
SELECT pg_temp.buy(1);
SELECT ordflow.set_purchase_limit('lset', 5, clock_timestamp() + interval '1 h');
SELECT pg_temp.buy(3);
SELECT pg_temp.buy(2) AS old \gset
-- lower than what was bought: no more
SELECT ordflow.set_purchase_limit('lset', 2);
SELECT pg_temp.buy(1);

-- ended by a moment that has passed: free
SELECT ordflow.set_purchase_limit('lset', 2, clock_timestamp());
SELECT pg_temp.buy(99) IS NOT NULL;

-- set anew it counts anew; what the old one counted goes back to the old one
SELECT ordflow.set_purchase_limit('lset', 4, clock_timestamp() + interval '1 h');
SELECT pg_temp.buy(4) AS new \gset
SELECT pg_temp.buy(1);
SELECT ordflow.cancel_order(:old);
SELECT pg_temp.buy(1);
SELECT quantity FROM ordflow.purchase_counts WHERE customer = 'ada' ORDER BY limit_id;
SELECT ordflow.cancel_order(:new);
SELECT pg_temp.buy(1) IS NOT NULL;
SELECT * FROM ordflow.audit();

SELECT ordflow.set_purchase_limit(NULL, 1);
SELECT ordflow.set_purchase_limit('lset', NULL);
SELECT ordflow.set_purchase_limit('', 1);
SELECT ordflow.set_purchase_limit('lset', 0);
SELECT ordflow.set_purchase_limit('lset', -1);
SELECT ordflow.set_purchase_limit('lset', 1000000000001);
SELECT ordflow.set_purchase_limit(repeat('x', 256), 1);
SELECT per_customer, valid_until IS NULL AS for_good FROM ordflow.purchase_limits WHERE sku = 'lset';
SELECT ordflow.set_purchase_limit('lset', 1, 'infinity');
SELECT per_customer, valid_until IS NULL AS for_good FROM ordflow.purchase_limits WHERE sku = 'lset';
ROLLBACK;

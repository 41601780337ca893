-- Bad input of create_coupon, each with its SQLSTATE, and no coupon.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE FUNCTION pg_temp.make(options jsonb) RETURNS boolean LANGUAGE sql AS $$ SELECT ordflow.create_coupon('ccer', 'fixed', 5, options) IS NOT NULL $$;
SELECT ordflow.create_coupon(NULL, 'fixed', 5);
SELECT ordflow.create_coupon('ccer', NULL, 5);
SELECT ordflow.create_coupon('ccer', 'fixed', NULL);
SELECT pg_temp.make(NULL);
SELECT ordflow.create_coupon('', 'fixed', 5);
SELECT ordflow.create_coupon(repeat('c', 256), 'fixed', 5);
SELECT ordflow.create_coupon('ccer', 'half', 5);
SELECT ordflow.create_coupon('ccer', 'Fixed', 5);
SELECT ordflow.create_coupon('ccer', 'fixed', 0);
SELECT ordflow.create_coupon('ccer', 'fixed', -1);
SELECT ordflow.create_coupon('ccer', 'fixed', 'NaN');
SELECT ordflow.create_coupon('ccer', 'fixed', 'Infinity');
SELECT ordflow.create_coupon('ccer', 'fixed', 0.001);
SELECT ordflow.create_coupon('ccer', 'fixed', 1e30);
SELECT ordflow.create_coupon('ccer', 'percent', 0);
SELECT ordflow.create_coupon('ccer', 'percent', 100.0001);
SELECT ordflow.create_coupon('ccer', 'percent', 0.00001);
SELECT ordflow.create_coupon('ccer', 'percent', 'NaN');
SELECT ordflow.create_coupon('ccer', 'percent', '-Infinity');

-- options
SELECT pg_temp.make('[]');
SELECT pg_temp.make('7');
SELECT pg_temp.make('{"colour": "red"}');
SELECT pg_temp.make('{"min_total": "much"}');
SELECT pg_temp.make('{"min_total": -1}');
SELECT pg_temp.make('{"min_total": 0.001}');
SELECT pg_temp.make('{"min_total": "NaN"}');
SELECT pg_temp.make('{"max_discount": 0}');
SELECT pg_temp.make('{"max_discount": 1e400}');
SELECT pg_temp.make('{"valid_from": "tomorrow or so"}');
SELECT pg_temp.make('{"valid_from": 20200101}');
SELECT pg_temp.make('{"valid_until": "2020-02-30"}');
SELECT pg_temp.make('{"valid_from": "2020-01-02", "valid_until": "2020-01-01"}');
SELECT pg_temp.make('{"valid_from": "2020-01-01", "valid_until": "2020-01-01"}');
SELECT pg_temp.make('{"usage_limit": 0}');
SELECT pg_temp.make('{"usage_limit": 1.5}');
SELECT pg_temp.make('{"usage_limit": "1"}');
SELECT pg_temp.make('{"usage_limit": 1000000000001}');
SELECT pg_temp.make('{"per_customer": 0}');
SELECT pg_temp.make('{"per_customer": -1}');
SELECT pg_temp.make('{"customer": ""}');
SELECT pg_temp.make('{"customer": 7}');
SELECT pg_temp.make(jsonb_build_object('customer', repeat('c', 256)));
SELECT pg_temp.make('{"skus": []}');
SELECT pg_temp.make('{"skus": "a"}');
SELECT pg_temp.make('{"skus": ["a", 7]}');
SELECT pg_temp.make('{"skus": ["a", ""]}');
SELECT pg_temp.make('{"skus": [["a"]]}');
SELECT pg_temp.make(jsonb_build_object('skus', jsonb_build_array(repeat('s', 256))));
SELECT pg_temp.make(jsonb_build_object('skus', (SELECT jsonb_agg('s' || n) FROM generate_series(1, 5001) n)));
SELECT pg_temp.make('{"enabled": "yes"}');
SELECT pg_temp.make('{"currency": "XYZ"}');
SELECT pg_temp.make('{"currency": "eur"}');
SELECT pg_temp.make('{"currency": 7}');
SELECT count(*) FROM ordflow.coupons WHERE code = 'ccer';

-- the same code twice
SELECT pg_temp.make('{}');
SELECT pg_temp.make('{}');
SELECT ordflow.create_coupon('CCER', 'fixed', 5) IS NOT NULL;
ROLLBACK;

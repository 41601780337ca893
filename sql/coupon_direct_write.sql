-- Rows of coupons and redemptions that their owner writes himself count from his commit on.
\a \t
\set VERBOSITY sqlstate
CREATE FUNCTION pg_temp.try() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  RETURN ordflow.submit_order('cdir', '[{"sku": "cdir", "quantity": 1, "unit_price": 10, "stock": false}]', 'cdir') > 0;
EXCEPTION WHEN SQLSTATE 'OF003' THEN
  RETURN SQLSTATE;
END $$;
SELECT ordflow.create_coupon('cdir', 'fixed', 1, '{"usage_limit": 2}') AS c \gset
SELECT pg_temp.try() FROM generate_series(1, 3);
CREATE TEMP TABLE kept AS SELECT * FROM ordflow.coupon_redemptions WHERE coupon_id = :c;
DELETE FROM ordflow.coupon_redemptions WHERE coupon_id = :c;
SELECT pg_temp.try() FROM generate_series(1, 3);
UPDATE ordflow.coupons SET usage_limit = 5 WHERE coupon_id = :c;
INSERT INTO ordflow.coupon_redemptions SELECT * FROM kept;
SELECT pg_temp.try() FROM generate_series(1, 2);
UPDATE ordflow.coupons SET usage_limit = NULL WHERE coupon_id = :c;
SELECT pg_temp.try();
UPDATE ordflow.coupons SET usage_limit = 7 WHERE coupon_id = :c;
SELECT pg_temp.try() FROM generate_series(1, 2);

-- rolled back it has not been; in its own transaction nothing is sold or altered any more, but after its savepoint
BEGIN;
UPDATE ordflow.coupons SET usage_limit = 100 WHERE coupon_id = :c;
ROLLBACK;
SELECT pg_temp.try();
BEGIN;
SAVEPOINT s;
UPDATE ordflow.coupons SET usage_limit = 100 WHERE coupon_id = :c;
SAVEPOINT t;
SELECT pg_temp.try();
ROLLBACK TO t;
SELECT ordflow.alter_coupon('cdir', '{"usage_limit": 8}');
ROLLBACK TO s;
SELECT pg_temp.try();
SELECT ordflow.alter_coupon('cdir', '{"usage_limit": 8}');
COMMIT;
SELECT pg_temp.try() FROM generate_series(1, 2);
SELECT * FROM ordflow.audit();

-- behind the triggers' back the counter goes wrong, and the audit says so; the next write by hand sets it right
ALTER TABLE ordflow.coupon_redemptions DISABLE TRIGGER USER;
DELETE FROM ordflow.coupon_redemptions WHERE coupon_id = :c AND order_id IN (SELECT k.order_id FROM kept k);
ALTER TABLE ordflow.coupon_redemptions ENABLE ALWAYS TRIGGER counter_gate, ENABLE ALWAYS TRIGGER counter_gate_statement;
SELECT pg_temp.try(), check_name FROM ordflow.audit() WHERE check_name = 'coupon_counter';
INSERT INTO ordflow.coupon_redemptions SELECT * FROM kept;
SELECT pg_temp.try();
SELECT * FROM ordflow.audit();

-- emptied, and there again
CREATE TEMP TABLE coupons AS TABLE ordflow.coupons;
CREATE TEMP TABLE redemptions AS TABLE ordflow.coupon_redemptions;
BEGIN;
TRUNCATE ordflow.coupon_redemptions;
INSERT INTO ordflow.coupon_redemptions SELECT * FROM redemptions WHERE coupon_id <> :c;
COMMIT;
SELECT pg_temp.try();
BEGIN;
TRUNCATE ordflow.coupons;
INSERT INTO ordflow.coupons SELECT * FROM coupons;
UPDATE ordflow.coupons SET usage_limit = 9 WHERE coupon_id = :c;
INSERT INTO ordflow.coupon_redemptions SELECT * FROM redemptions WHERE coupon_id = :c;
COMMIT;
SELECT pg_temp.try();
SELECT * FROM ordflow.audit();

-- audit() on damaged coupons, redemptions and purchase counts.
\a \t
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.create_coupon('auc', 'fixed', 1, '{"usage_limit": 2}') AS c, ordflow.create_coupon('auc each', 'fixed', 1, '{"per_customer": 1}') AS e \gset
SELECT ordflow.set_purchase_limit('auc', 10);
CREATE FUNCTION pg_temp.sell(customer text, coupon text) RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.submit_order(customer, '[{"sku": "auc", "quantity": 2, "unit_price": 5, "stock": false}]', coupon) $$;
SELECT pg_temp.sell('ada', 'auc') AS a, pg_temp.sell('bob', 'auc') AS b, pg_temp.sell('ada', 'auc each') AS d \gset
SELECT * FROM ordflow.audit();
CREATE FUNCTION pg_temp.damage(sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE found text[];
BEGIN
  EXECUTE sql;
  SELECT array_agg(DISTINCT check_name ORDER BY check_name) INTO found FROM ordflow.audit();
  RAISE EXCEPTION USING MESSAGE = coalesce(found::text, 'nothing'), ERRCODE = 'SH099';
EXCEPTION WHEN SQLSTATE 'SH099' THEN
  RETURN NEXT SQLERRM;
END $$;
SELECT pg_temp.damage('UPDATE ordflow.coupons SET usage_limit = 1 WHERE code = ''auc''');
SELECT pg_temp.damage('UPDATE ordflow.coupons SET per_customer = 1, usage_limit = NULL WHERE code = ''auc'';
  UPDATE ordflow.coupon_redemptions SET customer = ''ada'', slot = NULL');
SELECT pg_temp.damage('UPDATE ordflow.coupon_redemptions SET customer = NULL, slot = NULL WHERE coupon_id = ' || :e);
SELECT pg_temp.damage('UPDATE ordflow.coupon_redemptions SET state = ''returned'', slot = NULL WHERE order_id = ' || :b);
SELECT pg_temp.damage('UPDATE ordflow.coupon_redemptions SET coupon_id = -1 WHERE order_id = ' || :d);
SELECT pg_temp.damage('DELETE FROM ordflow.coupons WHERE coupon_id = ' || :e);
SELECT pg_temp.damage('UPDATE ordflow.purchase_counts SET quantity = 5 WHERE customer = ''ada''');
SELECT pg_temp.damage('DELETE FROM ordflow.purchase_counts WHERE customer = ''ada''');
SELECT pg_temp.damage('INSERT INTO ordflow.purchase_counts VALUES (-1, ''nobody'', 1)');
SELECT pg_temp.damage('ALTER TABLE ordflow.purchase_limits DISABLE TRIGGER purchase_limits_changed');

-- limits that were lowered below what is used are no damage, a use after that is
SELECT ordflow.alter_coupon('auc', '{"usage_limit": 1}'), ordflow.alter_coupon('auc each', '{"per_customer": 1}');
SELECT * FROM ordflow.audit();
SELECT pg_temp.damage('UPDATE ordflow.coupon_redemptions SET at = clock_timestamp() WHERE order_id = ' || :b);
ROLLBACK;

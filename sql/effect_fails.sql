-- An effect that fails fails the verb with its own error, and nothing of the step is left.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA eff_fail;
CREATE FUNCTION eff_fail.no(o jsonb, a jsonb) RETURNS void LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = 'SH003'; END $$;
SELECT ordflow.receive_stock('eff_fail', 10);
SELECT ordflow.create_coupon('eff_fail', 'fixed', 5, '{"usage_limit": 10}') IS NOT NULL;
CREATE FUNCTION pg_temp.submit() RETURNS bigint LANGUAGE sql
AS $$ SELECT ordflow.submit_order('eff_fail', '[{"sku": "eff_fail", "quantity": 2, "unit_price": 5}]', 'eff_fail') $$;
CREATE FUNCTION pg_temp.told() RETURNS text LANGUAGE sql AS $$
SELECT concat_ws(' | ', (SELECT string_agg(state, ',' ORDER BY order_id) FROM ordflow.orders WHERE customer = 'eff_fail'),
  (SELECT reserved || ' of ' || on_hand FROM ordflow.stock_levels WHERE sku = 'eff_fail'),
  (SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons USING (coupon_id) WHERE code = 'eff_fail' AND state IN ('locked', 'used')),
  (SELECT string_agg(state, ',' ORDER BY order_id) FROM ordflow.coupon_redemptions WHERE customer = 'eff_fail'),
  'payments ' || (SELECT count(*) FROM ordflow.payments WHERE provider = 'eff_fail')) $$;
SELECT pg_temp.submit() AS o \gset
SELECT pg_temp.told();

SELECT ordflow.add_effect('order', e, 'eff_fail.no(jsonb,jsonb)') FROM unnest('{submit,pay,cancel,expire}'::text[]) e;
SELECT pg_temp.submit();
SELECT ordflow.pay_order(:o, 'eff_fail', '1', 5);
SELECT ordflow.cancel_order(:o);
SELECT ordflow.fire('ordflow.orders', :'o', 'cancel');
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id = :o;
SELECT pg_temp.told();

-- the timer parks it and goes on
UPDATE ordflow.orders SET expires_at = clock_timestamp(), due_at = clock_timestamp() WHERE order_id = :o;
SELECT ordflow.expire_order(:o);
SELECT ordflow.run_due() IS NOT NULL;
SELECT event, attempts, sqlstate, error FROM ordflow.parked WHERE key = :'o';
SELECT pg_temp.told();

-- taken off, all of it goes through
SELECT ordflow.drop_effect('order', e, 'eff_fail.no(jsonb,jsonb)') FROM unnest('{submit,pay,cancel,expire}'::text[]) e;
SELECT pg_temp.submit() AS p \gset
SELECT ordflow.pay_order(:p, 'eff_fail', '1', 5);
SELECT ordflow.expire_order(:o);
SELECT pg_temp.told();

-- ship, confirm and refund
SELECT ordflow.add_effect('order', e, 'eff_fail.no(jsonb,jsonb)') FROM unnest('{ship,refund}'::text[]) e;
SELECT ordflow.ship_order(:p, 'c', '1');
SELECT ordflow.refund_order(:p);
SELECT pg_temp.told();
SELECT count(*) FROM ordflow.shipments WHERE order_id = :p;
SELECT count(*) FROM ordflow.refunds WHERE order_id = :p;
ROLLBACK;

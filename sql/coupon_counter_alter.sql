-- alter_coupon of a usage_limit in a transaction that uses the coupon before and after: from any limit to any other, however it ends.
\a \t
CREATE FUNCTION pg_temp.use(coupon text, again bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE taken bigint;
BEGIN
  SELECT count(*) INTO taken FROM generate_series(1, again) g, ordflow.submit_orders(jsonb_build_array(jsonb_build_object('customer', 'ccal ' || g,
    'coupon', coupon, 'lines', '[{"sku": "ccal", "quantity": 1, "unit_price": 10, "stock": false}]'::jsonb))) AS s WHERE s.result = 'ok';
  RETURN taken;
END $$;

-- what the limits allow: how many of wanted uses are taken where there are uses already
CREATE FUNCTION pg_temp.allowed(uses bigint, usage_limit bigint, wanted bigint) RETURNS bigint LANGUAGE sql AS $$
SELECT least(wanted, greatest(coalesce(usage_limit, 1000) - uses, 0)) $$;

-- uses the coupon, alters it, gives a use back, uses it again; answers what that made of uses, or an error
CREATE FUNCTION pg_temp.alter(coupon text, to_limit bigint, uses bigint, back bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE taken bigint;
BEGIN
  PERFORM ordflow.alter_coupon(coupon, jsonb_build_object('usage_limit', to_limit));
  IF back IS NOT NULL THEN
    PERFORM ordflow.cancel_order(back);
    uses = uses - 1;
  END IF;
  taken = pg_temp.use(coupon, 2);
  IF taken <> pg_temp.allowed(uses, to_limit, 2) THEN
    RAISE EXCEPTION '% after the alteration, with % uses', taken, uses;
  END IF;
  uses = uses + taken;
  -- without a limit for a while
  IF to_limit = 5 THEN
    PERFORM ordflow.alter_coupon(coupon, '{"usage_limit": null}'), pg_temp.use(coupon, 1), ordflow.alter_coupon(coupon, '{"usage_limit": 5}');
    taken = pg_temp.use(coupon, 1);
    IF taken <> pg_temp.allowed(uses + 1, 5, 1) THEN
      RAISE EXCEPTION '% after a while without a limit', taken;
    END IF;
    uses = uses + 1 + taken;
  END IF;
  RETURN uses;
END $$;

CREATE PROCEDURE pg_temp.play(coupon text, from_limit bigint, to_limit bigint, before int, give_back boolean, ending text) LANGUAGE plpgsql AS $$
DECLARE
  uses bigint = 1;
  usage_limit bigint = from_limit;
  altered bigint;
  taken bigint;
  back bigint;
BEGIN
  PERFORM ordflow.create_coupon(coupon, 'fixed', 1, jsonb_build_object('usage_limit', from_limit));
  COMMIT;
  IF pg_temp.use(coupon, 1) <> 1 THEN RAISE EXCEPTION 'no first use'; END IF;
  SELECT max(order_id) INTO back FROM ordflow.orders HAVING give_back;
  COMMIT;

  taken = pg_temp.use(coupon, before);
  IF taken <> pg_temp.allowed(uses, from_limit, before) THEN RAISE EXCEPTION '% before', taken; END IF;
  uses = uses + taken;
  BEGIN
    altered = pg_temp.alter(coupon, to_limit, uses, back);
    IF ending = 'savepoint' THEN RAISE EXCEPTION USING ERRCODE = 'UNDO0'; END IF;
    uses = altered;
    usage_limit = to_limit;
  EXCEPTION WHEN SQLSTATE 'UNDO0' THEN
    NULL;
  END;
  taken = pg_temp.use(coupon, 1);
  IF taken <> pg_temp.allowed(uses, usage_limit, 1) THEN RAISE EXCEPTION '% at the end, with % uses', taken, uses; END IF;
  uses = uses + taken;
  IF ending = 'rollback' THEN
    ROLLBACK;
    uses = 1;
    usage_limit = from_limit;
  ELSE
    COMMIT;
  END IF;

  -- one by one, as others would
  FOR i IN 1..4 LOOP
    taken = pg_temp.use(coupon, 1);
    IF taken <> pg_temp.allowed(uses, usage_limit, 1) THEN RAISE EXCEPTION '% later, with % uses', taken, uses; END IF;
    uses = uses + taken;
    COMMIT;
  END LOOP;
  IF uses <> (SELECT count(*) FROM ordflow.coupon_redemptions JOIN ordflow.coupons c USING (coupon_id)
              WHERE c.code = play.coupon AND state IN ('locked', 'used')) THEN
    RAISE EXCEPTION 'not % uses', uses;
  END IF;
END $$;

CREATE PROCEDURE pg_temp.play_all(level text) LANGUAGE plpgsql AS $$
DECLARE
  from_limit bigint;
  to_limit bigint;
  ending text;
  played int = 0;
BEGIN
  FOREACH from_limit IN ARRAY '{NULL,1,3}'::bigint[] LOOP
    FOREACH to_limit IN ARRAY '{NULL,1,2,5}'::bigint[] LOOP
      FOREACH ending IN ARRAY '{commit,rollback,savepoint}'::text[] LOOP
        FOR before IN 0..1 LOOP
          FOR back IN 0..1 LOOP
            played = played + 1;
            CALL pg_temp.play(format('ccal %s %s', level, played), from_limit, to_limit, before, back = 1, ending);
          END LOOP;
        END LOOP;
      END LOOP;
    END LOOP;
  END LOOP;
  RAISE INFO '% ways to alter it at %: all right', played, level;
END $$;

SET default_transaction_isolation = 'read committed';
CALL pg_temp.play_all('read committed');
SET default_transaction_isolation = 'repeatable read';
CALL pg_temp.play_all('repeatable read');
SET default_transaction_isolation = 'serializable';
CALL pg_temp.play_all('serializable');
SELECT * FROM ordflow.audit();
-- nothing stays that others' timeouts would meet
SELECT count(ordflow.cancel_order(order_id)) > 0 FROM ordflow.orders WHERE customer ~ '^ccal' AND state = 'pending_payment';

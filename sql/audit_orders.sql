-- audit() on damaged orders: each named check finds its damage, and nothing else does.
\a \t
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.receive_stock('aud', 100);
SELECT ordflow.create_coupon('aud', 'fixed', 1) IS NOT NULL;
CREATE FUNCTION pg_temp.submit(coupon text DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.submit_order('aud', '[{"sku": "aud", "quantity": 3, "unit_price": 5}, {"sku": "aud", "quantity": 1, "unit_price": 5}]', coupon,
  charges => '[{"code": "shipping", "amount": 2}]') $$;
SELECT pg_temp.submit() AS o, pg_temp.submit('aud') AS c, pg_temp.submit() AS paid \gset
SELECT ordflow.pay_order(:paid, 'aud', '1', 22), ordflow.ship_order(:paid, 'c', 't', '[{"line": 1, "quantity": 1}]');
SELECT * FROM ordflow.audit();

-- damage: runs one statement, shows the findings, and takes it back
CREATE FUNCTION pg_temp.damage(sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE found text[];
BEGIN
  EXECUTE sql;
  SELECT array_agg(DISTINCT check_name ORDER BY check_name) INTO found FROM ordflow.audit();
  RAISE EXCEPTION USING MESSAGE = coalesce(found::text, 'nothing'), ERRCODE = 'SH099';
EXCEPTION WHEN SQLSTATE 'SH099' THEN
  RETURN NEXT SQLERRM;
END $$;
SELECT pg_temp.damage(format('UPDATE ordflow.orders SET subtotal = subtotal + 1, payable = payable + 1 WHERE order_id = %s', :o));
SELECT pg_temp.damage(format('UPDATE ordflow.orders SET payable = payable - 1 WHERE order_id = %s', :o));
SELECT pg_temp.damage(format('UPDATE ordflow.orders SET discount = 1, charges = 3 WHERE order_id = %s', :o));
SELECT pg_temp.damage(format('DELETE FROM ordflow.order_charges WHERE order_id = %s', :o));
SELECT pg_temp.damage(format('UPDATE ordflow.order_lines SET amount = 6, payable = 6 WHERE order_id = %s AND line_no = 2', :o));
SELECT pg_temp.damage(format('UPDATE ordflow.order_lines SET refunded = 99 WHERE order_id = %s AND line_no = 2', :o));
SELECT pg_temp.damage(format('UPDATE ordflow.order_lines SET returned = 2 WHERE order_id = %s AND line_no = 1', :paid));
SELECT pg_temp.damage(format('DELETE FROM ordflow.order_history WHERE order_id = %s', :o));
SELECT pg_temp.damage(format('DELETE FROM ordflow.order_history WHERE order_id = %s AND seq = 1', :paid));
SELECT pg_temp.damage(format('UPDATE ordflow.order_history SET to_state = ''completed'' WHERE order_id = %s', :o));
SELECT pg_temp.damage(format('UPDATE ordflow.orders SET due_at = NULL WHERE order_id = %s', :o));
SELECT pg_temp.damage(format('UPDATE ordflow.orders SET due_at = now() WHERE order_id = %s', :paid));
SELECT pg_temp.damage(format('UPDATE ordflow.orders SET due_at = due_at + interval ''1 s'' WHERE order_id = %s', :o));
SELECT pg_temp.damage(format('UPDATE ordflow.order_lines SET shipped = 2 WHERE order_id = %s AND line_no = 1', :paid));
SELECT pg_temp.damage(format('UPDATE ordflow.order_lines SET quantity = 4 WHERE order_id = %s AND line_no = 1', :o));
SELECT pg_temp.damage(format('DELETE FROM ordflow.stock_movements WHERE order_id = %s AND kind = ''reserved''', :o));
SELECT pg_temp.damage(format('DELETE FROM ordflow.coupon_redemptions WHERE order_id = %s', :c));
SELECT pg_temp.damage(format('UPDATE ordflow.coupon_redemptions SET state = ''used'' WHERE order_id = %s', :c));
SELECT pg_temp.damage(format('UPDATE ordflow.orders SET coupon = ''aud'' WHERE order_id = %s', :o));
SELECT pg_temp.damage(format('DELETE FROM ordflow.orders WHERE order_id = %s', :o));
SELECT pg_temp.damage('SET session_replication_role = replica; UPDATE ordflow.orders SET state = ''cancelled'' WHERE order_id = ' || :o);
SELECT pg_temp.damage('ALTER TABLE ordflow.orders DISABLE TRIGGER "~ordflow_state_update"');
SELECT pg_temp.damage('ALTER TABLE ordflow.orders DISABLE TRIGGER ALL');

-- an order that was deleted with all that belongs to it is missed by the stock it holds
SELECT pg_temp.damage(format('DELETE FROM ordflow.orders WHERE order_id = %1$s; DELETE FROM ordflow.order_lines WHERE order_id = %1$s;
  DELETE FROM ordflow.order_charges WHERE order_id = %1$s; DELETE FROM ordflow.order_history WHERE order_id = %1$s', :o));
SELECT * FROM ordflow.audit();
ROLLBACK;
SHOW session_replication_role;

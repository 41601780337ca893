-- audit() on damaged payments and refunds; a held refund is a finding until somebody has looked at it.
\a \t
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE FUNCTION pg_temp.submit() RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.submit_order('aup', '[{"sku": "aup", "quantity": 2, "unit_price": 5, "stock": false}]') $$;
SELECT pg_temp.submit() AS o, pg_temp.submit() AS paid, pg_temp.submit() AS late \gset
SELECT ordflow.pay_order(:paid, 'aup', '1', 10), ordflow.cancel_order(:late), ordflow.pay_order(:late, 'aup', '2', 10), ordflow.pay_order(-1, 'aup', '3', 10);
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
SELECT pg_temp.damage(format('DELETE FROM ordflow.payments WHERE order_id = %s', :paid));
SELECT pg_temp.damage(format('UPDATE ordflow.payments SET amount = 9 WHERE order_id = %s', :paid));
SELECT pg_temp.damage(format('UPDATE ordflow.payments SET result = ''late'' WHERE order_id = %s', :paid));
SELECT pg_temp.damage(format('UPDATE ordflow.payments SET order_id = %s WHERE order_id = %s', :o, :paid));
SELECT pg_temp.damage(format('INSERT INTO ordflow.payments (order_id, provider, transaction_id, amount, currency, result, original, actor, at)
  VALUES (%s, ''aup'', ''9'', 10, ''CNY'', ''applied'', true, ''me'', now())', :paid));
-- money that came in and is not given back
SELECT pg_temp.damage(format('DELETE FROM ordflow.refunds WHERE order_id = %s', :late));
SELECT pg_temp.damage('DELETE FROM ordflow.refunds WHERE order_id = -1');
SELECT pg_temp.damage('UPDATE ordflow.refunds SET amount = 9 WHERE order_id = -1');
-- more given back than came in
SELECT pg_temp.damage('UPDATE ordflow.refunds SET amount = 11 WHERE order_id = -1');
SELECT ordflow.refund_order(:paid, amount => 6) IS NOT NULL;
SELECT pg_temp.damage(format('UPDATE ordflow.refunds SET amount = 10.01 WHERE order_id = %s', :paid));
SELECT * FROM ordflow.audit();

-- the same transaction id with other values
SELECT ordflow.pay_order(:o, 'aup', '1', 10);
SELECT check_name, object ~ '^refund' FROM ordflow.audit();
SELECT refund_id AS r FROM ordflow.refunds WHERE state = 'held' AND order_id = :o \gset
SELECT ordflow.release_refund(:r);
SELECT * FROM ordflow.audit();
SELECT ordflow.pay_order(:o, 'aup', '2', 10);
SELECT check_name FROM ordflow.audit();
SELECT refund_id AS r FROM ordflow.refunds WHERE state = 'held' AND order_id = :o \gset
SELECT ordflow.refund_failed(:r, 'never came');
SELECT * FROM ordflow.audit();
ROLLBACK;

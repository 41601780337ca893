-- Effects on every event of machine "order": they see the order as it then stands, stock and all, in the same transaction.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
CREATE SCHEMA eff_ord;
CREATE TABLE eff_ord.log (n int GENERATED ALWAYS AS IDENTITY, line text);
CREATE FUNCTION eff_ord.log(o jsonb, a jsonb) RETURNS void LANGUAGE sql AS $$
INSERT INTO eff_ord.log (line) SELECT concat_ws(' ', o->>'event', coalesce(o->>'from', '-'), o->>'to', o->>'machine', o->>'table',
  (o->>'key' = o #>> '{row,order_id}')::text, o #>> '{row,state}', o #>> '{row,payable}', 'reserved', l.reserved, 'args', a)
FROM ordflow.stock_levels l WHERE sku = 'eff_ord' $$;
SELECT ordflow.add_effect('order', e, 'eff_ord.log(jsonb,jsonb)') FROM unnest('{submit,pay,ship,confirm,refund,cancel,expire}'::text[]) e;
SELECT event, ordinal, effect, builtin FROM ordflow.effects WHERE machine = 'order' ORDER BY event;
SELECT ordflow.receive_stock('eff_ord', 20);
CREATE FUNCTION pg_temp.submit() RETURNS bigint LANGUAGE sql
AS $$ SELECT ordflow.submit_order('eff', '[{"sku": "eff_ord", "quantity": 3, "unit_price": 5}]') $$;
SELECT pg_temp.submit() AS o \gset
SELECT ordflow.pay_order(:o, 'eff', 'a', 15);
SELECT ordflow.ship_order(:o, 'c', '1', '[{"line": 1, "quantity": 1}]');
SELECT ordflow.ship_order(:o, 'c', '2');
SELECT ordflow.confirm_order(:o);
SELECT ordflow.refund_order(:o, amount => 5) IS NOT NULL;
SELECT line FROM eff_ord.log ORDER BY n;
TRUNCATE eff_ord.log;

-- cancel by the verb, by fire and by UPDATE; expire by the verb and by run_due; pay too late is expire and then pay
SELECT pg_temp.submit() AS a, pg_temp.submit() AS b, pg_temp.submit() AS c \gset
SELECT ordflow.cancel_order(:a), ordflow.fire('ordflow.orders', :'b', 'cancel', '{"who": "me"}');
UPDATE ordflow.orders SET state = 'cancelled' WHERE order_id = :c;
SELECT line FROM eff_ord.log WHERE line !~ '^submit' ORDER BY n;
TRUNCATE eff_ord.log;
SELECT pg_temp.submit() AS a, pg_temp.submit() AS b, pg_temp.submit() AS c \gset
UPDATE ordflow.orders SET expires_at = clock_timestamp(), due_at = clock_timestamp() WHERE order_id IN (:a, :b, :c);
SELECT ordflow.expire_order(:a), ordflow.pay_order(:b, 'eff', 'b', 15), ordflow.run_due() >= 1;
SELECT line FROM eff_ord.log WHERE line !~ '^submit' ORDER BY n;
TRUNCATE eff_ord.log;

-- what changes nothing has no effect, quotes and charges and extensions have none
SELECT pg_temp.submit() AS o \gset
SELECT ordflow.cancel_order(:o), ordflow.cancel_order(:o), ordflow.expire_order(:o);
SELECT ordflow.submit_order('eff', '[{"sku": "eff_ord", "quantity": 1, "unit_price": 5}]', idempotency_key => 'e') AS o \gset
SELECT ordflow.submit_order('eff', '[{"sku": "eff_ord", "quantity": 1, "unit_price": 5}]', idempotency_key => 'e') = :o;
SELECT ordflow.add_charge(:o, 'fee', 1), ordflow.extend_order(:o, '1 h') IS NOT NULL;
SELECT ordflow.quote_order('eff', '[{"sku": "eff_ord", "quantity": 1, "unit_price": 5}]')->>'payable';
SELECT count(*), count(*) FILTER (WHERE line ~ '^submit') FROM eff_ord.log;
ROLLBACK;

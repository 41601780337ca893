-- What a shop hangs on ordflow.orders sees every change of state, of one order and of many.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
SELECT ordflow.receive_stock('ost', 100);
CREATE FUNCTION pg_temp.submit() RETURNS bigint LANGUAGE sql AS $$
SELECT ordflow.submit_order('ost', '[{"sku": "ost", "quantity": 1, "unit_price": 5}]', metadata => jsonb_build_object('long', repeat('x', 5000))) $$;
CREATE FUNCTION pg_temp.overdue() RETURNS void LANGUAGE sql AS $$
UPDATE ordflow.orders SET expires_at = clock_timestamp() WHERE customer = 'ost' AND state = 'pending_payment' $$;
CREATE FUNCTION pg_temp.look() RETURNS TABLE (state text, reason text, n bigint, due bigint, long bigint) LANGUAGE sql AS $$
SELECT state, cancel_reason, count(*), count(due_at), sum(length(metadata->>'long')) FROM ordflow.orders WHERE customer = 'ost' GROUP BY 1, 2 ORDER BY 1 $$;

-- nothing hangs there
SELECT count(pg_temp.submit()) FROM generate_series(1, 5);
SELECT pg_temp.overdue(), ordflow.run_due();
SELECT * FROM pg_temp.look();

CREATE SCHEMA ost;
CREATE TABLE ost.log (what text);
CREATE FUNCTION ost.log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO ost.log VALUES (concat_ws(' ', TG_OP, OLD.state, NEW.state)); RETURN NEW; END $$;
CREATE TRIGGER ost AFTER UPDATE OF state ON ordflow.orders FOR EACH ROW EXECUTE FUNCTION ost.log();
SELECT pg_temp.submit() AS o \gset
SELECT ordflow.pay_order(:o, 'ost', '1', 5), ordflow.ship_order(:o, 'c', 't'), ordflow.confirm_order(:o, 'customer');
SELECT count(pg_temp.submit()) FROM generate_series(1, 3);
SELECT pg_temp.overdue(), ordflow.run_due();
SELECT what, count(*) FROM ost.log GROUP BY 1 ORDER BY 1;
SELECT * FROM pg_temp.look();
DROP TRIGGER ost ON ordflow.orders;

-- a constraint of his refuses, and parks what it refuses
ALTER TABLE ordflow.orders ADD CONSTRAINT ost CHECK (state <> 'cancelled' OR customer <> 'ost' OR order_no <> 'ost bad') NOT VALID;
SELECT ordflow.submit_order('ost', '[{"sku": "ost", "quantity": 1, "unit_price": 5}]', order_no => n) IS NOT NULL FROM unnest('{ost bad, ost good}'::text[]) n;
SELECT pg_temp.overdue(), ordflow.run_due();
SELECT order_no, state FROM ordflow.orders WHERE order_no LIKE 'ost%' ORDER BY 1;
SELECT event, sqlstate FROM ordflow.parked WHERE target = 'ordflow.orders';
ALTER TABLE ordflow.orders DROP CONSTRAINT ost;

-- columns and indexes of his own
ALTER TABLE ordflow.orders ADD COLUMN ost_a text DEFAULT 'kept', ADD COLUMN ost_b int;
ALTER TABLE ordflow.orders DROP COLUMN ost_b;
CREATE INDEX ost ON ordflow.orders (lower(state), ost_a);
SELECT pg_temp.submit() AS o \gset
SELECT ordflow.cancel_order(:o, 'why');
SET LOCAL enable_seqscan = off;
SELECT count(*), min(ost_a), min(cancel_reason) FROM ordflow.orders WHERE lower(state) = 'cancelled' AND ost_a = 'kept' AND order_id = :o;
RESET enable_seqscan;
SELECT * FROM ordflow.audit();
ROLLBACK;

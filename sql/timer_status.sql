-- timer_status: one row of what the tables hold, whoever may see them; what cannot be read is left out.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
SELECT attname, atttypid::regtype FROM pg_attribute WHERE attrelid = 'ordflow.timer_status'::regclass AND attnum > 0 ORDER BY attnum;
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
CREATE ROLE regress_tsta LOGIN;
SELECT ordflow.grant_access('regress_tsta', 'read');
CREATE TEMP TABLE before AS SELECT * FROM ordflow.timer_status;
SELECT state IN ('active', 'inactive', 'off'), due_now, parked, since IS NULL OR done >= 0 FROM before;
SELECT done > 0, lateness_p50 <= lateness_p99, lateness_p99 <= lateness_max FROM before WHERE lateness_max IS NOT NULL AND done = 0;

CREATE SCHEMA tsta;
CREATE TABLE tsta.job (id int PRIMARY KEY, status text, due timestamptz);
SELECT ordflow.define_machine('tsta', '{"states": {"new": "initial", "old": "final"}, "transitions": [{"from": "new", "event": "age", "to": "old", "after": "1 h"}]}');
SET LOCAL client_min_messages = warning;
SELECT ordflow.attach('tsta.job', 'tsta', 'status', due_column => 'due');
ALTER TABLE tsta.job ENABLE ROW LEVEL SECURITY;
ALTER TABLE tsta.job FORCE ROW LEVEL SECURITY;
INSERT INTO tsta.job SELECT n, 'new', clock_timestamp() - interval '1 s' FROM generate_series(1, 3) n;
INSERT INTO tsta.job VALUES (4, 'new', now() + interval '1 ms' * 700), (5, 'new', 'infinity');
SELECT ordflow.receive_stock('tsta', 5), ordflow.reserve_stock('tsta', '[{"sku": "tsta", "quantity": 1}]', clock_timestamp() + interval '1 h');
UPDATE ordflow.holds SET expires_at = clock_timestamp() - interval '1 s' WHERE reference = 'tsta';
SELECT ordflow.submit_order('tsta', '[{"sku": "tsta", "quantity": 1, "unit_price": 5}]') AS o \gset
UPDATE ordflow.orders SET expires_at = clock_timestamp() - interval '1 s' WHERE order_id = :o;
SET SESSION AUTHORIZATION regress_tsta;
SELECT s.due_now FROM ordflow.timer_status s;
RESET SESSION AUTHORIZATION;
SELECT next_deadline = (SELECT due FROM tsta.job WHERE id = 4) FROM ordflow.timer_status;

-- parked, an object is due again at its time
CREATE FUNCTION tsta.no(jsonb, jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
SELECT ordflow.add_effect('tsta', 'age', 'tsta.no(jsonb,jsonb)');
SELECT ordflow.run_due();
SELECT due_now, parked FROM ordflow.timer_status;
UPDATE ordflow.parked SET retry_at = clock_timestamp() WHERE target = 'tsta.job' AND key < '3';
SELECT due_now, parked FROM ordflow.timer_status;

-- a table whose column is gone, one that its owner cannot read
ALTER TABLE tsta.job RENAME due TO d;
SELECT due_now FROM ordflow.timer_status;
ALTER TABLE tsta.job RENAME d TO due;
ALTER TABLE tsta.job OWNER TO regress_tsta;
SELECT due_now FROM ordflow.timer_status;
SELECT count(*) FROM ordflow.timer_status;
ROLLBACK;

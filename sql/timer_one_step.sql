-- What is due is locked and fired in one subtransaction: no row carries a multixact; only after a failure they are taken one by one.
\a \t
\set VERBOSITY sqlstate
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
CREATE SCHEMA tone;
CREATE TABLE tone.job (id int PRIMARY KEY, status text, due timestamptz);
CREATE INDEX ON tone.job (due);
SELECT ordflow.define_machine('tone', '{"states": {"new": "initial", "old": "initial", "gone": "final"}, "transitions": [
  {"from": "new", "event": "age", "to": "old", "after": "1 h"}, {"from": "old", "event": "end", "to": "gone", "after": "1 h"}]}');
SELECT ordflow.attach('tone.job', 'tone', 'status', due_column => 'due');
INSERT INTO tone.job SELECT n, CASE WHEN n > 40 THEN 'old' ELSE 'new' END, clock_timestamp() FROM generate_series(1, 50) n;
SELECT ordflow.receive_stock('tone', 10);
SELECT ordflow.submit_order('tone', '[{"sku": "tone", "quantity": 1, "unit_price": 5}]', pay_within => '1 microsecond') AS o \gset
SELECT ordflow.run_due();
SELECT status, count(*), bool_and(xmin::text = xmax::text) AS no_multixact FROM tone.job GROUP BY 1 ORDER BY 1;
SELECT state, xmin::text = xmax::text AS no_multixact FROM ordflow.orders WHERE order_id = :o;

-- one that fails takes nothing back of the others, of whatever state
CREATE FUNCTION tone.no(o jsonb, jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN IF o->>'key' = '5' THEN RAISE 'no' USING ERRCODE = 'SH005'; END IF; END $$;
SELECT ordflow.add_effect('tone', 'end', 'tone.no(jsonb,jsonb)');
INSERT INTO tone.job SELECT n, 'new', clock_timestamp() + interval '2 hours' FROM generate_series(101, 110) n;
SELECT ordflow.run_due(clock_timestamp() + interval '2 hours') >= 49;
SELECT status, count(*) FROM tone.job GROUP BY 1 ORDER BY 1;
SELECT key, event, attempts, sqlstate FROM ordflow.parked WHERE target = 'tone.job';
SELECT event, count(*) FROM ordflow.object_history WHERE target = 'tone.job' AND from_state IS NOT NULL GROUP BY 1 ORDER BY 1;
SELECT * FROM ordflow.audit();
ROLLBACK;

-- doctor(): a row for what is not set up or needs a person, with the line to paste; each goes away when that is done.
\a \t
\set ON_ERROR_ROLLBACK on
BEGIN;
-- what the server itself has (fsync off, for tests) or others have left is not told again
SELECT ordflow.run_due() IS NOT NULL;
CREATE TEMP TABLE before AS SELECT * FROM ordflow.doctor();
CREATE FUNCTION pg_temp.doctor() RETURNS TABLE (severity text, part text, object text, problem text, fix text) LANGUAGE sql
AS $$ SELECT * FROM ordflow.doctor() EXCEPT TABLE before $$;
SELECT * FROM pg_temp.doctor();
SET LOCAL synchronous_commit = off;
SELECT severity, part, object, fix FROM pg_temp.doctor();
RESET synchronous_commit;

-- a trigger that somebody disabled, ours or that of an attached table
CREATE SCHEMA doc;
CREATE TABLE doc.job (id int PRIMARY KEY, status text, due timestamptz);
CREATE INDEX ON doc.job (due);
CREATE FUNCTION doc.note(jsonb, jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not "today"'; END $$;
SELECT ordflow.define_machine('doc', '{"states": {"new": "initial", "old": "final"}, "transitions": [
  {"from": "new", "event": "age", "to": "old", "after": "1 h", "effect": "doc.note(jsonb,jsonb)"}]}');
SELECT ordflow.attach('doc.job', 'doc', 'status', due_column => 'due');
SELECT * FROM pg_temp.doctor();
ALTER TABLE doc.job DISABLE TRIGGER "~ordflow_status_update";
ALTER TABLE ordflow.orders DISABLE TRIGGER "~ordflow_state_update";
SELECT severity, part, object, fix FROM pg_temp.doctor() ORDER BY object;
SELECT fix FROM pg_temp.doctor() ORDER BY object \gexec
SELECT * FROM pg_temp.doctor();

-- an object that failed its timeout
INSERT INTO doc.job VALUES (1, 'new', clock_timestamp());
SELECT ordflow.run_due() IS NOT NULL;
SELECT severity, part, object, problem, split_part(fix, '   --', 1) FROM pg_temp.doctor();
CREATE OR REPLACE FUNCTION doc.note(jsonb, jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$;
SELECT split_part(fix, '   --', 1) FROM pg_temp.doctor() \gexec
UPDATE ordflow.parked SET retry_at = clock_timestamp() WHERE target = 'doc.job';
SELECT ordflow.run_due() IS NOT NULL;
SELECT severity, part, object FROM pg_temp.doctor();

-- what check_machine finds
DROP FUNCTION doc.note;
SELECT severity, part, object, problem FROM pg_temp.doctor();
SELECT ordflow.define_machine('doc', '{"states": {"new": "initial", "old": "final"}, "transitions": [{"from": "new", "event": "age", "to": "old"}]}');
SELECT * FROM pg_temp.doctor();

-- orders that nobody cancels
SELECT ordflow.submit_order('doc', '[{"sku": "doc", "quantity": 1, "unit_price": 5, "stock": false}]') AS o \gset
UPDATE ordflow.orders SET expires_at = now() - interval '2 min', due_at = now() - interval '2 min' WHERE order_id = :o;
SELECT severity, part, object, split_part(problem, ',', 1), split_part(fix, '   --', 1) FROM pg_temp.doctor();
SELECT ordflow.run_due() IS NOT NULL;
SELECT * FROM pg_temp.doctor();

-- refunds that a person must look at
SELECT ordflow.pay_order(:o, 'doc', '1', 5), ordflow.pay_order(-1, 'doc', '1', 7);
SELECT severity, part, problem, regexp_replace(fix, '\d+', 'id', 'g') FROM pg_temp.doctor();
SELECT ordflow.release_refund(refund_id), split_part(fix, '   --', 1) = format('SELECT ordflow.release_refund(%s);', refund_id)
FROM ordflow.refunds JOIN pg_temp.doctor() ON object = 'refund ' || refund_id WHERE order_id = -1;
SELECT * FROM pg_temp.doctor();
SELECT ordflow.refund_failed(refund_id, 'account closed') FROM ordflow.refunds WHERE order_id = :o;
SELECT severity, part, regexp_replace(problem, 'order \d+', 'order id'), regexp_replace(fix, '\d+', 'id') FROM pg_temp.doctor();
SELECT ordflow.refund_done(refund_id, 'by hand') FROM ordflow.refunds WHERE order_id = :o;
SELECT * FROM pg_temp.doctor();
ROLLBACK;

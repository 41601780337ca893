-- max_rows: at most that many, the earliest first; called until 0 it leaves nothing.
\a \t
\set VERBOSITY sqlstate
BEGIN;
SELECT ordflow.run_due() IS NOT NULL;
CREATE SCHEMA tmax;
CREATE TABLE tmax.job (id int PRIMARY KEY, status text, due timestamptz);
CREATE INDEX ON tmax.job (due);
SELECT ordflow.define_machine('tmax', '{"states": {"new": "initial", "old": "final"}, "transitions": [{"from": "new", "event": "age", "to": "old", "after": "1 h"}]}');
SELECT ordflow.attach('tmax.job', 'tmax', 'status', due_column => 'due');
INSERT INTO tmax.job SELECT n, 'new', clock_timestamp() - (100 - n) * interval '1 min' FROM generate_series(1, 10) n;
SELECT ordflow.submit_order('tmax', '[{"sku": "tmax", "quantity": 1, "unit_price": 5, "stock": false}]') AS o \gset
UPDATE ordflow.orders SET expires_at = clock_timestamp(), due_at = clock_timestamp() WHERE order_id = :o;
SELECT ordflow.receive_stock('tmax', 1), ordflow.reserve_stock('tmax', '[{"sku": "tmax", "quantity": 1}]', clock_timestamp() + interval '1 h');
UPDATE ordflow.holds SET expires_at = clock_timestamp() WHERE reference = 'tmax';
SELECT ordflow.run_due(max_rows => 4), ordflow.run_due(max_rows => 4);
SELECT max(id) FILTER (WHERE status = 'old') < min(id) FILTER (WHERE status = 'new') AS earliest_first FROM tmax.job;
SELECT ordflow.run_due(max_rows => 4), ordflow.run_due(max_rows => 4);
SELECT status, count(*), count(due) FROM tmax.job GROUP BY 1;
SELECT state FROM ordflow.orders WHERE order_id = :o;
SELECT state FROM ordflow.holds WHERE reference = 'tmax';
ROLLBACK;

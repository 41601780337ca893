-- Our statements stay planned as for large tables, also when PostgreSQL plans them again in the middle of a session.
\a \t
\set ON_ERROR_ROLLBACK on
SET client_min_messages = error;
BEGIN;
DELETE FROM ordflow.hold_lines;
DELETE FROM ordflow.holds;
SELECT ordflow.receive_stock('splans', 10);
CREATE FUNCTION splans_use() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM ordflow.reserve_stock('splans', '[{"sku": "splans", "quantity": 1}]');
  PERFORM ordflow.release_stock('splans');
END $$;
CREATE FUNCTION splans_scans() RETURNS TABLE (relname name, seq_scan bigint) LANGUAGE sql AS $$
SELECT relname, seq_scan FROM pg_stat_xact_all_tables
WHERE relid IN ('ordflow.holds'::regclass, 'ordflow.hold_lines'::regclass, 'ordflow.stock'::regclass, 'ordflow.stock_segments'::regclass)
   OR relid IN (SELECT p.relid FROM pg_partition_tree('ordflow.stock_movements') p) ORDER BY 1 $$;
ANALYZE ordflow.holds, ordflow.hold_lines, ordflow.stock;
CREATE TABLE splans_before AS SELECT * FROM splans_scans();
CREATE FUNCTION splans_new() RETURNS SETOF text LANGUAGE sql AS $$
SELECT n.relname || ': ' || n.seq_scan - coalesce(o.seq_scan, 0) || ' sequential scans' FROM splans_scans() n LEFT JOIN splans_before o USING (relname)
WHERE n.seq_scan > coalesce(o.seq_scan, 0) $$;
SELECT splans_use();
SELECT splans_use();
SELECT * FROM splans_new();
-- the first temporary table of a session changes its search_path
CREATE TEMP TABLE splans_temp (x int);
SELECT splans_use();
SELECT * FROM splans_new();
-- statistics, DDL, a custom plan for each execution
ANALYZE ordflow.holds, ordflow.hold_lines, ordflow.stock;
SELECT splans_use();
SELECT * FROM splans_new();
ALTER TABLE ordflow.holds ADD COLUMN splans int;
SELECT splans_use();
SET LOCAL plan_cache_mode = force_custom_plan;
SELECT splans_use();
RESET plan_cache_mode;
SELECT * FROM splans_new();

-- the statements of others are planned for the tables as they are
CREATE TABLE splans_small (id int PRIMARY KEY);
INSERT INTO splans_small VALUES (1);
ANALYZE splans_small;
EXPLAIN (COSTS OFF) SELECT FROM splans_small WHERE id = 1;
ROLLBACK;

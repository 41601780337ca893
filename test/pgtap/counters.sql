-- test/pgtap/counters.sql: what stands between the counters in shared memory and writes that do not go by them
BEGIN;
SELECT plan(16);

SELECT has_table('ordflow', 'counter_gate', 'the gate is a table');
SELECT is_empty('SELECT attname FROM pg_attribute WHERE attrelid = ''ordflow.counter_gate''::regclass AND attnum > 0', 'without a column');
SELECT is_empty('SELECT * FROM ordflow.counter_gate', 'and without a row');

-- the tables whose rows the counters stand for
CREATE TEMP VIEW counted AS
SELECT c.oid, c.relname::text, c.relkind FROM pg_class c
WHERE c.oid IN ('ordflow.stock'::regclass, 'ordflow.stock_segments'::regclass, 'ordflow.coupon_redemptions'::regclass,
                'ordflow.coupons'::regclass)
   OR c.oid IN (SELECT relid FROM pg_partition_tree('ordflow.stock_movements'));
CREATE TEMP VIEW gates AS
SELECT r.relname, t.tgname, t.tgenabled, t.tgqual, t.tgfoid, r.relkind,
       t.tgtype & 1 <> 0 AS each_row, t.tgtype & 2 <> 0 AS before,
       t.tgtype & 4 <> 0 AS on_insert, t.tgtype & 8 <> 0 AS on_delete, t.tgtype & 16 <> 0 AS on_update, t.tgtype & 32 <> 0 AS on_truncate
FROM counted r JOIN pg_trigger t ON t.tgrelid = r.oid
WHERE t.tgfoid = 'ordflow.counter_gate()'::regprocedure;

SELECT cmp_ok((SELECT count(*) FROM counted WHERE relname ~ '^stock_movements_\d+$'), '>', 1::bigint, 'the ledger has partitions');
SELECT is_empty($$ SELECT relname FROM counted EXCEPT SELECT relname FROM gates WHERE each_row $$, 'each has a gate for rows');
SELECT is_empty($$ SELECT relname FROM counted EXCEPT SELECT relname FROM gates WHERE on_truncate $$,
    'and one for TRUNCATE, each partition of the ledger too');
SELECT is_empty($$ SELECT relname, tgname FROM gates WHERE tgenabled <> 'A' $$,
    'which are fired in a restore and by logical replication as well');
SELECT is_empty($$ SELECT relname, tgname FROM gates WHERE NOT before OR tgqual IS NOT NULL $$, 'before the write, whatever it writes');
SELECT is_empty($$ SELECT relname FROM gates WHERE each_row AND NOT (on_update AND on_delete) $$, 'UPDATE and DELETE pass it');
SELECT is_empty($$ SELECT relname FROM gates WHERE each_row AND NOT on_insert AND relname <> 'coupons' $$,
    'and INSERT, but that of a coupon, which nobody uses yet');
SELECT is_empty($$ SELECT relname, tgname FROM gates WHERE tgname !~ '^counter_gate' OR (tgname = 'counter_gate') IS DISTINCT FROM each_row $$,
    'they are found by their names');
SELECT is_empty($$
    SELECT r.relname, t.tgname FROM counted r JOIN pg_trigger t ON t.tgrelid = r.oid
    WHERE t.tgtype & 3 = 3 AND NOT t.tgisinternal AND t.tgfoid <> 'ordflow.counter_gate()'::regprocedure AND t.tgname < 'counter_gate'
$$, 'no other trigger of ours sees a row before the gate is closed');

-- whoever could lock the gate could stop all sales
CREATE ROLE ordflow_gatecrasher;
SELECT ordflow.grant_access('ordflow_gatecrasher', part)
FROM unnest(ARRAY['orders', 'stock', 'tasks', 'sync', 'read', 'admin']) AS part;
SELECT is_empty($$
    SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
    WHERE has_table_privilege('ordflow_gatecrasher', 'ordflow.counter_gate', p)
$$, 'no part of grant_access() opens the gate to anybody');
-- the SQLSTATE that a statement ends with as that role; NULL when it succeeds
CREATE FUNCTION pg_temp.state_as(role name, sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', role, true);
    EXECUTE sql;
    PERFORM set_config('role', 'none', true);
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
SELECT is(pg_temp.state_as('ordflow_gatecrasher', 'LOCK TABLE ordflow.counter_gate IN ACCESS SHARE MODE'), '42501', 'he may not lock it');
SELECT is(pg_temp.state_as('ordflow_gatecrasher', 'CREATE TRIGGER mine BEFORE INSERT ON ordflow.stock FOR EACH ROW
    EXECUTE FUNCTION ordflow.counter_gate()'), '42501', 'nor hang a trigger on stock');
SELECT is(pg_temp.state_as('ordflow_gatecrasher', 'SELECT * FROM ordflow.reservations'), NULL, 'what open transactions hold he may see');

SELECT * FROM finish();
ROLLBACK;

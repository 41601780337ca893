-- test/pgtap/tables.sql: what tables, views and sequences of the schema promise
BEGIN;
SELECT plan(27);

CREATE TEMP VIEW relations AS
SELECT c.* FROM pg_class c WHERE c.relnamespace = 'ordflow'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S');

CREATE TEMP VIEW dumped AS
SELECT u.oid, u.filter FROM pg_extension, unnest(extconfig, extcondition) AS u (oid, filter) WHERE extname = 'ordflow';

SELECT bag_eq($$ SELECT relname::text FROM relations WHERE relkind = 'r' AND NOT relispartition $$, ARRAY[
    'activation', 'counter_gate', 'coupon_redemptions', 'coupons', 'effects', 'hold_lines', 'holds', 'machines',
    'object_history', 'outbox', 'order_charges', 'order_history', 'order_lines', 'orders', 'parked', 'parts', 'payments', 'purchase_counts', 'purchase_limits',
    'refund_lines', 'refunds', 'shipment_lines', 'shipments', 'states', 'stock', 'stock_segments',
    'sync_copies', 'sync_copy_places', 'sync_deliveries', 'sync_letters', 'sync_pulls', 'sync_starts', 'syncs',
    'task_attempts', 'task_batch_ends', 'task_batches', 'task_grants', 'task_kinds', 'task_progress', 'task_schedules', 'task_segments',
    'task_unique', 'transitions'
], 'the tables');
SELECT bag_eq($$ SELECT relname::text FROM relations WHERE relkind IN ('p', 'v') $$,
    ARRAY['stock_movements', 'stock_levels', 'reservations', 'stock_holds', 'open_segments', 'ledger_start',
          'timer_drivers', 'timer_status', 'workers', 'task_queue', 'task_outcomes', 'tasks', 'batches', 'dead_tasks', 'schedules',
          'task_lanes', 'open_task_parts', 'sync_status', 'sync_progress', 'sync_dead_letters'], 'the ledger, the queue and the views');

SELECT columns_are('ordflow', 'workers', ARRAY['worker', 'database', 'pid', 'state', 'since', 'next_at', 'problem', 'fix']);
SELECT columns_are('ordflow', 'timer_status', ARRAY['state', 'next_deadline', 'due_now', 'done', 'parked', 'lateness_p50',
    'lateness_p99', 'lateness_max', 'last_error', 'last_error_at', 'since']);
SELECT columns_are('ordflow', 'batches', ARRAY['batch_id', 'kind', 'total', 'queued', 'running', 'succeeded', 'failed', 'dead',
    'cancelled', 'state', 'priority', 'run_at', 'key', 'on_finish', 'on_finish_task', 'first_task', 'submitter', 'submitted_at',
    'finished_at']);
SELECT columns_are('ordflow', 'tasks', ARRAY['task_id', 'batch_id', 'kind', 'state', 'priority', 'run_at', 'key', 'unique_key',
    'payload', 'attempts', 'submitter', 'submitted_at', 'started_at', 'finished_at', 'result', 'sqlstate', 'error', 'pid',
    'lease_until', 'shard', 'shards']);
SELECT columns_are('ordflow', 'sync_status', ARRAY['name', 'source', 'server', 'target', 'mode', 'role', 'state', 'written', 'decoded',
    'sent', 'durable', 'lag_bytes', 'lag_seconds', 'rows', 'errors', 'dead_letters', 'waiting', 'retry_at', 'problem',
    'last_run', 'next_run']);
SELECT columns_are('ordflow', 'sync_progress', ARRAY['name', 'source', 'phase', 'filter', 'tables', 'tables_done', 'rows', 'bytes',
    'done', 'rows_per_second', 'time_left', 'started_at', 'finished_at', 'restarts', 'reason'], 'sync_progress');
SELECT columns_are('ordflow', 'sync_dead_letters', ARRAY['name', 'letter_id', 'state', 'key', 'op', 'target', 'fields', 'body',
    'sqlstate', 'message', 'attempts', 'at']);
SELECT columns_are('ordflow', 'reservations', ARRAY['sku', 'location', 'reference', 'order_id', 'quantity', 'since', 'expires_at', 'pid']);
SELECT columns_are('ordflow', 'stock_levels', ARRAY['sku', 'location', 'on_hand', 'reserved', 'available']);
SELECT columns_are('ordflow', 'orders', ARRAY[
    'order_id', 'order_no', 'customer', 'state', 'currency', 'subtotal', 'discount', 'charges', 'payable', 'coupon',
    'expires_at', 'due_at', 'cancel_reason', 'idempotency_key', 'metadata', 'created_at', 'updated_at']);
SELECT columns_are('ordflow', 'order_history', ARRAY[
    'order_id', 'seq', 'event', 'from_state', 'to_state', 'actor', 'reason', 'data', 'at']);
SELECT is_empty($$
    SELECT column_name FROM unnest(ARRAY['order_id', 'line_no', 'sku', 'location', 'quantity', 'unit_price', 'amount',
        'discount', 'payable', 'shipped', 'returned', 'cancelled', 'metadata']) AS column_name
    WHERE column_name NOT IN (SELECT attname FROM pg_attribute WHERE attrelid = 'ordflow.order_lines'::regclass)
$$, 'order_lines has the promised columns');

SELECT is_empty($$
    SELECT relname FROM relations WHERE relkind <> 'S' AND coalesce(length(obj_description(oid, 'pg_class')), 0) < 10
$$, 'every table and view has a comment');

-- a value of a closed list means something: the column's or the table's comment names it
SELECT is_empty($$
    SELECT conrelid::regclass, attname, value
    FROM pg_constraint c
    JOIN pg_class r ON r.oid = conrelid AND NOT r.relispartition
    JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
    CROSS JOIN LATERAL regexp_matches(pg_get_constraintdef(c.oid), '''(\w+)''::text', 'g') AS m
    CROSS JOIN LATERAL (SELECT m[1] AS value) AS v
    WHERE c.connamespace = 'ordflow'::regnamespace AND c.contype = 'c' AND cardinality(c.conkey) = 1
      AND pg_get_constraintdef(c.oid) ~ 'ANY \(ARRAY'
      AND concat(col_description(c.conrelid, a.attnum), obj_description(c.conrelid, 'pg_class')) !~ ('\m' || value || '\M')
$$, 'every value of a closed list stands in a comment');

SELECT is_empty($$
    SELECT r.relname, a.attname FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0
    WHERE r.relkind IN ('r', 'p') AND NOT r.relispartition AND NOT a.attisdropped
      AND a.attname IN ('expires_at', 'due_at', 'actor', 'valid_until', 'after', 'after_setting', 'role', 'original', 'added',
                        'on_hand', 'reserved', 'slot', 'revision', 'folded_at', 'retired_at', 'retry_at')
      AND col_description(r.oid, a.attnum) IS NULL
      AND concat(obj_description(r.oid, 'pg_class')) !~ ('\m' || a.attname || '\M')
      AND NOT (a.attname = 'actor' AND r.relname <> 'order_history')
$$, 'columns that need a word have one');

SELECT is_empty($$
    SELECT r.relname, g.grantee::regrole, g.privilege_type FROM relations r
    CROSS JOIN LATERAL aclexplode(coalesce(r.relacl, acldefault(CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", r.relowner))) AS g
    WHERE g.grantee <> r.relowner
    UNION ALL
    SELECT a.attname, g.grantee::regrole, g.privilege_type FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid
    CROSS JOIN LATERAL aclexplode(a.attacl) AS g
    UNION ALL
    SELECT n.nspname, g.grantee::regrole, g.privilege_type FROM pg_namespace n
    CROSS JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS g
    WHERE n.nspname = 'ordflow' AND g.grantee <> n.nspowner
$$, 'nobody but the owner has any privilege on schema, tables, columns and sequences');

-- what another cluster could not read, or pg_upgrade refuses; activation is not to be read by another
SELECT is_empty($$
    SELECT r.relname, a.attname, a.atttypid::regtype FROM relations r
    JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
    WHERE coalesce(e.typname, t.typname) IN ('oid', 'xid', 'xid8', 'cid', 'tid', 'pg_lsn', 'pg_snapshot', 'txid_snapshot')
       AND r.relname NOT IN ('activation', 'sync_starts', 'sync_copies', 'sync_copy_places', 'sync_deliveries', 'sync_status', 'sync_progress')   -- never dumped
       OR coalesce(e.typname, t.typname) ~ '^reg'
$$, 'no column holds what only this cluster understands');

SELECT is_empty($$
    SELECT relname FROM relations WHERE relpersistence <> 'p' OR relrowsecurity
$$, 'every table survives a crash, and hides no row');

SELECT is_empty($$
    SELECT relname FROM relations WHERE relkind IN ('r', 'p') AND NOT EXISTS (
        SELECT FROM pg_index i WHERE i.indrelid = relations.oid AND (i.indisprimary OR i.indnullsnotdistinct AND i.indpred IS NULL))
      AND oid NOT IN (SELECT relid FROM pg_partition_tree('ordflow.stock_movements')) AND relname <> 'counter_gate'
$$, 'every table but the ledger has a key over all its rows');

SELECT is_empty($$
    SELECT relname FROM relations WHERE relkind = 'r' AND relname NOT IN ('parts', 'activation', 'counter_gate', 'task_progress',
        'sync_starts', 'sync_copies', 'sync_copy_places', 'sync_deliveries')   -- which mean nothing in another cluster
      AND oid NOT IN (SELECT oid FROM dumped)
$$, 'every table that holds users'' rows is dumped, each partition by itself');
SELECT is_empty($$
    SELECT relname FROM relations WHERE relkind = 'S' AND relname NOT IN ('activation_id_seq', 'sync_deliveries_delivery_id_seq') AND oid NOT IN (SELECT oid FROM dumped)
$$, 'every sequence is dumped by itself');
SELECT is_empty($$
    SELECT d.oid::regclass, d.filter FROM dumped d
    WHERE d.filter <> CASE WHEN EXISTS (SELECT FROM pg_attribute WHERE attrelid = d.oid AND attname = 'builtin')
                           THEN 'WHERE NOT builtin' ELSE '' END
$$, 'rows that come with the version are left out of a dump, all others are in it');

SELECT is_empty($$
    SELECT r.relname FROM relations r
    WHERE NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'ordflow'
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid
                        AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
      AND NOT (r.relkind = 'S' AND EXISTS (SELECT FROM pg_depend d WHERE d.objid = r.oid AND d.deptype IN ('a', 'i')))
$$, 'every table, view and sequence belongs to the extension');

SELECT is_empty($$
    SELECT conrelid::regclass, conname FROM pg_constraint WHERE contype = 'f' AND connamespace = 'ordflow'::regnamespace
$$, 'no foreign key takes share locks on hot rows, or wants an order of a restore');

SELECT ok(EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'ordflow'
                  WHERE d.classid = 'pg_namespace'::regclass AND d.objid = 'ordflow'::regnamespace AND d.deptype = 'e'),
    'the schema is made by the extension, and goes with it');

SELECT * FROM finish();
ROLLBACK;

/* src/doctor.sql: is everything set up; each feature has its rows here */

CREATE FUNCTION ordflow.library(OUT version text, OUT preloaded boolean)
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_library';
COMMENT ON FUNCTION ordflow.library() IS 'The version of the loaded library, and whether shared_preload_libraries loaded it.';

CREATE FUNCTION ordflow.doctor()
RETURNS TABLE (severity text, part text, object text, problem text, fix text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT 'error', 'server', 'shared_preload_libraries', 'ordflow is not preloaded',
       format('shared_preload_libraries = ''%s''   # in postgresql.conf, then restart the server',
              concat_ws(', ', nullif(current_setting('shared_preload_libraries'), ''), 'ordflow'))
FROM ordflow.library() l WHERE NOT l.preloaded
UNION ALL
SELECT 'error', 'server', 'ordflow', format('the library is %s, the extension in this database is %s', l.version, e.extversion),
       'ALTER EXTENSION ordflow UPDATE;   -- and restart the server if it still runs the old library'
FROM ordflow.library() l, pg_extension e WHERE e.extname = 'ordflow' AND e.extversion <> l.version
UNION ALL
SELECT 'warning', 'server', s.name, format('%s is off: a crash can lose orders that were acknowledged', s.name),
       format('ALTER SYSTEM SET %I = on;', s.name)
FROM pg_settings s WHERE s.name IN ('fsync', 'full_page_writes', 'synchronous_commit') AND s.setting = 'off'
UNION ALL
SELECT 'error', 'machine', format('%s on %s', t.tgname, t.tgrelid::regclass), 'the trigger is disabled: changes are not checked',
       format('ALTER TABLE %s ENABLE TRIGGER %I;', t.tgrelid::regclass, t.tgname)
FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
WHERE t.tgenabled IN ('D', 'R') AND NOT t.tgisinternal AND f.pronamespace = 'ordflow'::regnamespace
  AND f.proname <> 'counter_gate'
UNION ALL
SELECT 'warning', 'stock', 'ordflow.stock_segments',
       'for 10 minutes the ledger has not been added to the balances: the first sale of a stock row gets slower',
       CASE WHEN ordflow.is_active('fold')
            THEN 'SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start LIMIT 5;   -- one that sells and stays open'
            ELSE 'SELECT ordflow.activate();   -- or let a scheduler call ordflow.fold_stock()' END
WHERE EXISTS (SELECT FROM ordflow.stock_movements m JOIN ordflow.open_segments g ON g.segment = m.segment
              WHERE m.at < clock_timestamp() - interval '10 minutes')
UNION ALL
SELECT 'error', 'stock', format('%s on %s', t.tgname, t.tgrelid::regclass),
       'direct writes pass by the counters, or some do: so a restore with --disable-triggers leaves it',
       format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I;   -- then UPDATE ordflow.stock SET sku = sku WHERE false; loads counters anew',
              t.tgrelid::regclass, t.tgname)
FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
WHERE t.tgenabled <> 'A' AND f.proname = 'counter_gate' AND f.pronamespace = 'ordflow'::regnamespace
UNION ALL
SELECT 'error', 'machine', i.inhrelid::regclass::text,
       'a table with a machine became a partition: it cannot be written, and rows that an UPDATE of the parent moves are not checked',
       format('ALTER TABLE %s DETACH PARTITION %s;   -- or SELECT ordflow.detach(%L);', i.inhparent::regclass, i.inhrelid::regclass,
              i.inhrelid::regclass)
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE c.relispartition AND EXISTS (
    SELECT FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
    WHERE t.tgrelid = c.oid AND t.tgparentid = 0 AND f.proname = 'machine_changed' AND f.pronamespace = 'ordflow'::regnamespace)
UNION ALL
SELECT DISTINCT 'warning', 'machine', format('%s on %s', t.tgname, t.tgrelid::regclass),
       'the trigger fires after that of ordflow, which sets the due column: it must not change the state',
       format('ALTER TRIGGER %I ON %s RENAME TO %I;   -- triggers fire by name', t.tgname, t.tgrelid::regclass, 'before_' || t.tgname)
FROM pg_trigger d JOIN pg_proc f ON f.oid = d.tgfoid JOIN pg_trigger t ON t.tgrelid = d.tgrelid
WHERE f.proname = 'machine_due' AND f.pronamespace = 'ordflow'::regnamespace AND t.tgname > d.tgname AND t.tgfoid <> d.tgfoid
  AND t.tgtype & 3 = 3 AND t.tgtype & 20 <> 0 AND t.tgenabled IN ('O', 'A')   -- BEFORE EACH ROW, INSERT or UPDATE
UNION ALL
SELECT c.severity, 'machine', concat_ws(' ', m.machine, c.state), c.problem, format('SELECT ordflow.define_machine(%L, ...);', m.machine)
FROM (SELECT m.machine FROM ordflow.machines m, ordflow.library() l, pg_extension e
      WHERE e.extname = 'ordflow' AND e.extversion = l.version OFFSET 0) AS m,   -- check_machine() wants the right library
     ordflow.check_machine(m.machine) c
UNION ALL
SELECT 'error', 'timer', format('%s %s', p.target, p.key), format('event %s failed %s times: %s', p.event, p.attempts, p.error),
       format(CASE p.target WHEN 'ordflow.holds' THEN 'SELECT ordflow.release_stock(%2$L)' ELSE 'SELECT ordflow.fire(%L, %L, %L)' END ||
              ';   -- once the cause is repaired; tried again at %4$s', p.target, p.key, p.event, p.retry_at)
FROM ordflow.parked p
UNION ALL
SELECT 'warning', 'worker', concat_ws(' of ', w.worker, d.datname), w.problem, w.fix
FROM ordflow.worker_slots() w LEFT JOIN pg_database d ON d.oid = w.database
WHERE w.problem IS NOT NULL AND w.state <> 'off' AND NOT pg_is_in_recovery()
UNION ALL
SELECT 'warning', 'server', format('server %s', s.srvname), format('module ordflow_%s is not installed', m.module),
       format('apt-get install %s   # then make && make install, in the sources of ordflow', m.package)
FROM ordflow.modules() m JOIN pg_foreign_data_wrapper w ON w.fdwname = 'ordflow_' || m.module
JOIN pg_foreign_server s ON s.srvfdw = w.oid WHERE NOT m.installed
UNION ALL
SELECT 'warning', 'timer', 'ordflow.orders', format('%s orders are past their deadline, the oldest since %s', count(*), min(o.due_at)),
       CASE WHEN ordflow.is_active('timer') THEN 'SELECT * FROM ordflow.workers;   -- tells why no worker cancels them'
            ELSE 'SELECT ordflow.activate();   -- lets the workers act in this database' END
FROM ordflow.orders o WHERE o.due_at < clock_timestamp() - interval '1 minute' HAVING count(*) > 0
UNION ALL
SELECT 'error', 'task', 'kind ' || k.kind, format('handler %s %s', k.handler, p.problem),
       format('SELECT ordflow.define_task(%L, ''schema.function(jsonb)'');   -- its tasks fail until then', k.kind)
FROM ordflow.task_kinds k LEFT JOIN pg_proc f ON f.oid = to_regprocedure(k.handler),
LATERAL (SELECT CASE WHEN f.oid IS NULL THEN 'does not exist'
                     WHEN pg_get_userbyid(f.proowner) <> k.owner THEN format('is not owned by %s any more', k.owner)
                     WHEN NOT has_function_privilege(f.proowner, f.oid, 'EXECUTE') THEN 'may not be executed by its owner'
                     END) AS p (problem)
WHERE k.handler IS NOT NULL AND p.problem IS NOT NULL
UNION ALL
SELECT 'error', 'task', 'schedule ' || s.name, format('role %s, which submits its tasks, does not exist any more', s.owner),
       format('SELECT ordflow.unschedule_task(%L);   -- and schedule it anew as another role', s.name)
FROM ordflow.task_schedules s WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = s.owner)
UNION ALL
SELECT 'warning', 'task', 'kind ' || d.kind, format('%s tasks are dead, the last since %s: %s', d.n, d.died_at, d.error),
       format('SELECT ordflow.retry_task(task_id) FROM ordflow.dead_tasks WHERE kind = %L;   -- once the cause is repaired', d.kind)
FROM (SELECT d.kind, count(*) AS n, max(d.died_at) AS died_at, (array_agg(d.error ORDER BY d.died_at DESC))[1] AS error
      FROM ordflow.dead_tasks d WHERE d.died_at > clock_timestamp() - interval '1 day' GROUP BY d.kind) AS d
UNION ALL
SELECT 'warning', 'task', 'ordflow.task_queue', 'tasks are queued, and no worker acts in this database: it is a copy, or deactivated',
       'SELECT ordflow.activate();'
WHERE NOT ordflow.is_active('task') AND EXISTS (SELECT FROM ordflow.task_queue)
UNION ALL
SELECT 'error', 'task', format('%s on %s', t.tgname, t.tgrelid::regclass),
       'the trigger is off: rows written by hand are not noticed, a restore with --disable-triggers leaves it so',
       format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I;', t.tgrelid::regclass, t.tgname)
FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
WHERE t.tgenabled <> 'A' AND f.proname = 'task_changed' AND f.pronamespace = 'ordflow'::regnamespace
UNION ALL
SELECT 'error', 'sync', 'sync ' || s.name, coalesce(s.problem, 'it is stopped'),
       CASE s.state WHEN 'paused' THEN format('SELECT ordflow.resume_sync(%L);   -- once it is repaired; its changes are kept', s.name)
            WHEN 'idle' THEN 'SELECT pid, state, xact_start, query FROM pg_stat_activity ORDER BY xact_start LIMIT 5;'
            WHEN 'gap' THEN format('SELECT ordflow.resume_sync(%L);   -- goes on with the present: mend the target by hand', s.name)
            ELSE format('SELECT * FROM ordflow.check_sync(%L);', s.name) END
FROM ordflow.sync_status s WHERE s.problem IS NOT NULL
UNION ALL
SELECT 'warning', 'sync', 'sync ' || s.name, format('it should have been pulled at %s, and has not begun', s.next_run),
       'SELECT * FROM ordflow.workers;   -- tells why no process came'
FROM ordflow.sync_status s WHERE s.state = 'idle' AND s.next_run < clock_timestamp() - interval '1 minute'
UNION ALL
SELECT 'warning', 'sync', 'sync ' || l.name, format('%s changes could not be sent: %s', count(*), max(l.message)),
       format('SELECT ordflow.replay_dead_letters(%L);   -- once the cause is repaired; see ordflow.sync_dead_letters', l.name)
FROM ordflow.sync_dead_letters l WHERE l.state = 'dead' GROUP BY l.name
UNION ALL
SELECT 'warning', 'sync', 'ordflow.syncs', 'there are syncs, and no worker acts in this database: it is a copy, or deactivated',
       'SELECT ordflow.activate();'
WHERE NOT ordflow.is_active('sync') AND EXISTS (SELECT FROM ordflow.syncs WHERE mode <> 'dual_write')
UNION ALL
SELECT 'error', 'sync', 'wal_level', 'there are syncs, and wal_level is not logical: their changes are not in the WAL',
       'ALTER SYSTEM SET wal_level = logical;   -- then restart the server'
WHERE current_setting('wal_level') <> 'logical' AND EXISTS (SELECT FROM ordflow.syncs WHERE mode = 'cdc')
UNION ALL
SELECT 'warning', 'sync', 'replication slot ' || r.slot_name, 'nobody reads it, and it keeps WAL: '
           || pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), r.restart_lsn)),
       format('SELECT ordflow.activate();   -- or, where there are no syncs: SELECT pg_drop_replication_slot(%L);', r.slot_name)
FROM pg_replication_slots r
WHERE r.slot_name = format('ordflow_%s', (SELECT oid FROM pg_database WHERE datname = current_database())) AND NOT r.active
  AND NOT ordflow.is_active('sync') AND NOT pg_is_in_recovery()
UNION ALL
SELECT 'warning', 'money', 'refund ' || r.refund_id,
       format('%s %s of order %s could not be refunded: %s', r.amount, r.currency, r.order_id, r.error),
       format('SELECT ordflow.refund_done(%s, ''provider refund id'');   -- once it is paid', r.refund_id)
FROM ordflow.refunds r WHERE r.state = 'failed' AND r.error IS NOT NULL AND r.reason <> 'mismatch'
UNION ALL
SELECT 'warning', 'money', 'refund ' || r.refund_id, format('%s %s of order %s is held (%s)', r.amount, r.currency, r.order_id, r.reason),
       format('SELECT ordflow.release_refund(%s);   -- or ordflow.refund_failed(%1$s, ''why not'')', r.refund_id)
FROM ordflow.refunds r WHERE r.state = 'held'
$$;
COMMENT ON FUNCTION ordflow.doctor() IS
'What is not set up or needs a person: severity (error, warning), part, object, problem, and fix, the line to paste. No row means healthy.';

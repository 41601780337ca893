\echo Use "ALTER EXTENSION ordflow UPDATE TO '0.7'" to load this file. \quit

/*
 * src/upgrade/ordflow--0.6--0.7.sql: copies, pulled syncs, verification
 *
 * Privileges are revoked object by object, and granted by grant_access(): see ordflow--0.1--0.2.sql.
 */

/* Whoever holds all of a part will hold all that it has now. */

SELECT set_config('update.holders', coalesce(json_agg(h), '[]')::text, true)
FROM (
    SELECT p.part, a.grantee
    FROM ordflow.parts p,
         aclexplode(CASE split_part(p.object, ' ', 1)
                    WHEN 'SCHEMA' THEN (SELECT nspacl FROM pg_namespace WHERE nspname = split_part(p.object, ' ', 2))
                    WHEN 'FUNCTION' THEN (SELECT proacl FROM pg_proc WHERE oid = substr(p.object, 10)::regprocedure)
                    WHEN 'FOREIGN' THEN (SELECT fdwacl FROM pg_foreign_data_wrapper WHERE fdwname = substr(p.object, 22))
                    ELSE (SELECT relacl FROM pg_class WHERE oid = split_part(p.object, ' ', 2)::regclass) END) AS a
    WHERE p.part IN ('admin', 'read', 'sync') AND a.privilege_type = p.privilege AND a.grantee <> 0
      AND a.grantee <> (SELECT extowner FROM pg_extension WHERE extname = 'ordflow')
    GROUP BY p.part, a.grantee
    HAVING count(DISTINCT p.object) = (SELECT count(*) FROM ordflow.parts o WHERE o.part = p.part)
) AS h;

COMMENT ON VIEW ordflow.workers IS
'The background workers of the server: one launcher, and a coordinator for each database that has work; a database without work has none; drivers of timers, pools that run tasks, and of syncs a decoder, deliveries and pullers.
state: running, waiting (until next_at, or until a commit brings work), starting, away (a command such as DROP DATABASE keeps it out), no slot (max_worker_processes is used up), failed (started again soon), not running, off, inactive (of this database: see ordflow.activate()). problem and fix say what to do, where something is to be done.';

CREATE FUNCTION ordflow.postgres_options(options text[], catalog oid)
RETURNS void LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_server_validator';

COMMENT ON FUNCTION ordflow.postgres_options(text[], oid) IS
'Validator of the wrapper ordflow_postgres: raises HV00D for an unknown option, 22023 for a bad value, 42501 for a file or an environment variable named by a role that is no member of pg_read_server_files, and for password_required switched off by a role that is no superuser.';

COMMENT ON FUNCTION ordflow.script_options(text[], oid) IS
'Validator of the wrapper ordflow_script: raises HV00D for an unknown option, 22023 for a bad value, 42501 for a path named by a role that is no member of pg_read_server_files and pg_write_server_files.';

CREATE FOREIGN DATA WRAPPER ordflow_postgres NO HANDLER VALIDATOR ordflow.postgres_options;

COMMENT ON FOREIGN DATA WRAPPER ordflow_postgres IS
'Another PostgreSQL. Servers: host, port, dbname, schema, prefix, timeout (seconds, at most 60), sslmode, sslrootcert, sslcert, sslkey, password_required; user mappings: user and one of password, password_file, password_env.';

COMMENT ON COLUMN ordflow.syncs.source IS 'The table or view, as schema.table; of a partitioned one all its partitions. One that is renamed is followed: see sync_starts.';

CREATE TABLE ordflow.sync_copies (
    sync_id     bigint NOT NULL,
    phase       text COLLATE "C" NOT NULL DEFAULT 'waiting',
    is_fresh    boolean NOT NULL,
    filter      text,
    sweeps      boolean NOT NULL DEFAULT false,
    snapshot    text COLLATE "C",
    lsn         pg_lsn,
    base        pg_lsn,
    turn        int NOT NULL DEFAULT 0,
    restarts    int NOT NULL DEFAULT 0,
    reason      text,
    started_at  timestamptz,
    finished_at timestamptz,
    CONSTRAINT sync_copies_pkey PRIMARY KEY (sync_id)
) WITH (fillfactor = 50);

COMMENT ON TABLE ordflow.sync_copies IS
'The copy of the rows that a sync''s source has, one of each sync at a time: see ordflow.sync_progress. phase: waiting (for its snapshot), copying, following (the stream is still behind the last rows that were read), done. Never dumped: a restored database copies again.';

COMMENT ON COLUMN ordflow.sync_copies.is_fresh IS 'The target had nothing of the sync before: what the snapshot sees is not streamed to it.';

COMMENT ON COLUMN ordflow.sync_copies.filter IS 'Of resync(): only these rows.';

COMMENT ON COLUMN ordflow.sync_copies.sweeps IS 'After a gap: in the end, what the target has and the source has not is removed.';

COMMENT ON COLUMN ordflow.sync_copies.snapshot IS 'xmin:xmax:who was in progress between them, sub-transactions too. Rows that it sees and that are the same now are copied; everything else is streamed.';

COMMENT ON COLUMN ordflow.sync_copies.lsn IS 'What the snapshot sees committed before it; of phase following, what the last rows that were read are of.';

COMMENT ON COLUMN ordflow.sync_copies.base IS 'Of the positions of the rows that are being sent, with turn: no record of the WAL begins there.';

COMMENT ON COLUMN ordflow.sync_copies.restarts IS 'How often it began again, last for the reason.';

CREATE TABLE ordflow.sync_copy_places (
    sync_id     bigint NOT NULL,
    relid       oid NOT NULL,
    relfilenode oid NOT NULL,
    blocks      bigint NOT NULL,
    place       bigint NOT NULL DEFAULT 0,
    until       bigint,
    rows        bigint NOT NULL DEFAULT 0,
    bytes       bigint NOT NULL DEFAULT 0,
    CONSTRAINT sync_copy_places_pkey PRIMARY KEY (sync_id, relid)
) WITH (fillfactor = 50);

COMMENT ON TABLE ordflow.sync_copy_places IS
'How far a copy has come in each table that rows of the source lie in: what is before place is at the target, the blocks before until are being sent. Never dumped.';

COMMENT ON COLUMN ordflow.sync_copy_places.place IS 'A block and the number of a row in it: block * 65536 + number.';

COMMENT ON COLUMN ordflow.sync_copy_places.relfilenode IS 'The file that blocks are of; where the table is rewritten, the copy begins again.';

CREATE TABLE ordflow.sync_pulls (
    sync_id     bigint NOT NULL,
    server      text COLLATE "C",
    role        text COLLATE "C" NOT NULL,
    token       uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    generation  bigint NOT NULL DEFAULT 1,
    pull        bigint NOT NULL DEFAULT 0,
    state       text COLLATE "C" NOT NULL DEFAULT 'idle',
    cluster     text COLLATE "C",
    bound       text COLLATE "C",
    until       text COLLATE "C",
    sent        text COLLATE "C",
    after       text[],
    next        text COLLATE "C",
    next_after  text[],
    rows        bigint NOT NULL DEFAULT 0,
    removed     bigint NOT NULL DEFAULT 0,
    errors      bigint NOT NULL DEFAULT 0,
    failures    bigint NOT NULL DEFAULT 0,
    started_at  timestamptz,
    finished_at timestamptz,
    next_at     timestamptz,
    retry_at    timestamptz,
    problem     text,
    CONSTRAINT sync_pulls_pkey PRIMARY KEY (sync_id)
) WITH (fillfactor = 50);

COMMENT ON TABLE ordflow.sync_pulls IS
'What each sync of the modes scheduled and full has pulled. A row whose sync was dropped stays until what was kept at the server is cleared.';

COMMENT ON COLUMN ordflow.sync_pulls.role IS 'As of the sync: whose user mapping clears what is at the server when that is dropped.';

COMMENT ON COLUMN ordflow.sync_pulls.token IS 'Part of the names of what is kept at the target.';

COMMENT ON COLUMN ordflow.sync_pulls.generation IS 'Rises when everything is sent again, as the target does not stand where it was left.';

COMMENT ON COLUMN ordflow.sync_pulls.pull IS 'The number of the last attempt, which is the LSN of positions at the target.';

COMMENT ON COLUMN ordflow.sync_pulls.state IS 'idle; waiting (for transactions that may have written the source), pulling; failed: tried again at retry_at.';

COMMENT ON COLUMN ordflow.sync_pulls.cluster IS 'Where the bound means something: of a cursor of transactions'' numbers.';

COMMENT ON COLUMN ordflow.sync_pulls.bound IS 'The cursor up to which everything is at the target.';

COMMENT ON COLUMN ordflow.sync_pulls.until IS 'Up to which the pull goes that is not finished.';

COMMENT ON COLUMN ordflow.sync_pulls.sent IS 'The position at the target with all rows up to the one in after: its cursor and key.';

COMMENT ON COLUMN ordflow.sync_pulls.after IS 'Cursor and key of the last row that is at the target, of the pull that is not finished.';

COMMENT ON COLUMN ordflow.sync_pulls.retry_at IS 'When a pull that failed is tried again; NULL: at once.';

COMMENT ON COLUMN ordflow.sync_pulls.next IS 'The position with all rows up to next_after, which may be there already.';

COMMENT ON COLUMN ordflow.sync_pulls.rows IS 'Sent by the last pull, or so far by the one that is not finished; of a full copy removed tells what was deleted at the target.';

SELECT pg_catalog.pg_extension_config_dump('ordflow.sync_pulls', '');

COMMENT ON COLUMN ordflow.sync_letters.item IS 'What is to be sent: op, target, key, and fields or body; to: the position of the target behind it, while it is sent again.';

COMMENT ON FUNCTION ordflow.create_sync(text, regclass, name, text, text, jsonb) IS
'Keeps a target in step with a table. server: of CREATE SERVER, or NULL for a table of this database; target: its name there, in which {column} stands for the row''s text and {{ for a brace. mode: cdc (changes from the WAL, sent after commit), scheduled (new and changed rows by a cursor column), full (all rows; what the source has no more is removed), both of these pulled by a schedule or run_sync(), or dual_write (a table, written in the same transaction).
options: columns (a list of names, or an object of target column: SQL expression over the source''s columns), filter (SQL), key (a list of target columns; default the primary key), format (json, debezium, canal, maxwell; of streams), on_error (park, skip, stop), on_truncate (apply, ignore, stop), batch_rows (1 to 1000), rate (rows a second), copy (false: begins with the present; else with the rows that are there, see ordflow.sync_progress); of scheduled cursor (a column) and overlap (an interval or number); of scheduled and full schedule (of cron, or ''10 seconds'') and time_zone; of full remove (false: nothing is); and those of the target. The caller must own the source or be a member of its owner''s role, or have SELECT on it; it runs as the caller. Mode cdc blocks writers of the source until commit.
Raises 0A000, 22023 (options, with the valid names in the hint), 42501, 42703 for an unknown column, 42710 where the name is taken, 42P16 for a source without a key where one is needed, 55000 where wal_level or slots do not suffice, OF004, OF007, OF008, OF011.';

CREATE FUNCTION ordflow.resync(name text, filter text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_resync';

COMMENT ON FUNCTION ordflow.resync(text, text) IS
'Has the rows of the source sent again, those alone that filter (SQL over the source''s columns) lets pass, while the stream goes on: none of them goes back to what it was. What is at the target and not in the source stays: see repair_sync(). Returns at once: see ordflow.sync_progress. Of a stream each row is one more message. Raises 0A000 for mode dual_write, 42501, 42601, 42703 and 42804 for a bad filter, 55006 while a copy of the sync is going on, OF004.';

CREATE FUNCTION ordflow.run_sync(name text)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_run_sync';

COMMENT ON FUNCTION ordflow.run_sync(text) IS
'Pulls a sync of mode scheduled, or copies one of mode full, now; returns how many rows were sent when they are durable at the target. What committed before this transaction began is among them, unless an older one that is still open holds it back. To be called by any scheduler; waits for as long as it takes (see statement_timeout), and when it is cancelled the pull goes on. Raises 0A000 for other modes, 25001 in a transaction that has written, 55000 where the sync is paused or no worker acts here, OF004, OF007 when it failed: it is tried again by itself, 42501.';

COMMENT ON FUNCTION ordflow.wait_for_sync(text, pg_lsn, interval) IS
'Waits until all that committed before that place in the WAL is durable at the target: true, or false when time is up (at most 60 s). Holds the statement''s snapshot meanwhile. Raises 0A000 for the modes scheduled and full, 25001 in a transaction that has written, OF004, 22023, 22004, 42501.';

CREATE FUNCTION ordflow.verify_sync(name text)
RETURNS TABLE (key text, problem text)
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_verify_sync';

COMMENT ON FUNCTION ordflow.verify_sync(text) IS
'Compares every row of the source with the target while both are written: a row for each that differs, none where all is well. key: the source''s primary key, of several columns a JSON array; problem: changed, missing (at the target), extra (not in the source, or refused by the filter). Tables of this database and of another PostgreSQL, and hashes, strings and JSON of Redis. In a transaction of its own, READ COMMITTED; waits for what was committed to arrive. Raises 0A000 for a mode or target that cannot be compared, 25001 in a transaction that has written, 42501, 54000 above 1,000,000 differences, 55000 where the sync is not up to date within 30 s, OF004, OF008.';

CREATE FUNCTION ordflow.repair_sync(name text)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_repair_sync';

COMMENT ON FUNCTION ordflow.repair_sync(text) IS
'Verifies as verify_sync() does and has the rows that differ sent again as they are, or deleted, in order with the stream; all others are left alone. Returns how many there are, at once: wait_for_sync() waits until they are there. Raises what verify_sync() raises.';

CREATE OR REPLACE VIEW ordflow.sync_status AS
SELECT s.name, s.source, s.server, s.target, s.mode, s.role,
       CASE WHEN NOT ordflow.is_active('sync') AND s.mode <> 'dual_write' THEN 'inactive'
            WHEN s.mode = 'dual_write' THEN 'streaming'
            WHEN s.paused THEN 'paused'
            WHEN s.mode <> 'cdc' THEN coalesce(p.state COLLATE "default", 'idle')
            WHEN d.stopped THEN 'gap'
            WHEN f.state = 'streaming' AND c.phase IS NOT NULL THEN 'copying'
            ELSE coalesce(f.state, 'creating') END AS state,
       CASE WHEN s.mode = 'cdc' AND NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn() END AS written,
       f.decoded, f.sent, f.durable,
       CASE WHEN f.durable IS NOT NULL AND NOT pg_catalog.pg_is_in_recovery()
            THEN greatest(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), f.durable), 0)::bigint END AS lag_bytes,
       f.lag_seconds, g.rows, coalesce(f.errors, p.errors) AS errors, l.dead AS dead_letters, l.waiting,
       coalesce(f.retry_at, p.retry_at) AS retry_at, coalesce(s.problem, d.problem, f.problem, p.problem) AS problem,
       p.finished_at AS last_run, p.next_at AS next_run
FROM ordflow.syncs s
LEFT JOIN ordflow.sync_deliveries d ON d.server IS NOT DISTINCT FROM s.server AND d.role = s.role AND s.mode = 'cdc'
LEFT JOIN ordflow.sync_pulls p ON p.sync_id = s.sync_id
LEFT JOIN ordflow.delivery_figures() f ON f.delivery_id = d.delivery_id
LEFT JOIN ordflow.sync_copies c ON c.sync_id = s.sync_id AND c.phase <> 'done'
CROSS JOIN LATERAL ordflow.sync_figures(s.sync_id) g
CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE l.state IN ('dead', 'parked')) AS dead,
                           count(*) FILTER (WHERE l.state IN ('waiting', 'replay')) AS waiting
                    FROM ordflow.sync_letters l WHERE l.sync_id = s.sync_id) l;

COMMENT ON VIEW ordflow.sync_status IS
'How each sync stands. state: creating (the slot, which waits for transactions that are writing: the sync begins when it is there; see ordflow.workers), starting, copying (the rows that are there, beside the stream: see ordflow.sync_progress), streaming, retrying (see problem and retry_at), misconfigured (a person must act: see problem), paused, gap (stopped: see problem), inactive (of this database: see ordflow.activate()). Of the modes scheduled and full: idle, waiting (for transactions that may have written the source), pulling, failed (see problem and retry_at; tried again), paused, inactive.
The ladder of places in the WAL: written, decoded (read and put into the spool), sent, durable (at the target, in its own sense). lag_bytes: WAL behind durable, of all tables; lag_seconds: since the commit of the first change that is not durable, 0 when there is none. rows: since the server was started. last_run, next_run: when the last pull ended, and when the schedule has the next; see ordflow.sync_pulls. problem tells what ails it.';

CREATE VIEW ordflow.sync_progress AS
SELECT s.name, s.source, c.phase, c.filter, p.tables, p.tables_done, p.rows, p.bytes,
       CASE WHEN c.phase = 'waiting' THEN 0 WHEN c.phase <> 'copying' OR p.blocks = 0 THEN 1
            ELSE p.blocks_done::double precision / p.blocks END AS done,
       CASE WHEN t.seconds > 0 THEN p.rows / t.seconds END AS rows_per_second,
       CASE WHEN c.phase = 'copying' AND p.blocks_done > 0
            THEN pg_catalog.make_interval(secs => t.seconds * (p.blocks - p.blocks_done) / p.blocks_done)
            WHEN c.phase = 'done' THEN interval '0' END AS time_left,
       c.started_at, c.finished_at, c.restarts, c.reason
FROM ordflow.sync_copies c JOIN ordflow.syncs s USING (sync_id)
CROSS JOIN LATERAL (SELECT count(*) AS tables, count(*) FILTER (WHERE place >> 16 = blocks) AS tables_done,
                           coalesce(sum(rows), 0)::bigint AS rows, coalesce(sum(bytes), 0)::bigint AS bytes,
                           coalesce(sum(blocks), 0)::bigint AS blocks, coalesce(sum(place >> 16), 0)::bigint AS blocks_done
                    FROM ordflow.sync_copy_places p WHERE p.sync_id = c.sync_id) p
CROSS JOIN LATERAL (SELECT EXTRACT(epoch FROM coalesce(c.finished_at, pg_catalog.clock_timestamp()) - c.started_at)::double precision
                    AS seconds WHERE c.phase <> 'waiting' UNION ALL SELECT NULL WHERE c.phase = 'waiting') t;

COMMENT ON VIEW ordflow.sync_progress IS
'How far the copy of each sync is: of create_sync(), of resync(), or after a gap. phase: waiting (until all that was streamed is visible, and for locks on the source), copying, following (until the stream has caught up with the last rows that were read), done. done: the part of the blocks that has been read, 0 to 1; rows and bytes: sent since started_at; time_left: at the rate so far. restarts: how often it began again since it was asked for, last for the reason.';

CREATE OR REPLACE FUNCTION ordflow.doctor()
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

/* Privileges. */

REVOKE ALL ON ordflow.sync_copies, ordflow.sync_copy_places, ordflow.sync_pulls, ordflow.sync_progress FROM PUBLIC;
REVOKE ALL ON FUNCTION ordflow.postgres_options(text[], oid),
    ordflow.resync(text, text),
    ordflow.run_sync(text),
    ordflow.verify_sync(text),
    ordflow.repair_sync(text) FROM PUBLIC;

INSERT INTO ordflow.parts (part, privilege, object) VALUES
    ('sync', 'EXECUTE', 'FUNCTION ordflow.resync(text, text)'),
    ('sync', 'EXECUTE', 'FUNCTION ordflow.run_sync(text)'),
    ('sync', 'EXECUTE', 'FUNCTION ordflow.verify_sync(text)'),
    ('sync', 'EXECUTE', 'FUNCTION ordflow.repair_sync(text)'),
    ('sync', 'USAGE', 'FOREIGN DATA WRAPPER ordflow_postgres'),
    ('read', 'SELECT', 'TABLE ordflow.sync_copies'),
    ('read', 'SELECT', 'TABLE ordflow.sync_copy_places'),
    ('read', 'SELECT', 'TABLE ordflow.sync_pulls'),
    ('read', 'SELECT', 'TABLE ordflow.sync_progress');

SELECT ordflow.grant_access(h.grantee::regrole, h.part)
FROM json_to_recordset(current_setting('update.holders')::json) AS h (part text, grantee oid);

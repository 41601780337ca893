\echo Use "ALTER EXTENSION ordflow UPDATE TO '0.6'" to load this file. \quit

/*
 * src/upgrade/ordflow--0.5--0.6.sql: syncs
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
                    ELSE (SELECT relacl FROM pg_class WHERE oid = split_part(p.object, ' ', 2)::regclass) END) AS a
    WHERE p.part IN ('admin', 'read') AND a.privilege_type = p.privilege AND a.grantee <> 0
      AND a.grantee <> (SELECT extowner FROM pg_extension WHERE extname = 'ordflow')
    GROUP BY p.part, a.grantee
    HAVING count(DISTINCT p.object) = (SELECT count(*) FROM ordflow.parts o WHERE o.part = p.part)
) AS h;
COMMENT ON COLUMN ordflow.activation.part IS 'timer, fold, task or sync.';
COMMENT ON FUNCTION ordflow.is_active(text) IS
'Whether background workers do their part (timer, fold, task, sync) in this database. Raises 22023 for an unknown part, 22004.';

CREATE OR REPLACE VIEW ordflow.workers AS
SELECT w.worker, d.datname AS database, w.pid, w.state, w.since, w.next_at, w.problem, w.fix
FROM ordflow.worker_slots() AS w LEFT JOIN pg_catalog.pg_database AS d ON d.oid = w.database
UNION ALL
SELECT 'coordinator', pg_catalog.current_database(), NULL, 'inactive', NULL, NULL,
       'no worker acts in this database: it is new, a copy, or deactivated', 'SELECT ordflow.activate();'
WHERE NOT (ordflow.is_active('timer') OR ordflow.is_active('fold') OR ordflow.is_active('task')
           OR ordflow.is_active('sync'));
COMMENT ON VIEW ordflow.workers IS
'The background workers of the server: one launcher, and a coordinator for each database that has work; a database without work has none; drivers of timers, pools that run tasks, and of syncs a decoder and deliveries.
state: running, waiting (until next_at, or until a commit brings work), starting, away (a command such as DROP DATABASE keeps it out), no slot (max_worker_processes is used up), failed (started again soon), not running, off, inactive (of this database: see ordflow.activate()). problem and fix say what to do, where something is to be done.';

CREATE FUNCTION ordflow.script_options(options text[], catalog oid)
RETURNS void LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_server_validator';
COMMENT ON FUNCTION ordflow.script_options(text[], oid) IS
'Validator of the wrapper ordflow_script: raises HV00D for an unknown option, 22023 for a bad value, 42501 for a path named by a role that is no member of pg_read_server_files.';

CREATE FOREIGN DATA WRAPPER ordflow_script NO HANDLER VALIDATOR ordflow.script_options;
COMMENT ON FOREIGN DATA WRAPPER ordflow_script IS
'Files that syncs write to, and that fail as a script says: for tests, and to copy. Servers: path (a directory, of one server alone), timeout (seconds, at most 60).';
COMMENT ON FUNCTION ordflow.modules() IS
'The modules of this version, one for each wrapper ordflow_<module>: whether its file is there, and the Debian package to build it with, by make && make install (NULL: none is needed).';

/* src/sync/sync.sql: tables in step with other systems */

CREATE TABLE ordflow.syncs (
    sync_id    bigint GENERATED ALWAYS AS IDENTITY,
    name       text COLLATE "C" NOT NULL,
    source     text COLLATE "C" NOT NULL,
    server     text COLLATE "C",
    target     text,
    mode       text COLLATE "C" NOT NULL,
    options    jsonb NOT NULL,
    role       text COLLATE "C" NOT NULL,
    paused     boolean NOT NULL DEFAULT false,
    problem    text,
    created_at timestamptz NOT NULL,
    CONSTRAINT syncs_pkey PRIMARY KEY (sync_id),
    CONSTRAINT syncs_name_key UNIQUE (name)
);
COMMENT ON TABLE ordflow.syncs IS
'Which table goes where. Written by create_sync(), alter_sync(), pause_sync(), resume_sync() and drop_sync(); see ordflow.sync_status for how it goes. The decoder follows this table through the WAL as it follows the sources.';
COMMENT ON COLUMN ordflow.syncs.source IS 'The table, as schema.table; of a partitioned one all its partitions. One that is renamed is followed: see sync_starts.';
COMMENT ON COLUMN ordflow.syncs.server IS 'As in CREATE SERVER; NULL: the target is a table of this database.';
COMMENT ON COLUMN ordflow.syncs.problem IS 'Why it was paused, where nobody asked for it: the target or an expression no longer fits the source.';
COMMENT ON COLUMN ordflow.syncs.role IS 'Who made it: its expressions, its table target and its user mapping are that role''s.';
SELECT pg_catalog.pg_extension_config_dump('ordflow.syncs', '');
SELECT pg_catalog.pg_extension_config_dump('ordflow.syncs_sync_id_seq', '');

CREATE TABLE ordflow.sync_starts (
    sync_id bigint NOT NULL,
    relid   oid NOT NULL,
    lsn     pg_lsn NOT NULL,
    xid     xid8 NOT NULL,
    CONSTRAINT sync_starts_pkey PRIMARY KEY (sync_id)
);
COMMENT ON TABLE ordflow.sync_starts IS
'The source of a sync in this database, where in the WAL it begins, and the transaction that made it. Never dumped: in another cluster none of it means anything; there a source is found by its name, and begins where the slot does.';

CREATE TABLE ordflow.sync_deliveries (
    delivery_id bigint GENERATED ALWAYS AS IDENTITY,
    server      text COLLATE "C",
    role        text COLLATE "C" NOT NULL,
    token       uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    generation  bigint NOT NULL DEFAULT 1,
    backlog     boolean NOT NULL DEFAULT true,
    emits       boolean NOT NULL DEFAULT false,
    stopped     boolean NOT NULL DEFAULT false,
    problem     text,
    sent        text,
    released    pg_lsn,
    CONSTRAINT sync_deliveries_pkey PRIMARY KEY (delivery_id),
    CONSTRAINT sync_deliveries_key UNIQUE NULLS NOT DISTINCT (server, role)
) WITH (fillfactor = 50);
COMMENT ON TABLE ordflow.sync_deliveries IS
'One row for each server and role that syncs send to, and one for the tables of this database and a role: they share a spool, a connection and a position. Never dumped.';
COMMENT ON COLUMN ordflow.sync_deliveries.token IS 'Part of the names of what is kept at the target, so that nobody else''s is taken for it.';
COMMENT ON COLUMN ordflow.sync_deliveries.generation IS 'Rises when positions begin anew: a slot that was lost, a source or a target that was put back in time.';
COMMENT ON COLUMN ordflow.sync_deliveries.backlog IS 'Messages of ordflow.emit() that were committed before the slot was there are still to be read from the outbox.';
COMMENT ON COLUMN ordflow.sync_deliveries.emits IS 'ordflow.emit() was called for the server: it stays where no sync needs it.';
COMMENT ON COLUMN ordflow.sync_deliveries.stopped IS 'By a gap: something can no longer be delivered, see problem; ordflow.resume_sync() goes on behind it.';
COMMENT ON COLUMN ordflow.sync_deliveries.sent IS 'The position at the target when WAL and spool before it were let go; of tables of this database the position itself.';
COMMENT ON COLUMN ordflow.sync_deliveries.released IS 'The commit up to which all is delivered.';

CREATE TABLE ordflow.sync_letters (
    letter_id  bigint GENERATED ALWAYS AS IDENTITY,
    sync_id    bigint NOT NULL,
    position   text COLLATE "C" NOT NULL,
    state      text COLLATE "C" NOT NULL,
    key        text,
    item       jsonb NOT NULL,
    sqlstate   text COLLATE "C",
    message    text,
    attempts   int NOT NULL DEFAULT 1,
    at         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT sync_letters_pkey PRIMARY KEY (letter_id),
    CONSTRAINT sync_letters_key UNIQUE (sync_id, position)
);
COMMENT ON TABLE ordflow.sync_letters IS
'Changes that were not sent. state: dead (the target, an expression or a limit refused it), parked (a later change of a key that has a dead one), waiting (the sync is paused), replay (asked for by replay_dead_letters() or resume_sync(), sent again in the order of letter_id).';
COMMENT ON COLUMN ordflow.sync_letters.item IS 'What is to be sent: op, target, key, and fields or body.';
SELECT pg_catalog.pg_extension_config_dump('ordflow.sync_letters', '');
SELECT pg_catalog.pg_extension_config_dump('ordflow.sync_letters_letter_id_seq', '');

CREATE TABLE ordflow.outbox (
    outbox_id bigint GENERATED ALWAYS AS IDENTITY,
    server    text COLLATE "C" NOT NULL,
    role      text COLLATE "C" NOT NULL,
    topic     text NOT NULL,
    key       text,
    payload   jsonb NOT NULL,
    at        timestamptz NOT NULL,
    CONSTRAINT outbox_pkey PRIMARY KEY (outbox_id)
);
COMMENT ON TABLE ordflow.outbox IS
'Messages of ordflow.emit() that are not delivered yet; emptied behind the delivery.';
COMMENT ON COLUMN ordflow.outbox.role IS 'The server''s owner, whose user mapping is used.';
SELECT pg_catalog.pg_extension_config_dump('ordflow.outbox', '');
SELECT pg_catalog.pg_extension_config_dump('ordflow.outbox_outbox_id_seq', '');

CREATE FUNCTION ordflow.create_sync(name text, source regclass, server name DEFAULT NULL, target text DEFAULT NULL,
    mode text DEFAULT 'cdc', options jsonb DEFAULT '{}')
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_create_sync';
COMMENT ON FUNCTION ordflow.create_sync(text, regclass, name, text, text, jsonb) IS
'Keeps a target in step with a table. server: of CREATE SERVER, or NULL for a table of this database; target: its name there, in which {column} stands for the row''s text and {{ for a brace. mode: cdc (changes from the WAL, sent after commit) or dual_write (a table, written in the same transaction).
options: columns (a list of names, or an object of target column: SQL expression over the source''s columns), filter (SQL), key (a list of target columns; default the primary key), format (json, debezium, canal, maxwell; of streams), on_error (park, skip, stop), on_truncate (apply, ignore, stop), batch_rows (1 to 1000), rate (rows a second), copy (false: begins with the present), and those of the target. The caller must own the source or be a member of its owner''s role, or have SELECT on it; it runs as the caller. Blocks writers of the source until commit.
Raises 0A000, 22023 (options, with the valid names in the hint), 42501, 42703 for an unknown column, 42710 where the name is taken, 42P16 for a source without a key where one is needed, 55000 where wal_level or slots do not suffice, OF004, OF007, OF008, OF011.';

CREATE FUNCTION ordflow.drop_sync(name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_drop_sync';
COMMENT ON FUNCTION ordflow.drop_sync(text) IS
'Ends a sync, at commit; what is at the target stays. With the last one of a server what ordflow kept there for itself is removed, with the last one of all the replication slot. Its dead letters go. Raises OF004, 42501.';

CREATE FUNCTION ordflow.alter_sync(name text, options jsonb)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_alter_sync';
COMMENT ON FUNCTION ordflow.alter_sync(text, jsonb) IS
'Changes options: those given are set, null takes one back to its default; the others stay. Holds for what is sent from its commit on. Raises what create_sync() raises, OF004, 42501.';

CREATE FUNCTION ordflow.pause_sync(name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_pause_sync';
COMMENT ON FUNCTION ordflow.pause_sync(text) IS
'Nothing of the sync is sent until resume_sync(): its changes are kept as rows of ordflow.sync_letters. Other syncs of the server go on. Raises OF004, 42501.';

CREATE FUNCTION ordflow.resume_sync(name text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_resume_sync';
COMMENT ON FUNCTION ordflow.resume_sync(text) IS
'Sends what was kept by pause_sync(), in order, and goes on. Where the delivery was stopped by a gap, it goes on with the present: what the gap holds is lost to the target. Raises OF004, 42501.';

CREATE FUNCTION ordflow.replay_dead_letters(name text)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_replay_dead_letters';
COMMENT ON FUNCTION ordflow.replay_dead_letters(text) IS
'Has the dead letters of the sync, and what queues behind them, sent again in order; returns how many there are. What is refused again is a dead letter again. Raises OF004, 42501.';

CREATE FUNCTION ordflow.emit(server name, topic text, key text, payload jsonb)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_emit';
COMMENT ON FUNCTION ordflow.emit(name, text, text, jsonb) IS
'Sends a message to a topic of the server (of Redis a stream) when this transaction has committed, exactly once, with the user mapping of the server''s owner, else of PUBLIC. key may be NULL. The caller needs USAGE on the server. Raises 22004, 22001 for a topic or key above 255 bytes, 54000 for a payload above 16 MB, 42501, 55000 where wal_level is not logical, OF004, OF007, OF008, OF011.';

CREATE FUNCTION ordflow.wait_for_sync(name text, lsn pg_lsn DEFAULT pg_catalog.pg_current_wal_insert_lsn(), timeout interval DEFAULT '5 s')
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_wait_for_sync';
COMMENT ON FUNCTION ordflow.wait_for_sync(text, pg_lsn, interval) IS
'Waits until all that committed before that place in the WAL is durable at the target: true, or false when time is up (at most 60 s). Holds the statement''s snapshot meanwhile. Raises 25001 in a transaction that has written, OF004, 22023, 22004, 42501.';

CREATE FUNCTION ordflow.check_sync(name text)
RETURNS TABLE (severity text, problem text, fix text)
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_check_sync';
COMMENT ON FUNCTION ordflow.check_sync(text) IS
'Everything a sync needs, tried: wal_level, slots, the plugin''s permission, the source and its key, privileges, options, the module, and the target, which is connected to. No row: it is well. severity: error or warning. Raises OF004, 42501.';

CREATE FUNCTION ordflow.preview_sync(name text, max_rows int DEFAULT 10)
RETURNS TABLE (op text, target text, key text, fields jsonb, body text)
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_preview_sync';
COMMENT ON FUNCTION ordflow.preview_sync(text, int) IS
'What would be sent of the source''s rows as they are, at most max_rows (1 to 1000) of them, without sending it. Raises what the expressions raise, OF004, 22023, 42501.';

CREATE FUNCTION ordflow.delivery_figures(OUT delivery_id bigint, OUT state text, OUT decoded pg_lsn, OUT sent pg_lsn, OUT durable pg_lsn,
    OUT lag_seconds double precision, OUT items bigint, OUT errors bigint, OUT retry_at timestamptz, OUT problem text)
RETURNS SETOF record LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_delivery_figures';
COMMENT ON FUNCTION ordflow.delivery_figures() IS 'What the view ordflow.sync_status shows of deliveries, as it stands in shared memory.';

CREATE FUNCTION ordflow.sync_figures(sync_id bigint, OUT rows bigint, OUT letters bigint)
RETURNS record LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_sync_figures';
COMMENT ON FUNCTION ordflow.sync_figures(bigint) IS 'How many items of a sync were sent, and put aside, since the server was started.';

CREATE VIEW ordflow.sync_status AS
SELECT s.name, s.source, s.server, s.target, s.mode, s.role,
       CASE WHEN NOT ordflow.is_active('sync') AND s.mode = 'cdc' THEN 'inactive'
            WHEN s.mode <> 'cdc' THEN 'streaming'
            WHEN s.paused THEN 'paused'
            WHEN d.stopped THEN 'gap'
            ELSE coalesce(f.state, 'creating') END AS state,
       CASE WHEN s.mode = 'cdc' AND NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn() END AS written,
       f.decoded, f.sent, f.durable,
       CASE WHEN f.durable IS NOT NULL AND NOT pg_catalog.pg_is_in_recovery()
            THEN greatest(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), f.durable), 0)::bigint END AS lag_bytes,
       f.lag_seconds, g.rows, f.errors, l.dead AS dead_letters, l.waiting, f.retry_at, coalesce(s.problem, d.problem, f.problem) AS problem
FROM ordflow.syncs s
LEFT JOIN ordflow.sync_deliveries d ON d.server IS NOT DISTINCT FROM s.server AND d.role = s.role AND s.mode = 'cdc'
LEFT JOIN ordflow.delivery_figures() f ON f.delivery_id = d.delivery_id
CROSS JOIN LATERAL ordflow.sync_figures(s.sync_id) g
CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE l.state IN ('dead', 'parked')) AS dead,
                           count(*) FILTER (WHERE l.state IN ('waiting', 'replay')) AS waiting
                    FROM ordflow.sync_letters l WHERE l.sync_id = s.sync_id) l;
COMMENT ON VIEW ordflow.sync_status IS
'How each sync stands. state: creating (the slot, which waits for transactions that are writing: the sync begins when it is there; see ordflow.workers), starting, streaming, retrying (see problem and retry_at), misconfigured (a person must act: see problem), paused, gap (stopped: see problem), inactive (of this database: see ordflow.activate()).
The ladder of places in the WAL: written, decoded (read and put into the spool), sent, durable (at the target, in its own sense). lag_bytes: WAL behind durable, of all tables; lag_seconds: since the commit of the first change that is not durable, 0 when there is none. rows: since the server was started. problem tells what ails it.';

CREATE VIEW ordflow.sync_dead_letters AS
SELECT s.name, l.letter_id, l.state, l.key, l.item ->> 'op' AS op, l.item ->> 'target' AS target, l.item -> 'fields' AS fields,
       l.item ->> 'body' AS body, l.sqlstate, l.message, l.attempts, l.at
FROM ordflow.sync_letters l JOIN ordflow.syncs s USING (sync_id)
WHERE l.state <> 'waiting';
COMMENT ON VIEW ordflow.sync_dead_letters IS
'What could not be sent and why, with what queues behind it (state parked), until replay_dead_letters() has sent it. See ordflow.sync_letters.';

/* src/sync/dual_write.sql: the triggers of syncs of mode dual_write
 *
 * That of rows sets role and search_path itself where SQL is to run: it is called for each.
 */

CREATE FUNCTION ordflow.dual_write_changed() RETURNS trigger
    LANGUAGE C
    AS 'MODULE_PATHNAME', 'ordflow_dual_write_changed';
COMMENT ON FUNCTION ordflow.dual_write_changed() IS
'AFTER ROW trigger of the source of a dual_write sync: writes the row to the target as the sync''s owner. Arguments: sync, owner, target (where the trigger depends on a table, it is that), filter or an empty string, number of key columns, and for each column of the target, the key''s first, its name and expression. Made by ordflow.create_sync(). Raises what the target raises, 23502 for a key that is NULL, 54001 where syncs write in an endless circle.';

CREATE FUNCTION ordflow.dual_write_truncated() RETURNS trigger
    LANGUAGE C SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'ordflow_dual_write_truncated';
COMMENT ON FUNCTION ordflow.dual_write_truncated() IS
'AFTER TRUNCATE trigger of the source of a dual_write sync: empties the target. Argument: sync. Made by ordflow.create_sync().';

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
            WHEN 'gap' THEN format('SELECT ordflow.resume_sync(%L);   -- goes on with the present: mend the target by hand', s.name)
            ELSE format('SELECT * FROM ordflow.check_sync(%L);', s.name) END
FROM ordflow.sync_status s WHERE s.problem IS NOT NULL
UNION ALL
SELECT 'warning', 'sync', 'sync ' || l.name, format('%s changes could not be sent: %s', count(*), max(l.message)),
       format('SELECT ordflow.replay_dead_letters(%L);   -- once the cause is repaired; see ordflow.sync_dead_letters', l.name)
FROM ordflow.sync_dead_letters l WHERE l.state = 'dead' GROUP BY l.name
UNION ALL
SELECT 'warning', 'sync', 'ordflow.syncs', 'there are syncs, and no worker acts in this database: it is a copy, or deactivated',
       'SELECT ordflow.activate();'
WHERE NOT ordflow.is_active('sync') AND EXISTS (SELECT FROM ordflow.syncs WHERE mode = 'cdc')
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

COMMENT ON FUNCTION ordflow.grant_access(regrole, text) IS
'Grants a role one part: orders, stock, tasks, sync, read or admin; what that is stands in ordflow.parts. The caller must own the extension''s objects or hold their grant options. Raises 22023 for an unknown part, 22004, 42501.';

/* Privileges. */

REVOKE ALL ON ordflow.syncs, ordflow.sync_starts, ordflow.sync_deliveries, ordflow.sync_letters, ordflow.outbox,
    ordflow.sync_status, ordflow.sync_dead_letters FROM PUBLIC;
REVOKE ALL ON SEQUENCE ordflow.syncs_sync_id_seq, ordflow.sync_deliveries_delivery_id_seq,
    ordflow.sync_letters_letter_id_seq, ordflow.outbox_outbox_id_seq FROM PUBLIC;
REVOKE ALL ON FUNCTION ordflow.create_sync(text, regclass, name, text, text, jsonb), ordflow.drop_sync(text),
    ordflow.alter_sync(text, jsonb), ordflow.pause_sync(text), ordflow.resume_sync(text),
    ordflow.replay_dead_letters(text), ordflow.emit(name, text, text, jsonb),
    ordflow.wait_for_sync(text, pg_lsn, interval), ordflow.check_sync(text), ordflow.preview_sync(text, int),
    ordflow.delivery_figures(), ordflow.sync_figures(bigint), ordflow.dual_write_changed(),
    ordflow.dual_write_truncated(), ordflow.script_options(text[], oid) FROM PUBLIC;

INSERT INTO ordflow.parts (part, privilege, object) VALUES
    ('sync', 'EXECUTE', 'FUNCTION ordflow.create_sync(text, regclass, name, text, text, jsonb)'),
    ('sync', 'EXECUTE', 'FUNCTION ordflow.alter_sync(text, jsonb)'),
    ('sync', 'EXECUTE', 'FUNCTION ordflow.drop_sync(text)'),
    ('sync', 'EXECUTE', 'FUNCTION ordflow.pause_sync(text)'),
    ('sync', 'EXECUTE', 'FUNCTION ordflow.resume_sync(text)'),
    ('sync', 'EXECUTE', 'FUNCTION ordflow.replay_dead_letters(text)'),
    ('sync', 'EXECUTE', 'FUNCTION ordflow.check_sync(text)'),
    ('sync', 'EXECUTE', 'FUNCTION ordflow.preview_sync(text, integer)'),
    ('sync', 'EXECUTE', 'FUNCTION ordflow.wait_for_sync(text, pg_lsn, interval)'),
    ('sync', 'EXECUTE', 'FUNCTION ordflow.emit(name, text, text, jsonb)'),
    ('sync', 'USAGE', 'FOREIGN DATA WRAPPER ordflow_redis'),
    ('sync', 'USAGE', 'FOREIGN DATA WRAPPER ordflow_amqp'),
    ('sync', 'USAGE', 'FOREIGN DATA WRAPPER ordflow_script'),
    ('read', 'EXECUTE', 'FUNCTION ordflow.delivery_figures()'),
    ('read', 'EXECUTE', 'FUNCTION ordflow.sync_figures(bigint)'),
    ('read', 'SELECT', 'TABLE ordflow.syncs'),
    ('read', 'SELECT', 'TABLE ordflow.sync_starts'),
    ('read', 'SELECT', 'TABLE ordflow.sync_deliveries'),
    ('read', 'SELECT', 'TABLE ordflow.sync_letters'),
    ('read', 'SELECT', 'TABLE ordflow.outbox'),
    ('read', 'SELECT', 'TABLE ordflow.sync_status'),
    ('read', 'SELECT', 'TABLE ordflow.sync_dead_letters'),
    ('sync', 'USAGE', 'SCHEMA ordflow');

SELECT ordflow.grant_access(h.grantee::regrole, h.part)
FROM json_to_recordset(current_setting('update.holders')::json) AS h (part text, grantee oid);

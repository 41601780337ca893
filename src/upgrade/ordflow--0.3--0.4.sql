\echo Use "ALTER EXTENSION ordflow UPDATE TO '0.4'" to load this file. \quit

/*
 * src/upgrade/ordflow--0.3--0.4.sql: servers, timer drivers beside the worker, machines on any table
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

CREATE FUNCTION ordflow.redis_options(options text[], catalog oid)
RETURNS void LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_server_validator';
COMMENT ON FUNCTION ordflow.redis_options(text[], oid) IS
'Validator of the wrapper ordflow_redis: raises HV00D for an unknown option, 22023 for a bad value, 42501 for a file or an environment variable named by a role that is no member of pg_read_server_files.';

CREATE FUNCTION ordflow.amqp_options(options text[], catalog oid)
RETURNS void LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_server_validator';
COMMENT ON FUNCTION ordflow.amqp_options(text[], oid) IS
'Validator of the wrapper ordflow_amqp: raises HV00D for an unknown option, 22023 for a bad value, 42501 for a file or an environment variable named by a role that is no member of pg_read_server_files.';

CREATE FOREIGN DATA WRAPPER ordflow_redis NO HANDLER VALIDATOR ordflow.redis_options;
COMMENT ON FOREIGN DATA WRAPPER ordflow_redis IS
'Redis. Servers: host, port, database, prefix, tls, tls_ca, timeout (seconds, at most 60); user mappings: username and one of password, password_file, password_env.';

CREATE FOREIGN DATA WRAPPER ordflow_amqp NO HANDLER VALIDATOR ordflow.amqp_options;
COMMENT ON FOREIGN DATA WRAPPER ordflow_amqp IS
'RabbitMQ. Servers: host, port, vhost, prefix, heartbeat (seconds), timeout (seconds, at most 60), tls, tls_ca; user mappings: username and one of password, password_file, password_env.';

CREATE FUNCTION ordflow.modules()
RETURNS TABLE (module text, installed boolean, package text)
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_modules';
COMMENT ON FUNCTION ordflow.modules() IS
'The modules of this version, one for each wrapper ordflow_<module>: whether its file is there, and the Debian package to build it with, by make && make install.';

CREATE FUNCTION ordflow.server_options(server name)
RETURNS TABLE (option text, value text)
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_server_options';
COMMENT ON FUNCTION ordflow.server_options(name) IS
'What would be used by the caller for the server: its options, those of his user mapping, else of PUBLIC''s, and the defaults; a password is read from where it is and shown as asterisks. Raises OF004 for no such server, 42809 for one of another wrapper, 42501, OF007 where the module is not installed, OF011 where it is of another version, and what reading the password raises.';
COMMENT ON COLUMN ordflow.object_history.key IS 'The row''s key as text; of several columns a JSON array of their texts.';

/* Called for each row: they set role and search_path themselves where SQL is to run. */
CREATE OR REPLACE FUNCTION ordflow.machine_changed() RETURNS trigger
    LANGUAGE C
    AS 'MODULE_PATHNAME', 'ordflow_machine_changed';
COMMENT ON FUNCTION ordflow.machine_changed() IS
'AFTER ROW trigger of attached tables: legality, guards, history, effects. Arguments: machine, state column, key column, due column or an empty string, further key columns. Made by ordflow.attach(). Raises OF001, OF009, 23502, 0A000 where the table became a partition.';

CREATE OR REPLACE FUNCTION ordflow.machine_due() RETURNS trigger
    LANGUAGE C
    AS 'MODULE_PATHNAME', 'ordflow_machine_due';
COMMENT ON FUNCTION ordflow.machine_due() IS
'BEFORE ROW trigger of attached tables: sets the due column when the state changes, and sees rows move between partitions. Arguments as for ordflow.machine_changed(). Made by ordflow.attach(). Raises 0A000 where the table became a partition.';
COMMENT ON FUNCTION ordflow.attach(regclass, text, name, name, name) IS
'Puts a machine on a state column of the caller''s own table: from then on an INSERT in another than an initial state or an UPDATE of the state that is no legal transition raises OF001, a legal one runs guards and effects, writes ordflow.object_history and sets the due column (timestamptz; needed by machines with timeouts). The state column is of type text, varchar, char, smallint, integer, bigint, boolean, of an enum, or of a domain over one of these; states are named by the values'' text: ''20''. key_column: a unique column, by default the primary key, which may have several columns. Partitions are attached by their partitioned table. Raises OF001 where rows stand in unknown states (see attach_report()), 0A000 for kinds of table and column that are not supported, 23502 where rows have no key, 22023 also for states that the column cannot hold, 42501, 42703, 42710, 42804, 55000.';
COMMENT ON FUNCTION ordflow.fire(regclass, text, text, jsonb) IS
'Fires an event on a row of an attached table; returns the new state. key: as text; of several columns a JSON array of them. The caller needs SELECT on the key, state and due columns, UPDATE on the state column, and a row that his own policies show him. The row is changed as the table''s owner, or as the caller where policies bind him, in a security-restricted operation with search_path pg_catalog, pg_temp. args go to guards, effects and the history''s data, the key "reason" also to its reason. Raises OF001 where the event is not legal, OF004 for a table without a machine or an unknown key, OF009 where a guard refuses, 21000 where partitions hold the key twice, 27000 where a trigger of the table prevents the change, 22P02, 42501; at REPEATABLE READ 40001 where another transaction was first.';

CREATE FUNCTION ordflow.schedule_run_due(schedule text DEFAULT '* * * * *')
    RETURNS bigint
    LANGUAGE C SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'ordflow_schedule_run_due';
COMMENT ON FUNCTION ordflow.schedule_run_due(text) IS
'Has pg_cron call ordflow.run_due() by the schedule, as the caller, until nothing is due; returns the job''s id in cron.job. Called again it replaces the caller''s job. Raises OF007 where the extension pg_cron is not in this database, telling what to do instead, 22004, and what pg_cron says of the schedule and the role.';

CREATE FUNCTION ordflow.unschedule_run_due()
    RETURNS boolean
    LANGUAGE C SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'ordflow_unschedule_run_due';
COMMENT ON FUNCTION ordflow.unschedule_run_due() IS
'Takes the caller''s job of schedule_run_due() out of pg_cron; false where there is none. DROP EXTENSION ordflow takes out those of all roles. Raises OF007 where the extension pg_cron is not in this database.';

CREATE FUNCTION ordflow.timer_driver_figures(OUT driver text, OUT server text, OUT state text, OUT since timestamptz,
    OUT published bigint, OUT fired bigint, OUT lateness_p50 interval, OUT lateness_p99 interval, OUT lateness_max interval,
    OUT last_error text, OUT last_error_at timestamptz, OUT problem text, OUT hint text)
    RETURNS SETOF record
    LANGUAGE C VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'ordflow_timer_driver_figures';
COMMENT ON FUNCTION ordflow.timer_driver_figures() IS
'What the view ordflow.timer_drivers shows, as it stands in shared memory. Raises OF011.';

CREATE VIEW ordflow.timer_drivers AS
SELECT driver, server, state, since, published, fired, lateness_p50, lateness_p99, lateness_max, last_error, last_error_at,
       problem, hint
FROM ordflow.timer_driver_figures();
COMMENT ON VIEW ordflow.timer_drivers IS
'The drivers beside the worker that ordflow.timer_drivers of this session lists, a row for each. state: running; resting, no deadline is open; failing, see problem and hint (the worker fires what it misses, ordflow.timer_grace after the deadline, at once where worker is listed too); starting, away, no slot, failed as in ordflow.workers. Figures are of the process that runs now: published, how often a deadline was told to the server; fired, timeouts that it has fired, and how late.';

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

REVOKE ALL ON ordflow.timer_drivers FROM PUBLIC;
REVOKE ALL ON FUNCTION ordflow.redis_options(text[], oid), ordflow.amqp_options(text[], oid), ordflow.modules(),
    ordflow.server_options(name), ordflow.schedule_run_due(text), ordflow.unschedule_run_due(), ordflow.timer_driver_figures()
    FROM PUBLIC;

INSERT INTO ordflow.parts (part, privilege, object) VALUES
    ('read', 'EXECUTE', 'FUNCTION ordflow.timer_driver_figures()'),
    ('read', 'EXECUTE', 'FUNCTION ordflow.modules()'),
    ('read', 'SELECT', 'TABLE ordflow.timer_drivers'),
    ('admin', 'EXECUTE', 'FUNCTION ordflow.schedule_run_due(text)'),
    ('admin', 'EXECUTE', 'FUNCTION ordflow.unschedule_run_due()'),
    ('admin', 'EXECUTE', 'FUNCTION ordflow.server_options(name)');

SELECT ordflow.grant_access(h.grantee::regrole, h.part)
FROM json_to_recordset(current_setting('update.holders')::json) AS h (part text, grantee oid);

\echo Use "ALTER EXTENSION ordflow UPDATE TO '0.2'" to load this file. \quit

/*
 * src/upgrade/ordflow--0.1--0.2.sql: background workers
 *
 * Privileges are revoked object by object: GRANT and REVOKE in a script make the privileges of the
 * object, users' own too, those that pg_dump takes for granted and leaves out.
 */

/* The workers, and whether they may act. */

CREATE TABLE ordflow.activation (
    id        bigint GENERATED ALWAYS AS IDENTITY,
    part      text COLLATE "C" NOT NULL,
    database  oid NOT NULL,
    active    boolean NOT NULL,
    automatic boolean NOT NULL,
    at        timestamptz NOT NULL,
    actor     text NOT NULL,
    CONSTRAINT activation_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE ordflow.activation IS
'Whether background workers act in this database, by part. Rows that hold another database''s oid count for nothing, so a copy sleeps; never dumped, so a restored dump does too. Read it by ordflow.is_active(), write it by ordflow.activate() and ordflow.deactivate().';
COMMENT ON COLUMN ordflow.activation.part IS 'timer.';
COMMENT ON COLUMN ordflow.activation.database IS 'The oid of the database that this was said of.';
COMMENT ON COLUMN ordflow.activation.automatic IS
'True where the first thing created did it; such a row counts only where nobody has called activate() or deactivate().';

CREATE FUNCTION ordflow.activation_changed()
RETURNS trigger LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_activation_changed';
COMMENT ON FUNCTION ordflow.activation_changed() IS
'Trigger function: every session, and the workers, read ordflow.activation again.';

CREATE TRIGGER activation_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON ordflow.activation
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.activation_changed();
ALTER TABLE ordflow.activation ENABLE ALWAYS TRIGGER activation_changed;

CREATE FUNCTION ordflow.activate()
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_activate';
COMMENT ON FUNCTION ordflow.activate() IS
'Lets background workers act in this database, when this transaction has committed: a restored or copied database sleeps until somebody says so. Overdue timeouts fire at once. Raises OF008, OF011, 25006.';

CREATE FUNCTION ordflow.deactivate()
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_deactivate';
COMMENT ON FUNCTION ordflow.deactivate() IS
'Keeps background workers out of this database, when this transaction has committed, until ordflow.activate(). Deadlines stay exact; what tidies up behind them waits, or is ordflow.run_due()''s. Raises OF008, OF011, 25006.';

CREATE FUNCTION ordflow.is_active(part text)
RETURNS boolean LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_is_active';
COMMENT ON FUNCTION ordflow.is_active(text) IS
'Whether background workers do their part (timer) in this database. Raises 22023 for an unknown part, 22004.';

CREATE FUNCTION ordflow.worker_slots(OUT worker text, OUT database oid, OUT pid int, OUT state text, OUT since timestamptz,
    OUT next_at timestamptz, OUT problem text, OUT fix text)
RETURNS SETOF record LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_worker_slots';
COMMENT ON FUNCTION ordflow.worker_slots() IS 'What the view ordflow.workers shows, as it stands in shared memory.';

CREATE VIEW ordflow.workers AS
SELECT w.worker, d.datname AS database, w.pid, w.state, w.since, w.next_at, w.problem, w.fix
FROM ordflow.worker_slots() AS w LEFT JOIN pg_catalog.pg_database AS d ON d.oid = w.database
UNION ALL
SELECT 'coordinator', pg_catalog.current_database(), NULL, 'inactive', NULL, NULL,
       'no worker acts in this database: it is new, a copy, or deactivated', 'SELECT ordflow.activate();'
WHERE NOT ordflow.is_active('timer');
COMMENT ON VIEW ordflow.workers IS
'The background workers of the server: one launcher, and a coordinator for each database that has work; a database without work has none.
state: running, waiting (until next_at, or until a commit brings work), starting, away (a command such as DROP DATABASE keeps it out), no slot (max_worker_processes is used up), failed (started again soon), not running, off, inactive (of this database: see ordflow.activate()). problem and fix say what to do, where something is to be done.';

/* What the worker has done, and how late. */

CREATE FUNCTION ordflow.timer_figures(OUT state text, OUT next_deadline timestamptz, OUT due_now bigint, OUT parked bigint,
    OUT done bigint, OUT lateness_p50 interval, OUT lateness_p99 interval, OUT lateness_max interval, OUT last_error text,
    OUT last_error_at timestamptz, OUT since timestamptz)
    RETURNS record
    LANGUAGE C VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'ordflow_timer_figures';
COMMENT ON FUNCTION ordflow.timer_figures() IS
'What the view ordflow.timer_status shows: the deadlines from the tables, the rest from shared memory. Raises OF011.';

CREATE VIEW ordflow.timer_status AS
SELECT state, next_deadline, due_now, done, parked, lateness_p50, lateness_p99, lateness_max, last_error, last_error_at, since
FROM ordflow.timer_figures();
COMMENT ON VIEW ordflow.timer_status IS
'The timeouts of this database, one row. Deadlines are counted in the tables, whoever may see them; a table that is locked or cannot be read is left out. What the worker has fired, and how late, is of the time since the server''s start (since; without a worker NULL, and done 0).';
COMMENT ON COLUMN ordflow.timer_status.state IS
'active; inactive: this database is a copy, or deactivated, or nothing with a deadline has been created in it yet (see ordflow.activate()); off: no worker runs on this server (ordflow.workers is off, ordflow is not in shared_preload_libraries, or it is a standby).';
COMMENT ON COLUMN ordflow.timer_status.next_deadline IS 'The earliest deadline still to come, of orders, attached tables and holds; NULL for none.';
COMMENT ON COLUMN ordflow.timer_status.due_now IS
'Rows whose deadline has passed and that have not fired, those being fired or locked by others included, those that are parked until later not; at most 1,000,000 of each table are counted.';
COMMENT ON COLUMN ordflow.timer_status.done IS 'Timeouts that the worker has fired, and holds that it has released; not those of run_due() and other callers.';
COMMENT ON COLUMN ordflow.timer_status.parked IS 'Rows of ordflow.parked.';
COMMENT ON COLUMN ordflow.timer_status.lateness_p50 IS
'How long after the deadline the commit was through, for half of done; this and the next are at most an eighth too high.';
COMMENT ON COLUMN ordflow.timer_status.lateness_p99 IS 'The same for 99 of 100.';
COMMENT ON COLUMN ordflow.timer_status.lateness_max IS 'The same for all.';
COMMENT ON COLUMN ordflow.timer_status.last_error IS
'SQLSTATE and message of the last failure that the worker met with, of a row that it parked, of a table or its own.';
COMMENT ON COLUMN ordflow.timer_status.since IS 'The beginning of what done and lateness count.';
COMMENT ON TABLE ordflow.parked IS
'Objects whose timeout failed: each is tried again at retry_at, after 1 second, doubling to 1 hour, and leaves this table when it succeeds or is not due any more. Setting retry_at to now(), or deleting the row, has it tried at once.';
COMMENT ON FUNCTION ordflow.run_due(timestamptz, int) IS
'Fires the timeouts of orders and attached tables and releases the holds that are due at as_of, at most max_rows (1 to 100000); returns how many fired. For any scheduler beside or instead of the worker: call it until it returns 0. An as_of later than the clock counts as the clock, but for superusers. Rows that are locked are left for the next call; an object that fails is parked (ordflow.parked) and holds up no other. Tables of users are changed as their owner, in a security-restricted operation. Raises 22004, 22023, 54000, 25006, 40001, 40P01.';

/* A deadline that is moved wakes the worker, and so does what is parked. */

COMMENT ON FUNCTION ordflow.order_deadline() IS
'Trigger function: due_at of an unpaid order follows expires_at; a deadline that was moved wakes the worker.';
DROP TRIGGER order_deadline ON ordflow.orders;
CREATE TRIGGER order_deadline BEFORE UPDATE ON ordflow.orders
    FOR EACH ROW WHEN (OLD.state = NEW.state
        AND (OLD.due_at IS DISTINCT FROM NEW.due_at OR OLD.expires_at IS DISTINCT FROM NEW.expires_at))
    EXECUTE FUNCTION ordflow.order_deadline();

CREATE FUNCTION ordflow.hold_deadline()
RETURNS trigger LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_hold_deadline';
COMMENT ON FUNCTION ordflow.hold_deadline() IS 'Trigger function: a hold whose expires_at was moved wakes the worker.';

CREATE TRIGGER hold_deadline BEFORE UPDATE ON ordflow.holds
    FOR EACH ROW WHEN (NEW.state = 'held' AND OLD.expires_at IS DISTINCT FROM NEW.expires_at)
    EXECUTE FUNCTION ordflow.hold_deadline();

/* What is parked is parked by machine, under a key of any length.  It comes again at once. */

DELETE FROM ordflow.parked;
ALTER TABLE ordflow.parked
    DROP CONSTRAINT parked_pkey,
    ADD COLUMN state_column text COLLATE "C" DEFAULT '' NOT NULL,
    ADD COLUMN key_hash bytea GENERATED ALWAYS AS (sha256(replace(key, E'\\', E'\\\\')::bytea)) STORED,
    ADD CONSTRAINT parked_pkey PRIMARY KEY (target, state_column, key_hash, event);
COMMENT ON COLUMN ordflow.parked.error IS 'The message of the last failure, its first 2000 bytes.';
COMMENT ON COLUMN ordflow.parked.state_column IS 'The column that the timeout would change: a table may have two machines. Empty for a hold.';
COMMENT ON COLUMN ordflow.parked.key_hash IS 'SHA-256 of key, which may be too long for an index.';

CREATE FUNCTION ordflow.parked_changed()
RETURNS trigger LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_parked_changed';
COMMENT ON FUNCTION ordflow.parked_changed() IS 'Trigger function: the worker looks at what is parked again.';

CREATE TRIGGER parked_changed AFTER UPDATE OR DELETE OR TRUNCATE ON ordflow.parked
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.parked_changed();

/* Attached tables: states that the column's own collation takes for equal are two states. */

DO $$
DECLARE
    t record;
BEGIN
    FOR t IN
        SELECT g.tgname, g.tgrelid::regclass AS name, g.tgenabled, a.attname,
               substring(pg_get_triggerdef(g.oid) FROM 'EXECUTE FUNCTION ordflow\.machine_changed\(.*') AS action
        FROM pg_trigger g
             JOIN pg_class c ON c.oid = g.tgrelid AND c.relnamespace <> 'ordflow'::regnamespace
                              AND c.relpersistence <> 't'
             -- the column of its WHEN
             JOIN pg_depend d ON d.classid = 'pg_trigger'::regclass AND d.objid = g.oid
                             AND d.refclassid = 'pg_class'::regclass AND d.refobjid = g.tgrelid
             JOIN pg_attribute a ON a.attrelid = g.tgrelid AND a.attnum = d.refobjsubid AND a.attnum > 0
        WHERE g.tgfoid = 'ordflow.machine_changed()'::regprocedure
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', t.tgname, t.name);
        EXECUTE format('CREATE TRIGGER %I AFTER UPDATE ON %s FOR EACH ROW '
                       'WHEN (OLD.%I COLLATE "C" IS DISTINCT FROM NEW.%3$I COLLATE "C") %s',
                       t.tgname, t.name, t.attname, t.action);
        IF t.tgenabled <> 'O' THEN
            EXECUTE format('ALTER TABLE %s %s TRIGGER %I', t.name,
                           CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END,
                           t.tgname);
        END IF;
    END LOOP;
END $$;

/* doctor() knows the workers; replaced, as what was granted on it stays. */

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
UNION ALL
SELECT 'error', 'machine', i.inhrelid::regclass::text,
       'a table with a machine became a partition: it cannot be written, and rows that an UPDATE of the parent moves are not checked',
       format('ALTER TABLE %s DETACH PARTITION %s;   -- or SELECT ordflow.detach(%L);', i.inhparent::regclass, i.inhrelid::regclass,
              i.inhrelid::regclass)
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE c.relispartition AND EXISTS (
    SELECT FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
    WHERE t.tgrelid = c.oid AND f.proname = 'machine_changed' AND f.pronamespace = 'ordflow'::regnamespace)
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

/* What these functions say of themselves. */

COMMENT ON FUNCTION ordflow.machine_changed() IS
'AFTER ROW trigger of attached tables: legality, guards, history, effects. Arguments: machine, state column, key column, due column or an empty string. Made by ordflow.attach(). Raises OF001, OF009, 23502, 0A000 where the table became a partition.';
COMMENT ON FUNCTION ordflow.machine_due() IS
'BEFORE ROW trigger of attached tables: sets the due column when the state changes. Arguments as for ordflow.machine_changed(). Made by ordflow.attach(). Raises 0A000 where the table became a partition.';
COMMENT ON FUNCTION ordflow.attach(regclass, text, name, name, name) IS
'Puts a machine on a state column (text or varchar) of the caller''s own table: from then on an INSERT in another than an initial state or an UPDATE of the state that is no legal transition raises OF001, a legal one runs guards and effects, writes ordflow.object_history and sets the due column (timestamptz; needed by machines with timeouts). key_column: a unique column, by default the primary key. Raises OF001 where rows stand in unknown states (see attach_report()), 0A000 for kinds of table and column that are not supported, 23502 where rows have no key, 22023, 42501, 42703, 42710, 42804, 55000.';

/* Privileges. */

REVOKE ALL ON ordflow.activation, ordflow.workers, ordflow.timer_status FROM PUBLIC;
REVOKE ALL ON SEQUENCE ordflow.activation_id_seq FROM PUBLIC;
REVOKE ALL ON FUNCTION ordflow.activation_changed(), ordflow.activate(), ordflow.deactivate(), ordflow.is_active(text),
    ordflow.worker_slots(), ordflow.timer_figures(), ordflow.parked_changed(), ordflow.hold_deadline() FROM PUBLIC;

-- whoever holds all of a part will hold all that it has now
SELECT set_config('update.holders', coalesce(json_agg(h), '[]')::text, true)
FROM (
    SELECT p.part, a.grantee
    FROM ordflow.parts p,
         aclexplode(CASE split_part(p.object, ' ', 1)
                    WHEN 'SCHEMA' THEN (SELECT nspacl FROM pg_namespace WHERE nspname = split_part(p.object, ' ', 2))
                    WHEN 'FUNCTION' THEN (SELECT proacl FROM pg_proc WHERE oid = substr(p.object, 10)::regprocedure)
                    ELSE (SELECT relacl FROM pg_class WHERE oid = split_part(p.object, ' ', 2)::regclass) END) AS a
    WHERE p.part IN ('read', 'admin') AND a.privilege_type = p.privilege AND a.grantee <> 0
      AND a.grantee <> (SELECT extowner FROM pg_extension WHERE extname = 'ordflow')
    GROUP BY p.part, a.grantee
    HAVING count(DISTINCT p.object) = (SELECT count(*) FROM ordflow.parts o WHERE o.part = p.part)
) AS h;

INSERT INTO ordflow.parts (part, privilege, object) VALUES
    ('read', 'EXECUTE', 'FUNCTION ordflow.is_active(text)'),
    ('read', 'EXECUTE', 'FUNCTION ordflow.worker_slots()'),
    ('read', 'EXECUTE', 'FUNCTION ordflow.timer_figures()'),
    ('read', 'SELECT', 'TABLE ordflow.activation'),
    ('read', 'SELECT', 'TABLE ordflow.workers'),
    ('read', 'SELECT', 'TABLE ordflow.timer_status'),
    ('admin', 'EXECUTE', 'FUNCTION ordflow.activate()'),
    ('admin', 'EXECUTE', 'FUNCTION ordflow.deactivate()');

SELECT ordflow.grant_access(h.grantee::regrole, h.part)
FROM json_to_recordset(current_setting('update.holders')::json) AS h (part text, grantee oid);

/*
 * A fresh database is activated by the first thing that wants a deadline. This one may have some
 * already, and it is the one in use: their time has come.
 */
INSERT INTO ordflow.activation (part, database, active, automatic, at, actor)
SELECT 'timer', d.oid, true, true, clock_timestamp(), coalesce(nullif(current_setting('ordflow.actor', true), ''), session_user)
FROM pg_database d
WHERE d.datname = current_database()
  AND (EXISTS (SELECT FROM ordflow.orders) OR EXISTS (SELECT FROM ordflow.holds WHERE expires_at IS NOT NULL)
       OR EXISTS (SELECT FROM pg_trigger t WHERE t.tgfoid = 'ordflow.machine_due()'::regprocedure
                  AND t.tgrelid <> 'ordflow.orders'::regclass));

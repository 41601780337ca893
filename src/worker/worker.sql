/* src/worker/worker.sql: background workers, and whether they may act in this database */

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
COMMENT ON COLUMN ordflow.activation.part IS 'timer, fold, task or sync.';
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
'Whether background workers do their part (timer, fold, task, sync) in this database. Raises 22023 for an unknown part, 22004.';

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
WHERE NOT (ordflow.is_active('timer') OR ordflow.is_active('fold') OR ordflow.is_active('task')
           OR ordflow.is_active('sync'));
COMMENT ON VIEW ordflow.workers IS
'The background workers of the server: one launcher, and a coordinator for each database that has work; a database without work has none; drivers of timers, pools that run tasks, and of syncs a decoder, deliveries and pullers.
state: running, waiting (until next_at, or until a commit brings work), starting, away (a command such as DROP DATABASE keeps it out), no slot (max_worker_processes is used up), failed (started again soon), not running, off, inactive (of this database: see ordflow.activate()). problem and fix say what to do, where something is to be done.';

/* src/timer/timer.sql: objects whose state is left by itself */

CREATE TABLE ordflow.parked (
    target   text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    event    text COLLATE "C" NOT NULL,
    attempts int NOT NULL,
    retry_at timestamptz NOT NULL,
    sqlstate text NOT NULL,
    error    text NOT NULL,
    state_column text COLLATE "C" DEFAULT '' NOT NULL,
    key_hash bytea GENERATED ALWAYS AS (sha256(replace(key, E'\\', E'\\\\')::bytea)) STORED,
    CONSTRAINT parked_pkey PRIMARY KEY (target, state_column, key_hash, event)
);
COMMENT ON TABLE ordflow.parked IS
'Objects whose timeout failed: each is tried again at retry_at, after 1 second, doubling to 1 hour, and leaves this table when it succeeds or is not due any more. Setting retry_at to now(), or deleting the row, has it tried at once.';
COMMENT ON COLUMN ordflow.parked.target IS 'The table''s qualified name.';
COMMENT ON COLUMN ordflow.parked.key IS 'The row''s key as text.';
COMMENT ON COLUMN ordflow.parked.event IS
'The event that failed; "timeout" where the state has none that fires by itself.';
COMMENT ON COLUMN ordflow.parked.sqlstate IS 'The SQLSTATE of the last failure.';
COMMENT ON COLUMN ordflow.parked.error IS 'The message of the last failure, its first 2000 bytes.';
COMMENT ON COLUMN ordflow.parked.state_column IS 'The column that the timeout would change: a table may have two machines. Empty for a hold.';
COMMENT ON COLUMN ordflow.parked.key_hash IS 'SHA-256 of key, which may be too long for an index.';

CREATE FUNCTION ordflow.parked_changed()
RETURNS trigger LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_parked_changed';
COMMENT ON FUNCTION ordflow.parked_changed() IS 'Trigger function: the worker looks at what is parked again.';

CREATE TRIGGER parked_changed AFTER UPDATE OR DELETE OR TRUNCATE ON ordflow.parked
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.parked_changed();

SELECT pg_catalog.pg_extension_config_dump('ordflow.parked', '');

CREATE FUNCTION ordflow.run_due(as_of timestamptz DEFAULT clock_timestamp(), max_rows int DEFAULT 1000)
    RETURNS int
    LANGUAGE C SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'ordflow_run_due';
COMMENT ON FUNCTION ordflow.run_due(timestamptz, int) IS
'Fires the timeouts of orders and attached tables and releases the holds that are due at as_of, at most max_rows (1 to 100000); returns how many fired. For any scheduler beside or instead of the worker: call it until it returns 0. An as_of later than the clock counts as the clock, but for superusers. Rows that are locked are left for the next call; an object that fails is parked (ordflow.parked) and holds up no other. Tables of users are changed as their owner, in a security-restricted operation. Raises 22004, 22023, 54000, 25006, 40001, 40P01.';

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

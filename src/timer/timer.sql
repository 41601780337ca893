/* src/timer/timer.sql: objects whose state is left by itself */

CREATE TABLE ordflow.parked (
    target   text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    event    text COLLATE "C" NOT NULL,
    attempts int NOT NULL,
    retry_at timestamptz NOT NULL,
    sqlstate text NOT NULL,
    error    text NOT NULL,
    CONSTRAINT parked_pkey PRIMARY KEY (target, key, event)
);
COMMENT ON TABLE ordflow.parked IS
'Objects whose timeout failed: each is tried again at retry_at, after 1 second, doubling to 1 hour, and leaves this table when it succeeds or is not due any more.';
COMMENT ON COLUMN ordflow.parked.target IS 'The table''s qualified name.';
COMMENT ON COLUMN ordflow.parked.key IS 'The row''s key as text.';
COMMENT ON COLUMN ordflow.parked.event IS
'The event that failed; "timeout" where the state has none that fires by itself.';
COMMENT ON COLUMN ordflow.parked.sqlstate IS 'The SQLSTATE of the last failure.';

SELECT pg_catalog.pg_extension_config_dump('ordflow.parked', '');

CREATE FUNCTION ordflow.run_due(as_of timestamptz DEFAULT clock_timestamp(), max_rows int DEFAULT 1000)
    RETURNS int
    LANGUAGE C SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'ordflow_run_due';
COMMENT ON FUNCTION ordflow.run_due(timestamptz, int) IS
'Fires the timeouts of orders and attached tables and releases the holds that are due at as_of, at most max_rows (1 to 100000); returns how many fired. For any scheduler: call it until it returns 0. An as_of later than the clock counts as the clock, but for superusers. Rows that are locked are left for the next call; an object that fails is parked (ordflow.parked) and holds up no other. Tables of users are changed as their owner, in a security-restricted operation. Raises 22004, 22023, 54000, 25006, 40001, 40P01.';

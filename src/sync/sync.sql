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
COMMENT ON COLUMN ordflow.syncs.source IS 'The table or view, as schema.table; of a partitioned one all its partitions. One that is renamed is followed: see sync_starts.';
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
COMMENT ON COLUMN ordflow.sync_letters.item IS 'What is to be sent: op, target, key, and fields or body; to: the position of the target behind it, while it is sent again.';
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
'Keeps a target in step with a table. server: of CREATE SERVER, or NULL for a table of this database; target: its name there, in which {column} stands for the row''s text and {{ for a brace. mode: cdc (changes from the WAL, sent after commit), scheduled (new and changed rows by a cursor column), full (all rows; what the source has no more is removed), both of these pulled by a schedule or run_sync(), or dual_write (a table, written in the same transaction).
options: columns (a list of names, or an object of target column: SQL expression over the source''s columns), filter (SQL), key (a list of target columns; default the primary key), format (json, debezium, canal, maxwell; of streams), on_error (park, skip, stop), on_truncate (apply, ignore, stop), batch_rows (1 to 1000), rate (rows a second), copy (false: begins with the present; else with the rows that are there, see ordflow.sync_progress); of scheduled cursor (a column) and overlap (an interval or number); of scheduled and full schedule (of cron, or ''10 seconds'') and time_zone; of full remove (false: nothing is); and those of the target. The caller must own the source or be a member of its owner''s role, or have SELECT on it; it runs as the caller. Mode cdc blocks writers of the source until commit.
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

CREATE FUNCTION ordflow.resync(name text, filter text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_resync';
COMMENT ON FUNCTION ordflow.resync(text, text) IS
'Has the rows of the source sent again, those alone that filter (SQL over the source''s columns) lets pass, while the stream goes on: none of them goes back to what it was. What is at the target and not in the source stays: see repair_sync(). Returns at once: see ordflow.sync_progress. Of a stream each row is one more message. Raises 0A000 for mode dual_write, 42501, 42601, 42703 and 42804 for a bad filter, 55006 while a copy of the sync is going on, OF004.';

CREATE FUNCTION ordflow.replay_dead_letters(name text)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_replay_dead_letters';
COMMENT ON FUNCTION ordflow.replay_dead_letters(text) IS
'Has the dead letters of the sync, and what queues behind them, sent again in order; returns how many there are. What is refused again is a dead letter again. Raises OF004, 42501.';

CREATE FUNCTION ordflow.run_sync(name text)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_run_sync';
COMMENT ON FUNCTION ordflow.run_sync(text) IS
'Pulls a sync of mode scheduled, or copies one of mode full, now; returns how many rows were sent when they are durable at the target. What committed before this transaction began is among them, unless an older one that is still open holds it back. To be called by any scheduler; waits for as long as it takes (see statement_timeout), and when it is cancelled the pull goes on. Raises 0A000 for other modes, 25001 in a transaction that has written, 55000 where the sync is paused or no worker acts here, OF004, OF007 when it failed: it is tried again by itself, 42501.';

CREATE FUNCTION ordflow.emit(server name, topic text, key text, payload jsonb)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_emit';
COMMENT ON FUNCTION ordflow.emit(name, text, text, jsonb) IS
'Sends a message to a topic of the server (of Redis a stream) when this transaction has committed, exactly once, with the user mapping of the server''s owner, else of PUBLIC. key may be NULL. The caller needs USAGE on the server. Raises 22004, 22001 for a topic or key above 255 bytes, 54000 for a payload above 16 MB, 42501, 55000 where wal_level is not logical, OF004, OF007, OF008, OF011.';

CREATE FUNCTION ordflow.wait_for_sync(name text, lsn pg_lsn DEFAULT pg_catalog.pg_current_wal_insert_lsn(), timeout interval DEFAULT '5 s')
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_wait_for_sync';
COMMENT ON FUNCTION ordflow.wait_for_sync(text, pg_lsn, interval) IS
'Waits until all that committed before that place in the WAL is durable at the target: true, or false when time is up (at most 60 s). Holds the statement''s snapshot meanwhile. Raises 0A000 for the modes scheduled and full, 25001 in a transaction that has written, OF004, 22023, 22004, 42501.';

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

CREATE VIEW ordflow.sync_dead_letters AS
SELECT s.name, l.letter_id, l.state, l.key, l.item ->> 'op' AS op, l.item ->> 'target' AS target, l.item -> 'fields' AS fields,
       l.item ->> 'body' AS body, l.sqlstate, l.message, l.attempts, l.at
FROM ordflow.sync_letters l JOIN ordflow.syncs s USING (sync_id)
WHERE l.state <> 'waiting';
COMMENT ON VIEW ordflow.sync_dead_letters IS
'What could not be sent and why, with what queues behind it (state parked), until replay_dead_letters() has sent it. See ordflow.sync_letters.';

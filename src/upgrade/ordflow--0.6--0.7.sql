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

ALTER TABLE ordflow.sync_deliveries ADD COLUMN spooled pg_lsn;
COMMENT ON COLUMN ordflow.sync_deliveries.spooled IS 'The commit up to which WAL was let go though it was not delivered, as it is in the spool: one that does not reach so far has lost something.';

CREATE TABLE ordflow.sync_copies (
    sync_id     bigint NOT NULL,
    phase       text COLLATE "C" NOT NULL DEFAULT 'waiting',
    is_fresh    boolean NOT NULL,
    filter      text,
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

COMMENT ON FUNCTION ordflow.create_sync(text, regclass, name, text, text, jsonb) IS
'Keeps a target in step with a table. server: of CREATE SERVER, or NULL for a table of this database; target: its name there, in which {column} stands for the row''s text and {{ for a brace. mode: cdc (changes from the WAL, sent after commit) or dual_write (a table, written in the same transaction).
options: columns (a list of names, or an object of target column: SQL expression over the source''s columns), filter (SQL), key (a list of target columns; default the primary key), format (json, debezium, canal, maxwell; of streams), on_error (park, skip, stop), on_truncate (apply, ignore, stop), batch_rows (1 to 1000), rate (rows a second), copy (false: begins with the present; else with the rows that are there, see ordflow.sync_progress), and those of the target. The caller must own the source or be a member of its owner''s role, or have SELECT on it; it runs as the caller. Blocks writers of the source until commit.
Raises 0A000, 22023 (options, with the valid names in the hint), 42501, 42703 for an unknown column, 42710 where the name is taken, 42P16 for a source without a key where one is needed, 55000 where wal_level or slots do not suffice, OF004, OF007, OF008, OF011.';

CREATE FUNCTION ordflow.resync(name text, filter text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_resync';

COMMENT ON FUNCTION ordflow.resync(text, text) IS
'Has the rows of the source sent again, those alone that filter (SQL over the source''s columns) lets pass, while the stream goes on: none of them goes back to what it was. What is at the target and not in the source stays: see repair_sync(). Returns at once: see ordflow.sync_progress. Of a stream each row is one more message. Raises 0A000 for mode dual_write, 22023 for a bad filter, 42501, 55006 while a copy of the sync is going on, OF004.';

CREATE OR REPLACE VIEW ordflow.sync_status AS
SELECT s.name, s.source, s.server, s.target, s.mode, s.role,
       CASE WHEN NOT ordflow.is_active('sync') AND s.mode = 'cdc' THEN 'inactive'
            WHEN s.mode <> 'cdc' THEN 'streaming'
            WHEN s.paused THEN 'paused'
            WHEN d.stopped THEN 'gap'
            WHEN f.state = 'streaming' AND c.phase IS NOT NULL THEN 'copying'
            ELSE coalesce(f.state, 'creating') END AS state,
       CASE WHEN s.mode = 'cdc' AND NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn() END AS written,
       f.decoded, f.sent, f.durable,
       CASE WHEN f.durable IS NOT NULL AND NOT pg_catalog.pg_is_in_recovery()
            THEN greatest(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), f.durable), 0)::bigint END AS lag_bytes,
       f.lag_seconds, g.rows, f.errors, l.dead AS dead_letters, l.waiting, f.retry_at, coalesce(s.problem, d.problem, f.problem) AS problem
FROM ordflow.syncs s
LEFT JOIN ordflow.sync_deliveries d ON d.server IS NOT DISTINCT FROM s.server AND d.role = s.role AND s.mode = 'cdc'
LEFT JOIN ordflow.delivery_figures() f ON f.delivery_id = d.delivery_id
LEFT JOIN ordflow.sync_copies c ON c.sync_id = s.sync_id AND c.phase <> 'done'
CROSS JOIN LATERAL ordflow.sync_figures(s.sync_id) g
CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE l.state IN ('dead', 'parked')) AS dead,
                           count(*) FILTER (WHERE l.state IN ('waiting', 'replay')) AS waiting
                    FROM ordflow.sync_letters l WHERE l.sync_id = s.sync_id) l;

COMMENT ON VIEW ordflow.sync_status IS
'How each sync stands. state: creating (the slot, which waits for transactions that are writing: the sync begins when it is there; see ordflow.workers), starting, copying (the rows that are there, beside the stream: see ordflow.sync_progress), streaming, retrying (see problem and retry_at), misconfigured (a person must act: see problem), paused, gap (stopped: see problem), inactive (of this database: see ordflow.activate()).
The ladder of places in the WAL: written, decoded (read and put into the spool), sent, durable (at the target, in its own sense). lag_bytes: WAL behind durable, of all tables; lag_seconds: since the commit of the first change that is not durable, 0 when there is none. rows: since the server was started. problem tells what ails it.';

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

/* Privileges. */

REVOKE ALL ON ordflow.sync_copies, ordflow.sync_copy_places, ordflow.sync_progress FROM PUBLIC;
REVOKE ALL ON FUNCTION ordflow.resync(text, text) FROM PUBLIC;

INSERT INTO ordflow.parts (part, privilege, object) VALUES
    ('sync', 'EXECUTE', 'FUNCTION ordflow.resync(text, text)'),
    ('read', 'SELECT', 'TABLE ordflow.sync_copies'),
    ('read', 'SELECT', 'TABLE ordflow.sync_copy_places'),
    ('read', 'SELECT', 'TABLE ordflow.sync_progress');

SELECT ordflow.grant_access(h.grantee::regrole, h.part)
FROM json_to_recordset(current_setting('update.holders')::json) AS h (part text, grantee oid);

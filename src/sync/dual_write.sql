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

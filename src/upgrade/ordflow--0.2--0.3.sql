\echo Use "ALTER EXTENSION ordflow UPDATE TO '0.3'" to load this file. \quit

/*
 * src/upgrade/ordflow--0.2--0.3.sql: stock in counters, and the ledger in a ring of partitions
 *
 * The movements stay what they are: those of segment 1, which is the current one and not folded.
 * The worker adds them to the balances when the update has committed.
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

/* The counters' gate. */

CREATE TABLE ordflow.counter_gate ();
COMMENT ON TABLE ordflow.counter_gate IS
'Always empty; its lock is the gate of the counters in shared memory. Whoever sells holds it ROW EXCLUSIVE, whoever writes the tables behind the counters directly SHARE ROW EXCLUSIVE.';

CREATE FUNCTION ordflow.counter_gate()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_counter_gate';
COMMENT ON FUNCTION ordflow.counter_gate() IS
'Trigger of the tables whose rows the counters in shared memory stand for: a write that does not come from ordflow''s own functions waits until all transactions that sell have ended, keeps new ones waiting to its own end, and lets all counters of the database be loaded anew.';

CREATE FUNCTION ordflow.open_reservations()
RETURNS TABLE (pid int, stock_id bigint, quantity bigint, since timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_open_reservations';
COMMENT ON FUNCTION ordflow.open_reservations() IS
'What other transactions that are open now have taken from stock: the process, the stock row, the units, and when the transaction began. Of one transaction it lists 64 stock rows at most.';

CREATE FUNCTION ordflow.counter_differences()
RETURNS TABLE (kind text, id bigint, counter bigint, rows bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_counter_differences';
COMMENT ON FUNCTION ordflow.counter_differences() IS
'Counters in shared memory, of stock rows and coupons, that differ from what the rows make, which can only be after a write that passed by the trigger counter_gate. Counters in use by an open transaction are left out.';

/*
 * The ledger.  Its key of partitions cannot be altered, so that the table is made anew around
 * the partition that has the rows.  What others have put on it is put on the new one: columns, indexes,
 * privileges, triggers, publications.  A view of theirs has to be dropped before, and says so.
 */

-- also those who may read the view reservations, which calls a new function
SELECT set_config('update.privileges', coalesce(json_agg(p), '[]')::text, true)
FROM (
    SELECT a.grantee, a.privilege_type AS privilege, 'TABLE ordflow.stock_movements' AS object
    FROM pg_class c, aclexplode(c.relacl) AS a
    WHERE c.oid = 'ordflow.stock_movements'::regclass AND a.grantee NOT IN (0, c.relowner)
    UNION ALL
    SELECT a.grantee, format('%s (%I)', a.privilege_type, t.attname), 'TABLE ordflow.stock_movements'
    FROM pg_attribute t, aclexplode(t.attacl) AS a
    WHERE t.attrelid = 'ordflow.stock_movements'::regclass AND a.grantee <> 0
    UNION ALL
    SELECT a.grantee, 'EXECUTE', 'FUNCTION ordflow.open_reservations()'
    FROM pg_class c, aclexplode(c.relacl) AS a
    WHERE c.oid = 'ordflow.reservations'::regclass AND a.grantee NOT IN (0, c.relowner) AND a.privilege_type = 'SELECT'
) AS p;

SELECT set_config('update.commands', coalesce(string_agg(c.command, E';\n'), 'SELECT'), true)
FROM (
    SELECT pg_get_triggerdef(t.oid) || format(E';\nALTER TABLE ordflow.stock_movements %s TRIGGER %I',
           CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END,
           t.tgname) AS command
    FROM pg_trigger t WHERE t.tgrelid = 'ordflow.stock_movements'::regclass AND NOT t.tgisinternal
    UNION ALL
    SELECT replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = 'ordflow.stock_movements'::regclass
      AND c.relname NOT IN ('stock_movements_stock_id', 'stock_movements_reference', 'stock_movements_at')
    UNION ALL
    SELECT format('ALTER PUBLICATION %I ADD TABLE ordflow.stock_movements %s %s', p.pubname,
                  (SELECT '(' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')' FROM pg_attribute a
                   WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)),
                  'WHERE (' || pg_get_expr(r.prqual, r.prrelid) || ')')
    FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = 'ordflow.stock_movements'::regclass
) AS c;

SELECT set_config('update.movement_id', format('%s %s', last_value, is_called), true) FROM ordflow.stock_movements_movement_id_seq;

-- until it gets its new definition below
CREATE OR REPLACE VIEW ordflow.stock_levels AS SELECT sku, location, on_hand, reserved, on_hand - reserved AS available FROM ordflow.stock;

ALTER TABLE ordflow.stock_movements DETACH PARTITION ordflow.stock_movements_1;
DROP INDEX ordflow.stock_movements_1_stock_id_idx;
ALTER TABLE ordflow.stock_movements_1 ALTER COLUMN segment TYPE bigint;
-- without these, the list of what is dumped would keep them
ALTER EXTENSION ordflow DROP SEQUENCE ordflow.stock_movements_movement_id_seq;
ALTER EXTENSION ordflow DROP TABLE ordflow.stock_movements;
DROP TABLE ordflow.stock_movements;

CREATE TABLE ordflow.stock_movements (LIKE ordflow.stock_movements_1 INCLUDING ALL EXCLUDING INDEXES)
    PARTITION BY LIST (((segment >> 20) & 7));
ALTER TABLE ordflow.stock_movements ALTER COLUMN movement_id ADD GENERATED BY DEFAULT AS IDENTITY;

ALTER TABLE ordflow.stock_movements ATTACH PARTITION ordflow.stock_movements_1 FOR VALUES IN (0);
CREATE TABLE ordflow.stock_movements_2 PARTITION OF ordflow.stock_movements FOR VALUES IN (1);
CREATE TABLE ordflow.stock_movements_3 PARTITION OF ordflow.stock_movements FOR VALUES IN (2);
CREATE TABLE ordflow.stock_movements_4 PARTITION OF ordflow.stock_movements FOR VALUES IN (3);
CREATE TABLE ordflow.stock_movements_5 PARTITION OF ordflow.stock_movements FOR VALUES IN (4);
CREATE TABLE ordflow.stock_movements_6 PARTITION OF ordflow.stock_movements FOR VALUES IN (5);
CREATE TABLE ordflow.stock_movements_7 PARTITION OF ordflow.stock_movements FOR VALUES IN (6);
CREATE TABLE ordflow.stock_movements_8 PARTITION OF ordflow.stock_movements FOR VALUES IN (7);
-- its name on a partition, stock_movements_1_segment_stock_id_idx, is looked up by the library
CREATE INDEX stock_movements_segment_stock_id_idx ON ordflow.stock_movements (segment, stock_id);
-- for audit(), next to nothing for the movements of orders
CREATE INDEX stock_movements_reference ON ordflow.stock_movements (reference)
    WHERE order_id IS NULL AND reserved <> 0;
CREATE INDEX stock_movements_at ON ordflow.stock_movements USING brin (at);
COMMENT ON TABLE ordflow.stock_movements IS
'The ledger: one row a change of a stock row, inserted and never updated. The balances of ordflow.stock and the movements of the segments that are not folded make the truth. What is folded is history, kept as long as ordflow.movement_retention says. The partitions are a ring, taken in turn.';
COMMENT ON TABLE ordflow.stock_movements_1 IS 'Movements of the segments with (segment >> 20) & 7 = 0.';
COMMENT ON TABLE ordflow.stock_movements_2 IS 'Movements of the segments with (segment >> 20) & 7 = 1.';
COMMENT ON TABLE ordflow.stock_movements_3 IS 'Movements of the segments with (segment >> 20) & 7 = 2.';
COMMENT ON TABLE ordflow.stock_movements_4 IS 'Movements of the segments with (segment >> 20) & 7 = 3.';
COMMENT ON TABLE ordflow.stock_movements_5 IS 'Movements of the segments with (segment >> 20) & 7 = 4.';
COMMENT ON TABLE ordflow.stock_movements_6 IS 'Movements of the segments with (segment >> 20) & 7 = 5.';
COMMENT ON TABLE ordflow.stock_movements_7 IS 'Movements of the segments with (segment >> 20) & 7 = 6.';
COMMENT ON TABLE ordflow.stock_movements_8 IS 'Movements of the segments with (segment >> 20) & 7 = 7.';
COMMENT ON COLUMN ordflow.stock_movements.segment IS 'The segment of ordflow.stock_segments that was the current one.';
COMMENT ON COLUMN ordflow.stock_movements.kind IS 'received, adjusted, reserved, released, shipped or returned.';
COMMENT ON COLUMN ordflow.stock_movements.on_hand IS 'The change of the units on the shelf.';
COMMENT ON COLUMN ordflow.stock_movements.reserved IS 'The change of the units promised.';
COMMENT ON COLUMN ordflow.stock_movements.order_id IS 'The order it was for; NULL for a hold and for goods coming in.';
COMMENT ON COLUMN ordflow.stock_movements.reference IS 'The hold it belongs to, or what receive_stock() was given.';
COMMENT ON COLUMN ordflow.stock_movements.actor IS 'Who did it: the setting ordflow.actor, else the session user.';
SELECT pg_catalog.pg_extension_config_dump('ordflow.stock_movements_2', '');
SELECT pg_catalog.pg_extension_config_dump('ordflow.stock_movements_3', '');
SELECT pg_catalog.pg_extension_config_dump('ordflow.stock_movements_4', '');
SELECT pg_catalog.pg_extension_config_dump('ordflow.stock_movements_5', '');
SELECT pg_catalog.pg_extension_config_dump('ordflow.stock_movements_6', '');
SELECT pg_catalog.pg_extension_config_dump('ordflow.stock_movements_7', '');
SELECT pg_catalog.pg_extension_config_dump('ordflow.stock_movements_8', '');
SELECT pg_catalog.pg_extension_config_dump('ordflow.stock_movements_movement_id_seq', '');
SELECT pg_catalog.setval('ordflow.stock_movements_movement_id_seq', split_part(current_setting('update.movement_id'), ' ', 1)::bigint,
                         split_part(current_setting('update.movement_id'), ' ', 2)::boolean);

DO $$
BEGIN
    EXECUTE current_setting('update.commands');
END $$;

-- no version has written a row; a segment that is not folded needs none
DELETE FROM ordflow.stock_segments;
ALTER TABLE ordflow.stock_segments
    ALTER COLUMN segment TYPE bigint,
    DROP COLUMN folded,
    ADD COLUMN opened_at timestamptz NOT NULL,
    ADD COLUMN folded_at timestamptz,
    ADD COLUMN retired_at timestamptz;
COMMENT ON TABLE ordflow.stock_segments IS
'The segments of stock_movements: the highest is the current one, that movements are written to. All up to the highest that is folded are contained in the balances of ordflow.stock; of those only the first and the last of each partition keep their rows. Without rows segment 1 is current: so a restored row never meets one of CREATE EXTENSION.';
COMMENT ON COLUMN ordflow.stock_segments.folded_at IS 'When the movements of the segment were added to the balances; NULL while they were not.';
COMMENT ON COLUMN ordflow.stock_segments.retired_at IS
'Set in the one row that says that the movements of this segment and of all before it may be gone, by ordflow.movement_retention.';

/* Stock: its balances are those of what is folded, and nothing else. */

CREATE VIEW ordflow.open_segments AS
SELECT g.segment FROM ordflow.stock_segments g
WHERE g.segment > COALESCE((SELECT max(f.segment) FROM ordflow.stock_segments f WHERE f.folded_at IS NOT NULL), 0)
UNION ALL
SELECT 1 WHERE NOT EXISTS (SELECT FROM ordflow.stock_segments f WHERE f.folded_at IS NOT NULL);
COMMENT ON VIEW ordflow.open_segments IS
'The segments of the ledger whose movements are not contained in the balances of ordflow.stock, in the caller''s snapshot.';

CREATE OR REPLACE VIEW ordflow.stock_levels AS
SELECT s.sku, s.location, s.on_hand + m.on_hand AS on_hand, s.reserved + m.reserved AS reserved,
       s.on_hand + m.on_hand - s.reserved - m.reserved AS available
FROM ordflow.stock s
CROSS JOIN LATERAL (
    SELECT COALESCE(sum(m.on_hand), 0)::bigint AS on_hand, COALESCE(sum(m.reserved), 0)::bigint AS reserved
    FROM ordflow.stock_movements m
    WHERE m.stock_id = s.stock_id AND m.segment = ANY (ARRAY(SELECT g.segment FROM ordflow.open_segments g))
) m;
COMMENT ON VIEW ordflow.stock_levels IS
'Units on hand, reserved and available for each (sku, location), exact in the caller''s snapshot, however old that is: it shows what was committed then, and all of it. available_stock() tells what may be promised now: less what open transactions have taken, and with the units of holds that have expired, which count as reserved here until they are swept.';

ALTER TABLE ordflow.stock DROP COLUMN available;
COMMENT ON TABLE ordflow.stock IS
'One row a (sku, location), with the balances of the folded part of the ledger. The figures of the moment are in the view ordflow.stock_levels. No balance has a CHECK: what is wrong is reported by ordflow.audit() and must stop neither a fold nor a restore.';

-- Logical apply fires only row triggers, and those of TRUNCATE, and only if they are ALWAYS.  A row
-- trigger of the parent is one of each partition.
CREATE TRIGGER counter_gate BEFORE INSERT OR UPDATE OR DELETE ON ordflow.stock
    FOR EACH ROW EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock ENABLE ALWAYS TRIGGER counter_gate;
CREATE TRIGGER counter_gate BEFORE INSERT OR UPDATE OR DELETE ON ordflow.stock_segments
    FOR EACH ROW EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock_segments ENABLE ALWAYS TRIGGER counter_gate;
CREATE TRIGGER counter_gate BEFORE INSERT OR UPDATE OR DELETE ON ordflow.stock_movements
    FOR EACH ROW EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock_movements ENABLE ALWAYS TRIGGER counter_gate;
CREATE TRIGGER counter_gate_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ordflow.stock
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock ENABLE ALWAYS TRIGGER counter_gate_statement;
CREATE TRIGGER counter_gate_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ordflow.stock_segments
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock_segments ENABLE ALWAYS TRIGGER counter_gate_statement;
CREATE TRIGGER counter_gate_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ordflow.stock_movements
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock_movements ENABLE ALWAYS TRIGGER counter_gate_statement;
CREATE TRIGGER counter_gate_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ordflow.stock_movements_1
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock_movements_1 ENABLE ALWAYS TRIGGER counter_gate_statement;
CREATE TRIGGER counter_gate_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ordflow.stock_movements_2
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock_movements_2 ENABLE ALWAYS TRIGGER counter_gate_statement;
CREATE TRIGGER counter_gate_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ordflow.stock_movements_3
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock_movements_3 ENABLE ALWAYS TRIGGER counter_gate_statement;
CREATE TRIGGER counter_gate_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ordflow.stock_movements_4
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock_movements_4 ENABLE ALWAYS TRIGGER counter_gate_statement;
CREATE TRIGGER counter_gate_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ordflow.stock_movements_5
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock_movements_5 ENABLE ALWAYS TRIGGER counter_gate_statement;
CREATE TRIGGER counter_gate_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ordflow.stock_movements_6
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock_movements_6 ENABLE ALWAYS TRIGGER counter_gate_statement;
CREATE TRIGGER counter_gate_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ordflow.stock_movements_7
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock_movements_7 ENABLE ALWAYS TRIGGER counter_gate_statement;
CREATE TRIGGER counter_gate_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ordflow.stock_movements_8
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.stock_movements_8 ENABLE ALWAYS TRIGGER counter_gate_statement;

CREATE VIEW ordflow.ledger_start AS
SELECT COALESCE(max(g.folded_at), '-infinity') AS at FROM ordflow.stock_segments g WHERE g.retired_at IS NOT NULL;
COMMENT ON VIEW ordflow.ledger_start IS
'One row: of what began after that moment the ledger has all movements. -infinity as long as ordflow.movement_retention has taken none.';
COMMENT ON FUNCTION ordflow.available_stock(text, text) IS
'Units that may be promised now: on hand less reserved and less what open transactions have taken, at the location, or at all of them added up where it is NULL. It reads the counter of the moment, not the caller''s snapshot, whatever the isolation level; what this transaction has added counts. The units of holds that have expired count as available. ordflow.stock_levels tells what a snapshot sees.
Raises OF004 (unknown sku or location), 22004 (sku NULL), 22023, 22001, 22003, OF008.';

CREATE FUNCTION ordflow.fold_stock()
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'ordflow_fold_stock';
COMMENT ON FUNCTION ordflow.fold_stock() IS
'What the worker does by itself, for a scheduler where none runs: adds the movements of segments that an earlier call has closed to the balances, closes the current segment, empties partitions whose retention is over. A closed segment is added up once the transactions have ended that may still write it; for those it waits a second at most. Returns the movements added up; 0: none, now. Nothing depends on its being called but how long a first look at a stock row takes, and the retention.
Raises 25006, 55000 (in a transaction that has written ordflow''s tables directly), OF008, OF011.';

CREATE OR REPLACE FUNCTION ordflow.audit_stock(since timestamptz)
RETURNS TABLE (check_name text, object text, detail text)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
WITH touched AS (
    SELECT m.stock_id FROM ordflow.stock_movements m WHERE m.at >= audit_stock.since
), sums AS (
    SELECT m.stock_id, sum(m.on_hand) AS on_hand, sum(m.reserved) AS reserved
    FROM ordflow.stock_movements m
    WHERE m.segment = ANY (ARRAY(SELECT g.segment FROM ordflow.open_segments g))
    GROUP BY m.stock_id
), levels AS (
    SELECT format('%s at %s', s.sku, s.location) AS object,
           s.on_hand + COALESCE(m.on_hand, 0) AS on_hand, s.reserved + COALESCE(m.reserved, 0) AS reserved
    FROM ordflow.stock s
    LEFT JOIN sums m ON m.stock_id = s.stock_id
    WHERE audit_stock.since IS NULL OR s.stock_id IN (SELECT t.stock_id FROM touched t)
), recent_holds AS (
    SELECT h.reference FROM ordflow.holds h
    WHERE audit_stock.since IS NULL OR h.created_at >= audit_stock.since OR h.ended_at >= audit_stock.since
    UNION
    SELECT m.reference FROM ordflow.stock_movements m
    WHERE m.order_id IS NULL AND m.reserved <> 0 AND (audit_stock.since IS NULL OR m.at >= audit_stock.since)
), promised AS (
    SELECT h.reference, l.stock_id, sum(l.quantity) AS quantity
    FROM ordflow.holds h
    JOIN ordflow.hold_lines l ON l.reference = h.reference
    WHERE h.state = 'held' AND h.reference IN (SELECT r.reference FROM recent_holds r)
      AND h.created_at > (SELECT a.at FROM ordflow.ledger_start a)
    GROUP BY h.reference, l.stock_id
), booked AS (
    SELECT m.reference, m.stock_id, sum(m.reserved) AS quantity
    FROM ordflow.stock_movements m
    LEFT JOIN ordflow.holds h ON h.reference = m.reference
    CROSS JOIN ordflow.ledger_start a
    WHERE m.order_id IS NULL AND m.reserved <> 0
      AND (m.reference IS NULL OR m.reference IN (SELECT r.reference FROM recent_holds r))
      -- a hold whose beginning is gone cannot be checked, nor can an earlier one under its reference
      AND (a.at = '-infinity' OR (h.created_at > a.at AND m.at >= h.created_at))
    GROUP BY m.reference, m.stock_id
)
SELECT 'stock_negative', v.object,
       format('on hand %s, reserved %s, available %s', v.on_hand, v.reserved, v.on_hand - v.reserved)
FROM levels v WHERE v.on_hand < 0 OR v.reserved < 0 OR v.on_hand < v.reserved
UNION ALL
SELECT 'hold_movements', COALESCE(p.reference, b.reference, 'no reference'),
       format('stock row %s: the hold has %s units, its movements make %s', COALESCE(p.stock_id, b.stock_id),
              COALESCE(p.quantity, 0), COALESCE(b.quantity, 0))
FROM promised p FULL JOIN booked b ON b.reference = p.reference AND b.stock_id = p.stock_id
WHERE COALESCE(p.quantity, 0) <> COALESCE(b.quantity, 0)
UNION ALL
SELECT 'movement_stock', format('stock row %s', m.stock_id), 'its movements stand in the ledger, the row does not'
FROM ordflow.stock_movements m
WHERE (audit_stock.since IS NULL OR m.at >= audit_stock.since)
  AND NOT EXISTS (SELECT FROM ordflow.stock s WHERE s.stock_id = m.stock_id)
GROUP BY m.stock_id
UNION ALL
SELECT 'movement_segment', format('segment %s', m.segment), format('%s movements stand in it, but it was never opened', count(*))
FROM ordflow.stock_movements m
WHERE (m.segment < 1 OR m.segment > (SELECT min(g.segment) FROM ordflow.open_segments g))
  AND m.segment <> ALL (ARRAY(SELECT g.segment FROM ordflow.open_segments g))
GROUP BY m.segment
$$;
COMMENT ON FUNCTION ordflow.audit_stock(timestamptz) IS
'The part of ordflow.audit() that checks stock: stock_negative, hold_movements, movement_stock, movement_segment. Looks at stock rows and holds with movements at or after since, at all where it is NULL. A row for each finding.';

/* Coupons: their uses are counted, not kept. */

ALTER TABLE ordflow.coupons DROP COLUMN used;
ALTER TABLE ordflow.coupons RESET (fillfactor);
ALTER TABLE ordflow.coupon_redemptions DROP CONSTRAINT coupon_redemptions_slot_key;
CREATE UNIQUE INDEX coupon_redemptions_slot_key ON ordflow.coupon_redemptions (coupon_id, customer, slot)
    WHERE state IN ('locked', 'used');
COMMENT ON INDEX ordflow.coupon_redemptions_slot_key IS 'The uses that count against usage_limit and per_customer.';

/* The rows that a coupon's counter in shared memory stands for; a coupon that is inserted has none yet. */
CREATE TRIGGER counter_gate BEFORE INSERT OR UPDATE OR DELETE ON ordflow.coupon_redemptions
    FOR EACH ROW EXECUTE FUNCTION ordflow.counter_gate();
CREATE TRIGGER counter_gate_statement BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ordflow.coupon_redemptions
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.counter_gate();
CREATE TRIGGER counter_gate BEFORE UPDATE OR DELETE ON ordflow.coupons
    FOR EACH ROW EXECUTE FUNCTION ordflow.counter_gate();
CREATE TRIGGER counter_gate_statement BEFORE UPDATE OR DELETE OR TRUNCATE ON ordflow.coupons
    FOR EACH STATEMENT EXECUTE FUNCTION ordflow.counter_gate();
ALTER TABLE ordflow.coupon_redemptions ENABLE ALWAYS TRIGGER counter_gate;
ALTER TABLE ordflow.coupon_redemptions ENABLE ALWAYS TRIGGER counter_gate_statement;
ALTER TABLE ordflow.coupons ENABLE ALWAYS TRIGGER counter_gate;
ALTER TABLE ordflow.coupons ENABLE ALWAYS TRIGGER counter_gate_statement;
COMMENT ON TRIGGER counter_gate ON ordflow.coupon_redemptions IS 'A write that is not ordflow''s own drops the counters.';
COMMENT ON TRIGGER counter_gate_statement ON ordflow.coupon_redemptions IS 'A write that is not ordflow''s own drops the counters.';
COMMENT ON TRIGGER counter_gate ON ordflow.coupons IS 'A write that is not ordflow''s own drops the counters.';
COMMENT ON TRIGGER counter_gate_statement ON ordflow.coupons IS 'A write that is not ordflow''s own drops the counters.';
COMMENT ON FUNCTION ordflow.alter_coupon(text, jsonb) IS
'Changes the options of a coupon, for every session at commit, and waits for the open transactions that use it: the keys of create_coupon(); a key that is not given stays, JSON null takes the option away (enabled: back to true). A limit below what is used already means no further uses.
Raises OF004 (no such coupon), 22023, 22007, 22008, 22003, 22001, 22004, 54000.';

CREATE OR REPLACE FUNCTION ordflow.audit_coupons(since timestamptz)
RETURNS TABLE (check_name text, object text, detail text)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
WITH recent AS (
    SELECT c.* FROM ordflow.coupons c
    WHERE audit_coupons.since IS NULL OR c.created_at >= audit_coupons.since OR c.altered_at >= audit_coupons.since
       OR c.coupon_id IN (SELECT r.coupon_id FROM ordflow.coupon_redemptions r WHERE r.updated_at >= audit_coupons.since)
), uses AS (
    SELECT r.coupon_id, r.customer, count(*) AS uses, max(r.at) AS latest
    FROM ordflow.coupon_redemptions r
    WHERE r.state IN ('locked', 'used')
      AND (audit_coupons.since IS NULL OR r.coupon_id IN (SELECT c.coupon_id FROM recent c))
    GROUP BY r.coupon_id, r.customer
), totals AS (
    SELECT u.coupon_id, sum(u.uses) AS uses, max(u.latest) AS latest FROM uses u GROUP BY u.coupon_id
)
SELECT 'coupon_usage_limit', c.code, format('%s uses, the limit is %s', t.uses, c.usage_limit)
FROM recent c JOIN totals t ON t.coupon_id = c.coupon_id
WHERE t.uses > c.usage_limit AND t.latest > COALESCE(c.altered_at, '-infinity')
UNION ALL
SELECT 'coupon_per_customer', c.code,
       format('%s uses of %s, the limit is %s', u.uses, COALESCE(quote_literal(u.customer), 'guests'), c.per_customer)
FROM recent c JOIN uses u ON u.coupon_id = c.coupon_id
WHERE u.uses > CASE WHEN u.customer IS NULL THEN 0 ELSE c.per_customer END
  AND c.per_customer IS NOT NULL AND u.latest > COALESCE(c.altered_at, '-infinity')
UNION ALL
SELECT 'redemption_coupon', format('order %s', r.order_id), format('its redemption is of coupon %s, which does not exist', r.coupon_id)
FROM ordflow.coupon_redemptions r
WHERE (audit_coupons.since IS NULL OR r.updated_at >= audit_coupons.since)
  AND NOT EXISTS (SELECT FROM ordflow.coupons c WHERE c.coupon_id = r.coupon_id)
$$;
COMMENT ON FUNCTION ordflow.audit_coupons(timestamptz) IS
'The part of ordflow.audit() that checks coupons: coupon_usage_limit, coupon_per_customer, redemption_coupon. Looks at coupons that were created, altered or used at or after since, at all where it is NULL. A row for each finding.';

/* Views and functions of others. */

COMMENT ON COLUMN ordflow.activation.part IS 'timer or fold.';
COMMENT ON FUNCTION ordflow.is_active(text) IS
'Whether background workers do their part (timer, fold) in this database. Raises 22023 for an unknown part, 22004.';

CREATE OR REPLACE VIEW ordflow.workers AS
SELECT w.worker, d.datname AS database, w.pid, w.state, w.since, w.next_at, w.problem, w.fix
FROM ordflow.worker_slots() AS w LEFT JOIN pg_catalog.pg_database AS d ON d.oid = w.database
UNION ALL
SELECT 'coordinator', pg_catalog.current_database(), NULL, 'inactive', NULL, NULL,
       'no worker acts in this database: it is new, a copy, or deactivated', 'SELECT ordflow.activate();'
WHERE NOT (ordflow.is_active('timer') OR ordflow.is_active('fold'));

CREATE OR REPLACE VIEW ordflow.reservations AS
SELECT l.sku, l.location, 'order:' || o.order_id AS reference, o.order_id,
       l.quantity - l.shipped - l.cancelled AS quantity, o.created_at AS since,
       CASE WHEN o.state = 'pending_payment' THEN o.expires_at END AS expires_at, NULL::int AS pid
FROM ordflow.orders o
JOIN ordflow.order_lines l USING (order_id)
WHERE o.state <> 'cancelled' AND l.stock_id IS NOT NULL AND l.shipped + l.cancelled < l.quantity
UNION ALL
SELECT sku, location, reference, order_id, quantity, since, expires_at, NULL
FROM ordflow.stock_holds
UNION ALL
SELECT s.sku, s.location, NULL, NULL, r.quantity, r.since, NULL, r.pid
FROM ordflow.open_reservations() r
JOIN ordflow.stock s ON s.stock_id = r.stock_id;
COMMENT ON VIEW ordflow.reservations IS
'Who holds which units: a row for each order line with units still to ship, and for each line of a hold; and, as seen in shared memory, for what other transactions that are open now have taken: with the pid of their process, without reference and order, since the transaction began.';

CREATE OR REPLACE FUNCTION ordflow.audit_orders(since timestamptz)
RETURNS TABLE (check_name text, object text, detail text)
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
WITH o AS (
    SELECT * FROM ordflow.orders WHERE audit_orders.since IS NULL OR updated_at >= audit_orders.since
), lines AS (
    SELECT order_id, sum(l.amount) AS amount, sum(l.discount) AS discount, sum(l.payable) AS payable
    FROM ordflow.order_lines l JOIN o USING (order_id) GROUP BY order_id
), charges AS (
    SELECT order_id, sum(c.amount) AS amount
    FROM ordflow.order_charges c JOIN o USING (order_id) GROUP BY order_id
), history AS (
    SELECT order_id, max(seq) AS last, count(*) AS n, (array_agg(to_state ORDER BY seq DESC))[1] AS state
    FROM ordflow.order_history h JOIN o USING (order_id) GROUP BY order_id
), held AS (
    SELECT order_id, stock_id, sum(quantity - shipped - cancelled) AS quantity, sum(shipped) AS shipped
    FROM (SELECT l.order_id, l.stock_id, l.shipped,
                 CASE WHEN o.state = 'cancelled' THEN l.shipped + l.cancelled ELSE l.quantity END AS quantity,
                 l.cancelled
          FROM ordflow.order_lines l JOIN o USING (order_id) CROSS JOIN ordflow.ledger_start a
          WHERE l.stock_id IS NOT NULL AND o.created_at > a.at) AS l
    GROUP BY order_id, stock_id
), moved AS (
    SELECT m.order_id, m.stock_id, sum(m.reserved) AS reserved,
           -coalesce(sum(m.on_hand) FILTER (WHERE m.kind = 'shipped'), 0) AS shipped
    FROM ordflow.stock_movements m CROSS JOIN ordflow.ledger_start a
    LEFT JOIN ordflow.orders x ON x.order_id = m.order_id
    WHERE m.order_id IS NOT NULL
      AND (audit_orders.since IS NULL OR m.order_id IN (SELECT order_id FROM o))
      AND (a.at = '-infinity' OR x.created_at > a.at)   -- what began before has lost its movements
    GROUP BY m.order_id, m.stock_id
), paid AS (
    SELECT p.order_id, count(*) AS n, sum(p.amount) AS amount
    FROM ordflow.payments p JOIN o USING (order_id) WHERE p.result = 'applied' GROUP BY p.order_id
), refunded AS (
    SELECT payment_id, sum(r.amount) AS amount FROM ordflow.refunds r GROUP BY payment_id
)
SELECT 'order_money', 'order ' || order_id,
       format('subtotal %s, discount %s, charges %s; lines have %s and %s, charges %s', o.subtotal, o.discount,
              o.charges, l.amount, l.discount, coalesce(c.amount, 0))
FROM o LEFT JOIN lines l USING (order_id) LEFT JOIN charges c USING (order_id)
WHERE (o.subtotal, o.discount, o.charges) IS DISTINCT FROM (l.amount, l.discount, coalesce(c.amount, 0))
   OR o.payable <> o.subtotal - o.discount + o.charges OR o.payable < 0
UNION ALL
SELECT 'order_line', format('order %s, line %s', l.order_id, l.line_no),
       format('quantity %s, shipped %s, returned %s, cancelled %s; amount %s, discount %s, payable %s, refunded %s',
              l.quantity, l.shipped, l.returned, l.cancelled, l.amount, l.discount, l.payable, l.refunded)
FROM ordflow.order_lines l JOIN o USING (order_id)
WHERE NOT (l.quantity > 0 AND l.shipped >= 0 AND l.cancelled >= 0 AND l.returned BETWEEN 0 AND l.shipped
           AND l.shipped + l.cancelled <= l.quantity)
   OR NOT (l.payable = l.amount - l.discount AND l.discount >= 0 AND l.refunded BETWEEN 0 AND l.payable)
UNION ALL
SELECT 'order_history', 'order ' || order_id,
       format('it is %s; its history has %s rows up to %s and ends in %s', o.state, h.n, h.last, h.state)
FROM o LEFT JOIN history h USING (order_id)
WHERE h.state IS DISTINCT FROM o.state OR h.last IS DISTINCT FROM h.n
UNION ALL
SELECT 'order_deadline', 'order ' || order_id,
       format('it is %s, expires at %s, is due at %s', o.state, o.expires_at, coalesce(o.due_at::text, 'never'))
FROM o
WHERE (o.state = 'pending_payment' AND o.due_at IS DISTINCT FROM o.expires_at)
   OR (o.state IN ('pending_shipment', 'completed', 'cancelled') AND o.due_at IS NOT NULL
       AND NOT EXISTS (SELECT FROM ordflow.transitions t WHERE t.machine = 'order' AND t.from_state = o.state AND t.after IS NOT NULL))
UNION ALL
SELECT 'order_stock', format('order %s, stock %s', order_id, stock_id),
       format('its lines hold %s and shipped %s, its movements reserve %s and shipped %s',
              coalesce(h.quantity, 0), coalesce(h.shipped, 0), coalesce(m.reserved, 0), coalesce(m.shipped, 0))
FROM held h FULL JOIN moved m USING (order_id, stock_id)
WHERE coalesce(h.quantity, 0) <> coalesce(m.reserved, 0) OR coalesce(h.shipped, 0) <> coalesce(m.shipped, 0)
UNION ALL
SELECT 'stock_reserved', format('%s at %s', v.sku, v.location),
       format('reserved is %s, open orders and holds have %s', v.reserved, coalesce(p.quantity, 0))
FROM ordflow.stock_levels v
JOIN ordflow.stock s USING (sku, location)
LEFT JOIN (SELECT stock_id, sum(quantity) AS quantity
           FROM (SELECT l.stock_id, l.quantity - l.shipped - l.cancelled AS quantity
                 FROM ordflow.order_lines l JOIN ordflow.orders x USING (order_id)
                 WHERE audit_orders.since IS NULL AND l.stock_id IS NOT NULL AND x.state <> 'cancelled'
                 UNION ALL
                 SELECT l.stock_id, l.quantity FROM ordflow.hold_lines l JOIN ordflow.holds h USING (reference)
                 WHERE audit_orders.since IS NULL AND h.state = 'held') AS open
           GROUP BY stock_id) AS p USING (stock_id)
WHERE audit_orders.since IS NULL AND v.reserved <> coalesce(p.quantity, 0)
UNION ALL
SELECT 'order_coupon', 'order ' || order_id,
       format('it is %s, its coupon %s is %s', o.state, coalesce(o.coupon, 'none'), coalesce(r.state, 'not redeemed'))
FROM o LEFT JOIN ordflow.coupon_redemptions r USING (order_id)
WHERE (o.coupon IS NULL) <> (r.order_id IS NULL)
   OR (o.state = 'pending_payment' AND r.state <> 'locked')
   OR (o.state IN ('pending_shipment', 'pending_receipt', 'completed') AND r.state <> 'used')
   OR (o.state = 'cancelled' AND r.state = 'locked')
UNION ALL
SELECT 'order_payment', 'order ' || order_id,
       format('it is %s with a payable of %s, paid %s in %s payments', o.state, o.payable, coalesce(p.amount, 0), coalesce(p.n, 0))
FROM o LEFT JOIN paid p USING (order_id)
WHERE p.n > 1 OR (p.n = 1 AND p.amount <> o.payable)
   OR (p.n IS NULL AND o.payable > 0 AND o.state IN ('pending_shipment', 'pending_receipt', 'completed')
       AND NOT EXISTS (   -- sold on account, by an event of the shop's own
           SELECT FROM ordflow.order_history h WHERE h.order_id = o.order_id AND h.from_state = 'pending_payment'
           AND h.event <> 'pay'))
   OR (p.n = 1 AND o.state = 'pending_payment')
UNION ALL
SELECT 'payment_refund', 'payment ' || p.payment_id,
       format('%s %s, result %s, refunds %s', p.amount, p.currency, p.result, coalesce(r.amount, 0))
FROM ordflow.payments p LEFT JOIN refunded r USING (payment_id)
WHERE (audit_orders.since IS NULL OR p.at >= audit_orders.since)
  AND (r.amount > p.amount OR (p.result <> 'applied' AND r.amount IS DISTINCT FROM p.amount))
UNION ALL
SELECT 'refund_held', 'refund ' || r.refund_id,
       format('%s %s for order %s (%s): look at it, then call ordflow.release_refund() or ordflow.refund_failed()',
              r.amount, r.currency, r.order_id, r.reason)
FROM ordflow.refunds r
WHERE r.state = 'held' AND (audit_orders.since IS NULL OR r.updated_at >= audit_orders.since)
UNION ALL
SELECT 'orphan_lines', 'order ' || l.order_id, 'lines without their order'
FROM ordflow.order_lines l
WHERE audit_orders.since IS NULL AND NOT EXISTS (SELECT FROM ordflow.orders x WHERE x.order_id = l.order_id)
GROUP BY l.order_id
UNION ALL
SELECT 'purchase_count', format('limit %s, customer %s', limit_id, customer),
       format('counted %s, bought %s', coalesce(c.quantity, 0), coalesce(b.quantity, 0))
FROM (SELECT * FROM ordflow.purchase_counts WHERE audit_orders.since IS NULL) AS c
FULL JOIN (SELECT l.limit_id, x.customer, sum(l.quantity - l.returned - l.cancelled) AS quantity
           FROM ordflow.order_lines l JOIN ordflow.orders x USING (order_id)
           WHERE audit_orders.since IS NULL AND l.limit_id IS NOT NULL AND x.state <> 'cancelled'
           GROUP BY l.limit_id, x.customer) AS b USING (limit_id, customer)
WHERE coalesce(c.quantity, 0) <> coalesce(b.quantity, 0)
UNION ALL
SELECT 'disabled_trigger', format('%s on %s', t.tgname, t.tgrelid::regclass), 'changes of this table are not checked'
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgenabled IN ('D', 'R') AND NOT t.tgisinternal AND c.relnamespace = 'ordflow'::regnamespace
$$;

CREATE OR REPLACE FUNCTION ordflow.audit(since timestamptz DEFAULT NULL)
RETURNS TABLE (check_name text, object text, detail text)
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT * FROM ordflow.audit_orders(audit.since)
UNION ALL SELECT * FROM ordflow.audit_stock(audit.since)
UNION ALL SELECT * FROM ordflow.audit_coupons(audit.since)
UNION ALL
SELECT d.kind || '_counter', format('%s %s', d.kind, d.id),
       format('its counter is %s, the rows make %s; a write passed by the trigger counter_gate', d.counter, d.rows)
FROM ordflow.counter_differences() d
$$;
COMMENT ON FUNCTION ordflow.audit(timestamptz) IS
'Compares what must agree and returns a row for each disagreement; no row means that none of its checks fails. since: only what changed at or after it (checks that need everything are left out); NULL is everything. It reads one snapshot, so it may run beside sales; counters are compared where no open transaction uses them. The checks are listed in docs/audit.md.';

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

/* Privileges. */

REVOKE ALL ON ordflow.stock_movements, ordflow.counter_gate, ordflow.stock_movements, ordflow.stock_movements_2,
    ordflow.stock_movements_3, ordflow.stock_movements_4, ordflow.stock_movements_5, ordflow.stock_movements_6,
    ordflow.stock_movements_7, ordflow.stock_movements_8, ordflow.open_segments, ordflow.ledger_start FROM PUBLIC;
REVOKE ALL ON SEQUENCE ordflow.stock_movements_movement_id_seq FROM PUBLIC;
REVOKE ALL ON FUNCTION ordflow.counter_gate(), ordflow.open_reservations(), ordflow.counter_differences(), ordflow.fold_stock() FROM
    PUBLIC;

INSERT INTO ordflow.parts (part, privilege, object) VALUES
    ('read', 'EXECUTE', 'FUNCTION ordflow.open_reservations()'),
    ('read', 'EXECUTE', 'FUNCTION ordflow.counter_differences()'),
    ('read', 'SELECT', 'TABLE ordflow.stock_holds'),
    ('read', 'SELECT', 'TABLE ordflow.open_segments'),
    ('read', 'SELECT', 'TABLE ordflow.ledger_start'),
    ('admin', 'EXECUTE', 'FUNCTION ordflow.fold_stock()');

SELECT ordflow.grant_access(h.grantee::regrole, h.part)
FROM json_to_recordset(current_setting('update.holders')::json) AS h (part text, grantee oid);

-- one by one, as they were granted, by a part of each role's own
INSERT INTO ordflow.parts (part, privilege, object)
SELECT DISTINCT 'update ' || p.grantee, p.privilege, p.object
FROM json_to_recordset(current_setting('update.privileges')::json) AS p (grantee oid, privilege text, object text);
SELECT ordflow.grant_access(substr(p.part, 8)::oid::regrole, p.part)
FROM (SELECT DISTINCT part FROM ordflow.parts WHERE part LIKE 'update %') AS p;
DELETE FROM ordflow.parts WHERE part LIKE 'update %';

/* Where workers keep deadlines, or somebody said that they shall or shall not act, the same holds of the fold. */

INSERT INTO ordflow.activation (part, database, active, automatic, at, actor)
SELECT 'fold', a.database, a.active, a.automatic, a.at, a.actor
FROM ordflow.activation a JOIN pg_database d ON d.oid = a.database AND d.datname = current_database()
WHERE a.part = 'timer' ORDER BY a.id;

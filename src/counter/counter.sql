/* src/counter/counter.sql: the gate of the escrow counters, and views into them */

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

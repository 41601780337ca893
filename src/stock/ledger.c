/*
 * ledger.c
 *	  The ledger: every change of stock as a movement, and what the movements make.
 *
 * Movements go to the current segment, the highest in ordflow.stock_segments.  It is chosen
 * behind the gate, whose lock has let in all invalidations that were sent before: so when the fold
 * has opened a segment, only transactions that held the gate by then may still write the
 * one before (fold.c).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "common/int.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "counter/counter.h"
#include "stock/ledger.h"
#include "stock/stock.h"
#include "worker/worker.h"

#define PARTITION(n) { \
	.relname = "stock_movements_" #n, \
	.trigger = COUNTER_GATE_TRIGGER, \
	.ncolumns = 11, \
	.columns = { \
		{"movement_id", INT8OID}, {"segment", INT8OID}, {"stock_id", INT8OID}, {"kind", TEXTOID}, \
		{"on_hand", INT8OID}, {"reserved", INT8OID}, {"order_id", INT8OID}, \
		{"reference", TEXTOID}, {"reason", TEXTOID}, {"actor", TEXTOID}, {"at", TIMESTAMPTZOID} \
	} \
}

/* Written without the detour by their parent. */
static RowTable partitions[LEDGER_PARTITIONS] = {
	PARTITION(1), PARTITION(2), PARTITION(3), PARTITION(4),
	PARTITION(5), PARTITION(6), PARTITION(7), PARTITION(8)
};

/* The current segment, as long as nobody invalidates ordflow.stock_segments. */
static struct
{
	bool		known;
	Oid			table;
	int64		segment;
	uint64		invalidations;
}			current;

const char *
ordflow_ledger_partition(int i)
{
	return partitions[i].relname;
}

/* The segments that the snapshot sees, from the highest on. */
static void
segments_open(RowReader *reader, Snapshot snapshot)
{
	ordflow_reader_open(reader, "stock_segments", "stock_segments_pkey", snapshot, NULL, 0);
}

static int64
segments_value(RowReader *reader)
{
	return ordflow_reader_int64(reader, ordflow_reader_column(reader, "segment"));
}

/* ---- the current segment ---- */

static void
forget_current(Oid relid)
{
	if (OidIsValid(relid) && relid != current.table)
		return;
	current.known = false;
	current.invalidations++;
}

static void
register_forget(void)
{
	static bool registered = false;

	if (registered)
		return;
	ordflow_on_relation_change(forget_current);
	registered = true;
}

/* In the latest snapshot at every isolation level. */
static int64
read_current(void)
{
	Snapshot	snapshot = ordflow_register_latest();
	int64		segment = 1;
	RowReader	reader;

	segments_open(&reader, snapshot);
	if (ordflow_reader_next(&reader, BackwardScanDirection))
		segment = segments_value(&reader);
	ordflow_reader_close(&reader);
	UnregisterSnapshot(snapshot);
	return segment;
}

/* The caller has passed the gate. */
static int64
current_segment(void)
{
	uint64		invalidations;

	register_forget();
	if (current.known)
		return current.segment;
	current.table = ordflow_relid("stock_segments");
	invalidations = current.invalidations;
	current.segment = read_current();
	current.known = invalidations == current.invalidations;
	return current.segment;
}

/* ---- writing ---- */

/* True: one of them is the last that a segment should have. */
static bool
write_movements(RowWriter *writer, int64 segment, TimestampTz now, const StockMovement *movements,
				int n)
{
	Oid			sequence = ordflow_relid("stock_movements_movement_id_seq");
	Datum		values[11];
	bool		nulls[11] = {false};
	bool		full = false;

	values[1] = Int64GetDatum(segment);
	ORDFLOW_PUT_TEXT(values, nulls, 9, ordflow_actor());
	values[10] = TimestampTzGetDatum(now);
	for (int i = 0; i < n; i++)
	{
		const StockMovement *movement = &movements[i];
		int64		id = nextval_internal(sequence, false);

		full |= id % LEDGER_MOVEMENTS_MAX == 0;
		values[0] = Int64GetDatum(id);
		values[2] = Int64GetDatum(movement->stock_id);
		ORDFLOW_PUT_TEXT(values, nulls, 3, movement->kind);
		values[4] = Int64GetDatum(movement->on_hand);
		values[5] = Int64GetDatum(movement->reserved);
		values[6] = Int64GetDatum(movement->order_id);
		nulls[6] = movement->order_id == 0;
		ORDFLOW_PUT_TEXT(values, nulls, 7, movement->reference);
		ORDFLOW_PUT_TEXT(values, nulls, 8, movement->reason);
		ordflow_rows_write(writer, values, nulls);
	}
	return full;
}

void
ordflow_stock_record(const StockMovement *movements, int n)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		segment;
	RowTable   *table;
	RowWriter	writer;
	bool		full;

	if (n == 0)
		return;
	ordflow_counter_enter("stock");
	segment = current_segment();
	table = &partitions[LEDGER_PARTITION(segment)];
	ordflow_rows_begin(&writer, table);
	if (!writer.direct)
		ordflow_counter_own_write(table->relname);
	full = write_movements(&writer, segment, now, movements, n);
	ordflow_rows_end(&writer);
	if (!writer.direct)
		ordflow_counter_own_write_done();

	ordflow_worker_activate(DUTY_FOLD);
	ordflow_worker_wake(DUTY_FOLD, full ? now :
						TimestampTzPlusMilliseconds(now, ordflow_fold_interval));
}

/* ---- the level of a row ---- */

static void
add(int64 *sum, int64 quantity)
{
	if (pg_add_s64_overflow(*sum, quantity, sum))
		ereport(ERROR,
				errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				errmsg("stock is out of range"));
}

/* Adds on_hand and reserved of each row that the scan finds; false = it finds none. */
static bool
add_rows(RowReader *reader, StockLevel *level)
{
	AttrNumber	on_hand = ordflow_reader_column(reader, "on_hand");
	AttrNumber	reserved = ordflow_reader_column(reader, "reserved");
	bool		found = false;

	while (ordflow_reader_next(reader, ForwardScanDirection))
	{
		add(&level->on_hand, ordflow_reader_int64(reader, on_hand));
		add(&level->reserved, ordflow_reader_int64(reader, reserved));
		found = true;
	}
	return found;
}

static bool
add_balance(int64 stock_id, Snapshot snapshot, StockLevel *level)
{
	RowReader	reader;
	ScanKeyData key;
	bool		found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stock_id));
	ordflow_reader_open(&reader, "stock", "stock_pkey", snapshot, &key, 1);
	found = add_rows(&reader, level);
	ordflow_reader_close(&reader);
	return found;
}

static void
add_segment(int64 segment, int64 stock_id, Snapshot snapshot, StockLevel *level)
{
	const char *partition = ordflow_ledger_partition(LEDGER_PARTITION(segment));
	char	   *index = psprintf("%s_segment_stock_id_idx", partition);
	RowReader	reader;
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(segment));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stock_id));
	ordflow_reader_open(&reader, partition, index, snapshot, keys, 2);
	add_rows(&reader, level);
	ordflow_reader_close(&reader);
	pfree(index);
}

bool
ordflow_stock_level(int64 stock_id, Snapshot snapshot, StockLevel *level)
{
	RowReader	segments;
	AttrNumber	folded_at;
	bool		folded = false;
	int64		lowest = 0;

	*level = (StockLevel) {0};
	if (!add_balance(stock_id, snapshot, level))
		return false;

	segments_open(&segments, snapshot);
	folded_at = ordflow_reader_column(&segments, "folded_at");
	while (!folded && ordflow_reader_next(&segments, BackwardScanDirection))
	{
		bool		isnull;

		ordflow_reader_value(&segments, folded_at, &isnull);
		folded = !isnull;
		if (folded)
			break;
		lowest = segments_value(&segments);
		add_segment(lowest, stock_id, snapshot, level);
	}
	ordflow_reader_close(&segments);

	/* the first has no row before it is folded */
	if (!folded && lowest != 1)
		add_segment(1, stock_id, snapshot, level);
	return true;
}

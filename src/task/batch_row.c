/*
 * batch_row.c
 *	  Batches in the tables: their rows, what is counted of their tasks, their ends.
 *
 * All of it is right only as it stands now, so it is read in the latest snapshot, past predicate
 * locks: to finish two tasks of one batch must not be a conflict.
 */
#include "postgres.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "task/batch.h"

/* ---- rows ---- */

static Datum
value_of(RowReader *reader, const char *column, bool *isnull)
{
	return ordflow_reader_value(reader, ordflow_reader_column(reader, column), isnull);
}

static int32
int32_of(RowReader *reader, const char *column)
{
	bool		isnull;
	Datum		value = value_of(reader, column, &isnull);

	return isnull ? 0 : DatumGetInt32(value);
}

static bool
has(RowReader *reader, const char *column)
{
	bool		isnull;

	value_of(reader, column, &isnull);
	return !isnull;
}

static bool
open_by_id(RowReader *reader, const char *table, const char *index, Snapshot snapshot, int64 id)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	ordflow_reader_open(reader, table, index, snapshot, &key, 1);
	return ordflow_reader_next(reader, ForwardScanDirection);
}

bool
ordflow_batch_find(int64 batch_id, Batch *batch)
{
	Snapshot	snapshot = ordflow_register_latest();
	RowReader	reader;
	bool		found = open_by_id(&reader, "task_batches", "task_batches_pkey", snapshot,
								   batch_id);

	if (found)
	{
		bool		isnull;

		*batch = (Batch) {
			.batch_id = batch_id,
			.first = ordflow_reader_int64(&reader, ordflow_reader_column(&reader, "first_task")),
			.kind_id = int32_of(&reader, "kind_id"),
			.total = int32_of(&reader, "total"),
			.on_finish = int32_of(&reader, "on_finish"),
			.part = DatumGetInt16(value_of(&reader, "part", &isnull)),
			.priority = DatumGetInt16(value_of(&reader, "priority", &isnull)),
			.shards = DatumGetBool(value_of(&reader, "shards", &isnull)),
			.submitter = TextDatumGetCString(value_of(&reader, "submitter", &isnull))
		};
	}
	ordflow_reader_close(&reader);
	UnregisterSnapshot(snapshot);
	return found;
}

bool
ordflow_batch_end_find(int64 batch_id, BatchEnd *end)
{
	Snapshot	snapshot = ordflow_register_latest();
	RowReader	reader;
	bool		found = open_by_id(&reader, "task_batch_ends", "task_batch_ends_pkey", snapshot,
								   batch_id);

	if (found)
	{
		bool		isnull;

		*end = (BatchEnd) {
			.reopened = DatumGetBool(value_of(&reader, "reopened", &isnull)),
			.cancelled = has(&reader, "cancelled_at"),
			.figures = {
				.succeeded = int32_of(&reader, "succeeded"),
				.dead = int32_of(&reader, "dead"),
				.cancelled = int32_of(&reader, "cancelled")
			}
		};
	}
	ordflow_reader_close(&reader);
	UnregisterSnapshot(snapshot);
	return found;
}

/* ---- counting ---- */

/* Rows with the numbers of a batch's tasks, by number. */
static void
open_range(RowReader *reader, const char *table, Snapshot snapshot, const Batch *batch)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(batch->first));
	ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_INT8LT,
				Int64GetDatum(batch->first + batch->total));
	ordflow_reader_open(reader, table, psprintf("%s_pkey", table), snapshot, keys, 2);
}

static bool
has_rows(const Batch *batch, int part)
{
	const char *table = ordflow_segment_relname("task_queue", part);
	Snapshot	snapshot = ordflow_register_latest();
	RowReader	reader;
	bool		found;

	open_range(&reader, table, snapshot, batch);
	found = ordflow_reader_next(&reader, ForwardScanDirection);
	ordflow_reader_close(&reader);
	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * The partition that its tasks are in.  One that has retired, or has been emptied since, and may be
 * written to anew, has left to part 0 what is still kept.  The lock keeps it from being emptied
 * while we count.
 */
int
ordflow_batch_part(const Batch *batch)
{
	if (batch->part == 0)
		return 0;
	LockRelationOid(ordflow_relid(ordflow_segment_relname("task_queue", batch->part)),
					AccessShareLock);
	LockRelationOid(ordflow_relid(ordflow_segment_relname("task_outcomes", batch->part)),
					AccessShareLock);
	if (ordflow_segment_is_retired(batch->part) || !has_rows(batch, batch->part))
		return 0;
	return batch->part;
}

/* Attempts by task: which of them have failed since they were put back the last time. */
typedef struct FailedTasks
{
	RowReader	reader;
	AttrNumber	cause;
	bool		more;
} FailedTasks;

/* The next task with attempts, PG_INT64_MAX after the last. */
static int64
next_tried(FailedTasks *tried, bool *failed)
{
	int64		task_id;

	if (!tried->more)
		return PG_INT64_MAX;
	task_id = ordflow_reader_int64(&tried->reader, 1);
	while (tried->more && ordflow_reader_int64(&tried->reader, 1) == task_id)
	{
		bool		isnull;
		text	   *cause = DatumGetTextPP(ordflow_reader_value(&tried->reader, tried->cause,
																&isnull));

		*failed = *VARDATA_ANY(cause) != 'r';	/* no replay */
		tried->more = ordflow_reader_next(&tried->reader, ForwardScanDirection);
	}
	return task_id;
}

/* Goes through outcomes and attempts side by side; returns how many outcomes there are. */
static int32
count_outcomes(const Batch *batch, int part, Snapshot snapshot, BatchFigures *figures)
{
	RowReader	outcomes;
	AttrNumber	state;
	FailedTasks tried;
	bool		failed = false;
	int64		next;
	int32		n = 0;

	open_range(&outcomes, ordflow_segment_relname("task_outcomes", part), snapshot, batch);
	state = ordflow_reader_column(&outcomes, "state");
	open_range(&tried.reader, "task_attempts", snapshot, batch);
	tried.cause = ordflow_reader_column(&tried.reader, "cause");
	tried.more = ordflow_reader_next(&tried.reader, ForwardScanDirection);
	next = next_tried(&tried, &failed);
	while (ordflow_reader_next(&outcomes, ForwardScanDirection))
	{
		int64		task_id = ordflow_reader_int64(&outcomes, 1);
		bool		isnull;
		char		how = DatumGetChar(ordflow_reader_value(&outcomes, state, &isnull));

		for (; next < task_id; next = next_tried(&tried, &failed))
			figures->failed += failed;
		if (next == task_id)
			next = next_tried(&tried, &failed);
		figures->succeeded += how == 's';
		figures->dead += how == 'd';
		figures->cancelled += how == 'c';
		n++;
	}
	for (; next < PG_INT64_MAX; next = next_tried(&tried, &failed))
		figures->failed += failed;
	ordflow_reader_close(&tried.reader);
	ordflow_reader_close(&outcomes);
	return n;
}

static int32
count_rows(const Batch *batch, int part, Snapshot snapshot)
{
	RowReader	reader;
	int32		n = 0;

	open_range(&reader, ordflow_segment_relname("task_queue", part), snapshot, batch);
	while (ordflow_reader_next(&reader, ForwardScanDirection))
		n++;
	ordflow_reader_close(&reader);
	return n;
}

/*
 * In part 0 what has succeeded goes one by one, long before the batch may have ended: what is not
 * there any more counts as that.
 */
void
ordflow_batch_count(const Batch *batch, BatchFigures *figures)
{
	int			part = ordflow_batch_part(batch);
	Snapshot	snapshot = ordflow_register_latest();
	int32		outcomes;

	memset(figures, 0, sizeof(BatchFigures));
	outcomes = count_outcomes(batch, part, snapshot, figures);
	if (part == 0)
	{
		int32		open = count_rows(batch, part, snapshot) - outcomes;

		figures->succeeded = batch->total - open - figures->dead - figures->cancelled;
	}
	UnregisterSnapshot(snapshot);
}

/* ---- ends ---- */

static Statement insert_end = {
	.sql = "INSERT INTO ordflow.task_batch_ends "
	"(batch_id, finished_at, succeeded, dead, cancelled, cancelled_at, on_finish_task) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7)",
	.nargs = 7,
	.argtypes = {INT8OID, TIMESTAMPTZOID, INT4OID, INT4OID, INT4OID, TIMESTAMPTZOID, INT8OID}
};

static Statement renew_end = {
	.sql = "UPDATE ordflow.task_batch_ends SET finished_at = $2, succeeded = $3, dead = $4, "
	"cancelled = $5, cancelled_at = $6, reopened = false WHERE batch_id = $1",
	.nargs = 6,
	.argtypes = {INT8OID, TIMESTAMPTZOID, INT4OID, INT4OID, INT4OID, TIMESTAMPTZOID}
};

static int64
submit_on_finish(const Batch *batch, const BatchFigures *figures)
{
	const TaskKind *kind = ordflow_kind_by_id(batch->on_finish);
	const TaskKind *of = ordflow_kind_by_id(batch->kind_id);
	SubmitOptions options = {.run_at = DT_NOBEGIN};
	JsonBuild	payload = {0};

	if (kind == NULL || of == NULL)
		elog(ERROR, "a kind of batch " INT64_FORMAT " is missing", batch->batch_id);
	ordflow_json_begin_object(&payload);
	ordflow_json_put_int64(&payload, "batch_id", batch->batch_id);
	ordflow_json_put_text(&payload, "kind", of->kind);
	ordflow_json_put_int64(&payload, "total", batch->total);
	ordflow_json_put_int64(&payload, "succeeded", figures->succeeded);
	ordflow_json_put_int64(&payload, "dead", figures->dead);
	ordflow_json_put_int64(&payload, "cancelled", figures->cancelled);
	ordflow_json_end_object(&payload);
	return ordflow_submit_one(kind, ordflow_json_finish(&payload), &options, batch->submitter);
}

void
ordflow_batch_end_write(const Batch *batch, const BatchFigures *figures, bool is_cancelled)
{
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[] = {
		Int64GetDatum(batch->batch_id), TimestampTzGetDatum(now),
		Int32GetDatum(figures->succeeded), Int32GetDatum(figures->dead),
		Int32GetDatum(figures->cancelled), TimestampTzGetDatum(now), (Datum) 0
	};
	char		nulls[] = {' ', ' ', ' ', ' ', ' ', is_cancelled ? ' ' : 'n', 'n', '\0'};
	BatchEnd	end;
	bool		first = !ordflow_batch_end_find(batch->batch_id, &end);

	if (!first && end.cancelled)
		return;
	if (first && batch->on_finish != 0)
	{
		values[6] = Int64GetDatum(submit_on_finish(batch, figures));
		nulls[6] = ' ';
	}
	ordflow_task_own_write();
	ordflow_execute_latest(first ? &insert_end : &renew_end, values, nulls);
	ordflow_task_own_write_done();
}

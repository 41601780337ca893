/*
 * row.c
 *	  Tasks, outcomes and attempts as rows.
 *
 * They are read in the latest snapshot, past predicate locks: whether a task is open is right only
 * as it stands now, whatever the isolation level of whoever takes it.
 */
#include "postgres.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "task/internal.h"

PG_FUNCTION_INFO_V1(ordflow_task_changed);

/* of an error message */
#define ERROR_TEXT_MAX 2000

#define OUTCOMES(n) { \
	.relname = "task_outcomes_" #n, \
	.trigger = "task_changed", \
	.ncolumns = 7, \
	.columns = { \
		{"task_id", INT8OID}, {"started_at", TIMESTAMPTZOID}, {"finished_at", TIMESTAMPTZOID}, \
		{"part", INT2OID}, {"attempts", INT2OID}, {"state", CHAROID}, {"result", JSONBOID} \
	} \
}

static RowTable outcome_tables[TASK_PARTS] = {
	OUTCOMES(0), OUTCOMES(1), OUTCOMES(2), OUTCOMES(3), OUTCOMES(4), OUTCOMES(5), OUTCOMES(6),
	OUTCOMES(7), OUTCOMES(8)
};

static Statement try_outcome = {
	.sql = "INSERT INTO ordflow.task_outcomes "
	"(task_id, started_at, finished_at, part, attempts, state, result) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (task_id, part) DO NOTHING",
	.nargs = 7,
	.argtypes = {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT2OID, INT2OID, CHAROID, JSONBOID}
};

static Statement remove_outcome = {
	.sql = "DELETE FROM ordflow.task_outcomes WHERE task_id = $1 AND part = $2 AND state = 'd'",
	.nargs = 2,
	.argtypes = {INT8OID, INT2OID}
};

static Statement insert_attempt = {
	.sql = "INSERT INTO ordflow.task_attempts "
	"(task_id, attempt, cause, sqlstate, error, at, retry_at) "
	"SELECT $1, coalesce(max(a.attempt), 0) + 1, $2, $3, $4, $5, $6 "
	"FROM ordflow.task_attempts a WHERE a.task_id = $1",
	.nargs = 6,
	.argtypes = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

static Statement delete_unique = {
	.sql = "DELETE FROM ordflow.task_unique WHERE kind_id = $1 AND unique_key = $2",
	.nargs = 2,
	.argtypes = {INT4OID, TEXTOID}
};

static Statement delete_progress = {
	.sql = "DELETE FROM ordflow.task_progress"
};

/* ---- writes of ours, and of others ---- */

/* The subtransaction whose statements are ours now. */
static SubTransactionId own_write = InvalidSubTransactionId;

void
ordflow_task_own_write(void)
{
	own_write = GetCurrentSubTransactionId();
}

void
ordflow_task_own_write_done(void)
{
	own_write = InvalidSubTransactionId;
}

/*
 * Rows were written by hand: what memory holds of them counts no more.  It refuses nothing, so a
 * restore passes.
 */
Datum
ordflow_task_changed(PG_FUNCTION_ARGS)
{
	TaskAction	action = {.kind = ACTION_AFRESH};
	RoleSwitch	saved;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("ordflow.task_changed() is a trigger function"));
	if (own_write == GetCurrentSubTransactionId())
		PG_RETURN_POINTER(NULL);
	ordflow_kinds_changed();
	ordflow_segments_changed();
	saved = ordflow_task_connect();
	ordflow_execute_latest(&delete_progress, NULL, NULL);
	ordflow_task_disconnect(saved);
	if (ordflow_task_shared != NULL)
	{
		ordflow_journal_room(1);
		ordflow_journal_add(&action);
	}
	PG_RETURN_POINTER(NULL);
}

/* ---- reading ---- */

/* Rows of a partition with numbers from first to last, side by side. */
typedef struct Reading
{
	RowReader	tasks;
	RowReader	outcomes;
	RowReader	attempts;
	bool		more_outcomes;
	bool		more_attempts;
	bool		payloads;
	int64		last_batch;		/* that was asked for */
	bool		last_cancelled;
} Reading;

/* Columns of ordflow.task_queue, and of ordflow.task_attempts, as they were created. */
enum
{
	QUEUE_TASK_ID = 1, QUEUE_BATCH_ID, QUEUE_RUN_AT, QUEUE_SUBMITTED_AT, QUEUE_KIND_ID,
	QUEUE_PART, QUEUE_PRIORITY, QUEUE_KEY, QUEUE_UNIQUE_KEY, QUEUE_SUBMITTER, QUEUE_PAYLOAD
};

enum
{
	ATTEMPT_TASK_ID = 1, ATTEMPT_ATTEMPT, ATTEMPT_CAUSE, ATTEMPT_SQLSTATE, ATTEMPT_ERROR,
	ATTEMPT_AT, ATTEMPT_RETRY_AT
};

static void
open_range(RowReader *reader, const char *table, Snapshot snapshot, int64 first, int64 last)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(first));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(last));
	ordflow_reader_open(reader, table, psprintf("%s_pkey", table), snapshot, keys, 2);
}

static void
open_reading(Reading *reading, int part, int64 first, int64 last, Snapshot snapshot)
{
	open_range(&reading->outcomes, outcome_tables[part].relname, snapshot, first, last);
	open_range(&reading->attempts, "task_attempts", snapshot, first, last);
	reading->more_outcomes = ordflow_reader_next(&reading->outcomes, ForwardScanDirection);
	reading->more_attempts = ordflow_reader_next(&reading->attempts, ForwardScanDirection);
}

static void
close_reading(Reading *reading)
{
	ordflow_reader_close(&reading->attempts);
	ordflow_reader_close(&reading->outcomes);
}

static char *
text_of(RowReader *reader, AttrNumber column)
{
	bool		isnull;
	Datum		value = ordflow_reader_value(reader, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static TimestampTz
time_of(RowReader *reader, AttrNumber column)
{
	bool		isnull;
	Datum		value = ordflow_reader_value(reader, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

/* What stands before a replay counts no more, but as a number. */
static void
read_attempts(Reading *reading, TaskRow *row)
{
	TimestampTz retry_at = DT_NOBEGIN;

	while (reading->more_attempts &&
		   ordflow_reader_int64(&reading->attempts, ATTEMPT_TASK_ID) <= row->task_id)
	{
		if (ordflow_reader_int64(&reading->attempts, ATTEMPT_TASK_ID) == row->task_id)
		{
			bool		replay = strcmp(text_of(&reading->attempts, ATTEMPT_CAUSE), "replay") == 0;

			row->attempts += !replay;
			row->failures = replay ? 0 : row->failures + 1;
			retry_at = time_of(&reading->attempts, ATTEMPT_RETRY_AT);
		}
		reading->more_attempts = ordflow_reader_next(&reading->attempts, ForwardScanDirection);
	}
	row->run_at = Max(row->run_at, retry_at);
}

static bool
is_over(Reading *reading, const TaskRow *row)
{
	while (reading->more_outcomes && ordflow_reader_int64(&reading->outcomes, 1) < row->task_id)
		reading->more_outcomes = ordflow_reader_next(&reading->outcomes, ForwardScanDirection);
	if (reading->more_outcomes && ordflow_reader_int64(&reading->outcomes, 1) == row->task_id)
		return true;
	if (row->batch_id == 0)
		return false;
	if (row->batch_id != reading->last_batch)
		reading->last_cancelled = ordflow_batch_is_cancelled(row->batch_id);
	reading->last_batch = row->batch_id;
	return reading->last_cancelled;
}

/* The row that the reader of tasks stands on. */
static void
read_row(Reading *reading, int part, TaskRow *row)
{
	RowReader  *tasks = &reading->tasks;
	bool		isnull;
	Datum		value;

	*row = (TaskRow) {
		.task_id = ordflow_reader_int64(tasks, QUEUE_TASK_ID),
		.part = part,
		.batch_id = ordflow_reader_int64(tasks, QUEUE_BATCH_ID),
		.run_at = time_of(tasks, QUEUE_RUN_AT),
		.key = text_of(tasks, QUEUE_KEY),
		.unique_key = text_of(tasks, QUEUE_UNIQUE_KEY),
		.submitter = text_of(tasks, QUEUE_SUBMITTER)
	};
	row->kind_id = DatumGetInt32(ordflow_reader_value(tasks, QUEUE_KIND_ID, &isnull));
	row->priority = DatumGetInt16(ordflow_reader_value(tasks, QUEUE_PRIORITY, &isnull));
	read_attempts(reading, row);
	row->over = is_over(reading, row);
	if (!reading->payloads || row->over)
		return;
	value = ordflow_reader_value(tasks, QUEUE_PAYLOAD, &isnull);
	row->payload = DatumGetJsonbPCopy(value);
}

int
ordflow_rows_read(int part, int64 first, int64 last, int max, bool payloads, TaskRow **rows)
{
	Snapshot	snapshot = ordflow_register_latest();
	Reading		reading = {.payloads = payloads};
	int			n = 0;

	*rows = palloc(sizeof(TaskRow) * Max(max, 1));
	open_range(&reading.tasks, ordflow_segment_relname("task_queue", part), snapshot, first, last);
	/* its lock keeps it from being emptied; where we had it, nothing has told us what happened */
	AcceptInvalidationMessages();
	if (!ordflow_segment_is_retired(part) &&
		ordflow_reader_next(&reading.tasks, ForwardScanDirection))
	{
		open_reading(&reading, part, first, last, snapshot);
		do
			read_row(&reading, part, &(*rows)[n++]);
		while (n < max && ordflow_reader_next(&reading.tasks, ForwardScanDirection));
		close_reading(&reading);
	}
	ordflow_reader_close(&reading.tasks);
	UnregisterSnapshot(snapshot);
	return n;
}

bool
ordflow_row_find(int64 task_id, bool payload, TaskRow *row)
{
	/* part 0 last: what retires while we look goes there */
	for (int i = 1; i <= TASK_PARTS; i++)
	{
		int			part = i % TASK_PARTS;
		TaskRow    *rows;

		if (ordflow_rows_read(part, task_id, task_id, 1, payload, &rows) == 0)
			continue;
		*row = rows[0];
		return true;
	}
	return false;
}

/* ---- outcomes ---- */

static void
outcome_values(const Outcome *outcome, int part, Datum *values, bool *nulls)
{
	values[0] = Int64GetDatum(outcome->task_id);
	values[1] = TimestampTzGetDatum(outcome->started_at);
	nulls[1] = outcome->started_at == 0;
	values[2] = TimestampTzGetDatum(outcome->finished_at);
	values[3] = Int16GetDatum(part);
	values[4] = Int16GetDatum(Min(outcome->attempts, PG_INT16_MAX));
	values[5] = CharGetDatum(outcome->state);
	values[6] = outcome->result == NULL ? (Datum) 0 : JsonbPGetDatum(outcome->result);
	nulls[6] = outcome->result == NULL;
}

/* Those that are in the partition of the first. */
static int
write_part(const Outcome *outcomes, int n)
{
	int			part = ordflow_segment_for_outcome(outcomes[0].part);
	RowWriter	writer;
	int			i = 0;

	ordflow_rows_begin(&writer, &outcome_tables[part]);
	if (!writer.direct)
		ordflow_task_own_write();
	for (; i < n && outcomes[i].part == outcomes[0].part; i++)
	{
		Datum		values[7];
		bool		nulls[7] = {false};

		outcome_values(&outcomes[i], part, values, nulls);
		ordflow_rows_write(&writer, values, nulls);
	}
	ordflow_rows_end(&writer);
	if (!writer.direct)
		ordflow_task_own_write_done();
	return i;
}

void
ordflow_outcomes_write(const Outcome *outcomes, int n)
{
	for (int i = 0; i < n;)
		i += write_part(&outcomes[i], n - i);
}

bool
ordflow_outcome_try(const Outcome *outcome)
{
	int			part = ordflow_segment_for_outcome(outcome->part);
	Datum		values[7];
	bool		nulls[7] = {false};
	char		flags[7];
	uint64		n;

	outcome_values(outcome, part, values, nulls);
	for (int i = 0; i < lengthof(flags); i++)
		flags[i] = nulls[i] ? 'n' : ' ';
	ordflow_task_own_write();
	n = ordflow_execute_latest(&try_outcome, values, flags);
	ordflow_task_own_write_done();
	return n > 0;
}

bool
ordflow_outcome_remove(const TaskRow *row)
{
	Datum		values[2] = {Int64GetDatum(row->task_id), Int16GetDatum(row->part)};
	uint64		n;

	ordflow_task_own_write();
	n = ordflow_execute_latest(&remove_outcome, values, NULL);
	ordflow_task_own_write_done();
	return n > 0;
}

/* ---- attempts, unique keys ---- */

void
ordflow_attempt_write(const Attempt *attempt, TimestampTz now)
{
	const char *error = attempt->error;
	Datum		values[6];
	char		nulls[6] = {' ', ' ', ' ', ' ', ' ', ' '};

	if (error != NULL)
		error = pnstrdup(error, pg_mbcliplen(error, strlen(error), ERROR_TEXT_MAX));
	values[0] = Int64GetDatum(attempt->task_id);
	values[1] = CStringGetTextDatum(attempt->cause);
	ORDFLOW_SET_TEXT(values, nulls, 2,
					 attempt->sqlerrcode == 0 ? NULL : unpack_sql_state(attempt->sqlerrcode));
	ORDFLOW_SET_TEXT(values, nulls, 3, error);
	values[4] = TimestampTzGetDatum(now);
	values[5] = TimestampTzGetDatum(attempt->retry_at);
	nulls[5] = attempt->retry_at == DT_NOBEGIN ? 'n' : ' ';
	ordflow_task_own_write();
	ordflow_execute_latest(&insert_attempt, values, nulls);
	ordflow_task_own_write_done();
}

void
ordflow_unique_release(int32 kind_id, const char *unique_key)
{
	Datum		values[2] = {Int32GetDatum(kind_id), CStringGetTextDatum(unique_key)};

	ordflow_execute_latest(&delete_unique, values, NULL);
}

/*
 * progress.c
 *	  How far a batch is, and waiting for its end.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "task/batch.h"

PG_FUNCTION_INFO_V1(ordflow_batch_progress);
PG_FUNCTION_INFO_V1(ordflow_wait_batch);

/* Up to so many tasks are looked for one by one; of more, all claims are looked at. */
#define TASKS_LOOKED_FOR 256
#define SLOTS_AT_ONCE 1000		/* under the lock */

/* ---- progress ---- */

/*
 * The walk ends with the last claim there is.  It lets others in now and then, so what is claimed
 * meanwhile may be missed.
 */
static int32
claims_between(int64 first, int64 last)
{
	int			left;
	int32		n = 0;

	ordflow_task_lock();
	left = ordflow_task_shared->nclaims;
	for (SlotNo no = 1; no <= ordflow_task_shared->used && left > 0; no++)
	{
		const TaskSlot *slot = &ordflow_task_slots[no];

		if (slot->state == SLOT_CLAIMED)
		{
			left--;
			n += slot->first >= first && slot->first <= last &&
				ordflow_task_shared->lanes[slot->lane].database == MyDatabaseId;
		}
		if (no % SLOTS_AT_ONCE == 0)
		{
			ordflow_task_unlock();
			CHECK_FOR_INTERRUPTS();
			ordflow_task_lock();
		}
	}
	ordflow_task_unlock();
	return n;
}

static int32
running(const Batch *batch)
{
	int32		n = 0;

	if (batch->total > TASKS_LOOKED_FOR)
		return claims_between(batch->first, batch->first + batch->total - 1);
	ordflow_task_lock();
	for (int i = 0; i < batch->total; i++)
		n += ordflow_claim_find(batch->first + i) != 0;
	ordflow_task_unlock();
	return n;
}

Datum
ordflow_batch_progress(PG_FUNCTION_ARGS)
{
	enum
	{QUEUED, RUNNING, SUCCEEDED, FAILED, DEAD, CANCELLED, COLUMNS};
	TupleDesc	desc;
	Batch		batch;
	BatchEnd	end;
	BatchFigures figures;
	int32		held = 0;
	int32		open;
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {0};

	if (PG_ARGISNULL(0) || !ordflow_batch_find(PG_GETARG_INT64(0), &batch))
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "batch_progress() returns a row");
	if (ordflow_batch_end_find(batch.batch_id, &end) && !end.reopened)
		figures = end.figures;
	else if (ordflow_task_shared == NULL || RecoveryInProgress())
		ordflow_batch_count(&batch, &figures);
	else if (ordflow_batch_figures(batch.batch_id, &figures))
		held = running(&batch);
	else
		PG_RETURN_NULL();
	open = batch.total - figures.succeeded - figures.dead - figures.cancelled;
	/* who has just finished a task may hold it for a moment still */
	held = Min(held, open);
	values[QUEUED] = Int32GetDatum(open - held);
	values[RUNNING] = Int32GetDatum(held);
	values[SUCCEEDED] = Int32GetDatum(figures.succeeded);
	values[FAILED] = Int32GetDatum(Min(figures.failed, open));
	values[DEAD] = Int32GetDatum(figures.dead);
	values[CANCELLED] = Int32GetDatum(figures.cancelled);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* ---- waiting ---- */

static TimestampTz
wait_until(FunctionCallInfo fcinfo)
{
	Interval   *timeout;

	ordflow_require_not_null(fcinfo, 1, "timeout");
	timeout = PG_GETARG_INTERVAL_P(1);
	if (timeout->month != 0 || timeout->day != 0 || timeout->time < 0 ||
		timeout->time > TASK_WAIT_MAX)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("timeout must be between 0 and 60 seconds"),
				errhint("The statement's snapshot is held while it waits: call it again."));
	return GetCurrentTimestamp() + timeout->time;
}

static bool
has_ended(int64 batch_id)
{
	BatchEnd	end;

	return ordflow_batch_end_find(batch_id, &end) && !end.reopened;
}

Datum
ordflow_wait_batch(PG_FUNCTION_ARGS)
{
	int64		batch_id;
	TimestampTz until;
	Batch		batch;
	bool		ended;

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "batch_id");
	batch_id = PG_GETARG_INT64(0);
	until = wait_until(fcinfo);
	PreventCommandDuringRecovery("ordflow.wait_batch()");
	if (ordflow_journal_has_submitted_batch(batch_id))
		ereport(ERROR,
				errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				errmsg("batch " INT64_FORMAT " starts when this transaction has committed",
					   batch_id));
	if (!ordflow_batch_find(batch_id, &batch))
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("there is no batch " INT64_FORMAT, batch_id));
	do
	{
		ordflow_wait_begin(WAIT_BATCH, batch_id);
		ended = has_ended(batch_id);
	} while (!ended && ordflow_wait_sleep(until));
	ordflow_wait_end(true);
	PG_RETURN_BOOL(ended);
}

/*
 * view.c
 *	  What the views show of the memory.
 */
#include "postgres.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "task/internal.h"

PG_FUNCTION_INFO_V1(ordflow_task_claims);
PG_FUNCTION_INFO_V1(ordflow_task_state);
PG_FUNCTION_INFO_V1(ordflow_task_lane_figures);

/* ---- claims ---- */

typedef struct ClaimCopy
{
	int64		task_id;
	int32		pid;			/* 0: a lease */
	TimestampTz since;
	TimestampTz until;
	bool		cancelled;
} ClaimCopy;

static bool
is_held_here(const TaskSlot *slot)
{
	return slot->state == SLOT_CLAIMED &&
		ordflow_task_shared->lanes[slot->lane].database == MyDatabaseId;
}

static ClaimCopy
copy_claim(const TaskSlot *slot)
{
	return (ClaimCopy) {
		.task_id = slot->first,
		.pid = slot->holder < 0 ? 0 : GetPGProcByNumber(slot->holder)->pid,
		.since = slot->at,
		.until = slot->until,
		.cancelled = (slot->flags & CLAIM_CANCELLED) != 0
	};
}

/* Room is made without the lock; what comes in meanwhile, beyond it, is left out. */
static int
copy_claims(ClaimCopy **copies)
{
	int			max;
	int			n = 0;

	ordflow_task_lock();
	max = ordflow_task_shared->nclaims + 100;
	ordflow_task_unlock();
	*copies = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(ClaimCopy) * (Size) max);
	ordflow_task_lock();
	for (SlotNo no = 1; no <= ordflow_task_shared->used && n < max; no++)
		if (is_held_here(&ordflow_task_slots[no]))
			(*copies)[n++] = copy_claim(&ordflow_task_slots[no]);
	ordflow_task_unlock();
	return n;
}

/* (task_id, pid, since, lease_until, cancelled) */
Datum
ordflow_task_claims(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ClaimCopy  *copies;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (ordflow_task_shared == NULL)
		return (Datum) 0;
	n = copy_claims(&copies);
	for (int i = 0; i < n; i++)
	{
		Datum		values[5];
		bool		nulls[5] = {false};

		values[0] = Int64GetDatum(copies[i].task_id);
		values[1] = Int32GetDatum(copies[i].pid);
		nulls[1] = copies[i].pid == 0;
		values[2] = TimestampTzGetDatum(copies[i].since);
		values[3] = TimestampTzGetDatum(copies[i].until);
		nulls[3] = copies[i].until == 0;
		values[4] = BoolGetDatum(copies[i].cancelled);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ---- the state of a task ---- */

static const char *
outcome_state(char outcome)
{
	return outcome == 's' ? "succeeded" : outcome == 'd' ? "dead" : "cancelled";
}

static bool
is_running(int64 task_id)
{
	SlotNo		no;
	bool		running;

	if (ordflow_task_shared == NULL)
		return false;
	ordflow_task_lock();
	no = ordflow_claim_find(task_id);
	running = no != 0 && (ordflow_task_slots[no].flags & CLAIM_CANCELLED) == 0;
	ordflow_task_unlock();
	return running;
}

static bool
has_ended(int part, int64 task_id)
{
	Snapshot	snapshot = ordflow_register_latest();
	char	   *table = psprintf("task_outcomes_%d", part);
	RowReader	reader;
	ScanKeyData key;
	bool		found;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(task_id));
	ordflow_reader_open(&reader, table, psprintf("%s_pkey", table), snapshot, &key, 1);
	found = ordflow_reader_next(&reader, ForwardScanDirection);
	ordflow_reader_close(&reader);
	UnregisterSnapshot(snapshot);
	return found;
}

/*
 * (task_id, part, batch_id, outcome).  Whoever looks again and again never sees a task go back:
 * one that has ended behind his snapshot is running still.
 */
Datum
ordflow_task_state(PG_FUNCTION_ARGS)
{
	int64		task_id;
	int			part;

	ordflow_require_not_null(fcinfo, 0, "task_id");
	ordflow_require_not_null(fcinfo, 1, "part");
	task_id = PG_GETARG_INT64(0);
	part = PG_GETARG_INT16(1);
	if (!PG_ARGISNULL(3))
		PG_RETURN_TEXT_P(cstring_to_text(outcome_state(PG_GETARG_CHAR(3))));
	if (part < 0 || part >= TASK_PARTS)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("there is no part %d", part));
	if (!PG_ARGISNULL(2) && ordflow_batch_is_cancelled(PG_GETARG_INT64(2)))
		PG_RETURN_TEXT_P(cstring_to_text("cancelled"));
	if (is_running(task_id) || (!RecoveryInProgress() && has_ended(part, task_id)))
		PG_RETURN_TEXT_P(cstring_to_text("running"));
	PG_RETURN_TEXT_P(cstring_to_text("queued"));
}

/* ---- lanes ---- */

typedef struct LaneCopy
{
	Lane		lane;
	int			waiting;
	int			workers;
} LaneCopy;

static int
copy_lanes(LaneCopy *copies)
{
	int			n = 0;

	ordflow_task_lock();
	for (int i = 0; i < TASK_KINDS_MAX; i++)
	{
		const Lane *lane = &ordflow_task_shared->lanes[i];

		if (lane->database != MyDatabaseId)
			continue;
		copies[n].lane = *lane;
		copies[n++].waiting = ordflow_wait_count(MyDatabaseId, WAIT_KIND, lane->kind_id);
	}
	ordflow_task_unlock();
	for (int i = 0; i < n; i++)
		copies[i].workers = OidIsValid(copies[i].lane.owner) ?
			ordflow_pool_workers(copies[i].lane.owner) : 0;
	return n;
}

/* (kind_id, ready, later, running, waiting, workers, busy_keys) */
Datum
ordflow_task_lane_figures(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	LaneCopy   *copies;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (ordflow_task_shared == NULL)
		return (Datum) 0;
	copies = palloc(sizeof(LaneCopy) * TASK_KINDS_MAX);
	n = copy_lanes(copies);
	for (int i = 0; i < n; i++)
	{
		const Lane *lane = &copies[i].lane;
		bool		nulls[7] = {false};
		Datum		values[7] = {
			Int32GetDatum(lane->kind_id), Int64GetDatum(lane->ready), Int64GetDatum(lane->later),
			Int32GetDatum(lane->running), Int32GetDatum(copies[i].waiting),
			Int32GetDatum(copies[i].workers), Int32GetDatum(lane->keys)
		};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

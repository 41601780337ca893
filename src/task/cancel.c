/*
 * cancel.c
 *	  Ending tasks that are open, and putting dead ones back.
 *
 * Who cancels a task says so first, in memory, so that its holder ends it against the unique
 * index of outcomes from then on, as the canceller does: whoever inserts first has ended it.
 */
#include "postgres.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

#include "task/batch.h"

PG_FUNCTION_INFO_V1(ordflow_cancel_task);
PG_FUNCTION_INFO_V1(ordflow_cancel_batch);
PG_FUNCTION_INFO_V1(ordflow_retry_task);
PG_FUNCTION_INFO_V1(ordflow_retry_batch);

/* dead tasks that are put back at a time */
#define RETRY_AT_ONCE 10000

/* ---- what all four begin with ---- */

static int64
begin_verb(FunctionCallInfo fcinfo, const char *argument, const char *what)
{
	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, argument);
	PreventCommandIfReadOnly(what);
	PreventCommandDuringRecovery(what);
	ordflow_refuse_prepare("tasks");
	ordflow_queue();
	return PG_GETARG_INT64(0);
}

static const TaskKind *
kind_of(int32 kind_id)
{
	const TaskKind *kind = ordflow_kind_by_id(kind_id);

	if (kind == NULL)
		elog(ERROR, "kind %d is missing", kind_id);
	return kind;
}

static void
require_right(const TaskKind *kind, const char *submitter)
{
	Oid			role = submitter == NULL ? InvalidOid : get_role_oid(submitter, true);

	if (!OidIsValid(role) || !has_privs_of_role(GetUserId(), role))
		ordflow_kind_require_owner(kind);
}

static void
find_task(int64 task_id, TaskRow *row)
{
	if (!ordflow_row_find(task_id, false, row))
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("there is no task " INT64_FORMAT, task_id));
}

static void
find_batch(int64 batch_id, Batch *batch)
{
	if (!ordflow_batch_find(batch_id, batch))
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("there is no batch " INT64_FORMAT, batch_id));
}

static const TaskKind *
kind_of_task(const TaskRow *row)
{
	const TaskKind *kind = kind_of(row->kind_id);
	const char *submitter = row->submitter;
	Batch		batch;

	if (submitter == NULL && row->batch_id != 0 && ordflow_batch_find(row->batch_id, &batch))
		submitter = batch.submitter;
	require_right(kind, submitter);
	return kind;
}

/* By this transaction too, which memory does not know of yet. */
static bool
is_cancelled(int64 batch_id)
{
	BatchEnd	end;

	return batch_id != 0 && ordflow_batch_end_find(batch_id, &end) && end.cancelled;
}

/* Connected to SPI, as the extension's owner. */
static RoleSwitch
enter(void)
{
	RoleSwitch	saved = ordflow_role_enter(ordflow_owner(), false);

	SPI_connect();
	return saved;
}

static void
leave(RoleSwitch saved)
{
	SPI_finish();
	ordflow_role_leave(saved);
}

/* ---- cancelling a task ---- */

/* Nobody holds it: this transaction does, to its end.  The lock is held.  False: no slot. */
static bool
hold(const TaskKind *kind, const TaskRow *row, TimestampTz now, TaskAction *action)
{
	ClaimTerms	terms = {.now = now};
	Lane	   *lane = ordflow_lane(kind);

	action->slot = lane == NULL ? 0 : ordflow_slot_for_claim();
	if (action->slot == 0 ||
		!ordflow_claim_make(action->slot, lane, row->task_id, row->part, row->priority, &terms))
		return false;
	ordflow_task_slots[action->slot].batch_id = row->batch_id;
	ordflow_task_slots[action->slot].flags |= CLAIM_FINISHING;
	if (row->unique_key != NULL &&
		strncmp(row->unique_key, SCHEDULE_KEY, strlen(SCHEDULE_KEY)) == 0)
		ordflow_task_slots[action->slot].flags |= CLAIM_SCHEDULED;
	action->token = ordflow_task_slots[action->slot].token;
	return true;
}

/* Says that the task is being cancelled, until this transaction ends.  The claim that tells. */
static TaskAction
announce(const TaskKind *kind, const TaskRow *row)
{
	TaskAction	action = {.kind = ACTION_CANCEL, .run = {.first = row->task_id}};
	TimestampTz now = GetCurrentTimestamp();
	bool		held = true;

	ordflow_session_require_room(1);
	ordflow_task_attend();
	ordflow_journal_room(2);
	ordflow_task_lock();
	action.slot = ordflow_claim_find(row->task_id);
	if (action.slot != 0)
	{
		ordflow_task_slots[action.slot].flags |= CLAIM_CANCELLING;
		action.token = ordflow_task_slots[action.slot].token;
	}
	else
	{
		action.kind = ACTION_CLAIM;
		held = hold(kind, row, now, &action);
	}
	if (held)
		ordflow_journal_add(&action);
	if (held && action.kind == ACTION_CLAIM)
	{
		action.kind = ACTION_FINISH;
		ordflow_journal_add(&action);
	}
	ordflow_task_unlock();
	if (!held)
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("no more tasks can be held at once"),
				errhint("Raise ordflow.task_slots."));
	return action;
}

static bool
is_held(const TaskAction *action)
{
	bool		held;

	ordflow_task_lock();
	held = ordflow_claim_is(action->slot, action->token);
	ordflow_task_unlock();
	return held;
}

Datum
ordflow_cancel_task(PG_FUNCTION_ARGS)
{
	int64		task_id = begin_verb(fcinfo, "task_id", "ordflow.cancel_task()");
	const TaskKind *kind;
	TaskRow		row;
	TaskAction	announced;
	RoleSwitch	saved;
	bool		done;

	find_task(task_id, &row);
	kind = kind_of_task(&row);
	if (row.over || is_cancelled(row.batch_id))
		PG_RETURN_INT32(0);
	saved = enter();
	announced = announce(kind, &row);
	done = ordflow_finish_for(kind, &row, 'c');
	/* whom we waited for may have let it go: nobody else is to take it for his */
	if (done && !is_held(&announced))
		announce(kind, &row);
	leave(saved);
	PG_RETURN_INT32(done);
}

/* ---- cancelling a batch ---- */

/* What is committed, and what this transaction has done before. */
static void
figures_now(const Batch *batch, BatchFigures *sum)
{
	BatchFigures own;

	if (!ordflow_batch_figures(batch->batch_id, sum))
		elog(ERROR, "batch " INT64_FORMAT " has gone", batch->batch_id);
	ordflow_batch_own(batch->batch_id, &own);
	sum->succeeded += own.succeeded;
	sum->dead += own.dead;
	sum->cancelled += own.cancelled;
}

static void
note_cancelled(const Batch *batch)
{
	TaskAction	action = {
		.kind = ACTION_CANCEL_BATCH,
		.run = {
			.part = batch->part,
			.first = batch->first,
			.last = batch->first + batch->total - 1
		},
		.delta = {.batch_id = batch->batch_id}
	};

	ordflow_journal_room(1);
	ordflow_journal_add(&action);
}

Datum
ordflow_cancel_batch(PG_FUNCTION_ARGS)
{
	int64		batch_id = begin_verb(fcinfo, "batch_id", "ordflow.cancel_batch()");
	Batch		batch;
	BatchFigures figures;
	int32		open;
	RoleSwitch	saved;

	find_batch(batch_id, &batch);
	require_right(kind_of(batch.kind_id), batch.submitter);
	/* nobody is about to finish tasks of it, nor will before this transaction ends */
	ordflow_batch_lock(BATCH_LOCK_END, batch_id, ExclusiveLock);
	if (is_cancelled(batch_id))
		PG_RETURN_INT32(0);
	figures_now(&batch, &figures);
	open = batch.total - figures.succeeded - figures.dead - figures.cancelled;
	/* it has ended, or does so when we commit */
	if (open == 0)
		PG_RETURN_INT32(0);
	figures.cancelled += open;
	saved = enter();
	ordflow_batch_end_write(&batch, &figures, true);
	leave(saved);
	note_cancelled(&batch);
	PG_RETURN_INT32(open);
}

/* ---- trying again ---- */

static Statement take_unique_key = {
	.sql = "INSERT INTO ordflow.task_unique (kind_id, unique_key, task_id) VALUES ($1, $2, $3) "
	"ON CONFLICT (kind_id, unique_key) DO NOTHING",
	.nargs = 3,
	.argtypes = {INT4OID, TEXTOID, INT8OID}
};

/* The key was free from the task's end on, and may be another's. */
static void
require_unique_key(const TaskRow *row)
{
	Datum		values[3];

	if (row->unique_key == NULL)
		return;
	values[0] = Int32GetDatum(row->kind_id);
	values[1] = CStringGetTextDatum(row->unique_key);
	values[2] = Int64GetDatum(row->task_id);
	if (ordflow_execute_latest(&take_unique_key, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("another task with the unique key \"%s\" is open", row->unique_key));
}

/* Tasks with numbers in a row: memory is to know before their rows change. */
static void
reserve_run(const TaskKind *kind, int part, int priority, int64 first, int64 last)
{
	TaskAction	action = {
		.kind = ACTION_SUBMIT,
		.kind_id = kind->kind_id,
		.run = {
			.part = part,
			.priority = priority,
			.first = first,
			.last = last,
			.run_at = DT_NOBEGIN
		}
	};

	ordflow_journal_room(1);
	action.slot = ordflow_run_reserve(kind, part, first);
	ordflow_journal_add(&action);
}

static bool
put_back(const TaskRow *row)
{
	Attempt		replay = {.task_id = row->task_id, .cause = "replay", .retry_at = DT_NOBEGIN};

	if (!ordflow_outcome_remove(row))
		return false;
	ordflow_attempt_write(&replay, GetCurrentTimestamp());
	require_unique_key(row);
	return true;
}

static void
note_put_back(const TaskKind *kind, int64 batch_id, int32 n)
{
	TaskAction	action = {.kind = ACTION_BATCH, .delta = {.batch_id = batch_id, .dead = -n}};

	if (n > 0 && kind->notify)
		Async_Notify("ordflow_tasks", kind->kind);
	if (n == 0 || batch_id == 0)
		return;
	ordflow_journal_room(1);
	ordflow_journal_add(&action);
}

Datum
ordflow_retry_task(PG_FUNCTION_ARGS)
{
	int64		task_id = begin_verb(fcinfo, "task_id", "ordflow.retry_task()");
	const TaskKind *kind;
	TaskRow		row;
	RoleSwitch	saved;
	bool		done;

	find_task(task_id, &row);
	kind = kind_of_task(&row);
	if (row.batch_id != 0)
		ordflow_batch_lock(BATCH_LOCK_RETRY, row.batch_id, ExclusiveLock);
	/* its partition retires before this, and leaves it to another, or not until we have ended */
	ordflow_segment_for_outcome(row.part);
	find_task(task_id, &row);
	if (!row.over || is_cancelled(row.batch_id))
		PG_RETURN_INT32(0);
	saved = enter();
	reserve_run(kind, row.part, row.priority, task_id, task_id);
	ordflow_progress_forget(row.part);
	done = put_back(&row);
	note_put_back(kind, row.batch_id, done);
	leave(saved);
	PG_RETURN_INT32(done);
}

/* Dead tasks of a batch in a partition from a number on: at most RETRY_AT_ONCE. */
static int
find_dead(const Batch *batch, int part, int64 from, int64 *tasks)
{
	const char *table = ordflow_segment_relname("task_outcomes", part);
	Snapshot	snapshot = ordflow_register_latest();
	ScanKeyData keys[2];
	RowReader	reader;
	AttrNumber	state;
	int			n = 0;

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_INT8LT,
				Int64GetDatum(batch->first + batch->total));
	ordflow_reader_open(&reader, table, psprintf("%s_pkey", table), snapshot, keys, 2);
	state = ordflow_reader_column(&reader, "state");
	while (n < RETRY_AT_ONCE && ordflow_reader_next(&reader, ForwardScanDirection))
	{
		bool		isnull;

		if (DatumGetChar(ordflow_reader_value(&reader, state, &isnull)) == 'd')
			tasks[n++] = ordflow_reader_int64(&reader, 1);
	}
	ordflow_reader_close(&reader);
	UnregisterSnapshot(snapshot);
	return n;
}

/* As many as have numbers in a row are one run. */
static int
put_back_all(const TaskKind *kind, const TaskRow *like, const int64 *tasks, int n)
{
	int			done = 0;

	for (int i = 0; i < n;)
	{
		int			end = i + 1;

		while (end < n && tasks[end] == tasks[end - 1] + 1)
			end++;
		reserve_run(kind, like->part, like->priority, tasks[i], tasks[end - 1]);
		for (; i < end; i++)
		{
			TaskRow		row = *like;

			row.task_id = tasks[i];
			done += put_back(&row);
		}
	}
	return done;
}

static int
retry_in_part(const TaskKind *kind, const Batch *batch, int part, int priority)
{
	TaskRow		like = {.part = part, .priority = priority, .kind_id = kind->kind_id};
	int64	   *tasks = palloc(sizeof(int64) * RETRY_AT_ONCE);
	int64		from = batch->first;
	int			done = 0;
	int			n;

	like.batch_id = batch->batch_id;
	while ((n = find_dead(batch, part, from, tasks)) > 0)
	{
		done += put_back_all(kind, &like, tasks, n);
		from = tasks[n - 1] + 1;
		CHECK_FOR_INTERRUPTS();
	}
	if (done > 0)
		ordflow_progress_forget(part);
	return done;
}

Datum
ordflow_retry_batch(PG_FUNCTION_ARGS)
{
	int64		batch_id = begin_verb(fcinfo, "batch_id", "ordflow.retry_batch()");
	const TaskKind *kind;
	Batch		batch;
	RoleSwitch	saved;
	int			done = 0;

	find_batch(batch_id, &batch);
	kind = kind_of(batch.kind_id);
	require_right(kind, batch.submitter);
	ordflow_batch_lock(BATCH_LOCK_RETRY, batch_id, ExclusiveLock);
	if (is_cancelled(batch_id))
		PG_RETURN_INT32(0);
	/* as in retry_task() */
	ordflow_segment_for_outcome(batch.part);
	saved = enter();
	done = retry_in_part(kind, &batch, ordflow_batch_part(&batch), batch.priority);
	note_put_back(kind, batch_id, done);
	leave(saved);
	PG_RETURN_INT32(done);
}

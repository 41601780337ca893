/*
 * load.c
 *	  Rows are read into memory: after a start of the server, after a restore, and where the memory
 *	  had no room.
 *
 * In steps, by number, one partition at a time: whoever claims finds the first tasks after one
 * step, and the coordinator does the rest.  A step takes the latest snapshot; what commits later
 * publishes itself, as its transaction knows the queue.
 *
 * The table ordflow.task_progress tells where to begin.  It is written under ShareRowExclusiveLock
 * by what memory shows then; whoever opens a task below it has reserved its run before he deletes
 * the row: so either his run is counted, or what was written is deleted.
 */
#include "postgres.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "task/internal.h"
#include "worker/worker.h"

/* a run may cover so many numbers that are over: a look at them is cheaper than a slot */
#define GAP_MAX 16

/* published under the lock at a time */
#define AT_ONCE 100

#define FAR_AHEAD (60 * USECS_PER_SEC)
#define FAR_ROWS_MAX 4000000

/* This process is the one that looks through rows. */
static bool loading = false;

/* The rows of a step. */
typedef struct Step
{
	int			part;
	int64		from;
	int64		end;
	TimestampTz far;
	TimestampTz now;
	int64		last_batch;		/* that was asked for */
	bool		last_cancelled;
	RowReader	tasks;
	RowReader	outcomes;
	RowReader	attempts;
	bool		more_outcomes;
	bool		more_attempts;
	AttrNumber	run_at;
	AttrNumber	batch_id;
	AttrNumber	kind_id;
	AttrNumber	priority;
	AttrNumber	retry_at;
	TaskRun    *runs;
	int			nruns;
	int64		scanned;		/* all up to this number is in runs */
	bool		exhausted;
} Step;

void
ordflow_load_afresh(TaskQueue *queue)
{
	queue->afresh++;
	queue->next_id = queue->ids_end = 0;
	queue->far = DT_NOEND;
	ordflow_batches_forget(queue->database);
	for (int part = 0; part < TASK_PARTS; part++)
	{
		queue->unread[part] = 0;
		queue->unread_end[part] = PG_INT64_MAX;
		queue->grown[part] = 0;
	}
}

void
ordflow_load_abandon(void)
{
	if (!loading)
		return;
	loading = false;
	ordflow_task_lock();
	ordflow_queue()->loading = false;
	ordflow_task_unlock();
	ConditionVariableBroadcast(&ordflow_task_shared->loaded);
}

/* ---- reading ---- */

static void
open_from(RowReader *reader, const char *table, Snapshot snapshot, int64 from)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	ordflow_reader_open(reader, table, psprintf("%s_pkey", table), snapshot, &key, 1);
}

static int64
done_through(int part, Snapshot snapshot)
{
	RowReader	reader;
	ScanKeyData key;
	int64		number = 0;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(part));
	ordflow_reader_open(&reader, "task_progress", "task_progress_pkey", snapshot, &key, 1);
	if (ordflow_reader_next(&reader, ForwardScanDirection))
		number = ordflow_reader_int64(&reader, ordflow_reader_column(&reader, "done_through"));
	ordflow_reader_close(&reader);
	return number;
}

static void
open_step(Step *step, Snapshot snapshot)
{
	if (step->from == 0)
		step->from = done_through(step->part, snapshot) + 1;
	open_from(&step->tasks, psprintf("task_queue_%d", step->part), snapshot, step->from);
	open_from(&step->outcomes, psprintf("task_outcomes_%d", step->part), snapshot, step->from);
	open_from(&step->attempts, "task_attempts", snapshot, step->from);
	step->run_at = ordflow_reader_column(&step->tasks, "run_at");
	step->batch_id = ordflow_reader_column(&step->tasks, "batch_id");
	step->kind_id = ordflow_reader_column(&step->tasks, "kind_id");
	step->priority = ordflow_reader_column(&step->tasks, "priority");
	step->retry_at = ordflow_reader_column(&step->attempts, "retry_at");
	step->more_outcomes = ordflow_reader_next(&step->outcomes, ForwardScanDirection);
	step->more_attempts = ordflow_reader_next(&step->attempts, ForwardScanDirection);
}

static void
close_step(Step *step)
{
	ordflow_reader_close(&step->attempts);
	ordflow_reader_close(&step->outcomes);
	ordflow_reader_close(&step->tasks);
}

static bool
is_over(Step *step, int64 task_id)
{
	int64		batch_id = ordflow_reader_int64(&step->tasks, step->batch_id);

	while (step->more_outcomes && ordflow_reader_int64(&step->outcomes, 1) < task_id)
		step->more_outcomes = ordflow_reader_next(&step->outcomes, ForwardScanDirection);
	if (step->more_outcomes && ordflow_reader_int64(&step->outcomes, 1) == task_id)
		return true;
	if (batch_id == 0)
		return false;
	if (batch_id != step->last_batch)
		step->last_cancelled = ordflow_batch_is_cancelled(batch_id);
	step->last_batch = batch_id;
	return step->last_cancelled;
}

static TimestampTz
time_of(RowReader *reader, AttrNumber column)
{
	bool		isnull;
	Datum		value = ordflow_reader_value(reader, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

/* When the task may start: its own time, or that of the last attempt; what is past is "at once". */
static TimestampTz
due_at(Step *step, int64 task_id)
{
	TimestampTz at = time_of(&step->tasks, step->run_at);
	TimestampTz retry_at = DT_NOBEGIN;

	while (step->more_attempts && ordflow_reader_int64(&step->attempts, 1) <= task_id)
	{
		if (ordflow_reader_int64(&step->attempts, 1) == task_id)
			retry_at = time_of(&step->attempts, step->retry_at);
		step->more_attempts = ordflow_reader_next(&step->attempts, ForwardScanDirection);
	}
	at = Max(at, retry_at);
	return at <= step->now ? DT_NOBEGIN : at;
}

static const TaskKind *
kind_of(Step *step)
{
	bool		isnull;
	Datum		kind_id = ordflow_reader_value(&step->tasks, step->kind_id, &isnull);
	TaskRun    *last = step->nruns == 0 ? NULL : &step->runs[step->nruns - 1];

	if (last != NULL && last->kind->kind_id == DatumGetInt32(kind_id))
		return last->kind;
	return ordflow_kind_by_id(DatumGetInt32(kind_id));
}

/* The row that the reader of tasks stands on, which is open. */
static void
add_task(Step *step, int64 task_id)
{
	bool		isnull;
	TimestampTz at = due_at(step, task_id);
	TaskRun    *last = step->nruns == 0 ? NULL : &step->runs[step->nruns - 1];
	const TaskKind *kind = kind_of(step);
	Datum		priority = ordflow_reader_value(&step->tasks, step->priority, &isnull);
	TaskRun		run = {
		.kind = kind,
		.part = step->part,
		.priority = Max(0, Min(DatumGetInt16(priority), TASK_PRIORITIES - 1)),
		.first = task_id,
		.last = task_id,
		.run_at = at
	};

	if (kind == NULL || at >= step->far)
		return;
	if (last != NULL && last->kind == kind && last->priority == run.priority &&
		last->run_at == at && task_id <= last->last + GAP_MAX)
		last->last = task_id;
	else
		step->runs[step->nruns++] = run;
}

static void
read_rows(Step *step, int max)
{
	step->scanned = step->from - 1;
	for (int i = 0; i < max; i++)
	{
		int64		task_id;

		if (!ordflow_reader_next(&step->tasks, ForwardScanDirection))
		{
			step->exhausted = true;
			return;
		}
		task_id = ordflow_reader_int64(&step->tasks, 1);
		if (task_id >= step->end)
		{
			step->exhausted = true;
			return;
		}
		if (!is_over(step, task_id))
			add_task(step, task_id);
		step->scanned = task_id;
	}
}

/* ---- into memory ---- */

/* False: there is no room, and the rest is to be read again. */
static bool
publish(TaskQueue *queue, Step *step)
{
	bool		fits = true;

	ordflow_task_lock();
	for (int i = 0; i < step->nruns && fits; i++)
	{
		TaskRun    *run = &step->runs[i];
		Lane	   *lane = ordflow_lane(run->kind);
		SlotNo		no = lane == NULL ? 0 : ordflow_slot_new();

		if (no != 0)
			ordflow_task_slots[no].lane = lane - ordflow_task_shared->lanes;
		fits = ordflow_run_publish(queue, run, run->kind->kind_id, no);
		if (!fits)
		{
			step->scanned = run->first - 1;
			step->exhausted = false;
		}
		if (i % AT_ONCE == AT_ONCE - 1)
		{
			ordflow_task_unlock();
			ordflow_task_lock();
		}
	}
	ordflow_task_unlock();
	return fits;
}

/* The lock is held: what has been read is unread no more, but for what has become so meanwhile. */
static void
shrink(TaskQueue *queue, const Step *step)
{
	int			part = step->part;
	int64		from = step->exhausted ? step->end : step->scanned + 1;

	queue->unread[part] = Min(from, queue->grown[part]);
	if (queue->unread[part] >= queue->unread_end[part])
		queue->unread[part] = queue->unread_end[part] = 0;
	queue->grown[part] = PG_INT64_MAX;
}

static int
choose_part(const TaskQueue *queue)
{
	int			best = -1;

	for (int part = 0; part < TASK_PARTS; part++)
		if (queue->unread[part] < queue->unread_end[part] &&
			(best < 0 || queue->unread[part] < queue->unread[best]))
			best = part;
	return best;
}

static void
wait_for_loader(TaskQueue *queue)
{
	bool		busy = true;

	ConditionVariablePrepareToSleep(&ordflow_task_shared->loaded);
	while (busy)
	{
		ordflow_task_lock();
		busy = queue->loading;
		ordflow_task_unlock();
		if (busy)
			ConditionVariableSleep(&ordflow_task_shared->loaded, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

/* False: it is not for us to do; *busy: another does. */
static bool
begin_step(TaskQueue *queue, Step *step, bool *busy)
{
	int			part;

	ordflow_task_lock();
	part = choose_part(queue);
	*busy = part >= 0 && queue->loading;
	if (part >= 0 && !*busy)
	{
		queue->loading = true;
		loading = true;
		step->part = part;
		step->from = queue->unread[part];
		step->end = queue->unread_end[part];
		step->far = queue->far;
		queue->grown[part] = PG_INT64_MAX;
	}
	ordflow_task_unlock();
	return part >= 0 && !*busy;
}

static bool
run_step(TaskQueue *queue, Step *step, int max)
{
	bool		fits;

	if (ordflow_segment_is_retired(step->part))
		step->exhausted = true;
	else
	{
		Snapshot	snapshot = ordflow_register_latest();

		step->runs = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(TaskRun) * (Size) max);
		open_step(step, snapshot);
		read_rows(step, max);
		close_step(step);
		UnregisterSnapshot(snapshot);
	}
	fits = publish(queue, step);
	ordflow_task_lock();
	shrink(queue, step);
	ordflow_task_unlock();
	ordflow_load_abandon();
	return fits || step->scanned >= step->from;
}

bool
ordflow_load_step(int max)
{
	TaskQueue  *queue = ordflow_queue();
	Step		step = {.now = GetCurrentTimestamp()};
	bool		busy;
	MemoryContext context;
	MemoryContext before;
	bool		advanced;

	if (!begin_step(queue, &step, &busy))
	{
		if (busy)
			wait_for_loader(queue);
		return busy;
	}
	context = AllocSetContextCreate(CurrentMemoryContext, "ordflow load", ALLOCSET_DEFAULT_SIZES);
	before = MemoryContextSwitchTo(context);
	advanced = run_step(queue, &step, max);
	MemoryContextSwitchTo(before);
	MemoryContextDelete(context);
	return advanced;
}

/* ---- what is due much later ---- */

static Statement far_tasks = {
	.sql = "SELECT task_id, part, kind_id, priority, run_at FROM ordflow.task_queue "
	"WHERE run_at >= $1 ORDER BY run_at, task_id LIMIT $2",
	.nargs = 2,
	.argtypes = {TIMESTAMPTZOID, INT4OID}
};

static Statement far_retries = {
	.sql = "SELECT q.task_id, q.part, q.kind_id, q.priority, a.retry_at "
	"FROM ordflow.task_attempts a JOIN ordflow.task_queue q ON q.task_id = a.task_id "
	"WHERE a.retry_at >= $1 ORDER BY a.retry_at, a.task_id LIMIT $2",
	.nargs = 2,
	.argtypes = {TIMESTAMPTZOID, INT4OID}
};

static void
read_later(uint64 row, TaskRun *run)
{
	bool		isnull;

	*run = (TaskRun) {
		.kind = ordflow_kind_by_id(DatumGetInt32(ordflow_result(row, 3, &isnull))),
		.part = DatumGetInt16(ordflow_result(row, 2, &isnull)),
		.priority = DatumGetInt16(ordflow_result(row, 4, &isnull)),
		.first = ordflow_result_int64(row, 1),
		.last = ordflow_result_int64(row, 1),
		.run_at = DatumGetTimestampTz(ordflow_result(row, 5, &isnull))
	};
}

/* False: there is no room. */
static bool
publish_later(TaskQueue *queue, const TaskRun *run)
{
	SlotNo		no = 0;
	Lane	   *lane;

	if (run->kind == NULL)
		return true;
	ordflow_task_lock();
	lane = ordflow_lane(run->kind);
	if (lane != NULL)
		no = ordflow_slot_new();
	if (no != 0)
	{
		ordflow_task_slots[no].lane = lane - ordflow_task_shared->lanes;
		ordflow_run_publish(queue, run, run->kind->kind_id, no);
	}
	ordflow_task_unlock();
	return no != 0;
}

/*
 * Some may be over by now, or be tried at another time: whoever takes them sees that.  Returns from
 * when on there may be more; those of one time are read together, or there would be no end to it.
 */
static TimestampTz
load_later(TaskQueue *queue, Statement *statement, TimestampTz from, int max)
{
	Datum		values[] = {TimestampTzGetDatum(from), Int32GetDatum(max)};
	uint64		n = ordflow_execute_latest(statement, values, NULL);
	TaskRun		run;

	if (n == 0)
		return DT_NOEND;
	read_later(n - 1, &run);
	if (n == max && run.run_at == from && max < FAR_ROWS_MAX)
		return load_later(queue, statement, from, Min(max * 8, FAR_ROWS_MAX));
	read_later(0, &run);
	for (uint64 i = 1; i < n; i++)
	{
		TaskRun		next;

		read_later(i, &next);
		if (next.kind == run.kind && next.part == run.part && next.priority == run.priority &&
			next.run_at == run.run_at && next.first == run.last + 1)
		{
			run.last = next.last;
			continue;
		}
		if (!publish_later(queue, &run))
			return run.run_at;
		run = next;
	}
	if (!publish_later(queue, &run))
		return run.run_at;
	return n == max ? run.run_at : DT_NOEND;
}

/* What is read may push out others, which are far again then. */
static void
set_dropped(TaskQueue *queue, TimestampTz at)
{
	ordflow_task_lock();
	queue->dropped = at;
	ordflow_task_unlock();
}

TimestampTz
ordflow_load_far(TimestampTz now)
{
	TaskQueue  *queue = ordflow_queue();
	int			max = ordflow_task_shared->nslots / 8;
	TimestampTz from;
	TimestampTz far;

	ordflow_task_lock();
	from = queue->far;
	ordflow_task_unlock();
	if (from == DT_NOEND || from - FAR_AHEAD > now)
		return from == DT_NOEND ? DT_NOEND : from - FAR_AHEAD;
	if (!ordflow_worker_begin())
		return DT_NOEND;
	set_dropped(queue, DT_NOEND);
	SPI_connect();
	far = load_later(queue, &far_tasks, from, max);
	far = ordflow_earlier(far, load_later(queue, &far_retries, from, max));
	SPI_finish();
	ordflow_worker_commit();
	ordflow_task_lock();
	queue->far = from = Min(far, queue->dropped);
	ordflow_task_unlock();
	if (from == DT_NOEND)
		return DT_NOEND;
	/* without room what is due is worked off first */
	return Max(from - FAR_AHEAD, now + USECS_PER_SEC);
}

/* ---- where to begin next time ---- */

static Statement write_progress = {
	.sql = "INSERT INTO ordflow.task_progress AS p (part, done_through) VALUES ($1, $2) "
	"ON CONFLICT (part) DO UPDATE SET done_through = excluded.done_through "
	"WHERE p.done_through < excluded.done_through",
	.nargs = 2,
	.argtypes = {INT2OID, INT8OID}
};

static Statement forget_progress = {
	.sql = "DELETE FROM ordflow.task_progress WHERE part = $1",
	.nargs = 1,
	.argtypes = {INT2OID}
};

/* 0: it is not known. */
static int64
done_by_memory(TaskQueue *queue, int part)
{
	int64		lowest;

	ordflow_task_lock();
	lowest = queue->far != DT_NOEND ? 0 : ordflow_lane_lowest(queue, part);
	lowest = Min(lowest, queue->next_id);
	ordflow_task_unlock();
	return Max(lowest - 1, 0);
}

void
ordflow_progress_write(void)
{
	static int64 written[TASK_PARTS];
	TaskQueue  *queue = ordflow_queue();
	bool		moved = false;

	for (int part = 0; part < TASK_PARTS; part++)
		moved |= done_by_memory(queue, part) > written[part];
	if (!moved || !ordflow_worker_begin())
		return;
	LockRelationOid(ordflow_relid("task_progress"), ShareRowExclusiveLock);
	SPI_connect();
	for (int part = 0; part < TASK_PARTS; part++)
	{
		int64		done = done_by_memory(queue, part);
		Datum		values[] = {Int16GetDatum(part), Int64GetDatum(done)};

		if (done > written[part])
			ordflow_execute_latest(&write_progress, values, NULL);
		written[part] = Max(written[part], done);
	}
	SPI_finish();
	ordflow_worker_commit();
}

void
ordflow_progress_forget(int part)
{
	Datum		values[] = {Int16GetDatum(part)};

	LockRelationOid(ordflow_relid("task_progress"), RowExclusiveLock);
	ordflow_execute_latest(&forget_progress, values, NULL);
}

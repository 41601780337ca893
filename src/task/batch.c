/*
 * batch.c
 *	  How far batches are, in memory; who ends a batch.
 *
 * A transaction that finishes tasks of a batch adds, before it commits, how many to those in
 * flight, and knows by the sum whether it may be the last.  The protocol, which
 * test/model/finish.pml checks:
 *
 * 1. It takes the lock of the batch in common, to its end, and then adds to what is in flight.
 * 2. If finished and in flight make less than the total, it commits: a later one is the last.
 * 3. Else it lets go of the lock and takes it alone, which waits for all others in flight,
 *	  whatever becomes of them.  If then the committed ones and its own make the total, it is the
 *	  last, and ends the batch; else somebody has rolled back, and a later one is.
 *
 * The lock comes before the sum: whoever registered first and then waited for the lock behind the
 * last one would never look again.  Locks are taken by the number of the batch, so nobody waits for
 * one while he holds a higher one.
 *
 * An entry is pinned from then on until the callback of the commit, and the entry of a new
 * batch from before it commits: so what is counted from rows, where there is no entry, misses
 * nothing and counts nothing twice.  Nobody has to wait for whoever counts, who may wait for a
 * lock of ours: the first to be through makes it known.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "task/batch.h"

/* after which somebody else counts too */
#define COUNT_WAIT_MS 1000L

typedef enum EntryState
{
	ENTRY_FREE,
	ENTRY_LOADING,				/* its figures are not known */
	ENTRY_READY
} EntryState;

typedef struct BatchEntry
{
	Oid			database;
	EntryState	state;
	int64		batch_id;
	int64		first;
	int32		total;
	int32		pins;
	bool		used;			/* since somebody looked for room */
	bool		counting;		/* somebody counts its outcomes */
	bool		cancelled;
	BatchFigures figures;		/* committed, as long as it is not cancelled */
	int32		in_flight;		/* that open transactions are about to have finished */
	int32		next;			/* in its bucket: a place and 1 */
} BatchEntry;

typedef struct Batches
{
	ConditionVariable loaded;
	int			hand;			/* where room is looked for */
	int32		buckets[TASK_BATCHES_MAX];	/* a place and 1; 0: empty */
	BatchEntry	entries[TASK_BATCHES_MAX];
} Batches;

/* What this transaction does to a batch. */
typedef struct BatchWork
{
	int64		batch_id;
	int			at;				/* place in the journal */
	BatchFigures figures;
	int64		first;
	int32		total;
	bool		opens;			/* is new */
	bool		settles;		/* has figures, or is new and empty */
	bool		reopens;		/* tasks that were dead are put back */
	bool		cancels;
	/* from PRE_COMMIT on */
	BatchEntry *entry;			/* pinned; or NULL */
	int32		counted;		/* in flight */
	bool		made;			/* the entry, which goes where we roll back */
	bool		ends;
} BatchWork;

static Batches *batches = NULL;
static BatchWork *work = NULL;
static int	nwork = 0;
static int	room = 0;

/* ---- entries; the lock is held where they are changed ---- */

Size
ordflow_batches_size(void)
{
	return sizeof(Batches);
}

void
ordflow_batches_attach(void *memory, bool found)
{
	batches = memory;
	if (found)
		return;
	memset(batches, 0, sizeof(Batches));
	ConditionVariableInit(&batches->loaded);
}

static int32 *
bucket_of(Oid database, int64 batch_id)
{
	return &batches->buckets[((uint32) batch_id + database * 0x9E3779B1U) % TASK_BATCHES_MAX];
}

static BatchEntry *
find_entry(int64 batch_id)
{
	int32		place = *bucket_of(MyDatabaseId, batch_id);

	while (place != 0)
	{
		BatchEntry *entry = &batches->entries[place - 1];

		if (entry->batch_id == batch_id && entry->database == MyDatabaseId)
			return entry;
		place = entry->next;
	}
	return NULL;
}

static void
remove_entry(BatchEntry *entry)
{
	int32	   *link = bucket_of(entry->database, entry->batch_id);

	while (&batches->entries[*link - 1] != entry)
		link = &batches->entries[*link - 1].next;
	*link = entry->next;
	memset(entry, 0, sizeof(BatchEntry));
}

/* Nobody looks at an entry without a pin or the lock. */
static BatchEntry *
find_room(void)
{
	for (int i = 0; i < 2 * TASK_BATCHES_MAX; i++)
	{
		BatchEntry *entry = &batches->entries[batches->hand];

		batches->hand = (batches->hand + 1) % TASK_BATCHES_MAX;
		if (entry->pins > 0)
			continue;
		if (entry->state == ENTRY_FREE)
			return entry;
		if (!entry->used)
		{
			remove_entry(entry);
			return entry;
		}
		entry->used = false;
	}
	return NULL;
}

/* NULL: all entries are pinned. */
static BatchEntry *
make_entry(int64 batch_id)
{
	BatchEntry *entry = find_room();
	int32	   *bucket = bucket_of(MyDatabaseId, batch_id);

	if (entry == NULL)
		return NULL;
	*entry = (BatchEntry) {
		.database = MyDatabaseId,
		.state = ENTRY_LOADING,
		.batch_id = batch_id,
		.next = *bucket
	};
	*bucket = entry - batches->entries + 1;
	return entry;
}

static BatchEntry *
pin(int64 batch_id)
{
	BatchEntry *entry = find_entry(batch_id);

	if (entry == NULL)
		entry = make_entry(batch_id);
	if (entry == NULL)
		return NULL;
	entry->used = true;
	entry->pins++;
	return entry;
}

/* One that nobody knows the figures of is of no use to others. */
static void
unpin(BatchEntry *entry)
{
	if (--entry->pins == 0 && entry->state == ENTRY_LOADING)
		remove_entry(entry);
}

void
ordflow_batches_forget(Oid database)
{
	for (int i = 0; i < TASK_BATCHES_MAX; i++)
	{
		BatchEntry *entry = &batches->entries[i];

		if (entry->state != ENTRY_FREE && entry->database == database && entry->pins == 0)
			remove_entry(entry);
	}
}

/* ---- figures that memory does not know ---- */

static void
unpin_at_error(int code, Datum arg)
{
	BatchEntry *entry = (BatchEntry *) DatumGetPointer(arg);

	ordflow_task_lock();
	entry->counting = false;
	unpin(entry);
	ordflow_task_unlock();
	ConditionVariableBroadcast(&batches->loaded);
}

/* Gives whoever counts already a little time.  True: he is through. */
static bool
wait_for_others(BatchEntry *entry)
{
	TimestampTz until = GetCurrentTimestamp() + COUNT_WAIT_MS * 1000;
	bool		ready = false;
	bool		busy = true;

	ConditionVariablePrepareToSleep(&batches->loaded);
	while (busy)
	{
		ordflow_task_lock();
		ready = entry->state == ENTRY_READY;
		busy = !ready && entry->counting && GetCurrentTimestamp() < until;
		if (!ready && !busy)
			entry->counting = true;
		ordflow_task_unlock();
		if (busy)
			ConditionVariableTimedSleep(&batches->loaded, COUNT_WAIT_MS, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return ready;
}

static void
set_figures(BatchEntry *entry, const Batch *batch, const BatchFigures *all,
			const BatchFigures *own)
{
	entry->first = batch->first;
	entry->total = batch->total;
	entry->figures = (BatchFigures) {
		.succeeded = all->succeeded - own->succeeded,
		.dead = all->dead - own->dead,
		.cancelled = all->cancelled - own->cancelled,
		.failed = all->failed - own->failed
	};
	entry->state = ENTRY_READY;
}

/*
 * Counts once the entry is there to be found: whoever settles tasks of the batch from now on has
 * it ready before.  What this transaction has written is not committed yet.  False: there is no
 * such batch.
 */
static bool
load(BatchEntry *entry)
{
	Batch		batch;
	BatchFigures all;
	BatchFigures own;
	BatchEnd	end;
	bool		is_cancelled;
	bool		found;

	if (wait_for_others(entry))
		return true;
	found = ordflow_batch_find(entry->batch_id, &batch);
	if (found)
	{
		ordflow_batch_count(&batch, &all);
		ordflow_batch_own(batch.batch_id, &own);
		is_cancelled = ordflow_batch_end_find(batch.batch_id, &end) && end.cancelled;
	}
	ordflow_task_lock();
	if (found && entry->state == ENTRY_LOADING)
	{
		set_figures(entry, &batch, &all, &own);
		entry->cancelled |= is_cancelled;
	}
	entry->counting = false;
	ordflow_task_unlock();
	ConditionVariableBroadcast(&batches->loaded);
	return found;
}

static void
require_room(const BatchEntry *entry)
{
	if (entry == NULL)
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("tasks of too many batches are being finished at once"),
				errdetail("At most %d batches may have tasks that open transactions have finished.",
						  TASK_BATCHES_MAX));
}

/* The entry of a batch, pinned and ready; NULL: there is no such batch. */
static BatchEntry *
acquire(int64 batch_id)
{
	BatchEntry *entry;
	bool		ready;

	ordflow_task_lock();
	entry = pin(batch_id);
	ready = entry != NULL && entry->state == ENTRY_READY;
	ordflow_task_unlock();
	require_room(entry);
	if (ready)
		return entry;
	PG_ENSURE_ERROR_CLEANUP(unpin_at_error, PointerGetDatum(entry));
	{
		ready = load(entry);
	}
	PG_END_ENSURE_ERROR_CLEANUP(unpin_at_error, PointerGetDatum(entry));
	if (ready)
		return entry;
	ordflow_task_lock();
	unpin(entry);
	ordflow_task_unlock();
	return NULL;
}

bool
ordflow_batch_figures(int64 batch_id, BatchFigures *figures)
{
	BatchEntry *entry = acquire(batch_id);

	if (entry == NULL)
		return false;
	ordflow_task_lock();
	*figures = entry->figures;
	unpin(entry);
	ordflow_task_unlock();
	return true;
}

bool
ordflow_batch_is_cancelled(int64 batch_id)
{
	const BatchEntry *entry;
	bool		known;
	bool		cancelled;
	BatchEnd	end;

	if (ordflow_task_shared == NULL)
		return ordflow_batch_end_find(batch_id, &end) && end.cancelled;
	ordflow_task_lock();
	entry = find_entry(batch_id);
	cancelled = entry != NULL && entry->cancelled;
	known = cancelled || (entry != NULL && entry->state == ENTRY_READY);
	ordflow_task_unlock();
	return known ? cancelled : ordflow_batch_end_find(batch_id, &end) && end.cancelled;
}

/* ---- what this transaction does ---- */

void
ordflow_batch_lock(BatchLock what, int64 id, LOCKMODE mode)
{
	LOCKTAG		tag;

	/* numbers are far below 2^62 */
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (id >> 32) | ((uint32) what << 30),
						 (uint32) id, TASK_LOCK_BATCH);
	LockAcquire(&tag, mode, false, false);
}

static void
take_alone(int64 batch_id)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (batch_id >> 32), (uint32) batch_id,
						 TASK_LOCK_BATCH);
	LockRelease(&tag, ShareLock, false);
	ordflow_batch_lock(BATCH_LOCK_END, batch_id, ExclusiveLock);
}

void
ordflow_batch_opened(int64 batch_id, int total)
{
	TaskAction	action = {.kind = ACTION_BATCH, .delta = {.batch_id = batch_id}};
	BatchEntry *entry;

	ordflow_queue();
	/* of an extension that was dropped there may be one with this number */
	ordflow_task_lock();
	entry = find_entry(batch_id);
	if (entry != NULL && entry->pins == 0)
		remove_entry(entry);
	ordflow_task_unlock();
	/* where there are tasks, ACTION_SUBMIT tells of the batch */
	if (total > 0)
		return;
	ordflow_journal_room(1);
	ordflow_journal_add(&action);
}

static void
add_figures(BatchFigures *sum, const BatchFigures *more)
{
	sum->succeeded += more->succeeded;
	sum->dead += more->dead;
	sum->cancelled += more->cancelled;
	sum->failed += more->failed;
}

static int32
finished(const BatchFigures *figures)
{
	return figures->succeeded + figures->dead + figures->cancelled;
}

/* False: the action has nothing to do with batches. */
static bool
read_action(const TaskAction *action, BatchWork *item)
{
	const BatchDelta *delta = &action->delta;

	*item = (BatchWork) {.batch_id = delta->batch_id};
	switch (action->kind)
	{
		case ACTION_SUBMIT:
			item->opens = true;
			item->first = action->run.first;
			item->total = action->run.last - action->run.first + 1;
			return delta->batch_id != 0;
		case ACTION_BATCH:
			item->settles = true;
			item->reopens = delta->dead < 0;
			item->figures = (BatchFigures) {
				.succeeded = delta->succeeded,
				.dead = delta->dead,
				.cancelled = delta->cancelled,
				.failed = delta->failed
			};
			return true;
		case ACTION_CANCEL_BATCH:
			item->cancels = true;
			return true;
		default:
			return false;
	}
}

static int
compare_work(const void *a, const void *b)
{
	const BatchWork *x = a;
	const BatchWork *y = b;

	if (x->batch_id != y->batch_id)
		return x->batch_id < y->batch_id ? -1 : 1;
	return x->at < y->at ? -1 : 1;
}

/* The end that cancel_batch() has written holds all that came before it. */
static void
merge(BatchWork *into, const BatchWork *item)
{
	if (item->cancels)
	{
		memset(&into->figures, 0, sizeof(BatchFigures));
		into->settles = into->reopens = false;
		into->cancels = true;
		return;
	}
	add_figures(&into->figures, &item->figures);
	into->settles |= item->settles;
	into->reopens |= item->reopens;
}

static void
gather(void)
{
	const TaskAction *actions;
	int			n = ordflow_journal_look(&actions);
	int			found = 0;

	nwork = 0;
	for (int i = 0; i < n; i++)
	{
		BatchWork	item;

		if (!read_action(&actions[i], &item))
			continue;
		if (found == room)
		{
			room = Max(room * 2, 16);
			work = work == NULL ?
				MemoryContextAllocHuge(TopMemoryContext, sizeof(BatchWork) * (Size) room) :
				repalloc_huge(work, sizeof(BatchWork) * (Size) room);
		}
		item.at = i;
		work[found++] = item;
	}
	if (found > 1)
		qsort(work, found, sizeof(BatchWork), compare_work);
	for (int i = 0; i < found; i++)
	{
		if (nwork > 0 && work[nwork - 1].batch_id == work[i].batch_id)
			merge(&work[nwork - 1], &work[i]);
		else
			work[nwork++] = work[i];
	}
}

void
ordflow_batch_own(int64 batch_id, BatchFigures *figures)
{
	const TaskAction *actions;
	int			n = ordflow_journal_look(&actions);

	memset(figures, 0, sizeof(BatchFigures));
	for (int i = 0; i < n; i++)
	{
		BatchWork	item;

		if (read_action(&actions[i], &item) && item.batch_id == batch_id)
			add_figures(figures, &item.figures);
	}
}

/* ---- before the commit ---- */

static Statement late_outcomes = {
	.sql = "UPDATE ordflow.task_batch_ends SET succeeded = succeeded + $2, dead = dead + $3, "
	"cancelled = cancelled - $2 - $3 WHERE batch_id = $1",
	.nargs = 3,
	.argtypes = {INT8OID, INT4OID, INT4OID}
};

static Statement reopen = {
	.sql = "UPDATE ordflow.task_batch_ends SET reopened = true WHERE batch_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

typedef void (*WriteRow) (int64 batch_id, const BatchFigures *figures);

/* As the extension's owner, with all that a statement needs. */
static void
write_row(WriteRow write, int64 batch_id, const BatchFigures *figures)
{
	RoleSwitch	saved = ordflow_role_enter(ordflow_owner(), false);

	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	write(batch_id, figures);
	PopActiveSnapshot();
	SPI_finish();
	ordflow_role_leave(saved);
}

static void
write_end(int64 batch_id, const BatchFigures *figures)
{
	Batch		batch;

	if (ordflow_batch_find(batch_id, &batch))
		ordflow_batch_end_write(&batch, figures, false);
}

static void
write_reopened(int64 batch_id, const BatchFigures *figures)
{
	Datum		values[] = {Int64GetDatum(batch_id)};

	ordflow_task_own_write();
	ordflow_execute_latest(&reopen, values, NULL);
	ordflow_task_own_write_done();
}

/* The tasks were counted as cancelled when the batch was: some of them had ended otherwise. */
static void
write_late(int64 batch_id, const BatchFigures *figures)
{
	Datum		values[] = {
		Int64GetDatum(batch_id), Int32GetDatum(figures->succeeded), Int32GetDatum(figures->dead)
	};

	if (figures->succeeded == 0 && figures->dead == 0)
		return;
	ordflow_task_own_write();
	ordflow_execute_latest(&late_outcomes, values, NULL);
	ordflow_task_own_write_done();
}

/* The lock is ours alone, so nothing is in flight but our own. */
static void
settle_alone(BatchWork *item)
{
	BatchEntry *entry = item->entry;
	BatchFigures sum;
	bool		cancelled;
	int32		total;

	ordflow_task_lock();
	cancelled = entry->cancelled;
	sum = entry->figures;
	total = entry->total;
	if (cancelled)
	{
		entry->in_flight -= item->counted;
		item->counted = 0;
	}
	ordflow_task_unlock();
	add_figures(&sum, &item->figures);
	if (cancelled)
		write_row(write_late, item->batch_id, &item->figures);
	else if (finished(&sum) == total)
	{
		write_row(write_end, item->batch_id, &sum);
		item->ends = true;
	}
	else if (item->reopens)
		write_row(write_reopened, item->batch_id, &sum);
}

/* Adds what is ours to what is in flight.  True: it may be the last, or the batch has ended. */
static bool
register_work(BatchWork *item)
{
	BatchEntry *entry = item->entry;
	int32		n = finished(&item->figures);
	bool		complete = true;

	ordflow_task_lock();
	if (!entry->cancelled)
	{
		entry->in_flight += n;
		item->counted = n;
		complete = finished(&entry->figures) + entry->in_flight == entry->total;
	}
	ordflow_task_unlock();
	return complete;
}

static void
settle(BatchWork *item)
{
	/* the lock is ours since cancel_batch() */
	if (item->cancels)
	{
		if (item->settles)
			write_row(write_late, item->batch_id, &item->figures);
		return;
	}
	ordflow_batch_lock(BATCH_LOCK_END, item->batch_id,
					   item->reopens ? ExclusiveLock : ShareLock);
	if (item->entry == NULL)
		item->entry = acquire(item->batch_id);
	if (item->entry == NULL)
		return;
	if (!register_work(item) && !item->reopens)
		return;
	if (!item->reopens)
		take_alone(item->batch_id);
	settle_alone(item);
}

/* The new batch is known before anybody can see its rows, or by a count, if there is no room. */
static void
open_batch(BatchWork *item)
{
	ordflow_task_lock();
	item->made = find_entry(item->batch_id) == NULL;
	item->entry = pin(item->batch_id);
	if (item->made && item->entry != NULL)
	{
		item->entry->first = item->first;
		item->entry->total = item->total;
		item->entry->state = ENTRY_READY;
	}
	ordflow_task_unlock();
}

void
ordflow_batches_pre_commit(void)
{
	gather();
	for (int i = 0; i < nwork; i++)
	{
		if (work[i].opens)
			open_batch(&work[i]);
		if (work[i].settles || work[i].cancels)
			settle(&work[i]);
	}
}

/* ---- after it ---- */

static void
let_go(BatchWork *item)
{
	if (item->entry == NULL)
		return;
	item->entry->in_flight -= item->counted;
	unpin(item->entry);
	item->entry = NULL;
}

void
ordflow_batches_committed(void)
{
	if (nwork == 0)
		return;
	ordflow_task_lock();
	for (int i = 0; i < nwork; i++)
	{
		BatchWork  *item = &work[i];
		BatchEntry *entry = item->cancels ? find_entry(item->batch_id) : item->entry;

		if (entry != NULL && item->cancels)
			entry->cancelled = true;
		else if (entry != NULL)
			add_figures(&entry->figures, &item->figures);
		if (item->ends || item->cancels)
			ordflow_wait_tell(MyDatabaseId, WAIT_BATCH, item->batch_id, PG_INT32_MAX);
		let_go(item);
	}
	ordflow_task_unlock();
	nwork = 0;
}

void
ordflow_batches_aborted(void)
{
	if (nwork == 0)
		return;
	ordflow_task_lock();
	for (int i = 0; i < nwork; i++)
	{
		BatchEntry *entry = work[i].entry;
		bool		goes = work[i].made && entry != NULL && entry->pins == 1;

		let_go(&work[i]);
		if (goes)
			remove_entry(entry);
	}
	ordflow_task_unlock();
	nwork = 0;
}

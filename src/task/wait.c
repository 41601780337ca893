/*
 * wait.c
 *	  Who waits for tasks, or for the end of a batch.
 *
 * As many are told as there are tasks, in the order in which they came: a thousand that wait cost
 * a task one wake-up.  So being told is an obligation to look: whoever goes away without having
 * looked passes it on.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/proc.h"
#include "utils/wait_event.h"

#include "task/internal.h"
#include "worker/worker.h"

/* how long one sleep is at most */
#define SLEEP_MS 60000L

/* Entry i belongs to the process with that number; the lock guards all. */
typedef struct WaiterEntry
{
	Oid			database;		/* invalid: does not wait */
	WaitFor		what;
	int64		id;
	Latch	   *latch;
	bool		told;			/* then it is in the list no more */
	int			next;			/* in the order of arrival; -1: the last */
	int			previous;
} WaiterEntry;

typedef struct Waiters
{
	int			first;
	int			last;
	WaiterEntry entries[FLEXIBLE_ARRAY_MEMBER];
} Waiters;

static Waiters *waiters;
static bool waiting = false;	/* our entry is in use */

Size
ordflow_waiters_size(void)
{
	return add_size(offsetof(Waiters, entries), mul_size(sizeof(WaiterEntry), MaxBackends));
}

void
ordflow_waiters_attach(void *memory, bool found)
{
	waiters = memory;
	if (found)
		return;
	memset(waiters, 0, ordflow_waiters_size());
	waiters->first = waiters->last = -1;
}

static void
unlink_entry(WaiterEntry *entry)
{
	if (entry->previous >= 0)
		waiters->entries[entry->previous].next = entry->next;
	else
		waiters->first = entry->next;
	if (entry->next >= 0)
		waiters->entries[entry->next].previous = entry->previous;
	else
		waiters->last = entry->previous;
}

void
ordflow_wait_begin(WaitFor what, int64 id)
{
	WaiterEntry *entry = &waiters->entries[ordflow_proc_number];

	ordflow_task_attend();
	ordflow_wait_end(true);
	ordflow_task_lock();
	*entry = (WaiterEntry) {
		.database = MyDatabaseId,
		.what = what,
		.id = id,
		.latch = MyLatch,
		.next = -1,
		.previous = waiters->last
	};
	if (waiters->last >= 0)
		waiters->entries[waiters->last].next = ordflow_proc_number;
	else
		waiters->first = ordflow_proc_number;
	waiters->last = ordflow_proc_number;
	ordflow_task_unlock();
	waiting = true;
}

void
ordflow_wait_end(bool looked)
{
	WaiterEntry *entry;

	if (!waiting)
		return;
	waiting = false;
	entry = &waiters->entries[ordflow_proc_number];
	ordflow_task_lock();
	if (!entry->told)
		unlink_entry(entry);
	else if (!looked)
		ordflow_wait_tell(entry->database, entry->what, entry->id, 1);
	entry->database = InvalidOid;
	ordflow_task_unlock();
}

static bool
is_told(void)
{
	bool		told;

	ordflow_task_lock();
	told = waiters->entries[ordflow_proc_number].told;
	ordflow_task_unlock();
	return told;
}

bool
ordflow_wait_sleep(TimestampTz until)
{
	for (;;)
	{
		long		ms;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (is_told())
			return true;
		/* what it is to see to then, it sees to itself */
		if (MyBackendType == B_BG_WORKER && (ConfigReloadPending || ordflow_worker_leaving()))
			return true;
		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		if (ms <= 0)
			return false;
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(ms, SLEEP_MS),
				  PG_WAIT_EXTENSION);
	}
}

int
ordflow_wait_tell(Oid database, WaitFor what, int64 id, int n)
{
	int			told = 0;
	int			next;

	for (int i = waiters->first; i >= 0 && told < n; i = next)
	{
		WaiterEntry *entry = &waiters->entries[i];

		next = entry->next;
		if (entry->id != id || entry->what != what || entry->database != database)
			continue;
		unlink_entry(entry);
		entry->told = true;
		SetLatch(entry->latch);
		told++;
	}
	return told;
}

void
ordflow_wait_tell_all(Oid database)
{
	int			next;

	for (int i = waiters->first; i >= 0; i = next)
	{
		WaiterEntry *entry = &waiters->entries[i];

		next = entry->next;
		if (entry->database != database || entry->what == WAIT_BATCH)
			continue;
		unlink_entry(entry);
		entry->told = true;
		SetLatch(entry->latch);
	}
}

int
ordflow_wait_count(Oid database, WaitFor what, int64 id)
{
	int			n = 0;

	for (int i = waiters->first; i >= 0; i = waiters->entries[i].next)
	{
		const WaiterEntry *entry = &waiters->entries[i];

		n += entry->id == id && entry->what == what && entry->database == database;
	}
	return n;
}

/*
 * launcher.c
 *	  The one worker that the postmaster starts: it starts the coordinators.
 *
 * It sits on the shared catalogs, so it keeps no database from being dropped.  At its start it lets
 * a coordinator look into each database, which ends at once where there is nothing to do.  From
 * then on it hears of work by commits alone.
 */
#include "postgres.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "worker/internal.h"

PGDLLEXPORT pg_noreturn void ordflow_launcher_main(Datum arg);

#define RESTART_SECONDS	1

/* the datconnlimit that a DROP DATABASE leaves which was interrupted */
#define HALF_DROPPED	-2

/* when a worker slot may have become free that was not ours */
#define RETRY_MS		1000

/*
 * Where worker slots are short, a coordinator is started this much before it is wanted, and
 * one that sleeps twice as long makes room for it.
 */
#define START_AHEAD		USECS_PER_SEC
#define YIELD_AHEAD		(2 * START_AHEAD)

/* A coordinator that always has work makes room after this long for one that waits so long. */
#define TURN			(5 * USECS_PER_SEC)

/* no retry is further ahead, unless the clock was set back */
#define RETRY_AHEAD_MAX	(60 * USECS_PER_SEC)

/* The starts that are under way or running. */
typedef struct Started
{
	BackgroundWorkerHandle *handle;
	uint32		serial;
} Started;

static Started started[WORKER_DATABASES_MAX];

/* Databases that nobody has looked into yet. */
static List *unseen = NIL;

/* ---- databases ---- */

/* No worker goes into a template: it would keep CREATE DATABASE from copying it. */
static bool
is_fit(Form_pg_database database)
{
	return database->datallowconn && !database->datistemplate &&
		database->datconnlimit != HALF_DROPPED;
}

/* The databases that a worker may go into, in the current context. */
static List *
fit_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (is_fit(database))
		{
			MemoryContext old = MemoryContextSwitchTo(context);

			databases = lappend_oid(databases, database->oid);
			MemoryContextSwitchTo(old);
		}
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return databases;
}

static void
list_unseen(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	list_free(unseen);
	unseen = fit_databases();
	MemoryContextSwitchTo(old);
}

/* Gives slots to databases that nobody has looked into, as far as they go. */
static void
claim_unseen(void)
{
	WorkerShared *shared = ordflow_worker_shared;
	bool		overflow;

	SpinLockAcquire(&shared->mutex);
	overflow = shared->overflow;
	shared->overflow = false;
	SpinLockRelease(&shared->mutex);
	if (overflow && unseen == NIL)
		list_unseen();

	while (unseen != NIL)
	{
		Oid			database = linitial_oid(unseen);
		DatabaseSlot *slot = ordflow_slot_claim(database);

		if (slot == NULL)
			break;
		SpinLockAcquire(&slot->mutex);
		if (slot->database == database)
			ordflow_slot_note(slot, DT_NOBEGIN);
		SpinLockRelease(&slot->mutex);
		unseen = list_delete_first(unseen);
	}
	if (overflow && unseen != NIL)
	{
		SpinLockAcquire(&shared->mutex);
		shared->overflow = true;
		SpinLockRelease(&shared->mutex);
	}
}

/* ---- starting ---- */

/* A start that ended without the worker's own word: it never got so far. */
static void
reap(int i)
{
	DatabaseSlot *slot = &ordflow_worker_shared->slots[i];
	pid_t		pid;

	if (started[i].handle == NULL ||
		GetBackgroundWorkerPid(started[i].handle, &pid) != BGWH_STOPPED)
		return;
	SpinLockAcquire(&slot->mutex);
	if (slot->state != COORDINATOR_NONE && slot->serial == started[i].serial)
	{
		slot->state = COORDINATOR_NONE;
		slot->pid = 0;
		slot->latch = NULL;
		slot->failures++;
		slot->retry_at = GetCurrentTimestamp() + USECS_PER_SEC;
		ordflow_slot_note(slot, DT_NOBEGIN);
	}
	SpinLockRelease(&slot->mutex);
	pfree(started[i].handle);
	started[i].handle = NULL;
}

/* Is a coordinator wanted that does not run?  at: the time that it is wanted for. */
static bool
is_wanted(DatabaseSlot *slot, TimestampTz *at, TimestampTz *retry_at)
{
	bool		wanted;

	SpinLockAcquire(&slot->mutex);
	*at = ordflow_slot_wanted(slot);
	*retry_at = slot->retry_at;
	wanted = OidIsValid(slot->database) && slot->state == COORDINATOR_NONE && slot->away == 0 &&
		*at != DT_NOEND;
	SpinLockRelease(&slot->mutex);
	return wanted;
}

/* False when there is no worker slot in the server. */
static bool
start(int i)
{
	DatabaseSlot *slot = &ordflow_worker_shared->slots[i];
	BackgroundWorker worker = {0};
	bool		registered;

	snprintf(worker.bgw_name, BGW_MAXLEN, "ordflow coordinator");
	snprintf(worker.bgw_type, BGW_MAXLEN, "ordflow coordinator");
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "ordflow");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name),
			 "ordflow_coordinator_main");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = Int32GetDatum(i);
	worker.bgw_notify_pid = MyProcPid;

	/* before the postmaster hears of it: the worker may be faster than we are */
	SpinLockAcquire(&slot->mutex);
	slot->state = COORDINATOR_STARTING;
	slot->since = GetCurrentTimestamp();
	started[i].serial = ++slot->serial;
	SpinLockRelease(&slot->mutex);
	memcpy(worker.bgw_extra, &started[i].serial, sizeof(started[i].serial));

	if (started[i].handle != NULL)
		pfree(started[i].handle);
	started[i].handle = NULL;
	registered = RegisterDynamicBackgroundWorker(&worker, &started[i].handle);
	SpinLockAcquire(&slot->mutex);
	if (!registered && slot->state == COORDINATOR_STARTING)
		slot->state = COORDINATOR_NONE;
	slot->no_room = !registered;
	SpinLockRelease(&slot->mutex);
	return registered;
}

static void
give_up(DatabaseSlot *slot)
{
	SpinLockAcquire(&slot->mutex);
	for (int k = 0; k < DUTY_KINDS; k++)
		slot->noted[k] = DT_NOEND;
	SpinLockRelease(&slot->mutex);
	ordflow_companions_forget(slot->database);
}

/*
 * Asks a coordinator to make room: the one that sleeps the longest; where none sleeps for
 * long, and somebody has waited for a turn, the one that has been there the longest.
 */
static void
ask_to_yield(bool insist)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz latest = now + YIELD_AHEAD;
	TimestampTz oldest = now - TURN;
	DatabaseSlot *sleeper = NULL;
	DatabaseSlot *elder = NULL;
	Latch	   *latch = NULL;

	for (int i = 0; i < WORKER_DATABASES_MAX; i++)
	{
		DatabaseSlot *slot = &ordflow_worker_shared->slots[i];

		SpinLockAcquire(&slot->mutex);
		if (slot->state == COORDINATOR_RUNNING && slot->next_at > latest)
		{
			latest = slot->next_at;
			sleeper = slot;
		}
		if (slot->state == COORDINATOR_RUNNING && slot->since < oldest)
		{
			oldest = slot->since;
			elder = slot;
		}
		SpinLockRelease(&slot->mutex);
	}
	if (sleeper == NULL && insist)
		sleeper = elder;
	if (sleeper == NULL)
		return;
	SpinLockAcquire(&sleeper->mutex);
	if (sleeper->state == COORDINATOR_RUNNING)
	{
		sleeper->yield = true;
		latch = sleeper->latch;
	}
	SpinLockRelease(&sleeper->mutex);
	if (latch != NULL)
		SetLatch(latch);
}

/* The slot that is wanted the earliest, of those not tried yet; -1 for none. */
static int
next_wanted(const bool *tried, TimestampTz *at, TimestampTz *retry_at)
{
	int			best = -1;

	for (int i = 0; i < WORKER_DATABASES_MAX; i++)
	{
		TimestampTz slot_at;
		TimestampTz slot_retry_at;

		if (tried[i] || !is_wanted(&ordflow_worker_shared->slots[i], &slot_at, &slot_retry_at))
			continue;
		if (best >= 0 && *at <= slot_at)
			continue;
		best = i;
		*at = slot_at;
		*retry_at = slot_retry_at;
	}
	return best;
}

/* Starts what is wanted; returns when to try again. */
static TimestampTz
start_wanted(void)
{
	bool		tried[WORKER_DATABASES_MAX] = {false};
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz again = DT_NOEND;
	TimestampTz at = DT_NOEND;
	TimestampTz retry_at = DT_NOEND;
	int			i;

	while ((i = next_wanted(tried, &at, &retry_at)) >= 0)
	{
		DatabaseSlot *slot = &ordflow_worker_shared->slots[i];
		List	   *fit;

		tried[i] = true;
		if (retry_at > now && retry_at - now <= RETRY_AHEAD_MAX)
		{
			again = Min(again, retry_at);
			continue;
		}
		fit = fit_databases();
		if (!list_member_oid(fit, slot->database))
			give_up(slot);
		else if (!start(i))
		{
			/* what has time made room for another one, or may wait for its turn */
			if (at <= now + START_AHEAD)
				ask_to_yield(at < now - TURN);
			else
				slot->no_room = false;
			again = Min(again, Max(now + RETRY_MS * 1000, Max(at, now) - START_AHEAD));
		}
		list_free(fit);
	}
	return again;
}

/* ---- the process ---- */

static void
detach(int code, Datum arg)
{
	SpinLockAcquire(&ordflow_worker_shared->mutex);
	ordflow_worker_shared->launcher = NULL;
	ordflow_worker_shared->launcher_pid = 0;
	ordflow_worker_shared->launcher_since = GetCurrentTimestamp();
	SpinLockRelease(&ordflow_worker_shared->mutex);
}

/* The starts of a launcher before this one are nobody's any more. */
static void
adopt(void)
{
	for (int i = 0; i < WORKER_DATABASES_MAX; i++)
	{
		DatabaseSlot *slot = &ordflow_worker_shared->slots[i];

		SpinLockAcquire(&slot->mutex);
		if (slot->state == COORDINATOR_STARTING)
		{
			slot->state = COORDINATOR_NONE;
			slot->serial++;
		}
		SpinLockRelease(&slot->mutex);
	}
}

static void
launch(void)
{
	list_unseen();
	for (;;)
	{
		TimestampTz again;
		TimestampTz now;
		long		timeout = CLOCK_CHECK_MS;

		for (int i = 0; i < WORKER_DATABASES_MAX; i++)
			reap(i);
		claim_unseen();
		again = start_wanted();
		now = GetCurrentTimestamp();
		if (unseen != NIL)
			timeout = RETRY_MS;
		if (again - now < timeout * 1000)
			timeout = Max(1, (again - now) / 1000);
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout,
				  PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		if (ProcDiePending)
			proc_exit(1);		/* so that it is started again */
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}

void
ordflow_launcher_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	on_shmem_exit(detach, (Datum) 0);
	SpinLockAcquire(&ordflow_worker_shared->mutex);
	ordflow_worker_shared->launcher = MyLatch;
	ordflow_worker_shared->launcher_pid = MyProcPid;
	ordflow_worker_shared->launcher_since = GetCurrentTimestamp();
	SpinLockRelease(&ordflow_worker_shared->mutex);
	BackgroundWorkerInitializeConnectionByOid(InvalidOid, InvalidOid, 0);
	adopt();
	launch();
	proc_exit(1);
}

void
ordflow_launcher_init(void)
{
	BackgroundWorker worker = {0};

	if (!ordflow_preloaded || !ordflow_workers || IsBinaryUpgrade || !IsPostmasterEnvironment)
		return;
	snprintf(worker.bgw_name, BGW_MAXLEN, "ordflow launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "ordflow launcher");
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "ordflow");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name), "ordflow_launcher_main");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_SECONDS;
	RegisterBackgroundWorker(&worker);
}

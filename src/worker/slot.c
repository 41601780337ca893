/*
 * slot.c
 *	  The databases that have work, in shared memory, and the view of it.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"

#include "worker/internal.h"

PG_FUNCTION_INFO_V1(ordflow_worker_slots);

#define TRANCHE "ordflow workers"

/* the postmaster starts the launcher at once, and again a second after its end */
#define LAUNCHER_LATE	(3 * USECS_PER_SEC)

WorkerShared *ordflow_worker_shared = NULL;

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

static void
request_memory(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(WorkerShared)));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
clear_slot(DatabaseSlot *slot, Oid database)
{
	slot->database = database;
	slot->state = COORDINATOR_NONE;
	slot->pid = 0;
	slot->latch = NULL;
	slot->away = 0;
	slot->yield = false;
	slot->no_room = false;
	slot->blocked = false;
	slot->unblocked = false;
	for (int i = 0; i < DUTY_KINDS; i++)
	{
		slot->noted[i] = DT_NOEND;
		slot->inactive[i] = false;
	}
	slot->next_at = DT_NOEND;
	slot->since = 0;
	slot->failures = 0;
	slot->retry_at = DT_NOBEGIN;
}

static void
startup_memory(void)
{
	WorkerShared *shared;
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct(TRANCHE, sizeof(WorkerShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(WorkerShared));
		shared->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		SpinLockInit(&shared->mutex);
		ConditionVariableInit(&shared->ended);
		for (int i = 0; i < WORKER_DATABASES_MAX; i++)
		{
			SpinLockInit(&shared->slots[i].mutex);
			clear_slot(&shared->slots[i], InvalidOid);
		}
	}
	ordflow_worker_shared = shared;
	if (!found)
		ordflow_companions_clear();
	LWLockRelease(AddinShmemInitLock);
}

void
ordflow_slots_init(void)
{
	if (!ordflow_preloaded || !ordflow_workers)
		return;
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = startup_memory;
}

/* The lock of all slots is held. */
static DatabaseSlot *
search(Oid database)
{
	static int	last = 0;		/* mostly the same again */
	DatabaseSlot *slots = ordflow_worker_shared->slots;

	if (slots[last].database == database)
		return &slots[last];
	for (int i = 0; i < WORKER_DATABASES_MAX; i++)
		if (slots[i].database == database)
		{
			last = i;
			return &slots[i];
		}
	return NULL;
}

DatabaseSlot *
ordflow_slot_find(Oid database)
{
	DatabaseSlot *slot;

	if (ordflow_worker_shared == NULL)
		return NULL;
	LWLockAcquire(ordflow_worker_shared->lock, LW_SHARED);
	slot = search(database);
	LWLockRelease(ordflow_worker_shared->lock);
	return slot;
}

/* Takes a slot that nobody needs from its database. */
static bool
take_if_idle(DatabaseSlot *slot, Oid database)
{
	bool		idle;

	SpinLockAcquire(&slot->mutex);
	idle = !OidIsValid(slot->database) ||
		(slot->state == COORDINATOR_NONE && slot->away == 0 &&
		 ordflow_slot_wanted(slot) == DT_NOEND);
	if (idle)
		clear_slot(slot, database);
	SpinLockRelease(&slot->mutex);
	return idle;
}

/* A free slot before an idle one, whose database may come again. */
static DatabaseSlot *
take(Oid database)
{
	DatabaseSlot *slots = ordflow_worker_shared->slots;

	for (int i = 0; i < WORKER_DATABASES_MAX; i++)
		if (!OidIsValid(slots[i].database) && take_if_idle(&slots[i], database))
			return &slots[i];
	for (int i = 0; i < WORKER_DATABASES_MAX; i++)
		if (take_if_idle(&slots[i], database))
			return &slots[i];
	return NULL;
}

DatabaseSlot *
ordflow_slot_claim(Oid database)
{
	DatabaseSlot *slot = ordflow_slot_find(database);

	if (slot != NULL || ordflow_worker_shared == NULL)
		return slot;
	LWLockAcquire(ordflow_worker_shared->lock, LW_EXCLUSIVE);
	slot = search(database);
	if (slot == NULL)
		slot = take(database);
	LWLockRelease(ordflow_worker_shared->lock);
	return slot;
}

TimestampTz
ordflow_slot_wanted(const DatabaseSlot *slot)
{
	TimestampTz wanted = DT_NOEND;

	for (int i = 0; i < DUTY_KINDS; i++)
		wanted = Min(wanted, slot->noted[i]);
	return wanted;
}

void
ordflow_slot_note(DatabaseSlot *slot, TimestampTz at)
{
	for (int i = 0; i < DUTY_KINDS; i++)
		slot->noted[i] = Min(slot->noted[i], at);
}

int
ordflow_worker_database_slot(void)
{
	DatabaseSlot *slot = ordflow_slot_find(MyDatabaseId);

	return slot != NULL ? slot - ordflow_worker_shared->slots : -1;
}

void
ordflow_launcher_wake(void)
{
	Latch	   *latch;

	SpinLockAcquire(&ordflow_worker_shared->mutex);
	latch = ordflow_worker_shared->launcher;
	SpinLockRelease(&ordflow_worker_shared->mutex);
	if (latch != NULL)
		SetLatch(latch);
}

/* ---- the view ---- */

enum
{
	COLUMN_WORKER, COLUMN_DATABASE, COLUMN_PID, COLUMN_STATE, COLUMN_SINCE, COLUMN_NEXT_AT,
	COLUMN_PROBLEM, COLUMN_FIX, NCOLUMNS
};

typedef struct WorkerRow
{
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS];
} WorkerRow;

static void
put_text(WorkerRow *row, int column, const char *text)
{
	ORDFLOW_PUT_TEXT(row->values, row->nulls, column, text);
}

static void
put_time(WorkerRow *row, int column, TimestampTz at)
{
	row->values[column] = TimestampTzGetDatum(at);
	row->nulls[column] = TIMESTAMP_NOT_FINITE(at) || at == 0;
}

static void
put_row(ReturnSetInfo *result, WorkerRow *row)
{
	tuplestore_putvalues(result->setResult, result->setDesc, row->values, row->nulls);
}

static char *
more_worker_processes(void)
{
	return psprintf("ALTER SYSTEM SET max_worker_processes = %d;   -- restart the server",
					max_worker_processes + 4);
}

static void
put_launcher(ReturnSetInfo *result)
{
	WorkerRow	row = {.nulls = {false, true, true, false, true, true, true, true}};

	put_text(&row, COLUMN_WORKER, "launcher");
	if (!ordflow_preloaded || !ordflow_workers)
	{
		put_text(&row, COLUMN_STATE, "off");
		put_text(&row, COLUMN_PROBLEM, ordflow_preloaded ? "ordflow.workers is off" :
				 "ordflow is not preloaded");
		put_text(&row, COLUMN_FIX, ordflow_preloaded ?
				 "ALTER SYSTEM RESET ordflow.workers;   -- then restart the server" :
				 "see ordflow.doctor()");
	}
	else
	{
		WorkerShared *shared = ordflow_worker_shared;
		pid_t		pid;
		TimestampTz since;
		bool		overflow;
		bool		late;

		SpinLockAcquire(&shared->mutex);
		pid = shared->launcher_pid;
		since = shared->launcher_since;
		overflow = shared->overflow;
		SpinLockRelease(&shared->mutex);
		row.values[COLUMN_PID] = Int32GetDatum(pid);
		row.nulls[COLUMN_PID] = pid == 0;
		put_time(&row, COLUMN_SINCE, since);
		late = pid == 0 && GetCurrentTimestamp() - Max(since, PgStartTime) > LAUNCHER_LATE;
		put_text(&row, COLUMN_STATE, pid != 0 ? "running" :
				 RecoveryInProgress() || late ? "not running" : "starting");
		if (overflow)
			put_text(&row, COLUMN_PROBLEM,
					 psprintf("more than %d databases have work at once", WORKER_DATABASES_MAX));
		if (pid == 0 && RecoveryInProgress())
			put_text(&row, COLUMN_PROBLEM, "the server is in recovery");
		else if (late)
		{
			put_text(&row, COLUMN_PROBLEM, "there was no worker slot for it");
			put_text(&row, COLUMN_FIX,
					 more_worker_processes());
		}
	}
	put_row(result, &row);
}

static const char *
state_name(const DatabaseSlot *slot)
{
	if (slot->state == COORDINATOR_STARTING)
		return "starting";
	if (slot->state == COORDINATOR_RUNNING)
		return TIMESTAMP_IS_NOBEGIN(slot->next_at) ? "running" : "waiting";
	if (slot->away > 0)
		return "away";
	if (slot->no_room)
		return "no slot";
	if (slot->failures > 0)
		return "failed";
	return ordflow_slot_wanted(slot) > GetCurrentTimestamp() ? "waiting" : "starting";
}

static void
put_coordinator(ReturnSetInfo *result, const DatabaseSlot *slot)
{
	WorkerRow	row = {.nulls = {false, false, true, false, true, true, true, true}};
	const char *state = state_name(slot);

	put_text(&row, COLUMN_WORKER, "coordinator");
	row.values[COLUMN_DATABASE] = ObjectIdGetDatum(slot->database);
	row.values[COLUMN_PID] = Int32GetDatum(slot->pid);
	row.nulls[COLUMN_PID] = slot->pid == 0;
	put_text(&row, COLUMN_STATE, state);
	put_time(&row, COLUMN_SINCE, slot->since);
	put_time(&row, COLUMN_NEXT_AT, slot->state == COORDINATOR_NONE ?
			 ordflow_slot_wanted(slot) : slot->next_at);
	if (strcmp(state, "no slot") == 0)
	{
		put_text(&row, COLUMN_PROBLEM, "every slot of max_worker_processes is taken");
		put_text(&row, COLUMN_FIX, more_worker_processes());
	}
	else if (strcmp(state, "failed") == 0)
	{
		put_text(&row, COLUMN_PROBLEM,
				 psprintf("it ended %d times without being asked to", slot->failures));
		put_text(&row, COLUMN_FIX, "see the server's log; it is started again by itself");
	}
	put_row(result, &row);
}

static void
put_companion(ReturnSetInfo *result, const CompanionLook *look)
{
	WorkerRow	row = {.nulls = {false, false, true, false, true, true, true, true}};

	put_text(&row, COLUMN_WORKER,
			 psprintf("%s %s", ordflow_companion_title(look->role), look->name));
	row.values[COLUMN_DATABASE] = ObjectIdGetDatum(look->database);
	row.values[COLUMN_PID] = Int32GetDatum(look->pid);
	row.nulls[COLUMN_PID] = look->pid == 0;
	put_text(&row, COLUMN_STATE, look->state);
	put_time(&row, COLUMN_SINCE, look->since);
	if (strcmp(look->state, "no slot") == 0)
	{
		put_text(&row, COLUMN_PROBLEM, "every slot of max_worker_processes is taken");
		put_text(&row, COLUMN_FIX, more_worker_processes());
	}
	else if (look->problem[0] != '\0' && look->database == MyDatabaseId)
	{
		/* other databases have their own readers, and encodings */
		put_text(&row, COLUMN_PROBLEM, look->problem);
		put_text(&row, COLUMN_FIX, look->hint[0] != '\0' ? look->hint : NULL);
	}
	put_row(result, &row);
}

/* A database without work has no row. */
Datum
ordflow_worker_slots(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	put_launcher(result);
	for (int i = 0; ordflow_worker_shared != NULL && i < WORKER_DATABASES_MAX; i++)
	{
		DatabaseSlot slot;

		SpinLockAcquire(&ordflow_worker_shared->slots[i].mutex);
		memcpy(&slot, &ordflow_worker_shared->slots[i], sizeof(slot));
		SpinLockRelease(&ordflow_worker_shared->slots[i].mutex);
		if (OidIsValid(slot.database) &&
			(slot.state != COORDINATOR_NONE || slot.away > 0 ||
			 ordflow_slot_wanted(&slot) != DT_NOEND))
			put_coordinator(result, &slot);
	}
	for (int i = 0; ordflow_worker_shared != NULL && i < COMPANIONS_MAX; i++)
	{
		CompanionLook look;

		if (ordflow_companion_look(i, &look))
			put_companion(result, &look);
	}
	return (Datum) 0;
}

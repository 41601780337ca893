/*
 * companion.c
 *	  Workers of a database beside its coordinator.
 *
 * The coordinator says which are to run, and starts them; whether one runs is kept in shared
 * memory, so the next coordinator finds it.  One that ends though it is wanted has a
 * coordinator look after it.
 */
#include "postgres.h"

#include <signal.h>

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

#include "worker/internal.h"

PGDLLEXPORT pg_noreturn void ordflow_companion_main(Datum arg);

/* how long one that failed rests */
#define REST_MIN	USECS_PER_SEC
#define REST_MAX	(60 * USECS_PER_SEC)

/* a start that has not been heard of for so long is given up */
#define START_MAX	(30 * USECS_PER_SEC)

/* when a worker slot may have become free */
#define RETRY		USECS_PER_SEC

static const CompanionKind *kinds[COMPANION_ROLES];

/* In a companion. */
static Companion *mine = NULL;
static uint32 my_serial;

void
ordflow_companion_register(CompanionRole role, const CompanionKind *kind)
{
	kinds[role] = kind;
}

const char *
ordflow_companion_title(CompanionRole role)
{
	return kinds[role]->title;
}

static void
clear(Companion *companion)
{
	companion->database = InvalidOid;
	companion->name[0] = '\0';
	companion->roleid = InvalidOid;
	companion->state = COORDINATOR_NONE;
	companion->pid = 0;
	companion->latch = NULL;
	companion->wanted = false;
	companion->idle = false;
	companion->no_room = false;
	companion->since = 0;
	companion->failures = 0;
	companion->retry_at = DT_NOBEGIN;
	companion->problem[0] = '\0';
	companion->hint[0] = '\0';
}

void
ordflow_companions_clear(void)
{
	for (int i = 0; i < COMPANIONS_MAX; i++)
	{
		SpinLockInit(&ordflow_worker_shared->companions[i].mutex);
		clear(&ordflow_worker_shared->companions[i]);
	}
}

/* In the launcher: the database is gone. */
void
ordflow_companions_forget(Oid database)
{
	for (int i = 0; i < COMPANIONS_MAX; i++)
	{
		Companion  *companion = &ordflow_worker_shared->companions[i];

		SpinLockAcquire(&companion->mutex);
		if (companion->database == database)
		{
			companion->wanted = false;
			if (companion->state == COORDINATOR_NONE)
				clear(companion);
		}
		SpinLockRelease(&companion->mutex);
	}
}

/* ---- in the coordinator ---- */

static bool
is_listed(const char *name, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* The lock of all slots is held; a free place, or one that nobody needs any more. */
static Companion *
find_place(CompanionRole role, const char *name)
{
	Companion  *companions = ordflow_worker_shared->companions;
	Companion  *place = NULL;

	for (int i = 0; i < COMPANIONS_MAX; i++)
	{
		Companion  *companion = &companions[i];

		if (companion->database == MyDatabaseId && companion->role == role &&
			strcmp(companion->name, name) == 0)
			return companion;
		if (place == NULL && companion->state == COORDINATOR_NONE && !companion->wanted)
			place = companion;
	}
	if (place == NULL)
		return NULL;
	SpinLockAcquire(&place->mutex);
	clear(place);
	place->database = MyDatabaseId;
	place->role = role;
	strlcpy(place->name, name, sizeof(place->name));
	SpinLockRelease(&place->mutex);
	return place;
}

/* Tells those of the role that are not listed to go. */
static void
dismiss_others(CompanionRole role, const char *const *names, int n)
{
	for (int i = 0; i < COMPANIONS_MAX; i++)
	{
		Companion  *companion = &ordflow_worker_shared->companions[i];
		Latch	   *latch = NULL;

		SpinLockAcquire(&companion->mutex);
		if (companion->database == MyDatabaseId && companion->role == role &&
			!is_listed(companion->name, names, n))
		{
			latch = companion->wanted ? companion->latch : NULL;
			companion->wanted = false;
			companion->problem[0] = '\0';
		}
		SpinLockRelease(&companion->mutex);
		if (latch != NULL)
			SetLatch(latch);
	}
}

static bool
launch(int place, uint32 serial)
{
	const Companion *companion = &ordflow_worker_shared->companions[place];
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;
	bool		registered;

	snprintf(worker.bgw_name, BGW_MAXLEN, "ordflow %s %s", kinds[companion->role]->title,
			 companion->name);
	snprintf(worker.bgw_type, BGW_MAXLEN, "ordflow %s", kinds[companion->role]->title);
	snprintf(worker.bgw_library_name, sizeof(worker.bgw_library_name), "ordflow");
	snprintf(worker.bgw_function_name, sizeof(worker.bgw_function_name),
			 "ordflow_companion_main");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = Int32GetDatum(place);
	memcpy(worker.bgw_extra, &serial, sizeof(serial));
	registered = RegisterDynamicBackgroundWorker(&worker, &handle);
	if (registered)
		pfree(handle);
	return registered;
}

/* Starts it where it does not run; returns when to look again. */
static TimestampTz
ensure(Companion *companion)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz again = DT_NOEND;
	uint32		serial = 0;

	SpinLockAcquire(&companion->mutex);
	companion->wanted = true;
	if (companion->state == COORDINATOR_STARTING && companion->since < now - START_MAX)
		companion->state = COORDINATOR_NONE;
	if (companion->state == COORDINATOR_STARTING)
		again = companion->since + START_MAX;
	else if (companion->state == COORDINATOR_NONE && companion->retry_at > now)
		again = Min(companion->retry_at, now + REST_MAX);
	else if (companion->state == COORDINATOR_NONE)
	{
		companion->state = COORDINATOR_STARTING;
		companion->since = now;
		serial = ++companion->serial;
	}
	SpinLockRelease(&companion->mutex);
	if (serial == 0)
		return again;
	if (launch(companion - ordflow_worker_shared->companions, serial))
	{
		companion->no_room = false;
		return now + START_MAX;
	}
	SpinLockAcquire(&companion->mutex);
	if (companion->state == COORDINATOR_STARTING && companion->serial == serial)
		companion->state = COORDINATOR_NONE;
	companion->no_room = true;
	SpinLockRelease(&companion->mutex);
	return now + RETRY;
}

TimestampTz
ordflow_companions_want(CompanionRole role, const char *const *names, int n)
{
	TimestampTz again = DT_NOEND;

	dismiss_others(role, names, n);
	for (int i = 0; i < n; i++)
	{
		Companion  *companion;

		LWLockAcquire(ordflow_worker_shared->lock, LW_EXCLUSIVE);
		companion = find_place(role, names[i]);
		LWLockRelease(ordflow_worker_shared->lock);
		if (companion == NULL)
			ereport(LOG,
					errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					errmsg("ordflow %s %s cannot be started: all %d places for such workers are taken",
						   kinds[role]->title, names[i], COMPANIONS_MAX));
		again = ordflow_earlier(again, companion != NULL ? ensure(companion) :
								GetCurrentTimestamp() + REST_MAX);
	}
	return again;
}

/* One of this database and role, of that login role, or any where that is invalid. */
static bool
is_of(const Companion *companion, CompanionRole role, Oid roleid)
{
	return companion->database == MyDatabaseId && companion->role == role &&
		(!OidIsValid(roleid) || companion->roleid == roleid);
}

CompanionStart
ordflow_companion_start(CompanionRole role, const char *name, Oid roleid)
{
	TimestampTz now = GetCurrentTimestamp();
	Companion  *companion;
	CompanionStart result = COMPANION_STARTED;

	LWLockAcquire(ordflow_worker_shared->lock, LW_EXCLUSIVE);
	companion = find_place(role, name);
	LWLockRelease(ordflow_worker_shared->lock);
	if (companion == NULL)
		return COMPANION_NO_ROOM;
	SpinLockAcquire(&companion->mutex);
	if (companion->state == COORDINATOR_RUNNING ||
		(companion->state == COORDINATOR_STARTING && companion->since > now - START_MAX))
		result = COMPANION_THERE;
	else if (companion->retry_at > now && companion->retry_at < now + REST_MAX)
		result = COMPANION_RESTS;
	companion->roleid = roleid;
	SpinLockRelease(&companion->mutex);
	if (result != COMPANION_STARTED)
		return result;
	ensure(companion);
	return companion->no_room ? COMPANION_NO_ROOM : COMPANION_STARTED;
}

void
ordflow_companions_give_up(CompanionRole role)
{
	for (int i = 0; i < COMPANIONS_MAX; i++)
	{
		Companion  *companion = &ordflow_worker_shared->companions[i];

		SpinLockAcquire(&companion->mutex);
		if (is_of(companion, role, InvalidOid) && companion->state == COORDINATOR_NONE)
			companion->wanted = false;
		SpinLockRelease(&companion->mutex);
	}
}

int
ordflow_companions_count(CompanionRole role, Oid roleid)
{
	int			n = 0;

	if (ordflow_worker_shared == NULL)
		return 0;
	for (int i = 0; i < COMPANIONS_MAX; i++)
	{
		Companion  *companion = &ordflow_worker_shared->companions[i];

		SpinLockAcquire(&companion->mutex);
		n += is_of(companion, role, roleid) && companion->state != COORDINATOR_NONE;
		SpinLockRelease(&companion->mutex);
	}
	return n;
}

void
ordflow_companion_dismiss(CompanionRole role, Oid roleid)
{
	Companion  *oldest = NULL;

	for (int i = 0; i < COMPANIONS_MAX; i++)
	{
		Companion  *companion = &ordflow_worker_shared->companions[i];

		if (is_of(companion, role, roleid) && companion->state == COORDINATOR_RUNNING &&
			companion->wanted && (oldest == NULL || companion->since < oldest->since))
			oldest = companion;
	}
	if (oldest == NULL)
		return;
	SpinLockAcquire(&oldest->mutex);
	if (is_of(oldest, role, roleid))
		oldest->wanted = false;
	SpinLockRelease(&oldest->mutex);
	ordflow_companions_alert(MyDatabaseId);
}

/* ---- for commands that want the database for themselves ---- */

bool
ordflow_companions_present(Oid database, pid_t *pids, int *npids)
{
	bool		present = false;

	*npids = 0;
	for (int i = 0; i < COMPANIONS_MAX; i++)
	{
		Companion  *companion = &ordflow_worker_shared->companions[i];

		SpinLockAcquire(&companion->mutex);
		if (companion->database == database && companion->state != COORDINATOR_NONE)
		{
			present = true;
			if (companion->pid != 0)
				pids[(*npids)++] = companion->pid;
		}
		SpinLockRelease(&companion->mutex);
	}
	return present;
}

void
ordflow_companions_alert(Oid database)
{
	for (int i = 0; i < COMPANIONS_MAX; i++)
	{
		Companion  *companion = &ordflow_worker_shared->companions[i];
		Latch	   *latch = NULL;

		SpinLockAcquire(&companion->mutex);
		if (companion->database == database)
			latch = companion->latch;
		SpinLockRelease(&companion->mutex);
		if (latch != NULL)
			SetLatch(latch);
	}
}

/* ---- in the companion ---- */

int
ordflow_companion_place(void)
{
	return mine - ordflow_worker_shared->companions;
}

void
ordflow_companion_done(void)
{
	SpinLockAcquire(&mine->mutex);
	mine->wanted = false;
	SpinLockRelease(&mine->mutex);
}

void
ordflow_companion_idle(bool idle)
{
	mine->idle = idle;
}

bool
ordflow_companion_is_wanted(void)
{
	return mine->wanted;
}

/* Does a command want the database for itself? */
static bool
is_away(Oid database)
{
	const DatabaseSlot *slot = ordflow_slot_find(database);

	return slot != NULL && slot->away > 0;
}

bool
ordflow_companion_leaving(void)
{
	return mine != NULL && (ProcDiePending || !mine->wanted || is_away(MyDatabaseId));
}

static void
clip(char *clipped, const char *text)
{
	int			length = 0;

	if (text != NULL)
		length = pg_mbcliplen(text, strlen(text), COMPANION_TEXT_MAX - 1);
	memcpy(clipped, text, length);
	clipped[length] = '\0';
}

void
ordflow_companion_problem(const char *problem, const char *hint)
{
	char		clipped[2][COMPANION_TEXT_MAX];

	clip(clipped[0], problem);
	clip(clipped[1], hint);
	SpinLockAcquire(&mine->mutex);
	strcpy(mine->problem, clipped[0]);
	strcpy(mine->hint, clipped[1]);
	SpinLockRelease(&mine->mutex);
}

/* False when the start has been given up, or nobody wants it any more. */
static bool
attach(Oid *database, CompanionRole *role, Oid *roleid, char *name)
{
	bool		attached;
	bool		away = is_away(mine->database);

	*database = InvalidOid;
	SpinLockAcquire(&mine->mutex);
	attached = mine->state == COORDINATOR_STARTING && mine->serial == my_serial &&
		mine->wanted && !away;
	if (attached)
	{
		mine->state = COORDINATOR_RUNNING;
		mine->pid = MyProcPid;
		mine->latch = MyLatch;
		mine->since = GetCurrentTimestamp();
		*database = mine->database;
		*role = mine->role;
		*roleid = mine->roleid;
		mine->idle = false;
		strlcpy(name, mine->name, COMPANION_NAME_MAX);
	}
	else if (mine->state == COORDINATOR_STARTING && mine->serial == my_serial)
		mine->state = COORDINATOR_NONE;
	SpinLockRelease(&mine->mutex);
	return attached;
}

/* Has a coordinator look after what has ended. */
static void
call_coordinator(Oid database)
{
	DatabaseSlot *slot = ordflow_slot_claim(database);

	if (slot == NULL)
		return;
	SpinLockAcquire(&slot->mutex);
	if (slot->database == database)
	{
		ordflow_slot_note(slot, DT_NOBEGIN);
		if (slot->latch != NULL)
			SetLatch(slot->latch);
	}
	SpinLockRelease(&slot->mutex);
	ordflow_launcher_wake();
}

/* At the exit of the process, after it has left the database. */
static void
detach(int code, Datum arg)
{
	Oid			database = InvalidOid;
	CompanionRole role = 0;
	bool		wanted = false;
	bool		away = is_away(mine->database);

	SpinLockAcquire(&mine->mutex);
	if (mine->state == COORDINATOR_RUNNING && mine->serial == my_serial)
	{
		TimestampTz now = GetCurrentTimestamp();
		bool		asked = away || !mine->wanted;

		if (asked || now - mine->since > REST_MAX)
			mine->failures = 0;
		wanted = mine->wanted;
		database = mine->database;
		role = mine->role;
		mine->retry_at = DT_NOBEGIN;
		if (!asked)
		{
			/* one that is to run again for a role with work is missed at once */
			int64		rest = mine->role == COMPANION_POOL && mine->failures == 0 ? 0 :
				Min(REST_MIN << Min(mine->failures, 6), REST_MAX);

			mine->failures++;
			mine->retry_at = now + rest;
		}
		mine->state = COORDINATOR_NONE;
		mine->pid = 0;
		mine->latch = NULL;
		mine->since = now;
	}
	SpinLockRelease(&mine->mutex);
	ConditionVariableBroadcast(&ordflow_worker_shared->ended);
	if (wanted)
		call_coordinator(database);
	if (!away && OidIsValid(MyDatabaseId) && kinds[role]->gone != NULL)
		kinds[role]->gone();
}

void
ordflow_companion_main(Datum arg)
{
	Oid			database;
	CompanionRole role = 0;
	Oid			roleid = InvalidOid;
	char		name[COMPANION_NAME_MAX];
	char		title[COMPANION_NAME_MAX + 32];

	mine = &ordflow_worker_shared->companions[DatumGetInt32(arg)];
	memcpy(&my_serial, MyBgworkerEntry->bgw_extra, sizeof(my_serial));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	/* registered before the connection is, so it runs when that is gone */
	on_shmem_exit(detach, (Datum) 0);
	if (!attach(&database, &role, &roleid, name))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(database, roleid, ORDFLOW_BYPASS_ROLELOGINCHECK);
	snprintf(title, sizeof(title), "ordflow %s %s", kinds[role]->title, name);
	ordflow_worker_pin_settings(title);
	ordflow_worker_serve(kinds[role]->duty);
	pgstat_report_activity(STATE_IDLE, NULL);
	/* one that runs tasks and came to work is missed at once, however often it is ended */
	if (role == COMPANION_POOL)
		mine->failures = 0;
	kinds[role]->main(name);
	proc_exit(0);
}

/* ---- the view ---- */

static const char *
state_name(const Companion *companion, bool away)
{
	if (companion->state == COORDINATOR_STARTING)
		return "starting";
	if (companion->state == COORDINATOR_RUNNING)
		return companion->idle ? "waiting" : "running";
	if (away)
		return "away";
	if (companion->no_room)
		return "no slot";
	return companion->failures > 0 ? "failed" : "starting";
}

bool
ordflow_companion_look(int place, CompanionLook *look)
{
	Companion  *companion = &ordflow_worker_shared->companions[place];
	const DatabaseSlot *slot = ordflow_slot_find(companion->database);
	bool		there;

	SpinLockAcquire(&companion->mutex);
	there = OidIsValid(companion->database) &&
		(companion->wanted || companion->state != COORDINATOR_NONE);
	look->database = companion->database;
	look->role = companion->role;
	strlcpy(look->name, companion->name, sizeof(look->name));
	look->state = state_name(companion, slot != NULL && slot->away > 0);
	look->pid = companion->pid;
	look->since = companion->since;
	strlcpy(look->problem, companion->problem, sizeof(look->problem));
	strlcpy(look->hint, companion->hint, sizeof(look->hint));
	SpinLockRelease(&companion->mutex);
	return there;
}

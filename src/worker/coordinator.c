/*
 * coordinator.c
 *	  The worker of one database: does its duties when they are due, and ends when
 *	  none has work.
 *
 * Notes are taken before a duty takes its snapshot.  A commit that the snapshot does not
 * show is noted after that, so it is met with in the next round.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "worker/internal.h"

PGDLLEXPORT pg_noreturn void ordflow_coordinator_main(Datum arg);

/* how long a duty that failed rests */
#define REST_MIN	USECS_PER_SEC
#define REST_MAX	(60 * USECS_PER_SEC)

/* What the coordinator knows of a duty. */
typedef struct DutyTurn
{
	TimestampTz next;			/* when it wants to be called */
	bool		afresh;			/* it failed: all is to be looked at again */
	int64		rest;			/* after the next failure, in microseconds */
} DutyTurn;

static const Duty *duties[DUTY_KINDS];
static DutyTurn turns[DUTY_KINDS];
static DutyKind current;

static DatabaseSlot *my_slot = NULL;
static uint32 my_serial;

/* Everything is looked at afresh, whatever is in our caches. */
static bool caches_are_old = false;

/* The user to return to after a transaction of a duty. */
static RoleSwitch before;

void
ordflow_worker_register(DutyKind kind, const Duty *duty)
{
	duties[kind] = duty;
}

const char *
ordflow_duty_part(DutyKind kind)
{
	return duties[kind]->part;
}

/* ---- the slot ---- */

static bool
is_mine(void)
{
	return my_slot->state == COORDINATOR_RUNNING && my_slot->serial == my_serial;
}

/* False when the launcher has given up on this start, or workers are to stay away. */
static bool
attach(Oid *database)
{
	bool		attached;

	SpinLockAcquire(&my_slot->mutex);
	attached = my_slot->state == COORDINATOR_STARTING && my_slot->serial == my_serial;
	if (attached && my_slot->away > 0)
	{
		my_slot->state = COORDINATOR_NONE;
		attached = false;
	}
	if (attached)
	{
		my_slot->state = COORDINATOR_RUNNING;
		my_slot->pid = MyProcPid;
		my_slot->latch = MyLatch;
		my_slot->next_at = DT_NOBEGIN;
		my_slot->since = GetCurrentTimestamp();
		*database = my_slot->database;
	}
	SpinLockRelease(&my_slot->mutex);
	return attached;
}

/* The mutex is held. */
static void
leave_slot(void)
{
	my_slot->state = COORDINATOR_NONE;
	my_slot->pid = 0;
	my_slot->latch = NULL;
	my_slot->yield = false;
	my_slot->blocked = false;
	my_slot->next_at = DT_NOEND;
	my_slot->since = GetCurrentTimestamp();
}

/*
 * At the exit of the process, after it has left the database.  Where nobody asked it
 * to leave, the launcher lets it come back later and later.
 */
static void
detach(int code, Datum arg)
{
	SpinLockAcquire(&my_slot->mutex);
	if (is_mine())
	{
		bool		asked = my_slot->yield || my_slot->away > 0;

		ordflow_slot_note(my_slot, my_slot->yield ? my_slot->next_at : DT_NOBEGIN);
		if (asked || GetCurrentTimestamp() - my_slot->since > REST_MAX)
			my_slot->failures = 0;
		if (!asked)
		{
			int64		rest = my_slot->failures == 0 ? 0 :
				Min(REST_MIN << Min(my_slot->failures - 1, 6), REST_MAX);

			my_slot->failures++;
			my_slot->retry_at = GetCurrentTimestamp() + rest;
		}
		leave_slot();
	}
	SpinLockRelease(&my_slot->mutex);
	ConditionVariableBroadcast(&ordflow_worker_shared->ended);
	ordflow_launcher_wake();
}

/* No duty has work: ends unless some was noted meanwhile. */
static bool
retire(void)
{
	bool		retired;

	SpinLockAcquire(&my_slot->mutex);
	retired = ordflow_slot_wanted(my_slot) == DT_NOEND;
	if (retired)
	{
		my_slot->failures = 0;
		leave_slot();
	}
	SpinLockRelease(&my_slot->mutex);
	return retired;
}

static void
take_notes(TimestampTz *noted, bool *unblocked)
{
	SpinLockAcquire(&my_slot->mutex);
	for (int i = 0; i < DUTY_KINDS; i++)
	{
		noted[i] = my_slot->noted[i];
		my_slot->noted[i] = DT_NOEND;
	}
	*unblocked = my_slot->unblocked;
	my_slot->unblocked = false;
	my_slot->next_at = DT_NOBEGIN;
	SpinLockRelease(&my_slot->mutex);
}

/* Is there anything to do before that time?  If not, who brings it will set our latch. */
static bool
announce_sleep(TimestampTz until)
{
	bool		quiet;

	SpinLockAcquire(&my_slot->mutex);
	quiet = ordflow_slot_wanted(my_slot) >= until && !my_slot->unblocked &&
		!my_slot->yield && my_slot->away == 0;
	if (quiet)
		my_slot->next_at = until;
	SpinLockRelease(&my_slot->mutex);
	return quiet;
}

bool
ordflow_worker_leaving(void)
{
	if (my_slot == NULL)
		return ordflow_companion_leaving();
	return ProcDiePending || my_slot->yield || my_slot->away > 0;
}

void
ordflow_worker_blocked(bool blocked)
{
	if (my_slot->blocked == blocked)
		return;
	SpinLockAcquire(&my_slot->mutex);
	my_slot->blocked = blocked;
	SpinLockRelease(&my_slot->mutex);
}

static void
mark_inactive(bool inactive)
{
	if (my_slot == NULL)
		return;
	SpinLockAcquire(&my_slot->mutex);
	my_slot->inactive[current] = inactive;
	SpinLockRelease(&my_slot->mutex);
}

/* ---- transactions of duties ---- */

/* The extension, locked against DROP until the end of the transaction. */
static bool
lock_extension(void)
{
	Oid			extension = get_extension_oid("ordflow", true);

	if (!OidIsValid(extension))
		return false;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	return get_extension_oid("ordflow", true) == extension && ordflow_version_is_current();
}

bool
ordflow_worker_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();

	/* a commit wakes us before it sends its invalidations */
	if (caches_are_old)
		InvalidateSystemCaches();
	caches_are_old = false;
	if (!lock_extension() || !ordflow_activation_is_on(current))
	{
		mark_inactive(true);
		CommitTransactionCommand();
		return false;
	}
	mark_inactive(false);
	pgstat_report_activity(STATE_RUNNING, ordflow_duty_part(current));
	before = ordflow_role_enter(ordflow_owner(), false);
	PushActiveSnapshot(GetTransactionSnapshot());
	return true;
}

/* As the owner to the end: what is deferred to the commit never runs as the worker. */
void
ordflow_worker_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	ordflow_role_leave(before);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

ErrorData *
ordflow_worker_abort(MemoryContext context)
{
	ErrorData  *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	AbortOutOfAnyTransaction();
	FlushErrorState();
	pgstat_report_activity(STATE_IDLE, NULL);
	RESUME_INTERRUPTS();
	MemoryContextSwitchTo(context);
	return error;
}

/* ---- turns ---- */

static ErrorData *
take_error(void)
{
	HOLD_INTERRUPTS();
	EmitErrorReport();
	RESUME_INTERRUPTS();
	return ordflow_worker_abort(TopMemoryContext);
}

static void
failed(DutyTurn *turn, ErrorData *error)
{
	turn->afresh = true;
	turn->rest = Min(Max(turn->rest * 2, REST_MIN), REST_MAX);
	turn->next = GetCurrentTimestamp() + turn->rest;
	if (duties[current]->failed)
		duties[current]->failed(error);
	FreeErrorData(error);
}

static void
run_duty(DutyKind kind, TimestampTz noted, bool unblocked)
{
	DutyTurn   *turn = &turns[kind];
	ErrorData  *volatile error = NULL;

	current = kind;
	caches_are_old = noted == DT_NOBEGIN;
	PG_TRY();
	{
		turn->next = duties[kind]->run(noted, unblocked);
		turn->afresh = false;
		turn->rest = 0;
	}
	PG_CATCH();
	{
		error = take_error();
	}
	PG_END_TRY();
	if (error != NULL)
		failed(turn, error);
}

/* A duty that failed rests, whatever is noted: it will look at everything then. */
static bool
has_turn(const DutyTurn *turn, TimestampTz noted, bool unblocked)
{
	if (turn->next <= GetCurrentTimestamp())
		return true;
	return !turn->afresh && (noted != DT_NOEND || unblocked);
}

static void
all_afresh(void)
{
	for (int i = 0; i < DUTY_KINDS; i++)
		turns[i] = (DutyTurn) {.next = DT_NOBEGIN, .afresh = true};
}

/* A setting may mean more work, or less. */
static void
all_at_once(void)
{
	for (int i = 0; i < DUTY_KINDS; i++)
		turns[i].next = DT_NOBEGIN;
}

/* Since it was asked last. */
static bool
clock_was_set_back(void)
{
	static TimestampTz last = DT_NOBEGIN;
	TimestampTz now = GetCurrentTimestamp();
	bool		back = now < last;

	last = now;
	return back;
}

static TimestampTz
run_duties(void)
{
	TimestampTz noted[DUTY_KINDS];
	bool		unblocked;
	TimestampTz next = DT_NOEND;

	if (clock_was_set_back())
		all_afresh();
	take_notes(noted, &unblocked);
	for (int i = 0; i < DUTY_KINDS && !ordflow_worker_leaving(); i++)
		if (has_turn(&turns[i], noted[i], unblocked))
			run_duty(i, turns[i].afresh ? DT_NOBEGIN : noted[i], unblocked);
	for (int i = 0; i < DUTY_KINDS; i++)
		next = Min(next, turns[i].next);
	return next;
}

/* Rounded up: a millisecond too early would be a round in vain. */
static long
milliseconds_until(TimestampTz time)
{
	TimestampTz now = GetCurrentTimestamp();

	if (time <= now)
		return 0;
	if (time - now >= CLOCK_CHECK_MS * 1000)
		return CLOCK_CHECK_MS;
	return (time - now + 999) / 1000;
}

/*
 * The sleep is on the machine's steady clock, the deadline on the one on the wall.  Where that
 * was set back, every duty gets a turn.
 */
static void
sleep_until(TimestampTz time)
{
	while (!ordflow_worker_leaving() && announce_sleep(time))
	{
		long		timeout = milliseconds_until(time);

		if (clock_was_set_back())
		{
			all_afresh();
			break;
		}
		if (timeout == 0)
			break;
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout,
				  PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		if (ProcDiePending)
			break;
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			all_at_once();
			break;
		}
	}
}

static void
coordinate(void)
{
	all_afresh();
	while (!ordflow_worker_leaving())
	{
		TimestampTz next = run_duties();

		if (ordflow_worker_leaving())
			break;
		if (next == DT_NOEND && retire())
			break;
		sleep_until(next);
	}
}

/* ---- the process ---- */

/*
 * Settings of the database or the server that must not reach our statements.  A worker waits
 * for a lock for a moment at most, and is the one that a deadlock ends, not a customer.
 */
void
ordflow_worker_pin_settings(const char *name)
{
	const char *const settings[][2] = {
		{"search_path", ""},
		{"session_replication_role", "origin"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "100ms"},
		{"deadlock_timeout", "100ms"},
		{"idle_in_transaction_session_timeout", "0"},
		{"transaction_timeout", "0"},
		{"row_security", "on"},
		{"jit", "off"},
		{"ordflow.event", ""},
		{"ordflow.actor", name},
		{"application_name", name},
	};

	for (int i = 0; i < lengthof(settings); i++)
		if (GetConfigOption(settings[i][0], true, false) != NULL)
			SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

void
ordflow_worker_serve(DutyKind kind)
{
	current = kind;
	caches_are_old = true;
}

void
ordflow_worker_look_afresh(void)
{
	caches_are_old = true;
}

void
ordflow_coordinator_main(Datum arg)
{
	Oid			database;

	my_slot = &ordflow_worker_shared->slots[DatumGetInt32(arg)];
	memcpy(&my_serial, MyBgworkerEntry->bgw_extra, sizeof(my_serial));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	/* registered before the connection is, so it runs when that is gone */
	on_shmem_exit(detach, (Datum) 0);
	if (!attach(&database))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, 0);
	ordflow_worker_pin_settings("ordflow coordinator");
	pgstat_report_activity(STATE_IDLE, NULL);
	coordinate();
	proc_exit(0);
}

/*
 * pull.c
 *	  The process that pulls one sync: it comes when there is something to do, and goes.
 *
 * One attempt reads the source and sends all of it.  What fails is written down and tried again;
 * of mode scheduled the next attempt goes on behind the last row that is at the target, of mode
 * full it begins anew, with the source as it is then.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procsignal.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "server/server.h"
#include "sync/pull.h"
#include "sync/row.h"

#define LOOK_MS		1000L		/* while nothing is due, or it rests */
#define LINGER		(10 * USECS_PER_SEC)	/* for what comes soon */
#define REST_MIN	(50 * INT64CONST(1000))
#define REST_MAX	(30 * USECS_PER_SEC)
#define REST_MISCONFIGURED (5 * USECS_PER_SEC)

static int64 my_id;
static PullShared *shared = NULL;
static bool in_transaction = false;
static Pull pull;

/* ---- for all files of pulls ---- */

void
ordflow_pull_begin(Pull *of)
{
	if (!in_transaction && !ordflow_worker_begin())
		ereport(ERROR,
				errcode(ERRCODE_ADMIN_SHUTDOWN),
				errmsg("ordflow may not act in this database"));
	in_transaction = true;
	MemoryContextSwitchTo(of->batch_memory);
}

void
ordflow_pull_commit(Pull *of)
{
	if (in_transaction)
		ordflow_worker_commit();
	in_transaction = false;
	MemoryContextSwitchTo(of->batch_memory);
}

void
ordflow_pull_aborted(void)
{
	in_transaction = false;
}

void
ordflow_pull_check(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ordflow_worker_leaving())
		ereport(ERROR,
				errcode(ERRCODE_ADMIN_SHUTDOWN),
				errmsg("the pull was told to stop"));
}

static void
wait_for_something(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

void
ordflow_pull_rest(long ms)
{
	TimestampTz until = GetCurrentTimestamp() + ms * 1000;

	for (TimestampTz now = GetCurrentTimestamp(); now < until; now = GetCurrentTimestamp())
	{
		ordflow_pull_check();
		wait_for_something(Min((until - now) / 1000 + 1, LOOK_MS));
	}
}

/* Asked by the sink while it waits. */
static bool
is_cancelled(void)
{
	volatile bool failed = false;

	PG_TRY();
	{
		if (ProcSignalBarrierPending)
			ProcessProcSignalBarrier();
	}
	PG_CATCH();
	{
		FlushErrorState();
		failed = true;
	}
	PG_END_TRY();
	return failed || ordflow_worker_leaving();
}

/* ---- the sync ---- */

/* What the sink keeps for itself begins with this; of a copied database with something else. */
static char *
name_space(const ModuleConfig *config, const char *token)
{
	const char *prefix = module_option(config, "prefix");

	return psprintf("%s:" UINT64_FORMAT ":%u:pull:%s:", prefix ? prefix : "ordflow",
					GetSystemIdentifier(), MyDatabaseId, token);
}

static void
close_sink(void)
{
	if (pull.state != NULL)
		pull.sink->close(pull.state);
	pull.state = NULL;
	pull.sink = NULL;
}

/* In a transaction, in the memory of the attempt. */
static void
open_sink(const char *server, const char *role)
{
	const OrdflowModule *module;

	pull.sink = NULL;
	if (server == NULL)
		return;
	pull.server = ordflow_server_config(server, get_role_oid(role, false));
	module = ordflow_module_load(pull.server->module);
	if (module->sink == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("module ordflow_%s is no target of syncs", pull.server->module));
	pull.server->cancelled = is_cancelled;
	pull.state = module->sink->open(pull.server, name_space(pull.server, pull.row->token));
	if (pull.state == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory"));
	pull.sink = module->sink;
}

/* Everything as it is now. */
static void
prepare(void)
{
	ordflow_worker_look_afresh();
	ordflow_pull_begin(&pull);
	MemoryContextSwitchTo(pull.memory);
	pull.row = ordflow_pull_start(my_id);
	SPI_connect();
	MemoryContextSwitchTo(pull.memory);
	pull.sync = ordflow_sync_by_id(my_id);
	SPI_finish();
	MemoryContextSwitchTo(pull.memory);
	if (pull.row == NULL || pull.sync == NULL || pull.sync->paused)
		ereport(ERROR,
				errcode(ERRCODE_ADMIN_SHUTDOWN),
				errmsg("the sync was paused or dropped"));
	pull.misconfigured = true;
	open_sink(pull.sync->server, pull.sync->role);
	pull.full = strcmp(pull.sync->mode, PULL_FULL) == 0;
	pull.route = ordflow_route_make(pull.sync, pull.sink, pull.memory);
	pull.source = ordflow_pull_source(pull.sync, pull.route->options);
	if (ordflow_pull_removes(&pull))
		ordflow_pull_begin_keys(&pull);
	ordflow_pull_commit(&pull);
	pull.misconfigured = false;
}

/* ---- an attempt ---- */

/* False: nothing can be new. */
static bool
set_bound(void)
{
	const char *until;

	if (pull.full || pull.row->until != NULL)
		return true;
	until = ordflow_pull_bound(&pull);
	if (until == NULL || (pull.row->bound != NULL && strcmp(until, pull.row->bound) == 0 &&
						  pull.route->options->overlap == NULL))
		return false;
	ordflow_pull_begin(&pull);
	ordflow_pull_set_bound(&pull, until);
	ordflow_pull_commit(&pull);
	return true;
}

/* False: it went on with one that was begun before, so what is newer than that is still to come. */
static bool
attempt(void)
{
	bool		afresh;

	prepare();
	afresh = pull.row->until == NULL;
	ordflow_pull_connect(&pull);
	ordflow_pull_replay(&pull);
	if (set_bound())
	{
		ordflow_pull_begin(&pull);
		ordflow_pull_read(&pull);
		ordflow_pull_commit(&pull);
		ordflow_pull_send(&pull);
		ordflow_pull_remove(&pull);
	}
	ordflow_pull_begin(&pull);
	ordflow_pull_finish(&pull);
	ordflow_pull_commit(&pull);
	return afresh;
}

static void
end_attempt(void)
{
	close_sink();
	if (pull.rows != NULL)
		tuplestore_end(pull.rows);
	if (pull.keys != NULL)
		tuplestore_end(pull.keys);
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(pull.batch_memory);
	MemoryContextReset(pull.memory);
	pull = (Pull) {.sync_id = my_id,.memory = pull.memory,.batch_memory = pull.batch_memory};
}

static TimestampTz
retry_time(void)
{
	int64		rest = REST_MIN << Min(pull.row != NULL ? pull.row->failures : 0, 16);

	rest = Min(rest, REST_MAX);
	if (pull.misconfigured)
		rest = Max(rest, REST_MISCONFIGURED);
	return GetCurrentTimestamp() + rest;
}

/* It is written down; what passes from here on ends the process, which is started again. */
static void
note_failure(const ErrorData *error)
{
	ereport(pull.row == NULL || pull.row->failures == 0 ? WARNING : LOG,
			errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
			errmsg("sync \"%s\" could not be pulled: %s",
				   pull.sync != NULL ? pull.sync->name : psprintf(INT64_FORMAT, my_id),
				   error->message),
			error->hint != NULL ? errhint("%s", error->hint) : 0);
	ordflow_companion_problem(error->message, error->hint);
	ordflow_pull_begin(&pull);
	ordflow_pull_failed(my_id, error->message, retry_time());
	ordflow_pull_commit(&pull);
}

static uint64
number_asked(void)
{
	uint64		number;

	SpinLockAcquire(&shared->mutex);
	number = shared->asked;
	SpinLockRelease(&shared->mutex);
	return number;
}

static void
try(void)
{
	static int64 rows_before = 0;
	ErrorData  *volatile error = NULL;
	volatile bool afresh = false;
	uint64		number = number_asked();

	PG_TRY();
	{
		afresh = attempt();
	}
	PG_CATCH();
	{
		error = ordflow_worker_abort(pull.batch_memory);
		in_transaction = false;
	}
	PG_END_TRY();
	if (error == NULL)
	{
		ordflow_companion_problem(NULL, NULL);
		if (afresh)
			ordflow_pull_served(shared, number, rows_before + pull.row->rows, NULL);
		rows_before = afresh ? 0 : pull.row->rows;
	}
	else if (!ordflow_worker_leaving() && error->sqlerrcode != ERRCODE_ADMIN_SHUTDOWN)
	{
		note_failure(error);
		ordflow_pull_served(shared, number, 0, error->message);
	}
	end_attempt();
}

/* ---- the end of a sync ---- */

/* What the sink keeps at the target goes, where it can be reached. */
static void
clear_target(void)
{
	ModuleError error = {0};

	if (pull.state == NULL || pull.sink->clear == NULL)
		return;
	if (!pull.sink->connect(pull.state, &error) || !pull.sink->clear(pull.state, &error))
		ereport(LOG,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("ordflow could not clear its position at server \"%s\": %s",
					   pull.row->server, error.message));
}

static void
clear_up(void)
{
	PG_TRY();
	{
		ordflow_pull_begin(&pull);
		MemoryContextSwitchTo(pull.memory);
		pull.row = ordflow_pull_read_row(my_id);
		if (pull.row != NULL && pull.row->server != NULL &&
			OidIsValid(get_role_oid(pull.row->role, true)) &&
			OidIsValid(get_foreign_server_oid(pull.row->server, true)))
			open_sink(pull.row->server, pull.row->role);
		ordflow_pull_commit(&pull);
		clear_target();
	}
	PG_CATCH();
	{
		EmitErrorReport();
		(void) ordflow_worker_abort(pull.batch_memory);
		in_transaction = false;
	}
	PG_END_TRY();
	ordflow_pull_begin(&pull);
	ordflow_pull_forget(my_id);
	ordflow_pull_commit(&pull);
	end_attempt();
}

/* ---- turns ---- */

/* When it is to be pulled; DT_NOEND: not before somebody asks. */
static TimestampTz
due_at(const PullRow *row)
{
	bool		asked;

	SpinLockAcquire(&shared->mutex);
	asked = shared->asked != shared->served;
	SpinLockRelease(&shared->mutex);
	if (row->paused)
		return DT_NOEND;
	if (asked)
		return DT_NOBEGIN;
	return row->unfinished ? row->retry_at : row->next_at;
}

/* Does what is to be done; false: that was all for some time. */
static bool
turn(TimestampTz *idle_since)
{
	TimestampTz now = GetCurrentTimestamp();
	PullRow    *row;
	TimestampTz due;

	if (!ordflow_worker_begin())
		return false;
	in_transaction = true;
	MemoryContextSwitchTo(pull.batch_memory);
	row = ordflow_pull_read_row(my_id);
	ordflow_pull_commit(&pull);
	if (row == NULL)
		return false;
	if (row->is_over)
	{
		clear_up();
		return false;
	}
	due = due_at(row);
	if (due <= now)
	{
		try();
		*idle_since = GetCurrentTimestamp();
		return true;
	}
	if (now > *idle_since + LINGER && due > now + LINGER)
	{
		/* for the coordinator, who knows what was planned when he last looked */
		ordflow_worker_note(DUTY_SYNC, due);
		return false;
	}
	MemoryContextReset(pull.batch_memory);
	ordflow_companion_idle(true);
	wait_for_something(Max(1, Min((due - now) / 1000 + 1, LOOK_MS)));
	ordflow_companion_idle(false);
	return true;
}

static void
tell_latch(Latch *latch)
{
	SpinLockAcquire(&shared->mutex);
	if (shared->database == MyDatabaseId && shared->sync_id == my_id)
		shared->latch = latch;
	SpinLockRelease(&shared->mutex);
}

static void
at_exit(int code, Datum arg)
{
	tell_latch(NULL);
}

static void
puller_main(const char *name)
{
	TimestampTz idle_since = GetCurrentTimestamp();

	my_id = strtoll(name, NULL, 10);
	shared = ordflow_pull_shared(my_id, true);
	if (shared == NULL)
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("all %d places for syncs that are pulled are taken", SYNC_PULLS_MAX));
	on_shmem_exit(at_exit, (Datum) 0);
	pull.sync_id = my_id;
	pull.memory = AllocSetContextCreate(TopMemoryContext, "ordflow pull", ALLOCSET_DEFAULT_SIZES);
	pull.batch_memory = AllocSetContextCreate(TopMemoryContext, "ordflow pulled batch",
											  ALLOCSET_DEFAULT_SIZES);
	(void) ordflow_change_settings();
	tell_latch(MyLatch);
	while (!ordflow_worker_leaving() && turn(&idle_since))
		;
	tell_latch(NULL);
	if (!ordflow_worker_leaving())
		ordflow_companion_done();
}

void
ordflow_puller_init(void)
{
	static const CompanionKind kind = {
		.title = "puller",
		.duty = DUTY_SYNC,
		.main = puller_main,
	};

	ordflow_companion_register(COMPANION_PULLER, &kind);
}

/*
 * pull_asked.c
 *	  run_sync(): asks the process of a pull, and waits for what comes of it.
 *
 * Who asks draws a number; a pull that begins afterwards serves all that were drawn before.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/wait_event.h"

#include "sync/pull.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_run_sync);

#define WAIT_STEP_MS	5L
#define LOOK_EVERY		USECS_PER_SEC	/* whether it is still there to be pulled */
#define START_MAX		(60 * USECS_PER_SEC)

/* ---- the place in shared memory ---- */

/* Nobody waits there, and nobody runs. */
static bool
is_idle(const PullShared *place)
{
	return place->latch == NULL && place->asked == place->served;
}

static void
clear_place(PullShared *place, int64 sync_id)
{
	SpinLockAcquire(&place->mutex);
	memset((char *) place + sizeof(slock_t), 0, sizeof(PullShared) - sizeof(slock_t));
	place->database = MyDatabaseId;
	place->sync_id = sync_id;
	SpinLockRelease(&place->mutex);
}

PullShared *
ordflow_pull_shared(int64 sync_id, bool make)
{
	PullShared *place = NULL;
	PullShared *idle = NULL;

	if (ordflow_sync_shared == NULL)
		return NULL;
	SpinLockAcquire(&ordflow_sync_shared->mutex);
	for (int i = 0; i < SYNC_PULLS_MAX && place == NULL; i++)
	{
		PullShared *other = &ordflow_sync_shared->pulls[i];

		if (other->database == MyDatabaseId && other->sync_id == sync_id)
			place = other;
		else if (make && is_idle(other) && (idle == NULL || !OidIsValid(other->database)))
			idle = other;
	}
	if (place == NULL && idle != NULL)
	{
		place = idle;
		clear_place(place, sync_id);
	}
	SpinLockRelease(&ordflow_sync_shared->mutex);
	return place;
}

bool
ordflow_pull_is_wanted(int64 sync_id)
{
	PullShared *place = ordflow_pull_shared(sync_id, false);

	return place != NULL && !is_idle(place);
}

void
ordflow_pull_served(PullShared *place, uint64 number, int64 rows, const char *problem)
{
	SpinLockAcquire(&place->mutex);
	place->served = number;
	place->rows = rows;
	place->failed = problem != NULL;
	strlcpy(place->problem, problem ? problem : "", sizeof(place->problem));
	SpinLockRelease(&place->mutex);
}

/* ---- run_sync ---- */

static void
require_runnable(const SyncDefinition *sync)
{
	if (!ordflow_is_pulled(sync->mode))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("sync \"%s\" is of mode %s, which is not run", sync->name, sync->mode),
				errhint("It is kept in step by itself: SELECT ordflow.wait_for_sync(%s) waits for it.",
						quote_literal_cstr(sync->name)));
	if (sync->paused)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("sync \"%s\" is paused", sync->name),
				errhint("SELECT ordflow.resume_sync(%s);", quote_literal_cstr(sync->name)));
	if (!ordflow_workers || !ordflow_activation_is_on(DUTY_SYNC))
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("no worker acts in this database"),
				errhint("SELECT ordflow.activate(); the setting ordflow.workers must be on."));
}

static PullShared *
ask(const SyncDefinition *sync, uint64 *number)
{
	PullShared *place = ordflow_pull_shared(sync->sync_id, true);
	Latch	   *latch;

	if (place == NULL)
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("all %d places for syncs that are pulled are taken", SYNC_PULLS_MAX));
	SpinLockAcquire(&place->mutex);
	*number = ++place->asked;
	latch = place->latch;
	SpinLockRelease(&place->mutex);
	if (latch != NULL)
		SetLatch(latch);
	ordflow_worker_note(DUTY_SYNC, DT_NOBEGIN);
	return place;
}

/* The place as it is when the number has been served. */
static PullShared
wait_until_served(FunctionCallInfo fcinfo, const SyncDefinition *sync, PullShared *place,
				  uint64 number)
{
	TimestampTz began = GetCurrentTimestamp();
	TimestampTz look_at = began + LOOK_EVERY;
	PullShared	copy;
	bool		came = false;

	for (;;)
	{
		SpinLockAcquire(&place->mutex);
		copy = *place;
		SpinLockRelease(&place->mutex);
		if (copy.database != MyDatabaseId || copy.sync_id != sync->sync_id ||
			copy.served >= number)
			return copy;
		came = came || copy.latch != NULL;
		if (GetCurrentTimestamp() >= look_at)
		{
			require_runnable(ordflow_sync_of_caller(fcinfo));
			look_at = GetCurrentTimestamp() + LOOK_EVERY;
		}
		if (!came && look_at - began > START_MAX)
			ereport(ERROR,
					errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					errmsg("no worker has come to pull sync \"%s\"", sync->name),
					errhint("SELECT * FROM ordflow.workers tells why."));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, WAIT_STEP_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

Datum
ordflow_run_sync(PG_FUNCTION_ARGS)
{
	SyncDefinition *sync;
	PullShared *place;
	PullShared	result;
	uint64		number;

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "name");
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				errmsg("run_sync() cannot be called in a transaction that has written"),
				errhint("What it has written is not there yet for others: run it in a transaction of its own."));
	sync = ordflow_sync_of_caller(fcinfo);
	require_runnable(sync);
	place = ask(sync, &number);
	result = wait_until_served(fcinfo, sync, place, number);
	if (result.served < number || result.failed)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("sync \"%s\" could not be pulled: %s", sync->name,
					   result.failed ? result.problem : "its process is gone"),
				errhint("It is tried again by itself; SELECT * FROM ordflow.check_sync(%s) tells what it lacks.",
						quote_literal_cstr(sync->name)));
	PG_RETURN_INT64(result.rows);
}

/*
 * lateness.c
 *	  What coordinators and drivers have fired, how late, and what failed, in shared memory.
 *
 * The figures are of one database each, from the first run after the server's start, or of a
 * driver, from its start.  They are for people to look at: nothing depends on them.
 */
#include "postgres.h"

#include "common/int.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "timer/internal.h"
#include "worker/worker.h"

#define SHMEM_NAME "ordflow timer"

/* those of coordinators, and then of drivers */
#define PLACES (WORKER_DATABASES_MAX + COMPANIONS_MAX)

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

/* NULL when the library was not preloaded */
static TimerFigures *figures_of = NULL;
static LWLockPadded *locks;

static void
request_shmem(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(mul_size(sizeof(TimerFigures), PLACES));
	RequestNamedLWLockTranche(SHMEM_NAME, PLACES);
}

static void
start_shmem(void)
{
	Size		size = mul_size(sizeof(TimerFigures), PLACES);
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	figures_of = ShmemInitStruct(SHMEM_NAME, size, &found);
	if (!found)
		memset(figures_of, 0, size);
	locks = GetNamedLWLockTranche(SHMEM_NAME);
	LWLockRelease(AddinShmemInitLock);
}

void
ordflow_figures_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = start_shmem;
}

/* In a driver. */
static int	own_place = -1;

/* The figures of this database or driver, locked, or NULL. */
static TimerFigures *
figures_lock(LWLockMode mode, int *slot)
{
	TimerFigures *figures;

	*slot = figures_of == NULL ? -1 : own_place >= 0 ? own_place : ordflow_worker_database_slot();
	if (*slot < 0)
		return NULL;
	LWLockAcquire(&locks[*slot].lock, mode);
	figures = &figures_of[*slot];
	if (mode == LW_EXCLUSIVE && figures->database != MyDatabaseId)
	{
		memset(figures, 0, sizeof(TimerFigures));
		figures->database = MyDatabaseId;
		figures->since = GetCurrentTimestamp();
	}
	return figures;
}

void
ordflow_figures_of_driver(void)
{
	own_place = WORKER_DATABASES_MAX + ordflow_companion_place();
	LWLockAcquire(&locks[own_place].lock, LW_EXCLUSIVE);
	memset(&figures_of[own_place], 0, sizeof(TimerFigures));
	figures_of[own_place].database = MyDatabaseId;
	figures_of[own_place].since = GetCurrentTimestamp();
	LWLockRelease(&locks[own_place].lock);
}

void
ordflow_figures_published(int n)
{
	int			slot;
	TimerFigures *figures = figures_lock(LW_EXCLUSIVE, &slot);

	if (figures == NULL)
		return;
	figures->published += n;
	LWLockRelease(&locks[slot].lock);
}

bool
ordflow_figures_read_driver(int place, TimerFigures *copy)
{
	int			slot = WORKER_DATABASES_MAX + place;

	LWLockAcquire(&locks[slot].lock, LW_SHARED);
	*copy = figures_of[slot];
	LWLockRelease(&locks[slot].lock);
	return copy->database == MyDatabaseId;
}

/* The first buckets hold a microsecond each, the last all that is beyond the others. */
static int
bucket_of(int64 lateness)
{
	int			power;

	if (lateness < LATENESS_STEPS)
		return lateness;
	power = pg_leftmost_one_pos64(lateness);
	if (power >= LATENESS_POWERS)
		return LATENESS_BUCKETS - 1;
	return LATENESS_STEPS * (power - 3) + (lateness >> (power - 3));
}

/* What is in a bucket is less than this. */
static int64
bucket_end(int bucket)
{
	if (bucket < LATENESS_STEPS)
		return bucket + 1;
	return (int64) (LATENESS_STEPS + bucket % LATENESS_STEPS + 1) << (bucket / LATENESS_STEPS - 1);
}

void
ordflow_figures_fired(const DueRun *run)
{
	TimestampTz now = GetCurrentTimestamp();
	int			slot;
	TimerFigures *figures;

	if (run->nfired == 0 || (figures = figures_lock(LW_EXCLUSIVE, &slot)) == NULL)
		return;
	for (int i = 0; i < run->nobjects; i++)
	{
		int64		lateness;

		if (!run->objects[i].fired)
			continue;
		/* a deadline of -infinity is as late as can be */
		if (pg_sub_s64_overflow(now, run->objects[i].due, &lateness))
			lateness = PG_INT64_MAX;
		lateness = Max(lateness, 0);
		figures->lateness[bucket_of(lateness)]++;
		figures->lateness_max = Max(figures->lateness_max, lateness);
		figures->done++;
	}
	LWLockRelease(&locks[slot].lock);
}

void
ordflow_figures_failed(int sqlerrcode, const char *message)
{
	int			slot;
	TimerFigures *figures = figures_lock(LW_EXCLUSIVE, &slot);
	int			length;

	if (figures == NULL)
		return;
	figures->error_at = GetCurrentTimestamp();
	strlcpy(figures->sqlstate, unpack_sql_state(sqlerrcode), sizeof(figures->sqlstate));
	length = pg_mbcliplen(message, strlen(message), sizeof(figures->error) - 1);
	memcpy(figures->error, message, length);
	figures->error[length] = '\0';
	LWLockRelease(&locks[slot].lock);
}

bool
ordflow_figures_read(TimerFigures *copy)
{
	int			slot;
	TimerFigures *figures = figures_lock(LW_SHARED, &slot);

	memset(copy, 0, sizeof(TimerFigures));
	if (figures == NULL)
		return false;
	if (figures->database == MyDatabaseId)
		*copy = *figures;
	LWLockRelease(&locks[slot].lock);
	return OidIsValid(copy->database);
}

int64
ordflow_figures_lateness(const TimerFigures *figures, double share)
{
	uint64		rank = (uint64) (figures->done * share);
	uint64		counted = 0;

	for (int i = 0; i < LATENESS_BUCKETS; i++)
	{
		counted += figures->lateness[i];
		if (counted > rank)
			return Min(bucket_end(i), figures->lateness_max);
	}
	return figures->lateness_max;
}

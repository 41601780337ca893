/*
 * schedule_fire.c
 *	  The coordinator submits the tasks of schedules that are due.
 *
 * It keeps in its own memory when each schedule is due next, and asks the table for those alone.
 * What changes a schedule, or ends a task that one of its times waits for, has it look afresh.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "task/internal.h"
#include "worker/worker.h"

#define AT_ONCE 100				/* schedules in a transaction */
#define MISFIRES_MAX 1000		/* times of a schedule in a transaction */
#define PENDING_MAX 1000
#define MISFIRE_AFTER (5 * USECS_PER_SEC)
#define CLOCK_BACK USECS_PER_MINUTE
#define LOCKED_REST USECS_PER_SEC	/* somebody changes the schedule, or holds its key */
#define REFUSED_REST USECS_PER_MINUTE

/* A schedule as this process knows it. */
typedef struct Known
{
	char	   *name;
	TimestampTz next;
} Known;

/* Its row. */
typedef struct Schedule
{
	char	   *name;
	char	   *text;
	const TaskKind *kind;
	Jsonb	   *payload;
	pg_tz	   *zone;
	bool		once;			/* of what is past, the last one */
	bool		all;
	bool		queue;
	bool		allow;
	char	   *owner;
	TimestampTz last_slot;
	int64		last_task;
	int			pending;
	Crontab		crontab;
} Schedule;

static Known *known = NULL;
static int	nknown = 0;
static MemoryContext known_context = NULL;
static TimestampTz next_turn = DT_NOBEGIN;

#define COLUMNS "name, schedule, kind_id, payload, time_zone, misfire, overlap, owner, " \
	"last_slot, last_task, pending"

static Statement all_schedules = {
	.sql = "SELECT name, schedule, time_zone, last_slot, pending FROM ordflow.task_schedules"
};

static Statement due_schedules = {
	.sql = "SELECT " COLUMNS " FROM ordflow.task_schedules WHERE name = ANY ($1) "
	"ORDER BY name FOR UPDATE SKIP LOCKED",
	.nargs = 1,
	.argtypes = {TEXTARRAYOID}
};

static Statement write_fired = {
	.sql = "UPDATE ordflow.task_schedules SET last_slot = $2, last_task = $3, pending = $4 "
	"WHERE name = $1",
	.nargs = 4,
	.argtypes = {TEXTOID, TIMESTAMPTZOID, INT8OID, INT4OID}
};

/* ---- times ---- */

static bool
read_times(Schedule *schedule, const char *zone)
{
	Problem		problem = {0};

	schedule->zone = ordflow_crontab_zone(zone);
	return schedule->zone != NULL &&
		ordflow_crontab_parse(schedule->text, &schedule->crontab, &problem);
}

static TimestampTz
next_of(const Schedule *schedule, TimestampTz after)
{
	return ordflow_crontab_next(&schedule->crontab, schedule->zone, after);
}

/* The last time before another, but after an earlier one, DT_NOEND: none.  By bisection. */
static TimestampTz
last_before(const Schedule *schedule, TimestampTz after, TimestampTz before)
{
	TimestampTz low = after;
	TimestampTz high = before;

	if (next_of(schedule, low) >= before)
		return DT_NOEND;
	while (high - low > USECS_PER_SEC)
	{
		TimestampTz middle = low + (high - low) / 2;

		if (next_of(schedule, middle) < before)
			low = middle;
		else
			high = middle;
	}
	return next_of(schedule, low);
}

static TimestampTz
previous(const Schedule *schedule, TimestampTz before)
{
	TimestampTz found = DT_NOEND;

	for (int64 back = USECS_PER_MINUTE; found == DT_NOEND && back < 10 * 366 * USECS_PER_DAY;
		 back *= 8)
		found = last_before(schedule, before - back, before);
	return found;
}

/* ---- submitting ---- */

/* False: the last one is open. */
static bool
submit(Schedule *schedule, TimestampTz slot)
{
	const TaskAction *actions;
	int			before = ordflow_journal_look(&actions);
	SubmitOptions options = {.run_at = slot};
	int64		task;

	if (!schedule->allow)
		options.unique_key = psprintf(SCHEDULE_KEY "%s", schedule->name);
	task = ordflow_submit_one(schedule->kind, schedule->payload, &options, schedule->owner);
	if (ordflow_journal_look(&actions) == before)
		return false;
	schedule->last_task = task;
	return true;
}

/* The time of a schedule has come. */
static void
fire(Schedule *schedule, TimestampTz slot)
{
	/* what waits comes first */
	if (schedule->pending > 0 || !submit(schedule, slot))
		schedule->pending += schedule->queue && schedule->pending < PENDING_MAX;
	schedule->last_slot = slot;
}

/* The oldest of those that wait, if the last task has ended. */
static void
fire_pending(Schedule *schedule)
{
	TimestampTz slot = schedule->last_slot + 1;

	for (int i = 0; i < schedule->pending && slot != DT_NOEND; i++)
		slot = previous(schedule, slot);
	if (slot == DT_NOEND)
		schedule->pending = 0;
	else if (submit(schedule, slot))
		schedule->pending--;
}

/* Times of which we come too late. */
static void
fire_misfires(Schedule *schedule, TimestampTz until)
{
	TimestampTz slot;

	if (schedule->once)
	{
		slot = last_before(schedule, schedule->last_slot, until);
		if (slot != DT_NOEND)
			fire(schedule, slot);
	}
	for (int i = 0; schedule->all && i < MISFIRES_MAX; i++)
	{
		slot = next_of(schedule, schedule->last_slot);
		if (slot >= until)
			break;
		fire(schedule, slot);
	}
}

/* Whether all that is past has been dealt with. */
static bool
fire_due(Schedule *schedule, TimestampTz now)
{
	TimestampTz on_time = now - MISFIRE_AFTER;
	TimestampTz slot;

	/* the clock was set back */
	if (schedule->last_slot > now + CLOCK_BACK)
		schedule->last_slot = now;
	if (schedule->pending > 0)
		fire_pending(schedule);
	fire_misfires(schedule, on_time);
	if (schedule->all && next_of(schedule, schedule->last_slot) < on_time)
		return false;
	/* misfire skip */
	if (next_of(schedule, schedule->last_slot) < on_time)
		schedule->last_slot = on_time - 1;
	while ((slot = next_of(schedule, schedule->last_slot)) <= now)
		fire(schedule, slot);
	return true;
}

/* ---- a turn ---- */

static void
read_schedule(uint64 row, Schedule *schedule)
{
	bool		isnull;
	const char *misfire = ordflow_result_text(row, 6);
	const char *overlap = ordflow_result_text(row, 7);

	*schedule = (Schedule) {
		.name = ordflow_result_text(row, 1),
		.text = ordflow_result_text(row, 2),
		.kind = ordflow_kind_by_id(DatumGetInt32(ordflow_result(row, 3, &isnull))),
		.payload = DatumGetJsonbPCopy(ordflow_result(row, 4, &isnull)),
		.once = strcmp(misfire, "once") == 0,
		.all = strcmp(misfire, "all") == 0,
		.queue = strcmp(overlap, "queue") == 0,
		.allow = strcmp(overlap, "allow") == 0,
		.owner = ordflow_result_text(row, 8),
		.last_slot = DatumGetTimestampTz(ordflow_result(row, 9, &isnull)),
		.last_task = ordflow_result_int64(row, 10),
		.pending = DatumGetInt32(ordflow_result(row, 11, &isnull))
	};
	if (!read_times(schedule, ordflow_result_text(row, 5)))
		schedule->kind = NULL;
}

static bool
may_submit(const Schedule *schedule)
{
	Oid			owner = get_role_oid(schedule->owner, true);

	return schedule->kind != NULL && OidIsValid(owner) &&
		ordflow_kind_may_submit(schedule->kind, owner);
}

static void
write_schedule(const Schedule *schedule)
{
	Datum		values[] = {
		CStringGetTextDatum(schedule->name), TimestampTzGetDatum(schedule->last_slot),
		Int64GetDatum(schedule->last_task), Int32GetDatum(schedule->pending)
	};

	ordflow_task_own_write();
	ordflow_execute(&write_fired, values, schedule->last_task == 0 ? "  n " : NULL);
	ordflow_task_own_write_done();
}

/* One that fails holds up no other.  When it is to come again. */
static TimestampTz
run_schedule(Schedule *schedule, TimestampTz now)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile TimestampTz next = now + REFUSED_REST;

	if (!may_submit(schedule))
		return next;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		bool		done = fire_due(schedule, now);

		write_schedule(schedule);
		next = done ? next_of(schedule, schedule->last_slot) : now;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (ordflow_error_is_callers(error->sqlerrcode))
			ReThrowError(error);
		/* somebody puts its last task back */
		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			next = now + LOCKED_REST;
		ereport(WARNING,
				errmsg("schedule \"%s\" could not fire: %s", schedule->name, error->message));
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return next;
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp(((const Known *) a)->name, ((const Known *) b)->name);
}

/* Memory is made anew from the table. */
static void
look_afresh(TimestampTz now)
{
	uint64		n = ordflow_execute_latest(&all_schedules, NULL, NULL);

	if (known_context == NULL)
		known_context = AllocSetContextCreate(TopMemoryContext, "ordflow schedules",
											  ALLOCSET_DEFAULT_SIZES);
	nknown = 0;
	MemoryContextReset(known_context);
	known = MemoryContextAllocHuge(known_context, sizeof(Known) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		Schedule	schedule = {.text = ordflow_result_text(i, 2)};
		TimestampTz last = DatumGetTimestampTz(ordflow_result(i, 4, &isnull));
		Known	   *one = &known[i];

		one->name = MemoryContextStrdup(known_context, ordflow_result_text(i, 1));
		one->next = DT_NOEND;
		if (read_times(&schedule, ordflow_result_text(i, 3)))
			one->next = next_of(&schedule, last > now + CLOCK_BACK ? now : last);
		if (DatumGetInt32(ordflow_result(i, 5, &isnull)) > 0)
			one->next = now;
	}
	qsort(known, n, sizeof(Known), compare_names);
	nknown = n;
}

/* The rows of those that are due, at most AT_ONCE, locked. */
static uint64
lock_due(TimestampTz now)
{
	const char *names[AT_ONCE];
	int			n = 0;
	Datum		values[1];

	for (int i = 0; i < nknown && n < AT_ONCE; i++)
		if (known[i].next <= now)
		{
			names[n++] = known[i].name;
			/* unless we get it: it is locked, or gone, which is told */
			known[i].next = now + LOCKED_REST;
		}
	if (n == 0)
		return 0;
	values[0] = ordflow_text_array(names, n);
	return ordflow_execute_latest(&due_schedules, values, NULL);
}

static void
fire_all(TimestampTz now)
{
	uint64		n = lock_due(now);
	Schedule   *schedules = palloc(sizeof(Schedule) * Max(n, 1));

	for (uint64 i = 0; i < n; i++)
		read_schedule(i, &schedules[i]);
	for (uint64 i = 0; i < n; i++)
	{
		Known		key = {.name = schedules[i].name};
		Known	   *one = bsearch(&key, known, nknown, sizeof(Known), compare_names);

		if (one != NULL)
			one->next = run_schedule(&schedules[i], now);
	}
}

/* Between begin and commit nothing of next_turn counts: an error has all looked at again. */
TimestampTz
ordflow_schedules_step(TimestampTz now, bool afresh)
{
	TimestampTz turn = next_turn;

	if (!afresh && turn > now)
		return turn;
	next_turn = DT_NOBEGIN;
	if (!ordflow_worker_begin())
		return DT_NOEND;
	SPI_connect();
	if (afresh || turn == DT_NOBEGIN)
		look_afresh(now);
	fire_all(now);
	SPI_finish();
	ordflow_worker_commit();
	turn = DT_NOEND;
	for (int i = 0; i < nknown; i++)
		turn = Min(turn, known[i].next);
	next_turn = turn;
	return turn;
}

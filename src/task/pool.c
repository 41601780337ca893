/*
 * pool.c
 *	  The background workers that run tasks: how many there are, and what each of them does.
 *
 * A worker logs in as the owner of the kinds that it runs.  The coordinator starts one more for a
 * role as long as tasks of it may start and nobody is free to run them, a start at a time;
 * who has been idle for a while goes.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "task/internal.h"
#include "worker/worker.h"

/* between two starts: a worker needs some 10 ms to get to work */
#define START_REST (20 * 1000)

/* when a worker slot, or a place, may have become free */
#define ROOM_REST USECS_PER_SEC
#define ROOM_LOG_REST (60 * USECS_PER_SEC)

/* a role that nobody works for is given another's place after so long */
#define STARVED (5 * USECS_PER_SEC)

#define PUT_OFF (50 * USECS_PER_SEC)	/* a suspect that could not run alone */
#define FAILED_REST USECS_PER_SEC
#define OTHERS_REST_MS 10

#define ROLES_MAX 64

/* ---- the coordinator: how many ---- */

/* A role, and how many tasks of its kinds might start now. */
typedef struct Demand
{
	Oid			role;
	int64		runnable;
} Demand;

typedef struct Starved
{
	Oid			role;
	TimestampTz since;
} Starved;

static Starved starved[ROLES_MAX];
static TimestampTz started_at = DT_NOBEGIN; /* the last worker */

/* Does memory show any task that a pool would run?  Cheap. */
static bool
has_ready(void)
{
	bool		found = false;

	ordflow_task_lock();
	for (int i = 0; i < TASK_KINDS_MAX && !found; i++)
	{
		const Lane *lane = &ordflow_task_shared->lanes[i];

		found = lane->database == MyDatabaseId && OidIsValid(lane->owner) &&
			(lane->ready > 0 || lane->keys_ready >= 0);
	}
	ordflow_task_unlock();
	return found;
}

/* How many tasks of the kind might start; *again: not before, by the rate. */
static int64
runnable(const TaskKind *kind, TimestampTz now, TimestampTz *again)
{
	int64		n = 0;
	const Lane *lane;

	if (kind->paused)
		return 0;
	ordflow_task_lock();
	lane = ordflow_lane_find(kind->kind_id);
	if (lane != NULL && ordflow_lane_permits(lane, kind, now, again))
	{
		n = lane->ready + (lane->keys_ready >= 0 ? lane->keys : 0);
		if (kind->max_concurrent > 0)
			n = Min(n, kind->max_concurrent - lane->running);
	}
	ordflow_task_unlock();
	return n;
}

/* Each role with kinds, those with tasks that might start first; how many. */
static int
read_demands(Demand *demands, TimestampTz now, TimestampTz *again)
{
	int			n = 0;
	ListCell   *cell;

	foreach(cell, ordflow_kinds_with_handler(InvalidOid))
	{
		const TaskKind *kind = lfirst(cell);
		int			i = 0;

		while (i < n && demands[i].role != kind->owner)
			i++;
		if (i == ROLES_MAX)
			continue;
		if (i == n)
			demands[n++] = (Demand) {.role = kind->owner};
		demands[i].runnable += runnable(kind, now, again);
	}
	return n;
}

static void
log_no_room(Oid role)
{
	static TimestampTz last = DT_NOBEGIN;
	TimestampTz now = GetCurrentTimestamp();

	if (last != DT_NOBEGIN && now - last < ROOM_LOG_REST && now >= last)
		return;
	last = now;
	ereport(LOG,
			errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			errmsg("no background worker slot is free for tasks of role \"%s\"",
				   GetUserNameFromId(role, true)),
			errhint("Raise max_worker_processes; until then tasks are run by fewer workers."));
}

/* One worker more for the role.  False: there is no room, or those that failed rest. */
static bool
start_worker(Oid role)
{
	const char *name = GetUserNameFromId(role, true);

	if (name == NULL)
		return false;
	for (int i = 1; i <= Max(ordflow_task_workers_max, 1); i++)
	{
		switch (ordflow_companion_start(COMPANION_POOL, psprintf("%s %d", name, i), role))
		{
			case COMPANION_STARTED:
				return true;
			case COMPANION_NO_ROOM:
				log_no_room(role);
				return false;
			case COMPANION_THERE:
			case COMPANION_RESTS:
				break;
		}
	}
	return false;
}

static void
tell_pool(Oid role)
{
	ordflow_task_lock();
	ordflow_wait_tell(MyDatabaseId, WAIT_POOL, role, 1);
	ordflow_task_unlock();
}

static int
idle_workers(Oid role)
{
	int			n;

	ordflow_task_lock();
	n = ordflow_wait_count(MyDatabaseId, WAIT_POOL, role);
	ordflow_task_unlock();
	return n;
}

/* Since when nobody works for the role; forget: somebody does. */
static TimestampTz
starved_since(Oid role, TimestampTz now, bool forget)
{
	Starved    *place = NULL;

	for (int i = 0; i < ROLES_MAX; i++)
	{
		if (starved[i].role == role)
		{
			place = &starved[i];
			break;
		}
		if (place == NULL && !OidIsValid(starved[i].role))
			place = &starved[i];
	}
	if (place == NULL)
		return now;
	if (forget)
		*place = (Starved) {.role = InvalidOid};
	else if (place->role != role)
		*place = (Starved) {.role = role, .since = now};
	return forget ? now : place->since;
}

/* All places are taken, none by this role, for a while: the role with most makes room. */
static TimestampTz
make_room(const Demand *demands, int n, Oid role, TimestampTz now)
{
	TimestampTz since = starved_since(role, now, false);
	Oid			richest = InvalidOid;
	int			most = 0;

	if (now < since + STARVED)
		return since + STARVED;
	for (int i = 0; i < n; i++)
	{
		int			workers = ordflow_companions_count(COMPANION_POOL, demands[i].role);

		if (workers > most)
		{
			most = workers;
			richest = demands[i].role;
		}
	}
	if (OidIsValid(richest))
		ordflow_companion_dismiss(COMPANION_POOL, richest);
	starved_since(role, now, true);
	return now + START_REST;
}

/* The pool of one role; when to look again. */
static TimestampTz
grow(const Demand *demands, int n, const Demand *demand, TimestampTz now)
{
	int			workers = ordflow_companions_count(COMPANION_POOL, demand->role);
	int			all = ordflow_companions_count(COMPANION_POOL, InvalidOid);

	if (workers > 0)
		starved_since(demand->role, now, true);
	if (demand->runnable <= 0)
		return DT_NOEND;
	/* who waits may be about to take one of them, and there may be more */
	if (idle_workers(demand->role) > 0)
	{
		tell_pool(demand->role);
		return now + START_REST;
	}
	if (now >= started_at && now < started_at + START_REST)
		return started_at + START_REST;
	if (all >= ordflow_task_workers_max)
		return workers > 0 || all == 0 ? DT_NOEND : make_room(demands, n, demand->role, now);
	started_at = now;
	return start_worker(demand->role) ? now + START_REST : now + ROOM_REST;
}

/* Some stay though there is nothing to do. */
static TimestampTz
keep_minimum(const Demand *demands, int n, TimestampTz now)
{
	if (n == 0 ||
		ordflow_companions_count(COMPANION_POOL, InvalidOid) >=
		Min(ordflow_task_workers_min, ordflow_task_workers_max))
		return DT_NOEND;
	return start_worker(demands[0].role) ? now + START_REST : now + ROOM_REST;
}

static void
set_pool_at(TimestampTz at)
{
	TaskQueue  *queue = ordflow_queue();

	ordflow_task_lock();
	queue->pool_at = at;
	ordflow_task_unlock();
}

TimestampTz
ordflow_pool_step(TimestampTz now)
{
	Demand		demands[ROLES_MAX];
	TimestampTz next = DT_NOEND;
	int			n;

	/* from here on whoever brings a task, and finds nobody free, has us look again */
	set_pool_at(TASK_AT_ONCE);
	if (!has_ready() && ordflow_companions_count(COMPANION_POOL, InvalidOid) >=
		Min(ordflow_task_workers_min, ordflow_task_workers_max))
	{
		ordflow_companions_give_up(COMPANION_POOL);
		return DT_NOEND;
	}
	if (!ordflow_worker_begin())
		return DT_NOEND;
	n = read_demands(demands, now, &next);
	ordflow_companions_give_up(COMPANION_POOL);
	for (int i = 0; i < n; i++)
		next = ordflow_earlier(next, grow(demands, n, &demands[i], now));
	next = ordflow_earlier(next, keep_minimum(demands, n, now));
	ordflow_worker_commit();
	/* until then it is of no use to wake us */
	if (ordflow_companions_count(COMPANION_POOL, InvalidOid) >= ordflow_task_workers_max)
		set_pool_at(now + STARVED);
	else if (next != DT_NOEND)
		set_pool_at(next);
	return next;
}

int
ordflow_pool_workers(Oid owner)
{
	return ordflow_companions_count(COMPANION_POOL, owner);
}

/* ---- a worker ---- */

/* The claims of this process that it does not work on: given back, or put off. */
static void
let_go(const TaskRow *tasks, int n, TimestampTz put_off)
{
	ordflow_task_lock();
	for (int i = 0; i < n; i++)
		if (ordflow_claim_is(tasks[i].slot, tasks[i].token))
		{
			/* no transaction is open that could end it */
			ordflow_task_slots[tasks[i].slot].flags &= ~CLAIM_FINISHING;
			if (put_off == DT_NOBEGIN)
				ordflow_claim_give_back(tasks[i].slot, DT_NOBEGIN);
			else
				ordflow_claim_put_off(tasks[i].slot, put_off);
		}
	ordflow_task_unlock();
}

typedef enum Turn
{
	TURN_RAN,
	TURN_NOTHING,
	TURN_OTHERS,				/* another runs alone */
	TURN_FAILED,
	TURN_GONE					/* there is nothing to work for any more */
} Turn;

/* What a worker has in hand. */
typedef struct Hand
{
	MemoryContext context;		/* of the tasks; outlives their transaction */
	Oid			role;
	int32		kind_id;
	int			n;
	int			size;			/* how many of a short kind at once */
	TaskRow		tasks[TASK_GROUP_MAX];
	TimestampTz again;			/* when there may be some */
} Hand;

/*
 * What we have ended may let others start a task, if we have not taken it ourselves: with a limit
 * that few reach and many wait for, to wake one of them each time would cost more than the task.
 */
static void
tell_what_is_left(Oid role, const TaskKind *const *kinds, int n)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz again = DT_NOEND;
	int			i = 0;

	if (!ordflow_claims_owed())
		return;
	while (i < n && runnable(kinds[i], now, &again) <= 0)
		i++;
	if (i < n)
		tell_pool(role);
}

/* In a transaction: claims what comes next. */
static void
fill(Hand *hand)
{
	List	   *list = ordflow_kinds_with_handler(hand->role);
	const TaskKind **kinds = palloc(sizeof(TaskKind *) * Max(list_length(list), 1));
	ClaimTerms	terms = {.worker = true, .now = GetCurrentTimestamp()};
	MemoryContext before = MemoryContextSwitchTo(hand->context);
	const TaskKind *kind;
	int			nclaimed;
	int			n = 0;
	ListCell   *cell;

	foreach(cell, list)
		kinds[n++] = lfirst(cell);
	hand->again = DT_NOEND;
	nclaimed = n == 0 ? 0 : ordflow_claim_next(kinds, n, 1, &terms, hand->tasks, &hand->again);
	if (nclaimed > 0)
	{
		hand->kind_id = hand->tasks[0].kind_id;
		kind = ordflow_kind_by_id(hand->kind_id);
		if (kind->is_short && hand->size > 1 &&
			ordflow_suspect_crashes(hand->tasks[0].task_id) < 0)
			nclaimed += ordflow_claim_next(&kind, 1, hand->size - 1, &terms, hand->tasks + 1,
										   &hand->again);
		/* only the first of those may be a suspect */
		if (nclaimed > 1 && ordflow_suspect_crashes(hand->tasks[1].task_id) >= 0)
		{
			let_go(hand->tasks + 1, nclaimed - 1, DT_NOBEGIN);
			nclaimed = 1;
		}
	}
	/* an error until here is nobody's failure */
	hand->n = nclaimed;
	MemoryContextSwitchTo(before);
	tell_what_is_left(hand->role, kinds, n);
}

/* A group is to be as large as five milliseconds allow. */
static void
learn(Hand *hand, int nrun, TimestampTz since)
{
	if (GetCurrentTimestamp() - since > TASK_GROUP_MS * 1000 / 2)
		hand->size = Max(nrun * 3 / 4, 1);
	else if (nrun == hand->n)
		hand->size = Min(hand->size * 2, TASK_GROUP_MAX);
}

/* In a transaction of its own, after that of the tasks was rolled back: they failed by that. */
static void
fail_all(Hand *hand, const ErrorData *error)
{
	Attempt		failure = {
		.cause = "error", .sqlerrcode = error->sqlerrcode, .error = error->message
	};

	if (!ordflow_worker_begin())
		return;
	for (int i = 0; i < hand->n; i++)
	{
		const TaskKind *kind = ordflow_kind_by_id(hand->tasks[i].kind_id);

		if (kind != NULL && ordflow_finish_failed(kind, &hand->tasks[i], &failure, -1) == NULL)
			let_go(&hand->tasks[i], 1, DT_NOBEGIN);
	}
	ordflow_worker_commit();
}

/* Ends the transaction that has raised an error; copied into the context of the hand. */
static ErrorData *
take_error(Hand *hand)
{
	ErrorData  *error = ordflow_worker_abort(hand->context);

	ordflow_suspect_note(0, false);
	return error;
}

/* A task whose transaction cannot commit. */
static void
fail_hand(Hand *hand, const ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
	{
		let_go(hand->tasks, hand->n, DT_NOBEGIN);
		return;
	}
	PG_TRY();
	{
		fail_all(hand, error);
	}
	PG_CATCH();
	{
		const ErrorData *again = take_error(hand);

		ereport(LOG,
				errmsg("a failed task could not be written: %s", again->message),
				errdetail("It failed by: %s", error->message));
	}
	PG_END_TRY();
	let_go(hand->tasks, hand->n, GetCurrentTimestamp() + FAILED_REST);
}

/* In the transaction that is open: what was claimed runs.  False: nobody may now. */
static bool
run_hand(Hand *hand, bool alone)
{
	const TaskKind *kind = ordflow_kind_by_id(hand->kind_id);
	TimestampTz since = GetCurrentTimestamp();
	int			nrun;

	if (kind == NULL)
		elog(ERROR, "kind %d is missing", hand->kind_id);
	nrun = ordflow_run_group(kind, hand->tasks, hand->n, alone);
	ordflow_worker_commit();
	if (kind->is_short)
		learn(hand, nrun, since);
	let_go(hand->tasks + nrun, hand->n - nrun, DT_NOBEGIN);
	return nrun > 0;
}

/* One by one, after they failed together. */
static void
run_singly(Hand *hand)
{
	Hand	   *single = MemoryContextAllocZero(hand->context, sizeof(Hand));

	*single = *hand;
	for (int i = 0; i < hand->n; i++)
	{
		ErrorData  *volatile error = NULL;

		single->n = 1;
		single->tasks[0] = hand->tasks[i];
		PG_TRY();
		{
			if (ordflow_worker_begin())
				run_hand(single, false);
			else
				let_go(single->tasks, 1, DT_NOBEGIN);
		}
		PG_CATCH();
		{
			error = take_error(hand);
		}
		PG_END_TRY();
		if (error != NULL)
			fail_hand(single, error);
	}
}

/* ---- suspects ---- */

/* In a transaction: it has crashed the server often enough. */
static void
bury(Hand *hand, const TaskKind *kind, int crashes)
{
	TaskRow    *task = &hand->tasks[0];
	Attempt		crash = {
		.task_id = task->task_id, .cause = "crash", .sqlerrcode = ERRCODE_INTERNAL_ERROR,
		.retry_at = DT_NOBEGIN
	};
	RoleSwitch	saved;

	crash.error = psprintf("the server crashed %d times while the task ran alone", crashes);
	if (ordflow_finish_begin(task) && ordflow_finish_for(kind, task, 'd'))
	{
		saved = ordflow_task_connect();
		ordflow_attempt_write(&crash, GetCurrentTimestamp());
		ordflow_task_disconnect(saved);
	}
	ordflow_worker_commit();
	let_go(hand->tasks, 1, DT_NOBEGIN);
	ordflow_suspect_cleared(task->task_id);
}

static Turn
run_suspect(Hand *hand, int crashes)
{
	const TaskKind *kind = ordflow_kind_by_id(hand->kind_id);
	AloneResult alone;

	if (crashes >= kind->max_crashes)
	{
		bury(hand, kind, crashes);
		return TURN_RAN;
	}
	/* nobody is to wait for our snapshot meanwhile */
	ordflow_worker_commit();
	alone = ordflow_suspect_alone_begin();
	if (alone != ALONE_GRANTED)
	{
		let_go(hand->tasks, 1,
			   alone == ALONE_REFUSED ? GetCurrentTimestamp() + PUT_OFF : DT_NOBEGIN);
		return alone == ALONE_REFUSED ? TURN_RAN : TURN_OTHERS;
	}
	if (!ordflow_worker_begin())
		let_go(hand->tasks, 1, DT_NOBEGIN);
	else if (run_hand(hand, true))
		ordflow_suspect_cleared(hand->tasks[0].task_id);
	ordflow_suspect_alone_end();
	return TURN_RAN;
}

/* ---- the loop ---- */

static Turn
take_turn(Hand *hand)
{
	int			crashes;

	if (ordflow_suspect_others_wait())
		return TURN_OTHERS;
	if (!ordflow_worker_begin())
		return TURN_GONE;
	fill(hand);
	if (hand->n == 0)
	{
		ordflow_worker_commit();
		return TURN_NOTHING;
	}
	crashes = ordflow_suspect_crashes(hand->tasks[0].task_id);
	if (crashes >= 0)
		return run_suspect(hand, crashes);
	return run_hand(hand, false) ? TURN_RAN : TURN_OTHERS;
}

static Turn
take_turn_safely(Hand *hand)
{
	ErrorData  *volatile error = NULL;
	volatile Turn turn = TURN_RAN;

	hand->n = 0;
	MemoryContextReset(hand->context);
	PG_TRY();
	{
		turn = take_turn(hand);
	}
	PG_CATCH();
	{
		error = take_error(hand);
		ordflow_suspect_alone_end();
	}
	PG_END_TRY();
	if (error == NULL)
		return turn;
	if (hand->n > 1 && error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		run_singly(hand);
	else if (hand->n > 0)
		fail_hand(hand, error);
	else
	{
		ereport(LOG,
				errcode(error->sqlerrcode),
				errmsg("a worker could not look for tasks: %s", error->message));
		turn = TURN_FAILED;
	}
	/* claims whose look was cut off, too */
	ordflow_session_give_back_all();
	return turn;
}

/* When one that finds nothing to do goes; what comes to it meanwhile pool_gone() sees to. */
static TimestampTz
leave_at(TimestampTz idle_since)
{
	if (ordflow_companions_count(COMPANION_POOL, InvalidOid) <= ordflow_task_workers_min)
		return DT_NOEND;
	return idle_since + (int64) ordflow_task_worker_idle * 1000;
}

static void
read_settings(void)
{
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

/* Our entry as one who waits stands since before the last look.  False: it is time to go. */
static bool
rest(const Hand *hand, TimestampTz idle_since)
{
	TimestampTz until = leave_at(idle_since);
	bool		stay;

	ordflow_companion_idle(true);
	stay = ordflow_wait_sleep(Min(hand->again, until)) || GetCurrentTimestamp() < until;
	ordflow_companion_idle(false);
	return stay;
}

static void
wait_a_moment(long ms)
{
	WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Who finds nothing says that he waits, and looks once more, as a task may have come in between;
 * only then he sleeps.
 */
static void
work(Hand *hand)
{
	TimestampTz idle_since = GetCurrentTimestamp();
	bool		waits = false;

	for (;;)
	{
		Turn		turn;

		read_settings();
		if (ordflow_worker_leaving())
			return;
		turn = take_turn_safely(hand);
		if (turn == TURN_GONE)
			return;
		if (turn != TURN_NOTHING)
		{
			ordflow_wait_end(true);
			waits = false;
			idle_since = GetCurrentTimestamp();
			if (turn == TURN_OTHERS)
				wait_a_moment(OTHERS_REST_MS);
			if (turn == TURN_FAILED)
				wait_a_moment(FAILED_REST / 1000);
			continue;
		}
		if (waits && !rest(hand, idle_since))
			return;
		waits = !waits;
		if (waits)
			ordflow_wait_begin(WAIT_POOL, hand->role);
		else
			ordflow_wait_end(true);
	}
}

static void
pool_main(const char *name)
{
	Hand	   *hand = MemoryContextAllocZero(TopMemoryContext, sizeof(Hand));

	/* its transactions are others' code, and wait for locks as theirs do */
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("deadlock_timeout", "1s", PGC_SUSET, PGC_S_OVERRIDE);
	hand->context = AllocSetContextCreate(TopMemoryContext, "ordflow tasks in hand",
										  ALLOCSET_DEFAULT_SIZES);
	hand->role = GetUserId();
	hand->size = 1;
	work(hand);
	ordflow_wait_end(false);
	ordflow_session_give_back_all();
	if (ordflow_claims_owed())
		tell_pool(hand->role);
	ordflow_companion_done();
}

/* What came since our last look, when the pool was still as large as it may be. */
static void
pool_gone(void)
{
	TaskQueue  *queue;

	ordflow_task_lock();
	queue = ordflow_queue_find();
	if (queue != NULL)
		queue->pool_at = TASK_AT_ONCE;
	ordflow_task_unlock();
	if (has_ready() ||
		ordflow_companions_count(COMPANION_POOL, InvalidOid) < ordflow_task_workers_min)
		ordflow_worker_note(DUTY_TASK, TASK_AT_ONCE);
}

void
ordflow_pool_init(void)
{
	static const CompanionKind kind = {
		.title = "pool",
		.duty = DUTY_TASK,
		.main = pool_main,
		.gone = pool_gone,
	};

	ordflow_companion_register(COMPANION_POOL, &kind);
}

/*
 * fire.c
 *	  Fires the timeouts that are due in a table, state by state.
 *
 * All of them are locked and fired in one subtransaction.  A row that is locked in one
 * subtransaction and updated in another costs a multixact of its own; so only when that
 * fails they are locked first, and then fired in halves, each in a subtransaction, down to
 * the object that is at fault.  It is parked and holds up no other.
 *
 * Nor may code of users that takes long, or never ends, stop everything in the database: the
 * coordinator gives each step so many seconds.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timeout.h"

#include "order/order.h"
#include "stock/stock.h"
#include "timer/internal.h"

/* how long the coordinator waits for a lock; for each once something has failed, and in all */
#define LOCK_TIMEOUT			"100ms"
#define HURRIED_LOCK_TIMEOUT	"10ms"
#define HURRIED_TIME			(200 * INT64CONST(1000))

/* How many seconds a step of the coordinator may take; and once something has failed. */
#define STEP_SECONDS			5
#define HURRIED_STEP_SECONDS	1

/* Objects of one state, and how they leave it. */
typedef struct DueGroup
{
	DueRun	   *run;
	const Transition *timeout;	/* NULL: they are holds */
	bool		branches;		/* guards choose where each object goes */
	DueObject  *objects;
	int			n;
} DueGroup;

/* The time of a step is up: the handler runs in a signal. */
static volatile sig_atomic_t step_is_over = false;

bool
ordflow_due_is_busy(int sqlerrcode)
{
	return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		(ordflow_in_coordinator && (sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE ||
						sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED));
}

/* ---- attempts ---- */

static void
step_over(void)
{
	step_is_over = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

static TimeoutId
step_timeout(void)
{
	static TimeoutId id = MAX_TIMEOUTS;

	if (id == MAX_TIMEOUTS)
		id = RegisterTimeout(USER_TIMEOUT, step_over);
	return id;
}

/* seconds: 0 for no limit */
static void
limit_begin(int seconds)
{
	if (seconds == 0)
		return;
	step_is_over = false;
	enable_timeout_after(step_timeout(), seconds * 1000);
}

/* A cancellation that came too late to cancel the step must cancel nothing else. */
static void
limit_end(int seconds)
{
	if (seconds == 0)
		return;
	disable_timeout(step_timeout(), false);
	if (step_is_over)
		QueryCancelPending = false;
}

/* In a subtransaction; NULL, or the error it failed with, whosever that is. */
static ErrorData *
try(void (*attempt) (void *arg), void *arg, int seconds)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		limit_begin(seconds);
		attempt(arg);
		limit_end(seconds);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		limit_end(seconds);
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

static ErrorData *
raise_the_callers(ErrorData *error)
{
	if (error != NULL && ordflow_error_is_callers(error->sqlerrcode) &&
		!ordflow_due_is_busy(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

ErrorData *
ordflow_due_attempt(void (*attempt) (void *arg), void *arg)
{
	return raise_the_callers(try(attempt, arg, 0));
}

/*
 * In the coordinator nobody is there to repeat a step, so whatever it raises is its own failure,
 * and so is that it takes too long.
 */
static ErrorData *
attempt_step(void (*attempt) (void *arg), void *arg, int seconds)
{
	ErrorData  *error;

	if (!ordflow_in_coordinator)
		return ordflow_due_attempt(attempt, arg);
	error = try(attempt, arg, seconds);
	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED && step_is_over)
		error->message = psprintf("the step takes longer than %d s", seconds);
	return error;
}

/* ---- a group ---- */

/* One step, as the owner of the table, whose triggers and policies it may run. */
static void
apply_step(const DueGroup *group, const DueObject *objects, int n)
{
	const DueTable *table = group->run->table;
	MachineStep step = {0};
	RoleSwitch	saved;

	step.target = table->target;
	step.event = group->timeout->event;
	step.from_state = group->timeout->from_state;
	step.to_state = group->branches ? NULL : group->timeout->to_state;
	step.reason = "timeout";
	step.now = group->run->now;
	step.nkeys = n;
	step.keys = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
		step.keys[i] = objects[i].key;

	saved = ordflow_role_enter(table->owner, !table->ours);
	ordflow_machine_apply(&step);
	ordflow_role_leave(saved);
}

static void
expire_holds(const DueGroup *group)
{
	const char **references = palloc(sizeof(char *) * group->n);

	for (int i = 0; i < group->n; i++)
		references[i] = ordflow_machine_key_text(group->run->table->target, group->objects[i].key);
	ordflow_stock_expire_holds(references, group->n, group->run->now);
}

/* All of the group or nothing. */
static void
fire_group(void *arg)
{
	DueGroup   *group = arg;
	int			step = group->branches ? 1 : group->n;

	if (group->timeout == NULL)
		expire_holds(group);
	for (int i = 0; group->timeout != NULL && i < group->n; i += step)
		apply_step(group, &group->objects[i], step);
	for (int i = 0; i < group->n; i++)
		group->objects[i].fired = true;
}

static bool
has_given_up(DueRun *run)
{
	if (ordflow_in_coordinator && run->settled && GetCurrentTimestamp() >= run->give_up_at)
		run->gave_up = true;
	return run->gave_up;
}

static void
settle_alone(DueGroup *group, const ErrorData *error)
{
	DueRun	   *run = group->run;

	run->settled = true;
	if (ordflow_due_is_busy(error->sqlerrcode))
		return;
	ordflow_parked_add(run, group->objects, 1,
					   group->timeout != NULL ? group->timeout->event : NO_EVENT,
					   error->sqlerrcode, error->message);
	run->nparked++;
}

static void
fire_in_halves(DueGroup *group)
{
	DueGroup	half = *group;
	ErrorData  *error;

	CHECK_FOR_INTERRUPTS();
	check_stack_depth();
	if (has_given_up(group->run))
		return;
	error = attempt_step(fire_group, group, HURRIED_STEP_SECONDS);
	if (error == NULL)
		return;
	if (group->n == 1)
	{
		settle_alone(group, error);
		return;
	}
	FreeErrorData(error);
	half.n = group->n / 2;
	fire_in_halves(&half);
	half.objects = group->objects + half.n;
	half.n = group->n - half.n;
	fire_in_halves(&half);
}

/* ---- all groups ---- */

static int
compare_states(const void *a, const void *b)
{
	const char *x = ((const DueObject *) a)->state;
	const char *y = ((const DueObject *) b)->state;

	if (x == NULL || y == NULL)
		return (x != NULL) - (y != NULL);
	return strcmp(x, y);
}

/* False where the state has no timeout: then they are parked. */
static bool
group_init(DueGroup *group)
{
	const char *machine = group->run->table->target->machine;
	const char *state = group->objects[0].state;

	if (machine == NULL)
		return true;
	if (state != NULL && ordflow_machine_exists(machine))
		group->timeout = ordflow_machine_timeout(machine, state);
	if (group->timeout == NULL)
	{
		ordflow_parked_add(group->run, group->objects, group->n, NO_EVENT,
						   ERRCODE_ORDFLOW_ILLEGAL_TRANSITION,
						   psprintf("state \"%s\" of machine \"%s\" has no timeout",
									state != NULL ? state : "", machine));
		group->run->nparked += group->n;
		return false;
	}
	group->branches = ordflow_machine_branches(machine, state, group->timeout->event);
	return true;
}

static void
fire_objects(DueRun *run, bool in_halves)
{
	int			last;

	qsort(run->objects, run->nobjects, sizeof(DueObject), compare_states);
	for (int first = 0; first < run->nobjects; first = last)
	{
		DueGroup	group = {.run = run, .objects = &run->objects[first]};

		for (last = first + 1; last < run->nobjects; last++)
			if (compare_states(&run->objects[first], &run->objects[last]) != 0)
				break;
		group.n = last - first;
		if (!group_init(&group))
			continue;
		if (in_halves)
			fire_in_halves(&group);
		else
			fire_group(&group);
	}
}

static void
lock_objects(void *arg)
{
	DueRun	   *run = arg;

	run->nparked = 0;
	run->nobjects = ordflow_due_lock(run->table, &run->search, &run->objects);
	run->last_due = DT_NOBEGIN;
	for (int i = 0; i < run->nobjects; i++)
		run->last_due = Max(run->last_due, run->objects[i].due);

	/* as_of may be ahead of the clock, the time of an event never is behind it */
	run->now = Max(run->search.until, GetCurrentTimestamp());
}

static void
lock_and_fire(void *arg)
{
	lock_objects(arg);
	fire_objects(arg, false);
}

/* In the coordinator, to the end of the transaction. */
static void
limit_waiting(const DueRun *run, const char *lock_timeout)
{
	if (ordflow_in_coordinator)
		set_config_option("lock_timeout", lock_timeout, PGC_USERSET, PGC_S_SESSION,
						  GUC_ACTION_LOCAL, true, 0, false);
}

ErrorData *
ordflow_due_fire(DueRun *run)
{
	int			seconds = run->search.limit > 1 ? STEP_SECONDS : HURRIED_STEP_SECONDS;
	ErrorData  *error;

	limit_waiting(run, LOCK_TIMEOUT);
	error = attempt_step(lock_and_fire, run, seconds);
	if (error != NULL)
	{
		limit_waiting(run, HURRIED_LOCK_TIMEOUT);
		run->give_up_at = GetCurrentTimestamp() + HURRIED_TIME;
		error = attempt_step(lock_objects, run, HURRIED_STEP_SECONDS);
		if (error != NULL)
			return error;
		fire_objects(run, true);
	}
	for (int i = 0; i < run->nobjects; i++)
		run->nfired += run->objects[i].fired;
	return NULL;
}

/*
 * session.c
 *	  What a session holds: its claims, until it ends or says DISCARD ALL.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/snapmgr.h"

#include "task/internal.h"

PG_FUNCTION_INFO_V1(ordflow_wait_for_tasks);

#define AT_ONCE 100				/* given back under the lock */
#define LOAD_ROWS 20000
#define WAIT_FOR_TASKS_MAX USECS_PER_DAY

/* A list by next and previous, which is changed by this process alone, under the lock. */
static SlotNo held = 0;
static int	nheld = 0;

static ProcessUtility_hook_type previous_utility = NULL;

void
ordflow_session_link(SlotNo no)
{
	TaskSlot   *slot = &ordflow_task_slots[no];

	slot->previous = 0;
	slot->next = held;
	if (held != 0)
		ordflow_task_slots[held].previous = no;
	held = no;
	nheld++;
}

void
ordflow_session_unlink(SlotNo no)
{
	TaskSlot   *slot = &ordflow_task_slots[no];

	Assert(slot->holder == ordflow_proc_number);
	if (slot->previous != 0)
		ordflow_task_slots[slot->previous].next = slot->next;
	else
		held = slot->next;
	if (slot->next != 0)
		ordflow_task_slots[slot->next].previous = slot->previous;
	nheld--;
}

SlotNo
ordflow_session_claims(void)
{
	return held;
}

int
ordflow_session_nclaims(void)
{
	return nheld;
}

void
ordflow_session_require_room(int n)
{
	if (nheld + n <= TASK_CLAIMS_MAX)
		return;
	ereport(ERROR,
			errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			errmsg("a session may hold at most %d tasks", TASK_CLAIMS_MAX),
			errdetail("This one holds %d.", nheld));
}

void
ordflow_session_give_back_all(void)
{
	while (held != 0)
	{
		ordflow_task_lock();
		for (int i = 0; i < AT_ONCE && held != 0; i++)
		{
			/* no transaction is left that could end it */
			ordflow_task_slots[held].flags &= ~CLAIM_FINISHING;
			ordflow_claim_give_back(held, DT_NOBEGIN);
		}
		ordflow_task_unlock();
	}
}

/* What a pooler sends before it gives the session to another. */
static void
run_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
			DestReceiver *dest, QueryCompletion *completion)
{
	bool		discards = IsA(pstmt->utilityStmt, DiscardStmt) &&
		castNode(DiscardStmt, pstmt->utilityStmt)->target == DISCARD_ALL;

	if (previous_utility)
		previous_utility(pstmt, query, read_only_tree, context, params, environment, dest,
						 completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, environment, dest,
								completion);
	if (!discards)
		return;
	ordflow_session_give_back_all();
	ordflow_locks_release_all();
}

void
ordflow_session_init(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = run_utility;
}

/* ---- waiting without a snapshot ---- */

typedef enum Look
{
	LOOK_NONE,
	LOOK_READY,
	LOOK_UNREAD
} Look;

/* Is a task of the kind to be had, as far as memory tells?  *again: not before. */
static Look
look(const TaskKind *kind, TimestampTz *again)
{
	TaskQueue  *queue = ordflow_queue();
	TimestampTz now = GetCurrentTimestamp();
	Look		result = LOOK_NONE;
	const Lane *lane;

	ordflow_task_lock();
	ordflow_leases_expire(queue, now);
	*again = ordflow_earlier(ordflow_later_promote(queue, now), queue->lease_end);
	lane = kind->paused ? NULL : ordflow_lane_find(kind->kind_id);
	if (lane != NULL && (lane->ready > 0 || lane->keys_ready >= 0) &&
		ordflow_lane_permits(lane, kind, now, again))
		result = LOOK_READY;
	for (int part = 0; part < TASK_PARTS && result == LOOK_NONE; part++)
		if (queue->unread[part] < queue->unread_end[part])
			result = LOOK_UNREAD;
	ordflow_task_unlock();
	return result;
}

/* Each turn is a transaction of its own, so none is old while we sleep. */
static void
wait_until_ready(int32 kind_id, TimestampTz until)
{
	for (;;)
	{
		const TaskKind *kind;
		TimestampTz again;
		Look		found;
		bool		loaded = false;

		CHECK_FOR_INTERRUPTS();
		ordflow_wait_begin(WAIT_KIND, kind_id);
		/* this transaction began before the sleep */
		AcceptInvalidationMessages();
		PushActiveSnapshot(GetTransactionSnapshot());
		kind = ordflow_kind_by_id(kind_id);
		found = kind == NULL ? LOOK_NONE : look(kind, &again);
		if (found == LOOK_UNREAD)
			loaded = ordflow_load_step(LOAD_ROWS);
		PopActiveSnapshot();
		if (kind == NULL || found == LOOK_READY)
			break;
		/* a resume is told a moment before it can be seen */
		if (kind->paused)
			again = Min(again, GetCurrentTimestamp() + LOOK_AGAIN);
		SPI_commit();
		if (loaded)
			continue;
		if (!ordflow_wait_sleep(Min(again, until)) && GetCurrentTimestamp() >= until)
			break;
	}
	ordflow_wait_end(true);
}

static int64
wait_time(FunctionCallInfo fcinfo)
{
	Interval   *timeout;

	ordflow_require_not_null(fcinfo, 1, "timeout");
	timeout = PG_GETARG_INTERVAL_P(1);
	if (timeout->month != 0 || timeout->day < 0 || timeout->day > 1 || timeout->time < 0 ||
		timeout->time > WAIT_FOR_TASKS_MAX ||
		timeout->day * USECS_PER_DAY + timeout->time > WAIT_FOR_TASKS_MAX)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("timeout must be between 0 and 1 day"));
	return timeout->day * USECS_PER_DAY + timeout->time;
}

Datum
ordflow_wait_for_tasks(PG_FUNCTION_ARGS)
{
	const CallContext *context = (CallContext *) fcinfo->context;
	TimestampTz until;
	const TaskKind *kind;
	char	   *name;

	ordflow_require_preload();
	PreventCommandDuringRecovery("ordflow.wait_for_tasks()");
	name = ordflow_arg_text(fcinfo, 0, "kind");
	until = GetCurrentTimestamp() + wait_time(fcinfo);
	if (context == NULL || !IsA(context, CallContext) || context->atomic)
		ereport(ERROR,
				errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				errmsg("wait_for_tasks() cannot run inside a transaction block"),
				errhint("CALL it by itself; claim_tasks() has a time to wait too."));
	kind = ordflow_kind_by_name(name);
	ordflow_kind_require_owner(kind);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	wait_until_ready(kind->kind_id, until);
	SPI_finish();
	PG_RETURN_VOID();
}

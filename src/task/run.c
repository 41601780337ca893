/*
 * run.c
 *	  Handlers run: each in a subtransaction, as the owner of its kind.
 *
 * A handler is code of a user: it runs in a security-restricted operation with a search_path of
 * ours, under the kind's timeout, and with a lock to the end of the transaction that a former
 * holder of the task, who has lost its claim and works on, would hold as well.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#include "task/internal.h"

#define HANDLER_SEARCH_PATH "pg_catalog, pg_temp"

/* a handler that swallows its timeout is told again so often */
#define TIMEOUT_AGAIN_MS 1000

/* The group that runs. */
typedef struct RunGroup
{
	const TaskKind *kind;
	bool		alone;
	FmgrInfo	function;
	bool		is_looked_up;
	MemoryContext context;		/* of results, to the end of the transaction */
	TimestampTz started_at;		/* of the task, or of all where the kind is short */
	TaskRow    *done;			/* succeeded, and to be written */
	Jsonb	  **results;
	int			ndone;
} RunGroup;

/* ---- the timeout ---- */

static void
arm_timeout(RunGroup *group)
{
	group->started_at = GetCurrentTimestamp();
	if (group->kind->timeout > 0)
		enable_timeout_every(STATEMENT_TIMEOUT, group->started_at + group->kind->timeout,
							 TIMEOUT_AGAIN_MS);
}

static void
disarm_timeout(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
	QueryCancelPending = false;
}

static bool
timed_out(const RunGroup *group)
{
	return group->kind->timeout > 0 &&
		GetCurrentTimestamp() >= group->started_at + group->kind->timeout;
}

/* ---- a task ---- */

static bool
is_cancelled(const TaskRow *task)
{
	bool		cancelled;

	ordflow_task_lock();
	cancelled = !ordflow_claim_is(task->slot, task->token) ||
		(ordflow_task_slots[task->slot].flags & CLAIM_CANCELLED) != 0;
	ordflow_task_unlock();
	return cancelled;
}

static void
lock_task(int64 task_id)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (task_id >> 32), (uint32) task_id,
						 TASK_LOCK_TASK);
	LockAcquire(&tag, ExclusiveLock, false, false);
}

/* The function may have been dropped, replaced or closed to its kind's owner since. */
static void
look_up_handler(RunGroup *group)
{
	const TaskKind *kind = group->kind;
	AclResult	allowed;

	if (group->is_looked_up)
		return;
	if (!OidIsValid(kind->function))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("handler %s does not exist, or is not owned by the kind's owner",
					   kind->handler));
	allowed = object_aclcheck(ProcedureRelationId, kind->function, kind->owner, ACL_EXECUTE);
	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_FUNCTION, kind->handler);
	fmgr_info_cxt(kind->function, &group->function, group->context);
	group->is_looked_up = true;
}

static void
require_result_fits(const Jsonb *result)
{
	if (VARSIZE(result) > TASK_PAYLOAD_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("the result of the handler is too large"),
				errdetail("It takes %u bytes as jsonb; at most %d are allowed.", VARSIZE(result),
						  TASK_PAYLOAD_MAX));
}

/* As the kind's owner; the result in the group's context, NULL where the handler returned that. */
static Jsonb *
call_handler(RunGroup *group, const TaskRow *task)
{
	LOCAL_FCINFO(fcinfo, 1);
	Jsonb	   *result = NULL;
	RoleSwitch	saved;
	Datum		value;

	look_up_handler(group);
	saved = ordflow_role_enter(group->kind->owner, true);
	set_config_option("search_path", HANDLER_SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
					  GUC_ACTION_SAVE, true, 0, false);
	InitFunctionCallInfoData(*fcinfo, &group->function, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(task->payload);
	fcinfo->args[0].isnull = false;
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	value = FunctionCallInvoke(fcinfo);
	if (!fcinfo->isnull)
	{
		MemoryContext before = MemoryContextSwitchTo(group->context);

		result = DatumGetJsonbPCopy(value);
		MemoryContextSwitchTo(before);
		require_result_fits(result);
	}
	PopActiveSnapshot();
	ordflow_role_leave(saved);
	return result;
}

/* In the subtransaction.  False: it has been cancelled, so nothing of it is to stay. */
static bool
run_task(RunGroup *group, const TaskRow *task)
{
	Jsonb	   *result;

	lock_task(task->task_id);
	ordflow_current_task_set(task);
	result = call_handler(group, task);
	ordflow_current_task_set(NULL);
	if (ordflow_finish_begin(task))
	{
		group->done[group->ndone] = *task;
		group->results[group->ndone++] = result;
		return true;
	}
	/* one that has cancelled its own task: what it did stays, and that stays with it */
	return ordflow_finish_contested(group->kind, task, result, group->started_at) ||
		ordflow_finish_cancelled(task, true);
}

static void
end_claim(const TaskRow *task, bool give_back)
{
	ordflow_task_lock();
	if (ordflow_claim_is(task->slot, task->token))
	{
		if (give_back)
			ordflow_claim_give_back(task->slot, DT_NOBEGIN);
		else
			ordflow_claim_end(task->slot);
	}
	ordflow_task_unlock();
}

/* What was done has been rolled back. */
static void
settle_error(const RunGroup *group, const TaskRow *task, const ErrorData *error)
{
	Attempt		failure = {
		.cause = "error", .sqlerrcode = error->sqlerrcode, .error = error->message
	};

	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
	{
		if (is_cancelled(task))
		{
			end_claim(task, false);
			return;
		}
		/* not of this task: it was meant for the one before */
		if (!timed_out(group))
		{
			end_claim(task, true);
			return;
		}
		failure.error = psprintf("the handler ran longer than its timeout of " INT64_FORMAT " ms",
								 group->kind->timeout / 1000);
	}
	if (ordflow_finish_failed(group->kind, task, &failure, -1) == NULL)
		end_claim(task, false);
}

static void
run_in_subtransaction(RunGroup *group, const TaskRow *task)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int			ndone = group->ndone;
	ErrorData  *volatile error = NULL;
	volatile bool ended = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		ended = run_task(group, task);
		if (ended)
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		ended = false;
	}
	PG_END_TRY();
	if (!ended)
	{
		RollbackAndReleaseCurrentSubTransaction();
		ordflow_current_task_set(NULL);
		group->ndone = ndone;
		group->is_looked_up = false;
	}
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL)
		settle_error(group, task, error);
	else if (!ended && !ordflow_finish_cancelled(task, false))
		end_claim(task, false);
}

/* False: another wants to run alone. */
static bool
run_one(RunGroup *group, const TaskRow *task)
{
	if (!ordflow_suspect_note(task->task_id, group->alone))
		return false;
	QueryCancelPending = false;
	if (is_cancelled(task))
		end_claim(task, false);
	/* by one that ran before it in this transaction */
	else if (!ordflow_finish_cancelled(task, false))
	{
		if (!group->kind->is_short)
			arm_timeout(group);
		run_in_subtransaction(group, task);
		if (!group->kind->is_short)
			disarm_timeout();
	}
	ordflow_suspect_note(0, false);
	/* what it took for its session is not the next one's */
	ordflow_locks_release_all();
	return true;
}

int
ordflow_run_group(const TaskKind *kind, const TaskRow *tasks, int n, bool alone)
{
	RunGroup		group = {
		.kind = kind,
		.alone = alone,
		.context = CurrentMemoryContext,
		.done = palloc(sizeof(TaskRow) * n),
		.results = palloc(sizeof(Jsonb *) * n)
	};
	TimestampTz until;
	int			i = 0;

	pgstat_report_activity(STATE_RUNNING, kind->kind);
	if (kind->is_short)
		arm_timeout(&group);
	until = GetCurrentTimestamp() + TASK_GROUP_MS * 1000;
	do
	{
		if (!run_one(&group, &tasks[i]))
			break;
		i++;
	} while (i < n && GetCurrentTimestamp() < until);
	if (kind->is_short)
		disarm_timeout();
	if (group.ndone > 0)
		ordflow_finish_write(kind, group.done, group.results, group.ndone, group.started_at);
	return i;
}

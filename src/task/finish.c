/*
 * finish.c
 *	  Tasks end, fail, or are given back by whoever holds them.
 *
 * A holder's token is compared under the lock with what memory holds; the outcome, the unique
 * key and what the batch is to know are rows and notes of his transaction.  Where somebody is
 * cancelling the task the unique index of the outcomes decides who ends it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "task/claim.h"

PG_FUNCTION_INFO_V1(ordflow_complete_task);
PG_FUNCTION_INFO_V1(ordflow_fail_task);
PG_FUNCTION_INFO_V1(ordflow_extend_task);
PG_FUNCTION_INFO_V1(ordflow_release_task);

/* No token is older: 2020-01-01, in microseconds since 2000. */
#define TOKEN_MIN ((int64) 7305 * USECS_PER_DAY)

/* ---- the transaction's part ---- */

static void
note_delta(const BatchDelta *delta)
{
	TaskAction	action = {.kind = ACTION_BATCH, .delta = *delta};

	if (delta->batch_id == 0)
		return;
	ordflow_journal_room(1);
	ordflow_journal_add(&action);
}

/* One that had failed before counts among the open ones that did. */
static BatchDelta
delta_of(const TaskRow *task)
{
	return (BatchDelta) {.batch_id = task->batch_id, .failed = task->failures > 0 ? -1 : 0};
}

static void
release_unique(const TaskRow *task)
{
	if (task->unique_key != NULL)
		ordflow_unique_release(task->kind_id, task->unique_key);
}

/* Marks the claim, which is to end, or to be given back, with this subtransaction. */
static bool
mark(const TaskRow *task, ActionKind what, TimestampTz at, uint8 against)
{
	TaskAction	action = {.kind = what, .slot = task->slot, .token = task->token};
	bool		marked;

	action.run.run_at = at;
	ordflow_journal_room(1);
	ordflow_task_lock();
	marked = ordflow_claim_is(task->slot, task->token) &&
		(ordflow_task_slots[task->slot].flags & against) == 0;
	if (marked)
	{
		ordflow_task_slots[task->slot].flags |= CLAIM_FINISHING;
		ordflow_journal_add(&action);
	}
	ordflow_task_unlock();
	return marked;
}

bool
ordflow_finish_begin(const TaskRow *task)
{
	return mark(task, ACTION_FINISH, DT_NOBEGIN,
				CLAIM_FINISHING | CLAIM_CANCELLING | CLAIM_CANCELLED);
}

void
ordflow_finish_write(const TaskKind *kind, const TaskRow *tasks, Jsonb **results, int n,
					 TimestampTz started_at)
{
	Outcome    *outcomes = palloc(sizeof(Outcome) * Max(n, 1));
	TimestampTz now = GetCurrentTimestamp();
	BatchDelta	delta = {0};
	RoleSwitch	saved;

	for (int i = 0; i < n; i++)
		outcomes[i] = (Outcome) {
			.task_id = tasks[i].task_id,
			.part = tasks[i].part,
			.state = 's',
			.attempts = tasks[i].attempts + 1,
			.started_at = started_at,
			.finished_at = now,
			.result = results[i]
		};
	saved = ordflow_task_connect();
	ordflow_outcomes_write(outcomes, n);
	for (int i = 0; i < n; i++)
		release_unique(&tasks[i]);
	ordflow_task_disconnect(saved);
	for (int i = 0; i < n; i++)
	{
		BatchDelta	one = delta_of(&tasks[i]);

		if (one.batch_id != delta.batch_id)
		{
			note_delta(&delta);
			delta = (BatchDelta) {.batch_id = one.batch_id};
		}
		delta.succeeded++;
		delta.failed += one.failed;
	}
	note_delta(&delta);
	pfree(outcomes);
}

/* Against whoever is cancelling the task: false, he has ended it. */
static bool
contest(const TaskRow *task, const Outcome *outcome)
{
	RoleSwitch	saved = ordflow_task_connect();
	bool		ended = ordflow_outcome_try(outcome);

	if (ended)
		release_unique(task);
	ordflow_task_disconnect(saved);
	return ended;
}

bool
ordflow_finish_contested(const TaskKind *kind, const TaskRow *task, Jsonb *result,
						 TimestampTz started_at)
{
	Outcome		outcome = {
		.task_id = task->task_id, .part = task->part, .state = 's',
		.attempts = task->attempts + 1, .started_at = started_at,
		.finished_at = GetCurrentTimestamp(), .result = result
	};
	BatchDelta	delta = delta_of(task);

	/* a claim that has ended meanwhile is stale; of one that is marked the lease does not end */
	if (!mark(task, ACTION_FINISH, DT_NOBEGIN, 0) || !contest(task, &outcome))
		return false;
	delta.succeeded = 1;
	note_delta(&delta);
	return true;
}

bool
ordflow_finish_cancelled(const TaskRow *task, bool here)
{
	const TaskAction *actions;
	int			n = ordflow_journal_look(&actions);
	int			level = GetCurrentTransactionNestLevel();

	for (int i = n - 1; i >= 0; i--)
		if (actions[i].kind == ACTION_CANCEL && actions[i].slot == task->slot &&
			actions[i].token == task->token)
			return (!here || actions[i].level >= level) &&
				mark(task, ACTION_FINISH, DT_NOBEGIN, 0);
	return false;
}

bool
ordflow_finish_for(const TaskKind *kind, const TaskRow *task, char state)
{
	Outcome		outcome = {
		.task_id = task->task_id, .part = task->part, .state = state,
		.attempts = task->attempts, .finished_at = GetCurrentTimestamp()
	};
	BatchDelta	delta = delta_of(task);

	if (!contest(task, &outcome))
		return false;
	delta.dead = state == 'd';
	delta.cancelled = state == 'c';
	note_delta(&delta);
	return true;
}

/* ---- failures ---- */

static void
write_attempt(const TaskRow *task, const Attempt *failure, TimestampTz retry_at)
{
	Attempt		attempt = *failure;
	RoleSwitch	saved = ordflow_task_connect();

	attempt.task_id = task->task_id;
	attempt.retry_at = retry_at;
	ordflow_attempt_write(&attempt, GetCurrentTimestamp());
	ordflow_task_disconnect(saved);
}

/* False: it was cancelled. */
static bool
bury(const TaskRow *task, const Attempt *failure)
{
	Outcome		outcome = {
		.task_id = task->task_id, .part = task->part, .state = 'd',
		.attempts = task->attempts + 1, .started_at = ordflow_task_slots[task->slot].at,
		.finished_at = GetCurrentTimestamp()
	};
	BatchDelta	delta = delta_of(task);

	if (!mark(task, ACTION_FINISH, DT_NOBEGIN, 0) || !contest(task, &outcome))
		return false;
	write_attempt(task, failure, DT_NOBEGIN);
	delta.dead = 1;
	note_delta(&delta);
	return true;
}

const char *
ordflow_finish_failed(const TaskKind *kind, const TaskRow *task, const Attempt *failure,
					  int64 retry_in)
{
	TimestampTz retry_at;

	if (task->failures + 1 >= kind->max_attempts)
		return bury(task, failure) ? "dead" : NULL;
	if (retry_in < 0)
		retry_in = ordflow_kind_backoff(kind, task->failures);
	retry_at = GetCurrentTimestamp() + retry_in;
	/* one that is being cancelled meanwhile is found to be over when it comes again */
	if (!mark(task, ACTION_RETRY, retry_at, CLAIM_FINISHING | CLAIM_CANCELLED))
		return NULL;
	write_attempt(task, failure, retry_at);
	if (task->failures == 0)
	{
		BatchDelta	delta = {.batch_id = task->batch_id, .failed = 1};

		note_delta(&delta);
	}
	return "retried";
}

/* ---- by token ---- */

typedef enum Validity
{
	TOKEN_LIVE,					/* of this task */
	TOKEN_STALE,				/* its claim has ended, as far as memory knows */
	TOKEN_NONE,					/* nobody holds the task */
	TOKEN_OTHERS,				/* live, but another session's */
	TOKEN_WRONG					/* was never given for this task */
} Validity;

/* As memory holds it. */
typedef struct Held
{
	Validity	validity;
	SlotNo		slot;
	int			part;
	TimestampTz since;
	bool		lease;
	bool		finishing;
} Held;

static int64
last_token(void)
{
	const int64 *kept = ordflow_suspects_token();

	if (ordflow_task_shared->token != 0)
		return ordflow_task_shared->token;
	return kept == NULL ? GetCurrentTimestamp() : *kept;
}

/* Is it the token of some other task's claim? */
static bool
is_of_another(int64 token, SlotNo but)
{
	for (SlotNo no = 1; no <= ordflow_task_shared->used; no++)
		if (no != but && ordflow_claim_is(no, token))
			return true;
	return false;
}

/* The lock is held. */
static void
judge(int64 token, SlotNo no, Held *held)
{
	const TaskSlot *slot = &ordflow_task_slots[no];

	if (token < TOKEN_MIN || token > last_token() ||
		(no != 0 && token > slot->token) ||
		((no == 0 || slot->token != token) && is_of_another(token, no)))
		held->validity = TOKEN_WRONG;
	else if (no == 0)
		held->validity = TOKEN_NONE;
	else if (slot->token != token)
		held->validity = TOKEN_STALE;
	else if (slot->holder >= 0 && slot->holder != ordflow_proc_number)
		held->validity = TOKEN_OTHERS;
	else if ((slot->flags & CLAIM_CANCELLED) != 0)
	{
		held->validity = TOKEN_STALE;
		ordflow_claim_end(no);
	}
}

static Held
look_up_token(int64 task_id, int64 token)
{
	Held		held = {.validity = TOKEN_LIVE};
	TaskQueue  *queue = ordflow_queue();

	ordflow_task_lock();
	ordflow_leases_expire(queue, GetCurrentTimestamp());
	held.slot = ordflow_claim_find(task_id);
	judge(token, held.slot, &held);
	if (held.validity == TOKEN_LIVE)
	{
		const TaskSlot *slot = &ordflow_task_slots[held.slot];

		held.part = slot->part;
		held.since = slot->at;
		held.lease = (slot->flags & CLAIM_LEASE) != 0;
		held.finishing = (slot->flags & CLAIM_FINISHING) != 0;
	}
	ordflow_task_unlock();
	return held;
}

static void
refuse_token(int64 task_id, Validity validity)
{
	if (validity == TOKEN_OTHERS)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NOT_HOLDER),
				errmsg("task " INT64_FORMAT " is held by another session", task_id),
				errdetail("A claim without lease belongs to the session that made it."),
				errhint("Behind a pooler that changes sessions, claim with a lease."));
	if (validity == TOKEN_WRONG)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("this token was never given for task " INT64_FORMAT, task_id),
				errhint("Pass the task_id and token of one row of claim_tasks()."));
}

/* Has this transaction ended the claim already, or is it about to be given back? */
static bool
is_finished_by_us(SlotNo slot, int64 token)
{
	const TaskAction *actions;
	int			n = ordflow_journal_look(&actions);

	for (int i = n - 1; i >= 0; i--)
		if ((actions[i].kind == ACTION_FINISH || actions[i].kind == ACTION_RETRY) &&
			actions[i].slot == slot && actions[i].token == token)
			return true;
	return false;
}

static bool
find_row(int64 task_id, int part, TaskRow *row)
{
	TaskRow    *rows;

	if (ordflow_rows_read(part, task_id, task_id, 1, false, &rows) == 0)
		return ordflow_row_find(task_id, false, row);
	*row = rows[0];
	return true;
}

/* What is cancelled, and that is committed, is held no more; else it may still be rolled back. */
static void
end_if_cancelled(SlotNo slot, int64 token)
{
	ordflow_task_lock();
	if (ordflow_claim_is(slot, token) &&
		(ordflow_task_slots[slot].flags & CLAIM_CANCELLED) != 0)
		ordflow_claim_end(slot);
	ordflow_task_unlock();
}

/*
 * The claim that a call names, by its first two arguments.  False: it is stale; else the row, with
 * slot and token, and what memory holds.
 */
static bool
find_claim(FunctionCallInfo fcinfo, const char *what, TaskRow *row, const TaskKind **kind,
		   Held *held)
{
	int64		task_id;
	int64		token;

	ordflow_task_begin_verb(what);
	ordflow_require_not_null(fcinfo, 0, "task_id");
	ordflow_require_not_null(fcinfo, 1, "token");
	task_id = PG_GETARG_INT64(0);
	token = PG_GETARG_INT64(1);
	*held = look_up_token(task_id, token);
	if (!find_row(task_id, held->part, row))
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("there is no task " INT64_FORMAT, task_id));
	*kind = ordflow_kind_by_id(row->kind_id);
	if (*kind == NULL)
		elog(ERROR, "kind %d is missing", row->kind_id);
	ordflow_kind_require_owner(*kind);
	refuse_token(task_id, held->validity);
	if (held->validity != TOKEN_LIVE)
		return false;
	row->slot = held->slot;
	row->token = token;
	if (is_finished_by_us(held->slot, token))
		return false;
	if (!row->over || held->finishing)
		return true;
	end_if_cancelled(held->slot, token);
	return false;
}

static Datum
answer(bool applied)
{
	return PointerGetDatum(cstring_to_text(applied ? "applied" : "stale"));
}

static Jsonb *
arg_result(FunctionCallInfo fcinfo, int argno)
{
	Jsonb	   *result;

	if (PG_ARGISNULL(argno))
		return NULL;
	result = PG_GETARG_JSONB_P(argno);
	if (VARSIZE(result) > TASK_PAYLOAD_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("result is too large"),
				errdetail("It takes %u bytes as jsonb; at most %d are allowed.", VARSIZE(result),
						  TASK_PAYLOAD_MAX));
	return result;
}

/* (task_id, token, result) */
Datum
ordflow_complete_task(PG_FUNCTION_ARGS)
{
	const TaskKind *kind;
	TaskRow		row;
	Held		held;
	Jsonb	   *result = arg_result(fcinfo, 2);
	bool		applied;

	if (!find_claim(fcinfo, "ordflow.complete_task()", &row, &kind, &held))
		return answer(false);
	if (ordflow_finish_begin(&row))
	{
		ordflow_finish_write(kind, &row, &result, 1, held.since);
		return answer(true);
	}
	applied = ordflow_finish_contested(kind, &row, result, held.since);
	if (!applied)
		end_if_cancelled(row.slot, row.token);
	return answer(applied);
}

static int64
arg_retry_in(FunctionCallInfo fcinfo, int argno)
{
	const Interval *interval;

	if (PG_ARGISNULL(argno))
		return -1;
	interval = PG_GETARG_INTERVAL_P(argno);
	if (interval->month < 0 || interval->month > 12 * 100 || interval->day < 0 ||
		interval->day > 366 * 100 || interval->time < 0 ||
		interval->time > (int64) 366 * 100 * USECS_PER_DAY)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("retry_in must be between 0 and 100 years"));
	return interval->time +
		((int64) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY;
}

/* (task_id, token, error, retry_in) */
Datum
ordflow_fail_task(PG_FUNCTION_ARGS)
{
	const TaskKind *kind;
	TaskRow		row;
	Held		held;
	Attempt		failure = {.cause = "error"};
	int64		retry_in = arg_retry_in(fcinfo, 3);
	const char *what;

	ordflow_require_not_null(fcinfo, 2, "error");
	failure.error = text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (!find_claim(fcinfo, "ordflow.fail_task()", &row, &kind, &held))
		return answer(false);
	what = ordflow_finish_failed(kind, &row, &failure, retry_in);
	if (what == NULL)
	{
		end_if_cancelled(row.slot, row.token);
		return answer(false);
	}
	PG_RETURN_TEXT_P(cstring_to_text(what));
}

/* (task_id, token) */
Datum
ordflow_release_task(PG_FUNCTION_ARGS)
{
	const TaskKind *kind;
	TaskRow		row;
	Held		held;

	if (!find_claim(fcinfo, "ordflow.release_task()", &row, &kind, &held))
		return answer(false);
	return answer(mark(&row, ACTION_RETRY, DT_NOBEGIN, CLAIM_FINISHING | CLAIM_CANCELLED));
}

static bool
extend(const TaskRow *row, TimestampTz until)
{
	TaskQueue  *queue = ordflow_queue();
	bool		live;

	ordflow_task_lock();
	live = ordflow_claim_is(row->slot, row->token) &&
		(ordflow_task_slots[row->slot].flags & CLAIM_FINISHING) == 0;
	if (live)
	{
		ordflow_task_slots[row->slot].until = until;
		queue->lease_end = Min(queue->lease_end, until);
		ordflow_task_poke(until);
	}
	ordflow_task_unlock();
	return live;
}

/* (task_id, token, lease) */
Datum
ordflow_extend_task(PG_FUNCTION_ARGS)
{
	const TaskKind *kind;
	TaskRow		row;
	Held		held;
	int64		lease;

	ordflow_require_not_null(fcinfo, 2, "lease");
	lease = ordflow_arg_lease(fcinfo, 2);
	if (!find_claim(fcinfo, "ordflow.extend_task()", &row, &kind, &held))
		return answer(false);
	if (!held.lease)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("task " INT64_FORMAT " is held without a lease", row.task_id),
				errhint("Such a claim lasts as long as its session."));
	return answer(extend(&row, GetCurrentTimestamp() + lease));
}

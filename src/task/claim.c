/*
 * claim.c
 *	  Tasks are taken: a claim first, and then a look at the rows with a new snapshot.
 *
 * What has ended, is not due, or is not what memory took it for is let go then.  Whoever ends a
 * task lets its claim go after his commit can be seen, so a look after the claim never misses an
 * outcome, whatever the isolation level.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"

#include "task/claim.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_claim_tasks);
PG_FUNCTION_INFO_V1(ordflow_claim_task);

/* rows that are read into memory while somebody waits for his first task */
#define LOAD_ROWS 20000

/* tasks of a key that are looked at, to find the first that is open */
#define KEY_TASKS 100

/* microseconds until another has probably had his look at tasks of a kind with keys */
#define LOOK_REST 100L
#define LOOK_REST_MAX 10000L

static Statement tasks_of_key = {
	.sql = "SELECT q.task_id, q.part FROM ordflow.task_queue q "
	"WHERE q.kind_id = $1 AND q.key IS NOT NULL AND hashtextextended(q.key, 0) = $2 "
	"AND q.task_id BETWEEN $3 AND $4 AND q.part = ANY ($5) AND NOT EXISTS "
	"(SELECT FROM ordflow.task_outcomes o WHERE o.task_id = q.task_id AND o.part = q.part) "
	"ORDER BY q.task_id LIMIT $6",
	.nargs = 6,
	.argtypes = {INT4OID, INT8OID, INT8OID, INT8OID, INT2ARRAYOID, INT4OID}
};

/* ---- the look ---- */

/* A claim that has just been made. */
typedef struct Fresh
{
	SlotNo		slot;
	int64		token;
	int64		task_id;
	int32		kind_id;
	int			part;
	int			priority;
} Fresh;

/* The lock is held: the transaction gives it back where it rolls back, but for a worker's. */
static void
note_claim(SlotNo no, const ClaimTerms *terms, Fresh *fresh)
{
	const TaskSlot *slot = &ordflow_task_slots[no];
	TaskAction	action = {.kind = ACTION_CLAIM, .slot = no, .token = slot->token};

	*fresh = (Fresh) {
		.slot = no,
		.token = slot->token,
		.task_id = slot->first,
		.kind_id = ordflow_task_shared->lanes[slot->lane].kind_id,
		.part = slot->part,
		.priority = slot->priority
	};
	if (!terms->worker)
		ordflow_journal_add(&action);
}

/* What the claim is to know of its task. */
static void
tell_claim(const TaskRow *row)
{
	TaskSlot   *slot = &ordflow_task_slots[row->slot];

	slot->batch_id = row->batch_id;
	slot->failures = row->failures;
	if (row->unique_key == NULL)
		return;
	slot->flags |= CLAIM_UNIQUE;
	if (strncmp(row->unique_key, SCHEDULE_KEY, strlen(SCHEDULE_KEY)) == 0)
		slot->flags |= CLAIM_SCHEDULED;
}

/* The lock is held.  True: the claim may stand; row is NULL where there is none. */
static bool
settle_claim(const Fresh *fresh, TaskRow *row, const TaskKind *kind, TimestampTz now)
{
	/* a lease of a moment may be over by now */
	if (!ordflow_claim_is(fresh->slot, fresh->token))
		return false;
	if (row == NULL || row->over || row->kind_id != fresh->kind_id ||
		row->priority != fresh->priority)
	{
		ordflow_claim_end(fresh->slot);
		return false;
	}
	if (row->run_at != DT_NOBEGIN && row->run_at > now)
	{
		ordflow_claim_give_back(fresh->slot, row->run_at);
		return false;
	}
	row->slot = fresh->slot;
	row->token = fresh->token;
	/* a claim by a key has its permit already */
	if (ordflow_task_slots[fresh->slot].key < 0 && kind->per_key > 0 && row->key != NULL &&
		!ordflow_key_enter(fresh->slot, kind, row->key))
		return false;
	tell_claim(row);
	return true;
}

/* Numbers that follow each other, from the first on. */
static int
stretch(const Fresh *fresh, int n)
{
	int			i = 1;

	while (i < n && fresh[i].task_id == fresh[i - 1].task_id + 1)
		i++;
	return i;
}

/* The rows of n claims of one partition with consecutive numbers; how many may stand. */
static int
look_at_stretch(const Fresh *fresh, int n, const TaskKind *kind, TimestampTz now,
				TaskRow *tasks)
{
	TaskRow    *rows;
	int			nrows = ordflow_rows_read(fresh[0].part, fresh[0].task_id,
										  fresh[n - 1].task_id, n, true, &rows);
	int			kept = 0;

	ordflow_task_lock();
	for (int i = 0, r = 0; i < n; i++)
	{
		TaskRow    *row = r < nrows && rows[r].task_id == fresh[i].task_id ? &rows[r++] : NULL;

		if (settle_claim(&fresh[i], row, kind, now))
			tasks[kept++] = *row;
	}
	ordflow_task_unlock();
	return kept;
}

static int
look_at_all(const Fresh *fresh, int n, const TaskKind *kind, TimestampTz now, TaskRow *tasks)
{
	int			kept = 0;

	for (int i = 0; i < n;)
	{
		int			length = stretch(&fresh[i], n - i);

		kept += look_at_stretch(&fresh[i], length, kind, now, &tasks[kept]);
		i += length;
	}
	return kept;
}

/* ---- a task of a key ---- */

static Datum
open_parts(void)
{
	Datum		parts[TASK_PARTS];
	int			n = 0;

	for (int part = 0; part < TASK_PARTS; part++)
		if (!ordflow_segment_is_retired(part))
			parts[n++] = Int16GetDatum(part);
	return PointerGetDatum(construct_array(parts, n, INT2OID, sizeof(int16), true, TYPALIGN_SHORT));
}

/* A key, and the numbers of those that wait. */
typedef struct KeyRange
{
	uint64		hash;
	int64		first;
	int64		last;
} KeyRange;

/* Those of a key that are open, by number. */
static int
read_key(const TaskKind *kind, const KeyRange *key, Fresh *found)
{
	Datum		values[] = {
		Int32GetDatum(kind->kind_id), Int64GetDatum((int64) key->hash),
		Int64GetDatum(key->first), Int64GetDatum(key->last), open_parts(),
		Int32GetDatum(KEY_TASKS)
	};
	RoleSwitch	saved = ordflow_task_connect();
	int			n = ordflow_execute_latest(&tasks_of_key, values, NULL);

	for (int i = 0; i < n; i++)
	{
		bool		isnull;

		found[i].task_id = ordflow_result_int64(i, 1);
		found[i].part = DatumGetInt16(ordflow_result(i, 2, &isnull));
	}
	ordflow_task_disconnect(saved);
	return n;
}

typedef enum KeyClaim
{
	KEY_CLAIMED,
	KEY_HELD,					/* somebody holds the task */
	KEY_LOST					/* another has the key's permit */
} KeyClaim;

/* Its claim, with the key's permit. */
static KeyClaim
claim_of_key(const TaskKind *kind, uint64 hash, const TaskRow *row, const ClaimTerms *terms,
			 Fresh *fresh)
{
	KeyClaim	result = KEY_HELD;
	SlotNo		held;
	SlotNo		no = 0;
	TimestampTz again = DT_NOEND;
	bool		full = false;
	Lane	   *lane;

	ordflow_journal_room(1);
	ordflow_task_lock();
	lane = ordflow_lane_find(kind->kind_id);
	held = ordflow_claim_find(row->task_id);
	if (held != 0)
		ordflow_task_slots[held].flags |= CLAIM_LEFT_OUT;
	else if (lane == NULL || !ordflow_lane_permits(lane, kind, terms->now, &again))
		result = KEY_LOST;
	else
	{
		no = ordflow_slot_for_claim();
		full = no == 0;
	}
	if (no != 0)
	{
		ordflow_claim_make(no, lane, row->task_id, row->part, row->priority, terms);
		result = ordflow_key_take(no, kind, hash) ? KEY_CLAIMED : KEY_LOST;
	}
	if (result == KEY_CLAIMED)
	{
		note_claim(no, terms, fresh);
		ordflow_lane_started(lane, kind, terms->now, 1);
	}
	ordflow_task_unlock();
	if (full)
		ordflow_claims_are_full();
	return result;
}

/* The first that may start of the key that comes next; 0 or 1. */
static int
claim_by_key(const TaskKind *kind, const ClaimTerms *terms, const KeyRange *key, TaskRow *task)
{
	Fresh		found[KEY_TASKS];
	int			n = read_key(kind, key, found);
	Lane	   *lane;

	for (int i = 0; i < n; i++)
	{
		TaskRow    *row;
		Fresh		fresh;
		KeyClaim	claim;

		if (ordflow_rows_read(found[i].part, found[i].task_id, found[i].task_id, 1, false,
							  &row) == 0 ||
			row->over || (row->run_at != DT_NOBEGIN && row->run_at > GetCurrentTimestamp()))
			continue;
		claim = claim_of_key(kind, key->hash, row, terms, &fresh);
		/* those behind it wait for their turn: nobody may take them for done */
		if (claim == KEY_LOST)
			return 0;
		if (claim == KEY_CLAIMED &&
			look_at_stretch(&fresh, 1, kind, GetCurrentTimestamp(), task) > 0)
			return 1;
	}
	/* those that are held, or due later, are covered by their claims and runs */
	ordflow_task_lock();
	lane = ordflow_lane_find(kind->kind_id);
	if (lane != NULL)
		ordflow_key_none(lane, key->hash,
						 n == KEY_TASKS ? found[n - 1].task_id : key->last);
	ordflow_task_unlock();
	return 0;
}

/* ---- what comes next ---- */

void
ordflow_claims_are_full(void)
{
	ereport(ERROR,
			errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			errmsg("no more tasks can be held at once"),
			errhint("Raise ordflow.task_slots."));
}

static const TaskKind *
kind_among(const TaskKind *const *kinds, int nkinds, int32 kind_id)
{
	for (int i = 0; i < nkinds; i++)
		if (kinds[i]->kind_id == kind_id)
			return kinds[i];
	return NULL;
}

/* A suspect runs alone: where there is one the first of them is left, or what comes before it. */
static int
keep_from_company(TaskRow *tasks, int n)
{
	int			keep = n;

	for (int i = 0; i < n && keep == n; i++)
		if (ordflow_suspect_crashes(tasks[i].task_id) >= 0)
			keep = Max(i, 1);
	if (keep == n)
		return n;
	ordflow_task_lock();
	for (int i = keep; i < n; i++)
		if (ordflow_claim_is(tasks[i].slot, tasks[i].token))
			ordflow_claim_give_back(tasks[i].slot, DT_NOBEGIN);
	ordflow_task_unlock();
	return keep;
}

/* An error ends the look as well: others wait for that, where the kind has keys. */
static int
look(const TaskTake *take, const Fresh *fresh, const TaskKind *kind, const KeyRange *key,
	 TaskRow *tasks)
{
	volatile int n = 0;

	PG_TRY();
	{
		if (take->n > 0)
			n = look_at_all(fresh, take->n, kind, GetCurrentTimestamp(), tasks);
		else
			n = claim_by_key(take->key, &take->terms, key, tasks);
	}
	PG_CATCH();
	{
		ordflow_look_end();
		PG_RE_THROW();
	}
	PG_END_TRY();
	ordflow_look_end();
	return n;
}

/* Takes what memory names next; returns when to try again, where that is nothing. */
static TimestampTz
take_next(TaskQueue *queue, TaskTake *take, Fresh *fresh, KeyRange *key)
{
	TimestampTz again;

	ordflow_journal_room(take->max);
	ordflow_task_lock();
	ordflow_leases_expire(queue, take->terms.now);
	again = ordflow_earlier(ordflow_later_promote(queue, take->terms.now), queue->lease_end);
	ordflow_lane_take(queue, take);
	for (int i = 0; i < take->n; i++)
		note_claim(take->slots[i], &take->terms, &fresh[i]);
	if (take->key != NULL)
		ordflow_key_next(ordflow_lane_find(take->key->kind_id), &key->hash, &key->first,
						 &key->last);
	ordflow_task_unlock();
	if (take->full && take->n == 0)
		ordflow_claims_are_full();
	return Min(again, take->again);
}

int
ordflow_claim_next(const TaskKind *const *kinds, int nkinds, int max, const ClaimTerms *terms,
				   TaskRow *tasks, TimestampTz *again)
{
	TaskQueue  *queue = ordflow_queue();
	long		rest = LOOK_REST;
	int			n = 0;

	ordflow_task_attend();
	max = Min(max, TASK_GROUP_MAX);
	while (n == 0)
	{
		TaskTake	take = {.kinds = kinds, .nkinds = nkinds, .max = max, .terms = *terms};
		Fresh		fresh[TASK_GROUP_MAX];
		KeyRange	key = {0};

		CHECK_FOR_INTERRUPTS();
		/* what has come due meanwhile is due for the look too */
		take.terms.now = GetCurrentTimestamp();
		*again = take_next(queue, &take, fresh, &key);
		if (take.n > 0 || take.key != NULL)
			n = look(&take, fresh, take.n == 0 ? take.key :
					 kind_among(kinds, nkinds, fresh[0].kind_id), &key, tasks);
		else if (take.busy)
		{
			pg_usleep(rest);
			rest = Min(rest * 2, LOOK_REST_MAX);
		}
		else if (!take.unread || !ordflow_load_step(LOAD_ROWS))
			return 0;
		if (n > 0 && terms->worker)
			n = keep_from_company(tasks, n);
	}
	return n;
}

/* ---- claim_tasks, claim_task ---- */

/* An interval from 0 to max microseconds; NULL: otherwise. */
static int64
arg_time(FunctionCallInfo fcinfo, int argno, const char *name, int64 min, int64 max,
		 int64 otherwise)
{
	const Interval *interval;
	int64		time;

	if (PG_ARGISNULL(argno))
		return otherwise;
	interval = PG_GETARG_INTERVAL_P(argno);
	time = interval->month != 0 || abs(interval->day) > 1 ? -1 :
		interval->time + interval->day * USECS_PER_DAY;
	if (time < min || time > max)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				min > 0 ? errmsg("%s must be above 0 and at most %d s", name,
								 (int) (max / USECS_PER_SEC)) :
				errmsg("%s must be between 0 and %d s", name, (int) (max / USECS_PER_SEC)));
	return time;
}

int64
ordflow_arg_lease(FunctionCallInfo fcinfo, int argno)
{
	return arg_time(fcinfo, argno, "lease", 1, TASK_LEASE_MAX, 0);
}

void
ordflow_require_claimable(const TaskKind *kind)
{
	ordflow_kind_require_owner(kind);
	if (kind->handler == NULL)
		return;
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("tasks of kind \"%s\" are run by background workers", kind->kind),
			errdetail("Its handler is %s.", kind->handler),
			errhint("A kind that services claim is defined without a handler."));
}

/* The server then looks while a statement runs whether the client is still there. */
static void
notice_dead_clients(void)
{
	const char *setting = GetConfigOption("client_connection_check_interval", true, false);

	if (MyBackendType != B_BACKEND || setting == NULL || strcmp(setting, "0") != 0)
		return;
	set_config_option("client_connection_check_interval", "50", PGC_USERSET, PGC_S_SESSION,
					  GUC_ACTION_SET, true, DEBUG1, false);
}

static void
put_claims(FunctionCallInfo fcinfo, const TaskRow *tasks, int n)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	for (int i = 0; i < n; i++)
	{
		bool		nulls[4] = {false};
		Datum		values[4] = {
			Int64GetDatum(tasks[i].task_id), Int64GetDatum(tasks[i].token),
			JsonbPGetDatum(tasks[i].payload), Int32GetDatum(tasks[i].attempts + 1)
		};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

static ClaimTerms
terms_of(int64 lease)
{
	TimestampTz now = GetCurrentTimestamp();

	return (ClaimTerms) {.now = now, .lease_until = lease == 0 ? 0 : now + lease};
}

/* What is there now, at most max; again: when to look again, if nobody tells before. */
static int
claim_now(FunctionCallInfo fcinfo, int32 kind_id, int max, int64 lease, TimestampTz *again)
{
	int			total = 0;
	int			n = 1;

	*again = DT_NOEND;
	while (total < max && n > 0)
	{
		const TaskKind *kind = ordflow_kind_by_id(kind_id);
		TaskRow		tasks[TASK_GROUP_MAX];
		ClaimTerms	terms = terms_of(lease);

		if (kind == NULL)
			break;
		n = ordflow_claim_next(&kind, 1, max - total, &terms, tasks, again);
		put_claims(fcinfo, tasks, n);
		for (int i = 0; i < n; i++)
			pfree(tasks[i].payload);
		total += n;
	}
	return total;
}

static bool
is_paused(int32 kind_id)
{
	const TaskKind *kind = ordflow_kind_by_id(kind_id);

	return kind != NULL && kind->paused;
}

static void
claim_or_wait(FunctionCallInfo fcinfo, int32 kind_id, int max, int64 lease, int64 wait)
{
	TimestampTz until = GetCurrentTimestamp() + wait;
	TimestampTz again;

	if (wait == 0)
	{
		claim_now(fcinfo, kind_id, max, lease, &again);
		return;
	}
	for (;;)
	{
		ordflow_wait_begin(WAIT_KIND, kind_id);
		/* the kind may have been changed, or paused */
		AcceptInvalidationMessages();
		if (claim_now(fcinfo, kind_id, max, lease, &again) > 0)
			break;
		/* a resume is told a moment before it can be seen */
		if (is_paused(kind_id))
			again = Min(again, GetCurrentTimestamp() + LOOK_AGAIN);
		if (!ordflow_wait_sleep(Min(again, until)) && GetCurrentTimestamp() >= until)
			break;
	}
	/* what was told since the last look is another's */
	ordflow_wait_end(false);
}

/* (kind, max_tasks, lease, wait) */
Datum
ordflow_claim_tasks(PG_FUNCTION_ARGS)
{
	const TaskKind *kind;
	int32		max;
	int64		lease;
	int64		wait;

	ordflow_task_begin_verb("ordflow.claim_tasks()");
	kind = ordflow_kind_by_name(ordflow_arg_text(fcinfo, 0, "kind"));
	ordflow_require_claimable(kind);
	ordflow_require_not_null(fcinfo, 1, "max_tasks");
	max = PG_GETARG_INT32(1);
	if (max < 1 || max > TASK_CLAIMS_MAX)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("max_tasks must be between 1 and %d", TASK_CLAIMS_MAX));
	lease = ordflow_arg_lease(fcinfo, 2);
	wait = arg_time(fcinfo, 3, "wait", 0, TASK_WAIT_MAX, 0);
	InitMaterializedSRF(fcinfo, 0);
	if (!ordflow_activation_is_on(DUTY_TASK))
		return (Datum) 0;
	if (lease == 0)
	{
		ordflow_session_require_room(max);
		notice_dead_clients();
	}
	claim_or_wait(fcinfo, kind->kind_id, max, lease, wait);
	return (Datum) 0;
}

/* Where nothing stands against it.  False: something does. */
static bool
claim_by_number(const TaskKind *kind, const TaskRow *row, const ClaimTerms *terms, Fresh *fresh)
{
	TaskQueue  *queue = ordflow_queue();
	TimestampTz again = DT_NOEND;
	SlotNo		no = 0;
	bool		full = false;
	Lane	   *lane;

	ordflow_task_attend();
	ordflow_journal_room(1);
	ordflow_task_lock();
	ordflow_leases_expire(queue, terms->now);
	lane = ordflow_lane(kind);
	if (lane != NULL && ordflow_claim_find(row->task_id) == 0 &&
		ordflow_lane_permits(lane, kind, terms->now, &again))
	{
		no = ordflow_slot_for_claim();
		full = no == 0;
	}
	if (no != 0)
	{
		ordflow_claim_make(no, lane, row->task_id, row->part, row->priority, terms);
		note_claim(no, terms, fresh);
		ordflow_lane_started(lane, kind, terms->now, 1);
	}
	ordflow_task_unlock();
	if (full)
		ordflow_claims_are_full();
	return no != 0;
}

/* (task_id, lease) */
Datum
ordflow_claim_task(PG_FUNCTION_ARGS)
{
	int64		lease;
	ClaimTerms	terms;
	const TaskKind *kind;
	TaskRow		row;
	TaskRow		task;
	Fresh		fresh;

	ordflow_task_begin_verb("ordflow.claim_task()");
	ordflow_require_not_null(fcinfo, 0, "task_id");
	lease = ordflow_arg_lease(fcinfo, 1);
	InitMaterializedSRF(fcinfo, 0);
	if (!ordflow_activation_is_on(DUTY_TASK) ||
		!ordflow_row_find(PG_GETARG_INT64(0), false, &row))
		return (Datum) 0;
	kind = ordflow_kind_by_id(row.kind_id);
	if (kind == NULL)
		elog(ERROR, "kind %d is missing", row.kind_id);
	ordflow_require_claimable(kind);
	terms = terms_of(lease);
	if (row.over || kind->paused || (row.run_at != DT_NOBEGIN && row.run_at > terms.now))
		return (Datum) 0;
	if (lease == 0)
	{
		ordflow_session_require_room(1);
		notice_dead_clients();
	}
	if (claim_by_number(kind, &row, &terms, &fresh) &&
		look_at_stretch(&fresh, 1, kind, terms.now, &task) > 0)
		put_claims(fcinfo, &task, 1);
	return (Datum) 0;
}

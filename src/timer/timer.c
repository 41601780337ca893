/*
 * timer.c
 *	  Fires the timeouts that are due, table by table and state by state.
 *
 * Due rows of one state are one step, in a subtransaction.  A step that fails is
 * tried again in halves, down to the one object, which is parked: it comes
 * again after a delay that doubles.  What is no fault of the object
 * (cancellation, serialization failure, deadlock, read-only) ends the run.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#include "machine/machine.h"
#include "stock/stock.h"
#include "timer/timer.h"

PG_FUNCTION_INFO_V1(ordflow_run_due);

/* an object without a timeout is parked under this event */
#define NO_EVENT "timeout"

/* parked by this machine ($3): another one on the table has events of its own */
#define PARKED_BY_MACHINE \
	" AND (event = '" NO_EVENT "' OR EXISTS " \
	"(SELECT FROM ordflow.transitions AS t WHERE t.machine = $3 AND t.event = p.event))"

static Statement forget_stale_parked = {
	.sql = "DELETE FROM ordflow.parked WHERE retry_at < $1 - interval '1 day'",
	.nargs = 1,
	.argtypes = {TIMESTAMPTZOID}
};

/*
 * What was to be tried again and is not due any more: somebody else has fired
 * it, moved its deadline or deleted it.
 */
static Statement forget_done = {
	.sql = "DELETE FROM ordflow.parked AS p WHERE target = $1 AND retry_at <= $2 "
	"AND key <> ALL ($4)" PARKED_BY_MACHINE,
	.nargs = 4,
	.argtypes = {TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTARRAYOID}
};

static Statement parked_keys = {
	.sql = "SELECT key FROM ordflow.parked AS p WHERE target = $1 AND retry_at > $2"
	PARKED_BY_MACHINE,
	.nargs = 3,
	.argtypes = {TEXTOID, TIMESTAMPTZOID, TEXTOID}
};

static Statement has_parked = {
	.sql = "SELECT FROM ordflow.parked WHERE target = $1 LIMIT 1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static Statement unpark = {
	.sql = "DELETE FROM ordflow.parked AS p WHERE target = $1 AND key = ANY ($2)"
	PARKED_BY_MACHINE,
	.nargs = 3,
	.argtypes = {TEXTOID, TEXTARRAYOID, TEXTOID}
};

/* 1 s, 2 s, 4 s ... 1 hour */
static Statement park = {
	.sql = "INSERT INTO ordflow.parked AS p "
	"(target, key, event, attempts, retry_at, sqlstate, error) "
	"SELECT $1, u.key, $3, 1, $4 + interval '1 second', $5, $6 FROM unnest($2) AS u (key) "
	"ON CONFLICT (target, key, event) DO UPDATE SET attempts = p.attempts + 1, "
	"retry_at = $4 + least(interval '1 hour', interval '1 second' * 2 ^ least(p.attempts, 12)), "
	"sqlstate = excluded.sqlstate, error = excluded.error",
	.nargs = 6,
	.argtypes = {TEXTOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID}
};

/* An object that is due. */
typedef struct DueObject
{
	Datum		key;
	char	   *state;
} DueObject;

/* One table in one run. */
typedef struct DueTarget
{
	const MachineTarget *target;
	char	   *table;			/* qualified name */
	Oid			owner;
	bool		ours;			/* in schema ordflow: trusted */
	bool		parked;			/* some of its objects are parked */
	TimestampTz now;			/* the clock, read after the rows were locked */
} DueTarget;

/* What is tried in a subtransaction. */
typedef int (*Attempt) (void *arg);

/* Runs the attempt in a subtransaction; NULL, or the error it failed with. */
static ErrorData *
try_in_subtransaction(Attempt attempt, void *arg, int *result)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		*result = attempt(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	if (error != NULL && ordflow_error_is_callers(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

/* ---- parking ---- */

static Datum
key_texts(const MachineTarget *target, const DueObject *objects, int n)
{
	const char **keys = palloc(sizeof(char *) * Max(n, 1));

	for (int i = 0; i < n; i++)
		keys[i] = ordflow_machine_key_text(target, objects[i].key);
	return ordflow_text_array(keys, n);
}

static void
park_objects(const DueTarget *due, const DueObject *objects, int n, const char *event,
			 int sqlerrcode, const char *message)
{
	Datum		values[6];

	values[0] = CStringGetTextDatum(due->table);
	values[1] = key_texts(due->target, objects, n);
	values[2] = CStringGetTextDatum(event);
	values[3] = TimestampTzGetDatum(due->now);
	values[4] = CStringGetTextDatum(unpack_sql_state(sqlerrcode));
	values[5] = CStringGetTextDatum(message);
	ordflow_execute(&park, values, NULL);
}

static void
unpark_objects(const DueTarget *due, const DueObject *objects, int n)
{
	Datum		values[3];

	if (!due->parked)
		return;
	values[0] = CStringGetTextDatum(due->table);
	values[1] = key_texts(due->target, objects, n);
	values[2] = CStringGetTextDatum(due->target->machine);
	ordflow_execute(&unpark, values, NULL);
}

/* objects: all that are due and may be tried; one that is locked loses its count. */
static void
forget_done_objects(const DueTarget *due, const DueObject *objects, int n, TimestampTz now)
{
	Datum		values[4];

	values[0] = CStringGetTextDatum(due->table);
	values[1] = TimestampTzGetDatum(now);
	values[2] = CStringGetTextDatum(due->target->machine);
	values[3] = key_texts(due->target, objects, n);
	ordflow_execute(&forget_done, values, NULL);
}

/* ---- firing ---- */

/* Objects of one state and the timeout that ends it. */
typedef struct Batch
{
	const DueTarget *due;
	const Transition *timeout;
	bool		branches;		/* guards choose where each object goes */
	const DueObject *objects;
	int			n;
} Batch;

/* One step, as the owner of the table, whose triggers and policies it may run. */
static int
apply_batch(void *arg)
{
	const Batch *batch = arg;
	const DueTarget *due = batch->due;
	MachineStep step = {0};
	RoleSwitch	saved;

	step.target = due->target;
	step.event = batch->timeout->event;
	step.from_state = batch->timeout->from_state;
	step.to_state = batch->branches ? NULL : batch->timeout->to_state;
	step.reason = "timeout";
	step.now = due->now;
	step.nkeys = batch->n;
	step.keys = palloc(sizeof(Datum) * batch->n);
	for (int i = 0; i < batch->n; i++)
		step.keys[i] = batch->objects[i].key;

	saved = ordflow_role_enter(due->owner, !due->ours);
	ordflow_machine_apply(&step);
	ordflow_role_leave(saved);
	return batch->n;
}

/* Fires a batch, in halves where it fails; returns how many fired. */
static int
fire_batch(const Batch *batch)
{
	Batch		half = *batch;
	ErrorData  *error;
	int			fired = 0;

	CHECK_FOR_INTERRUPTS();
	check_stack_depth();
	if (batch->n == 1 || !batch->branches)
	{
		error = try_in_subtransaction(apply_batch, (void *) batch, &fired);
		if (error == NULL)
		{
			unpark_objects(batch->due, batch->objects, batch->n);
			return fired;
		}
		if (batch->n == 1)
		{
			park_objects(batch->due, batch->objects, 1, batch->timeout->event,
						 error->sqlerrcode, error->message);
			return 0;
		}
		FreeErrorData(error);
	}
	half.n = batch->n / 2;
	fired = fire_batch(&half);
	half.objects = batch->objects + half.n;
	half.n = batch->n - half.n;
	return fired + fire_batch(&half);
}

static int
fire_state(const DueTarget *due, const DueObject *objects, int n)
{
	const MachineTarget *target = due->target;
	Batch		batch = {due, NULL, false, objects, n};
	const char *state = objects[0].state;

	if (state != NULL && ordflow_machine_exists(target->machine))
		batch.timeout = ordflow_machine_timeout(target->machine, state);
	if (batch.timeout == NULL)
	{
		park_objects(due, objects, n, NO_EVENT, ERRCODE_ORDFLOW_ILLEGAL_TRANSITION,
					 psprintf("state \"%s\" of machine \"%s\" has no timeout",
							  state != NULL ? state : "", target->machine));
		return 0;
	}
	batch.branches = ordflow_machine_branches(target->machine, state, batch.timeout->event);
	return fire_batch(&batch);
}

/* ---- finding ---- */

static int
compare_states(const void *a, const void *b)
{
	const char *x = ((const DueObject *) a)->state;
	const char *y = ((const DueObject *) b)->state;

	if (x == NULL || y == NULL)
		return (x != NULL) - (y != NULL);
	return strcmp(x, y);
}

/* The keys that may not be tried before their time. */
static Datum
skipped_keys(const DueTarget *due, TimestampTz now)
{
	Datum		values[3];
	const char **keys;
	uint64		n;

	if (!due->parked)
		return ordflow_text_array(NULL, 0);
	values[0] = CStringGetTextDatum(due->table);
	values[1] = TimestampTzGetDatum(now);
	values[2] = CStringGetTextDatum(due->target->machine);
	n = ordflow_execute(&parked_keys, values, NULL);
	keys = palloc(sizeof(char *) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
		keys[i] = ordflow_result_text(i, 1);
	return ordflow_text_array(keys, n);
}

/* What the search for due rows is given, and finds. */
typedef struct Search
{
	const DueTarget *due;
	TimestampTz now;
	int			max_rows;
	DueObject  *objects;
} Search;

/*
 * SQL that locks due rows, the earliest first, past those that others hold.  The
 * key becomes text by its type's output function, as everywhere else: a cast to
 * text may write it in another way.
 */
static char *
search_sql(const DueTarget *due)
{
	const MachineTarget *target = due->target;
	const char *due_column = quote_identifier(target->due_column);
	const char *key_column = quote_identifier(target->key_column);
	Oid			output;
	bool		varlena;

	getTypeOutputInfo(target->key_type, &output, &varlena);
	return psprintf("SELECT o.%s, o.%s::text FROM ONLY %s AS o WHERE o.%s <= $1 "
					"AND textin(%s(o.%s)) <> ALL ($2) ORDER BY o.%s LIMIT $3 "
					"FOR NO KEY UPDATE SKIP LOCKED",
					key_column, quote_identifier(target->state_column), due->table, due_column,
					quote_qualified_identifier(get_namespace_name(get_func_namespace(output)),
											   get_func_name(output)),
					key_column, due_column);
}

/*
 * Returns how many rows were locked.  The plan is made for the values: a generic
 * one would expect a third of the table to be due.
 */
static int
lock_due_rows(void *arg)
{
	Search	   *search = arg;
	const DueTarget *due = search->due;
	Oid			types[3] = {TIMESTAMPTZOID, TEXTARRAYOID, INT4OID};
	Datum		values[3];
	RoleSwitch	saved;
	int16		length;
	bool		byval;
	bool		isnull;
	int			n;

	values[0] = TimestampTzGetDatum(search->now);
	values[1] = skipped_keys(due, search->now);
	values[2] = Int32GetDatum(search->max_rows);
	saved = ordflow_machine_owner_enter(due->target->relid);
	n = ordflow_machine_query(search_sql(due), 3, types, values, true);
	ordflow_role_leave(saved);

	search->objects = palloc(sizeof(DueObject) * Max(n, 1));
	get_typlenbyval(due->target->key_type, &length, &byval);
	for (int i = 0; i < n; i++)
	{
		search->objects[i].key = datumCopy(ordflow_result(i, 1, &isnull), byval, length);
		search->objects[i].state = ordflow_result_text(i, 2);
	}
	return n;
}

static int
run_target(DueTarget *due, TimestampTz now, int max_rows)
{
	Datum		table = CStringGetTextDatum(due->table);
	Search		search = {due, now, max_rows, NULL};
	DueObject  *objects;
	ErrorData  *error;
	int			n = 0;
	int			fired = 0;

	due->parked = ordflow_execute(&has_parked, &table, NULL) > 0;
	error = try_in_subtransaction(lock_due_rows, &search, &n);
	if (error != NULL)
	{
		ereport(WARNING,
				errcode(error->sqlerrcode),
				errmsg("timeouts of table %s could not be run: %s", due->table, error->message));
		return 0;
	}
	objects = search.objects;
	if (due->parked && n < max_rows)
		forget_done_objects(due, objects, n, now);

	/* as_of may be ahead of the clock, the time of an event never is behind it */
	due->now = Max(now, GetCurrentTimestamp());
	qsort(objects, n, sizeof(DueObject), compare_states);
	for (int first = 0, last; first < n; first = last)
	{
		for (last = first + 1; last < n; last++)
			if (compare_states(&objects[first], &objects[last]) != 0)
				break;
		fired += fire_state(due, &objects[first], last - first);
	}
	return fired;
}

/* ---- tables ---- */

static bool
columns_exist(const MachineTarget *target)
{
	return get_attnum(target->relid, target->state_column) != InvalidAttrNumber &&
		get_attnum(target->relid, target->key_column) != InvalidAttrNumber &&
		get_atttype(target->relid, get_attnum(target->relid, target->due_column)) == TIMESTAMPTZOID;
}

/*
 * Fills in what is known of the table; false when it cannot be run now.  A
 * table that somebody has locked is left for the next run, so that it does not
 * hold up the others.
 */
static bool
open_target(DueTarget *due, const MachineTarget *target)
{
	HeapTuple	tuple;
	Form_pg_class class;
	bool		foreign_temp;

	if (target->due_column == NULL ||
		!ConditionalLockRelationOid(target->relid, RowExclusiveLock))
		return false;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(target->relid));
	if (!HeapTupleIsValid(tuple))
		return false;
	class = (Form_pg_class) GETSTRUCT(tuple);
	foreign_temp = isOtherTempNamespace(class->relnamespace);
	due->target = target;
	due->table = ordflow_machine_table(target->relid);
	due->owner = class->relowner;
	due->ours = class->relnamespace == get_namespace_oid("ordflow", false);
	ReleaseSysCache(tuple);
	if (foreign_temp)
		return false;
	if (!columns_exist(target))
	{
		ereport(WARNING,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("timeouts of table %s are not run: a column that its machine needs is gone",
					   due->table),
				errhint("Call ordflow.detach(), then ordflow.attach() with the column's new name."));
		return false;
	}
	return true;
}

typedef struct HoldRun
{
	TimestampTz now;
	int			limit;
} HoldRun;

static int
expire_holds(void *arg)
{
	const HoldRun *run = arg;

	return ordflow_stock_expire_holds(run->now, run->limit);
}

static int
run_holds(TimestampTz now, int limit)
{
	HoldRun		run = {now, limit};
	int			expired = 0;
	ErrorData  *error = try_in_subtransaction(expire_holds, &run, &expired);

	if (error != NULL)
		ereport(WARNING,
				errcode(error->sqlerrcode),
				errmsg("expired holds could not be released: %s", error->message));
	return expired;
}

int
ordflow_timer_run(TimestampTz now, int max_rows)
{
	MemoryContext turn = AllocSetContextCreate(CurrentMemoryContext, "ordflow due objects",
											   ALLOCSET_DEFAULT_SIZES);
	Datum		clock = TimestampTzGetDatum(now);
	List	   *targets;
	ListCell   *cell;
	int			fired = 0;

	SPI_connect();
	ordflow_execute(&forget_stale_parked, &clock, NULL);
	targets = ordflow_machine_targets(InvalidOid);
	foreach(cell, targets)
	{
		MemoryContext old = MemoryContextSwitchTo(turn);
		DueTarget	due = {0};

		CHECK_FOR_INTERRUPTS();
		if (fired < max_rows && open_target(&due, lfirst(cell)))
			fired += run_target(&due, now, max_rows - fired);
		MemoryContextSwitchTo(old);
		MemoryContextReset(turn);
	}
	if (fired < max_rows)
		fired += run_holds(now, max_rows - fired);
	SPI_finish();
	MemoryContextDelete(turn);
	return fired;
}

Datum
ordflow_run_due(PG_FUNCTION_ARGS)
{
	TimestampTz now;
	int			max_rows;

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "as_of");
	ordflow_require_not_null(fcinfo, 1, "max_rows");
	now = PG_GETARG_TIMESTAMPTZ(0);
	max_rows = PG_GETARG_INT32(1);
	if (max_rows < 1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("max_rows must be at least 1"));
	if (max_rows > ORDFLOW_DUE_ROWS_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("max_rows may be at most %d", ORDFLOW_DUE_ROWS_MAX));

	/* nobody but a superuser lets time run ahead, nor a hook in his session */
	if (!superuser_arg(GetOuterUserId()) || InSecurityRestrictedOperation())
		now = Min(now, GetCurrentTimestamp());
	PG_RETURN_INT32(ordflow_timer_run(now, max_rows));
}

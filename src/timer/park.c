/*
 * park.c
 *	  Objects whose timeout failed: each comes again after a delay that doubles.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "timer/internal.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_parked_changed);

/* the most bytes of a message that are kept */
#define ERROR_MAX 2000

/* how long what could not be tried is left alone */
#define POSTPONED USECS_PER_SEC

static Statement read_parked = {
	.sql = "SELECT key, retry_at FROM ordflow.parked WHERE target = $1 AND state_column = $2",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

static Statement remove_parked = {
	.sql = "DELETE FROM ordflow.parked WHERE target = $1 AND state_column = $2 "
	"AND retry_at <= $3 AND key = ANY ($4)",
	.nargs = 4,
	.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID}
};

static Statement postpone_parked = {
	.sql = "UPDATE ordflow.parked SET retry_at = $5 WHERE target = $1 AND state_column = $2 "
	"AND retry_at <= $3 AND key = ANY ($4)",
	.nargs = 5,
	.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID, TIMESTAMPTZOID}
};

/* A row that somebody changes holds up nothing. */
static Statement remove_stale = {
	.sql = "DELETE FROM ordflow.parked WHERE ctid = ANY (ARRAY("
	"SELECT ctid FROM ordflow.parked WHERE retry_at < $1 - interval '1 day' "
	"FOR UPDATE SKIP LOCKED))",
	.nargs = 1,
	.argtypes = {TIMESTAMPTZOID}
};

/* 1 s, 2 s, 4 s ... 1 hour */
static Statement add_parked = {
	.sql = "INSERT INTO ordflow.parked AS p "
	"(target, state_column, key, event, attempts, retry_at, sqlstate, error) "
	"SELECT $1, $7, u.key, $3, 1, $4 + interval '1 second', $5, $6 FROM unnest($2) AS u (key) "
	"ON CONFLICT (target, state_column, key_hash, event) DO UPDATE SET attempts = p.attempts + 1, "
	"retry_at = $4 + least(interval '1 hour', interval '1 second' * 2 ^ least(p.attempts, 12)), "
	"sqlstate = excluded.sqlstate, error = excluded.error",
	.nargs = 7,
	.argtypes = {TEXTOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID}
};

/* Of two machines on one table each has a column of its own. */
static Datum
state_column(const DueTable *table)
{
	return CStringGetTextDatum(table->target->machine != NULL ? table->target->state_column : "");
}

/* As for the caller's own queries, in his memory context after it too. */
static uint64
execute(Statement *statement, Datum *values, const char *nulls)
{
	MemoryContext context = CurrentMemoryContext;
	uint64		n = ordflow_execute(statement, values, nulls);

	MemoryContextSwitchTo(context);
	return n;
}

void
ordflow_parked_read(DueTable *table, TimestampTz now)
{
	Datum		values[2] = {CStringGetTextDatum(table->name), state_column(table)};
	uint64		n = execute(&read_parked, values, NULL);
	bool		isnull;

	table->waiting = palloc(sizeof(char *) * Max(n, 1));
	table->ready = palloc(sizeof(char *) * Max(n, 1));
	table->nwaiting = table->nready = 0;
	table->retry_at = DT_NOEND;
	for (uint64 i = 0; i < n; i++)
	{
		TimestampTz retry_at = DatumGetTimestampTz(ordflow_result(i, 2, &isnull));

		if (retry_at <= now)
			table->ready[table->nready++] = ordflow_result_text(i, 1);
		else
		{
			table->waiting[table->nwaiting++] = ordflow_result_text(i, 1);
			table->retry_at = Min(table->retry_at, retry_at);
		}
	}
	SPI_freetuptable(SPI_tuptable);
}

/* A run of another session is not the coordinator's, which comes for what it left behind. */
void
ordflow_parked_add(const DueRun *run, const DueObject *objects, int n, const char *event,
				   int sqlerrcode, const char *message)
{
	int			length = pg_mbcliplen(message, strlen(message), ERROR_MAX);
	Datum		values[7];

	values[0] = CStringGetTextDatum(run->table->name);
	values[1] = ordflow_due_key_texts(run->table, objects, n);
	values[2] = CStringGetTextDatum(event);
	values[3] = TimestampTzGetDatum(run->now);
	values[4] = CStringGetTextDatum(unpack_sql_state(sqlerrcode));
	values[5] = PointerGetDatum(cstring_to_text_with_len(message, length));
	values[6] = state_column(run->table);
	execute(&add_parked, values, NULL);
	if (ordflow_in_coordinator)
		ordflow_figures_failed(sqlerrcode, message);
	else
		ordflow_worker_wake(DUTY_TIMER, run->now + USECS_PER_SEC);
}

static void
change(Statement *statement, const DueTable *table, TimestampTz now, const char **keys, int n)
{
	Datum		values[5];

	if (n == 0)
		return;
	values[0] = CStringGetTextDatum(table->name);
	values[1] = state_column(table);
	values[2] = TimestampTzGetDatum(now);
	values[3] = ordflow_text_array(keys, n);
	values[4] = TimestampTzGetDatum(now + POSTPONED);
	execute(statement, values, NULL);
}

static int
compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static bool
contains(const char **keys, int n, const char *key)
{
	return bsearch(&key, keys, n, sizeof(char *), compare_keys) != NULL;
}

int
ordflow_parked_settle(const DueTable *table, TimestampTz now, const char **ready, int nready,
					  DueRow *rows, int n)
{
	const char **due = palloc(sizeof(char *) * Max(n, 1));
	const char **done = palloc(sizeof(char *) * Max(nready, 1));
	int			ndue = 0;
	int			ndone = 0;
	int			nothers = 0;

	qsort(ready, nready, sizeof(char *), compare_keys);
	for (int i = 0; i < n; i++)
		if (contains(ready, nready, rows[i].key))
			due[ndue++] = rows[i].key;
		else
			rows[nothers++] = rows[i];
	qsort(due, ndue, sizeof(char *), compare_keys);
	for (int i = 0; i < nready; i++)
		if (!contains(due, ndue, ready[i]))
			done[ndone++] = ready[i];
	change(&remove_parked, table, now, done, ndone);
	if (ordflow_in_coordinator)
		change(&postpone_parked, table, now, due, ndue);
	return nothers;
}

void
ordflow_parked_remove_stale(TimestampTz now)
{
	Datum		value = TimestampTzGetDatum(now);

	execute(&remove_stale, &value, NULL);
}

/* Somebody takes a row out, or wants it tried sooner: the coordinator remembers it otherwise. */
Datum
ordflow_parked_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("function ordflow.parked_changed must be called as a trigger"));
	if (!ordflow_in_coordinator)
		ordflow_worker_wake(DUTY_TIMER, DT_NOBEGIN);
	return PointerGetDatum(NULL);
}

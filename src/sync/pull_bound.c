/*
 * pull_bound.c
 *	  Up to where a pull may read by its cursor, so that nothing comes later behind it.
 *
 * A transaction takes its cursor value when it begins (now()), or in the middle (a sequence, its
 * own number), and its rows are seen when it commits, which may be long after rows with greater
 * values.  So a bound is a value that no transaction which is still open, or begins later, can go
 * below:
 *
 *		times		the clock, but not past the beginning of the oldest transaction of this
 *					database: its rows may be as old as that.  Who has read the clock and cannot be
 *					seen yet, some instructions later, is given SETTLE_MS for it.
 *		xid8		the oldest transaction that runs
 *		others		the greatest value there is, when all are done that held a lock to write the
 *					source's tables then: who locks later takes a greater one
 *		remote		the greatest value there is; the option overlap goes back behind it
 *
 * Nobody is kept from writing.  A time's last unit is left for the next pull, as it is not over.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "sync/pull.h"

#define SETTLE_MS	200L
#define WRITERS_MS	20L			/* between looks whether they are done */
#define WRITERS_MAX (30 * USECS_PER_SEC)	/* then the pull fails, and is tried again */
#define TELL_AFTER	(5 * USECS_PER_SEC)

/* ---- times ---- */

/*
 * The oldest transaction of the database besides this one; its start is NULL where it cannot be
 * told.  Of a prepared one, that counts if it has locked the tables $1 to write them.
 */
static Statement oldest = {
	.sql = "SELECT o.start, o.who FROM ("
	"SELECT a.xact_start AS start, pg_catalog.format('process %s', a.pid) AS who "
	"FROM pg_catalog.pg_stat_activity a WHERE a.datid = $2 AND a.xact_start IS NOT NULL "
	"AND a.pid <> pg_catalog.pg_backend_pid() "
	"AND a.backend_type NOT IN ('autovacuum worker', 'walsender', 'parallel worker') "
	"UNION ALL SELECT NULL, pg_catalog.format('process %s, whose track_activities is off', a.pid) "
	"FROM pg_catalog.pg_stat_activity a WHERE a.datid = $2 AND a.state = 'disabled' AND EXISTS ("
	"SELECT FROM pg_catalog.pg_locks l WHERE l.pid = a.pid AND l.locktype = 'virtualxid') "
	"UNION ALL SELECT NULL, pg_catalog.format('prepared transaction %L', p.gid) "
	"FROM pg_catalog.pg_prepared_xacts p, pg_catalog.pg_locks x, pg_catalog.pg_locks l "
	"WHERE x.locktype = 'transactionid' AND x.transactionid = p.transaction "
	"AND x.mode = 'ExclusiveLock' AND x.granted AND l.virtualtransaction = x.virtualtransaction "
	"AND l.database = $2 AND l.relation = ANY($1) AND l.mode <> 'AccessShareLock') AS o "
	"ORDER BY o.start NULLS FIRST LIMIT 1",
	.nargs = 2,
	.argtypes = {OIDARRAYOID, OIDOID}
};

/* A unit of it before a time, in a zone, but not below the bound. */
static Statement before_timestamptz = {
	.sql = "SELECT greatest($1 - $2 * interval '1 us', $4::timestamptz)::text",
	.nargs = 4,
	.argtypes = {TIMESTAMPTZOID, INT8OID, TEXTOID, TEXTOID}
};

static Statement before_timestamp = {
	.sql = "SELECT greatest(($1 AT TIME ZONE $3) - $2 * interval '1 us', $4::timestamp)::text",
	.nargs = 4,
	.argtypes = {TIMESTAMPTZOID, INT8OID, TEXTOID, TEXTOID}
};

static Statement before_date = {
	.sql = "SELECT greatest(($1 AT TIME ZONE $3)::date - 1, $4::date)::text",
	.nargs = 4,
	.argtypes = {TIMESTAMPTZOID, INT8OID, TEXTOID, TEXTOID}
};

static Datum
relids_array(const PullSource *source)
{
	Datum	   *oids = palloc((list_length(source->relids) + 1) * sizeof(Datum));
	int			n = 0;
	ListCell   *cell;

	foreach(cell, source->relids)
		oids[n++] = ObjectIdGetDatum(lfirst_oid(cell));
	return PointerGetDatum(construct_array(oids, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/* Everybody's transactions are seen by superusers alone. */
static uint64
execute_seeing_all(Statement *statement, Datum *values)
{
	RoleSwitch	saved = ordflow_role_enter(BOOTSTRAP_SUPERUSERID, false);
	uint64		n = ordflow_execute(statement, values, NULL);

	ordflow_role_leave(saved);
	return n;
}

/* Up to when all has committed; false: it cannot be told.  In a transaction, connected. */
static bool
committed_until(Pull *pull, TimestampTz now, TimestampTz *until)
{
	Datum		values[2] = {relids_array(pull->source), ObjectIdGetDatum(MyDatabaseId)};
	bool		isnull;
	TimestampTz start;
	char	   *who;

	*until = now;
	if (execute_seeing_all(&oldest, values) == 0)
		return true;
	start = DatumGetTimestampTz(ordflow_result(0, 1, &isnull));
	who = MemoryContextStrdup(pull->memory, ordflow_result_text(0, 2));
	if (isnull)
		pull->held = psprintf("nothing new is pulled before %s ends, of which nobody can tell "
							  "when it began", who);
	else if (start < now - TELL_AFTER)
		pull->held = psprintf("rows from %s on wait for the end of %s, which has been in a "
							  "transaction since then", timestamptz_to_str(start), who);
	if (pull->held != NULL)
		pull->held = MemoryContextStrdup(pull->memory, pull->held);
	*until = isnull ? now : Min(start, now);
	return !isnull;
}

static const char *
bound_by_time(Pull *pull)
{
	const ChangeColumn *cursor = &pull->source->relation->columns[pull->source->order[0]];
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until;
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};
	int64		unit = 1;
	const char *bound = NULL;

	ordflow_pull_rest(SETTLE_MS);
	for (int digits = cursor->typmod; digits >= 0 && digits < 6; digits++)
		unit *= 10;
	ordflow_pull_begin(pull);
	SPI_connect();
	if (committed_until(pull, now, &until))
	{
		values[0] = TimestampTzGetDatum(until);
		values[1] = Int64GetDatum(unit);
		values[2] = CStringGetTextDatum(pull->route->options->time_zone);
		ORDFLOW_SET_TEXT(values, nulls, 3, pull->row->bound);
		ordflow_execute(cursor->type == DATEOID ? &before_date :
						cursor->type == TIMESTAMPOID ? &before_timestamp : &before_timestamptz,
						values, nulls);
		bound = MemoryContextStrdup(pull->memory, ordflow_result_text(0, 1));
	}
	SPI_finish();
	ordflow_pull_commit(pull);
	return bound;
}

/* ---- transactions' numbers ---- */

static Statement before_xid = {
	.sql = "SELECT (pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::numeric "
	"- 1)::text"
};

static const char *
bound_by_xid(Pull *pull)
{
	const char *bound;

	ordflow_pull_begin(pull);
	SPI_connect();
	ordflow_execute(&before_xid, NULL, NULL);
	bound = MemoryContextStrdup(pull->memory, ordflow_result_text(0, 1));
	SPI_finish();
	ordflow_pull_commit(pull);
	return bound;
}

/* ---- others ---- */

/* Who holds a lock to write the tables; $3: of those alone, where it is not NULL. */
static Statement writers = {
	.sql = "SELECT pg_catalog.array_agg(DISTINCT l.virtualtransaction), "
	"coalesce(pg_catalog.min(pg_catalog.format('process %s', l.pid)), 'a prepared transaction') "
	"FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation' AND l.granted AND l.database = $2 "
	"AND l.relation = ANY($1) AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() "
	"AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', "
	"'AccessExclusiveLock') AND ($3 IS NULL OR l.virtualtransaction = ANY($3)) "
	"HAVING pg_catalog.count(*) > 0",
	.nargs = 3,
	.argtypes = {OIDARRAYOID, OIDOID, TEXTARRAYOID}
};

/* The greatest value, or NULL: there is none above the bound. */
static const char *
greatest_value(Pull *pull)
{
	const PullSource *source = pull->source;
	const ChangeColumn *cursor = &source->relation->columns[source->order[0]];
	const char *name = quote_identifier(cursor->name);
	char	   *text = NULL;
	RoleSwitch	saved = ordflow_role_enter(pull->route->role, true);

	SPI_connect();
	if (SPI_execute(psprintf("SELECT %s FROM %s WHERE %s IS NOT NULL ORDER BY %s USING %s LIMIT 1",
							 name, source->name, name, name,
							 ordflow_pull_operator(cursor->type, TYPECACHE_GT_OPR)),
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "the source could not be read");
	if (SPI_processed == 1)
		text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (text != NULL)
		text = MemoryContextStrdup(pull->memory, text);
	SPI_finish();
	ordflow_role_leave(saved);
	return text;
}

/* In a transaction: those of them that are not done yet, NULL for all there are; NULL: none. */
static Datum
writers_left(Pull *pull, Datum known, char **who)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[3] = {relids_array(pull->source), ObjectIdGetDatum(MyDatabaseId), known};
	char		nulls[3] = {' ', ' ', known == (Datum) 0 ? 'n' : ' '};
	Datum		left = (Datum) 0;
	bool		isnull;
	RoleSwitch	saved = ordflow_role_enter(BOOTSTRAP_SUPERUSERID, false);

	SPI_connect();
	if (ordflow_execute(&writers, values, nulls) == 1)
	{
		Datum		found = ordflow_result(0, 1, &isnull);

		MemoryContextSwitchTo(pull->memory);
		left = PointerGetDatum(DatumGetArrayTypePCopy(found));
		*who = ordflow_result_text(0, 2);
	}
	SPI_finish();
	ordflow_role_leave(saved);
	MemoryContextSwitchTo(context);
	return left;
}

static void
wait_for_writers(Pull *pull, Datum left, char *who)
{
	TimestampTz began = GetCurrentTimestamp();
	bool		told = false;

	while (left != (Datum) 0)
	{
		TimestampTz waited = GetCurrentTimestamp() - began;
		char	   *problem = psprintf("waits for the end of %s, which may have written the source",
									   who);

		if (waited > WRITERS_MAX)
			ereport(ERROR,
					errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					errmsg("%s", problem));
		ordflow_pull_begin(pull);
		if (waited > TELL_AFTER && !told)
			ordflow_pull_waits(pull, problem);
		told = waited > TELL_AFTER;
		ordflow_pull_commit(pull);
		ordflow_pull_rest(WRITERS_MS);
		ordflow_pull_begin(pull);
		left = writers_left(pull, left, &who);
		ordflow_pull_commit(pull);
	}
}

static const char *
bound_by_value(Pull *pull)
{
	const char *bound;
	char	   *who = NULL;
	Datum		left = (Datum) 0;

	ordflow_pull_begin(pull);
	bound = greatest_value(pull);
	if (bound != NULL && pull->source->kind == CURSOR_ORDER)
		left = writers_left(pull, (Datum) 0, &who);
	ordflow_pull_commit(pull);
	wait_for_writers(pull, left, who);
	return bound;
}

const char *
ordflow_pull_bound(Pull *pull)
{
	switch (pull->source->kind)
	{
		case CURSOR_TIME:
			return bound_by_time(pull);
		case CURSOR_XID:
			return bound_by_xid(pull);
		case CURSOR_ORDER:
		case CURSOR_REMOTE:
			return bound_by_value(pull);
		default:
			return NULL;
	}
}

/* ---- overlap ---- */

static bool
is_number(Oid type)
{
	return type == INT2OID || type == INT4OID || type == INT8OID || type == NUMERICOID ||
		type == FLOAT4OID || type == FLOAT8OID;
}

static const char *
overlap_type(Oid type)
{
	if (type == TIMESTAMPTZOID || type == TIMESTAMPOID || type == DATEOID)
		return "interval";
	return is_number(type) ? "numeric" : NULL;
}

/* The bound less the overlap, as text; in a transaction. */
char *
ordflow_pull_lower(const Pull *pull, const char *bound)
{
	const ChangeColumn *cursor = &pull->source->relation->columns[pull->source->order[0]];
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2] = {CStringGetTextDatum(bound)};
	const char *by;
	const char *type = format_type_be_qualified(cursor->type);
	char	   *lower;

	if (pull->route->options->overlap == NULL)
		return pstrdup(bound);
	values[1] = CStringGetTextDatum(pull->route->options->overlap);
	by = overlap_type(cursor->type);
	SPI_connect();
	if (SPI_execute_with_args(psprintf("SELECT (($1::%s)%s - $2::%s)::%s::text", type,
									   is_number(cursor->type) ? "::numeric" : "", by, type),
							  2, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "the overlap could not be taken off");
	lower = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	lower = MemoryContextStrdup(pull->memory, lower);
	SPI_finish();
	return lower;
}

static bool
is_negative(const char *overlap, bool is_interval)
{
	Interval	zero = {0};
	Datum		value;

	if (!is_interval)
	{
		value = DirectFunctionCall3(numeric_in, CStringGetDatum(overlap),
									ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
		return DatumGetBool(DirectFunctionCall2(numeric_lt, value,
												NumericGetDatum(int64_to_numeric(0))));
	}
	value = DirectFunctionCall3(interval_in, CStringGetDatum(overlap),
								ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	return DatumGetBool(DirectFunctionCall2(interval_lt, value, IntervalPGetDatum(&zero)));
}

/* 22023 where it does not go with the cursor's type. */
void
ordflow_pull_check_overlap(const PullSource *source, const SyncOptions *options)
{
	Oid			type = source->relation->columns[source->order[0]].type;
	const char *by = overlap_type(type);

	if (options->overlap == NULL)
		return;
	if (by == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("option \"overlap\" does not go with a cursor of type %s",
					   format_type_be(type)),
				errhint("It is an interval of a time, or a number of numbers."));
	if (is_negative(options->overlap, strcmp(by, "interval") == 0))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("option \"overlap\" must not be below zero"));
}

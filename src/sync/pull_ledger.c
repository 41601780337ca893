/*
 * pull_ledger.c
 *	  ordflow.sync_pulls: what every pulled sync has done, and is to do.
 *
 * The number of a pull rises with every attempt, and with alter_sync() and drop_sync(): whoever
 * finds another than his own when he writes has been overtaken.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/crontab.h"
#include "sync/pull.h"
#include "worker/worker.h"

#define ROW_COLUMNS \
	"p.server, p.role, p.token::pg_catalog.text, p.generation, p.pull, p.bound, p.until, p.sent, " \
	"p.after, p.next, p.next_after, p.rows, p.failures, p.next_at, p.retry_at, " \
	"p.state <> 'idle', s.sync_id IS NULL, coalesce(s.paused, false)"

static Statement read_row = {
	.sql = "SELECT " ROW_COLUMNS " FROM ordflow.sync_pulls p LEFT JOIN ordflow.syncs s "
	"USING (sync_id) WHERE p.sync_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* Of a database that was restored in part. */
static Statement make_row = {
	.sql = "INSERT INTO ordflow.sync_pulls (sync_id, server, role) SELECT sync_id, server, role "
	"FROM ordflow.syncs WHERE sync_id = $1 AND mode IN ('" PULL_SCHEDULED "', '" PULL_FULL "') "
	"ON CONFLICT DO NOTHING",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* What was counted in transactions' numbers means nothing in another cluster. */
static Statement start_row = {
	.sql = "UPDATE ordflow.sync_pulls SET pull = pull + 1, state = 'pulling', retry_at = NULL, "
	"started_at = CASE WHEN state = 'idle' THEN pg_catalog.clock_timestamp() ELSE started_at END, "
	"rows = CASE WHEN until IS NULL THEN 0 ELSE rows END, removed = 0 WHERE sync_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

#define MINE "WHERE sync_id = $1 AND pull = $2"

static Statement set_bound = {
	.sql = "UPDATE ordflow.sync_pulls SET until = $3, cluster = $4 " MINE,
	.nargs = 4,
	.argtypes = {INT8OID, INT8OID, TEXTOID, TEXTOID}
};

static Statement set_anew = {
	.sql = "UPDATE ordflow.sync_pulls SET generation = $3, bound = NULL, until = NULL, "
	"after = NULL, next = NULL, next_after = NULL, rows = 0, sent = $4 " MINE,
	.nargs = 4,
	.argtypes = {INT8OID, INT8OID, INT8OID, TEXTOID}
};

static Statement note_place = {
	.sql = "UPDATE ordflow.sync_pulls SET sent = $3, after = $4, next = $5, next_after = $6, "
	"rows = $7 " MINE,
	.nargs = 7,
	.argtypes = {INT8OID, INT8OID, TEXTOID, TEXTARRAYOID, TEXTOID, TEXTARRAYOID, INT8OID}
};

static Statement finish_row = {
	.sql = "UPDATE ordflow.sync_pulls SET state = 'idle', bound = coalesce(until, bound), "
	"until = NULL, after = NULL, next = NULL, next_after = NULL, sent = $3, rows = $4, "
	"removed = $5, next_at = $6, problem = $7, retry_at = NULL, failures = 0, "
	"finished_at = pg_catalog.clock_timestamp() " MINE,
	.nargs = 7,
	.argtypes = {INT8OID, INT8OID, TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID}
};

static Statement fail_row = {
	.sql = "UPDATE ordflow.sync_pulls SET state = 'failed', problem = $2, retry_at = $3, "
	"errors = errors + 1, failures = failures + 1 WHERE sync_id = $1",
	.nargs = 3,
	.argtypes = {INT8OID, TEXTOID, TIMESTAMPTZOID}
};

static Statement wait_row = {
	.sql = "UPDATE ordflow.sync_pulls SET state = 'waiting', problem = $3 " MINE,
	.nargs = 3,
	.argtypes = {INT8OID, INT8OID, TEXTOID}
};

static Statement insert_row = {
	.sql = "INSERT INTO ordflow.sync_pulls (sync_id, server, role, next_at) "
	"VALUES ($1, $2, $3, $4)",
	.nargs = 4,
	.argtypes = {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

static Statement alter_row = {
	.sql = "UPDATE ordflow.sync_pulls SET pull = pull + 1, next_at = $2, retry_at = NULL, "
	"bound = CASE WHEN $3 THEN NULL ELSE bound END, until = CASE WHEN $3 THEN NULL ELSE until END, "
	"after = CASE WHEN $3 THEN NULL ELSE after END, next_after = CASE WHEN $3 THEN NULL ELSE "
	"next_after END WHERE sync_id = $1",
	.nargs = 3,
	.argtypes = {INT8OID, TIMESTAMPTZOID, BOOLOID}
};

/* What is kept at a server is cleared by the process of the pull, which deletes the row. */
static Statement drop_row = {
	.sql = "WITH gone AS (DELETE FROM ordflow.sync_pulls WHERE sync_id = $1 "
	"AND (server IS NULL OR pull = 0)) "
	"UPDATE ordflow.sync_pulls SET pull = pull + 1, retry_at = NULL WHERE sync_id = $1 "
	"AND server IS NOT NULL AND pull > 0",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement delete_row = {
	.sql = "DELETE FROM ordflow.sync_pulls p WHERE sync_id = $1 AND NOT EXISTS ("
	"SELECT FROM ordflow.syncs s WHERE s.sync_id = p.sync_id)",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* ---- reading ---- */

static char **
result_texts(uint64 row, int column, int *n)
{
	bool		isnull;
	Datum		value = ordflow_result(row, column, &isnull);
	Datum	   *elements;
	bool	   *nulls;
	char	  **texts;

	*n = 0;
	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements,
					  &nulls, n);
	texts = palloc((*n + 1) * sizeof(char *));
	for (int i = 0; i < *n; i++)
		texts[i] = TextDatumGetCString(elements[i]);
	return texts;
}

static bool
result_bool(uint64 row, int column)
{
	bool		isnull;

	return DatumGetBool(ordflow_result(row, column, &isnull));
}

static TimestampTz
result_time(uint64 row, int column, TimestampTz otherwise)
{
	bool		isnull;
	Datum		value = ordflow_result(row, column, &isnull);

	return isnull ? otherwise : DatumGetTimestampTz(value);
}

PullRow *
ordflow_pull_read_row(int64 sync_id)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		id = Int64GetDatum(sync_id);
	PullRow    *row = NULL;

	SPI_connect();
	if (ordflow_execute(&read_row, &id, NULL) == 1 ||
		(ordflow_execute(&make_row, &id, NULL) == 1 &&
		 ordflow_execute(&read_row, &id, NULL) == 1))
	{
		MemoryContextSwitchTo(context);
		row = palloc0(sizeof(PullRow));
		row->server = ordflow_result_text(0, 1);
		row->role = ordflow_result_text(0, 2);
		row->token = ordflow_result_text(0, 3);
		row->generation = ordflow_result_int64(0, 4);
		row->pull = ordflow_result_int64(0, 5);
		row->bound = ordflow_result_text(0, 6);
		row->until = ordflow_result_text(0, 7);
		row->sent = ordflow_result_text(0, 8);
		row->after = result_texts(0, 9, &row->nafter);
		row->next = ordflow_result_text(0, 10);
		row->next_after = result_texts(0, 11, &row->nnext);
		row->rows = ordflow_result_int64(0, 12);
		row->failures = ordflow_result_int64(0, 13);
		row->next_at = result_time(0, 14, DT_NOEND);
		row->retry_at = result_time(0, 15, DT_NOBEGIN);
		row->unfinished = result_bool(0, 16);
		row->is_over = result_bool(0, 17);
		row->paused = result_bool(0, 18);
	}
	SPI_finish();
	MemoryContextSwitchTo(context);
	return row;
}

/* ---- an attempt ---- */

static char *
this_cluster(void)
{
	return psprintf(UINT64_FORMAT "/%u", GetSystemIdentifier(), MyDatabaseId);
}

static Statement forget_numbers = {
	.sql = "UPDATE ordflow.sync_pulls SET bound = NULL, until = NULL, after = NULL, next = NULL, "
	"next_after = NULL WHERE sync_id = $1 AND cluster <> $2",
	.nargs = 2,
	.argtypes = {INT8OID, TEXTOID}
};

PullRow *
ordflow_pull_start(int64 sync_id)
{
	Datum		values[2] = {Int64GetDatum(sync_id)};
	MemoryContext context = CurrentMemoryContext;

	SPI_connect();
	values[1] = CStringGetTextDatum(this_cluster());
	ordflow_execute(&forget_numbers, values, NULL);
	ordflow_execute(&start_row, values, NULL);
	SPI_finish();
	MemoryContextSwitchTo(context);
	return ordflow_pull_read_row(sync_id);
}

/* A statement of a pull, whose first arguments are its numbers. */
static void
write_mine(Pull *pull, Statement *statement, Datum *values, const char *nulls)
{
	uint64		n;

	values[0] = Int64GetDatum(pull->sync_id);
	values[1] = Int64GetDatum(pull->row->pull);
	SPI_connect();
	n = ordflow_execute(statement, values, nulls);
	SPI_finish();
	if (n == 0)
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("the sync was altered meanwhile"));
}

void
ordflow_pull_set_bound(Pull *pull, const char *until)
{
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};

	pull->row->until = until;
	ORDFLOW_SET_TEXT(values, nulls, 2, until);
	ORDFLOW_SET_TEXT(values, nulls, 3, pull->source->kind == CURSOR_XID ? this_cluster() : NULL);
	write_mine(pull, &set_bound, values, nulls);
}

/* Where the target stands, or NULL. */
static char *
position_text(const Pull *pull)
{
	char	   *text = palloc(SINK_POSITION_TEXT_MAX);

	if (!pull->has_position)
		return NULL;
	sink_position_print(&pull->position, text);
	return text;
}

void
ordflow_pull_anew(Pull *pull)
{
	PullRow    *row = pull->row;
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};

	row->generation = Max(row->generation, pull->position.generation) + 1;
	row->bound = row->until = row->next = NULL;
	row->nafter = row->nnext = 0;
	row->rows = 0;
	row->sent = position_text(pull);
	values[2] = Int64GetDatum(row->generation);
	ORDFLOW_SET_TEXT(values, nulls, 3, row->sent);
	write_mine(pull, &set_anew, values, nulls);
}

static void
set_texts(Datum *values, char *nulls, int i, char **texts, int n)
{
	nulls[i] = n > 0 ? ' ' : 'n';
	values[i] = n > 0 ? ordflow_text_array((const char *const *) texts, n) : (Datum) 0;
}

void
ordflow_pull_note(Pull *pull, const SinkPosition *next, char **after, int nafter)
{
	Datum		values[7];
	char		nulls[7];
	char		text[SINK_POSITION_TEXT_MAX];

	memset(nulls, ' ', sizeof(nulls));
	if (next != NULL)
		sink_position_print(next, text);
	ORDFLOW_SET_TEXT(values, nulls, 2, position_text(pull));
	set_texts(values, nulls, 3, pull->row->after, pull->row->nafter);
	ORDFLOW_SET_TEXT(values, nulls, 4, next != NULL ? text : NULL);
	set_texts(values, nulls, 5, after, next != NULL ? nafter : 0);
	values[6] = Int64GetDatum(pull->row->rows);
	write_mine(pull, &note_place, values, nulls);
}

/* ---- schedules ---- */

/* DT_NOEND: it has none. */
static TimestampTz
next_time(const SyncOptions *options)
{
	Crontab		crontab;
	Problem		problem = {0};
	pg_tz	   *zone = options->schedule ? ordflow_crontab_zone(options->time_zone) : NULL;

	if (zone == NULL || !ordflow_crontab_parse(options->schedule, &crontab, &problem))
		return DT_NOEND;
	return ordflow_crontab_next(&crontab, zone, GetCurrentTimestamp());
}

static void
set_time(Datum *values, char *nulls, int i, TimestampTz at)
{
	nulls[i] = at == DT_NOEND ? 'n' : ' ';
	values[i] = TimestampTzGetDatum(at);
}

void
ordflow_pull_finish(Pull *pull)
{
	Datum		values[7];
	char		nulls[7];

	memset(nulls, ' ', sizeof(nulls));
	ORDFLOW_SET_TEXT(values, nulls, 2, position_text(pull));
	values[3] = Int64GetDatum(pull->row->rows);
	values[4] = Int64GetDatum(pull->removed);
	pull->row->next_at = next_time(pull->route->options);
	set_time(values, nulls, 5, pull->row->next_at);
	ORDFLOW_SET_TEXT(values, nulls, 6, pull->held);
	write_mine(pull, &finish_row, values, nulls);
}

void
ordflow_pull_failed(int64 sync_id, const char *problem, TimestampTz retry_at)
{
	Datum		values[3] = {Int64GetDatum(sync_id), CStringGetTextDatum(problem),
	TimestampTzGetDatum(retry_at)};

	SPI_connect();
	ordflow_execute(&fail_row, values, NULL);
	SPI_finish();
}

void
ordflow_pull_waits(Pull *pull, const char *problem)
{
	Datum		values[3] = {0, 0, CStringGetTextDatum(problem)};

	write_mine(pull, &wait_row, values, NULL);
}

void
ordflow_pull_forget(int64 sync_id)
{
	Datum		id = Int64GetDatum(sync_id);

	SPI_connect();
	ordflow_execute(&delete_row, &id, NULL);
	SPI_finish();
}

/* ---- verbs ---- */

/* A full copy is made at once. */
void
ordflow_pull_created(const SyncDefinition *sync, const SyncOptions *options)
{
	Datum		values[4] = {Int64GetDatum(sync->sync_id)};
	char		nulls[4] = {' ', ' ', ' ', ' '};

	ORDFLOW_SET_TEXT(values, nulls, 1, sync->server);
	values[2] = CStringGetTextDatum(sync->role);
	set_time(values, nulls, 3, strcmp(sync->mode, PULL_FULL) == 0 ? GetCurrentTimestamp() :
			 next_time(options));
	ordflow_execute(&insert_row, values, nulls);
}

void
ordflow_pull_altered(const SyncDefinition *sync, const SyncOptions *options, bool cursor_changed)
{
	Datum		values[3] = {Int64GetDatum(sync->sync_id)};
	char		nulls[3] = {' ', ' ', ' '};

	set_time(values, nulls, 1, next_time(options));
	values[2] = BoolGetDatum(cursor_changed);
	ordflow_execute(&alter_row, values, nulls);
}

void
ordflow_pull_dropped(const SyncDefinition *sync)
{
	Datum		id = Int64GetDatum(sync->sync_id);

	ordflow_execute(&drop_row, &id, NULL);
}

/* ---- the coordinator's ---- */

static Statement list_pulls = {
	.sql = "SELECT s.sync_id, s.name, coalesce(p.state <> 'idle', false), p.next_at, p.retry_at, "
	"s.paused FROM ordflow.syncs s LEFT JOIN ordflow.sync_pulls p USING (sync_id) "
	"WHERE s.mode IN ('" PULL_SCHEDULED "', '" PULL_FULL "') "
	"UNION ALL SELECT p.sync_id, 'dropped', true, NULL, NULL, false FROM ordflow.sync_pulls p "
	"WHERE NOT EXISTS (SELECT FROM ordflow.syncs s WHERE s.sync_id = p.sync_id)"
};

/* When its process is to run; DT_NOBEGIN: it does already, or is asked for. */
static TimestampTz
due_at(uint64 i)
{
	bool		isnull;

	if (DatumGetBool(ordflow_result(i, 6, &isnull)))
		return DT_NOEND;
	if (ordflow_pull_is_wanted(ordflow_result_int64(i, 1)))
		return DT_NOBEGIN;
	if (DatumGetBool(ordflow_result(i, 3, &isnull)))
		return result_time(i, 5, DT_NOBEGIN);
	return result_time(i, 4, DT_NOEND);
}

int
ordflow_pull_names(MemoryContext context, const char ***names, bool *any, TimestampTz *again)
{
	uint64		rows = ordflow_execute(&list_pulls, NULL, NULL);
	TimestampTz now = GetCurrentTimestamp();
	int			n = 0;

	*any = rows > 0;
	*again = DT_NOEND;
	*names = MemoryContextAlloc(context, (rows + 1) * sizeof(char *));
	for (uint64 i = 0; i < rows; i++)
	{
		TimestampTz due = due_at(i);
		char	   *name = psprintf(INT64_FORMAT " %s", ordflow_result_int64(i, 1),
									ordflow_result_text(i, 2));

		if (strlen(name) >= COMPANION_NAME_MAX)
			name[pg_mbcliplen(name, strlen(name), COMPANION_NAME_MAX - 1)] = '\0';
		if (due <= now)
			(*names)[n++] = MemoryContextStrdup(context, name);
		else
			*again = ordflow_earlier(*again, due);
	}
	return n;
}

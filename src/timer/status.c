/*
 * status.c
 *	  The view ordflow.timer_status: what is due, and how punctual the coordinator is.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "timer/internal.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_timer_figures);
PG_FUNCTION_INFO_V1(ordflow_timer_driver_figures);

/* the most rows of a table that are counted as due */
#define DUE_COUNT_MAX 1000000

static Statement is_active = {
	.sql = "SELECT ordflow.is_active('timer')"
};

static Statement count_parked = {
	.sql = "SELECT count(*) FROM ordflow.parked"
};

/* What the tables tell. */
typedef struct Deadlines
{
	const MachineTarget *target;	/* the one to look at */
	TimestampTz next;			/* the first that is still to come */
	int64		due_now;
} Deadlines;

static void
add_table(void *arg)
{
	Deadlines  *deadlines = arg;
	TimestampTz now = GetCurrentTimestamp();
	DueSearch	due = {.from = DT_NOBEGIN, .until = now, .limit = DUE_COUNT_MAX};
	DueSearch	next = {.from = now + 1, .until = DT_NOEND, .limit = 1};
	DueTable	table;
	DueRow	   *rows;

	if (ordflow_due_open(&table, deadlines->target) != DUE_OPEN)
		return;
	ordflow_parked_read(&table, now);
	if (ordflow_due_read(&table, &next, &rows) > 0)
		deadlines->next = Min(deadlines->next, rows[0].due);
	deadlines->due_now += ordflow_due_count(&table, &due);
}

static const char *
state(void)
{
	const char *workers = GetConfigOption("ordflow.workers", true, false);
	bool		isnull;

	if (!ordflow_preloaded || workers == NULL || strcmp(workers, "off") == 0 ||
		RecoveryInProgress())
		return "off";
	ordflow_execute(&is_active, NULL, NULL);
	return DatumGetBool(ordflow_result(0, 1, &isnull)) ? "active" : "inactive";
}

static Datum
interval_of(int64 microseconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = microseconds;
	return IntervalPGetDatum(interval);
}

static void
put_figures(Datum *values, bool *nulls)
{
	TimerFigures figures;
	bool		known = ordflow_figures_read(&figures);

	values[0] = Int64GetDatum(figures.done);
	values[1] = interval_of(ordflow_figures_lateness(&figures, 0.50));
	values[2] = interval_of(ordflow_figures_lateness(&figures, 0.99));
	values[3] = interval_of(figures.lateness_max);
	nulls[1] = nulls[2] = nulls[3] = figures.done == 0;
	nulls[4] = nulls[5] = figures.error_at == 0;
	values[4] = CStringGetTextDatum(psprintf("%s: %s", figures.sqlstate, figures.error));
	values[5] = TimestampTzGetDatum(figures.error_at);
	values[6] = TimestampTzGetDatum(figures.since);
	nulls[6] = !known;
}

/* ---- other drivers ---- */

enum
{
	DRIVER_NAME, DRIVER_SERVER, DRIVER_STATE, DRIVER_SINCE, DRIVER_PUBLISHED, DRIVER_FIRED,
	DRIVER_P50, DRIVER_P99, DRIVER_MAX, DRIVER_ERROR, DRIVER_ERROR_AT, DRIVER_PROBLEM, DRIVER_HINT,
	DRIVER_COLUMNS
};

static void
put_driver(ReturnSetInfo *result, const TimerDriverName *name)
{
	Datum		values[DRIVER_COLUMNS] = {0};
	bool		nulls[DRIVER_COLUMNS] = {0};
	char		entry[COMPANION_NAME_MAX];
	CompanionLook look = {.state = "off"};
	TimerFigures figures = {0};
	bool		known = false;

	snprintf(entry, sizeof(entry), "%s(%s)", name->driver, name->server);
	for (int i = 0; ordflow_workers && ordflow_preloaded && i < COMPANIONS_MAX && !known; i++)
	{
		known = ordflow_companion_look(i, &look) && look.database == MyDatabaseId &&
			look.role == COMPANION_DRIVER && strcmp(look.name, entry) == 0;
		if (known)
			ordflow_figures_read_driver(i, &figures);
	}
	values[DRIVER_NAME] = CStringGetTextDatum(name->driver);
	values[DRIVER_SERVER] = CStringGetTextDatum(name->server);
	values[DRIVER_STATE] = CStringGetTextDatum(!known ? "resting" :
											   look.problem[0] != '\0' ? "failing" : look.state);
	values[DRIVER_SINCE] = TimestampTzGetDatum(look.since);
	nulls[DRIVER_SINCE] = !known;
	values[DRIVER_PUBLISHED] = Int64GetDatum(figures.published);
	values[DRIVER_FIRED] = Int64GetDatum(figures.done);
	values[DRIVER_P50] = interval_of(ordflow_figures_lateness(&figures, 0.50));
	values[DRIVER_P99] = interval_of(ordflow_figures_lateness(&figures, 0.99));
	values[DRIVER_MAX] = interval_of(figures.lateness_max);
	nulls[DRIVER_P50] = nulls[DRIVER_P99] = nulls[DRIVER_MAX] = figures.done == 0;
	ORDFLOW_PUT_TEXT(values, nulls, DRIVER_ERROR, figures.error_at == 0 ? NULL :
					 psprintf("%s: %s", figures.sqlstate, figures.error));
	values[DRIVER_ERROR_AT] = TimestampTzGetDatum(figures.error_at);
	nulls[DRIVER_ERROR_AT] = figures.error_at == 0;
	ORDFLOW_PUT_TEXT(values, nulls, DRIVER_PROBLEM,
					 known && look.problem[0] != '\0' ? look.problem : NULL);
	ORDFLOW_PUT_TEXT(values, nulls, DRIVER_HINT,
					 known && look.hint[0] != '\0' ? look.hint : NULL);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Those of this session's setting: the database's, unless it was set otherwise. */
Datum
ordflow_timer_driver_figures(PG_FUNCTION_ARGS)
{
	TimerDriverName names[TIMER_DRIVERS_MAX];
	int			n = ordflow_timer_driver_names(ordflow_timer_drivers, names);

	ordflow_require_version();
	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
		if (names[i].server[0] != '\0')
			put_driver((ReturnSetInfo *) fcinfo->resultinfo, &names[i]);
	return (Datum) 0;
}

Datum
ordflow_timer_figures(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	TupleDesc	desc;
	Deadlines	deadlines = {.next = DT_NOEND};
	ListCell   *cell;
	Datum		values[11];
	bool		nulls[11] = {false};
	Datum		result;

	ordflow_require_version();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	SPI_connect();
	foreach(cell, lappend(ordflow_machine_targets(InvalidOid), ordflow_due_holds()))
	{
		deadlines.target = lfirst(cell);
		if (deadlines.target->due_column != NULL)
			ordflow_due_attempt(add_table, &deadlines);
	}
	values[0] = CStringGetTextDatum(state());
	values[1] = TimestampTzGetDatum(deadlines.next);
	nulls[1] = deadlines.next == DT_NOEND;
	values[2] = Int64GetDatum(deadlines.due_now);
	ordflow_execute(&count_parked, NULL, NULL);
	values[3] = Int64GetDatum(ordflow_result_int64(0, 1));
	put_figures(&values[4], &nulls[4]);
	MemoryContextSwitchTo(context);
	result = HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
	SPI_finish();
	PG_RETURN_DATUM(result);
}

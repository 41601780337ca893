/*
 * run_due.c
 *	  Fires what is due in one call, for any scheduler; nothing is kept between calls.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "timer/internal.h"

PG_FUNCTION_INFO_V1(ordflow_run_due);

/* the most objects that one call takes */
#define DUE_ROWS_MAX 100000

static void
settle_ready(void *arg)
{
	const DueRun *run = arg;
	const DueTable *table = run->table;
	DueSearch	search = {
		.keys = table->ready, .nkeys = table->nready,
		.until = run->search.until, .limit = table->nready
	};
	DueRow	   *rows;
	int			n = ordflow_due_read(table, &search, &rows);

	ordflow_parked_settle(table, search.until, table->ready, table->nready, rows, n);
}

/* A table that somebody has locked is left for the next call, so that it holds up no other. */
static int
run_table(const MachineTarget *target, TimestampTz now, int max_rows)
{
	DueTable	table;
	DueRun		run = {
		.table = &table,
		.search = {.from = DT_NOBEGIN, .until = now, .limit = max_rows}
	};
	ErrorData  *error;

	switch (ordflow_due_open(&table, target))
	{
		case DUE_OPEN:
			break;
		case DUE_BROKEN:
			ordflow_due_warn_broken(&table);
			return 0;
		default:
			return 0;
	}
	ordflow_parked_read(&table, now);
	error = ordflow_due_fire(&run);
	if (error != NULL)
	{
		ordflow_due_warn_failed(&table, error);
		return 0;
	}
	if (table.nready > 0)
		ordflow_due_attempt(settle_ready, &run);
	return run.nfired;
}

static int
run_tables(TimestampTz now, int max_rows)
{
	MemoryContext turn = AllocSetContextCreate(CurrentMemoryContext, "ordflow due objects",
											   ALLOCSET_DEFAULT_SIZES);
	List	   *targets;
	ListCell   *cell;
	int			fired = 0;

	SPI_connect();
	ordflow_parked_remove_stale(now);
	targets = lappend(ordflow_machine_targets(InvalidOid), ordflow_due_holds());
	foreach(cell, targets)
	{
		const MachineTarget *target = lfirst(cell);
		MemoryContext old = MemoryContextSwitchTo(turn);

		CHECK_FOR_INTERRUPTS();
		if (fired < max_rows && target->due_column != NULL)
			fired += run_table(target, now, max_rows - fired);
		MemoryContextSwitchTo(old);
		MemoryContextReset(turn);
	}
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
	if (max_rows > DUE_ROWS_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("max_rows may be at most %d", DUE_ROWS_MAX));

	/* nobody but a superuser lets time run ahead, nor a hook in his session */
	if (!superuser_arg(GetOuterUserId()) || InSecurityRestrictedOperation())
		now = Min(now, GetCurrentTimestamp());
	PG_RETURN_INT32(run_tables(now, max_rows));
}

/*
 * spi.c
 *	  Statements whose plans are kept for the life of the backend.
 *
 * The plans are generic: our statements reach their rows by unique indexes or
 * by arrays, so a custom plan would only cost its planning.
 *
 * A kept plan outlives the size of the tables it was made for.  A shop's first orders
 * would be planned by scans of nearly empty tables, and every backend would keep
 * scanning while they grow, until the next ANALYZE (400 times slower at
 * 200,000 orders).  So our statements are planned as for tables that are large.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "jit/jit.h"
#include "nodes/parsenodes.h"
#include "optimizer/plancat.h"
#include "utils/builtins.h"
#include "utils/plancache.h"
#include "utils/resowner.h"

#include "base/base.h"

#define LARGE_TUPLES	1000000.0
#define TUPLES_A_PAGE	50

static bool planning = false;
static get_relation_info_hook_type previous_relation_info = NULL;

/* Whatever is planned while we plan is ours. */
static void
large_relation_info(PlannerInfo *root, Oid relid, bool inhparent, RelOptInfo *rel)
{
	ListCell   *cell;

	if (previous_relation_info)
		previous_relation_info(root, relid, inhparent, rel);
	if (!planning)
		return;
	rel->tuples = Max(rel->tuples, LARGE_TUPLES);
	rel->pages = Max(rel->pages, LARGE_TUPLES / TUPLES_A_PAGE);
	foreach(cell, rel->indexlist)
	{
		IndexOptInfo *index = lfirst(cell);

		index->tuples = Max(index->tuples, LARGE_TUPLES);
		index->pages = Max(index->pages, LARGE_TUPLES / TUPLES_A_PAGE / 5);
		index->tree_height = Max(index->tree_height, 2);
	}
}

void
ordflow_statements_init(void)
{
	previous_relation_info = get_relation_info_hook;
	get_relation_info_hook = large_relation_info;
}

/*
 * Makes the generic plan now, when it was invalidated too.  Without JIT, which goes by the cost:
 * large tables make it high, and compiling took 200 ms of every call.
 */
static void
statement_plan(Statement *statement)
{
	bool		jit = jit_enabled;

	planning = true;
	jit_enabled = false;
	PG_TRY();
	{
		CachedPlan *plan = SPI_plan_get_cached_plan(statement->plan);

		if (plan != NULL)
			ReleaseCachedPlan(plan, CurrentResourceOwner);
	}
	PG_FINALLY();
	{
		planning = false;
		jit_enabled = jit;
	}
	PG_END_TRY();
}

static void
statement_prepare(Statement *statement)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(statement->sql, statement->nargs,
										  statement->argtypes, CURSOR_OPT_GENERIC_PLAN);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\"", statement->sql);
	statement->plan = plan;
}

uint64
ordflow_execute(Statement *statement, Datum *values, const char *nulls)
{
	int			status;

	if (statement->plan == NULL)
	{
		statement_prepare(statement);
		statement_plan(statement);
	}
	else if (!SPI_plan_is_valid(statement->plan))
		statement_plan(statement);
	status = SPI_execute_plan(statement->plan, values, nulls, false, 0);
	if (status < 0)
		elog(ERROR, "could not execute \"%s\": %s", statement->sql,
			 SPI_result_code_string(status));
	return SPI_processed;
}

Datum
ordflow_result(uint64 row, int column, bool *isnull)
{
	Assert(row < SPI_tuptable->numvals);
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

int64
ordflow_result_int64(uint64 row, int column)
{
	bool		isnull;
	Datum		value = ordflow_result(row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

char *
ordflow_result_text(uint64 row, int column)
{
	bool		isnull;
	Datum		value = ordflow_result(row, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

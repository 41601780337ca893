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
 *
 * They are planned again whenever PostgreSQL holds that necessary, in the middle of the
 * execution: by DDL, by ANALYZE, by a search_path or a role that changed.  Cursor options of our
 * own tell them then from the statements of others.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "jit/jit.h"
#include "nodes/parsenodes.h"
#include "optimizer/cost.h"
#include "optimizer/plancat.h"
#include "optimizer/planner.h"
#include "utils/builtins.h"

#include "utils/snapmgr.h"

#include "base/base.h"

#define LARGE_TUPLES	1000000.0
#define TUPLES_A_PAGE	50

#define STATEMENT_OPTIONS (CURSOR_OPT_GENERIC_PLAN | ORDFLOW_PLAN_LARGE)
#define OUR_OPTIONS (ORDFLOW_PLAN_LARGE | ORDFLOW_PLAN_BY_INDEX)

/*
 * What the planner may not use.  The first goes for every plan of ours: JIT goes by the cost, large
 * tables make it high, and compiling took 200 ms of every call.
 */
static bool *const forbidden[] = {&jit_enabled, &enable_seqscan, &enable_bitmapscan, &enable_sort};

static int	planning = 0;		/* the options of ours of what is being planned */
static bool allowed[lengthof(forbidden)];	/* by the user's settings, while that is not 0 */
static get_relation_info_hook_type previous_relation_info = NULL;
static planner_hook_type next_planner = NULL;

static void
large_relation_info(PlannerInfo *root, Oid relid, bool inhparent, RelOptInfo *rel)
{
	ListCell   *cell;

	if (previous_relation_info)
		previous_relation_info(root, relid, inhparent, rel);
	if (planning == 0)
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

static void
planning_set(int options)
{
	for (int i = 0; i < lengthof(forbidden); i++)
	{
		bool		forbid = (options & (i == 0 ? OUR_OPTIONS : ORDFLOW_PLAN_BY_INDEX)) != 0;

		if (planning == 0)
			allowed[i] = *forbidden[i];
		*forbidden[i] = allowed[i] && !forbid;
	}
	planning = options;
}

/* Planning may run functions, and so plan a statement of others in the middle of one of ours. */
static PlannedStmt *
plan_statement(Query *parse, const char *query_string, int options, ParamListInfo params)
{
	int			ours = options & OUR_OPTIONS;
	int			outer = planning;
	PlannedStmt *volatile result;

	if (ours == outer)
		return next_planner(parse, query_string, options, params);
	planning_set(ours);
	PG_TRY();
	{
		result = next_planner(parse, query_string, options, params);
	}
	PG_FINALLY();
	{
		planning_set(outer);
	}
	PG_END_TRY();
	return result;
}

void
ordflow_statements_init(void)
{
	previous_relation_info = get_relation_info_hook;
	get_relation_info_hook = large_relation_info;
	next_planner = planner_hook != NULL ? planner_hook : standard_planner;
	planner_hook = plan_statement;
}

static void
statement_prepare(Statement *statement)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(statement->sql, statement->nargs,
										  statement->argtypes, STATEMENT_OPTIONS);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\"", statement->sql);
	statement->plan = plan;
}

uint64
ordflow_execute(Statement *statement, Datum *values, const char *nulls)
{
	int			status;

	if (statement->plan == NULL)
		statement_prepare(statement);
	status = SPI_execute_plan(statement->plan, values, nulls, false, 0);
	if (status < 0)
		elog(ERROR, "could not execute \"%s\": %s", statement->sql,
			 SPI_result_code_string(status));
	return SPI_processed;
}

uint64
ordflow_execute_latest(Statement *statement, Datum *values, const char *nulls)
{
	Snapshot	snapshot;
	int			status;

	if (statement->plan == NULL)
		statement_prepare(statement);
	snapshot = ordflow_register_latest();
	status = SPI_execute_snapshot(statement->plan, values, nulls, snapshot, InvalidSnapshot, false,
								  true, 0);
	UnregisterSnapshot(snapshot);
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

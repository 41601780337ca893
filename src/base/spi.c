/*
 * spi.c
 *	  Statements whose plans are kept for the life of the backend.
 *
 * The plans are generic: our statements reach their rows by unique indexes or
 * by arrays, so a custom plan would only cost its planning.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"

#include "base/base.h"

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
		statement_prepare(statement);
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

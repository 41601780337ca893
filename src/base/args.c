/*
 * args.c
 *	  Guards of arguments, named for what they ensure.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "base/base.h"

void
ordflow_require_not_null(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("argument \"%s\" may not be NULL", name));
}

bool
ordflow_check_text(const char *value, const char *name, Problem *problem)
{
	if (value[0] == '\0')
		return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL, NULL,
							  "%s may not be empty", name);
	if (strlen(value) > ORDFLOW_TEXT_MAX)
		return ordflow_refuse(problem, ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
							  psprintf("It has %zu bytes, %d are allowed.",
									   strlen(value), ORDFLOW_TEXT_MAX), NULL,
							  "%s is too long", name);
	return true;
}

char *
ordflow_arg_text(FunctionCallInfo fcinfo, int argno, const char *name)
{
	ordflow_require_not_null(fcinfo, argno, name);
	return ordflow_arg_text_or_null(fcinfo, argno, name);
}

char *
ordflow_arg_text_or_null(FunctionCallInfo fcinfo, int argno, const char *name)
{
	char	   *value;

	if (PG_ARGISNULL(argno))
		return NULL;
	value = text_to_cstring(PG_GETARG_TEXT_PP(argno));
	ordflow_check_text(value, name, NULL);
	return value;
}

int64
ordflow_arg_quantity(FunctionCallInfo fcinfo, int argno, const char *name)
{
	int64		quantity;

	ordflow_require_not_null(fcinfo, argno, name);
	quantity = PG_GETARG_INT64(argno);
	if (quantity < 1)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s must be at least 1", name));
	if (quantity > ORDFLOW_QUANTITY_MAX)
		ereport(ERROR,
				errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				errmsg("%s may be at most %lld", name, (long long) ORDFLOW_QUANTITY_MAX));
	return quantity;
}

#define YEARS_MAX 100

/* Each field for itself, so that the sum with a time of today cannot overflow. */
static bool
fits(const Interval *interval)
{
	int			months = YEARS_MAX * MONTHS_PER_YEAR;
	int			days = YEARS_MAX * 366;

	return interval->month >= -months && interval->month <= months &&
		interval->day >= -days && interval->day <= days &&
		interval->time >= -days * USECS_PER_DAY && interval->time <= days * USECS_PER_DAY;
}

static TimestampTz
later(TimestampTz from, const Interval *interval)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(from),
												   IntervalPGetDatum(interval)));
}

bool
ordflow_check_interval(Interval *interval, const char *what, TimestampTz now, Problem *problem)
{
	Interval	most = {.month = YEARS_MAX * MONTHS_PER_YEAR};

	if (!fits(interval) || later(now, interval) > later(now, &most))
		return ordflow_refuse(problem, ERRCODE_DATETIME_FIELD_OVERFLOW, NULL, NULL,
							  "%s may be at most %d years", what, YEARS_MAX);
	if (later(now, interval) <= now)
		return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL, NULL,
							  "%s must be above zero", what);
	return true;
}

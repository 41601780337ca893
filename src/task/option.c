/*
 * option.c
 *	  The options of define_task() and of submitting, read from JSON.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "task/option.h"

#define CONCURRENT_MAX 10000
#define ATTEMPTS_MAX 1000
#define CRASHES_MAX 100
#define RATE_MIN 0.0001
#define RATE_MAX 1e6

/* The only home of these defaults; ordflow.task_retention is that of retention. */
#define DEFAULT_ATTEMPTS 20
#define DEFAULT_CRASHES 3
#define DEFAULT_BACKOFF "1 s"
#define DEFAULT_BACKOFF_MAX "6 h"
#define DEFAULT_TIMEOUT "60 s"

static void
read_options(FunctionCallInfo fcinfo, int argno, const JsonField *fields, int nfields,
			 JsonItem *items)
{
	ordflow_require_not_null(fcinfo, argno, "options");
	ordflow_json_read(&PG_GETARG_JSONB_P(argno)->root, "options", fields, nfields, items, NULL);
}

/* ---- submitting ---- */

enum
{
	SUBMIT_PRIORITY, SUBMIT_RUN_AT, SUBMIT_KEY, SUBMIT_OTHER, SUBMIT_FIELDS
};

#define SUBMIT_COMMON \
	{"priority", JSON_AMOUNT}, \
	{"run_at", JSON_TEXT}, \
	{"key", JSON_TEXT}

static const JsonField batch_fields[SUBMIT_FIELDS] = {SUBMIT_COMMON, {"on_finish", JSON_TEXT}};
static const JsonField task_fields[SUBMIT_FIELDS] = {SUBMIT_COMMON, {"unique_key", JSON_TEXT}};

static int
priority_of(const JsonItem *item)
{
	double		value;

	if (item->null)
		return 0;
	value = DatumGetFloat8(DirectFunctionCall1(numeric_float8, item->amount));
	if (value < 0 || value >= TASK_PRIORITIES || value != floor(value))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("priority must be a whole number from 0 to %d", TASK_PRIORITIES - 1),
				errhint("%d goes first.", TASK_PRIORITIES - 1));
	return (int) value;
}

static TimestampTz
time_of(const JsonItem *item)
{
	TimestampTz at;

	if (item->null)
		return DT_NOBEGIN;
	at = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(item->text),
												 ObjectIdGetDatum(InvalidOid),
												 Int32GetDatum(-1)));
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("run_at must be finite"));
	return at;
}

static char *
unique_key_of(const JsonItem *item)
{
	if (item->null)
		return NULL;
	if (strncmp(item->text, SCHEDULE_KEY, strlen(SCHEDULE_KEY)) == 0)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("unique keys that begin with \"" SCHEDULE_KEY "\" are those of schedules"));
	return item->text;
}

void
ordflow_submit_options(FunctionCallInfo fcinfo, int argno, bool batch, SubmitOptions *options)
{
	JsonItem	items[SUBMIT_FIELDS];

	read_options(fcinfo, argno, batch ? batch_fields : task_fields, SUBMIT_FIELDS, items);
	*options = (SubmitOptions) {
		.priority = priority_of(&items[SUBMIT_PRIORITY]),
		.run_at = time_of(&items[SUBMIT_RUN_AT]),
		.key = items[SUBMIT_KEY].text
	};
	if (!batch)
		options->unique_key = unique_key_of(&items[SUBMIT_OTHER]);
	else if (!items[SUBMIT_OTHER].null)
	{
		options->on_finish = ordflow_kind_by_name(items[SUBMIT_OTHER].text);
		ordflow_kind_require_submit(options->on_finish);
	}
}

/* ---- kinds ---- */

enum
{
	KIND_SHORT, KIND_MAX_CONCURRENT, KIND_PER_KEY, KIND_RATE, KIND_MAX_ATTEMPTS,
	KIND_MAX_CRASHES, KIND_BACKOFF, KIND_BACKOFF_MAX, KIND_TIMEOUT, KIND_RETENTION, KIND_NOTIFY,
	KIND_FIELDS
};

static const JsonField kind_fields[KIND_FIELDS] = {
	{"short", JSON_BOOLEAN},
	{"max_concurrent", JSON_QUANTITY},
	{"per_key", JSON_QUANTITY},
	{"rate", JSON_AMOUNT},
	{"max_attempts", JSON_QUANTITY},
	{"max_crashes", JSON_QUANTITY},
	{"backoff", JSON_TEXT},
	{"backoff_max", JSON_TEXT},
	{"timeout", JSON_TEXT},
	{"retention", JSON_TEXT},
	{"notify", JSON_BOOLEAN}
};

static int32
count_of(const JsonItem *items, int field, int max, int32 otherwise)
{
	if (items[field].null)
		return otherwise;
	if (items[field].quantity > max)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s must be at most %d", kind_fields[field].name, max));
	return (int32) items[field].quantity;
}

static double
rate_of(const JsonItem *item)
{
	double		rate;

	if (item->null)
		return 0;
	rate = DatumGetFloat8(DirectFunctionCall1(numeric_float8, item->amount));
	if (rate < RATE_MIN || rate > RATE_MAX)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("rate must be between %g and %.0f starts a second", RATE_MIN, RATE_MAX));
	return rate;
}

static Interval *
interval_in_text(const char *text)
{
	return DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text),
												 ObjectIdGetDatum(InvalidOid),
												 Int32GetDatum(-1)));
}

static Interval *
interval_of(const JsonItem *items, int field, const char *otherwise)
{
	Interval   *interval;

	if (items[field].null)
		return otherwise == NULL ? NULL : interval_in_text(otherwise);
	interval = interval_in_text(items[field].text);
	ordflow_check_interval(interval, kind_fields[field].name, GetCurrentTimestamp(), NULL);
	return interval;
}

/* 0: none. */
static Interval *
timeout_of(const JsonItem *items, bool has_handler)
{
	const JsonItem *item = &items[KIND_TIMEOUT];

	if (!item->null)
	{
		const Interval *interval = interval_in_text(item->text);

		if (interval->time == 0 && interval->day == 0 && interval->month == 0)
			return NULL;
	}
	return interval_of(items, KIND_TIMEOUT, has_handler ? DEFAULT_TIMEOUT : NULL);
}

void
ordflow_kind_options(FunctionCallInfo fcinfo, int argno, bool has_handler, KindOptions *options)
{
	JsonItem	items[KIND_FIELDS];

	read_options(fcinfo, argno, kind_fields, KIND_FIELDS, items);
	*options = (KindOptions) {
		.is_short = !items[KIND_SHORT].null && items[KIND_SHORT].boolean,
		.max_concurrent = count_of(items, KIND_MAX_CONCURRENT, CONCURRENT_MAX, 0),
		.per_key = count_of(items, KIND_PER_KEY, CONCURRENT_MAX, 0),
		.rate = rate_of(&items[KIND_RATE]),
		.max_attempts = count_of(items, KIND_MAX_ATTEMPTS, ATTEMPTS_MAX, DEFAULT_ATTEMPTS),
		.max_crashes = count_of(items, KIND_MAX_CRASHES, CRASHES_MAX, DEFAULT_CRASHES),
		.backoff = interval_of(items, KIND_BACKOFF, DEFAULT_BACKOFF),
		.backoff_max = interval_of(items, KIND_BACKOFF_MAX, DEFAULT_BACKOFF_MAX),
		.timeout = timeout_of(items, has_handler),
		.retention = interval_of(items, KIND_RETENTION, NULL),
		.notify = !items[KIND_NOTIFY].null && items[KIND_NOTIFY].boolean
	};
}

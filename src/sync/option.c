/*
 * option.c
 *	  The options of a sync: the core's own, and those of its sink.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "base/json.h"
#include "sync/internal.h"
#include "sync/pull.h"

#define BATCH_ROWS_MAX	SINK_ITEMS_MAX
#define RATE_MAX		10000000
#define TEXT_MAX		10000

/* Which modes take an option: a word of each, or NULL for all. */
static const struct
{
	const char *name;
	const char *modes;
}			core_options[] = {
	{"columns"}, {"filter"}, {"key"}, {"format"}, {"on_error"}, {"on_truncate"}, {"batch_rows"},
	{"rate"}, {"copy", "cdc dual_write"}, {"cursor", PULL_SCHEDULED}, {"overlap", PULL_SCHEDULED},
	{"schedule", PULL_SCHEDULED " " PULL_FULL}, {"time_zone", PULL_SCHEDULED " " PULL_FULL},
	{"remove", PULL_FULL}
};

static bool
is_of_mode(int option, const char *mode)
{
	return core_options[option].modes == NULL || strstr(core_options[option].modes, mode) != NULL;
}

static bool
is_core(const char *name, size_t length, const char *mode)
{
	for (int i = 0; i < lengthof(core_options); i++)
		if (strlen(core_options[i].name) == length &&
			strncmp(core_options[i].name, name, length) == 0)
			return is_of_mode(i, mode);
	return false;
}

static const SinkOption *
sink_option(const Sink *sink, const char *name, size_t length)
{
	for (int i = 0; sink != NULL && i < sink->noptions; i++)
		if (strlen(sink->options[i].name) == length &&
			strncmp(sink->options[i].name, name, length) == 0)
			return &sink->options[i];
	return NULL;
}

static void
refuse_unknown(Jsonb *options, const Sink *sink, const char *mode)
{
	JsonbIterator *iterator = JsonbIteratorInit(&options->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	StringInfoData names;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		if (token != WJB_KEY || is_core(value.val.string.val, value.val.string.len, mode) ||
			sink_option(sink, value.val.string.val, value.val.string.len) != NULL)
			continue;
		initStringInfo(&names);
		for (int i = 0; i < lengthof(core_options); i++)
			if (is_of_mode(i, mode))
				appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", core_options[i].name);
		for (int i = 0; sink != NULL && i < sink->noptions; i++)
			appendStringInfo(&names, ", %s", sink->options[i].name);
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("there is no option \"%.*s\" here", value.val.string.len,
					   value.val.string.val),
				errhint("Valid options are: %s.", names.data));
	}
}

pg_noreturn static void
bad_value(const char *name, const char *what)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("option \"%s\" must be %s", name, what));
}

/*
 * Is it one expression?  It will stand in parentheses in a query, a line of their own closing them;
 * so it is parsed without.  Names are looked up there.
 */
void
ordflow_sync_expression(const char *option, const char *expression)
{
	List	   *parsed = raw_parser(psprintf("SELECT %s", expression), RAW_PARSE_DEFAULT);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;

	if (list_length(parsed) == 1 && IsA(select, SelectStmt) && select->op == SETOP_NONE &&
		list_length(select->targetList) == 1 && select->distinctClause == NIL &&
		select->intoClause == NULL && select->fromClause == NIL && select->whereClause == NULL &&
		select->groupClause == NIL && select->havingClause == NULL &&
		select->windowClause == NIL && select->sortClause == NIL && select->limitCount == NULL &&
		select->limitOffset == NULL && select->lockingClause == NIL &&
		linitial_node(ResTarget, select->targetList)->name == NULL)
		return;
	ereport(ERROR,
			errcode(ERRCODE_SYNTAX_ERROR),
			errmsg("option \"%s\" is not one expression: %s", option, expression));
}

/* NULL: it is not there, or null. */
static JsonbValue *
find(Jsonb *options, const char *name)
{
	JsonbValue *value = getKeyJsonValueFromContainer(&options->root, name, strlen(name), NULL);

	return value == NULL || value->type == jbvNull ? NULL : value;
}

static char *
read_text(const JsonbValue *value, const char *name)
{
	char	   *text;

	if (value->type != jbvString || value->val.string.len == 0 ||
		value->val.string.len > TEXT_MAX)
		bad_value(name, psprintf("a text of at most %d bytes", TEXT_MAX));
	text = pnstrdup(value->val.string.val, value->val.string.len);
	return text;
}

static int64
read_int(const JsonbValue *value, const char *name, int64 min, int64 max)
{
	int64		number = min - 1;
	Numeric		given;

	if (value->type == jbvNumeric)
	{
		given = value->val.numeric;
		if (DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(given),
											 DirectFunctionCall2(numeric_trunc,
																 NumericGetDatum(given),
																 Int32GetDatum(0)))) &&
			DatumGetBool(DirectFunctionCall2(numeric_le, NumericGetDatum(given),
											 NumericGetDatum(int64_to_numeric(max)))) &&
			DatumGetBool(DirectFunctionCall2(numeric_ge, NumericGetDatum(given),
											 NumericGetDatum(int64_to_numeric(min)))))
			number = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(given)));
	}
	if (number < min)
		bad_value(name, psprintf("a whole number from " INT64_FORMAT " to "
					"" INT64_FORMAT, min, max));
	return number;
}

/* The place of a word in a list of choices; raises where it is none of them. */
static int
read_choice(const JsonbValue *value, const char *name, const char *const *choices, int n)
{
	StringInfoData list;

	for (int i = 0; i < n && value->type == jbvString; i++)
		if (strlen(choices[i]) == value->val.string.len &&
			strncmp(choices[i], value->val.string.val, value->val.string.len) == 0)
			return i;
	initStringInfo(&list);
	for (int i = 0; i < n; i++)
		appendStringInfo(&list, "%s%s", i > 0 ? ", " : "", choices[i]);
	bad_value(name, psprintf("one of %s", list.data));
}

#define READ_CHOICE(options, name, into, ...) \
	do { \
		static const char *const choices_[] = {__VA_ARGS__}; \
		JsonbValue *value_ = find((options), (name)); \
		if (value_ != NULL) \
			(into) = read_choice(value_, (name), choices_, lengthof(choices_)); \
	} while (0)

/* ---- the sink's ---- */

static const char *
read_seconds(const SinkOption *option, const JsonbValue *value)
{
	char	   *text = read_text(value, option->name);
	Interval   *interval = DatumGetIntervalP(DirectFunctionCall3(interval_in,
																 CStringGetDatum(text),
																 ObjectIdGetDatum(InvalidOid),
																 Int32GetDatum(-1)));
	int64		seconds = interval->time / USECS_PER_SEC +
		(interval->day + (int64) interval->month * DAYS_PER_MONTH) * SECS_PER_DAY;

	if (seconds < option->min || seconds > option->max)
		bad_value(option->name, psprintf("an interval from " INT64_FORMAT " to " INT64_FORMAT
										 " seconds", option->min, option->max));
	return psprintf(INT64_FORMAT, seconds);
}

static const char *
read_sink_choice(const SinkOption *option, const JsonbValue *value)
{
	char	   *text = read_text(value, option->name);
	char	   *choices = pstrdup(option->choices);

	for (char *word = strtok(choices, ", "); word != NULL; word = strtok(NULL, ", "))
		if (strcmp(word, text) == 0)
			return text;
	bad_value(option->name, psprintf("one of %s", option->choices));
}

static const char *
read_sink_option(const SinkOption *option, const JsonbValue *value)
{
	if (value == NULL)
		return option->default_value;
	switch (option->kind)
	{
		case SINK_OPTION_INT:
			return psprintf(INT64_FORMAT, read_int(value, option->name, option->min, option->max));
		case SINK_OPTION_BOOLEAN:
			if (value->type != jbvBool)
				bad_value(option->name, "true or false");
			return value->val.boolean ? "on" : "off";
		case SINK_OPTION_SECONDS:
			return read_seconds(option, value);
		case SINK_OPTION_CHOICE:
			return read_sink_choice(option, value);
		default:
			return read_text(value, option->name);
	}
}

static void
read_sink_options(Jsonb *options, const Sink *sink, SyncOptions *result)
{
	if (sink == NULL || sink->noptions == 0)
		return;
	result->nsink_options = sink->noptions;
	result->sink_options = palloc0(sink->noptions * sizeof(ModuleOption));
	for (int i = 0; i < sink->noptions; i++)
	{
		result->sink_options[i].name = sink->options[i].name;
		result->sink_options[i].value =
			read_sink_option(&sink->options[i], find(options, sink->options[i].name));
	}
}

/* ---- the core's ---- */

static bool
is_name(const char *expression)
{
	for (const char *c = expression; *c != '\0'; c++)
		if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9' && c > expression) ||
			  *c == '_' || IS_HIGHBIT_SET(*c)))
			return false;
	return true;
}

static void
add_column(SyncOptions *result, const char *column, const char *expression)
{
	for (int i = 0; i < result->ncolumns; i++)
		if (strcmp(result->columns[i], column) == 0)
			ereport(ERROR,
					errcode(ERRCODE_DUPLICATE_COLUMN),
					errmsg("option \"columns\" names \"%s\" twice", column));
	if (strlen(column) >= NAMEDATALEN)
		bad_value("columns", "made of names of at most 63 bytes");
	result->columns[result->ncolumns] = column;
	result->expressions[result->ncolumns++] = expression;
	if (is_name(expression))
		return;
	ordflow_sync_expression("columns", expression);
	result->plain = false;
}

static void
read_columns(const JsonbValue *value, SyncOptions *result)
{
	JsonbIterator *iterator;
	JsonbIteratorToken token;
	JsonbValue	item;
	char	   *column = NULL;
	int			n;

	if (value == NULL)
		return;
	if (value->type != jbvBinary || JsonContainerSize(value->val.binary.data) == 0)
		bad_value("columns", "a list of columns, or an object of columns and expressions");
	n = JsonContainerSize(value->val.binary.data);
	result->columns = palloc0(n * sizeof(char *));
	result->expressions = palloc0(n * sizeof(char *));
	iterator = JsonbIteratorInit(value->val.binary.data);
	while ((token = JsonbIteratorNext(&iterator, &item, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			column = pnstrdup(item.val.string.val, item.val.string.len);
		else if (token == WJB_VALUE)
			add_column(result, column, read_text(&item, "columns"));
		else if (token == WJB_ELEM)
			add_column(result, read_text(&item, "columns"), read_text(&item, "columns"));
	}
}

static void
read_keys(const JsonbValue *value, SyncOptions *result)
{
	if (value == NULL)
		return;
	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data) ||
		JsonContainerSize(value->val.binary.data) == 0)
		bad_value("key", "a list of columns of the target");
	result->keys = palloc0(JsonContainerSize(value->val.binary.data) * sizeof(char *));
	for (uint32 i = 0; i < JsonContainerSize(value->val.binary.data); i++)
		result->keys[result->nkeys++] =
			read_text(getIthJsonbValueFromContainer(value->val.binary.data, i), "key");
}

static bool
read_bool(const JsonbValue *value, const char *name, bool otherwise)
{
	if (value == NULL)
		return otherwise;
	if (value->type != jbvBool)
		bad_value(name, "true or false");
	return value->val.boolean;
}

/* Of a number its digits. */
static const char *
read_overlap(const JsonbValue *value)
{
	if (value->type == jbvNumeric)
		return DatumGetCString(DirectFunctionCall1(numeric_out,
												   NumericGetDatum(value->val.numeric)));
	return read_text(value, "overlap");
}

/* Of syncs that are pulled. */
static void
read_pull_options(Jsonb *options, SyncOptions *result)
{
	const JsonbValue *value;

	value = find(options, "cursor");
	result->cursor = value ? read_text(value, "cursor") : NULL;
	value = find(options, "overlap");
	result->overlap = value ? read_overlap(value) : NULL;
	value = find(options, "schedule");
	result->schedule = value ? read_text(value, "schedule") : NULL;
	value = find(options, "time_zone");
	result->time_zone = value ? read_text(value, "time_zone") : "UTC";
	result->remove = read_bool(find(options, "remove"), "remove", true);
}

SyncOptions *
ordflow_sync_options(Jsonb *options, const Sink *sink, const char *mode)
{
	SyncOptions *result = palloc0(sizeof(SyncOptions));
	JsonbValue *value;
	int			format = FORMAT_JSON;
	int			on_error = ON_ERROR_PARK;
	int			on_truncate = ON_TRUNCATE_APPLY;

	if (!JB_ROOT_IS_OBJECT(options))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("options must be a JSON object"));
	refuse_unknown(options, sink, mode);
	result->plain = true;
	read_columns(find(options, "columns"), result);
	read_keys(find(options, "key"), result);
	value = find(options, "filter");
	if (value != NULL)
	{
		result->filter = read_text(value, "filter");
		ordflow_sync_expression("filter", result->filter);
	}
	READ_CHOICE(options, "format", format, "json", "debezium", "canal", "maxwell");
	READ_CHOICE(options, "on_error", on_error, "park", "skip", "stop");
	READ_CHOICE(options, "on_truncate", on_truncate, "apply", "ignore", "stop");
	result->format = (ChangeFormat) format;
	result->on_error = (ErrorPolicy) on_error;
	result->on_truncate = (TruncatePolicy) on_truncate;
	value = find(options, "batch_rows");
	result->batch_rows = value ? read_int(value, "batch_rows", 1, BATCH_ROWS_MAX) : BATCH_ROWS_MAX;
	value = find(options, "rate");
	result->rate = value ? read_int(value, "rate", 1, RATE_MAX) : 0;
	result->copy = read_bool(find(options, "copy"), "copy", true);
	read_pull_options(options, result);
	read_sink_options(options, sink, result);
	return result;
}

/*
 * plugin_options.c
 *	  What a client may ask of the output plugin.
 */
#include "postgres.h"

#include "nodes/parsenodes.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

#include "base/base.h"
#include "sync/plugin.h"

static void
refuse_value(const char *option, const char *value, const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("\"%s\" is no value of option \"%s\"", value, option),
			errhint("%s", hint));
}

/* ---- lists ---- */

/* The items between commas that stand outside of double quotes, without the space around them. */
static List *
split(const char *list)
{
	List	   *items = NIL;
	const char *start = list;
	bool		quoted = false;

	for (const char *p = list;; p++)
	{
		const char *end = p;

		if (*p == '"')
			quoted = !quoted;
		if (*p != '\0' && (quoted || *p != ','))
			continue;
		while (start < end && scanner_isspace(*start))
			start++;
		while (start < end && scanner_isspace(end[-1]))
			end--;
		items = lappend(items, pnstrdup(start, end - start));
		if (*p == '\0')
			return items;
		start = p + 1;
	}
}

/* nparts: of each name; a last part of "*" stands for any. */
static List *
parse_names(const char *option, const char *list, int nparts, const char *hint)
{
	List	   *names = NIL;
	ListCell   *cell;

	if (list[0] == '\0')
		return NIL;
	foreach(cell, split(list))
	{
		const char *item = lfirst(cell);
		PluginName *name = palloc0(sizeof(PluginName));
		size_t		length = strlen(item);
		bool		any = nparts == 2 && length > 2 && strcmp(item + length - 2, ".*") == 0;
		List	   *parts;

		if (!SplitIdentifierString(pstrdup(item), '.', &parts) || list_length(parts) != nparts)
			refuse_value(option, item, hint);
		/* who wants all leaves the option out */
		if (item[0] == '*')
			refuse_value(option, item, hint);
		name->schema = linitial(parts);
		name->table = any ? NULL : lsecond(parts);
		name->column = nparts == 3 ? lthird(parts) : NULL;
		names = lappend(names, name);
	}
	return names;
}

/* ---- options ---- */

static void
set_format(PluginOptions *options, const char *value)
{
	if (!ordflow_format_parse(value, &options->format))
		refuse_value("format", value, psprintf("Formats are %s.", ordflow_format_names));
}

static void
set_tables(PluginOptions *options, const char *value)
{
	options->tables = parse_names("tables", value, 2,
								  "Name tables as schema.table, or schema.* for all of a schema.");
}

static void
set_exclude_columns(PluginOptions *options, const char *value)
{
	options->exclude_columns = parse_names("exclude_columns", value, 3,
										   "Name columns as schema.table.column.");
}

static void
set_message_prefixes(PluginOptions *options, const char *value)
{
	options->message_prefixes = split(value);
}

static void
set_origin(PluginOptions *options, const char *value)
{
	if (strcmp(value, "any") != 0 && strcmp(value, "none") != 0)
		refuse_value("origin", value, "Origins are any, none.");
	options->local_only = strcmp(value, "none") == 0;
}

static void
set_server_name(PluginOptions *options, const char *value)
{
	if (value[0] == '\0')
		refuse_value("server_name", value, "Leave it out for the database's name.");
	options->server_name = pstrdup(value);
}

/* Has either a function that sets it or a place for a boolean. */
static const struct PluginOption
{
	const char *name;
	void		(*set) (PluginOptions *options, const char *value);
	size_t		flag;
}			known[] = {
	{"format", set_format},
	{"tables", set_tables},
	{"exclude_columns", set_exclude_columns},
	{"message_prefixes", set_message_prefixes},
	{"origin", set_origin},
	{"server_name", set_server_name},
	{"include_key", NULL, offsetof(PluginOptions, include_key)},
	{"include_transactions", NULL, offsetof(PluginOptions, include_transactions)},
	{"publish_via_root", NULL, offsetof(PluginOptions, publish_via_root)},
	{"streaming", NULL, offsetof(PluginOptions, streaming)},
	{"tombstones", NULL, offsetof(PluginOptions, tombstones)}
};

static const char *
known_names(void)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < lengthof(known); i++)
		appendStringInfo(&names, i > 0 ? ", %s" : "%s", known[i].name);
	return names.data;
}

static const struct PluginOption *
find_option(const char *name)
{
	for (int i = 0; i < lengthof(known); i++)
		if (strcmp(known[i].name, name) == 0)
			return &known[i];
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("there is no option \"%s\" of output plugin \"ordflow\"", name),
			errhint("Options are %s.", known_names()));
}

static void
set_option(PluginOptions *options, const struct PluginOption *option, const char *value)
{
	bool	   *flag = (bool *) ((char *) options + option->flag);

	if (option->set)
	{
		if (value == NULL)
			refuse_value(option->name, "", "It needs a value.");
		option->set(options, value);
	}
	else if (value == NULL)
		*flag = true;
	else if (!parse_bool(value, flag))
		refuse_value(option->name, value, "Values are on, off.");
}

/* Of options that only some formats have. */
static void
refuse_option(const char *option)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("option \"%s\" is for other formats", option),
			errhint("streaming is for json, include_transactions for json and debezium, "
					"tombstones for debezium with include_key."));
}

static void
check_options(const PluginOptions *options)
{
	bool		is_json = options->format == FORMAT_JSON;
	bool		is_debezium = options->format == FORMAT_DEBEZIUM;

	if (options->streaming && !is_json)
		refuse_option("streaming");
	if (options->include_transactions && !is_json && !is_debezium)
		refuse_option("include_transactions");
	/* a line that tells a tombstone has to tell whose */
	if (options->tombstones && !(is_debezium && options->include_key))
		refuse_option("tombstones");
}

void
ordflow_plugin_options(List *given, PluginOptions *options)
{
	ListCell   *cell;

	memset(options, 0, sizeof(PluginOptions));
	options->publish_via_root = true;
	foreach(cell, given)
	{
		DefElem    *element = lfirst_node(DefElem, cell);

		set_option(options, find_option(element->defname),
				   element->arg ? strVal(element->arg) : NULL);
	}
	check_options(options);
}

/* ---- who wants what ---- */

bool
ordflow_plugin_wants_table(const PluginOptions *options, const char *schema, const char *table)
{
	ListCell   *cell;

	foreach(cell, options->tables)
	{
		PluginName *name = lfirst(cell);

		if (strcmp(name->schema, schema) == 0 &&
			(name->table == NULL || strcmp(name->table, table) == 0))
			return true;
	}
	return options->tables == NIL;
}

bool
ordflow_plugin_wants_column(const PluginOptions *options, const char *schema, const char *table,
							const char *column)
{
	ListCell   *cell;

	foreach(cell, options->exclude_columns)
	{
		PluginName *name = lfirst(cell);

		if (strcmp(name->schema, schema) == 0 && strcmp(name->table, table) == 0 &&
			strcmp(name->column, column) == 0)
			return false;
	}
	return true;
}

bool
ordflow_plugin_wants_prefix(const PluginOptions *options, const char *prefix)
{
	ListCell   *cell;

	foreach(cell, options->message_prefixes)
		if (strcmp(lfirst(cell), prefix) == 0)
			return true;
	return options->message_prefixes == NIL;
}

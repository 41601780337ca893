/*
 * route.c
 *	  Changes of a source as items for a target: mapping, filter, keys, names, encoding.
 *
 * A sync without expressions and filter needs no SQL.  With them each row goes through one query,
 * as the sync's role: the row is its only source.
 *
 * What an update left as it was in TOAST is not in the WAL.  Targets that take single columns are
 * told of the others; where the whole row is needed it is read from the source as it is now, which
 * may be newer than the change: then a later change says the same again.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/json.h"
#include "sync/internal.h"
#include "sync/pull.h"
#include "sync/row.h"

/* A part of a target's name. */
typedef struct NamePart
{
	const char *literal;		/* or: */
	int			column;			/* of the projected relation */
} NamePart;

/* What a route makes of the rows of one relation. */
typedef struct RouteShape
{
	const ChangeRelation *source;
	ChangeRelation *relation;	/* what is sent: the source's, or projected */
	int		   *from;			/* of each of its columns: the source's, -1: an expression */
	SPIPlanPtr	plan;			/* of expressions and filter; or NULL */
	int			nparts;
	NamePart   *parts;			/* of the target's name; 0: it has none */
	MemoryContext context;
} RouteShape;

/* ---- lists ---- */

void
ordflow_items_add(ItemList *list, const SinkItem *item)
{
	if (list->n == list->size)
	{
		list->size = Max(64, list->size * 2);
		list->items = list->items == NULL ? palloc(list->size * sizeof(SinkItem)) :
			repalloc_huge(list->items, list->size * sizeof(SinkItem));
	}
	list->items[list->n++] = *item;
	list->bytes += item->body_length + item->target_length + 64;
	for (int i = 0; i < item->nfields; i++)
		list->bytes += item->fields[i].length + 16;
}

/* ---- routes ---- */

/* Read once: a database that is renamed has sent its workers away. */
static const char *
database_name(void)
{
	static char name[NAMEDATALEN] = "";
	char	   *read;

	if (name[0] != '\0')
		return name;
	if (!IsTransactionState())
		return "";
	read = get_database_name(MyDatabaseId);
	strlcpy(name, read, sizeof(name));
	return name;
}

static void
set_sink_shape(Route *route, const Sink *sink)
{
	ModuleError error = {0};

	if (sink == NULL)
	{
		route->is_table = true;
		route->sink.shape = SHAPE_FIELDS;
		return;
	}
	if (sink->route(&route->sink, &error))
		return;
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("sync \"%s\" is not for %s: %s", route->sync->name, sink->name, error.message),
			error.hint[0] != '\0' ? errhint("%s", error.hint) : 0);
}

Route *
ordflow_route_make(SyncDefinition *sync, const Sink *sink, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "ordflow route",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	Route	   *route = palloc0(sizeof(Route));

	route->context = context;
	route->sync = palloc(sizeof(SyncDefinition));
	*route->sync = *sync;
	route->sync->name = pstrdup(sync->name);
	route->sync->target = sync->target ? pstrdup(sync->target) : NULL;
	route->sync->server = sync->server ? pstrdup(sync->server) : NULL;
	route->sync->role = pstrdup(sync->role);
	route->role = get_role_oid(sync->role, false);
	route->options = ordflow_sync_options(sync->options, sink, sync->mode);
	(void) database_name();
	route->sink.sync = route->sync->name;
	route->sink.target = route->sync->target;
	route->sink.options = route->options->sink_options;
	route->sink.noptions = route->options->nsink_options;
	route->sink.nkeys = route->options->nkeys;
	route->sink.keys = route->options->keys;
	set_sink_shape(route, sink);
	MemoryContextSwitchTo(before);
	return route;
}

Route *
ordflow_route_of_emit(const Sink *sink, MemoryContext parent)
{
	MemoryContext context = AllocSetContextCreate(parent, "ordflow route",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	Route	   *route = palloc0(sizeof(Route));

	route->context = context;
	route->sync = palloc0(sizeof(SyncDefinition));
	route->sync->name = "emit";
	route->options = palloc0(sizeof(SyncOptions));
	route->sink.sync = "emit";
	route->sink.is_emit = true;
	route->options->nsink_options = route->sink.noptions = 0;
	set_sink_shape(route, sink);
	MemoryContextSwitchTo(before);
	return route;
}

void
ordflow_route_forget_relation(Route *route)
{
	if (route->shape != NULL)
	{
		if (route->shape->plan != NULL)
			SPI_freeplan(route->shape->plan);
		MemoryContextDelete(route->shape->context);
	}
	route->shape = NULL;
}

/* ---- the shape: names ---- */

static int
find_column(const ChangeRelation *relation, const char *name)
{
	for (int i = 0; i < relation->ncolumns; i++)
		if (strcmp(relation->columns[i].name, name) == 0)
			return i;
	return -1;
}

pg_noreturn static void
unknown_column(const Route *route, const char *name)
{
	ereport(ERROR,
			errcode(ERRCODE_UNDEFINED_COLUMN),
			errmsg("sync \"%s\" names the column \"%s\", which is not there", route->sync->name,
				   name),
			errhint("A target's {column}, and the key, are columns of the source, or of the option columns; {{ is a brace."));
}

static void
add_part(RouteShape *shape, const char *literal, int column)
{
	shape->parts = shape->parts == NULL ? palloc(sizeof(NamePart)) :
		repalloc(shape->parts, (shape->nparts + 1) * sizeof(NamePart));
	shape->parts[shape->nparts++] = (NamePart) {.literal = literal,.column = column};
}

static void
parse_target(Route *route, RouteShape *shape)
{
	const char *at = route->sync->target;
	StringInfoData literal;

	if (at == NULL || route->is_table)
		return;
	initStringInfo(&literal);
	while (*at != '\0')
	{
		const char *end;
		char	   *name;

		if (at[0] == '{' && at[1] == '{')
			at++;
		else if (at[0] == '{')
		{
			end = strchr(at, '}');
			if (end == NULL)
				ereport(ERROR,
						errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the target \"%s\" has a brace that is not closed",
							   route->sync->target),
						errhint("{column} stands for the row's text, {{ for a brace."));
			name = pnstrdup(at + 1, end - at - 1);
			if (literal.len > 0)
				add_part(shape, pstrdup(literal.data), -1);
			resetStringInfo(&literal);
			if (find_column(shape->relation, name) < 0)
				unknown_column(route, name);
			add_part(shape, NULL, find_column(shape->relation, name));
			at = end + 1;
			continue;
		}
		appendStringInfoChar(&literal, *at++);
	}
	if (literal.len > 0)
		add_part(shape, literal.data, -1);
}

/* ---- the shape: columns ---- */

/* The columns of the option, or the key's, among those of the source. */
static void
set_keys(Route *route, RouteShape *shape)
{
	ChangeRelation *relation = shape->relation;
	SyncOptions *options = route->options;
	int		   *keys;

	if (options->nkeys == 0 && relation == shape->source)
		return;
	if (relation == shape->source)
	{
		relation = palloc(sizeof(ChangeRelation));
		*relation = *shape->source;
		shape->relation = relation;
		relation->columns = palloc(relation->ncolumns * sizeof(ChangeColumn));
		memcpy(relation->columns, shape->source->columns,
			   relation->ncolumns * sizeof(ChangeColumn));
	}
	keys = palloc0((relation->ncolumns + 1) * sizeof(int));
	relation->nkeys = 0;
	for (int i = 0; options->nkeys == 0 && i < shape->source->nkeys; i++)
		for (int c = 0; c < relation->ncolumns; c++)
			if (shape->from[c] == shape->source->keys[i])
			{
				keys[relation->nkeys++] = c;
				break;
			}
	if (options->nkeys == 0 && relation->nkeys < shape->source->nkeys)
		relation->nkeys = 0;
	for (int i = 0; i < options->nkeys; i++)
	{
		int			column = find_column(relation, options->keys[i]);

		if (column < 0)
			unknown_column(route, options->keys[i]);
		keys[relation->nkeys++] = column;
	}
	relation->keys = keys;
	for (int c = 0; c < relation->ncolumns; c++)
		relation->columns[c].is_key = false;
	for (int i = 0; i < relation->nkeys; i++)
		relation->columns[keys[i]].is_key = true;
}

/* They outlive the shape: of a letter that is sent again no relation is known. */
static void
tell_keys(Route *route, const ChangeRelation *relation)
{
	SinkRoute  *sink = &route->sink;
	const char **keys;
	int			same = 0;

	while (same < relation->nkeys && same < sink->nkeys &&
		   strcmp(sink->keys[same], relation->columns[relation->keys[same]].name) == 0)
		same++;
	if (same == relation->nkeys && same == sink->nkeys)
		return;
	keys = MemoryContextAlloc(route->context, (relation->nkeys + 1) * sizeof(char *));
	for (int i = 0; i < relation->nkeys; i++)
		keys[i] = MemoryContextStrdup(route->context, relation->columns[relation->keys[i]].name);
	sink->keys = keys;
	sink->nkeys = relation->nkeys;
}

static void
project(Route *route, RouteShape *shape)
{
	SyncOptions *options = route->options;
	const ChangeRelation *source = shape->source;
	ChangeRelation *relation;

	if (options->ncolumns == 0)
	{
		shape->relation = unconstify(ChangeRelation *, source);
		shape->from = palloc((source->ncolumns + 1) * sizeof(int));
		for (int i = 0; i < source->ncolumns; i++)
			shape->from[i] = i;
		return;
	}
	relation = palloc0(sizeof(ChangeRelation));
	*relation = *source;
	relation->types = NULL;
	relation->ncolumns = options->ncolumns;
	relation->columns = palloc0(options->ncolumns * sizeof(ChangeColumn));
	shape->from = palloc(options->ncolumns * sizeof(int));
	for (int i = 0; i < options->ncolumns; i++)
	{
		int			from = find_column(source, options->expressions[i]);

		shape->from[i] = from;
		if (from >= 0)
			relation->columns[i] = source->columns[from];
		else if (options->plain)
			unknown_column(route, options->expressions[i]);
		else
			relation->columns[i].type = TEXTOID;
		relation->columns[i].name = options->columns[i];
		relation->columns[i].label = NULL;
	}
	ordflow_format_relation(relation);
	shape->relation = relation;
}

/* The query of expressions and filter: what it gives is text, the filter's answer last. */
static void
plan_query(Route *route, RouteShape *shape)
{
	SyncOptions *options = route->options;
	const ChangeRelation *source = shape->source;
	Oid		   *types = palloc((source->ncolumns + 1) * sizeof(Oid));
	StringInfoData sql;
	SPIPlanPtr	plan;

	if (options->filter == NULL && options->plain)
		return;
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < options->ncolumns; i++)
		if (shape->from[i] < 0)
			appendStringInfo(&sql, "(%s\n)::pg_catalog.text, ", options->expressions[i]);
	appendStringInfo(&sql, "(%s\n)::pg_catalog.bool FROM (SELECT ",
					 options->filter ? options->filter : "true");
	for (int i = 0; i < source->ncolumns; i++)
	{
		types[i] = TEXTOID;
		appendStringInfo(&sql, "%s$%d::%s AS %s", i > 0 ? ", " : "", i + 1,
						 format_type_extended(source->columns[i].type, source->columns[i].typmod,
											  FORMAT_TYPE_TYPEMOD_GIVEN |
											  FORMAT_TYPE_FORCE_QUALIFY),
						 quote_identifier(source->columns[i].name));
	}
	appendStringInfo(&sql, ") AS %s", quote_identifier(source->name));
	plan = SPI_prepare(sql.data, source->ncolumns, types);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", sql.data);
	SPI_keepplan(plan);
	shape->plan = plan;
}

/* Expressions and filters read the source's row, and what their role may read. */
static void
plan_as_role(Route *route, RouteShape *shape)
{
	RoleSwitch	saved;

	if (route->options->filter == NULL && route->options->plain)
		return;
	saved = ordflow_role_enter(route->role, true);
	SPI_connect();
	plan_query(route, shape);
	SPI_finish();
	ordflow_role_leave(saved);
}

/* In a transaction where the sync has expressions. */
static RouteShape *
shape_for(Route *route, const ChangeRelation *source)
{
	MemoryContext context;
	MemoryContext before;
	RouteShape *shape;

	if (route->shape != NULL && route->shape->source == source)
		return route->shape;
	ordflow_route_forget_relation(route);
	context = AllocSetContextCreate(route->context, "ordflow route shape",
									ALLOCSET_SMALL_SIZES);
	before = MemoryContextSwitchTo(context);
	shape = palloc0(sizeof(RouteShape));
	shape->context = context;
	shape->source = source;
	PG_TRY();
	{
		project(route, shape);
		set_keys(route, shape);
		tell_keys(route, shape->relation);
		parse_target(route, shape);
		plan_as_role(route, shape);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(before);
		MemoryContextDelete(context);
		PG_RE_THROW();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(before);
	route->shape = shape;
	return shape;
}

/* ---- the row as it is now ---- */

static bool
has_unchanged(const ChangeRelation *relation, const ChangeValue *values)
{
	for (int i = 0; values != NULL && i < relation->ncolumns; i++)
		if (values[i].state == VALUE_UNCHANGED)
			return true;
	return false;
}

static bool
key_is_known(const ChangeRelation *relation, const ChangeValue *values)
{
	for (int i = 0; i < relation->nkeys; i++)
		if (values == NULL || values[relation->keys[i]].state != VALUE_TEXT)
			return false;
	return relation->nkeys > 0;
}

static char *
fetch_sql(Route *route, const ChangeRelation *source)
{
	StringInfoData sql;

	if (get_rel_name(route->sync->source) == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("the source of sync \"%s\" has been dropped", route->sync->name));
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < source->ncolumns; i++)
		appendStringInfo(&sql, "%s%s::pg_catalog.text", i > 0 ? ", " : "",
						 quote_identifier(source->columns[i].name));
	appendStringInfo(&sql, " FROM %s WHERE ",
					 quote_qualified_identifier(
						 get_namespace_name(get_rel_namespace(route->sync->source)),
						 get_rel_name(route->sync->source)));
	for (int i = 0; i < source->nkeys; i++)
	{
		const ChangeColumn *column = &source->columns[source->keys[i]];

		appendStringInfo(&sql, "%s%s = $%d::%s", i > 0 ? " AND " : "",
						 quote_identifier(column->name), i + 1,
						 format_type_extended(column->type, column->typmod,
											  FORMAT_TYPE_TYPEMOD_GIVEN |
											  FORMAT_TYPE_FORCE_QUALIFY));
	}
	return sql.data;
}

/* Booleans as the types' output functions write them, not as casts do. */
static void
set_fetched(ChangeValue *value, const ChangeColumn *column, char *text)
{
	if (text != NULL && column->type == BOOLOID)
		text[1] = '\0';
	value->state = text != NULL ? VALUE_TEXT : VALUE_NULL;
	value->text = text;
	value->length = text != NULL ? strlen(text) : 0;
}

/* As the sync's role, whose policies count; NULL: it is gone.  In the current context. */
static ChangeValue *
fetch_row(Route *route, const ChangeRelation *source, const ChangeValue *key)
{
	MemoryContext context = CurrentMemoryContext;
	ChangeValue *values = NULL;
	Datum	   *arguments = palloc(source->nkeys * sizeof(Datum));
	Oid		   *types = palloc(source->nkeys * sizeof(Oid));
	RoleSwitch	saved;

	for (int i = 0; i < source->nkeys; i++)
	{
		types[i] = TEXTOID;
		arguments[i] = CStringGetTextDatum(key[source->keys[i]].text);
	}
	saved = ordflow_role_enter(route->role, true);
	SPI_connect();
	if (SPI_execute_with_args(fetch_sql(route, source), source->nkeys, types, arguments, NULL,
							  false, 1) == SPI_OK_SELECT && SPI_processed == 1)
	{
		MemoryContextSwitchTo(context);
		values = palloc0((source->ncolumns + 1) * sizeof(ChangeValue));
		for (int i = 0; i < source->ncolumns; i++)
			set_fetched(&values[i], &source->columns[i], ordflow_result_text(0, i + 1));
	}
	SPI_finish();
	ordflow_role_leave(saved);
	MemoryContextSwitchTo(context);
	return values;
}

/* ---- from the source's row to the target's ---- */

/* Whatever the texts made of the query: one row, of texts and the filter's answer. */
static bool
is_one_row(const RouteShape *shape)
{
	int			n = 0;

	for (int i = 0; i < shape->relation->ncolumns; i++)
		n += shape->from[i] < 0;
	if (SPI_processed != 1 || SPI_tuptable == NULL || SPI_tuptable->tupdesc->natts != n + 1)
		return false;
	for (int i = 0; i <= n; i++)
		if (SPI_gettypeid(SPI_tuptable->tupdesc, i + 1) != (i < n ? TEXTOID : BOOLOID))
			return false;
	return true;
}

/* Fills in what expressions give; false: the filter lets the row not pass. */
static bool
run_query(Route *route, RouteShape *shape, const ChangeValue *from, ChangeValue *to)
{
	MemoryContext context = CurrentMemoryContext;
	int			n = shape->source->ncolumns;
	Datum	   *arguments = palloc((n + 1) * sizeof(Datum));
	char	   *nulls = palloc(n + 1);
	bool		isnull;
	bool		passes;
	int			column = 0;
	RoleSwitch	saved;

	for (int i = 0; i < n; i++)
	{
		nulls[i] = from[i].state == VALUE_TEXT ? ' ' : 'n';
		arguments[i] = from[i].state == VALUE_TEXT ?
			PointerGetDatum(cstring_to_text_with_len(from[i].text, from[i].length)) : (Datum) 0;
	}
	saved = ordflow_role_enter(route->role, true);
	SPI_connect();
	if (SPI_execute_plan(shape->plan, arguments, nulls, true, 1) != SPI_OK_SELECT ||
		!is_one_row(shape))
		ereport(ERROR,
				errcode(ERRCODE_SYNTAX_ERROR),
				errmsg("the expressions of sync \"%s\" do not give one value each for a row",
					   route->sync->name));
	MemoryContextSwitchTo(context);
	for (int i = 0; i < shape->relation->ncolumns; i++)
	{
		char	   *text;

		if (shape->from[i] >= 0)
			continue;
		text = ordflow_result_text(0, ++column);
		to[i].state = text != NULL ? VALUE_TEXT : VALUE_NULL;
		to[i].text = text;
		to[i].length = text != NULL ? strlen(text) : 0;
	}
	passes = DatumGetBool(ordflow_result(0, ++column, &isnull)) && !isnull;
	SPI_finish();
	ordflow_role_leave(saved);
	MemoryContextSwitchTo(context);
	return passes;
}

static ChangeValue *
project_values(RouteShape *shape, const ChangeValue *values)
{
	ChangeValue *projected;

	if (values == NULL || shape->relation->columns == shape->source->columns)
		return unconstify(ChangeValue *, values);
	projected = palloc0((shape->relation->ncolumns + 1) * sizeof(ChangeValue));
	for (int i = 0; i < shape->relation->ncolumns; i++)
		if (shape->from[i] >= 0)
			projected[i] = values[shape->from[i]];
		else
			projected[i].state = VALUE_ABSENT;
	return projected;
}

/* ---- items ---- */

static void
append_glob_escaped(StringInfo name, const char *text)
{
	for (; *text != '\0'; text++)
	{
		if (strchr("*?[]^\\-", *text) != NULL)
			appendStringInfoChar(name, '\\');
		appendStringInfoChar(name, *text);
	}
}

/* values NULL: a pattern for every row, or the name of where all their messages go. */
static void
set_target(RouteShape *shape, const ChangeValue *values, SinkItem *item)
{
	bool		pattern = values == NULL && item->op == SINK_TRUNCATE;
	StringInfoData name;

	if (shape->nparts == 0)
		return;
	initStringInfo(&name);
	for (int i = 0; i < shape->nparts; i++)
	{
		const NamePart *part = &shape->parts[i];

		if (part->literal != NULL && pattern)
			append_glob_escaped(&name, part->literal);
		else if (part->literal != NULL)
			appendStringInfoString(&name, part->literal);
		else if (values == NULL)
			appendStringInfoChar(&name, '*');
		else if (values[part->column].state == VALUE_NULL && item->op != SINK_APPEND)
			ereport(ERROR,
					errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					errmsg("column \"%s\" of the target's name is null",
						   shape->relation->columns[part->column].name));
		else if (values[part->column].state == VALUE_TEXT)
			appendBinaryStringInfo(&name, values[part->column].text, values[part->column].length);
	}
	item->target = name.data;
	item->target_length = name.len;
}

static void
set_key(const ChangeRelation *relation, const ChangeValue *values, SinkItem *item)
{
	JsonBuild	json = {0};

	if (!key_is_known(relation, values))
		return;
	if (relation->nkeys == 1)
	{
		item->key = values[relation->keys[0]].text;
		item->key_length = values[relation->keys[0]].length;
		return;
	}
	ordflow_json_begin_array(&json);
	for (int i = 0; i < relation->nkeys; i++)
		ordflow_json_put_text(&json, NULL, values[relation->keys[i]].text);
	ordflow_json_end_array(&json);
	item->key = ordflow_json_text(ordflow_json_finish(&json));
	item->key_length = strlen(item->key);
}

static void
set_fields(const ChangeRelation *relation, const ChangeValue *values, bool keys_only,
		   SinkItem *item)
{
	SinkField  *fields = palloc0((relation->ncolumns + 1) * sizeof(SinkField));

	for (int i = 0; i < relation->ncolumns; i++)
	{
		item->is_partial |= !keys_only && values[i].state == VALUE_UNCHANGED;
		if (values[i].state == VALUE_UNCHANGED || values[i].state == VALUE_ABSENT ||
			(keys_only && !relation->columns[i].is_key))
			continue;
		fields[item->nfields++] = (SinkField) {
			.name = relation->columns[i].name,
			.value = values[i].state == VALUE_TEXT ? values[i].text : NULL,
			.length = values[i].length
		};
	}
	item->fields = fields;
}

static void
set_body(const ChangeRelation *relation, const ChangeValue *values, SinkItem *item)
{
	StringInfoData body;

	initStringInfo(&body);
	ordflow_format_row(&body, relation, values, true);
	item->body = body.data;
	item->body_length = body.len;
}

static uint32
next_part(const ItemList *items, const SinkPosition *at)
{
	const SinkItem *last = items->n > 0 ? &items->items[items->n - 1] : NULL;

	return last != NULL && last->at.lsn == at->lsn && last->at.ordinal == at->ordinal &&
		last->at.part >= at->part ? last->at.part + 1 : at->part;
}

static void
add_row_item(Route *route, RouteShape *shape, SinkOp op, bool is_insert,
			 const ChangeValue *values, const SinkPosition *at, ItemList *items)
{
	SinkItem	item = {.op = op,.is_insert = is_insert,.route = &route->sink,.at = *at};

	item.at.part = next_part(items, at);
	set_target(shape, values, &item);
	set_key(shape->relation, values, &item);
	if (route->sink.shape == SHAPE_FIELDS)
		set_fields(shape->relation, values, op == SINK_DELETE && !route->is_table, &item);
	else if (route->sink.shape == SHAPE_DOCUMENT && op == SINK_PUT)
		set_body(shape->relation, values, &item);
	ordflow_items_add(items, &item);
}

/* What ordflow_format_change() calls back with. */
typedef struct EventTarget
{
	Route	   *route;
	RouteShape *shape;
	const ChangeValue *values;
	SinkPosition at;
	ItemList   *items;
} EventTarget;

static void
add_event(void *arg, const char *key, int key_length, const char *value, int value_length)
{
	EventTarget *target = arg;
	SinkItem	item = {.op = SINK_APPEND,.route = &target->route->sink,.at = target->at};

	set_target(target->shape, target->values, &item);
	if (key != NULL)
		item.key = pnstrdup(key, key_length);
	item.key_length = key_length;
	if (value != NULL)
		item.body = memcpy(palloc(value_length + 1), value, value_length + 1);
	item.body_length = value_length;
	ordflow_items_add(target->items, &item);
	target->at.part++;
}

static void
add_events(Route *route, RouteShape *shape, const Change *change, const SinkPosition *at,
		   ItemList *items)
{
	FormatContext context = {
		.format = route->options->format,
		.database = database_name(),
		.tombstones = true
	};
	EventTarget target = {.route = route,.shape = shape,.at = *at,.items = items};

	/* a message of no row goes nowhere, where the row names the stream */
	for (int i = 0; change->op == CHANGE_TRUNCATE && i < shape->nparts; i++)
		if (shape->parts[i].literal == NULL)
			return;
	context.origin = context.database;
	target.at.part = next_part(items, at);
	target.values = change->values != NULL ? change->values : change->old;
	ordflow_format_change(&context, change, add_event, &target);
}

/* Has an update changed the key?  Where the WAL gives old keys, it has. */
static bool
moves_key(const ChangeRelation *relation, const Change *change)
{
	if (change->old == NULL || change->values == NULL)
		return false;
	for (int i = 0; i < relation->nkeys; i++)
	{
		const ChangeValue *a = &change->old[relation->keys[i]];
		const ChangeValue *b = &change->values[relation->keys[i]];

		if (a->state == VALUE_TEXT && b->state == VALUE_TEXT &&
			(a->length != b->length || memcmp(a->text, b->text, a->length) != 0))
			return true;
	}
	return false;
}

/* Does it get another name?  Its columns beside the key are told by REPLICA IDENTITY FULL. */
static bool
moves_name(const RouteShape *shape, const Change *change)
{
	for (int i = 0; change->old != NULL && change->values != NULL && i < shape->nparts; i++)
	{
		const NamePart *part = &shape->parts[i];
		const ChangeValue *a = part->literal ? NULL : &change->old[part->column];
		const ChangeValue *b = part->literal ? NULL : &change->values[part->column];

		if (a == NULL || a->state == VALUE_ABSENT || b->state == VALUE_UNCHANGED)
			continue;
		if (a->state != b->state ||
			(a->state == VALUE_TEXT &&
			 (a->length != b->length || memcmp(a->text, b->text, a->length) != 0)))
			return true;
	}
	return false;
}

static bool
has_name(const RouteShape *shape, const ChangeValue *values)
{
	for (int i = 0; i < shape->nparts; i++)
		if (shape->parts[i].literal == NULL &&
			values[shape->parts[i].column].state == VALUE_NULL)
			return false;
	return true;
}

/*
 * What was there before is found by the key and the name; an identity that was taken from the
 * table does not tell them.
 */
static void
require_old(const RouteShape *shape, const Change *change)
{
	const ChangeRelation *relation = shape->relation;
	bool		told = change->old != NULL;

	for (int i = 0; told && i < relation->nkeys; i++)
		told = change->old[relation->keys[i]].state != VALUE_ABSENT;
	for (int i = 0; told && i < shape->nparts; i++)
		told = shape->parts[i].literal != NULL ||
			change->old[shape->parts[i].column].state != VALUE_ABSENT;
	if (told)
		return;
	ereport(ERROR,
			errcode(ERRCODE_INVALID_TABLE_DEFINITION),
			errmsg("the replica identity of \"%s\" does not tell which row was there before",
				   relation->name),
			errhint("ALTER TABLE ... REPLICA IDENTITY DEFAULT, or USING INDEX, or FULL."));
}

/* A row as it stands for the target: keyed by its key, of which nothing else is known. */
static void
add_row(Route *route, RouteShape *shape, const Change *change, bool passes,
		const SinkPosition *at, ItemList *items)
{
	bool		moved = moves_key(shape->relation, change) || moves_name(shape, change);

	if (change->op == CHANGE_DELETE || change->old != NULL)
		require_old(shape, change);
	if (change->op == CHANGE_DELETE)
	{
		if (has_name(shape, change->old))
			add_row_item(route, shape, SINK_DELETE, false, change->old, at, items);
		return;
	}
	if (moved && has_name(shape, change->old))
		add_row_item(route, shape, SINK_DELETE, false, change->old, at, items);
	if (passes)
		add_row_item(route, shape, SINK_PUT, change->op == CHANGE_INSERT || moved,
					 change->values, at, items);
	else if (change->op == CHANGE_UPDATE && has_name(shape, change->values))
		add_row_item(route, shape, SINK_DELETE, false, change->values, at, items);
}

static void
add_truncate(Route *route, RouteShape *shape, const SinkPosition *at, ItemList *items)
{
	SinkItem	item = {.op = SINK_TRUNCATE,.route = &route->sink,.at = *at};

	if (route->options->on_truncate == ON_TRUNCATE_IGNORE)
		return;
	if (route->options->on_truncate == ON_TRUNCATE_STOP)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("the source of sync \"%s\" was truncated, and its option on_truncate is stop",
					   route->sync->name),
				errhint("Empty the target, then SELECT ordflow.alter_sync(%s, '{\"on_truncate\": \"ignore\"}');",
						quote_literal_cstr(route->sync->name)));
	item.at.part = next_part(items, at);
	set_target(shape, NULL, &item);
	ordflow_items_add(items, &item);
}

/* ---- the message of ordflow.emit() ---- */

enum
{
	OUTBOX_TOPIC = 3, OUTBOX_KEY, OUTBOX_PAYLOAD
};

static void
add_message(Route *route, const Change *change, const SinkPosition *at, ItemList *items)
{
	const ChangeValue *values = change->values;
	SinkItem	item = {.op = SINK_APPEND,.route = &route->sink,.at = *at};

	item.target = values[OUTBOX_TOPIC].text;
	item.target_length = values[OUTBOX_TOPIC].length;
	item.key = values[OUTBOX_KEY].text;
	item.key_length = values[OUTBOX_KEY].length;
	item.body = values[OUTBOX_PAYLOAD].text;
	item.body_length = values[OUTBOX_PAYLOAD].length;
	ordflow_items_add(items, &item);
}

/* ---- changes ---- */

bool
ordflow_route_needs_sql(Route *route, const Change *change)
{
	if (route->sink.is_emit)
		return false;
	if (!route->options->plain || route->options->filter != NULL)
		return true;
	if (change->op != CHANGE_UPDATE || change->old_is_whole ||
		!has_unchanged(change->relation, change->values))
		return false;
	/* what is being copied has perhaps not been told of yet */
	if (route->copy != NULL && route->sink.shape != SHAPE_KEY)
		return true;
	return route->is_table || route->sink.shape == SHAPE_DOCUMENT ||
		(route->sink.shape == SHAPE_FIELDS &&
		 (route->whole || moves_key(change->relation, change)));
}

/* With what the WAL does not tell, where it matters; false: the row is gone already. */
static bool
complete(Route *route, Change *change)
{
	ChangeValue *values;
	ChangeValue *merged;

	if (!has_unchanged(change->relation, change->values) ||
		(!ordflow_route_needs_sql(route, change) &&
		 (!change->old_is_whole || route->sink.shape == SHAPE_EVENT)))
		return true;
	if (!change->old_is_whole && !key_is_known(change->relation, change->values))
		return true;
	merged = palloc((change->relation->ncolumns + 1) * sizeof(ChangeValue));
	if (change->old_is_whole)
	{
		for (int i = 0; i < change->relation->ncolumns; i++)
			merged[i] = change->values[i].state == VALUE_UNCHANGED ? change->old[i] :
				change->values[i];
		change->values = merged;
		return true;
	}
	/* the commit is in the WAL before others can see it */
	while (TransactionIdIsValid(change->xid) && TransactionIdIsInProgress(change->xid))
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(100);
	}
	values = fetch_row(route, change->relation, change->values);
	if (values == NULL)
		return false;
	for (int i = 0; i < change->relation->ncolumns; i++)
		merged[i] = change->values[i].state == VALUE_UNCHANGED ? values[i] : change->values[i];
	change->values = merged;
	return true;
}

void
ordflow_route_change(Route *route, const Change *given, const SinkPosition *at, ItemList *items)
{
	Change		change = *given;
	RouteShape *shape;
	bool		passes = true;
	ChangeValue *values;

	if (route->sink.is_emit)
	{
		add_message(route, given, at, items);
		return;
	}
	shape = shape_for(route, given->relation);
	if (change.op == CHANGE_TRUNCATE && route->sink.shape != SHAPE_EVENT)
	{
		add_truncate(route, shape, at, items);
		return;
	}
	/* a row that is gone by now has a delete that follows */
	if (!complete(route, &change) && route->sink.shape != SHAPE_EVENT)
	{
		if (!moves_key(change.relation, &change))
			return;
		change.op = CHANGE_DELETE;	/* what follows deletes the new key alone */
		change.values = NULL;
	}
	values = project_values(shape, change.values);
	if (shape->plan != NULL && change.values != NULL)
	{
		if (values == change.values)
			values = memcpy(palloc((shape->relation->ncolumns + 1) * sizeof(ChangeValue)), values,
							shape->relation->ncolumns * sizeof(ChangeValue));
		passes = run_query(route, shape, change.values, values);
	}
	change.values = values;
	change.old = project_values(shape, change.old);
	change.relation = shape->relation;
	if (route->sink.shape != SHAPE_EVENT)
		add_row(route, shape, &change, passes, at, items);
	else if (passes)
		add_events(route, shape, &change, at, items);
}

/* The columns of the source by which the row, and what it is at the target, is found. */
static void
set_key_fields(const RouteShape *shape, const ChangeRelation *source, const ChangeValue *values,
			   SinkItem *item)
{
	SinkField  *fields = palloc0((source->ncolumns + 1) * sizeof(SinkField));

	for (int i = 0; i < source->ncolumns; i++)
	{
		bool		names = source->columns[i].is_key;

		for (int part = 0; shape != NULL && part < shape->nparts; part++)
			names |= shape->parts[part].literal == NULL &&
				shape->from[shape->parts[part].column] == i;
		for (int key = 0; shape != NULL && key < shape->relation->nkeys; key++)
			names |= shape->from[shape->relation->keys[key]] == i;
		if (names && values[i].state == VALUE_TEXT)
			fields[item->nfields++] = (SinkField) {
				.name = source->columns[i].name,
				.value = values[i].text,
				.length = values[i].length
			};
	}
	item->fields = fields;
}

/* With the key that items of the row have, so that they queue behind it. */
static void
add_refetch(Route *route, RouteShape *shape, const ChangeRelation *source,
			const ChangeValue *values, const SinkPosition *at, ItemList *items)
{
	SinkItem	item = {.op = SINK_PUT,.route = &route->sink,.at = *at};
	ItemList	events = {0};

	item.at.part = next_part(items, at);
	if (values != NULL && shape == NULL)
		set_key(source, values, &item);
	else if (values != NULL && route->sink.shape != SHAPE_EVENT)
		set_key(shape->relation, project_values(shape, values), &item);
	else if (values != NULL && source->nkeys > 0)
	{
		Change		gone = {.op = CHANGE_DELETE,.relation = shape->relation,
		.old = project_values(shape, values)};

		add_events(route, shape, &gone, at, &events);
		item.key = events.n > 0 ? events.items[0].key : NULL;
		item.key_length = events.n > 0 ? events.items[0].key_length : 0;
	}
	if (values != NULL)
		set_key_fields(shape, source, values, &item);
	item.body = ITEM_REFETCH;
	item.body_length = strlen(ITEM_REFETCH);
	ordflow_items_add(items, &item);
}

void
ordflow_route_refetch_item(Route *route, const Change *change, const SinkPosition *at,
						   ItemList *items)
{
	const ChangeRelation *source = change->relation;
	RouteShape *shape = route->shape != NULL && route->shape->source == source ?
		route->shape : NULL;

	if (moves_key(source, change) ||
		(shape != NULL && moves_key(shape->relation, &(Change) {
			.values = project_values(shape, change->values),
			.old = project_values(shape, change->old)})))
		add_refetch(route, shape, source, change->old, at, items);
	add_refetch(route, shape, source, change->values != NULL ? change->values : change->old, at,
				items);
}

/* What a letter tells of its row: columns of the source, or the key alone. */
static ChangeValue *
parse_key(const ChangeRelation *relation, const SinkItem *letter)
{
	ChangeValue *values = palloc0((relation->ncolumns + 1) * sizeof(ChangeValue));
	const char *key = letter->key;
	Jsonb	   *array = NULL;

	for (int i = 0; i < relation->ncolumns; i++)
	{
		values[i].state = VALUE_ABSENT;
		for (int f = 0; f < letter->nfields; f++)
			if (strcmp(letter->fields[f].name, relation->columns[i].name) == 0)
				values[i] = (ChangeValue) {
					VALUE_TEXT, letter->fields[f].length, letter->fields[f].value
				};
	}
	if (letter->nfields > 0 || key == NULL)
		return values;
	if (relation->nkeys > 1)
		array = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(key)));
	for (int i = 0; i < relation->nkeys; i++)
	{
		ChangeValue *value = &values[relation->keys[i]];
		JsonbValue *element = array ? getIthJsonbValueFromContainer(&array->root, i) : NULL;

		value->text = element ? pnstrdup(element->val.string.val, element->val.string.len) :
			pstrdup(key);
		value->length = strlen(value->text);
		value->state = VALUE_TEXT;
	}
	return values;
}

void
ordflow_route_by_key(Route *route, const SinkItem *letter, const SinkPosition *at,
					 ItemList *items)
{
	Relation	source;
	RowRelation *row;
	Change		change = {.op = CHANGE_INSERT};
	ChangeValue *values;

	if (get_rel_name(route->sync->source) == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("the source of sync \"%s\" has been dropped", route->sync->name));
	source = table_open(route->sync->source, AccessShareLock);
	row = ordflow_row_relation(source);
	change.relation = &row->relation;
	values = parse_key(&row->relation, letter);
	if (!key_is_known(&row->relation, values))
		ereport(ERROR,
				errcode(ERRCODE_NO_DATA_FOUND),
				errmsg("its row has no key to be found by"));
	/* of a document or fields too: where the filter refuses the row now, it is deleted */
	if (route->sink.shape != SHAPE_EVENT)
		change.op = CHANGE_UPDATE;
	ordflow_route_forget_relation(route);
	change.values = fetch_row(route, &row->relation, values);
	if (change.values == NULL)
	{
		change.op = CHANGE_DELETE;
		change.old = values;
	}
	ordflow_route_change(route, &change, at, items);
	ordflow_route_forget_relation(route);
	table_close(source, AccessShareLock);
}

/* ---- back from the target ---- */

char *
ordflow_change_key(const ChangeRelation *relation, const ChangeValue *values)
{
	SinkItem	item = {0};

	set_key(relation, values, &item);
	return unconstify(char *, item.key);
}

char *
ordflow_route_source_key(Route *route, char **names, char **values, int n)
{
	Relation	source = table_open(route->sync->source, AccessShareLock);
	RowRelation *row = ordflow_row_relation(source);
	RouteShape *shape = shape_for(route, &row->relation);
	ChangeValue *key = palloc0((row->relation.ncolumns + 1) * sizeof(ChangeValue));
	SinkItem	item = {0};

	for (int i = 0; i < n; i++)
	{
		int			column = find_column(shape->relation, names[i]);
		int			from = column >= 0 ? shape->from[column] : -1;

		if (from >= 0)
			key[from] = (ChangeValue) {VALUE_TEXT, strlen(values[i]), values[i]};
	}
	set_key(&row->relation, key, &item);
	table_close(source, AccessShareLock);
	return unconstify(char *, item.key);
}

/* A value with a character that stands between the columns could be another's part. */
static char *
take_value(const char **at, const NamePart *next, const RouteShape *shape)
{
	const char *end = next != NULL && next->literal != NULL ? strstr(*at, next->literal) :
		*at + strlen(*at);
	char	   *value;

	if (end == NULL || (next != NULL && next->literal == NULL))
		return NULL;
	value = pnstrdup(*at, end - *at);
	for (int i = 0; i < shape->nparts; i++)
		for (const char *c = shape->parts[i].literal; c != NULL && *c != '\0'; c++)
			if (ispunct((unsigned char) *c) && strchr(value, *c) != NULL)
				return NULL;
	*at = end;
	return value;
}

char *
ordflow_route_key_of_target(Route *route, const char *target)
{
	Relation	source = table_open(route->sync->source, AccessShareLock);
	RouteShape *shape = shape_for(route, &ordflow_row_relation(source)->relation);
	char	  **names = palloc((shape->nparts + 1) * sizeof(char *));
	char	  **values = palloc((shape->nparts + 1) * sizeof(char *));
	const char *at = target;
	int			n = 0;

	table_close(source, AccessShareLock);
	for (int i = 0; i < shape->nparts; i++)
	{
		const NamePart *part = &shape->parts[i];

		if (part->literal != NULL)
		{
			if (strncmp(at, part->literal, strlen(part->literal)) != 0)
				return NULL;
			at += strlen(part->literal);
			continue;
		}
		values[n] = take_value(&at, i + 1 < shape->nparts ? part + 1 : NULL, shape);
		if (values[n] == NULL)
			return NULL;
		names[n++] = unconstify(char *, shape->relation->columns[part->column].name);
	}
	return *at == '\0' ? ordflow_route_source_key(route, names, values, n) : NULL;
}

char *
ordflow_route_key_of_key(Route *route, const char *key)
{
	Relation	source = table_open(route->sync->source, AccessShareLock);
	RouteShape *shape = shape_for(route, &ordflow_row_relation(source)->relation);
	int			n = shape->relation->nkeys;
	char	  **names = palloc((n + 1) * sizeof(char *));
	char	  **values = palloc((n + 1) * sizeof(char *));
	Jsonb	   *array = NULL;

	table_close(source, AccessShareLock);
	if (n > 1)
		array = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(key)));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *element = array ? getIthJsonbValueFromContainer(&array->root, i) : NULL;

		names[i] = unconstify(char *, shape->relation->columns[shape->relation->keys[i]].name);
		values[i] = element ? pnstrdup(element->val.string.val, element->val.string.len) :
			pstrdup(key);
	}
	return ordflow_route_source_key(route, names, values, n);
}

char *
ordflow_route_pattern(Route *route)
{
	Relation	source = table_open(route->sync->source, AccessShareLock);
	RouteShape *shape = shape_for(route, &ordflow_row_relation(source)->relation);
	SinkItem	item = {.op = SINK_TRUNCATE};

	set_target(shape, NULL, &item);
	table_close(source, AccessShareLock);
	return unconstify(char *, item.target);
}

/* ---- checks ---- */

static void
require_key(Route *route, RouteShape *shape)
{
	if (shape->relation->nkeys > 0 || route->sink.shape == SHAPE_EVENT)
		return;
	ereport(ERROR,
			errcode(ERRCODE_INVALID_TABLE_DEFINITION),
			errmsg("\"%s\" has no key for sync \"%s\"", get_rel_name(route->sync->source),
				   route->sync->name),
			errdetail("Rows at the target are found by the primary key, or by the index of the replica identity; both must be among the columns that are sent."),
			errhint("ALTER TABLE ... ADD PRIMARY KEY; or name a stream as target, which needs none."));
}

/* The columns that deletions, and updates of the key, tell of the row that was there. */
static bool
is_told(Relation source, const char *column)
{
	Bitmapset  *told;

	if (source->rd_rel->relreplident == REPLICA_IDENTITY_FULL)
		return true;
	told = RelationGetIndexAttrBitmap(source, INDEX_ATTR_BITMAP_IDENTITY_KEY);
	return bms_is_member(get_attnum(RelationGetRelid(source), column) -
						 FirstLowInvalidHeapAttributeNumber, told);
}

/* What a deletion tells must be enough to find the target. */
static void
require_key_columns(Route *route, RouteShape *shape, Relation source)
{
	bool		pulled = ordflow_is_pulled(route->sync->mode);	/* which knows the whole row */

	if (route->sink.shape != SHAPE_EVENT && !pulled &&
		source->rd_rel->relreplident == REPLICA_IDENTITY_NOTHING)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				errmsg("\"%s\" has no replica identity: deletions would not be told",
					   RelationGetRelationName(source)),
				errhint("ALTER TABLE ... REPLICA IDENTITY DEFAULT."));
	for (int i = 0; i < shape->nparts + shape->relation->nkeys; i++)
	{
		int			column = i < shape->nparts ? shape->parts[i].column :
			shape->relation->keys[i - shape->nparts];
		int			from;

		if (i < shape->nparts && shape->parts[i].literal != NULL)
			continue;
		from = shape->from[column];
		if (from >= 0 && (route->sink.shape == SHAPE_EVENT || pulled ||
						  is_told(source, shape->source->columns[from].name)))
			continue;
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("column \"%s\" cannot name the target of sync \"%s\"",
					   shape->relation->columns[column].name, route->sync->name),
				errdetail("A deletion tells the columns of the replica identity alone, so target and key are made of those, as they are."),
				errhint("Use the primary key's columns, or ALTER TABLE ... REPLICA IDENTITY FULL."));
	}
}

/* Of the source's columns that the sync's key is made of; 0: they are not the index's. */
static bool
is_key_index(const RouteShape *shape, Relation source, Form_pg_index index)
{
	const ChangeRelation *relation = shape->relation;
	int			matched = 0;

	for (int k = 0; k < relation->nkeys; k++)
		for (int i = 0; i < index->indnkeyatts; i++)
			matched += index->indkey.values[i] ==
				get_attnum(RelationGetRelid(source),
						   shape->source->columns[shape->from[relation->keys[k]]].name);
	return index->indisunique && matched == relation->nkeys && matched == index->indnkeyatts;
}

/* Two rows with one key, if only until the commit, would be taken for one. */
static void
refuse_deferred_key(Route *route, RouteShape *shape, Relation source)
{
	bool		deferred = false;
	bool		immediate = false;
	ListCell   *cell;

	foreach(cell, route->sink.shape == SHAPE_EVENT ? NIL : RelationGetIndexList(source))
	{
		Relation	index = relation_open(lfirst_oid(cell), AccessShareLock);

		if (is_key_index(shape, source, index->rd_index))
		{
			immediate |= index->rd_index->indimmediate;
			deferred |= !index->rd_index->indimmediate;
		}
		relation_close(index, AccessShareLock);
	}
	if (deferred && !immediate)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_TABLE_DEFINITION),
				errmsg("the key of \"%s\" for sync \"%s\" is deferrable",
					   RelationGetRelationName(source), route->sync->name),
				errdetail("Rows that swap their keys in one transaction could not be told apart."),
				errhint("Make the constraint NOT DEFERRABLE, or add a unique index that is."));
}

void
ordflow_route_check(Route *route)
{
	Relation	source = table_open(route->sync->source, AccessShareLock);
	RowRelation *row = ordflow_row_relation(source);
	RouteShape *shape;

	ordflow_route_forget_relation(route);
	shape = shape_for(route, &row->relation);
	require_key(route, shape);
	require_key_columns(route, shape, source);
	refuse_deferred_key(route, shape, source);
	ordflow_route_forget_relation(route);
	table_close(source, AccessShareLock);
	if (route->is_table)
		ordflow_table_check(route);
}

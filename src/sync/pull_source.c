/*
 * pull_source.c
 *	  The source of a pull: its cursor and key, and its rows read by one query.
 *
 * Whatever has columns can be read: tables, views, foreign tables.  Rows come in the order of the
 * cursor and, where it is the same, of the key; so the place of the last row that is at the target
 * tells where to go on.  Values that are compared are parameters of the columns' own types, so that
 * an index can serve them, and a foreign server be asked.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "base/crontab.h"
#include "sync/pull.h"
#include "sync/row.h"

#define FETCH_ROWS 1000

/* ---- the key ---- */

static int
column_named(const ChangeRelation *relation, const char *name)
{
	for (int i = 0; i < relation->ncolumns; i++)
		if (strcmp(relation->columns[i].name, name) == 0)
			return i;
	return -1;
}

/* The source's column that a column of the target is made of, as it is; -1: there is none. */
static int
source_of(const PullSource *source, const SyncOptions *options, const char *target)
{
	if (options->ncolumns == 0)
		return column_named(source->relation, target);
	for (int i = 0; i < options->ncolumns; i++)
		if (strcmp(options->columns[i], target) == 0)
			return column_named(source->relation, options->expressions[i]);
	return -1;
}

static void
set_key(PullSource *source, const SyncOptions *options)
{
	ChangeRelation *relation = source->relation;
	int		   *keys = palloc((options->nkeys + 1) * sizeof(int));

	if (options->nkeys == 0)
		return;
	for (int i = 0; i < options->nkeys; i++)
	{
		keys[i] = source_of(source, options, options->keys[i]);
		if (keys[i] < 0)
			ereport(ERROR,
					errcode(ERRCODE_UNDEFINED_COLUMN),
					errmsg("the key's \"%s\" is no column of \"%s\" that is sent as it is",
						   options->keys[i], relation->name));
	}
	for (int i = 0; i < relation->ncolumns; i++)
		relation->columns[i].is_key = false;
	for (int i = 0; i < options->nkeys; i++)
		relation->columns[keys[i]].is_key = true;
	relation->keys = keys;
	relation->nkeys = options->nkeys;
}

/* ---- the cursor ---- */

/* With its schema, for whatever search_path.  22023 where the type has none. */
char *
ordflow_pull_operator(Oid type, int which)
{
	TypeCacheEntry *entry = lookup_type_cache(type, which);
	Oid			operator = which == TYPECACHE_EQ_OPR ? entry->eq_opr :
		which == TYPECACHE_LT_OPR ? entry->lt_opr : entry->gt_opr;
	HeapTuple	tuple;
	Form_pg_operator form;
	char	   *name;

	if (!OidIsValid(operator))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("values of type %s have no order", format_type_be(type)),
				errhint("The cursor, and the key, need types that an index can sort."));
	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "operator %u is not there", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	name = psprintf("OPERATOR(%s.%s)",
					quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return name;
}

static CursorKind
kind_of(Oid type)
{
	switch (type)
	{
		case TIMESTAMPTZOID:
		case TIMESTAMPOID:
		case DATEOID:
			return CURSOR_TIME;
		case XID8OID:
			return CURSOR_XID;
		default:
			return CURSOR_ORDER;
	}
}

static void
set_order(PullSource *source, const SyncDefinition *sync, const SyncOptions *options)
{
	ChangeRelation *relation = source->relation;
	int			cursor;

	source->order = palloc((relation->nkeys + 1) * sizeof(int));
	if (strcmp(sync->mode, PULL_FULL) == 0)
		return;
	if (options->cursor == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a sync of mode scheduled needs the option cursor"),
				errhint("A column that is set anew whenever a row changes: options => '{\"cursor\": \"updated_at\"}'; or use mode full."));
	cursor = column_named(relation, options->cursor);
	if (cursor < 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("the cursor \"%s\" is no column of \"%s\"", options->cursor,
					   relation->name));
	if (relation->nkeys == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" has no primary key, so the option key is needed", relation->name),
				errhint("A list of columns that no two rows have the same: \"key\": [\"id\"]."));
	source->kind = kind_of(relation->columns[cursor].type);
	source->order[source->norder++] = cursor;
	for (int i = 0; i < relation->nkeys; i++)
		if (relation->keys[i] != cursor)
			source->order[source->norder++] = relation->keys[i];
	for (int i = 0; i < source->norder; i++)
		(void) ordflow_pull_operator(relation->columns[source->order[i]].type, TYPECACHE_LT_OPR);
}

/* ---- the tables behind it ---- */

/* What a query of the source reads, views looked through, with partitions and children. */
static List *
tables_of(const PullSource *source, Oid role)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *relids = NIL;
	RoleSwitch	saved = ordflow_role_enter(role, true);
	SPIPlanPtr	plan;
	ListCell   *cell;

	SPI_connect();
	plan = SPI_prepare(psprintf("SELECT FROM %s", source->name), 0, NULL);
	if (plan == NULL)
		elog(ERROR, "the source could not be planned");
	MemoryContextSwitchTo(context);
	foreach(cell, SPI_plan_get_plan_sources(plan))
	{
		ListCell   *relid;

		foreach(relid, ((CachedPlanSource *) lfirst(cell))->relationOids)
			relids = list_concat_unique_oid(relids, find_all_inheritors(lfirst_oid(relid), NoLock,
																		NULL));
	}
	SPI_finish();
	ordflow_role_leave(saved);
	MemoryContextSwitchTo(context);
	return relids;
}

static void
set_tables(PullSource *source, const SyncDefinition *sync, const SyncOptions *options)
{
	ListCell   *cell;

	if (source->kind == CURSOR_NONE)
		return;
	source->relids = tables_of(source, get_role_oid(sync->role, false));
	foreach(cell, source->relids)
		if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_FOREIGN_TABLE)
			source->kind = CURSOR_REMOTE;
	if (source->kind == CURSOR_REMOTE && options->overlap == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a sync of a foreign table by a cursor needs the option overlap"),
				errdetail("Nobody here can see which transactions are open there, and commit later with an earlier cursor."),
				errhint("How far each pull goes back behind what it has: \"overlap\": \"5 min\", or a number; 0 where nobody commits late."));
}

PullSource *
ordflow_pull_source(SyncDefinition *sync, SyncOptions *options)
{
	PullSource *source = palloc0(sizeof(PullSource));
	StringInfoData copy;
	Relation	rel;
	uint32		number;

	if (get_rel_name(sync->source) == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("the source of sync \"%s\" has been dropped", sync->name));
	rel = relation_open(sync->source, AccessShareLock);
	/* a copy of our own: what is kept of the relation may be made anew meanwhile */
	initStringInfo(&copy);
	ordflow_wire_relation(&copy, 0, &ordflow_row_relation(rel)->relation);
	source->relation = ordflow_wire_read_relation(copy.data, copy.len, &number);
	source->relid = sync->source;
	source->name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											  RelationGetRelationName(rel));
	relation_close(rel, AccessShareLock);
	set_key(source, options);
	set_order(source, sync, options);
	set_tables(source, sync, options);
	return source;
}

/* ---- what create_sync() and alter_sync() check ---- */

static void
check_schedule(const SyncOptions *options)
{
	Crontab		crontab;
	pg_tz	   *zone = ordflow_crontab_zone(options->time_zone);

	if (zone == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("time zone \"%s\" is not known", options->time_zone));
	if (options->schedule == NULL)
		return;
	ordflow_crontab_parse(options->schedule, &crontab, NULL);
	if (ordflow_crontab_next(&crontab, zone, GetCurrentTimestamp()) == DT_NOEND)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("schedule \"%s\" has no time", options->schedule));
}

void
ordflow_pull_check_sync(SyncDefinition *sync, SyncOptions *options)
{
	PullSource *source = ordflow_pull_source(sync, options);

	check_schedule(options);
	if (source->kind != CURSOR_NONE)
		ordflow_pull_check_overlap(source, options);
}

/* ---- the query ---- */

/* Parameters of the columns' own types. */
typedef struct SourceQuery
{
	StringInfoData sql;
	int			n;
	Oid		   *types;
	Datum	   *values;
} SourceQuery;

/* A parameter's number. */
static int
add_parameter(SourceQuery *query, const PullSource *source, int column, const char *text)
{
	Oid			type = source->relation->columns[column].type;
	Oid			input;
	Oid			ioparam;

	getTypeInputInfo(type, &input, &ioparam);
	query->types[query->n] = type;
	query->values[query->n] = OidInputFunctionCall(input, unconstify(char *, text), ioparam, -1);
	return ++query->n;
}

static void
compare(SourceQuery *query, const PullSource *source, int place, int which, int parameter)
{
	const ChangeColumn *column = &source->relation->columns[source->order[place]];

	appendStringInfo(&query->sql, "%s %s $%d", quote_identifier(column->name),
					 ordflow_pull_operator(column->type, which), parameter);
}

/* Behind that place: greater in the first column in which they differ. */
static void
put_after(SourceQuery *query, const PullSource *source, char **after)
{
	int			first = query->n + 1;

	for (int i = 0; i < source->norder; i++)
		(void) add_parameter(query, source, source->order[i], after[i]);
	/* said twice, for the index */
	appendStringInfoString(&query->sql, " AND NOT ");
	compare(query, source, 0, TYPECACHE_LT_OPR, first);
	appendStringInfoString(&query->sql, " AND (");
	for (int i = 0; i < source->norder; i++)
	{
		appendStringInfoString(&query->sql, i > 0 ? " OR (" : "(");
		for (int k = 0; k < i; k++)
		{
			compare(query, source, k, TYPECACHE_EQ_OPR, first + k);
			appendStringInfoString(&query->sql, " AND ");
		}
		compare(query, source, i, TYPECACHE_GT_OPR, first + i);
		appendStringInfoChar(&query->sql, ')');
	}
	appendStringInfoChar(&query->sql, ')');
}

static void
put_condition(SourceQuery *query, Pull *pull)
{
	const PullSource *source = pull->source;
	const PullRow *row = pull->row;
	int			number;

	if (pull->full)
		return;
	number = add_parameter(query, source, source->order[0], row->until);
	appendStringInfoString(&query->sql, " WHERE NOT ");
	compare(query, source, 0, TYPECACHE_GT_OPR, number);
	if (row->nafter == source->norder)
		put_after(query, source, row->after);
	else if (row->bound != NULL)
	{
		number = add_parameter(query, source, source->order[0],
							   ordflow_pull_lower(pull, row->bound));
		appendStringInfoString(&query->sql, " AND ");
		compare(query, source, 0, TYPECACHE_GT_OPR, number);
	}
	for (int i = 0; i < source->norder; i++)
	{
		const ChangeColumn *column = &source->relation->columns[source->order[i]];

		appendStringInfo(&query->sql, "%s%s USING %s", i > 0 ? ", " : " ORDER BY ",
						 quote_identifier(column->name),
						 ordflow_pull_operator(column->type, TYPECACHE_LT_OPR));
	}
}

static void
make_query(SourceQuery *query, Pull *pull)
{
	const ChangeRelation *relation = pull->source->relation;

	initStringInfo(&query->sql);
	query->n = 0;
	query->types = palloc((pull->source->norder + 2) * sizeof(Oid));
	query->values = palloc((pull->source->norder + 2) * sizeof(Datum));
	appendStringInfoString(&query->sql, "SELECT ");
	for (int i = 0; i < relation->ncolumns; i++)
		appendStringInfo(&query->sql, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(relation->columns[i].name));
	appendStringInfo(&query->sql, " FROM %s", pull->source->name);
	put_condition(query, pull);
}

/* ---- its rows ---- */

/* As texts; of one that is too large the key alone, and a last column that says so. */
static void
keep_row(Pull *pull, HeapTuple tuple, TupleDesc desc, Datum *values, bool *nulls)
{
	const ChangeRelation *relation = pull->source->relation;
	Size		length = 0;
	bool		too_large;

	for (int i = 0; i < relation->ncolumns; i++)
	{
		char	   *text = SPI_getvalue(tuple, desc, i + 1);

		nulls[i] = text == NULL;
		if (text == NULL)
			continue;
		length += strlen(text);
		values[i] = CStringGetTextDatum(text);
		pfree(text);
	}
	too_large = length > SYNC_ROW_MAX;
	for (int i = 0; too_large && i < relation->ncolumns; i++)
		nulls[i] |= !relation->columns[i].is_key && strcmp(relation->columns[i].name,
														   pull->route->options->cursor != NULL ?
														   pull->route->options->cursor : "") != 0;
	nulls[relation->ncolumns] = !too_large;
	values[relation->ncolumns] = CStringGetTextDatum("too large");
	tuplestore_putvalues(pull->rows, pull->rows_desc, values, nulls);
}

static void
keep_rows(Pull *pull, Portal portal)
{
	int			n = pull->source->relation->ncolumns + 1;
	Datum	   *values = palloc(n * sizeof(Datum));
	bool	   *nulls = palloc(n * sizeof(bool));
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ordflow pulled rows",
												  ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			MemoryContext before = MemoryContextSwitchTo(context);

			keep_row(pull, SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
			MemoryContextSwitchTo(before);
			MemoryContextReset(context);
		}
		SPI_freetuptable(SPI_tuptable);
		ordflow_pull_check();
	}
	MemoryContextDelete(context);
}

static void
begin_rows(Pull *pull)
{
	MemoryContext before = MemoryContextSwitchTo(pull->memory);
	int			n = pull->source->relation->ncolumns + 1;

	pull->rows_desc = CreateTemplateTupleDesc(n);
	for (int i = 1; i <= n; i++)
		TupleDescInitEntry(pull->rows_desc, i, NULL, TEXTOID, -1, 0);
	pull->rows = tuplestore_begin_heap(false, true, work_mem);
	MemoryContextSwitchTo(before);
}

void
ordflow_pull_read(Pull *pull)
{
	RoleSwitch	saved;
	SourceQuery		query;
	SPIPlanPtr	plan;
	Portal		portal;

	begin_rows(pull);
	make_query(&query, pull);
	saved = ordflow_role_enter(pull->route->role, true);
	SPI_connect();
	plan = SPI_prepare_cursor(query.sql.data, query.n, query.types, CURSOR_OPT_NO_SCROLL);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", query.sql.data);
	portal = SPI_cursor_open(NULL, plan, query.values, NULL, true);
	keep_rows(pull, portal);
	SPI_cursor_close(portal);
	SPI_finish();
	ordflow_role_leave(saved);
}

/*
 * table_compare.c
 *	  What a table of this database holds, beside what it should: see verify.c.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/typcache.h"

#include "base/json.h"
#include "sync/internal.h"
#include "sync/pull.h"

#define SCAN_ROWS 1000

/* ---- keys ---- */

static char *
key_text(char **values, int n)
{
	JsonBuild	json = {0};

	if (n == 1)
		return values[0];
	ordflow_json_begin_array(&json);
	for (int i = 0; i < n; i++)
		ordflow_json_put_text(&json, NULL, values[i]);
	ordflow_json_end_array(&json);
	return ordflow_json_text(ordflow_json_finish(&json));
}

static const SinkField *
field_named(const SinkItem *item, const char *name)
{
	for (int i = 0; i < item->nfields; i++)
		if (strcmp(item->fields[i].name, name) == 0)
			return &item->fields[i];
	return NULL;
}

char *
ordflow_table_key(Route *route, const SinkItem *item)
{
	char	  **names;
	Oid		   *types;
	int			n = ordflow_table_keys(route, &names, &types);
	char	  **values = palloc((n + 1) * sizeof(char *));

	for (int i = 0; i < n; i++)
	{
		const SinkField *field = field_named(item, names[i]);

		if (field == NULL || field->value == NULL)
			return NULL;
		values[i] = unconstify(char *, field->value);
	}
	return key_text(values, n);
}

char *
ordflow_table_source_key(Route *route, const char *key)
{
	char	  **names;
	Oid		   *types;
	int			n = ordflow_table_keys(route, &names, &types);
	char	  **values = palloc((n + 1) * sizeof(char *));
	Jsonb	   *array = NULL;

	if (n > 1)
		array = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(key)));
	for (int i = 0; i < n; i++)
	{
		JsonbValue *element = array ? getIthJsonbValueFromContainer(&array->root, i) : NULL;

		values[i] = element ? pnstrdup(element->val.string.val, element->val.string.len) :
			pstrdup(key);
	}
	return ordflow_route_source_key(route, names, values, n);
}

/* ---- every row ---- */

static char *
scan_sql(Route *route, char **names, int n)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	/* as output functions write them, which of booleans is not what a cast says */
	for (int i = 0; i < n; i++)
		appendStringInfo(&sql, "%spg_catalog.format('%%s', %s)", i > 0 ? ", " : "",
						 quote_identifier(names[i]));
	appendStringInfo(&sql, " FROM %s", ordflow_table_name(route));
	return sql.data;
}

void
ordflow_table_scan(Route *route, SinkMeet meet, void *context)
{
	MemoryContext before = CurrentMemoryContext;
	RoleSwitch	saved = ordflow_role_enter(route->role, true);
	char	  **names;
	Oid		   *types;
	int			n = ordflow_table_keys(route, &names, &types);
	char	  **values = palloc((n + 1) * sizeof(char *));
	Portal		portal;
	uint64		rows;

	SPI_connect();
	portal = SPI_cursor_open_with_args(NULL, scan_sql(route, names, n), 0, NULL, NULL, NULL, true,
									   CURSOR_OPT_NO_SCROLL);
	do
	{
		SPITupleTable *table;

		SPI_cursor_fetch(portal, true, SCAN_ROWS);
		rows = SPI_processed;
		table = SPI_tuptable;
		for (uint64 i = 0; i < rows; i++)
		{
			char	   *key;

			SPI_tuptable = table;
			for (int k = 0; k < n; k++)
				values[k] = ordflow_result_text(i, k + 1);
			key = key_text(values, n);
			(void) meet(context, NULL, 0, key, strlen(key));
		}
		SPI_freetuptable(table);
	} while (rows > 0);
	SPI_cursor_close(portal);
	SPI_finish();
	ordflow_role_leave(saved);
	MemoryContextSwitchTo(before);
}

/* ---- comparing ---- */

/* Built-in types are compared as what they are; texts, and what others bring, byte by byte. */
static bool
has_equality(Oid type)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_EQ_OPR);

	return !type_is_collatable(type) && OidIsValid(entry->eq_opr) &&
		entry->eq_opr < FirstNormalObjectId;
}

static Oid
put_cast(StringInfo sql, const char *table, const char *column, int number)
{
	Oid			relid = RangeVarGetRelid(makeRangeVarFromNameList(ordflow_qualified_names(table)),
										 NoLock, false);
	AttrNumber	attno = get_attnum(relid, column);
	Oid			type;
	int32		typmod;
	Oid			collation;

	if (attno <= 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("column \"%s\" of table %s does not exist", column, table));
	get_atttypetypmodcoll(relid, attno, &type, &typmod, &collation);
	appendStringInfo(sql, "o.c%d::%s", number,
					 format_type_extended(type, typmod,
										  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
	return type;
}

static void
put_comparison(StringInfo sql, const char *table, const char *column, int number)
{
	StringInfoData cast;
	Oid			type;

	initStringInfo(&cast);
	type = put_cast(&cast, table, column, number);
	if (has_equality(type))
		appendStringInfo(sql, " AND t.%s IS NOT DISTINCT FROM %s", quote_identifier(column),
						 cast.data);
	else
		appendStringInfo(sql, " AND t.%s::pg_catalog.text COLLATE \"C\" IS NOT DISTINCT FROM "
						 "(%s)::pg_catalog.text COLLATE \"C\"", quote_identifier(column),
						 cast.data);
}

/* Of items with the same fields: is it there, and is it the same? */
static char *
compare_sql(Route *route, const SinkItem *item)
{
	const char *table = ordflow_table_name(route);
	char	  **names;
	Oid		   *types;
	int			nkeys = ordflow_table_keys(route, &names, &types);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT t.%s IS NOT NULL, t.%s IS NOT NULL", quote_identifier(names[0]),
					 quote_identifier(names[0]));
	for (int i = 0; i < item->nfields; i++)
		if (!ordflow_table_is_generated(route, item->fields[i].name))
			put_comparison(&sql, table, item->fields[i].name, i + 1);
	appendStringInfoString(&sql, " FROM ROWS FROM (");
	for (int i = 0; i < item->nfields; i++)
		appendStringInfo(&sql, "%spg_catalog.unnest($%d)", i > 0 ? ", " : "", i + 1);
	appendStringInfoString(&sql, ") WITH ORDINALITY AS o(");
	for (int i = 0; i < item->nfields; i++)
		appendStringInfo(&sql, "c%d, ", i + 1);
	appendStringInfo(&sql, "n) LEFT JOIN %s AS t ON ", table);
	for (int k = 0; k < nkeys; k++)
	{
		const SinkField *field = field_named(item, names[k]);

		if (field == NULL)
			ereport(ERROR,
					errcode(ERRCODE_UNDEFINED_COLUMN),
					errmsg("sync \"%s\" does not send \"%s\", the target's key", route->sync->name,
						   names[k]));
		appendStringInfo(&sql, "%st.%s %s ", k > 0 ? " AND " : "", quote_identifier(names[k]),
						 ordflow_pull_operator(types[k], TYPECACHE_EQ_OPR));
		(void) put_cast(&sql, table, names[k], field - item->fields + 1);
	}
	appendStringInfoString(&sql, " ORDER BY o.n");
	return sql.data;
}

static Datum
column_array(const SinkItem *items, int n, int field)
{
	Datum	   *values = palloc0(n * sizeof(Datum));
	bool	   *nulls = palloc0(n * sizeof(bool));
	int			dims[1] = {n};
	int			bounds[1] = {1};

	for (int i = 0; i < n; i++)
	{
		const SinkField *value = &items[i].fields[field];

		nulls[i] = value->value == NULL;
		if (!nulls[i])
			values[i] = PointerGetDatum(cstring_to_text_with_len(value->value, value->length));
	}
	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, bounds, TEXTOID, -1, false,
											  TYPALIGN_INT));
}

static void
compare_same(Route *route, const SinkItem *items, int n, SinkFound *found)
{
	int			nfields = items[0].nfields;
	Datum	   *values = palloc((nfields + 1) * sizeof(Datum));
	Oid		   *types = palloc((nfields + 1) * sizeof(Oid));
	bool		isnull;

	for (int i = 0; i < nfields; i++)
	{
		values[i] = column_array(items, n, i);
		types[i] = TEXTARRAYOID;
	}
	SPI_connect();
	/* as it is now: whoever asks has waited for something */
	if (SPI_execute_with_args(compare_sql(route, items), nfields, types, values, NULL, false,
							  0) != SPI_OK_SELECT || SPI_processed != n)
		elog(ERROR, "rows of %s could not be compared", ordflow_table_name(route));
	for (int i = 0; i < n; i++)
		found[i] = !DatumGetBool(ordflow_result(i, 1, &isnull)) ? SINK_FOUND_NOTHING :
			DatumGetBool(ordflow_result(i, 2, &isnull)) ? SINK_FOUND_SAME : SINK_FOUND_OTHER;
	SPI_finish();
}

static bool
has_same_fields(const SinkItem *a, const SinkItem *b)
{
	if (a->nfields != b->nfields)
		return false;
	for (int i = 0; i < a->nfields; i++)
		if (strcmp(a->fields[i].name, b->fields[i].name) != 0)
			return false;
	return true;
}

void
ordflow_table_compare(Route *route, const SinkItem *items, int n, SinkFound *found)
{
	MemoryContext before = CurrentMemoryContext;
	RoleSwitch	saved = ordflow_role_enter(route->role, true);
	int			first = 0;

	for (int i = 1; i <= n; i++)
	{
		if (i < n && has_same_fields(&items[first], &items[i]))
			continue;
		compare_same(route, &items[first], i - first, &found[first]);
		first = i;
	}
	ordflow_role_leave(saved);
	MemoryContextSwitchTo(before);
}

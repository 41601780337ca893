/*
 * table.c
 *	  A table of this database as target: written by the sync's role, in the transaction that
 *	  moves the position.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/rls.h"
#include "utils/varlena.h"

#include "sync/internal.h"

#define PLANS_MAX 64			/* of a target; then all are made anew */

/* A statement for one set of columns. */
typedef struct TablePlan
{
	char	   *sql;
	SPIPlanPtr	plan;
} TablePlan;

struct TableTarget
{
	Oid			relid;
	char	   *name;			/* quoted, qualified */
	int			nkeys;
	char	  **keys;
	int			nplans;
	TablePlan	plans[PLANS_MAX];
};

static Oid
target_relid(const Route *route)
{
	List	   *names;

	if (route->sync->target == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("sync \"%s\" has neither a server nor a target", route->sync->name),
				errhint("Without a server the target is a table of this database: target => 'schema.table'."));
	names = ordflow_qualified_names(route->sync->target);
	return RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, false);
}

/* The key: the option, or the target's primary key. */
static void
read_keys(Route *route, TableTarget *table, Relation rel)
{
	Bitmapset  *primary;
	int			attno = -1;

	if (route->options->nkeys > 0)
	{
		table->keys = palloc(route->options->nkeys * sizeof(char *));
		for (int i = 0; i < route->options->nkeys; i++)
			table->keys[table->nkeys++] = pstrdup(route->options->keys[i]);
		return;
	}
	primary = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	table->keys = palloc((bms_num_members(primary) + 1) * sizeof(char *));
	while ((attno = bms_next_member(primary, attno)) >= 0)
		table->keys[table->nkeys++] =
			get_attname(table->relid, attno + FirstLowInvalidHeapAttributeNumber, false);
}

static TableTarget *
get_target(Route *route)
{
	MemoryContext before;
	TableTarget *table;
	Relation	rel;

	if (route->table != NULL && get_rel_name(route->table->relid) != NULL)
		return route->table;
	before = MemoryContextSwitchTo(route->context);
	table = palloc0(sizeof(TableTarget));
	table->relid = target_relid(route);
	rel = table_open(table->relid, AccessShareLock);
	table->name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											 RelationGetRelationName(rel));
	read_keys(route, table, rel);
	table_close(rel, NoLock);
	MemoryContextSwitchTo(before);
	route->table = table;
	return table;
}

/* ---- statements ---- */

static Oid
column_type(TableTarget *table, const char *name, int32 *typmod)
{
	AttrNumber	attno = get_attnum(table->relid, name);
	Oid			type;
	Oid			collation;

	if (attno <= 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("column \"%s\" of table %s does not exist", name, table->name));
	get_atttypetypmodcoll(table->relid, attno, &type, typmod, &collation);
	return type;
}

static bool
is_generated(TableTarget *table, const char *name)
{
	AttrNumber	attno = get_attnum(table->relid, name);

	return attno > 0 && get_attgenerated(table->relid, attno) != '\0';
}

static bool
is_key(TableTarget *table, const char *name)
{
	for (int i = 0; i < table->nkeys; i++)
		if (strcmp(table->keys[i], name) == 0)
			return true;
	return false;
}

static const SinkField *
find_field(const SinkItem *item, const char *name)
{
	for (int i = 0; i < item->nfields; i++)
		if (strcmp(item->fields[i].name, name) == 0)
			return &item->fields[i];
	return NULL;
}

/* The parameter of a column, as the text that it is. */
static void
put_parameter(StringInfo sql, TableTarget *table, const char *column, int number)
{
	int32		typmod;
	Oid			type = column_type(table, column, &typmod);

	appendStringInfo(sql, "$%d::%s", number,
					 format_type_extended(type, typmod,
										  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
}

static void
put_keys(StringInfo sql, TableTarget *table, int from)
{
	for (int i = 0; i < table->nkeys; i++)
	{
		appendStringInfo(sql, "%s%s = ", i > 0 ? " AND " : " WHERE ",
						 quote_identifier(table->keys[i]));
		put_parameter(sql, table, table->keys[i], from + i);
	}
}

static char *
delete_sql(TableTarget *table)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "DELETE FROM %s", table->name);
	put_keys(&sql, table, 1);
	return sql.data;
}

/* fields: the columns to write, in order. */
static char *
upsert_sql(TableTarget *table, const SinkField *const *fields, int n)
{
	StringInfoData sql;
	bool		any = false;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (", table->name);
	for (int i = 0; i < n; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", quote_identifier(fields[i]->name));
	appendStringInfoString(&sql, ") OVERRIDING SYSTEM VALUE VALUES (");
	for (int i = 0; i < n; i++)
	{
		appendStringInfoString(&sql, i > 0 ? ", " : "");
		put_parameter(&sql, table, fields[i]->name, i + 1);
	}
	appendStringInfoString(&sql, ") ON CONFLICT (");
	for (int i = 0; i < table->nkeys; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", quote_identifier(table->keys[i]));
	appendStringInfoString(&sql, ") DO ");
	for (int i = 0; i < n; i++)
	{
		if (is_key(table, fields[i]->name))
			continue;
		appendStringInfo(&sql, "%s%s = excluded.%s", any ? ", " : "UPDATE SET ",
						 quote_identifier(fields[i]->name), quote_identifier(fields[i]->name));
		any = true;
	}
	if (!any)
		appendStringInfoString(&sql, "NOTHING");
	return sql.data;
}

static SPIPlanPtr
plan_for(Route *route, TableTarget *table, char *sql, int n)
{
	Oid			types[MaxTupleAttributeNumber];
	SPIPlanPtr	plan;

	for (int i = 0; i < table->nplans; i++)
		if (strcmp(table->plans[i].sql, sql) == 0)
			return table->plans[i].plan;
	if (table->nplans == PLANS_MAX)
	{
		for (int i = 0; i < table->nplans; i++)
			SPI_freeplan(table->plans[i].plan);
		table->nplans = 0;
	}
	for (int i = 0; i < n; i++)
		types[i] = TEXTOID;
	plan = SPI_prepare(sql, n, types);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", sql);
	SPI_keepplan(plan);
	table->plans[table->nplans].sql = MemoryContextStrdup(route->context, sql);
	table->plans[table->nplans++].plan = plan;
	return plan;
}

static void
run(Route *route, TableTarget *table, char *sql, const SinkField *const *fields, int n)
{
	Datum	   *values = palloc((n + 1) * sizeof(Datum));
	char	   *nulls = palloc(n + 1);
	SPIPlanPtr	plan = plan_for(route, table, sql, n);
	int			status;

	for (int i = 0; i < n; i++)
	{
		nulls[i] = fields[i]->value != NULL ? ' ' : 'n';
		values[i] = fields[i]->value != NULL ?
			PointerGetDatum(cstring_to_text_with_len(fields[i]->value, fields[i]->length)) :
			(Datum) 0;
	}
	status = SPI_execute_plan(plan, values, nulls, false, 0);
	if (status < 0)
		elog(ERROR, "could not execute \"%s\": %s", sql, SPI_result_code_string(status));
}

/* ---- items ---- */

static void
put(Route *route, TableTarget *table, const SinkItem *item)
{
	const SinkField **fields = palloc((item->nfields + 1) * sizeof(SinkField *));
	int			n = 0;

	for (int i = 0; i < table->nkeys; i++)
	{
		const SinkField *key = find_field(item, table->keys[i]);

		if (key != NULL && key->value == NULL)
			ereport(ERROR,
					errcode(ERRCODE_NOT_NULL_VIOLATION),
					errmsg("column \"%s\" of the key is null", table->keys[i]),
					errdetail("No later change of the row would find it."));
	}
	for (int i = 0; i < item->nfields; i++)
		if (!is_generated(table, item->fields[i].name))
			fields[n++] = &item->fields[i];
	run(route, table, upsert_sql(table, fields, n), fields, n);
}

static void
delete(Route *route, TableTarget *table, const SinkItem *item)
{
	const SinkField **fields = palloc((table->nkeys + 1) * sizeof(SinkField *));

	for (int i = 0; i < table->nkeys; i++)
	{
		fields[i] = find_field(item, table->keys[i]);
		if (fields[i] == NULL)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_TABLE_DEFINITION),
					errmsg("sync \"%s\" is told of a deleted row without \"%s\", the target's key",
						   route->sync->name, table->keys[i]));
	}
	run(route, table, delete_sql(table), fields, table->nkeys);
}

/*
 * What is deferred to the commit runs as the extension's owner, so PostgreSQL refuses to defer
 * anything in a restricted operation.  A role that may act as the owner needs no restriction, where
 * the table, and so its triggers, is of such a one too.
 */
static bool
is_trusted(const Route *route)
{
	List	   *names;
	Oid			relid;
	HeapTuple	tuple;
	Oid			owner;

	if (route->sync->target == NULL || !has_privs_of_role(route->role, ordflow_owner()))
		return false;
	names = ordflow_qualified_names(route->sync->target);
	relid = RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, true);
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		return false;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return has_privs_of_role(owner, ordflow_owner());
}

/* For others all is checked at once. */
static Statement check_at_once = {
	.sql = "SET CONSTRAINTS ALL IMMEDIATE"
};

void
ordflow_table_begin(const Route *route)
{
	if (is_trusted(route))
		return;
	SPI_connect();
	ordflow_execute(&check_at_once, NULL, NULL);
	SPI_finish();
}

void
ordflow_table_apply(Route *route, const SinkItem *item)
{
	RoleSwitch	saved = ordflow_role_enter(route->role, !is_trusted(route));
	TableTarget *table;

	SPI_connect();
	table = get_target(route);
	if (item->op == SINK_TRUNCATE)
		run(route, table, psprintf("TRUNCATE %s", table->name), NULL, 0);
	else if (item->op == SINK_DELETE)
		delete(route, table, item);
	else
		put(route, table, item);
	SPI_finish();
	ordflow_role_leave(saved);
}

char *
ordflow_table_name(Route *route)
{
	return get_target(route)->name;
}

int
ordflow_table_keys(Route *route, char ***keys, Oid **types)
{
	TableTarget *table = get_target(route);
	int32		typmod;

	*keys = table->keys;
	*types = palloc((table->nkeys + 1) * sizeof(Oid));
	for (int i = 0; i < table->nkeys; i++)
		(*types)[i] = column_type(table, table->keys[i], &typmod);
	return table->nkeys;
}

/* ---- checks ---- */

static bool
has_unique_index(TableTarget *table)
{
	Relation	rel = table_open(table->relid, AccessShareLock);
	ListCell   *cell;
	bool		found = false;

	foreach(cell, RelationGetIndexList(rel))
	{
		Relation	index = relation_open(lfirst_oid(cell), AccessShareLock);
		Form_pg_index form = index->rd_index;
		int			matched = 0;

		for (int i = 0; i < form->indnkeyatts; i++)
			matched += form->indkey.values[i] > 0 &&
				is_key(table, get_attname(table->relid, form->indkey.values[i], false));
		found |= form->indisunique && form->indisvalid && form->indimmediate &&
			matched == form->indnkeyatts && matched == table->nkeys &&
			RelationGetIndexPredicate(index) == NIL;
		relation_close(index, AccessShareLock);
	}
	table_close(rel, NoLock);
	return found;
}

void
ordflow_table_check(Route *route)
{
	static const AclMode needed[] = {ACL_SELECT, ACL_INSERT, ACL_UPDATE, ACL_DELETE};
	TableTarget *table = get_target(route);
	int32		typmod;

	if (get_rel_relkind(table->relid) != RELKIND_RELATION &&
		get_rel_relkind(table->relid) != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("the target %s is no table", table->name));
	if (table->relid == route->sync->source)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s cannot be its own target", table->name));
	for (int i = 0; i < lengthof(needed); i++)
		if (pg_class_aclcheck(table->relid, route->role, needed[i]) != ACLCHECK_OK)
			aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, table->name);
	if (check_enable_rls(table->relid, route->role, true) == RLS_ENABLED)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("row level security of %s applies to role \"%s\"", table->name,
					   GetUserNameFromId(route->role, false)),
				errdetail("Deletions would miss rows that a policy hides."));
	if (route->options->on_truncate == ON_TRUNCATE_APPLY &&
		pg_class_aclcheck(table->relid, route->role, ACL_TRUNCATE) != ACLCHECK_OK)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied for table %s", table->name),
				errdetail("When the source is emptied, the target is to be: that takes TRUNCATE."),
				errhint("GRANT TRUNCATE, or set the option on_truncate to ignore or stop."));
	for (int i = 0; i < route->options->ncolumns; i++)
		(void) column_type(table, route->options->columns[i], &typmod);
	for (int i = 0; i < table->nkeys; i++)
		(void) column_type(table, table->keys[i], &typmod);
	if (table->nkeys == 0 || !has_unique_index(table))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				errmsg("the target %s has no unique index on the key", table->name),
				errhint("ALTER TABLE %s ADD PRIMARY KEY (...); or name the columns of a unique index by the option key.",
						table->name));
}

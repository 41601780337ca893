/*
 * dual_write.c
 *	  Puts the triggers of a dual_write sync on its source, and takes them off again.
 *
 * They are made as the extension's owner, who alone may execute their functions: the role that
 * they write as is an argument of theirs.
 *
 * They depend on the target: it may be renamed, and is not dropped without saying CASCADE.  A
 * constraint trigger FROM it would do the same, and survive a dump, but stays on partitions that
 * are detached.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/objectaddress.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "foreign/fdwapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "sync/dual_write.h"
#include "sync/dual_write_internal.h"

/* ---- guards ---- */

static void
require_source(Relation rel, Oid owner)
{
	char		kind = rel->rd_rel->relkind;
	AclResult	may = pg_class_aclcheck(RelationGetRelid(rel), owner, ACL_TRIGGER);

	/* as CREATE TRIGGER: it can keep others from writing the table */
	if (may != ACLCHECK_OK)
		aclcheck_error(may, get_relkind_objtype(kind), RelationGetRelationName(rel));

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("%s is not a table", ordflow_dual_write_table(RelationGetRelid(rel))),
				errdetail("The source of a dual_write sync must be one, as its triggers do the work."));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("a temporary table cannot be the source of a dual_write sync"));
}

static void
require_writable(Relation rel)
{
	const FdwRoutine *routine = GetFdwRoutineForRelation(rel, false);
	int			all = (1 << CMD_INSERT) | (1 << CMD_UPDATE) | (1 << CMD_DELETE);
	int			can;

	can = routine->IsForeignRelUpdatable != NULL ? routine->IsForeignRelUpdatable(rel) :
		(routine->ExecForeignInsert != NULL) << CMD_INSERT |
		(routine->ExecForeignUpdate != NULL) << CMD_UPDATE |
		(routine->ExecForeignDelete != NULL) << CMD_DELETE;
	if ((can & all) != all)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("foreign table %s does not take INSERT, UPDATE and DELETE",
					   ordflow_dual_write_table(RelationGetRelid(rel))));
}

static void
require_target(Relation rel)
{
	char		kind = rel->rd_rel->relkind;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE &&
		kind != RELKIND_FOREIGN_TABLE)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("%s is not a table", ordflow_dual_write_table(RelationGetRelid(rel))),
				errdetail("The target of a dual_write sync is a table of this database or a foreign table."));
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("a temporary table cannot be the target of a dual_write sync"));
	if (kind == RELKIND_FOREIGN_TABLE)
		require_writable(rel);
}

static void
require_two_tables(Oid source, Oid target)
{
	if (source == target ||
		(get_rel_relispartition(source) &&
		 list_member_oid(get_partition_ancestors(source), target)) ||
		(get_rel_relispartition(target) &&
		 list_member_oid(get_partition_ancestors(target), source)))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("table %s cannot be written to itself", ordflow_dual_write_table(source)),
				source != target ?
				errdetail("%s is a partition of it, or it is one of that.",
						  ordflow_dual_write_table(target)) : 0);
}

/* Does an index keep these columns, or fewer of them where a part will do, unique at once? */
static bool
index_is_on(Relation index, const AttrNumber *columns, int ncolumns, bool part)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indimmediate || !form->indisvalid ||
		RelationGetIndexPredicate(index) != NIL || RelationGetIndexExpressions(index) != NIL ||
		(!part && form->indnkeyatts != ncolumns))
		return false;
	for (int i = 0; i < form->indnkeyatts; i++)
	{
		bool		found = false;

		for (int j = 0; j < ncolumns; j++)
			found = found || columns[j] == form->indkey.values[i];
		if (!found)
			return false;
	}
	return true;
}

static bool
is_unique(Relation rel, const AttrNumber *columns, int ncolumns, bool part)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *cell;
	bool		found = false;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		found = found || index_is_on(index, columns, ncolumns, part);
		index_close(index, NoLock);
	}
	return found;
}

static void
require_unique_target(Relation rel, const DualWrite *spec)
{
	AttrNumber *columns = palloc(spec->nkeys * sizeof(AttrNumber));

	for (int i = 0; i < spec->nkeys; i++)
		columns[i] = get_attnum(spec->target, spec->keys[i]);
	if (!is_unique(rel, columns, spec->nkeys, false))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				errmsg("no unique index of table %s is on the key of the sync alone",
					   ordflow_dual_write_table(spec->target)),
				errhint("Create one on exactly these columns, not partial and not deferrable, or name the columns of one as key."));
}

/* Two rows of the source must never be one of the target, not even in the middle of a statement. */
static void
require_unique_source(Relation rel, const DualSync *sync)
{
	AttrNumber *columns = palloc(sync->nkeys * sizeof(AttrNumber));

	for (int i = 0; i < sync->nplain; i++)
		columns[i] = get_attnum(RelationGetRelid(rel), sync->columns[sync->plain[i]].plain);
	if (!is_unique(rel, columns, sync->nplain, true))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				errmsg("the key of the sync does not identify a row of table %s",
					   ordflow_dual_write_table(RelationGetRelid(rel))),
				errdetail("The key's columns that are columns of the source as they are must have those of a unique index of it among them, not partial and not deferrable."),
				errhint("Take the columns of the source's primary key into the key."));
}

static void
require_keys(const DualWrite *spec)
{
	if (spec->nkeys == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				errmsg("a dual_write sync needs a key"),
				errhint("Name the target's columns that identify a row as option \"key\"."));
	for (int i = 0; i < spec->nkeys; i++)
	{
		int			n = 0;

		for (int j = 0; j < spec->ncolumns; j++)
			n += strcmp(spec->keys[i], spec->target_columns[j]) == 0;
		if (n == 0)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
					errmsg("key column \"%s\" is not among the columns of the sync",
						   spec->keys[i]));
	}
}

static void
require_once(const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
		for (int j = 0; j < i; j++)
			if (strcmp(names[i], names[j]) == 0)
				ereport(ERROR,
						errcode(ERRCODE_DUPLICATE_COLUMN),
						errmsg("column \"%s\" is named twice", names[i]));
}

/* ---- triggers ---- */

static char *
argument_name(HeapTuple trigger, Relation catalog)
{
	bool		isnull;
	Datum		args = heap_getattr(trigger, Anum_pg_trigger_tgargs, RelationGetDescr(catalog),
									&isnull);

	/* each argument ends with a zero byte */
	return isnull || ((Form_pg_trigger) GETSTRUCT(trigger))->tgnargs == 0 ? "" :
		VARDATA_ANY(DatumGetByteaPP(args));
}

/* The names of the sync's triggers on its source. */
static List *
trigger_names(const char *sync, Oid source)
{
	Oid			functions[] = {ordflow_dual_write_function(DUAL_WRITE_CHANGED),
	ordflow_dual_write_function(DUAL_WRITE_TRUNCATED)};
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	List	   *names = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(source));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if ((form->tgfoid == functions[0] || form->tgfoid == functions[1]) &&
			!OidIsValid(form->tgparentid) && strcmp(argument_name(tuple, catalog), sync) == 0)
			names = lappend(names, pstrdup(NameStr(form->tgname)));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return names;
}

/* What one sync deletes another has written: so they do not share a target. */
static void
require_own_target(Oid target)
{
	static Statement others = {
		.sql = "SELECT t.tgrelid FROM pg_catalog.pg_depend AS d "
		"JOIN pg_catalog.pg_trigger AS t ON t.oid = d.objid "
		"WHERE d.classid = 'pg_catalog.pg_trigger'::regclass AND d.refobjid = $1 "
		"AND d.refclassid = 'pg_catalog.pg_class'::regclass AND t.tgfoid = $2 "
		"AND t.tgrelid <> $1 AND t.tgparentid = 0 LIMIT 1",
		.nargs = 2,
		.argtypes = {OIDOID, OIDOID}
	};
	Datum		values[] = {ObjectIdGetDatum(target),
	ObjectIdGetDatum(ordflow_dual_write_function(DUAL_WRITE_CHANGED))};
	bool		isnull;
	Oid			source;

	if (ordflow_execute(&others, values, NULL) == 0)
		return;
	source = DatumGetObjectId(ordflow_result(0, 1, &isnull));
	ereport(ERROR,
			errcode(ERRCODE_DUPLICATE_OBJECT),
			errmsg("table %s is written by another dual_write sync",
				   ordflow_dual_write_table(target)),
			errdetail("Its source is %s.", ordflow_dual_write_table(source)));
}

static void
run_ddl(const char *sql)
{
	int			status = SPI_execute(sql, false, 0);

	if (status != SPI_OK_UTILITY)
		elog(ERROR, "could not execute \"%s\": %s", sql, SPI_result_code_string(status));
}

/* Named to come late: what the user's own triggers still change need not be written twice. */
static const char *
trigger_name(const DualWrite *spec, const char *suffix)
{
	char	   *name = makeObjectName("~ordflow_sync", spec->sync, suffix);

	if (OidIsValid(get_trigger_oid(spec->source, name, true)))
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_OBJECT),
				errmsg("table %s has a trigger \"%s\" already",
					   ordflow_dual_write_table(spec->source), name),
				errhint("Drop or rename it."));
	return name;
}

static void
create_trigger(const DualWrite *spec, const char *suffix, const char *when, const char *function,
			   const char *args)
{
	const char *name = trigger_name(spec, suffix);
	ObjectAddress trigger;
	ObjectAddress target;

	run_ddl(psprintf("CREATE TRIGGER %s AFTER %s EXECUTE FUNCTION ordflow.%s(%s)",
					 quote_identifier(name),
					 psprintf(when, ordflow_dual_write_table(spec->source)), function, args));
	ObjectAddressSet(trigger, TriggerRelationId, get_trigger_oid(spec->source, name, false));
	ObjectAddressSet(target, RelationRelationId, spec->target);
	recordDependencyOn(&trigger, &target, DEPENDENCY_NORMAL);
}

static void
create_triggers(const DualWrite *spec, char **args, int nargs)
{
	StringInfoData all;

	initStringInfo(&all);
	for (int i = 0; i < nargs; i++)
		appendStringInfo(&all, "%s%s", i > 0 ? ", " : "", quote_literal_cstr(args[i]));
	create_trigger(spec, "row", "INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW",
				   DUAL_WRITE_CHANGED, all.data);
	create_trigger(spec, "truncate", "TRUNCATE ON %s FOR EACH STATEMENT", DUAL_WRITE_TRUNCATED,
				   quote_literal_cstr(spec->sync));
}

/* As the enum of the arguments has it: first the columns of the key. */
static char **
make_arguments(const DualWrite *spec, int *nargs)
{
	char	  **args = palloc((ARG_COLUMNS + 2 * spec->ncolumns) * sizeof(char *));
	int			n = ARG_COLUMNS;

	args[ARG_SYNC] = pstrdup(spec->sync);
	args[ARG_ROLE] = GetUserNameFromId(spec->owner, false);
	args[ARG_TARGET] = ordflow_dual_write_table(spec->target);
	args[ARG_FILTER] = pstrdup(spec->filter != NULL ? spec->filter : "");
	args[ARG_NKEYS] = psprintf("%d", spec->nkeys);
	for (int key = 1; key >= 0; key--)
		for (int i = 0; i < spec->ncolumns; i++)
		{
			bool		is_key = false;

			for (int j = 0; j < spec->nkeys; j++)
				is_key = is_key || strcmp(spec->keys[j], spec->target_columns[i]) == 0;
			if (is_key != (key == 1))
				continue;
			args[n++] = pstrdup(spec->target_columns[i]);
			args[n++] = pstrdup(spec->expressions[i]);
		}
	*nargs = n;
	return args;
}

/* Compiles the expressions, too, as that tells whether the owner may run them. */
static void
require_runnable(Relation rel, const DualWrite *spec, char **args, int nargs)
{
	RoleSwitch	saved = ordflow_dual_write_enter(args[ARG_ROLE]);
	DualSync   *sync = ordflow_dual_write_load(rel, spec->source, spec->target, args, nargs);

	PG_TRY();
	{
		if (sync->filter != NULL)
			ExecInitExpr((Expr *) sync->filter->expr, NULL);
		for (int i = 0; i < sync->ncolumns; i++)
			if (sync->columns[i].expression != NULL)
				ExecInitExpr((Expr *) sync->columns[i].expression->expr, NULL);
		require_unique_source(rel, sync);
	}
	PG_FINALLY();
	{
		ordflow_dual_write_free(sync);
	}
	PG_END_TRY();
	ordflow_role_leave(saved);
}

/* ---- what is left to us ---- */

/* The columns that both tables have, by name. */
static void
take_columns(DualWrite *spec, Relation source, Relation target)
{
	TupleDesc	desc = RelationGetDescr(target);

	spec->target_columns = palloc(desc->natts * sizeof(char *));
	spec->expressions = palloc(desc->natts * sizeof(char *));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		char	   *name = NameStr(column->attname);

		if (column->attisdropped || column->attgenerated != '\0' ||
			get_attnum(RelationGetRelid(source), name) <= 0)
			continue;
		spec->target_columns[spec->ncolumns] = name;
		spec->expressions[spec->ncolumns++] = quote_identifier(name);
	}
}

/* The target's primary key. */
static void
take_keys(DualWrite *spec, Relation target)
{
	Oid			relid;
	Relation	index;

	(void) RelationGetIndexList(target);	/* finds out rd_pkindex */
	relid = target->rd_pkindex;
	if (!OidIsValid(relid))
		return;
	index = index_open(relid, AccessShareLock);
	spec->nkeys = index->rd_index->indnkeyatts;
	spec->keys = palloc(spec->nkeys * sizeof(char *));
	for (int i = 0; i < spec->nkeys; i++)
		spec->keys[i] = get_attname(spec->target, index->rd_index->indkey.values[i], false);
	index_close(index, NoLock);
}

static void
create(DualWrite *spec, Relation source, Relation target)
{
	RoleSwitch	saved;
	char	  **args;
	int			nargs;

	require_two_tables(spec->source, spec->target);
	require_source(source, spec->owner);
	require_target(target);
	if (spec->ncolumns == 0)
		take_columns(spec, source, target);
	if (spec->nkeys == 0)
		take_keys(spec, target);
	require_keys(spec);
	require_once(spec->target_columns, spec->ncolumns);
	require_once(spec->keys, spec->nkeys);
	args = make_arguments(spec, &nargs);
	saved = ordflow_role_enter(ordflow_owner(), false);
	require_own_target(spec->target);
	ordflow_role_leave(saved);
	require_runnable(source, spec, args, nargs);
	if (target->rd_rel->relkind != RELKIND_FOREIGN_TABLE)
		require_unique_target(target, spec);
	saved = ordflow_role_enter(ordflow_owner(), false);
	create_triggers(spec, args, nargs);
	ordflow_role_leave(saved);
}

void
ordflow_dual_write_create(const DualWrite *spec)
{
	DualWrite	whole = *spec;
	Relation	source = relation_open(spec->source, ShareRowExclusiveLock);
	Relation	target = relation_open(spec->target, AccessShareLock);

	SPI_connect();
	create(&whole, source, target);
	SPI_finish();
	relation_close(target, NoLock);
	relation_close(source, NoLock);
}

void
ordflow_dual_write_drop(const char *sync, Oid source)
{
	List	   *names = trigger_names(sync, source);
	RoleSwitch	saved;
	ListCell   *cell;

	SPI_connect();
	saved = ordflow_role_enter(ordflow_owner(), false);
	foreach(cell, names)
		run_ddl(psprintf("DROP TRIGGER %s ON %s", quote_identifier(lfirst(cell)),
						 ordflow_dual_write_table(source)));
	ordflow_role_leave(saved);
	SPI_finish();
}

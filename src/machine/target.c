/*
 * target.c
 *	  Attached tables.  The UPDATE trigger that attach made is the record of it:
 *	  machine, state column, key column and due column are its arguments.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "machine/internal.h"

Oid
ordflow_machine_trigger_oid(const char *function)
{
	List	   *name = list_make2(makeString("ordflow"), makeString(pstrdup(function)));

	return LookupFuncName(name, 0, NULL, false);
}

char *
ordflow_machine_table(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("table with OID %u does not exist", relid));
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
}

RoleSwitch
ordflow_machine_owner_enter(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;
	int			sec_context;
	RoleSwitch	saved;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);

	saved = ordflow_role_enter(owner, true);
	GetUserIdAndSecContext(&owner, &sec_context);
	SetUserIdAndSecContext(owner, sec_context | SECURITY_NOFORCE_RLS);
	return saved;
}

RoleSwitch
ordflow_machine_visitor_enter(Oid relid)
{
	if (check_enable_rls(relid, InvalidOid, true) == RLS_ENABLED)
		return ordflow_role_enter(GetUserId(), true);
	return ordflow_machine_owner_enter(relid);
}

void
ordflow_machine_require_select(Oid relid, const char *column)
{
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK &&
		pg_attribute_aclcheck(relid, get_attnum(relid, column), GetUserId(),
							  ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, ordflow_machine_table(relid));
}

char *
ordflow_machine_object(const Machine *machine, const MachineTarget *target, Datum key)
{
	char	   *text = ordflow_machine_key_text(target, key);

	if (machine->ops != NULL)
		return psprintf("%s %s", machine->name, text);
	return psprintf("row %s of table %s", text, ordflow_machine_table(target->relid));
}

/* The base type of a column; invalid where there is no such column. */
static Oid
column_type(Oid relid, const char *column)
{
	HeapTuple	tuple = SearchSysCacheAttName(relid, column);
	Oid			type;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	type = ((Form_pg_attribute) GETSTRUCT(tuple))->atttypid;
	ReleaseSysCache(tuple);
	return getBaseType(type);
}

MachineTarget *
ordflow_machine_target_make(Oid relid, char **args, int nargs)
{
	MachineTarget *target = palloc0(sizeof(MachineTarget));
	KeyColumn  *columns;

	target->relid = relid;
	target->partitioned = get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE;
	target->machine = args[0];
	target->state_column = args[1];
	target->key_column = args[2];
	target->key_type = column_type(relid, args[2]);
	target->due_column = args[3][0] != '\0' ? args[3] : NULL;
	if (nargs == TARGET_ARGS)
		return target;

	target->nkey_columns = nargs - TARGET_ARGS + 1;
	target->key_columns = columns = palloc(sizeof(KeyColumn) * target->nkey_columns);
	for (int i = 0; i < target->nkey_columns; i++)
	{
		columns[i].name = i == 0 ? args[2] : args[TARGET_ARGS + i - 1];
		columns[i].type = column_type(relid, columns[i].name);
	}
	target->key_type = TEXTOID;
	return target;
}

static char *
copy_text(MemoryContext context, const char *text)
{
	return text != NULL ? MemoryContextStrdup(context, text) : NULL;
}

MachineTarget *
ordflow_machine_target_copy(MemoryContext context, const MachineTarget *target)
{
	MachineTarget *copy = MemoryContextAlloc(context, sizeof(MachineTarget));
	KeyColumn  *columns;

	*copy = *target;
	copy->machine = copy_text(context, target->machine);
	copy->state_column = copy_text(context, target->state_column);
	copy->key_column = copy_text(context, target->key_column);
	copy->due_column = copy_text(context, target->due_column);
	if (target->nkey_columns == 0)
		return copy;

	columns = MemoryContextAlloc(context, sizeof(KeyColumn) * target->nkey_columns);
	for (int i = 0; i < target->nkey_columns; i++)
	{
		columns[i].name = copy_text(context, target->key_columns[i].name);
		columns[i].type = target->key_columns[i].type;
	}
	copy->key_columns = columns;
	return copy;
}

static bool
texts_equal(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool
ordflow_machine_target_equal(const MachineTarget *a, const MachineTarget *b)
{
	if (a->relid != b->relid || a->partitioned != b->partitioned || a->key_type != b->key_type ||
		a->nkey_columns != b->nkey_columns || !texts_equal(a->machine, b->machine) ||
		!texts_equal(a->state_column, b->state_column) ||
		!texts_equal(a->key_column, b->key_column) || !texts_equal(a->due_column, b->due_column))
		return false;
	for (int i = 0; i < a->nkey_columns; i++)
		if (a->key_columns[i].type != b->key_columns[i].type ||
			!texts_equal(a->key_columns[i].name, b->key_columns[i].name))
			return false;
	return true;
}

char *
ordflow_machine_from(const MachineTarget *target)
{
	return psprintf("%s%s", target->partitioned ? "" : "ONLY ",
					ordflow_machine_table(target->relid));
}

Oid
ordflow_machine_root(Oid relid)
{
	List	   *ancestors = get_rel_relispartition(relid) ? get_partition_ancestors(relid) : NIL;

	return ancestors != NIL ? llast_oid(ancestors) : relid;
}

static void
require_column(Oid relid, const char *column)
{
	if (get_attnum(relid, column) == InvalidAttrNumber)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("column \"%s\" of table %s, which a state machine needs, does not exist",
					   column, ordflow_machine_table(relid)),
				errhint("Call ordflow.detach(), then ordflow.attach() with the column's new name."));
}

void
ordflow_machine_require_columns(const MachineTarget *target)
{
	require_column(target->relid, target->state_column);
	for (int i = 0; i < ordflow_machine_key_width(target); i++)
		require_column(target->relid, ordflow_machine_key_column(target, i));
	if (target->due_column != NULL)
		require_column(target->relid, target->due_column);
}

/* tgargs holds the arguments one after the other, each ended by a NUL. */
static MachineTarget *
target_from_trigger(HeapTuple tuple, TupleDesc desc)
{
	Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);
	char	   *args[TARGET_ARGS + KEY_COLUMNS_MAX];
	bool		isnull;
	Datum		value = heap_getattr(tuple, Anum_pg_trigger_tgargs, desc, &isnull);
	char	   *next;

	if (isnull || trigger->tgnargs < TARGET_ARGS || trigger->tgnargs > lengthof(args))
		return NULL;
	next = VARDATA_ANY(DatumGetByteaPCopy(value));
	for (int i = 0; i < trigger->tgnargs; i++)
	{
		args[i] = next;
		next += strlen(next) + 1;
	}
	return ordflow_machine_target_make(trigger->tgrelid, args, trigger->tgnargs);
}

/* Of the triggers of partitions: the table's own, up the line. */
Oid
ordflow_machine_trigger_table(Oid trigger)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	Oid			relid = InvalidOid;

	while (OidIsValid(trigger))
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(trigger));
		scan = systable_beginscan(rel, TriggerOidIndexId, true, NULL, 1, &key);
		tuple = systable_getnext(scan);
		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "could not find trigger %u", trigger);
		relid = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
		trigger = ((Form_pg_trigger) GETSTRUCT(tuple))->tgparentid;
		systable_endscan(scan);
	}
	table_close(rel, AccessShareLock);
	return relid;
}

/*
 * The triggers of ours on a table (of all tables where relid is invalid), each
 * handed to the visitor; not those that partitions have from it.
 */
static List *
scan_triggers(Oid relid, Oid function, List *(*visit) (List *, HeapTuple, TupleDesc, const char *),
			  const char *state_column, List *result)
{
	Relation	rel = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	if (OidIsValid(relid))
		ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(relid));
	else
		ScanKeyInit(&key, Anum_pg_trigger_tgfoid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(function));
	scan = systable_beginscan(rel, TriggerRelidNameIndexId, OidIsValid(relid), NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		if (((Form_pg_trigger) GETSTRUCT(tuple))->tgfoid == function &&
			!OidIsValid(((Form_pg_trigger) GETSTRUCT(tuple))->tgparentid))
			result = visit(result, tuple, RelationGetDescr(rel), state_column);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

/* Every attached table has the UPDATE trigger, most have that of INSERT too. */
static List *
add_target(List *targets, HeapTuple tuple, TupleDesc desc, const char *state_column)
{
	MachineTarget *target;

	if (!TRIGGER_FOR_UPDATE(((Form_pg_trigger) GETSTRUCT(tuple))->tgtype))
		return targets;
	target = target_from_trigger(tuple, desc);
	return target != NULL ? lappend(targets, target) : targets;
}

List *
ordflow_machine_targets(Oid relid)
{
	List	   *targets = scan_triggers(relid, ordflow_machine_trigger_oid("machine_changed"),
										add_target, NULL, NIL);
	ListCell   *cell;

	if (OidIsValid(relid))
		return targets;
	/* nobody but its session can read a temporary table, or lives to see it */
	foreach(cell, targets)
	{
		const MachineTarget *target = lfirst(cell);

		if (isOtherTempNamespace(get_rel_namespace(target->relid)))
			targets = foreach_delete_current(targets, cell);
	}
	return targets;
}

static List *
add_name(List *names, HeapTuple tuple, TupleDesc desc, const char *state_column)
{
	MachineTarget *target = target_from_trigger(tuple, desc);

	if (target == NULL ||
		(state_column != NULL && strcmp(target->state_column, state_column) != 0))
		return names;
	return lappend(names, pstrdup(NameStr(((Form_pg_trigger) GETSTRUCT(tuple))->tgname)));
}

List *
ordflow_machine_trigger_names(Oid relid, const char *state_column)
{
	List	   *names;

	names = scan_triggers(relid, ordflow_machine_trigger_oid("machine_changed"), add_name,
						  state_column, NIL);
	return scan_triggers(relid, ordflow_machine_trigger_oid("machine_due"), add_name,
						 state_column, names);
}

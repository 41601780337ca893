/*
 * attach.c
 *	  Puts a machine on a table, and takes it off again.
 *
 * The caller must own the table.  The triggers are made as the extension's
 * owner, who alone may execute their functions.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "machine/internal.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_attach);
PG_FUNCTION_INFO_V1(ordflow_detach);
PG_FUNCTION_INFO_V1(ordflow_attach_report);

static void
require_owner(Oid relid)
{
	char	   *table = ordflow_machine_table(relid);

	if (!object_ownercheck(RelationRelationId, relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, table);
}

static void
require_plain_table(Relation rel)
{
	char	   *table = ordflow_machine_table(RelationGetRelid(rel));

	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE || rel->rd_rel->relispartition)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot attach a machine to %s: partitioned tables and partitions are not supported yet",
					   table));
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("cannot attach a machine to %s: it is not a table", table));
}

static Form_pg_attribute
require_column(Relation rel, const char *column)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(rel), column);

	if (attnum <= 0)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_COLUMN),
				errmsg("column \"%s\" of table %s does not exist", column,
					   ordflow_machine_table(RelationGetRelid(rel))));
	return TupleDescAttr(RelationGetDescr(rel), attnum - 1);
}

static void
require_state_column(Relation rel, const char *column)
{
	Form_pg_attribute attribute = require_column(rel, column);

	if ((attribute->atttypid != TEXTOID && attribute->atttypid != VARCHAROID) ||
		attribute->attgenerated != '\0')
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot use column \"%s\" as state column", column),
				errdetail("Its type is %s%s.", format_type_be(attribute->atttypid),
						  attribute->attgenerated != '\0' ? ", generated" : ""),
				errhint("State columns are of type text or varchar; others are not supported yet."));
}

static void
require_due_column(Relation rel, const Machine *machine, const char *column)
{
	Form_pg_attribute attribute;

	if (column == NULL)
	{
		if (ordflow_machine_has_timeouts(machine))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("machine \"%s\" has timeouts and needs a due column", machine->name),
					errhint("Add a column of type timestamptz to the table, with an index, and name it as due_column."));
		return;
	}
	attribute = require_column(rel, column);
	if (attribute->atttypid != TIMESTAMPTZOID || attribute->attgenerated != '\0')
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("due column \"%s\" must be of type timestamp with time zone and not generated",
					   column));
}

/*
 * An index that begins with the column; unique: that has no other column and
 * lets no two rows have the same value.
 */
static bool
has_index(Relation rel, AttrNumber attnum, bool unique)
{
	ListCell   *cell;
	bool		found = false;

	foreach(cell, RelationGetIndexList(rel))
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(cell)));
		Form_pg_index index;

		if (!HeapTupleIsValid(tuple))
			continue;
		index = (Form_pg_index) GETSTRUCT(tuple);
		if (index->indisvalid && index->indkey.values[0] == attnum &&
			(!unique || (index->indisunique && index->indnkeyatts == 1 &&
						 heap_attisnull(tuple, Anum_pg_index_indpred, NULL))))
			found = true;
		ReleaseSysCache(tuple);
	}
	return found;
}

/* The columns of the primary key, in the order of the table; NIL where there is none. */
static List *
primary_key_columns(Relation rel)
{
	Oid			constraint;
	Bitmapset  *attnums = get_primary_key_attnos(RelationGetRelid(rel), true, &constraint);
	List	   *columns = NIL;
	int			i = -1;

	while ((i = bms_next_member(attnums, i)) >= 0)
	{
		AttrNumber	attnum = i + FirstLowInvalidHeapAttributeNumber;

		columns = lappend(columns, get_attname(RelationGetRelid(rel), attnum, false));
	}
	return columns;
}

static const char *
find_key_column(Relation rel, const char *given)
{
	List	   *columns;

	if (given != NULL)
	{
		if (!has_index(rel, require_column(rel, given)->attnum, true))
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("key column \"%s\" is not unique", given),
					errhint("Create a unique index on this column alone."));
		return given;
	}
	columns = primary_key_columns(rel);
	if (columns == NIL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table %s has no primary key", ordflow_machine_table(RelationGetRelid(rel))),
				errhint("Name a unique column as key_column."));
	if (list_length(columns) > 1)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("the primary key of table %s has several columns",
					   ordflow_machine_table(RelationGetRelid(rel))),
				errhint("Composite keys are not supported yet; name a unique column as key_column."));
	return linitial(columns);
}

static void
require_free_columns(Oid relid, const char *state_column, const char *due_column)
{
	ListCell   *cell;

	foreach(cell, ordflow_machine_targets(relid))
	{
		const MachineTarget *target = lfirst(cell);

		if (strcmp(target->state_column, state_column) == 0)
			ereport(ERROR,
					errcode(ERRCODE_DUPLICATE_OBJECT),
					errmsg("column \"%s\" of table %s has machine \"%s\" already", state_column,
						   ordflow_machine_table(relid), target->machine),
					errhint("Call ordflow.detach() first."));
		if (due_column != NULL && target->due_column != NULL &&
			strcmp(target->due_column, due_column) == 0)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("due column \"%s\" belongs to state column \"%s\" already", due_column,
						   target->state_column));
	}
}

/* The names of the machine's states as a text[]. */
static Datum
state_names(const Machine *machine)
{
	const char **names = palloc(sizeof(char *) * Max(machine->nstates, 1));

	for (int i = 0; i < machine->nstates; i++)
		names[i] = machine->states[i].name;
	return ordflow_text_array(names, machine->nstates);
}

/* "the row stands in no state of $1" */
static char *
unknown_state_condition(const char *state_column)
{
	const char *column = quote_identifier(state_column);

	return psprintf("o.%s IS NULL OR o.%s::text COLLATE \"C\" <> ALL ($1)", column, column);
}

/* The table is locked against writers, so what is read now stays true. */
static void
require_known_states(const Machine *machine, Oid relid, const char *state_column)
{
	char	   *table = ordflow_machine_table(relid);
	char	   *sql = psprintf("SELECT o.%s::text FROM ONLY %s AS o WHERE %s LIMIT 1",
							   quote_identifier(state_column), table,
							   unknown_state_condition(state_column));
	Oid			type = TEXTARRAYOID;
	Datum		states = state_names(machine);
	RoleSwitch	saved = ordflow_machine_owner_enter(relid);
	uint64		nrows = ordflow_machine_query_now(sql, 1, &type, &states);
	char	   *state;

	ordflow_role_leave(saved);
	if (nrows == 0)
		return;
	state = ordflow_result_text(0, 1);
	ereport(ERROR,
			errcode(ERRCODE_ORDFLOW_ILLEGAL_TRANSITION),
			state != NULL ?
			errmsg("table %s has rows in state \"%s\", which machine \"%s\" does not have", table,
				   state, machine->name) :
			errmsg("table %s has rows whose state is NULL", table),
			errhint("List them with SELECT * FROM ordflow.attach_report(%s, %s, %s);",
					quote_literal_cstr(table), quote_literal_cstr(machine->name),
					quote_literal_cstr(state_column)));
}

/* As for states.  A row that loses its key later cannot change its state. */
static void
require_keys(const MachineTarget *target)
{
	char	   *table = ordflow_machine_table(target->relid);
	char	   *sql = psprintf("SELECT FROM ONLY %s AS o WHERE o.%s IS NULL LIMIT 1", table,
							   quote_identifier(target->key_column));
	Oid			no_types[1];
	RoleSwitch	saved = ordflow_machine_owner_enter(target->relid);
	uint64		nrows = ordflow_machine_query_now(sql, 0, no_types, NULL);

	ordflow_role_leave(saved);
	if (nrows > 0)
		ereport(ERROR,
				errcode(ERRCODE_NOT_NULL_VIOLATION),
				errmsg("table %s has rows whose key column \"%s\" is NULL", table,
					   target->key_column));
}

static void
run_ddl(const char *sql)
{
	int			status = SPI_execute(sql, false, 0);

	if (status != SPI_OK_UTILITY)
		elog(ERROR, "could not execute \"%s\": %s", sql, SPI_result_code_string(status));
}

/* Names are made of the state column's name, cut where they would be too long. */
static const char *
free_trigger_name(const MachineTarget *target, const char *prefix, const char *suffix)
{
	const char *name = makeObjectName(prefix, target->state_column, suffix);

	if (OidIsValid(get_trigger_oid(target->relid, name, true)))
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_OBJECT),
				errmsg("cannot attach a machine to column \"%s\": table %s has a trigger \"%s\" already",
					   target->state_column, ordflow_machine_table(target->relid), name),
				errdetail("It may be that of a state column whose name is much like this one's."),
				errhint("Rename that trigger: ALTER TRIGGER %s ON %s RENAME TO ...;",
						quote_identifier(name), ordflow_machine_table(target->relid)));
	return name;
}

static void
create_triggers(const MachineTarget *target)
{
	char	   *table = ordflow_machine_table(target->relid);
	const char *column = quote_identifier(target->state_column);
	char	   *args = psprintf("(%s, %s, %s, %s)", quote_literal_cstr(target->machine),
								quote_literal_cstr(target->state_column),
								quote_literal_cstr(target->key_column),
								quote_literal_cstr(target->due_column ? target->due_column : ""));
	const char *insert = free_trigger_name(target, "~ordflow", "insert");
	const char *update = free_trigger_name(target, "~ordflow", "update");
	const char *due = target->due_column == NULL ? NULL :
		free_trigger_name(target, "~ordflow_due", NULL);

	run_ddl(psprintf("CREATE TRIGGER %s AFTER INSERT ON %s FOR EACH ROW "
					 "EXECUTE FUNCTION ordflow.machine_changed%s",
					 quote_identifier(insert), table, args));
	/* states that the column's own collation takes for equal are two states */
	run_ddl(psprintf("CREATE TRIGGER %s AFTER UPDATE ON %s FOR EACH ROW "
					 "WHEN (OLD.%s COLLATE \"C\" IS DISTINCT FROM NEW.%s COLLATE \"C\") "
					 "EXECUTE FUNCTION ordflow.machine_changed%s",
					 quote_identifier(update), table, column, column, args));
	if (due != NULL)
		run_ddl(psprintf("CREATE TRIGGER %s BEFORE INSERT OR UPDATE ON %s FOR EACH ROW "
						 "EXECUTE FUNCTION ordflow.machine_due%s",
						 quote_identifier(due), table, args));
}

/*
 * The machine as it stays until the end of the transaction: define_machine(),
 * which asks the rows of attached tables, waits.
 */
static const Machine *
load_for_attach(const char *name)
{
	static Statement lock_machine = {
		.sql = "SELECT FROM ordflow.machines WHERE machine = $1 FOR SHARE",
		.nargs = 1,
		.argtypes = {TEXTOID}
	};
	Datum		value = CStringGetTextDatum(name);
	RoleSwitch	saved;

	SPI_connect();
	saved = ordflow_role_enter(ordflow_owner(), false);
	ordflow_execute(&lock_machine, &value, NULL);
	ordflow_role_leave(saved);
	SPI_finish();
	AcceptInvalidationMessages();
	return ordflow_machine_load(name);
}

static void
attach(MachineTarget *target)
{
	const Machine *machine = load_for_attach(target->machine);
	Relation	rel;
	RoleSwitch	saved;

	if (machine->ops != NULL)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("machine \"%s\" is built in and cannot be attached to other tables",
					   machine->name),
				errhint("Define a machine of your own by ordflow.define_machine()."));

	/* no trigger is made, and no row written, until the end of the transaction */
	rel = table_open(target->relid, ShareRowExclusiveLock);
	require_owner(target->relid);
	require_plain_table(rel);
	require_state_column(rel, target->state_column);
	require_due_column(rel, machine, target->due_column);
	target->key_column = find_key_column(rel, target->key_column);
	require_free_columns(target->relid, target->state_column, target->due_column);
	if (target->due_column != NULL &&
		!has_index(rel, get_attnum(target->relid, target->due_column), false))
		ereport(NOTICE,
				errmsg("no index leads with due column \"%s\"", target->due_column),
				errhint("Create one, so that due rows are found without reading the table: CREATE INDEX ON %s (%s) WHERE %s IS NOT NULL;",
						ordflow_machine_table(target->relid), quote_identifier(target->due_column),
						quote_identifier(target->due_column)));
	table_close(rel, NoLock);

	SPI_connect();
	require_known_states(machine, target->relid, target->state_column);
	require_keys(target);
	saved = ordflow_role_enter(ordflow_owner(), false);
	create_triggers(target);
	ordflow_role_leave(saved);
	SPI_finish();
}

Datum
ordflow_attach(PG_FUNCTION_ARGS)
{
	MachineTarget target = {0};

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "target");
	target.relid = PG_GETARG_OID(0);
	target.machine = ordflow_arg_text(fcinfo, 1, "machine");
	ordflow_require_not_null(fcinfo, 2, "state_column");
	target.state_column = NameStr(*PG_GETARG_NAME(2));
	target.key_column = PG_ARGISNULL(3) ? NULL : NameStr(*PG_GETARG_NAME(3));
	target.due_column = PG_ARGISNULL(4) ? NULL : NameStr(*PG_GETARG_NAME(4));
	require_owner(target.relid);
	attach(&target);
	ordflow_worker_activate(DUTY_TIMER);
	ordflow_worker_wake(DUTY_TIMER, DT_NOBEGIN);
	PG_RETURN_VOID();
}

static void
require_detachable(Oid relid, const char *state_column)
{
	ListCell   *cell;

	foreach(cell, ordflow_machine_targets(relid))
	{
		const MachineTarget *target = lfirst(cell);

		if ((state_column == NULL || strcmp(state_column, target->state_column) == 0) &&
			ordflow_machine_ops(target->machine) != NULL)
			ereport(ERROR,
					errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("machine \"%s\" cannot be detached from %s", target->machine,
						   ordflow_machine_table(relid)));
	}
}

Datum
ordflow_detach(PG_FUNCTION_ARGS)
{
	const char *state_column = PG_ARGISNULL(1) ? NULL : NameStr(*PG_GETARG_NAME(1));
	Oid			relid;
	List	   *names;
	ListCell   *cell;
	RoleSwitch	saved;

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "target");
	relid = PG_GETARG_OID(0);
	require_owner(relid);
	require_detachable(relid, state_column);
	names = ordflow_machine_trigger_names(relid, state_column);
	if (names == NIL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				state_column != NULL ?
				errmsg("column \"%s\" of table %s has no machine", state_column,
					   ordflow_machine_table(relid)) :
				errmsg("table %s has no machine", ordflow_machine_table(relid)));

	SPI_connect();
	saved = ordflow_role_enter(ordflow_owner(), false);
	foreach(cell, names)
		run_ddl(psprintf("DROP TRIGGER %s ON %s", quote_identifier(lfirst(cell)),
						 ordflow_machine_table(relid)));
	ordflow_role_leave(saved);
	SPI_finish();
	ordflow_worker_wake(DUTY_TIMER, DT_NOBEGIN);
	PG_RETURN_VOID();
}

/* SQL for the key as text: the column, a JSON array of several, NULL without a primary key. */
static char *
key_expression(Relation rel)
{
	List	   *columns = primary_key_columns(rel);
	StringInfoData sql;
	ListCell   *cell;

	if (columns == NIL)
		return pstrdup("NULL::text");
	if (list_length(columns) == 1)
		return psprintf("o.%s::text", quote_identifier(linitial(columns)));
	initStringInfo(&sql);
	foreach(cell, columns)
		appendStringInfo(&sql, "%s o.%s", sql.len > 0 ? "," : "jsonb_build_array(",
						 quote_identifier(lfirst(cell)));
	appendStringInfoString(&sql, ")::text");
	return sql.data;
}

static void
require_select_privilege(Relation rel, const char *state_column)
{
	ListCell   *cell;

	ordflow_machine_require_select(RelationGetRelid(rel), state_column);
	foreach(cell, primary_key_columns(rel))
		ordflow_machine_require_select(RelationGetRelid(rel), lfirst(cell));
}

Datum
ordflow_attach_report(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const Machine *machine;
	const char *column;
	Relation	rel;
	char	   *sql;
	Oid			type = TEXTARRAYOID;
	Datum		states;
	uint64		nrows;
	RoleSwitch	saved;

	ordflow_require_version();
	ordflow_require_not_null(fcinfo, 0, "target");
	machine = ordflow_machine_load(ordflow_arg_text(fcinfo, 1, "machine"));
	ordflow_require_not_null(fcinfo, 2, "state_column");
	column = NameStr(*PG_GETARG_NAME(2));
	ordflow_machine_table(PG_GETARG_OID(0));
	InitMaterializedSRF(fcinfo, 0);

	rel = table_open(PG_GETARG_OID(0), AccessShareLock);
	require_column(rel, column);
	require_select_privilege(rel, column);
	sql = psprintf("SELECT %s, o.%s::text FROM ONLY %s AS o WHERE %s", key_expression(rel),
				   quote_identifier(column), ordflow_machine_table(RelationGetRelid(rel)),
				   unknown_state_condition(column));
	states = state_names(machine);

	SPI_connect();
	saved = ordflow_machine_visitor_enter(RelationGetRelid(rel));
	nrows = ordflow_machine_query(sql, 1, &type, &states, true);
	ordflow_role_leave(saved);
	for (uint64 i = 0; i < nrows; i++)
		tuplestore_puttuple(rsinfo->setResult, SPI_tuptable->vals[i]);
	SPI_finish();
	table_close(rel, NoLock);
	return (Datum) 0;
}

/*
 * attach.c
 *	  Puts a machine on a table, and takes it off again.
 *
 * The caller must own the table.  The triggers are made as the extension's
 * owner, who alone may execute their functions.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "executor/spi.h"
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

static void
require_owner(Oid relid)
{
	char	   *table = ordflow_machine_table(relid);

	if (!object_ownercheck(RelationRelationId, relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, table);
}

static void
require_no_foreign_partition(Oid relid)
{
	ListCell   *cell;

	foreach(cell, find_all_inheritors(relid, NoLock, NULL))
		if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_FOREIGN_TABLE)
			ereport(ERROR,
					errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("cannot attach a machine to %s: its partition %s is a foreign table",
						   ordflow_machine_table(relid),
						   ordflow_machine_table(lfirst_oid(cell))),
					errhint("Detach that partition: what is written to it elsewhere would not be checked."));
}

static void
require_table(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	char	   *table = ordflow_machine_table(relid);

	if (rel->rd_rel->relispartition)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot attach a machine to %s: it is a partition", table),
				errhint("Attach it to the partitioned table: %s.",
						ordflow_machine_table(ordflow_machine_root(relid))));
	if (rel->rd_rel->relkind != RELKIND_RELATION &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("cannot attach a machine to %s: it is not a table", table));
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		require_no_foreign_partition(relid);
}

Form_pg_attribute
ordflow_attach_require_column(Relation rel, const char *column)
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
	Form_pg_attribute attribute = ordflow_attach_require_column(rel, column);

	if (!ordflow_state_type_fits(attribute->atttypid) || attribute->attgenerated != '\0')
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot use column \"%s\" as state column", column),
				errdetail("Its type is %s%s.", format_type_be(attribute->atttypid),
						  attribute->attgenerated != '\0' ? ", generated" : ""),
				errhint("State columns are of type text, varchar, char, smallint, integer, bigint, boolean, of an enum, or of a domain over one of these."));
}

/* Spelled as the column's values are: no row would ever stand in another state. */
static void
require_states_fit(const Machine *machine, const MachineTarget *target)
{
	for (int i = 0; i < machine->nstates; i++)
		ordflow_state_require(target->relid, target->state_column, machine->name,
							  machine->states[i].name);
}

/* The trigger that sets it comes when the partition has been chosen. */
static void
require_no_partition_key(Relation rel, const char *column)
{
	if (ordflow_attach_is_spread_by(rel, column))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("cannot use column \"%s\" as due column: table %s is partitioned by it",
					   column, ordflow_machine_table(RelationGetRelid(rel))));
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
	attribute = ordflow_attach_require_column(rel, column);
	if (attribute->atttypid != TIMESTAMPTZOID || attribute->attgenerated != '\0')
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("due column \"%s\" must be of type timestamp with time zone and not generated",
					   column));
	require_no_partition_key(rel, column);
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

/* The table is locked against writers, so what is read now stays true. */
static void
require_known_states(const Machine *machine, const MachineTarget *target)
{
	Oid			relid = target->relid;
	const char *state_column = target->state_column;
	char	   *table = ordflow_machine_table(relid);
	char	   *sql = psprintf("SELECT o.%s::text FROM %s AS o WHERE %s LIMIT 1",
							   quote_identifier(state_column), ordflow_machine_from(target),
							   ordflow_attach_unknown_state(state_column));
	Oid			type = TEXTARRAYOID;
	Datum		states = ordflow_attach_state_names(machine);
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
	char	   *sql = psprintf("SELECT FROM %s AS o WHERE NOT (%s) LIMIT 1",
							   ordflow_machine_from(target), ordflow_machine_key_not_null(target));
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

/* "(machine, state column, key column, due column or '', further key columns)" */
static char *
trigger_args(const MachineTarget *target)
{
	StringInfoData args;

	initStringInfo(&args);
	appendStringInfo(&args, "(%s, %s, %s, %s", quote_literal_cstr(target->machine),
					 quote_literal_cstr(target->state_column),
					 quote_literal_cstr(target->key_column),
					 quote_literal_cstr(target->due_column ? target->due_column : ""));
	for (int i = 1; i < target->nkey_columns; i++)
		appendStringInfo(&args, ", %s", quote_literal_cstr(target->key_columns[i].name));
	appendStringInfoChar(&args, ')');
	return args.data;
}

static void
create_trigger(const MachineTarget *target, const char *name, const char *when,
			   const char *condition, const char *function)
{
	run_ddl(psprintf("CREATE TRIGGER %s %s ON %s FOR EACH ROW %s EXECUTE FUNCTION ordflow.%s%s",
					 quote_identifier(name), when, ordflow_machine_table(target->relid), condition,
					 function, trigger_args(target)));
}

/* States that the column's own collation takes for equal are two states. */
static char *
state_changes(const MachineTarget *target)
{
	const char *column = quote_identifier(target->state_column);
	Oid			type = get_atttype(target->relid, get_attnum(target->relid, target->state_column));
	Oid			base = getBaseType(type);
	const char *more = "";

	/* a domain over an enum has no equality of its own */
	if (type_is_collatable(base))
		more = " COLLATE \"C\"";
	else if (base != type)
		more = psprintf("::%s", ordflow_machine_type_name(base));
	return psprintf("WHEN (OLD.%s%s IS DISTINCT FROM NEW.%s%s)", column, more, column, more);
}

/* A row that moves to another partition is deleted and inserted there: see move.c. */
static void
create_triggers(const MachineTarget *target)
{
	create_trigger(target, free_trigger_name(target, "~ordflow", "insert"), "AFTER INSERT", "",
				   "machine_changed");
	create_trigger(target, free_trigger_name(target, "~ordflow", "update"), "AFTER UPDATE",
				   state_changes(target), "machine_changed");
	if (target->partitioned)
		create_trigger(target, free_trigger_name(target, "~ordflow", "delete"), "AFTER DELETE", "",
					   "machine_changed");
	if (target->due_column != NULL || target->partitioned)
		create_trigger(target, free_trigger_name(target, "~ordflow_due", NULL),
					   target->partitioned ? "BEFORE INSERT OR UPDATE OR DELETE" :
					   "BEFORE INSERT OR UPDATE", "", "machine_due");
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
notice_missing_index(Relation rel, const char *due_column)
{
	if (due_column == NULL ||
		ordflow_attach_has_index(rel, get_attnum(RelationGetRelid(rel), due_column)))
		return;
	ereport(NOTICE,
			errmsg("no index leads with due column \"%s\"", due_column),
			errhint("Create one, so that due rows are found without reading the table: CREATE INDEX ON %s (%s) WHERE %s IS NOT NULL;",
					ordflow_machine_table(RelationGetRelid(rel)), quote_identifier(due_column),
					quote_identifier(due_column)));
}

/* Locks the table: no trigger is made, and no row written, until the end of the transaction. */
static MachineTarget *
check_table(const Machine *machine, const AttachArgs *args)
{
	Relation	rel = table_open(args->relid, ShareRowExclusiveLock);
	MachineTarget *target;

	require_owner(args->relid);
	find_all_inheritors(args->relid, ShareRowExclusiveLock, NULL);
	require_table(rel);
	require_state_column(rel, args->state_column);
	require_due_column(rel, machine, args->due_column);
	target = ordflow_attach_target(rel, args);
	require_free_columns(args->relid, args->state_column, args->due_column);
	require_states_fit(machine, target);
	notice_missing_index(rel, args->due_column);
	table_close(rel, NoLock);
	return target;
}

static void
attach(const AttachArgs *args)
{
	const Machine *machine = load_for_attach(args->machine);
	MachineTarget *target;
	RoleSwitch	saved;

	if (machine->ops != NULL)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("machine \"%s\" is built in and cannot be attached to other tables",
					   machine->name),
				errhint("Define a machine of your own by ordflow.define_machine()."));
	target = check_table(machine, args);

	SPI_connect();
	require_known_states(machine, target);
	require_keys(target);
	saved = ordflow_role_enter(ordflow_owner(), false);
	create_triggers(target);
	ordflow_role_leave(saved);
	SPI_finish();
}

Datum
ordflow_attach(PG_FUNCTION_ARGS)
{
	AttachArgs	args = {0};

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "target");
	args.relid = PG_GETARG_OID(0);
	args.machine = ordflow_arg_text(fcinfo, 1, "machine");
	ordflow_require_not_null(fcinfo, 2, "state_column");
	args.state_column = NameStr(*PG_GETARG_NAME(2));
	args.key_column = PG_ARGISNULL(3) ? NULL : NameStr(*PG_GETARG_NAME(3));
	args.due_column = PG_ARGISNULL(4) ? NULL : NameStr(*PG_GETARG_NAME(4));
	require_owner(args.relid);
	attach(&args);
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
				errmsg("table %s has no machine", ordflow_machine_table(relid)),
				get_rel_relispartition(relid) ?
				errhint("It is a partition of %s.",
						ordflow_machine_table(ordflow_machine_root(relid))) : 0);

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

/*
 * fire.c
 *	  Firing an event by its name, and what could be fired.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "machine/internal.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_fire);
PG_FUNCTION_INFO_V1(ordflow_available_events);
PG_FUNCTION_INFO_V1(ordflow_available_events_order);

/* An object as it stands in its table. */
typedef struct ObjectRow
{
	Datum		key;
	char	   *state;
	TimestampTz due;			/* DT_NOEND where there is none */
} ObjectRow;

/*
 * Locks the table as its UPDATE will, so that no other takes its name meanwhile: our SQL
 * finds it by its name.  Who may not update it may not lock it either.
 */
static void
lock_table(Oid relid)
{
	char	   *table = ordflow_machine_table(relid);

	if (pg_class_aclcheck(relid, GetUserId(), ACL_UPDATE) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(relid, GetUserId(), ACL_UPDATE, ACLMASK_ANY) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, table);
	LockRelationOid(relid, RowExclusiveLock);
}

static List *
targets_of(Oid relid)
{
	char	   *table = ordflow_machine_table(relid);
	List	   *targets = ordflow_machine_targets(relid);

	if (targets == NIL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("table %s has no machine", table),
				get_rel_relispartition(relid) ?
				errhint("It is a partition of %s.",
						ordflow_machine_table(ordflow_machine_root(relid))) :
				errhint("Call ordflow.attach() to put one on it."));
	return targets;
}

static void
require_select_privilege(const MachineTarget *target)
{
	for (int i = 0; i < ordflow_machine_key_width(target); i++)
		ordflow_machine_require_select(target->relid, ordflow_machine_key_column(target, i));
	ordflow_machine_require_select(target->relid, target->state_column);
	if (target->due_column != NULL)
		ordflow_machine_require_select(target->relid, target->due_column);
}

/*
 * Reads the object for the current role, locked or not.  The key is taken from the
 * row too: equal keys may be written in several ways (1.0 and 1.00).
 */
static ObjectRow
read_object(const MachineTarget *target, Datum key, bool lock)
{
	const Machine *machine = ordflow_machine_load(target->machine);
	int			width = ordflow_machine_key_width(target);
	char	   *sql = psprintf("SELECT %s, o.%s::text, %s FROM %s AS o WHERE %s%s",
							   ordflow_machine_key_list(target),
							   quote_identifier(target->state_column),
							   target->due_column == NULL ? "NULL::timestamptz" :
							   psprintf("o.%s", quote_identifier(target->due_column)),
							   ordflow_machine_from(target),
							   ordflow_machine_key_condition(target, 1, false),
							   lock ? " FOR NO KEY UPDATE" : "");
	ObjectRow	object;
	bool		isnull;
	Datum		due;
	RoleSwitch	saved;
	uint64		found;

	require_select_privilege(target);
	saved = ordflow_machine_visitor_enter(target->relid);
	found = ordflow_machine_query(sql, 1, &target->key_type, &key, false);
	ordflow_role_leave(saved);
	if (found == 0)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("%s does not exist", ordflow_machine_object(machine, target, key)));
	if (found > 1)
		ereport(ERROR,
				errcode(ERRCODE_CARDINALITY_VIOLATION),
				errmsg("%s exists several times", ordflow_machine_object(machine, target, key)),
				errhint("A partitioned table that is spread by its state column cannot keep a key from being used twice."));
	object.key = ordflow_machine_key_result(target, 0);
	object.state = ordflow_result_text(0, width + 1);
	due = ordflow_result(0, width + 2, &isnull);
	object.due = isnull ? DT_NOEND : DatumGetTimestampTz(due);
	if (object.state == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_ILLEGAL_TRANSITION),
				errmsg("%s has no state", ordflow_machine_object(machine, target, key)));
	return object;
}

/* Of several machines on a table the one that knows the event; the first where none does. */
static const MachineTarget *
target_for_event(List *targets, const char *event)
{
	const MachineTarget *found = NULL;
	ListCell   *cell;

	foreach(cell, targets)
	{
		const MachineTarget *target = lfirst(cell);

		if (!ordflow_machine_knows(ordflow_machine_load(target->machine), event))
			continue;
		if (found != NULL)
			ereport(ERROR,
					errcode(ERRCODE_AMBIGUOUS_PARAMETER),
					errmsg("event \"%s\" is known to machines \"%s\" and \"%s\" of table %s", event,
						   found->machine, target->machine, ordflow_machine_table(target->relid)),
					errhint("UPDATE the state column, with SET LOCAL ordflow.event where several events lead to the new state."));
		found = target;
	}
	return found != NULL ? found : linitial(targets);
}

static void
refuse_verb(const MachineTarget *target, const char *event)
{
	const char *verb = ordflow_machine_verb(ordflow_machine_load(target->machine), event);

	if (verb != NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_ILLEGAL_TRANSITION),
				errmsg("event \"%s\" of machine \"%s\" cannot be fired by name", event,
					   target->machine),
				errhint("Call %s.", verb));
}

/*
 * The generic UPDATE would find this out by itself, but not the update of a built-in
 * machine, which runs as the extension's owner.
 */
static void
require_update_privilege(const MachineTarget *target)
{
	AttrNumber	attnum = get_attnum(target->relid, target->state_column);

	if (pg_class_aclcheck(target->relid, GetUserId(), ACL_UPDATE) != ACLCHECK_OK &&
		pg_attribute_aclcheck(target->relid, attnum, GetUserId(), ACL_UPDATE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, ordflow_machine_table(target->relid));
}

/* "reason" in the arguments of an event goes to the history's column */
static const char *
reason_of(Jsonb *args)
{
	JsonbValue	value;

	if (!JB_ROOT_IS_OBJECT(args) ||
		getKeyJsonValueFromContainer(&args->root, "reason", strlen("reason"), &value) == NULL ||
		value.type != jbvString)
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

Datum
ordflow_fire(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	const MachineTarget *target;
	MachineStep step = {0};
	ObjectRow	object;
	Datum		key;
	text	   *state;

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "target");
	ordflow_require_not_null(fcinfo, 1, "key");
	step.event = ordflow_arg_text(fcinfo, 2, "event");
	ordflow_require_not_null(fcinfo, 3, "args");
	step.args = PG_GETARG_JSONB_P(3);
	step.reason = reason_of(step.args);
	if (JB_ROOT_COUNT(step.args) > 0)
		step.data = step.args;

	lock_table(PG_GETARG_OID(0));
	target = target_for_event(targets_of(PG_GETARG_OID(0)), step.event);
	key = ordflow_machine_key_from_text(target, text_to_cstring(PG_GETARG_TEXT_PP(1)));
	require_update_privilege(target);
	refuse_verb(target, step.event);

	ordflow_worker_wake_blocked();
	SPI_connect();
	object = read_object(target, key, true);
	step.target = target;
	step.from_state = object.state;
	step.now = GetCurrentTimestamp();
	step.nkeys = 1;
	step.keys = &object.key;
	ordflow_machine_apply(&step);
	MemoryContextSwitchTo(context);
	state = cstring_to_text(step.to_state);
	SPI_finish();
	PG_RETURN_TEXT_P(state);
}

/* A row for each transition that leaves the object's state. */
static void
put_events(ReturnSetInfo *rsinfo, const MachineTarget *target, const ObjectRow *object)
{
	const Machine *machine = ordflow_machine_load(target->machine);
	const MachineState *state = ordflow_machine_state(machine, object->state);
	int			n;
	const Transition *exits = ordflow_machine_exits(machine, object->state, &n);

	for (int i = 0; i < n; i++)
	{
		bool		timed = state->timeout == &exits[i];
		Datum		values[3];
		bool		nulls[3] = {false, false, !timed || TIMESTAMP_IS_NOEND(object->due)};

		values[0] = CStringGetTextDatum(exits[i].event);
		values[1] = CStringGetTextDatum(exits[i].to_state);
		values[2] = TimestampTzGetDatum(object->due);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

Datum
ordflow_available_events(PG_FUNCTION_ARGS)
{
	List	   *targets;
	ListCell   *cell;

	ordflow_require_version();
	ordflow_require_not_null(fcinfo, 0, "target");
	ordflow_require_not_null(fcinfo, 1, "key");
	targets = targets_of(PG_GETARG_OID(0));
	InitMaterializedSRF(fcinfo, 0);

	SPI_connect();
	foreach(cell, targets)
	{
		const MachineTarget *target = lfirst(cell);
		Datum		key = ordflow_machine_key_from_text(target,
															text_to_cstring(PG_GETARG_TEXT_PP(1)));
		ObjectRow	object = read_object(target, key, false);

		put_events((ReturnSetInfo *) fcinfo->resultinfo, target, &object);
	}
	SPI_finish();
	return (Datum) 0;
}

Datum
ordflow_available_events_order(PG_FUNCTION_ARGS)
{
	const MachineTarget *target;
	ObjectRow	object;

	ordflow_require_version();
	ordflow_require_not_null(fcinfo, 0, "order_id");
	target = linitial(targets_of(ordflow_relid("orders")));
	InitMaterializedSRF(fcinfo, 0);

	SPI_connect();
	object = read_object(target, PG_GETARG_DATUM(0), false);
	put_events((ReturnSetInfo *) fcinfo->resultinfo, target, &object);
	SPI_finish();
	return (Datum) 0;
}

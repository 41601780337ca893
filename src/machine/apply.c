/*
 * apply.c
 *	  The one function that applies an event.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "machine/internal.h"
#include "worker/worker.h"

/* A call of one of our own parts, as the extension's owner; NULL = nothing to do. */
static void
run_op(void (*op) (MachineStep *step), MachineStep *step)
{
	RoleSwitch	saved;

	if (op == NULL)
		return;
	saved = ordflow_role_enter(ordflow_owner(), false);
	op(step);
	ordflow_role_leave(saved);
}

bool
ordflow_machine_is_plain(const Machine *machine, const Transition *transition)
{
	int			neffects;

	ordflow_machine_effects_of(machine, transition->event, &neffects);
	return machine->ops == NULL && transition->guard == NULL && transition->effect == NULL &&
		neffects == 0;
}

/* Does the transition's guard let every object of the step pass? */
static bool
guard_passes(const Machine *machine, MachineStep *step, const Transition *transition)
{
	MemoryContext turn;
	bool		passes = true;

	if (transition->guard == NULL)
		return true;
	turn = AllocSetContextCreate(CurrentMemoryContext, "ordflow guard", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; passes && i < step->nkeys; i++)
	{
		HookCall	call = {machine, step, transition, step->keys[i], NULL};
		MemoryContext old = MemoryContextSwitchTo(turn);

		CHECK_FOR_INTERRUPTS();
		passes = ordflow_hook_guard(transition->guard, &call);
		MemoryContextSwitchTo(old);
		MemoryContextReset(turn);
	}
	MemoryContextDelete(turn);
	return passes;
}

static bool
is_candidate(const MachineStep *step, const Transition *transition)
{
	return step->to_state == NULL || strcmp(step->to_state, transition->to_state) == 0;
}

/* Adds a name to a list, once. */
static void
append_guard(StringInfo guards, const Transition *transition)
{
	if (transition->guard == NULL ||
		(guards->len > 0 && strstr(guards->data, transition->guard->signature) != NULL))
		return;
	appendStringInfo(guards, "%s%s", guards->len > 0 ? ", " : "", transition->guard->signature);
}

static void
refuse_by_guard(const Machine *machine, const MachineStep *step, const Transition *candidates,
				int n)
{
	StringInfoData guards;

	initStringInfo(&guards);
	for (int i = 0; i < n; i++)
		if (is_candidate(step, &candidates[i]))
			append_guard(&guards, &candidates[i]);
	ereport(ERROR,
			errcode(ERRCODE_ORDFLOW_GUARD_REFUSED),
			errmsg("event \"%s\" was refused for %s by guard %s", step->event,
				   ordflow_machine_object(machine, step->target, step->keys[0]), guards.data),
			errdetail("Machine \"%s\", state \"%s\".", machine->name,
					  step->from_state != NULL ? step->from_state : ""));
}

/*
 * Sets step->transition and step->to_state to the first transition by ordinal
 * whose guard lets the objects pass.
 */
static void
choose_transition(const Machine *machine, MachineStep *step)
{
	int			n;
	const Transition *candidates = ordflow_machine_candidates(machine, step->from_state,
															  step->event, &n);
	const Transition *only = NULL;
	int			nmatching = 0;

	for (int i = 0; i < n; i++)
		if (is_candidate(step, &candidates[i]))
		{
			only = &candidates[i];
			nmatching++;
		}
	if (nmatching == 0)
		ordflow_machine_illegal(machine->name, step->from_state != NULL ? step->from_state : "",
								step->event,
								ordflow_machine_object(machine, step->target, step->keys[0]), NULL);
	if (nmatching > 1 && step->nkeys > 1)
		elog(ERROR, "guards must decide for each object of event \"%s\" alone", step->event);

	step->transition = nmatching == 1 ? only : NULL;
	if (machine->ops != NULL)
		run_op(machine->ops->guard, step);
	for (int i = 0; i < n; i++)
		if (is_candidate(step, &candidates[i]) && guard_passes(machine, step, &candidates[i]))
		{
			step->transition = &candidates[i];
			step->to_state = candidates[i].to_state;
			return;
		}
	refuse_by_guard(machine, step, candidates, n);
}

static void
update_error_context(void *arg)
{
	if (geterrcode() == ERRCODE_INSUFFICIENT_PRIVILEGE)
		ordflow_hint_where_none(
								"The row is written in a security-restricted operation, where deferred triggers are not allowed. "
								"Where a deferred constraint is in the way, run SET CONSTRAINTS ... IMMEDIATE before the call.");
}

static char *
state_type_name(const MachineTarget *target)
{
	AttrNumber	attnum = get_attnum(target->relid, target->state_column);

	return ordflow_machine_type_name(getBaseType(get_atttype(target->relid, attnum)));
}

/*
 * The generic UPDATE.  It finds the row only in the state
 * that it was read in, which a guard may have changed; RETURNING shows what the
 * table's own BEFORE triggers made of it.
 */
static void
update_rows(const MachineStep *step)
{
	const MachineTarget *target = step->target;
	const char *column = quote_identifier(target->state_column);
	bool		any = step->nkeys > 1;
	char	   *sql = psprintf("UPDATE %s AS o SET %s = $2::%s "
							   "WHERE %s AND o.%s::text COLLATE \"C\" = $3 RETURNING o.%s::text",
							   ordflow_machine_from(target), column, state_type_name(target),
							   ordflow_machine_key_condition(target, 1, any), column, column);
	Oid			types[3] = {any ? get_array_type(target->key_type) : target->key_type,
	TEXTOID, TEXTOID};
	Datum		values[3];
	uint64		nrows;
	RoleSwitch	saved;
	ErrorContextCallback context = {error_context_stack, update_error_context, NULL};

	values[0] = any ? ordflow_machine_key_array(target, step->keys, step->nkeys) : step->keys[0];
	values[1] = CStringGetTextDatum(step->to_state);
	values[2] = CStringGetTextDatum(step->from_state);
	error_context_stack = &context;
	saved = ordflow_machine_visitor_enter(target->relid);
	/* a list of composite keys is a join, which must not read the whole table */
	nrows = any && target->nkey_columns > 0 ?
		ordflow_machine_query_by_index(sql, 3, types, values) :
		ordflow_machine_query(sql, 3, types, values, false);
	ordflow_role_leave(saved);
	error_context_stack = context.previous;
	if (nrows == step->nkeys)
	{
		uint64		i = 0;

		while (i < nrows && ordflow_result_text(i, 1) != NULL &&
			   strcmp(ordflow_result_text(i, 1), step->to_state) == 0)
			i++;
		if (i == nrows)
			return;
	}
	ereport(ERROR,
			errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
			errmsg("table %s did not take state \"%s\" for every row",
				   ordflow_machine_table(target->relid), step->to_state),
			errdetail("Asked for %d, updated " UINT64_FORMAT ".", step->nkeys, nrows),
			errhint("A trigger, rule or guard may have skipped or changed the row."));
}

static void
write_state(const Machine *machine, MachineStep *step)
{
	bool		own_update = machine->ops != NULL && machine->ops->update != NULL;
	Pending    *pending = ordflow_pending_push(step, own_update);

	if (own_update)
		run_op(machine->ops->update, step);
	else
		update_rows(step);
	ordflow_pending_pop(pending);
}

/* The transition's own effect, then those of the event, for each object. */
static void
user_effects(const Machine *machine, MachineStep *step)
{
	int			neffects;
	const MachineEffect *effects = ordflow_machine_effects_of(machine, step->event, &neffects);
	const Hook *own = step->transition->effect;
	MemoryContext turn;

	if (own == NULL && neffects == 0)
		return;
	turn = AllocSetContextCreate(CurrentMemoryContext, "ordflow effects", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < step->nkeys; i++)
	{
		HookCall	call = {machine, step, step->transition, step->keys[i], NULL};
		MemoryContext old = MemoryContextSwitchTo(turn);

		CHECK_FOR_INTERRUPTS();
		if (own != NULL)
			ordflow_hook_effect(own, &call);
		for (int j = 0; j < neffects; j++)
			ordflow_hook_effect(effects[j].hook, &call);
		MemoryContextSwitchTo(old);
		MemoryContextReset(turn);
	}
	MemoryContextDelete(turn);
}

void
ordflow_machine_apply(MachineStep *step)
{
	const Machine *machine = ordflow_machine_load(step->target->machine);

	/* effects may fire events in turn */
	check_stack_depth();
	Assert(step->nkeys > 0);

	ordflow_worker_wake_blocked();
	SPI_connect();
	choose_transition(machine, step);
	if (!step->written)
		write_state(machine, step);
	if (machine->ops != NULL && machine->ops->history != NULL)
		run_op(machine->ops->history, step);
	else
		ordflow_history_write(step);
	if (machine->ops != NULL)
		run_op(machine->ops->effects, step);
	user_effects(machine, step);
	SPI_finish();
}

void
ordflow_machine_user_effects(MachineStep *step)
{
	const Machine *machine = ordflow_machine_load(step->target->machine);

	check_stack_depth();
	if (step->transition == NULL)
		step->transition = ordflow_machine_find(machine->name, step->from_state, step->event,
												step->to_state);
	if (step->transition == NULL)
		elog(ERROR, "machine \"%s\" has no event \"%s\"", machine->name, step->event);
	SPI_connect();
	user_effects(machine, step);
	SPI_finish();
}

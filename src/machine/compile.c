/*
 * compile.c
 *	  From the rows of a machine to its compiled form.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "machine/internal.h"

#define READ_MACHINE \
	"SELECT builtin FROM ordflow.machines WHERE machine = $1"
#define READ_STATES \
	"SELECT state, kind, label, builtin FROM ordflow.states WHERE machine = $1 " \
	"ORDER BY state COLLATE \"C\""

/* a transition between states that are not there can never be taken */
#define READ_TRANSITIONS \
	"SELECT from_state, event, to_state, ordinal, guard, to_regprocedure(guard)::oid, " \
	"effect, to_regprocedure(effect)::oid, role, after, after_setting, builtin " \
	"FROM ordflow.transitions AS t WHERE machine = $1 " \
	"AND (from_state IS NULL OR EXISTS " \
	"(SELECT FROM ordflow.states AS s WHERE s.machine = $1 AND s.state = t.from_state)) " \
	"AND EXISTS " \
	"(SELECT FROM ordflow.states AS s WHERE s.machine = $1 AND s.state = t.to_state) " \
	"ORDER BY from_state COLLATE \"C\" NULLS FIRST, event COLLATE \"C\", ordinal, " \
	"to_state COLLATE \"C\""
#define READ_EFFECTS \
	"SELECT event, ordinal, effect, to_regprocedure(effect)::oid, role, builtin " \
	"FROM ordflow.effects WHERE machine = $1 " \
	"ORDER BY event COLLATE \"C\", ordinal, effect COLLATE \"C\""

enum
{
	TRANSITION_FROM = 1,
	TRANSITION_EVENT,
	TRANSITION_TO,
	TRANSITION_ORDINAL,
	TRANSITION_GUARD,
	TRANSITION_GUARD_OID,
	TRANSITION_EFFECT,
	TRANSITION_EFFECT_OID,
	TRANSITION_ROLE,
	TRANSITION_AFTER,
	TRANSITION_AFTER_SETTING,
	TRANSITION_BUILTIN
};

static uint64
read_rows(Snapshot snapshot, const char *sql, const char *name)
{
	Oid			type = TEXTOID;
	Datum		value = CStringGetTextDatum(name);

	return ordflow_machine_query_at(snapshot, sql, 1, &type, &value);
}

static const char *
keep_text(Machine *machine, uint64 row, int column)
{
	char	   *value = ordflow_result_text(row, column);

	return value != NULL ? MemoryContextStrdup(machine->context, value) : NULL;
}

static bool
result_bool(uint64 row, int column)
{
	bool		isnull;

	return DatumGetBool(ordflow_result(row, column, &isnull)) && !isnull;
}

static int
result_int(uint64 row, int column)
{
	bool		isnull;

	return DatumGetInt32(ordflow_result(row, column, &isnull));
}

/* The hook whose signature, oid and role stand in these columns; NULL where there is none. */
static const Hook *
keep_hook(Machine *machine, const char *kind, uint64 row, int signature, int oid, int role)
{
	Hook	   *hook;
	Datum		function;
	bool		isnull;

	if (SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, signature) == NULL)
		return NULL;
	hook = MemoryContextAllocZero(machine->context, sizeof(Hook));
	hook->kind = kind;
	hook->signature = keep_text(machine, row, signature);
	hook->role = keep_text(machine, row, role);

	/* a function of that name may have come back with another result */
	function = ordflow_result(row, oid, &isnull);
	if (!isnull && ordflow_hook_fits(DatumGetObjectId(function), kind))
		hook->function = DatumGetObjectId(function);
	hook->roleid = hook->role != NULL ? get_role_oid(hook->role, true) : InvalidOid;
	return hook;
}

static StateKind
state_kind(const char *name)
{
	if (strcmp(name, "initial") == 0)
		return STATE_INITIAL;
	return strcmp(name, "final") == 0 ? STATE_FINAL : STATE_NORMAL;
}

static void
compile_states(Machine *machine, Snapshot snapshot)
{
	machine->nstates = read_rows(snapshot, READ_STATES, machine->name);
	machine->states = MemoryContextAllocZero(machine->context,
											 sizeof(MachineState) * Max(machine->nstates, 1));
	for (int i = 0; i < machine->nstates; i++)
	{
		MachineState *state = &machine->states[i];

		state->name = keep_text(machine, i, 1);
		state->kind = state_kind(ordflow_result_text(i, 2));
		state->label = keep_text(machine, i, 3);
		state->builtin = result_bool(i, 4);
	}
}

static void
compile_transition(Machine *machine, Transition *transition, uint64 row)
{
	bool		isnull;
	Datum		after;

	transition->from_state = keep_text(machine, row, TRANSITION_FROM);
	transition->event = keep_text(machine, row, TRANSITION_EVENT);
	transition->to_state = keep_text(machine, row, TRANSITION_TO);
	transition->ordinal = result_int(row, TRANSITION_ORDINAL);
	transition->guard = keep_hook(machine, "guard", row, TRANSITION_GUARD,
								  TRANSITION_GUARD_OID, TRANSITION_ROLE);
	transition->effect = keep_hook(machine, "effect", row, TRANSITION_EFFECT,
								   TRANSITION_EFFECT_OID, TRANSITION_ROLE);
	after = ordflow_result(row, TRANSITION_AFTER, &isnull);
	if (!isnull)
	{
		transition->after = MemoryContextAlloc(machine->context, sizeof(Interval));
		*transition->after = *DatumGetIntervalP(after);
	}
	transition->after_setting = keep_text(machine, row, TRANSITION_AFTER_SETTING);
	transition->builtin = result_bool(row, TRANSITION_BUILTIN);
}

static void
compile_transitions(Machine *machine, Snapshot snapshot)
{
	machine->ntransitions = read_rows(snapshot, READ_TRANSITIONS, machine->name);
	machine->transitions =
		MemoryContextAllocZero(machine->context,
							   sizeof(Transition) * Max(machine->ntransitions, 1));
	for (int i = 0; i < machine->ntransitions; i++)
	{
		CHECK_FOR_INTERRUPTS();
		compile_transition(machine, &machine->transitions[i], i);
	}
}

/*
 * Gives each state its transitions.  Both arrays are sorted by the state's name,
 * and the creating transitions stand first.
 */
static void
link_states(Machine *machine)
{
	int			t = 0;

	while (t < machine->ntransitions && machine->transitions[t].from_state == NULL)
		t++;
	for (int i = 0; i < machine->nstates; i++)
	{
		MachineState *state = &machine->states[i];

		state->first = t;
		for (; t < machine->ntransitions &&
			 strcmp(machine->transitions[t].from_state, state->name) == 0; t++)
		{
			const Transition *transition = &machine->transitions[t];

			if ((transition->after != NULL || transition->after_setting != NULL) &&
				(state->timeout == NULL || transition->ordinal < state->timeout->ordinal))
				state->timeout = transition;
		}
		state->n = t - state->first;
	}
}

static void
compile_effects(Machine *machine, Snapshot snapshot)
{
	machine->neffects = read_rows(snapshot, READ_EFFECTS, machine->name);
	machine->effects = MemoryContextAllocZero(machine->context,
											  sizeof(MachineEffect) * Max(machine->neffects, 1));
	for (int i = 0; i < machine->neffects; i++)
	{
		MachineEffect *effect = &machine->effects[i];

		effect->event = keep_text(machine, i, 1);
		effect->ordinal = result_int(i, 2);
		effect->hook = keep_hook(machine, "effect", i, 3, 4, 5);
		effect->builtin = result_bool(i, 6);
	}
}

Machine *
ordflow_machine_compile(const char *name)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "ordflow machine",
												  ALLOCSET_SMALL_SIZES);
	OwnWork		work = ordflow_machine_own_enter();
	Machine    *machine = NULL;
	Snapshot	snapshot;

	SPI_connect();
	/* one for all reads: a definition may be replaced between two of them */
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	if (read_rows(snapshot, READ_MACHINE, name) > 0)
	{
		machine = MemoryContextAllocZero(context, sizeof(Machine));
		machine->context = context;
		machine->name = MemoryContextStrdup(context, name);
		machine->builtin = result_bool(0, 1);
		machine->ops = machine->builtin ? ordflow_machine_ops(name) : NULL;
		compile_states(machine, snapshot);
		compile_transitions(machine, snapshot);
		link_states(machine);
		compile_effects(machine, snapshot);
	}
	UnregisterSnapshot(snapshot);
	SPI_finish();
	ordflow_machine_own_leave(work);

	if (machine == NULL)
		MemoryContextDelete(context);
	return machine;
}

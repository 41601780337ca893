/*
 * check.c
 *	  check_machine(): what is wrong with a machine that could be stored.
 */
#include "postgres.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "machine/internal.h"

PG_FUNCTION_INFO_V1(ordflow_check_machine);

static void
put_problem(ReturnSetInfo *rsinfo, const char *severity, const char *state, const char *problem)
{
	Datum		values[3];
	bool		nulls[3] = {false, state == NULL, false};

	values[0] = CStringGetTextDatum(severity);
	values[1] = state != NULL ? CStringGetTextDatum(state) : (Datum) 0;
	values[2] = CStringGetTextDatum(problem);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static int
state_index(const Machine *machine, const char *name)
{
	return ordflow_machine_state(machine, name) - machine->states;
}

/* Transitions that the compiled form leaves out. */
static Statement dangling_transitions = {
	.sql = "SELECT t.from_state, t.event, t.to_state FROM ordflow.transitions AS t "
	"LEFT JOIN ordflow.states AS f ON f.machine = t.machine AND f.state = t.from_state "
	"LEFT JOIN ordflow.states AS s ON s.machine = t.machine AND s.state = t.to_state "
	"WHERE t.machine = $1 AND (s.state IS NULL OR f.state IS NULL AND t.from_state IS NOT NULL) "
	"ORDER BY t.ordinal",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static void
check_dangling(ReturnSetInfo *rsinfo, const Machine *machine)
{
	Datum		name = CStringGetTextDatum(machine->name);
	uint64		nrows;

	SPI_connect();
	nrows = ordflow_execute(&dangling_transitions, &name, NULL);
	for (uint64 i = 0; i < nrows; i++)
		put_problem(rsinfo, "error", ordflow_result_text(i, 1),
					psprintf("event \"%s\" to \"%s\" is left out: a state of it does not exist",
							 ordflow_result_text(i, 2), ordflow_result_text(i, 3)));
	SPI_finish();
}

/* Which states an object can come to, from the initial ones; an array by state. */
static bool *
reachable_states(const Machine *machine)
{
	bool	   *reached = palloc0(sizeof(bool) * Max(machine->nstates, 1));
	int		   *queue = palloc(sizeof(int) * Max(machine->nstates, 1));
	int			head = 0;
	int			tail = 0;

	for (int i = 0; i < machine->nstates; i++)
		if (machine->states[i].kind == STATE_INITIAL)
		{
			reached[i] = true;
			queue[tail++] = i;
		}
	while (head < tail)
	{
		const MachineState *state = &machine->states[queue[head++]];

		for (int t = state->first; t < state->first + state->n; t++)
		{
			int			to = state_index(machine, machine->transitions[t].to_state);

			if (!reached[to])
			{
				reached[to] = true;
				queue[tail++] = to;
			}
		}
	}
	return reached;
}

static void
check_states(ReturnSetInfo *rsinfo, const Machine *machine)
{
	bool	   *reached = reachable_states(machine);

	for (int i = 0; i < machine->nstates; i++)
	{
		const MachineState *state = &machine->states[i];

		if (!reached[i])
			put_problem(rsinfo, "warning", state->name, "cannot be reached from an initial state");
		if (state->kind != STATE_FINAL && state->n == 0)
			put_problem(rsinfo, "warning", state->name,
						"is a dead end: not final, and no event leaves it");
	}
}

static void
check_hook(ReturnSetInfo *rsinfo, const Hook *hook, const char *state, const char *event)
{
	char	   *what;

	if (hook == NULL)
		return;
	what = psprintf("%s %s of event \"%s\"", hook->kind, hook->signature, event);
	if (!OidIsValid(hook->function))
		put_problem(rsinfo, "error", state, psprintf("%s does not exist", what));
	if (!OidIsValid(hook->roleid))
		put_problem(rsinfo, "error", state,
					psprintf("%s runs as role \"%s\", which does not exist", what, hook->role));
	if (OidIsValid(hook->function) && OidIsValid(hook->roleid) &&
		object_aclcheck(ProcedureRelationId, hook->function, hook->roleid,
						ACL_EXECUTE) != ACLCHECK_OK)
		put_problem(rsinfo, "error", state,
					psprintf("%s may not be executed by role \"%s\", as which it runs", what,
							 hook->role));
}

static void
check_hooks(ReturnSetInfo *rsinfo, const Machine *machine)
{
	for (int i = 0; i < machine->ntransitions; i++)
	{
		const Transition *transition = &machine->transitions[i];

		check_hook(rsinfo, transition->guard, transition->from_state, transition->event);
		check_hook(rsinfo, transition->effect, transition->from_state, transition->event);
	}
	for (int i = 0; i < machine->neffects; i++)
	{
		const MachineEffect *effect = &machine->effects[i];

		check_hook(rsinfo, effect->hook, NULL, effect->event);
		if (!ordflow_machine_knows(machine, effect->event))
			put_problem(rsinfo, "warning", NULL,
						psprintf("effect %s hangs on event \"%s\", which no state takes",
								 effect->hook->signature, effect->event));
	}
}

Datum
ordflow_check_machine(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const Machine *machine;

	ordflow_require_version();
	machine = ordflow_machine_load(ordflow_arg_text(fcinfo, 0, "name"));
	InitMaterializedSRF(fcinfo, 0);
	check_states(rsinfo, machine);
	check_dangling(rsinfo, machine);
	check_hooks(rsinfo, machine);
	return (Datum) 0;
}

/*
 * lookup.c
 *	  Questions to a compiled machine: binary searches, no SQL.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "machine/internal.h"

const MachineState *
ordflow_machine_state(const Machine *machine, const char *name)
{
	int			low = 0;
	int			high = machine->nstates - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;
		int			order = strcmp(name, machine->states[middle].name);

		if (order == 0)
			return &machine->states[middle];
		if (order < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
	return NULL;
}

const Transition *
ordflow_machine_exits(const Machine *machine, const char *state, int *n)
{
	const MachineState *found;

	*n = 0;
	if (state == NULL)
	{
		while (*n < machine->ntransitions && machine->transitions[*n].from_state == NULL)
			(*n)++;
		return machine->transitions;
	}
	found = ordflow_machine_state(machine, state);
	if (found == NULL)
		return NULL;
	*n = found->n;
	return &machine->transitions[found->first];
}

const Transition *
ordflow_machine_candidates(const Machine *machine, const char *from_state, const char *event,
						   int *n)
{
	int			nexits;
	const Transition *exits = ordflow_machine_exits(machine, from_state, &nexits);
	int			low = 0;
	int			high = nexits;

	/* the first exit whose event is not before this one */
	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (strcmp(exits[middle].event, event) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*n = 0;
	while (low + *n < nexits && strcmp(exits[low + *n].event, event) == 0)
		(*n)++;
	return *n > 0 ? &exits[low] : NULL;
}

const MachineEffect *
ordflow_machine_effects_of(const Machine *machine, const char *event, int *n)
{
	int			first = 0;

	while (first < machine->neffects && strcmp(machine->effects[first].event, event) != 0)
		first++;
	*n = 0;
	while (first + *n < machine->neffects &&
		   strcmp(machine->effects[first + *n].event, event) == 0)
		(*n)++;
	return *n > 0 ? &machine->effects[first] : NULL;
}

bool
ordflow_machine_knows(const Machine *machine, const char *event)
{
	for (int i = 0; i < machine->ntransitions; i++)
		if (strcmp(machine->transitions[i].event, event) == 0)
			return true;
	return false;
}

const char *
ordflow_machine_verb(const Machine *machine, const char *event)
{
	if (machine->ops == NULL || machine->ops->verb == NULL)
		return NULL;
	return machine->ops->verb(event);
}

bool
ordflow_machine_has_timeouts(const Machine *machine)
{
	for (int i = 0; i < machine->nstates; i++)
		if (machine->states[i].timeout != NULL)
			return true;
	return false;
}

bool
ordflow_machine_has_hooks(const char *name, const char *event)
{
	const Machine *machine = ordflow_machine_load(name);
	int			neffects;

	for (int i = 0; i < machine->ntransitions; i++)
	{
		const Transition *transition = &machine->transitions[i];

		if ((transition->guard != NULL || transition->effect != NULL) &&
			strcmp(transition->event, event) == 0)
			return true;
	}
	ordflow_machine_effects_of(machine, event, &neffects);
	return neffects > 0;
}

const Transition *
ordflow_machine_find(const char *name, const char *from_state, const char *event,
					 const char *to_state)
{
	int			n;
	const Transition *candidates = ordflow_machine_candidates(ordflow_machine_load(name),
															  from_state, event, &n);

	for (int i = 0; i < n; i++)
		if (to_state == NULL || strcmp(candidates[i].to_state, to_state) == 0)
			return &candidates[i];
	return NULL;
}

const Transition *
ordflow_machine_timeout(const char *name, const char *state)
{
	const MachineState *found = ordflow_machine_state(ordflow_machine_load(name), state);

	return found != NULL ? found->timeout : NULL;
}

bool
ordflow_machine_branches(const char *name, const char *state, const char *event)
{
	int			n;

	ordflow_machine_candidates(ordflow_machine_load(name), state, event, &n);
	return n > 1;
}

TimestampTz
ordflow_machine_deadline(const Transition *timeout, TimestampTz now)
{
	Interval   *after = timeout->after;

	if (after == NULL)
		after = ordflow_setting_interval(timeout->after_setting);
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(now),
												   IntervalPGetDatum(after)));
}

char *
ordflow_machine_legal_events(const Machine *machine, const char *state)
{
	int			n;
	const Transition *exits = ordflow_machine_exits(machine, state, &n);
	StringInfoData text;

	if (ordflow_machine_state(machine, state) == NULL)
		return psprintf("Machine \"%s\" has no state \"%s\".", machine->name, state);
	if (n == 0)
		return psprintf("State \"%s\" of machine \"%s\" has no legal events.", state,
						machine->name);

	initStringInfo(&text);
	appendStringInfo(&text, "Legal events in state \"%s\" of machine \"%s\":", state,
					 machine->name);
	for (int i = 0; i < n; i++)
		appendStringInfo(&text, "%s %s (to %s)", i > 0 ? "," : "", exits[i].event,
						 exits[i].to_state);
	appendStringInfoChar(&text, '.');
	return text.data;
}

void
ordflow_machine_illegal(const char *name, const char *state, const char *event,
						const char *object, const char *hint)
{
	const Machine *machine = ordflow_machine_load(name);

	ereport(ERROR,
			errcode(ERRCODE_ORDFLOW_ILLEGAL_TRANSITION),
			errmsg("event \"%s\" is not legal for %s in state \"%s\"", event, object, state),
			errdetail_internal("%s", ordflow_machine_legal_events(machine, state)),
			hint != NULL ? errhint("%s", hint) : 0);
	pg_unreachable();
}

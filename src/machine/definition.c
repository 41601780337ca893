/*
 * definition.c
 *	  Reading and checking the JSON of define_machine():
 *
 *	{"states": {"new": "initial", "paid": {"kind": "normal", "label": "Paid"}, "done": "final"},
 *	 "transitions": [{"from": "new", "event": "pay", "to": "paid", "guard": "s.f(jsonb,jsonb)",
 *					  "effect": "s.g(jsonb,jsonb)", "after": "15 min"}]}
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "base/json.h"
#include "machine/definition.h"

static const char *const kinds[] = {"initial", "normal", "final"};

static const JsonField definition_fields[] = {
	{"states", JSON_OBJECT, true},
	{"transitions", JSON_ARRAY, true}
};

static const JsonField state_fields[] = {
	{"kind", JSON_TEXT, true},
	{"label", JSON_TEXT, false}
};

enum
{
	FIELD_FROM,
	FIELD_EVENT,
	FIELD_TO,
	FIELD_GUARD,
	FIELD_EFFECT,
	FIELD_AFTER
};

static const JsonField transition_fields[] = {
	[FIELD_FROM] = {"from", JSON_TEXT, false},
	[FIELD_EVENT] = {"event", JSON_TEXT, true},
	[FIELD_TO] = {"to", JSON_TEXT, true},
	[FIELD_GUARD] = {"guard", JSON_TEXT, false},
	[FIELD_EFFECT] = {"effect", JSON_TEXT, false},
	[FIELD_AFTER] = {"after", JSON_TEXT, false}
};

#define INVALID(...) \
	ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg(__VA_ARGS__))

/* ---- reading ---- */

static const char *
read_kind(const char *state, const char *kind)
{
	for (int i = 0; i < lengthof(kinds); i++)
		if (strcmp(kinds[i], kind) == 0)
			return kinds[i];
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("state \"%s\": unknown kind \"%s\"", state, kind),
			errhint("A state is initial, normal or final."));
}

static void
read_state(DefinedState *state, const JsonbValue *key, const JsonbValue *value)
{
	JsonItem	items[lengthof(state_fields)];
	char	   *what;

	state->name = pnstrdup(key->val.string.val, key->val.string.len);
	ordflow_check_text(state->name, "a state's name", NULL);
	what = psprintf("state \"%s\"", state->name);
	if (value->type == jbvString)
	{
		state->kind = read_kind(state->name, pnstrdup(value->val.string.val,
													  value->val.string.len));
		return;
	}
	if (value->type != jbvBinary)
		INVALID("%s must be a kind or an object", what);
	ordflow_json_read(ordflow_json_container(value), what, state_fields, lengthof(state_fields),
					  items, NULL);
	state->kind = read_kind(state->name, items[0].text);
	state->label = items[1].text;
}

static int
compare_states(const void *a, const void *b)
{
	return strcmp(((const DefinedState *) a)->name, ((const DefinedState *) b)->name);
}

static void
read_states(Definition *definition, JsonbContainer *object)
{
	JsonbIterator *it = JsonbIteratorInit(object);
	JsonbIteratorToken token;
	JsonbValue	value;
	JsonbValue	key;

	if (JsonContainerSize(object) > MACHINE_STATES_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("a machine may have at most %d states", MACHINE_STATES_MAX));
	definition->states = palloc0(sizeof(DefinedState) * Max(JsonContainerSize(object), 1));
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token != WJB_KEY)
			continue;
		key = value;
		JsonbIteratorNext(&it, &value, true);
		read_state(&definition->states[definition->nstates++], &key, &value);
	}
	qsort(definition->states, definition->nstates, sizeof(DefinedState), compare_states);
}

/* A timeout that could not be added to today's clock would fail at every row instead. */
static void
check_after(const char *what, const char *text)
{
	Interval   *after = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text),
															  ObjectIdGetDatum(InvalidOid),
															  Int32GetDatum(-1)));
	Transition	timeout = {.after = after};
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz deadline = ordflow_machine_deadline(&timeout, now);

	if (deadline <= now || TIMESTAMP_NOT_FINITE(deadline))
		INVALID("%s: \"after\" must be longer than nothing, and finite", what);
}

static void
read_transition(DefinedTransition *transition, JsonbContainer *object, int number)
{
	JsonItem	items[lengthof(transition_fields)];
	char	   *what = psprintf("transition %d", number);

	ordflow_json_read(object, what, transition_fields, lengthof(transition_fields), items, NULL);
	if (!items[FIELD_FROM].given)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s: \"from\" is missing", what),
				errhint("\"from\": null stands for an event that creates the object."));
	transition->number = number;
	transition->from_state = items[FIELD_FROM].text;
	transition->event = items[FIELD_EVENT].text;
	transition->to_state = items[FIELD_TO].text;
	if (items[FIELD_GUARD].text != NULL)
		transition->guard = ordflow_hook_signature_from_text(items[FIELD_GUARD].text, "guard");
	if (items[FIELD_EFFECT].text != NULL)
		transition->effect = ordflow_hook_signature_from_text(items[FIELD_EFFECT].text, "effect");
	transition->after = items[FIELD_AFTER].text;
	if (transition->after != NULL)
	{
		if (transition->from_state == NULL)
			INVALID("%s: an event that creates the object cannot fire by itself", what);
		check_after(what, transition->after);
	}
}

Definition *
ordflow_definition_read(Jsonb *json)
{
	Definition *definition = palloc0(sizeof(Definition));
	JsonItem	items[lengthof(definition_fields)];
	JsonbContainer *array;

	ordflow_json_read(&json->root, "definition", definition_fields, lengthof(definition_fields),
					  items, NULL);
	read_states(definition, ordflow_json_container(&items[0].value));

	array = ordflow_json_container(&items[1].value);
	definition->ntransitions = JsonContainerSize(array);
	if (definition->ntransitions > MACHINE_TRANSITIONS_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("a machine may have at most %d transitions", MACHINE_TRANSITIONS_MAX));
	definition->transitions =
		palloc0(sizeof(DefinedTransition) * Max(definition->ntransitions, 1));
	for (int i = 0; i < definition->ntransitions; i++)
	{
		CHECK_FOR_INTERRUPTS();
		read_transition(&definition->transitions[i], ordflow_json_element(array, i), i + 1);
	}
	return definition;
}

/* ---- checking ---- */

static const DefinedState *
defined_state(const Definition *definition, const char *name)
{
	DefinedState key = {.name = (char *) name};

	return bsearch(&key, definition->states, definition->nstates, sizeof(DefinedState),
				   compare_states);
}

static void
require_state(const Definition *definition, const Machine *base, int number, const char *name)
{
	if (defined_state(definition, name) != NULL ||
		(base != NULL && ordflow_machine_state(base, name) != NULL))
		return;
	INVALID("transition %d: state \"%s\" is not among the states", number, name);
}

static void
check_transition(const Definition *definition, const Machine *base,
				 const DefinedTransition *transition)
{
	require_state(definition, base, transition->number, transition->to_state);
	if (transition->from_state != NULL)
	{
		require_state(definition, base, transition->number, transition->from_state);
		return;
	}
	if (base != NULL)
		INVALID("transition %d: the objects of machine \"%s\" are created by its own events only",
				transition->number, base->name);
	if (strcmp(defined_state(definition, transition->to_state)->kind, "initial") != 0)
		INVALID("transition %d: an event that creates the object must lead to an initial state",
				transition->number);
}

static int
compare_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return (a != NULL) - (b != NULL);
	return strcmp(a, b);
}

/* by from, event, to */
static int
compare_transitions(const void *a, const void *b)
{
	const DefinedTransition *x = *(const DefinedTransition *const *) a;
	const DefinedTransition *y = *(const DefinedTransition *const *) b;
	int			order = compare_text(x->from_state, y->from_state);

	if (order == 0)
		order = strcmp(x->event, y->event);
	if (order == 0)
		order = strcmp(x->to_state, y->to_state);
	return order;
}

/*
 * An object leaves a state by itself at one time by one event, so all timeouts of
 * a state must agree in both; guards may still choose where it leads.
 */
static void
check_timeouts(DefinedTransition **sorted, int n)
{
	const DefinedTransition *timeout = NULL;

	for (int i = 0; i < n; i++)
	{
		if (sorted[i]->after == NULL)
			continue;
		if (timeout != NULL && strcmp(timeout->from_state, sorted[i]->from_state) == 0 &&
			(strcmp(timeout->event, sorted[i]->event) != 0 ||
			 strcmp(timeout->after, sorted[i]->after) != 0))
			INVALID("transitions %d and %d: state \"%s\" has two timeouts", timeout->number,
					sorted[i]->number, timeout->from_state);
		timeout = sorted[i];
	}
}

static void
check_together(const Definition *definition)
{
	int			n = definition->ntransitions;
	DefinedTransition **sorted = palloc(sizeof(DefinedTransition *) * Max(n, 1));

	for (int i = 0; i < n; i++)
		sorted[i] = &definition->transitions[i];
	qsort(sorted, n, sizeof(DefinedTransition *), compare_transitions);
	for (int i = 1; i < n; i++)
		if (compare_transitions(&sorted[i - 1], &sorted[i]) == 0)
			INVALID("transitions %d and %d are the same", sorted[i - 1]->number,
					sorted[i]->number);
	check_timeouts(sorted, n);
}

/* A built-in machine may be added to; what it has stays as it is. */
static void
check_against_base(const Definition *definition, const Machine *base)
{
	for (int i = 0; i < definition->nstates; i++)
	{
		const MachineState *state = ordflow_machine_state(base, definition->states[i].name);

		if (state != NULL && state->builtin)
			ereport(ERROR,
					errcode(ERRCODE_ORDFLOW_ILLEGAL_TRANSITION),
					errmsg("state \"%s\" of machine \"%s\" is built in", state->name, base->name),
					errhint("Name it in transitions only."));
	}
	for (int i = 0; i < definition->ntransitions; i++)
	{
		const DefinedTransition *transition = &definition->transitions[i];
		const Transition *existing = ordflow_machine_find(base->name, transition->from_state,
														  transition->event, transition->to_state);
		const Transition *timeout = ordflow_machine_timeout(base->name, transition->from_state);

		if (existing != NULL && existing->builtin)
			ereport(ERROR,
					errcode(ERRCODE_ORDFLOW_ILLEGAL_TRANSITION),
					errmsg("transition %d is built in: event \"%s\" from \"%s\" to \"%s\" of machine \"%s\"",
						   transition->number, transition->event, transition->from_state,
						   transition->to_state, base->name));
		if (transition->after != NULL && timeout != NULL && timeout->builtin)
			INVALID("transition %d: state \"%s\" of machine \"%s\" has a timeout already",
					transition->number, transition->from_state, base->name);
	}
}

static bool
has_initial_state(const Definition *definition)
{
	for (int i = 0; i < definition->nstates; i++)
		if (strcmp(definition->states[i].kind, "initial") == 0)
			return true;
	return false;
}

void
ordflow_definition_check(const Definition *definition, const Machine *base)
{
	if (base == NULL && !has_initial_state(definition))
		INVALID("the definition has no initial state");
	for (int i = 0; i < definition->ntransitions; i++)
		check_transition(definition, base, &definition->transitions[i]);
	check_together(definition);
	if (base != NULL)
		check_against_base(definition, base);
}

/*
 * diagram.c
 *	  A machine as the text of a diagram: mermaid, or dot of Graphviz.
 *
 * A state whose name is a plain word is drawn under it, any other as s1, s2, ...:
 * the text of a state is never syntax.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "machine/internal.h"

PG_FUNCTION_INFO_V1(ordflow_diagram);

#define START "start"

/* How a format writes what every diagram has. */
typedef struct DiagramFormat
{
	const char *name;
	void		(*begin) (StringInfo out, const Machine *machine);
	void		(*state) (StringInfo out, const char *id, const MachineState *state);

	/* from NULL is the start; label NULL = none */
	void		(*arrow) (StringInfo out, const char *from, const char *to, const char *label);

	/* the end of what happens to an object */
	void		(*final) (StringInfo out, const char *id);
	const char *end;
} DiagramFormat;

/* ---- mermaid ---- */

static void
mermaid_text(StringInfo out, const char *text)
{
	/* everything that means something to mermaid or HTML goes as its code */
	for (const char *c = text; *c != '\0'; c++)
		if (strchr("\"#;:<>&{}\\%`", *c) != NULL || (unsigned char) *c < ' ')
			appendStringInfo(out, "#%d;", (unsigned char) *c);
		else
			appendStringInfoChar(out, *c);
}

static void
mermaid_begin(StringInfo out, const Machine *machine)
{
	appendStringInfoString(out, "stateDiagram-v2\n");
}

static void
mermaid_state(StringInfo out, const char *id, const MachineState *state)
{
	appendStringInfoString(out, "    state \"");
	mermaid_text(out, state->label != NULL ? state->label : state->name);
	appendStringInfo(out, "\" as %s\n", id);
}

static void
mermaid_arrow(StringInfo out, const char *from, const char *to, const char *label)
{
	if (from == NULL)
		appendStringInfo(out, "    [*] --> %s", to);
	else
		appendStringInfo(out, "    %s --> %s", from, to);
	if (label != NULL)
	{
		appendStringInfoString(out, " : ");
		mermaid_text(out, label);
	}
	appendStringInfoChar(out, '\n');
}

static void
mermaid_final(StringInfo out, const char *id)
{
	appendStringInfo(out, "    %s --> [*]\n", id);
}

/* ---- dot ---- */

static void
dot_text(StringInfo out, const char *text)
{
	for (const char *c = text; *c != '\0'; c++)
	{
		if (*c == '"' || *c == '\\')
			appendStringInfoChar(out, '\\');
		appendStringInfoChar(out, (unsigned char) *c < ' ' ? ' ' : *c);
	}
}

static void
dot_begin(StringInfo out, const Machine *machine)
{
	appendStringInfoString(out, "digraph \"");
	dot_text(out, machine->name);
	appendStringInfoString(out, "\" {\n"
						   "    rankdir = LR;\n"
						   "    node [shape = box, style = rounded];\n"
						   "    " START " [shape = point];\n");
}

static void
dot_state(StringInfo out, const char *id, const MachineState *state)
{
	appendStringInfo(out, "    %s [label = \"", id);
	dot_text(out, state->label != NULL ? state->label : state->name);
	appendStringInfoString(out, state->kind == STATE_FINAL ? "\", peripheries = 2];\n" : "\"];\n");
}

static void
dot_arrow(StringInfo out, const char *from, const char *to, const char *label)
{
	if (from == NULL)
		appendStringInfo(out, "    " START " -> %s", to);
	else
		appendStringInfo(out, "    %s -> %s", from, to);
	if (label != NULL)
	{
		appendStringInfoString(out, " [label = \"");
		dot_text(out, label);
		appendStringInfoString(out, "\"]");
	}
	appendStringInfoString(out, ";\n");
}

static void
dot_final(StringInfo out, const char *id)
{
	/* a final state has its double border */
}

static const DiagramFormat formats[] = {
	{"mermaid", mermaid_begin, mermaid_state, mermaid_arrow, mermaid_final, ""},
	{"dot", dot_begin, dot_state, dot_arrow, dot_final, "}\n"}
};

/* ---- any format ---- */

/* "15 mins" whatever the session's IntervalStyle */
static void
append_interval(StringInfo out, const Interval *interval)
{
	struct pg_itm itm;
	char		text[MAXDATELEN + 1];

	interval2itm(*interval, &itm);
	EncodeInterval(&itm, INTSTYLE_POSTGRES_VERBOSE, text);
	appendStringInfoString(out, text[0] == '@' ? text + 2 : text);
}

/* "pay [shop.may_pay] after 15 mins" */
static char *
transition_label(const Transition *transition)
{
	StringInfoData label;

	initStringInfo(&label);
	appendStringInfoString(&label, transition->event);
	if (transition->guard != NULL)
		appendStringInfo(&label, " [%.*s]", (int) strcspn(transition->guard->signature, "("),
						 transition->guard->signature);
	if (transition->after_setting != NULL)
		appendStringInfo(&label, " after %s", transition->after_setting);
	else if (transition->after != NULL)
	{
		appendStringInfoString(&label, " after ");
		append_interval(&label, transition->after);
	}
	return label.data;
}

static int
compare_ordinals(const void *a, const void *b)
{
	const Transition *x = *(const Transition *const *) a;
	const Transition *y = *(const Transition *const *) b;

	if (x->ordinal != y->ordinal)
		return x->ordinal < y->ordinal ? -1 : 1;
	/* they stand in one array, sorted by everything else */
	return x < y ? -1 : x > y;
}

static const Transition **
transitions_by_ordinal(const Machine *machine)
{
	const Transition **sorted = palloc(sizeof(Transition *) * Max(machine->ntransitions, 1));

	for (int i = 0; i < machine->ntransitions; i++)
		sorted[i] = &machine->transitions[i];
	qsort(sorted, machine->ntransitions, sizeof(Transition *), compare_ordinals);
	return sorted;
}

/* words that mean something to mermaid or dot, or to us */
static const char *const reserved[] = {
	START, "as", "choice", "class", "click", "default", "digraph", "direction", "edge", "end",
	"fork", "graph", "hide", "join", "node", "note", "scale", "state", "strict", "style", "subgraph"
};

static bool
is_plain_word(const char *name)
{
	if (name[0] < 'a' || name[0] > 'z' ||
		strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != strlen(name))
		return false;
	if (name[0] == 's' && strspn(name + 1, "0123456789") == strlen(name + 1))
		return false;
	for (int i = 0; i < lengthof(reserved); i++)
		if (strcmp(name, reserved[i]) == 0)
			return false;
	return true;
}

/* What a state is called in the diagram; NULL, the start, for none. */
static const char *
state_id(const Machine *machine, const char *name)
{
	if (name == NULL || is_plain_word(name))
		return name;
	return psprintf("s%d", (int) (ordflow_machine_state(machine, name) - machine->states) + 1);
}

static bool
is_created(const Machine *machine, const MachineState *state)
{
	int			n;
	const Transition *creating = ordflow_machine_exits(machine, NULL, &n);

	for (int i = 0; i < n; i++)
		if (strcmp(creating[i].to_state, state->name) == 0)
			return true;
	return false;
}

static char *
draw(const Machine *machine, const DiagramFormat *format)
{
	const Transition **transitions = transitions_by_ordinal(machine);
	StringInfoData out;

	initStringInfo(&out);
	format->begin(&out, machine);
	for (int i = 0; i < machine->nstates; i++)
		format->state(&out, state_id(machine, machine->states[i].name), &machine->states[i]);
	for (int i = 0; i < machine->nstates; i++)
		if (machine->states[i].kind == STATE_INITIAL && !is_created(machine, &machine->states[i]))
			format->arrow(&out, NULL, state_id(machine, machine->states[i].name), NULL);
	for (int i = 0; i < machine->ntransitions; i++)
		format->arrow(&out, state_id(machine, transitions[i]->from_state),
					  state_id(machine, transitions[i]->to_state),
					  transition_label(transitions[i]));
	for (int i = 0; i < machine->nstates; i++)
		if (machine->states[i].kind == STATE_FINAL)
			format->final(&out, state_id(machine, machine->states[i].name));
	appendStringInfoString(&out, format->end);
	return out.data;
}

Datum
ordflow_diagram(PG_FUNCTION_ARGS)
{
	const Machine *machine;
	char	   *name;

	ordflow_require_version();
	machine = ordflow_machine_load(ordflow_arg_text(fcinfo, 0, "machine"));
	name = ordflow_arg_text(fcinfo, 1, "format");
	for (int i = 0; i < lengthof(formats); i++)
		if (strcmp(formats[i].name, name) == 0)
			PG_RETURN_TEXT_P(cstring_to_text(draw(machine, &formats[i])));
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("unknown diagram format \"%s\"", name),
			errhint("The formats are mermaid and dot."));
}

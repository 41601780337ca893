/*
 * define.c
 *	  define_machine(): a machine of users is replaced, a built-in one is added to.
 */
#include "postgres.h"

#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "machine/definition.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_define_machine);

/* The row is locked either way: definitions of one machine come one after the other. */
static Statement claim_machine = {
	.sql = "INSERT INTO ordflow.machines AS m (machine, builtin) VALUES ($1, false) "
	"ON CONFLICT (machine) DO UPDATE SET builtin = m.builtin RETURNING builtin",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static Statement vanishing_states = {
	.sql = "SELECT state FROM ordflow.states WHERE machine = $1 AND state <> ALL ($2)",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTARRAYOID}
};

static Statement delete_transitions = {
	.sql = "DELETE FROM ordflow.transitions WHERE machine = $1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static Statement delete_states = {
	.sql = "DELETE FROM ordflow.states WHERE machine = $1 AND state <> ALL ($2)",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTARRAYOID}
};

static Statement put_states = {
	.sql = "INSERT INTO ordflow.states (machine, state, kind, label, builtin) "
	"SELECT $1, u.state, u.kind, u.label, false FROM unnest($2, $3, $4) AS u (state, kind, label) "
	"ON CONFLICT (machine, state) DO UPDATE SET kind = excluded.kind, label = excluded.label",
	.nargs = 4,
	.argtypes = {TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID}
};

static Statement put_transitions = {
	.sql = "INSERT INTO ordflow.transitions AS t "
	"(machine, from_state, event, to_state, ordinal, guard, effect, after, role, builtin) "
	"SELECT $1, u.from_state, u.event, u.to_state, u.n + "
	"(SELECT coalesce(max(ordinal), 0) FROM ordflow.transitions WHERE machine = $1), "
	"u.guard, u.effect, u.after::interval, "
	"CASE WHEN u.guard IS NOT NULL OR u.effect IS NOT NULL THEN $8 END, false "
	"FROM unnest($2, $3, $4, $5, $6, $7) WITH ORDINALITY "
	"AS u (from_state, event, to_state, guard, effect, after, n) "
	"ON CONFLICT (machine, from_state, event, to_state) DO UPDATE SET guard = excluded.guard, "
	"effect = excluded.effect, after = excluded.after, role = excluded.role",
	.nargs = 8,
	.argtypes = {TEXTOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTOID}
};

static Datum
state_names(const Definition *definition)
{
	const char **names = palloc(sizeof(char *) * Max(definition->nstates, 1));

	for (int i = 0; i < definition->nstates; i++)
		names[i] = definition->states[i].name;
	return ordflow_text_array(names, definition->nstates);
}

static void
write_states(Datum machine, const Definition *definition)
{
	const char **kinds = palloc(sizeof(char *) * Max(definition->nstates, 1));
	const char **labels = palloc(sizeof(char *) * Max(definition->nstates, 1));
	Datum		values[4];

	for (int i = 0; i < definition->nstates; i++)
	{
		kinds[i] = definition->states[i].kind;
		labels[i] = definition->states[i].label;
	}
	values[0] = machine;
	values[1] = state_names(definition);
	values[2] = ordflow_text_array(kinds, definition->nstates);
	values[3] = ordflow_text_array(labels, definition->nstates);
	ordflow_execute(&put_states, values, NULL);
}

static void
write_transitions(Datum machine, const Definition *definition, const char *role)
{
	int			n = definition->ntransitions;
	const char **columns[6];	/* from, event, to, guard, effect, after */
	Datum		values[8];

	for (int c = 0; c < lengthof(columns); c++)
		columns[c] = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		const DefinedTransition *transition = &definition->transitions[i];

		columns[0][i] = transition->from_state;
		columns[1][i] = transition->event;
		columns[2][i] = transition->to_state;
		columns[3][i] = transition->guard;
		columns[4][i] = transition->effect;
		columns[5][i] = transition->after;
	}
	values[0] = machine;
	for (int c = 0; c < lengthof(columns); c++)
		values[1 + c] = ordflow_text_array(columns[c], n);
	values[7] = CStringGetTextDatum(role);
	ordflow_execute(&put_transitions, values, NULL);
}

/*
 * Writers are kept out until the end of the transaction: until then they
 * would still bring rows into the states that go.
 */
static void
require_no_row_in(const MachineTarget *target, Datum states)
{
	const char *column = quote_identifier(target->state_column);
	char	   *table;
	char	   *sql;
	Oid			type = TEXTARRAYOID;
	RoleSwitch	saved;
	uint64		nrows;

	/* whose name stays what it is from here on */
	LockRelationOid(target->relid, ShareLock);
	if (get_rel_name(target->relid) == NULL)
		return;
	if (target->partitioned)
		find_all_inheritors(target->relid, ShareLock, NULL);
	ordflow_machine_require_columns(target);
	table = ordflow_machine_table(target->relid);
	sql = psprintf("SELECT o.%s::text FROM %s AS o "
				   "WHERE o.%s::text COLLATE \"C\" = ANY ($1) LIMIT 1", column,
				   ordflow_machine_from(target), column);
	saved = ordflow_machine_owner_enter(target->relid);
	nrows = ordflow_machine_query_now(sql, 1, &type, &states);
	ordflow_role_leave(saved);
	if (nrows > 0)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_ILLEGAL_TRANSITION),
				errmsg("table %s has rows in state \"%s\", which machine \"%s\" would lose", table,
					   ordflow_result_text(0, 1), target->machine));
}

static void
require_due_columns(const Definition *definition, const MachineTarget *target)
{
	if (target->due_column != NULL)
		return;
	for (int i = 0; i < definition->ntransitions; i++)
		if (definition->transitions[i].after != NULL)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("table %s has machine \"%s\" without a due column, so it can have no timeouts",
						   ordflow_machine_table(target->relid), target->machine),
					errhint("Call ordflow.detach(), then ordflow.attach() with a due column."));
}

static void
require_states_fit(const Definition *definition, const MachineTarget *target)
{
	for (int i = 0; i < definition->nstates; i++)
		ordflow_state_require(target->relid, target->state_column, target->machine,
							  definition->states[i].name);
}

/* What the rows of attached tables have to say against the new definition. */
static void
require_fits_targets(const char *name, const Definition *definition, Datum machine)
{
	Datum		values[2];
	const char **names;
	Datum		states;
	int			n;
	ListCell   *cell;

	values[0] = machine;
	values[1] = state_names(definition);
	n = ordflow_execute(&vanishing_states, values, NULL);
	names = palloc(sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		names[i] = ordflow_result_text(i, 1);
	states = ordflow_text_array(names, n);

	foreach(cell, ordflow_machine_targets(InvalidOid))
	{
		const MachineTarget *target = lfirst(cell);

		if (strcmp(target->machine, name) != 0)
			continue;
		require_due_columns(definition, target);
		require_states_fit(definition, target);
		if (n > 0)
			require_no_row_in(target, states);
	}
}

static void
replace_machine(const char *name, const Definition *definition, const char *role)
{
	Datum		values[2];

	values[0] = CStringGetTextDatum(name);
	values[1] = state_names(definition);
	require_fits_targets(name, definition, values[0]);
	ordflow_execute(&delete_transitions, values, NULL);
	ordflow_execute(&delete_states, values, NULL);
	write_states(values[0], definition);
	write_transitions(values[0], definition, role);
}

Datum
ordflow_define_machine(PG_FUNCTION_ARGS)
{
	char	   *name;
	Definition *definition;
	const char *role = GetUserNameFromId(GetUserId(), false);
	Datum		machine;
	bool		builtin;
	bool		isnull;
	RoleSwitch	saved;

	ordflow_require_preload();
	name = ordflow_arg_text(fcinfo, 0, "name");
	ordflow_require_not_null(fcinfo, 1, "definition");

	/* functions are looked up as the caller, who must be able to execute them */
	definition = ordflow_definition_read(PG_GETARG_JSONB_P(1));
	machine = CStringGetTextDatum(name);

	SPI_connect();
	saved = ordflow_role_enter(ordflow_owner(), false);
	ordflow_execute(&claim_machine, &machine, NULL);
	builtin = DatumGetBool(ordflow_result(0, 1, &isnull));
	ordflow_definition_check(definition, builtin ? ordflow_machine_load(name) : NULL);
	if (builtin)
	{
		write_states(machine, definition);
		write_transitions(machine, definition, role);
	}
	else
		replace_machine(name, definition, role);
	ordflow_role_leave(saved);
	SPI_finish();
	ordflow_worker_wake(DUTY_TIMER, DT_NOBEGIN);
	PG_RETURN_VOID();
}

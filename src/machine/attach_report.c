/*
 * attach_report.c
 *	  The rows that stand in the way of attach().
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "machine/internal.h"

PG_FUNCTION_INFO_V1(ordflow_attach_report);

Datum
ordflow_attach_state_names(const Machine *machine)
{
	const char **names = palloc(sizeof(char *) * Max(machine->nstates, 1));

	for (int i = 0; i < machine->nstates; i++)
		names[i] = machine->states[i].name;
	return ordflow_text_array(names, machine->nstates);
}

char *
ordflow_attach_unknown_state(const char *state_column)
{
	const char *column = quote_identifier(state_column);

	return psprintf("o.%s IS NULL OR o.%s::text COLLATE \"C\" <> ALL ($1)", column, column);
}

/* Its columns are those of the key, and the state. */
static char *
report_query(Relation rel, const MachineTarget *key, const char *state_column)
{
	bool		only = rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE;

	return psprintf("SELECT %s%so.%s::text FROM %s%s AS o WHERE %s",
					key != NULL ? ordflow_machine_key_list(key) : "", key != NULL ? ", " : "",
					quote_identifier(state_column), only ? "ONLY " : "",
					ordflow_machine_table(RelationGetRelid(rel)),
					ordflow_attach_unknown_state(state_column));
}

static void
put_row(ReturnSetInfo *rsinfo, const MachineTarget *key, uint64 row)
{
	int			width = key != NULL ? ordflow_machine_key_width(key) : 0;
	Datum		values[2];
	bool		nulls[2] = {key == NULL, false};

	if (key != NULL)
	{
		Datum		value = ordflow_machine_key_result(key, row);

		values[0] = CStringGetTextDatum(ordflow_machine_key_text(key, value));
	}
	values[1] = ordflow_result(row, width + 1, &nulls[1]);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
require_select_privilege(Relation rel, const MachineTarget *key, const char *state_column)
{
	ordflow_machine_require_select(RelationGetRelid(rel), state_column);
	for (int i = 0; key != NULL && i < ordflow_machine_key_width(key); i++)
		ordflow_machine_require_select(RelationGetRelid(rel), ordflow_machine_key_column(key, i));
}

Datum
ordflow_attach_report(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const Machine *machine;
	const char *column;
	Relation	rel;
	MachineTarget *key;
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
	ordflow_attach_require_column(rel, column);
	key = ordflow_attach_target_or_null(rel, column);
	require_select_privilege(rel, key, column);
	states = ordflow_attach_state_names(machine);

	SPI_connect();
	saved = ordflow_machine_visitor_enter(RelationGetRelid(rel));
	nrows = ordflow_machine_query(report_query(rel, key, column), 1, &type, &states, true);
	ordflow_role_leave(saved);
	for (uint64 i = 0; i < nrows; i++)
		put_row(rsinfo, key, i);
	SPI_finish();
	table_close(rel, NoLock);
	return (Datum) 0;
}

/*
 * rows.c
 *	  Rows written straight into a table of ours and its indexes.
 *
 * A submit writes four rows or more, each of the simplest kind: all columns
 * given, nothing to compute.  Setting up the executor for each cost more than the
 * writing (21 us of a submit's 56), so such rows go to the table access method
 * directly, as the server does with its catalogs.
 *
 * That is right only while a table looks exactly as it was created.  With a
 * trigger, a rule, a constraint, a policy or a column of somebody's own the same row is
 * written by INSERT instead, so nothing that hangs on a table is passed by.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/base.h"

static bool
has_listed_columns(Relation rel, const RowTable *table)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (desc->natts != table->ncolumns)
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (attr->attisdropped || attr->atttypid != table->columns[i].type ||
			strcmp(NameStr(attr->attname), table->columns[i].name) != 0)
			return false;
	}
	return true;
}

static const Trigger *
find_trigger(const TriggerDesc *triggers, const char *name)
{
	for (int i = 0; name != NULL && i < triggers->numtriggers; i++)
		if (strcmp(triggers->triggers[i].tgname, name) == 0)
			return &triggers->triggers[i];
	return NULL;
}

/* Is there a trigger that an INSERT fires, but those of the function of ours? */
static bool
has_insert_triggers(const TriggerDesc *triggers, const char *ours)
{
	const Trigger *own = find_trigger(triggers, ours);

	for (int i = 0; i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (TRIGGER_FOR_INSERT(trigger->tgtype) &&
			(own == NULL || trigger->tgfoid != own->tgfoid))
			return true;
	}
	return false;
}

static bool
is_plain(Relation rel, const char *ours)
{
	TupleConstr *constr = RelationGetDescr(rel)->constr;

	return rel->rd_rel->relkind == RELKIND_RELATION && !rel->rd_rel->relrowsecurity &&
		rel->rd_rules == NULL &&
		(constr == NULL || (constr->num_check == 0 && !constr->has_generated_stored)) &&
		(rel->trigdesc == NULL || !has_insert_triggers(rel->trigdesc, ours));
}

static void
make_insert(RowTable *table)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	StringInfoData names;
	StringInfoData params;

	initStringInfo(&names);
	initStringInfo(&params);
	for (int i = 0; i < table->ncolumns; i++)
	{
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "",
						 quote_identifier(table->columns[i].name));
		appendStringInfo(&params, "%s$%d", i > 0 ? ", " : "", i + 1);
		table->insert.argtypes[i] = table->columns[i].type;
	}
	table->insert.nargs = table->ncolumns;
	table->insert.sql = psprintf("INSERT INTO ordflow.%s (%s) VALUES (%s)", table->relname,
								 names.data, params.data);
	MemoryContextSwitchTo(caller);
}

void
ordflow_rows_begin(RowWriter *writer, RowTable *table)
{
	memset(writer, 0, sizeof(RowWriter));
	writer->table = table;
	writer->rel = table_open(ordflow_relid(table->relname), RowExclusiveLock);
	writer->direct = is_plain(writer->rel, table->trigger) &&
		has_listed_columns(writer->rel, table);
	if (!writer->direct)
	{
		if (table->insert.sql == NULL)
			make_insert(table);
		return;
	}

	PreventCommandIfReadOnly("INSERT");
	PreventCommandIfParallelMode("INSERT");
	writer->estate = CreateExecutorState();
	writer->target = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->target, writer->rel, 0, NULL, 0);
	ExecOpenIndices(writer->target, false);
}

/* Several rows go into a page, and into the WAL, together. */
static void
flush_rows(RowWriter *writer)
{
	CommandId	command = GetCurrentCommandId(true);

	CHECK_FOR_INTERRUPTS();
	if (writer->nslots == 1)
		table_tuple_insert(writer->rel, writer->slots[0], command, 0, NULL);
	else if (writer->nslots > 1)
		table_multi_insert(writer->rel, writer->slots, writer->nslots, command, 0, NULL);
	for (int i = 0; i < writer->nslots; i++)
	{
		ordflow_insert_index_tuples(writer->target, writer->slots[i], writer->estate);
		ResetPerTupleExprContext(writer->estate);
		ExecClearTuple(writer->slots[i]);
	}
	writer->nslots = 0;
}

static void
write_direct(RowWriter *writer, const Datum *values, const bool *nulls)
{
	TupleDesc	desc = RelationGetDescr(writer->rel);
	TupleTableSlot **slot;

	if (writer->nslots == ORDFLOW_ROWS_BATCH)
		flush_rows(writer);
	slot = &writer->slots[writer->nslots++];
	if (*slot == NULL)
		*slot = table_slot_create(writer->rel, NULL);
	for (int i = 0; i < desc->natts; i++)
	{
		if (nulls[i] && TupleDescAttr(desc, i)->attnotnull)
			elog(ERROR, "null value for column \"%s\" of ordflow.%s",
				 NameStr(TupleDescAttr(desc, i)->attname), writer->table->relname);
		(*slot)->tts_values[i] = values[i];
		(*slot)->tts_isnull[i] = nulls[i];
	}
	/* forms the row at once, as it would be sooner or later: the values may go */
	ExecStoreVirtualTuple(*slot);
	ExecMaterializeSlot(*slot);
}

void
ordflow_rows_write(RowWriter *writer, Datum *values, const bool *nulls)
{
	char		flags[ORDFLOW_STATEMENT_ARGS_MAX];

	if (writer->direct)
	{
		write_direct(writer, values, nulls);
		return;
	}
	for (int i = 0; i < writer->table->ncolumns; i++)
		flags[i] = nulls[i] ? 'n' : ' ';
	ordflow_execute(&writer->table->insert, values, flags);
}

void
ordflow_rows_end(RowWriter *writer)
{
	if (writer->direct)
	{
		flush_rows(writer);
		for (int i = 0; i < ORDFLOW_ROWS_BATCH && writer->slots[i] != NULL; i++)
			ExecDropSingleTupleTableSlot(writer->slots[i]);
		ExecCloseIndices(writer->target);
		FreeExecutorState(writer->estate);
	}
	table_close(writer->rel, NoLock);
}

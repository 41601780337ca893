/*
 * history.c
 *	  The history of attached tables, which every event writes a row of.
 *
 * An UPDATE of many rows would spend most of its time on setting up one INSERT for each.  So its
 * rows are gathered and written 32 at a time, the last of them when its AFTER triggers are
 * through: nobody can have looked before.  Whatever else may look makes it write at once (a guard,
 * an effect, a trigger of the user's: see trigger.c), and so does a statement that writes to more
 * than one table: triggers of the others run in between.
 *
 * Contexts: what is gathered has one of its own under that of the (sub)transaction, with which it
 * is forgotten after an error.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "machine/internal.h"

enum
{
	HISTORY_ID,
	HISTORY_TARGET,
	HISTORY_KEY,
	HISTORY_EVENT,
	HISTORY_FROM,
	HISTORY_TO,
	HISTORY_ACTOR,
	HISTORY_REASON,
	HISTORY_DATA,
	HISTORY_AT,
	HISTORY_COLUMNS
};

static RowTable history_table = {
	.relname = "object_history",
	.ncolumns = HISTORY_COLUMNS,
	.columns = {
		{"history_id", INT8OID},
		{"target", TEXTOID},
		{"key", TEXTOID},
		{"event", TEXTOID},
		{"from_state", TEXTOID},
		{"to_state", TEXTOID},
		{"actor", TEXTOID},
		{"reason", TEXTOID},
		{"data", JSONBOID},
		{"at", TIMESTAMPTZOID}
	}
};

/* What the AFTER triggers of one statement have gathered. */
typedef struct Batch
{
	MemoryContext context;		/* holds it */
	ResourceOwner owner;
	Oid			relid;			/* of the table whose rows they are */
	Oid			sequence;
	RowWriter	writer;
} Batch;

static QueryDesc *statement = NULL; /* whose AFTER triggers are running, if it may gather */
static Batch *batch = NULL;
static ExecutorFinish_hook_type next_finish = NULL;

static void
fill_row(const MachineStep *step, const char *table, Oid sequence, Datum *values, bool *nulls)
{
	memset(nulls, false, sizeof(bool) * HISTORY_COLUMNS);
	values[HISTORY_ID] = Int64GetDatum(nextval_internal(sequence, false));
	ORDFLOW_PUT_TEXT(values, nulls, HISTORY_TARGET, table);
	ORDFLOW_PUT_TEXT(values, nulls, HISTORY_EVENT, step->event);
	ORDFLOW_PUT_TEXT(values, nulls, HISTORY_FROM, step->from_state);
	ORDFLOW_PUT_TEXT(values, nulls, HISTORY_TO, step->to_state);
	ORDFLOW_PUT_TEXT(values, nulls, HISTORY_ACTOR, ordflow_actor());
	ORDFLOW_PUT_TEXT(values, nulls, HISTORY_REASON, step->reason);
	values[HISTORY_DATA] = step->data != NULL ? JsonbPGetDatum(step->data) : (Datum) 0;
	nulls[HISTORY_DATA] = step->data == NULL;
	values[HISTORY_AT] = TimestampTzGetDatum(step->now);
}

static Oid
history_sequence(void)
{
	return ordflow_relid("object_history_history_id_seq");
}

static void
write_rows(RowWriter *writer, const MachineStep *step)
{
	Oid			sequence = history_sequence();
	char	   *table = ordflow_machine_table(step->target->relid);
	Datum		values[HISTORY_COLUMNS];
	bool		nulls[HISTORY_COLUMNS];

	fill_row(step, table, sequence, values, nulls);
	for (int i = 0; i < step->nkeys; i++)
	{
		if (i > 0)
			values[HISTORY_ID] = Int64GetDatum(nextval_internal(sequence, false));
		ORDFLOW_PUT_TEXT(values, nulls, HISTORY_KEY,
						 ordflow_machine_key_text(step->target, step->keys[i]));
		ordflow_rows_write(writer, values, nulls);
	}
}

void
ordflow_history_write(const MachineStep *step)
{
	OwnWork		work;
	RowWriter	writer;

	ordflow_history_flush();
	ordflow_rows_begin(&writer, &history_table);
	if (writer.direct)
		write_rows(&writer, step);
	else
	{
		/* something of somebody's hangs on the table: INSERT */
		work = ordflow_machine_own_enter();
		SPI_connect();
		write_rows(&writer, step);
		SPI_finish();
		ordflow_machine_own_leave(work);
	}
	ordflow_rows_end(&writer);
}

/* ---- gathering ---- */

/* Is it the table that the statement updates?  Cascades bring rows of others. */
static bool
is_updated(const MachineTarget *target)
{
	const PlannedStmt *plan = statement->plannedstmt;
	const RangeTblEntry *entry = rt_fetch(linitial_int(plan->resultRelations), plan->rtable);

	return ordflow_machine_root(entry->relid) == ordflow_machine_root(target->relid);
}

/* False where nothing can be gathered. */
static bool
batch_begin(const MachineTarget *target)
{
	MemoryContext context;
	MemoryContext old;
	Batch	   *made;

	if (statement == NULL || (batch == NULL && !is_updated(target)))
		return false;
	if (batch != NULL)
		return batch->owner == CurrentResourceOwner && batch->relid == target->relid;
	context = AllocSetContextCreate(CurTransactionContext, "ordflow history",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	made = palloc0(sizeof(Batch));
	made->context = context;
	made->owner = CurrentResourceOwner;
	made->relid = target->relid;
	made->sequence = history_sequence();
	ordflow_rows_begin(&made->writer, &history_table);
	MemoryContextSwitchTo(old);
	if (made->writer.direct)
	{
		batch = made;
		return true;
	}
	ordflow_rows_end(&made->writer);
	MemoryContextDelete(context);
	return false;
}

void
ordflow_history_add(const MachineStep *step, const char *table)
{
	Datum		values[HISTORY_COLUMNS];
	bool		nulls[HISTORY_COLUMNS];
	MemoryContext old;

	if (!batch_begin(step->target))
	{
		ordflow_history_write(step);
		return;
	}
	Assert(step->nkeys == 1);
	fill_row(step, table, batch->sequence, values, nulls);
	ORDFLOW_PUT_TEXT(values, nulls, HISTORY_KEY,
					 ordflow_machine_key_text(step->target, step->keys[0]));
	old = MemoryContextSwitchTo(batch->context);
	ordflow_rows_write(&batch->writer, values, nulls);
	MemoryContextSwitchTo(old);
}

void
ordflow_history_flush(void)
{
	Batch	   *done = batch;
	MemoryContext old;

	if (done == NULL)
		return;
	if (done->owner != CurrentResourceOwner)
		elog(ERROR, "the history of an UPDATE is to be written by another");
	batch = NULL;
	old = MemoryContextSwitchTo(done->context);
	ordflow_rows_end(&done->writer);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(done->context);
}

static bool
may_gather(const QueryDesc *query)
{
	return query->operation == CMD_UPDATE && !query->plannedstmt->hasModifyingCTE &&
		query->plannedstmt->resultRelations != NIL;
}

/* AFTER triggers run in here, and statements of theirs have their own turn. */
static void
finish_statement(QueryDesc *query)
{
	Batch	   *outer = batch;
	QueryDesc  *outer_statement = statement;

	ordflow_move_statement_ended();
	batch = NULL;
	statement = may_gather(query) ? query : NULL;
	PG_TRY();
	{
		next_finish(query);
		ordflow_history_flush();
		ordflow_move_triggers_ended();
	}
	PG_FINALLY();
	{
		batch = outer;
		statement = outer_statement;
	}
	PG_END_TRY();
}

static void
finish(QueryDesc *query)
{
	if (query->operation == CMD_SELECT && !query->plannedstmt->hasModifyingCTE)
		next_finish(query);
	else
		finish_statement(query);
}

void
ordflow_history_init(void)
{
	next_finish = ExecutorFinish_hook != NULL ? ExecutorFinish_hook : standard_ExecutorFinish;
	ExecutorFinish_hook = finish;
}

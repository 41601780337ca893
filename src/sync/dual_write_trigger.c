/*
 * dual_write_trigger.c
 *	  The triggers of dual_write syncs: a row of the source is written to the target.
 *
 * A statement's rows are carried over in the order in which they changed, which is right as long
 * as nothing changes them again before their trigger fires.  Another trigger, or a function in the
 * statement, may: then PostgreSQL fires the later change first.  So a change that is older than
 * one already carried over does not count: what stands in the source now under its keys does
 * (reconcile).  That the source's key is unique at once, which create_sync demands, makes it one
 * row, and lets a key that one row gives up and another takes arrive in that order.
 *
 * A write may come back to the row it came from, through the sync of the other direction or a
 * circle of several: it ends there.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/heap.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "sync/dual_write_internal.h"

PG_FUNCTION_INFO_V1(ordflow_dual_write_changed);
PG_FUNCTION_INFO_V1(ordflow_dual_write_truncated);

#define DEPTH_MAX 64			/* changes of which one leads to the next */

/* A row of the source as the target is to have it. */
typedef struct MappedRow
{
	bool		passes;			/* else it is none: it is not there, or the filter leaves it out */
	Datum	   *values;
	bool	   *nulls;
} MappedRow;

/* Kept for the statement. */
typedef struct DualStatement
{
	DualSync   *sync;
	ExprContext *econtext;
	ExprState  *filter;			/* NULL: none */
	ExprState **expressions;	/* NULL: the column as it is */
	MappedRow	old;
	MappedRow	new;
	MappedRow	now;			/* of reconcile() */
	TupleTableSlot *slot;		/* of it */
	char	   *nulls;			/* of a statement's arguments */
} DualStatement;

/* What is being written, and for which row of the source. */
typedef struct DualChange
{
	struct DualChange *outer;
	int			depth;
	DualStatement *statement;
	const DualSync *sync;
	TupleTableSlot *old;		/* or NULL */
	TupleTableSlot *new;		/* or NULL */
	bool		truncates;		/* all rows */
	const char *key;			/* under way at the target, for messages */
} DualChange;

static DualChange *changing = NULL; /* the innermost */

static void
protocol_error(const char *function, const char *expected)
{
	ereport(ERROR,
			errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			errmsg("function ordflow.%s must be called as %s", function, expected));
}

/* ---- the statement ---- */

static MappedRow
make_row(const DualSync *sync)
{
	MappedRow	row = {
		.values = palloc(sync->ncolumns * sizeof(Datum)),
		.nulls = palloc(sync->ncolumns * sizeof(bool))
	};

	return row;
}

/* Compiled anew for each statement, as whether the role may execute what they call is seen then. */
static void
compile_expressions(DualStatement *statement)
{
	DualSync   *sync = statement->sync;
	RoleSwitch	saved;

	statement->expressions = palloc0(sync->ncolumns * sizeof(ExprState *));
	if (!sync->runs_code)
		return;
	saved = ordflow_dual_write_enter(sync->role);
	if (sync->filter != NULL)
		statement->filter = ExecInitExpr((Expr *) sync->filter->expr, NULL);
	for (int i = 0; i < sync->ncolumns; i++)
		if (sync->columns[i].expression != NULL)
			statement->expressions[i] = ExecInitExpr((Expr *) sync->columns[i].expression->expr,
													 NULL);
	ordflow_role_leave(saved);
}

static DualStatement *
statement_of(FunctionCallInfo fcinfo)
{
	FmgrInfo   *flinfo = fcinfo->flinfo;
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	DualStatement *statement = flinfo->fn_extra;
	MemoryContext old;

	if (statement != NULL)
		return statement;
	old = MemoryContextSwitchTo(flinfo->fn_mcxt);
	statement = palloc0(sizeof(DualStatement));
	statement->sync = ordflow_dual_write_sync(trigger->tg_relation, trigger->tg_trigger,
											  flinfo->fn_mcxt);
	statement->econtext = CreateStandaloneExprContext();
	compile_expressions(statement);
	statement->old = make_row(statement->sync);
	statement->new = make_row(statement->sync);
	statement->now = make_row(statement->sync);
	statement->nulls = palloc(statement->sync->ncolumns);
	MemoryContextSwitchTo(old);
	flinfo->fn_extra = statement;
	return statement;
}

/* ---- rows ---- */

static bool
passes(DualStatement *statement)
{
	bool		isnull;
	Datum		result;

	if (statement->filter == NULL)
		return true;
	result = ExecEvalExprSwitchContext(statement->filter, statement->econtext, &isnull);
	return !isnull && DatumGetBool(result);
}

/* The expressions of a row that the filter leaves out may fail, so they are not asked. */
static void
map_row(DualStatement *statement, TupleTableSlot *slot, MappedRow *row)
{
	const DualSync *sync = statement->sync;

	row->passes = false;
	if (slot == NULL)
		return;
	statement->econtext->ecxt_scantuple = slot;
	if (!passes(statement))
		return;
	for (int i = 0; i < sync->ncolumns; i++)
	{
		const DualColumn *column = &sync->columns[i];

		row->values[i] = column->source > 0 ?
			slot_getattr(slot, column->source, &row->nulls[i]) :
			ExecEvalExprSwitchContext(statement->expressions[i], statement->econtext,
									  &row->nulls[i]);
	}
	row->passes = true;
}

static bool
columns_equal(const DualSync *sync, const MappedRow *a, const MappedRow *b, int ncolumns)
{
	for (int i = 0; i < ncolumns; i++)
	{
		const DualColumn *column = &sync->columns[i];

		if (a->nulls[i] != b->nulls[i] ||
			(!a->nulls[i] && !datum_image_eq(a->values[i], b->values[i], column->byval,
											 column->length)))
			return false;
	}
	return true;
}

static bool
keys_equal(const DualSync *sync, const MappedRow *a, const MappedRow *b)
{
	return columns_equal(sync, a, b, sync->nkeys);
}

static bool
rows_equal(const DualSync *sync, const MappedRow *a, const MappedRow *b)
{
	if (!a->passes || !b->passes)
		return a->passes == b->passes;
	return columns_equal(sync, a, b, sync->ncolumns);
}

/* ---- what is under way ---- */

/* The hint is given where it may help: a missing privilege has the same SQLSTATE. */
static void
change_error_context(void *arg)
{
	const DualChange *change = arg;
	const DualSync *sync = change->sync;

	if (geterrcode() == ERRCODE_INSUFFICIENT_PRIVILEGE && sync->may_defer)
		errhint("The target is written in a security-restricted operation, where deferred triggers are not allowed. Where a deferred constraint of it is in the way, run SET CONSTRAINTS ... IMMEDIATE before the statement.");
	if (change->key != NULL)
		errcontext("sync \"%s\", writing key (%s)=(%s) of table %s as role \"%s\"", sync->name,
				   sync->key_names, change->key, sync->target_name, sync->role);
	else
		errcontext("sync \"%s\", run as role \"%s\"", sync->name, sync->role);
}

static char *
key_text(const DualSync *sync, const MappedRow *row)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < sync->nkeys; i++)
		appendStringInfo(&text, "%s%s", i > 0 ? ", " : "",
						 row->nulls[i] ? "null" :
						 OutputFunctionCall(&sync->columns[i].output, row->values[i]));
	return text.data;
}

static bool
is_row(const DualSync *sync, const MappedRow *row, TupleTableSlot *slot)
{
	if (slot == NULL)
		return false;
	for (int i = 0; i < sync->nkeys; i++)
	{
		const DualColumn *column = &sync->columns[i];
		int			attnum = SPI_fnumber(slot->tts_tupleDescriptor, column->name);
		bool		isnull = true;
		Datum		value = attnum > 0 ? slot_getattr(slot, attnum, &isnull) : (Datum) 0;

		if (isnull || row->nulls[i] ||
			!datum_image_eq(value, row->values[i], column->byval, column->length))
			return false;
	}
	return true;
}

/* Is the row that is to be written the one whose change led here? */
static bool
is_echo(const DualSync *sync, const MappedRow *row)
{
	for (const DualChange *change = changing->outer; change != NULL; change = change->outer)
		if (change->sync->root == sync->target &&
			(change->truncates || is_row(sync, row, change->old) ||
			 is_row(sync, row, change->new)))
			return true;
	return false;
}

static void
change_begin(DualChange *change)
{
	change->outer = changing;
	change->depth = changing != NULL ? changing->depth + 1 : 1;
	if (change->depth > DEPTH_MAX)
		ereport(ERROR,
				errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
				errmsg("syncs write one another more than %d deep", DEPTH_MAX),
				errhint("A trigger of a target may write the source, and so itself, in an endless circle."));
	changing = change;
}

/* ---- the target ---- */

static uint64
execute(DualStatement *statement, SPIPlanPtr plan, const MappedRow *row, int nargs)
{
	int			status;

	for (int i = 0; i < nargs; i++)
		statement->nulls[i] = row->nulls[i] ? 'n' : ' ';
	status = SPI_execute_plan(plan, row->values, statement->nulls, false, 0);
	if (status < 0)
		elog(ERROR, "could not write the target: %s", SPI_result_code_string(status));
	return SPI_processed;
}

static void
require_key(const DualSync *sync, const MappedRow *row)
{
	for (int i = 0; i < sync->nkeys; i++)
		if (row->nulls[i])
			ereport(ERROR,
					errcode(ERRCODE_NOT_NULL_VIOLATION),
					errmsg("key column \"%s\" of table %s may not be NULL",
						   sync->columns[i].name, sync->target_name));
}

static void
remove_row(DualStatement *statement, const MappedRow *row)
{
	const DualSync *sync = statement->sync;

	if (is_echo(sync, row))
		return;
	changing->key = key_text(sync, row);
	execute(statement, sync->remove, row, sync->nkeys);
}

static void
upsert_row(DualStatement *statement, const MappedRow *row)
{
	const DualSync *sync = statement->sync;

	if (is_echo(sync, row))
		return;
	changing->key = key_text(sync, row);
	require_key(sync, row);
	if (!sync->is_foreign)
		execute(statement, sync->upsert, row, sync->ncolumns);
	else if (execute(statement, sync->update, row, sync->ncolumns) == 0)
		execute(statement, sync->insert, row, sync->ncolumns);
}

/* ---- rows that changed again before their trigger fired ---- */

/* Of the command that made the change; the first where the header does not tell. */
static CommandId
command_of(const TriggerData *trigger)
{
	HeapTupleHeader header = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_newtuple->t_data : trigger->tg_trigtuple->t_data;

	if (!TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(header)) ?
			HeapTupleHeaderGetCmin(header) : FirstCommandId;
	return (header->t_infomask & HEAP_XMAX_INVALID) == 0 &&
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(header)) ?
		HeapTupleHeaderGetCmax(header) : FirstCommandId;
}

/* Was a later change of any row carried over before this one? */
static bool
is_overtaken(const DualSync *sync, const TriggerData *trigger)
{
	DualProgress *progress = sync->progress;
	TransactionId xid = GetTopTransactionIdIfAny();
	CommandId	command = command_of(trigger);

	if (progress->xid == xid && command < progress->command)
		return true;
	progress->xid = xid;
	progress->command = command;
	return false;
}

/* The row of the source that has the key of slot's row: in statement->slot, until SPI_finish(). */
static bool
read_again(DualStatement *statement, TupleTableSlot *slot)
{
	const DualSync *sync = statement->sync;
	TupleDesc	desc = slot->tts_tupleDescriptor;
	Datum	   *values = palloc(sync->nplain * sizeof(Datum));
	TupleTableSlot *again;
	RoleSwitch	saved;
	int			status;
	bool		isnull;

	for (int i = 0; i < sync->nplain; i++)
		values[i] = slot_getattr(slot, SPI_fnumber(desc, sync->columns[sync->plain[i]].plain),
								 &isnull);
	saved = ordflow_dual_write_enter_source(sync->root);
	status = SPI_execute_plan(sync->reread, values, NULL, false, 1);
	ordflow_role_leave(saved);
	if (status != SPI_OK_SELECT)
		elog(ERROR, "could not read the source: %s", SPI_result_code_string(status));
	if (SPI_processed == 0)
		return false;

	again = statement->slot = MakeSingleTupleTableSlot(CreateTupleDescCopy(desc), &TTSOpsVirtual);
	ExecClearTuple(again);
	for (int i = 0; i < desc->natts; i++)
	{
		int			number = TupleDescAttr(desc, i)->attisdropped ? 0 :
			SPI_fnumber(SPI_tuptable->tupdesc, NameStr(TupleDescAttr(desc, i)->attname));

		again->tts_isnull[i] = true;
		if (number > 0)
			again->tts_values[i] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc,
												 number, &again->tts_isnull[i]);
	}
	ExecStoreVirtualTuple(again);
	return true;
}

/* The target gets what stands in the source now under the key of this row. */
static void
reconcile(DualStatement *statement, TupleTableSlot *slot, const MappedRow *row)
{
	MappedRow  *now = &statement->now;

	if (!row->passes)
		return;
	require_key(statement->sync, row);
	map_row(statement, read_again(statement, slot) ? statement->slot : NULL, now);
	if (!now->passes || !keys_equal(statement->sync, row, now))
		remove_row(statement, row);
	if (now->passes)
		upsert_row(statement, now);
}

/* ---- the triggers ---- */

static void
carry_over(DualStatement *statement, const TriggerData *trigger)
{
	const DualSync *sync = statement->sync;
	const MappedRow *old = &statement->old;
	const MappedRow *new = &statement->new;

	if (is_overtaken(sync, trigger))
	{
		reconcile(statement, changing->old, old);
		reconcile(statement, changing->new, new);
		return;
	}
	if (rows_equal(sync, old, new))
		return;
	if (old->passes && (!new->passes || !keys_equal(sync, old, new)))
		remove_row(statement, old);
	if (new->passes)
		upsert_row(statement, new);
}

static void
change_row(DualChange *change, const TriggerData *trigger)
{
	DualStatement *statement = change->statement;
	RoleSwitch	saved;

	SPI_connect();
	saved = ordflow_dual_write_enter(statement->sync->role);
	map_row(statement, change->old, &statement->old);
	map_row(statement, change->new, &statement->new);
	carry_over(statement, trigger);
	ordflow_role_leave(saved);
	SPI_finish();
}

static bool
tables_may_be_truncated(const DualSync *sync)
{
	Oid			role = get_role_oid(sync->role, false);

	return !sync->is_foreign &&
		pg_class_aclcheck(sync->target, role, ACL_TRUNCATE) == ACLCHECK_OK &&
		check_enable_rls(sync->target, role, true) != RLS_ENABLED &&
		heap_truncate_find_FKs(list_make1_oid(sync->target)) == NIL;
}

static void
change_all(DualChange *change)
{
	const DualSync *sync = change->sync;
	char	   *sql = psprintf(tables_may_be_truncated(sync) ? "TRUNCATE %s" : "DELETE FROM %s",
							   sync->target_name);
	RoleSwitch	saved;

	SPI_connect();
	saved = ordflow_dual_write_enter(sync->role);
	SPI_execute(sql, false, 0);
	ordflow_role_leave(saved);
	SPI_finish();
}

/* An error leaves what is under way as it was, too: the caller may catch it. */
static void
change_run(DualChange *change, const TriggerData *trigger)
{
	DualChange *outer = changing;
	ErrorContextCallback context = {error_context_stack, change_error_context, change};

	error_context_stack = &context;
	PG_TRY();
	{
		change_begin(change);
		if (change->truncates)
			change_all(change);
		else
			change_row(change, trigger);
	}
	PG_FINALLY();
	{
		changing = outer;
	}
	PG_END_TRY();
	error_context_stack = context.previous;
}

/* Most updates of a table with many columns change none that is copied. */
static bool
is_unchanged(DualChange *change)
{
	DualStatement *statement = change->statement;

	if (change->old == NULL || change->new == NULL || change->sync->runs_code)
		return false;
	map_row(statement, change->old, &statement->old);
	map_row(statement, change->new, &statement->new);
	return rows_equal(change->sync, &statement->old, &statement->new);
}

Datum
ordflow_dual_write_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	DualChange	change = {0};

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		protocol_error(DUAL_WRITE_CHANGED, "an AFTER ROW trigger");
	change.statement = statement_of(fcinfo);
	change.sync = change.statement->sync;
	if (!TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		change.old = trigger->tg_trigslot;
	if (!TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		change.new = change.old != NULL ? trigger->tg_newslot : trigger->tg_trigslot;
	ResetExprContext(change.statement->econtext);
	if (!is_unchanged(&change))
		change_run(&change, trigger);
	return PointerGetDatum(NULL);
}

/* The trigger that carries over the rows of a sync; NULL where it is off or gone. */
static const Trigger *
row_trigger(const TriggerDesc *triggers, const char *name)
{
	Oid			function = ordflow_dual_write_function(DUAL_WRITE_CHANGED);

	for (int i = 0; i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (trigger->tgfoid == function && trigger->tgnargs > ARG_SYNC &&
			strcmp(trigger->tgargs[ARG_SYNC], name) == 0)
			return trigger->tgenabled == TRIGGER_DISABLED ? NULL : trigger;
	}
	return NULL;
}

/* Does the source get emptied because the target was? */
static bool
is_truncated_already(const DualSync *sync)
{
	for (const DualChange *change = changing; change != NULL; change = change->outer)
		if (change->truncates && change->sync->root == sync->target)
			return true;
	return false;
}

Datum
ordflow_dual_write_truncated(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	const Trigger *trigger;
	DualChange	change = {.truncates = true};

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		!TRIGGER_FIRED_BY_TRUNCATE(data->tg_event) || data->tg_trigger->tgnargs != 1)
		protocol_error(DUAL_WRITE_TRUNCATED, "an AFTER TRUNCATE trigger with one argument");
	trigger = row_trigger(data->tg_relation->trigdesc, data->tg_trigger->tgargs[ARG_SYNC]);
	if (trigger == NULL)
		return PointerGetDatum(NULL);
	change.sync = ordflow_dual_write_sync(data->tg_relation, trigger, CurrentMemoryContext);
	if (!is_truncated_already(change.sync))
		change_run(&change, data);
	return PointerGetDatum(NULL);
}

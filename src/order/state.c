/*
 * state.c
 *	  What a change of state writes of orders: their rows and their history.
 *
 * Many orders may fall due in one second.  As SQL a row was looked up, changed and passed
 * through the machine's triggers, which have nothing to say of a step's own update: 11 us each,
 * half of all that a cancel costs, against 6 us here.
 *
 * As for new rows (see rows.c) that is right only while nothing hangs on the table that we
 * do not know; else the same is done by UPDATE.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "order/order.h"

static Statement update_state = {
	.sql = "UPDATE ordflow.orders SET state = $2, updated_at = $3, "
	"due_at = CASE WHEN $2 = 'pending_payment' THEN expires_at ELSE $4 END, "
	"cancel_reason = CASE WHEN $2 = 'cancelled' AND state <> 'cancelled' THEN $5 "
	"ELSE cancel_reason END WHERE order_id = ANY ($1)",
	.nargs = 5,
	.argtypes = {INT8ARRAYOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID}
};

static Statement next_seqs = {
	.sql = "SELECT o.id, 1 + coalesce((SELECT max(h.seq) FROM ordflow.order_history h "
	"WHERE h.order_id = o.id), 0) FROM unnest($1) AS o (id) ORDER BY o.id",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

/* ---- the orders' own rows ---- */

/* The table while it is open for changes. */
typedef struct OrderRows
{
	Relation	rel;
	Relation	index;
	Snapshot	snapshot;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	TupleTableSlot *changed;
	EState	   *estate;
	ResultRelInfo *target;
	AttrNumber	state;
	AttrNumber	expires_at;
	AttrNumber	due_at;
	AttrNumber	cancel_reason;
	AttrNumber	updated_at;
} OrderRows;

/* Does an update set off nothing but triggers of ours? */
static bool
has_own_triggers_only(const TriggerDesc *triggers)
{
	Oid			ours = get_namespace_oid("ordflow", false);

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (TRIGGER_FOR_UPDATE(trigger->tgtype) && get_func_namespace(trigger->tgfoid) != ours)
			return false;
	}
	return true;
}

/* A constraint that is checked later needs the executor. */
static bool
has_immediate_indexes_only(const ResultRelInfo *target)
{
	for (int i = 0; i < target->ri_NumIndices; i++)
		if (!target->ri_IndexRelationDescs[i]->rd_index->indimmediate)
			return false;
	return true;
}

static bool
is_plain(Relation rel)
{
	const TupleConstr *constr = RelationGetDescr(rel)->constr;

	return rel->rd_rel->relkind == RELKIND_RELATION && !rel->rd_rel->relrowsecurity &&
		rel->rd_rules == NULL &&
		(constr == NULL || (constr->num_check == 0 && !constr->has_generated_stored)) &&
		has_own_triggers_only(rel->trigdesc);
}

/* False, with the table closed, where an update is more than a new row. */
static bool
rows_open(OrderRows *rows)
{
	TupleDesc	desc;

	PreventCommandIfReadOnly("UPDATE");
	rows->rel = table_open(ordflow_relid("orders"), RowExclusiveLock);
	CheckCmdReplicaIdentity(rows->rel, CMD_UPDATE);
	rows->estate = CreateExecutorState();
	rows->target = makeNode(ResultRelInfo);
	InitResultRelInfo(rows->target, rows->rel, 0, NULL, 0);
	ExecOpenIndices(rows->target, false);
	if (!is_plain(rows->rel) || !has_immediate_indexes_only(rows->target))
	{
		ExecCloseIndices(rows->target);
		FreeExecutorState(rows->estate);
		table_close(rows->rel, NoLock);
		return false;
	}

	rows->index = index_open(ordflow_relid("orders_pkey"), RowExclusiveLock);
	desc = RelationGetDescr(rows->rel);
	rows->state = SPI_fnumber(desc, "state");
	rows->expires_at = SPI_fnumber(desc, "expires_at");
	rows->due_at = SPI_fnumber(desc, "due_at");
	rows->cancel_reason = SPI_fnumber(desc, "cancel_reason");
	rows->updated_at = SPI_fnumber(desc, "updated_at");

	/* what this transaction did before must be seen */
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	rows->snapshot = GetActiveSnapshot();
	rows->scan = ordflow_index_beginscan(rows->rel, rows->index, rows->snapshot, 1);
	rows->slot = table_slot_create(rows->rel, NULL);
	rows->changed = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	return true;
}

static void
rows_close(OrderRows *rows)
{
	index_endscan(rows->scan);
	ExecDropSingleTupleTableSlot(rows->changed);
	ExecDropSingleTupleTableSlot(rows->slot);
	PopActiveSnapshot();
	index_close(rows->index, NoLock);
	ExecCloseIndices(rows->target);
	FreeExecutorState(rows->estate);
	table_close(rows->rel, NoLock);
}

static void
put(OrderRows *rows, AttrNumber attnum, Datum value, bool isnull)
{
	rows->changed->tts_values[attnum - 1] = value;
	rows->changed->tts_isnull[attnum - 1] = isnull;
}

/* The new row, from the old one in the slot and the parameters of update_state. */
static void
make_changed(OrderRows *rows, const Datum *values, const char *nulls)
{
	int			natts = RelationGetDescr(rows->rel)->natts;
	const char *state = text_to_cstring(DatumGetTextPP(values[1]));
	TupleTableSlot *slot = rows->slot;

	slot_getallattrs(slot);
	ExecClearTuple(rows->changed);
	memcpy(rows->changed->tts_values, slot->tts_values, sizeof(Datum) * natts);
	memcpy(rows->changed->tts_isnull, slot->tts_isnull, sizeof(bool) * natts);
	put(rows, rows->state, values[1], false);
	put(rows, rows->updated_at, values[2], false);
	if (strcmp(state, "pending_payment") == 0)
		put(rows, rows->due_at, slot->tts_values[rows->expires_at - 1], false);
	else
		put(rows, rows->due_at, values[3], nulls[3] == 'n');
	if (strcmp(state, "cancelled") == 0 &&
		strcmp(TextDatumGetCString(slot->tts_values[rows->state - 1]), "cancelled") != 0)
		put(rows, rows->cancel_reason, values[4], nulls[4] == 'n');
	ExecStoreVirtualTuple(rows->changed);
}

/* The caller has locked the row. */
static void
change_row(OrderRows *rows, const Datum *values, const char *nulls)
{
	TM_FailureData failure;
	TM_Result	result;
	LockTupleMode lockmode;
	ordflow_update_indexes update_indexes;

	make_changed(rows, values, nulls);
	result = table_tuple_update(rows->rel, &rows->slot->tts_tid, rows->changed,
								GetCurrentCommandId(true), rows->snapshot, InvalidSnapshot, true,
								&failure, &lockmode, &update_indexes);
	if (result != TM_Ok)
		elog(ERROR, "unexpected result %d of changing a locked order", result);
	if (update_indexes)
		ordflow_update_index_tuples(rows->target, rows->changed, rows->estate, update_indexes);
	ResetPerTupleExprContext(rows->estate);
	ExecClearTuple(rows->changed);
}

void
ordflow_orders_set_state(const int64 *order_ids, int n, const char *state, TimestampTz now,
						 TimestampTz due, const char *cancel_reason)
{
	OrderRows	rows;
	Datum		values[5];
	char		nulls[5] = {' ', ' ', ' ', due == DT_NOEND ? 'n' : ' ', ' '};

	values[1] = CStringGetTextDatum(state);
	values[2] = TimestampTzGetDatum(now);
	values[3] = TimestampTzGetDatum(due);
	ORDFLOW_SET_TEXT(values, nulls, 4, cancel_reason);
	if (!rows_open(&rows))
	{
		values[0] = ordflow_int8_array(order_ids, n);
		ordflow_execute(&update_state, values, nulls);
		return;
	}
	for (int i = 0; i < n; i++)
	{
		ScanKeyData key;

		CHECK_FOR_INTERRUPTS();
		ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(order_ids[i]));
		index_rescan(rows.scan, &key, 1, NULL, 0);
		if (index_getnext_slot(rows.scan, ForwardScanDirection, rows.slot))
			change_row(&rows, values, nulls);
		ExecClearTuple(rows.slot);
	}
	rows_close(&rows);
}

/* ---- the history ---- */

void
ordflow_orders_record(const int64 *order_ids, int n, const OrderEvent *event)
{
	Datum		ids = ordflow_int8_array(order_ids, n);
	Datum		values[9];
	bool		nulls[9] = {false};
	bool		isnull;
	SPITupleTable *found;
	RowWriter	writer;

	ORDFLOW_PUT_TEXT(values, nulls, 2, event->event);
	ORDFLOW_PUT_TEXT(values, nulls, 3, event->from_state);
	ORDFLOW_PUT_TEXT(values, nulls, 4, event->to_state);
	ORDFLOW_PUT_TEXT(values, nulls, 5, ordflow_actor());
	ORDFLOW_PUT_TEXT(values, nulls, 6, event->reason);
	values[7] = event->data ? JsonbPGetDatum(event->data) : (Datum) 0;
	nulls[7] = event->data == NULL;
	values[8] = TimestampTzGetDatum(event->now);

	ordflow_execute(&next_seqs, &ids, NULL);
	found = SPI_tuptable;
	ordflow_rows_begin(&writer, &ordflow_order_history);
	for (uint64 i = 0; i < found->numvals; i++)
	{
		/* the writer may execute statements of its own */
		values[0] = SPI_getbinval(found->vals[i], found->tupdesc, 1, &isnull);
		values[1] = SPI_getbinval(found->vals[i], found->tupdesc, 2, &isnull);
		ordflow_rows_write(&writer, values, nulls);
	}
	ordflow_rows_end(&writer);
	SPI_freetuptable(found);
}

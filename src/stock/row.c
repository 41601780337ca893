/*
 * row.c
 *	  The rows of ordflow.stock, found, locked and changed without the executor.
 *
 * A sale touches the row of every sku it sells: looked up once, locked, checked
 * and changed.  As SQL that is a locking SELECT and an UPDATE, which look each row
 * up again: 14 us a row against 4 us here, more than all else that an order of ten
 * lines costs.
 *
 * Generated columns, constraints, indexes and publications of somebody's own are served as
 * by the executor.  Only triggers do not see these changes: available is ordflow's own column,
 * and what a trigger could be for, the ledger of movements says.
 */
#include "postgres.h"

#include "access/relscan.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "stock/row.h"

#define NAME_KEYS 2

void
ordflow_stock_rows_open(StockRows *rows, StockIndex index)
{
	bool		by_name = index == STOCK_BY_NAME;

	PreventCommandIfReadOnly("UPDATE");
	memset(rows, 0, sizeof(StockRows));
	rows->rel = table_open(ordflow_relid("stock"), RowExclusiveLock);
	CheckCmdReplicaIdentity(rows->rel, CMD_UPDATE);
	rows->index = index_open(ordflow_relid(by_name ? "stock_sku_location_key" : "stock_pkey"),
							 RowExclusiveLock);
	rows->stock_id = SPI_fnumber(RelationGetDescr(rows->rel), "stock_id");
	rows->available = SPI_fnumber(RelationGetDescr(rows->rel), "available");
	rows->sku = SPI_fnumber(RelationGetDescr(rows->rel), "sku");
	rows->location = SPI_fnumber(RelationGetDescr(rows->rel), "location");

	/* what this transaction did before must be seen */
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	rows->snapshot = GetActiveSnapshot();
	rows->scan = ordflow_index_beginscan(rows->rel, rows->index, rows->snapshot,
										 by_name ? NAME_KEYS : 1);
	rows->slot = table_slot_create(rows->rel, NULL);
	rows->changed = MakeSingleTupleTableSlot(RelationGetDescr(rows->rel), &TTSOpsVirtual);
}

void
ordflow_stock_rows_close(StockRows *rows)
{
	index_endscan(rows->scan);
	if (rows->estate != NULL)
	{
		ExecCloseIndices(rows->target);
		FreeExecutorState(rows->estate);
	}
	ExecDropSingleTupleTableSlot(rows->changed);
	ExecDropSingleTupleTableSlot(rows->slot);
	PopActiveSnapshot();
	index_close(rows->index, NoLock);
	table_close(rows->rel, NoLock);
}

/* Fills in what the slot holds. */
static void
read_slot(StockRows *rows, StockRowRef *ref)
{
	bool		isnull;

	ref->tid = rows->slot->tts_tid;
	ref->stock_id = DatumGetInt64(slot_getattr(rows->slot, rows->stock_id, &isnull));
	ref->available = DatumGetInt64(slot_getattr(rows->slot, rows->available, &isnull));
}

static void
find(StockRows *rows, ScanKey keys, int nkeys, StockRowRef *ref)
{
	memset(ref, 0, sizeof(StockRowRef));
	index_rescan(rows->scan, keys, nkeys, NULL, 0);
	if (index_getnext_slot(rows->scan, ForwardScanDirection, rows->slot))
		read_slot(rows, ref);
	ExecClearTuple(rows->slot);
}

void
ordflow_stock_row_find(StockRows *rows, const char *sku, const char *location, StockRowRef *ref)
{
	const char *names[NAME_KEYS] = {sku, location};
	ScanKeyData keys[NAME_KEYS];

	for (int i = 0; i < NAME_KEYS; i++)
		ScanKeyEntryInitialize(&keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid,
							   C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(names[i]));
	find(rows, keys, NAME_KEYS, ref);
	ref->sku = sku;
	ref->location = location;
}

void
ordflow_stock_row_find_id(StockRows *rows, int64 stock_id, StockRowRef *ref)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stock_id));
	find(rows, &key, 1, ref);
}

static bool
column_is(StockRows *rows, AttrNumber attnum, const char *expected)
{
	bool		isnull;
	text	   *value = DatumGetTextPP(slot_getattr(rows->slot, attnum, &isnull));

	return VARSIZE_ANY_EXHDR(value) == strlen(expected) &&
		memcmp(VARDATA_ANY(value), expected, strlen(expected)) == 0;
}

/* Is what the slot holds still what was looked for?  Whoever was waited for may have renamed it. */
static bool
is_same_row(StockRows *rows, const StockRowRef *ref, int64 stock_id)
{
	return ref->stock_id == stock_id &&
		(ref->sku == NULL || (column_is(rows, rows->sku, ref->sku) &&
							  column_is(rows, rows->location, ref->location)));
}

void
ordflow_stock_row_lock(StockRows *rows, StockRowRef *ref)
{
	bool		one_snapshot = IsolationUsesXactSnapshot();
	TM_FailureData failure;
	TM_Result	result;
	int64		stock_id = ref->stock_id;

	result = table_tuple_lock(rows->rel, &ref->tid, rows->snapshot, rows->slot,
							  GetCurrentCommandId(true), LockTupleNoKeyExclusive, LockWaitBlock,
							  one_snapshot ? 0 : TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
	switch (result)
	{
		case TM_Ok:
			read_slot(rows, ref);
			if (failure.traversed && !is_same_row(rows, ref, stock_id))
				ref->stock_id = 0;
			break;
		case TM_Updated:
		case TM_Deleted:
			if (one_snapshot)
				ereport(ERROR,
						errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
						errmsg("could not serialize access due to concurrent update"));
			ref->stock_id = 0;
			break;
		default:
			elog(ERROR, "unexpected result %d of locking a row of stock", result);
	}
	ExecClearTuple(rows->slot);
}

/* What the executor works with, where the new version of a row is more than its available. */
static void
executor_open(StockRows *rows)
{
	if (rows->estate != NULL)
		return;
	rows->estate = CreateExecutorState();
	rows->target = makeNode(ResultRelInfo);
	InitResultRelInfo(rows->target, rows->rel, 0, NULL, 0);
	ExecOpenIndices(rows->target, false);
}

/* What the new version owes to the columns and constraints that somebody has added. */
static void
complete_changed(StockRows *rows)
{
	const TupleConstr *constr = RelationGetDescr(rows->rel)->constr;

	if (constr == NULL || (constr->num_check == 0 && !constr->has_generated_stored))
		return;
	executor_open(rows);
	rows->changed->tts_tableOid = RelationGetRelid(rows->rel);
	if (constr->has_generated_stored)
		ExecComputeStoredGenerated(rows->target, rows->estate, rows->changed, CMD_UPDATE);
	if (constr->num_check > 0)
		ExecConstraints(rows->target, rows->changed, rows->estate);
}

void
ordflow_stock_row_set(StockRows *rows, StockRowRef *ref, int64 available)
{
	TupleDesc	desc = RelationGetDescr(rows->rel);
	TM_FailureData failure;
	TM_Result	result;
	LockTupleMode lockmode;
	ordflow_update_indexes update_indexes;

	if (!table_tuple_fetch_row_version(rows->rel, &ref->tid, SnapshotAny, rows->slot))
		elog(ERROR, "a locked row of stock is missing");
	slot_getallattrs(rows->slot);
	ExecClearTuple(rows->changed);
	memcpy(rows->changed->tts_values, rows->slot->tts_values, sizeof(Datum) * desc->natts);
	memcpy(rows->changed->tts_isnull, rows->slot->tts_isnull, sizeof(bool) * desc->natts);
	rows->changed->tts_values[rows->available - 1] = Int64GetDatum(available);
	ExecStoreVirtualTuple(rows->changed);
	complete_changed(rows);

	result = table_tuple_update(rows->rel, &ref->tid, rows->changed, GetCurrentCommandId(true),
								rows->snapshot, InvalidSnapshot, true, &failure, &lockmode,
								&update_indexes);
	if (result != TM_Ok)
		elog(ERROR, "unexpected result %d of changing a locked row of stock", result);
	/* an update that is not heap-only has new index entries to make */
	if (update_indexes)
	{
		executor_open(rows);
		ordflow_update_index_tuples(rows->target, rows->changed, rows->estate, update_indexes);
	}
	ref->available = available;
	ref->tid = rows->changed->tts_tid;
	if (rows->estate != NULL)
		ResetPerTupleExprContext(rows->estate);
	ExecClearTuple(rows->changed);
	ExecClearTuple(rows->slot);
}

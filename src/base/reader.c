/*
 * reader.c
 *	  Rows of ours read by an index, past the predicate locks of the serializable level.
 *
 * What counters are loaded from, and the like, is right only as it stands now, whatever the
 * isolation level; and to read it must not make one sale a conflict with the next.  So the scan
 * finds every version of a row, which takes no predicate lock, and the snapshot decides.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/base.h"

Snapshot
ordflow_register_latest(void)
{
	CommandCounterIncrement();
	return RegisterSnapshot(GetLatestSnapshot());
}

void
ordflow_reader_open(RowReader *reader, const char *relname, const char *indexname,
					Snapshot snapshot, struct ScanKeyData *keys, int nkeys)
{
	reader->rel = table_open(ordflow_relid(relname), AccessShareLock);
	reader->index = index_open(ordflow_relid(indexname), AccessShareLock);
	reader->snapshot = snapshot;
	reader->slot = table_slot_create(reader->rel, NULL);
	reader->scan = ordflow_index_beginscan(reader->rel, reader->index, SnapshotAny, nkeys);
	index_rescan(reader->scan, keys, nkeys, NULL, 0);
}

void
ordflow_reader_again(RowReader *reader, struct ScanKeyData *keys, int nkeys)
{
	index_rescan(reader->scan, keys, nkeys, NULL, 0);
}

bool
ordflow_reader_next(RowReader *reader, ScanDirection direction)
{
	while (index_getnext_slot(reader->scan, direction, reader->slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (table_tuple_satisfies_snapshot(reader->rel, reader->slot, reader->snapshot))
			return true;
	}
	return false;
}

AttrNumber
ordflow_reader_column(const RowReader *reader, const char *name)
{
	return SPI_fnumber(RelationGetDescr(reader->rel), name);
}

Datum
ordflow_reader_value(RowReader *reader, AttrNumber column, bool *isnull)
{
	return slot_getattr(reader->slot, column, isnull);
}

int64
ordflow_reader_int64(RowReader *reader, AttrNumber column)
{
	bool		isnull;
	Datum		value = slot_getattr(reader->slot, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

void
ordflow_reader_close(RowReader *reader)
{
	index_endscan(reader->scan);
	ExecDropSingleTupleTableSlot(reader->slot);
	index_close(reader->index, NoLock);
	table_close(reader->rel, NoLock);
}

static bool
is_plain(Relation rel)
{
	const TriggerDesc *triggers = rel->trigdesc;

	return rel->rd_rel->relkind == RELKIND_RELATION && rel->rd_rules == NULL &&
		(triggers == NULL ||
		 !(triggers->trig_delete_before_row || triggers->trig_delete_after_row ||
		   triggers->trig_delete_before_statement || triggers->trig_delete_after_statement ||
		   triggers->trig_delete_old_table));
}

bool
ordflow_rows_delete(const char *relname, const char *indexname, int64 key)
{
	Relation	rel = table_open(ordflow_relid(relname), RowExclusiveLock);
	bool		plain = is_plain(rel);

	if (plain)
	{
		Snapshot	snapshot = ordflow_register_latest();
		RowReader	reader;
		ScanKeyData scankey;
		TM_FailureData failure;

		CheckCmdReplicaIdentity(rel, CMD_DELETE);
		ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key));
		ordflow_reader_open(&reader, relname, indexname, snapshot, &scankey, 1);
		while (ordflow_reader_next(&reader, ForwardScanDirection))
			if (table_tuple_delete(rel, &reader.slot->tts_tid, GetCurrentCommandId(true), snapshot,
								   InvalidSnapshot, true, &failure, false) != TM_Ok)
				elog(ERROR, "a row of ordflow.%s could not be deleted", relname);
		ordflow_reader_close(&reader);
		UnregisterSnapshot(snapshot);
	}
	table_close(rel, NoLock);
	return plain;
}

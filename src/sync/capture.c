/*
 * capture.c
 *	  The decoder's own output plugin: what the syncs want goes into the spools.
 *
 * A sync has its changes from behind the place in the WAL where it was made: its maker held a lock
 * against all writers of the source until it had committed, so no transaction wrote to the source
 * before that place and committed after it, but the maker's own.  So what belongs to a sync
 * follows from the WAL alone, whenever it is decoded, and however often.
 *
 * The callbacks run in a transaction of the reorder buffer, under the snapshot of that time.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/detoast.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/partition.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "replication/logical.h"
#include "replication/reorderbuffer.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "sync/internal.h"
#include "sync/plugin.h"
#include "sync/row.h"

/* One sync of one source. */
typedef struct Want
{
	CaptureTarget *target;
	int64		sync_id;
	XLogRecPtr	start;
	uint64		start_xid;
} Want;

/* By the source's oid. */
typedef struct WantedSource
{
	Oid			relid;
	List	   *wants;
} WantedSource;

/* By the oid of the table that a row lies in: the wants of the table and of its ancestors. */
typedef struct Resolved
{
	Oid			relid;
	List	   *wants;
} Resolved;

static MemoryContext memory = NULL; /* of what was loaded */
static MemoryContext targets_memory = NULL;
static MemoryContext change_memory = NULL;
static HTAB *sources = NULL;
static HTAB *resolved = NULL;
static bool resolved_is_old = false;
static MemoryContext resolved_memory = NULL;
static List *targets = NIL;		/* of CaptureTarget */
static Oid	syncs_relid = InvalidOid;
static Oid	deliveries_relid = InvalidOid;
static Oid	outbox_relid = InvalidOid;
static uint32 relation_numbers = 0;

static bool changed = false;
static TransactionId changed_xid;

/* Of the transaction that is being decoded. */
static XLogRecPtr change_lsn;
static int	change_nth;
static XLogRecPtr previous_commit = InvalidXLogRecPtr;
static FullTransactionId full_xid;

/* ---- what is wanted ---- */

/* May come in the middle of a change: what it stands on goes with the next one. */
static void
forget_resolved(Oid relid)
{
	resolved_is_old = true;
}

static void
clear_resolved(void)
{
	if (resolved != NULL)
		hash_destroy(resolved);
	resolved = NULL;
	MemoryContextReset(resolved_memory);
	resolved_is_old = false;
}

static void load_backlog(CaptureTarget *target);

static CaptureTarget *
find_target(int64 delivery_id)
{
	ListCell   *cell;

	foreach(cell, targets)
	{
		CaptureTarget *target = lfirst(cell);

		if (target->delivery->delivery_id == delivery_id)
			return target;
	}
	return NULL;
}

static void
add_want(const SyncDefinition *sync)
{
	WantedSource *source;
	Want	   *want;
	bool		found;
	MemoryContext before;

	if (find_target(sync->delivery_id) == NULL || !OidIsValid(sync->source))
		return;
	source = hash_search(sources, &sync->source, HASH_ENTER, &found);
	if (!found)
		source->wants = NIL;
	before = MemoryContextSwitchTo(memory);
	want = palloc0(sizeof(Want));
	want->target = find_target(sync->delivery_id);
	want->sync_id = sync->sync_id;
	want->start = sync->start;
	want->start_xid = sync->start_xid;
	source->wants = lappend(source->wants, want);
	MemoryContextSwitchTo(before);
}

static SyncDelivery *
copy_delivery(const SyncDelivery *delivery)
{
	SyncDelivery *copy = palloc(sizeof(SyncDelivery));

	*copy = *delivery;
	copy->server = delivery->server ? pstrdup(delivery->server) : NULL;
	copy->role = pstrdup(delivery->role);
	copy->token = pstrdup(delivery->token);
	copy->problem = NULL;
	copy->sent = delivery->sent ? pstrdup(delivery->sent) : NULL;
	return copy;
}

static void
close_spool(CaptureTarget *target)
{
	if (target->spool != NULL)
		ordflow_spool_close(target->spool);
	target->spool = NULL;
}

/* Tells the delivery's process of the spool. */
static void
announce(CaptureTarget *target, XLogRecPtr base)
{
	DeliveryShared *shared = target->shared;

	SpinLockAcquire(&shared->mutex);
	shared->spool_serial++;
	shared->end = ordflow_spool_end(target->spool);
	shared->spooled = Max(target->last, base);
	shared->durable = Min(shared->durable, shared->spooled);
	shared->gap = false;
	if (shared->latch != NULL)
		SetLatch(shared->latch);
	SpinLockRelease(&shared->mutex);
}

/* A delivery that is new, or of a new generation, or that goes on after a stop. */
static void
open_target(CaptureTarget *target, const SyncDelivery *delivery, XLogRecPtr base)
{
	target->delivery = copy_delivery(delivery);
	target->shared = ordflow_delivery_shared(delivery->delivery_id, true);
	target->behind_since = 0;
	target->last = target->synced = InvalidXLogRecPtr;
	target->described = NULL;
	if (target->shared == NULL || delivery->stopped)
		return;
	target->spool = ordflow_spool_open(delivery->delivery_id, delivery->generation, base,
									   &target->last);
	target->segment = ordflow_spool_segment(target->spool);
	target->synced = Max(target->last, base);
	announce(target, base);
}

static void
load_target(const SyncDelivery *delivery, XLogRecPtr base)
{
	CaptureTarget *target = find_target(delivery->delivery_id);

	if (target == NULL)
	{
		target = palloc0(sizeof(CaptureTarget));
		targets = lappend(targets, target);
	}
	else if (target->delivery->generation == delivery->generation &&
			 target->delivery->stopped == delivery->stopped)
		return;
	close_spool(target);
	open_target(target, delivery, base);
}

static void
drop_lost_targets(List *deliveries)
{
	ListCell   *cell;

	foreach(cell, targets)
	{
		CaptureTarget *target = lfirst(cell);
		bool		known = false;
		ListCell   *other;

		foreach(other, deliveries)
			known |= ((SyncDelivery *) lfirst(other))->delivery_id ==
			target->delivery->delivery_id;
		if (known)
			continue;
		close_spool(target);
		targets = foreach_delete_current(targets, cell);
	}
}

static void
remove_other_spools(List *deliveries)
{
	int64	   *ids = palloc((list_length(deliveries) + 1) * sizeof(int64));
	int			n = 0;
	ListCell   *cell;

	foreach(cell, deliveries)
		ids[n++] = ((SyncDelivery *) lfirst(cell))->delivery_id;
	ordflow_spool_remove_others(ids, n);
}

static void
make_memory(void)
{
	HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(WantedSource)};

	if (targets_memory == NULL)
	{
		targets_memory = AllocSetContextCreate(TopMemoryContext, "ordflow capture targets",
											   ALLOCSET_DEFAULT_SIZES);
		memory = AllocSetContextCreate(TopMemoryContext, "ordflow capture",
									   ALLOCSET_DEFAULT_SIZES);
		resolved_memory = AllocSetContextCreate(TopMemoryContext, "ordflow resolved sources",
												ALLOCSET_SMALL_SIZES);
		change_memory = AllocSetContextCreate(TopMemoryContext, "ordflow captured change",
											  ALLOCSET_DEFAULT_SIZES);
		ordflow_on_relation_change(forget_resolved);
	}
	if (sources != NULL)
		hash_destroy(sources);
	clear_resolved();
	MemoryContextReset(memory);
	sources = hash_create("ordflow wanted sources", 64, &control, HASH_ELEM | HASH_BLOBS);
}

int
ordflow_capture_load(XLogRecPtr base)
{
	MemoryContext before;
	List	   *deliveries;
	List	   *syncs;
	ListCell   *cell;

	syncs_relid = ordflow_relid("syncs");
	deliveries_relid = ordflow_relid("sync_deliveries");
	outbox_relid = ordflow_relid("outbox");
	make_memory();
	SPI_connect();
	ordflow_sync_make_deliveries();
	deliveries = ordflow_sync_deliveries();
	syncs = ordflow_sync_definitions();
	before = MemoryContextSwitchTo(targets_memory);
	drop_lost_targets(deliveries);
	foreach(cell, deliveries)
		load_target(lfirst(cell), base);
	MemoryContextSwitchTo(before);
	foreach(cell, syncs)
		add_want(lfirst(cell));
	remove_other_spools(deliveries);
	foreach(cell, targets)
		load_backlog(lfirst(cell));
	SPI_finish();
	ordflow_unwanted_forget();
	return list_length(targets);
}

void
ordflow_capture_close(void)
{
	ListCell   *cell;

	foreach(cell, targets)
		close_spool(lfirst(cell));
	targets = NIL;
}

bool
ordflow_capture_changed(TransactionId *xid)
{
	bool		result = changed;

	*xid = changed_xid;
	changed = false;
	return result;
}

int
ordflow_capture_ntargets(void)
{
	return list_length(targets);
}

CaptureTarget *
ordflow_capture_target(int i)
{
	return list_nth(targets, i);
}

void
ordflow_capture_alert(void)
{
	ListCell   *cell;

	foreach(cell, targets)
	{
		CaptureTarget *target = lfirst(cell);
		Latch	   *latch = NULL;

		if (!target->alert || target->shared == NULL)
			continue;
		target->alert = false;
		SpinLockAcquire(&target->shared->mutex);
		latch = target->shared->latch;
		SpinLockRelease(&target->shared->mutex);
		if (latch != NULL)
			SetLatch(latch);
	}
}

static List *
wants_of(Oid relid)
{
	WantedSource *source = hash_search(sources, &relid, HASH_FIND, NULL);

	return source != NULL ? source->wants : NIL;
}

/* The list lives until the syncs, or any relation, change. */
static List *
resolve(Relation relation)
{
	Oid			relid = RelationGetRelid(relation);
	HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(Resolved)};
	List	   *wants = NIL;
	List	   *ancestors = NIL;
	ListCell   *cell;
	Resolved   *entry;
	bool		found;
	MemoryContext before;

	if (resolved_is_old)
		clear_resolved();
	entry = resolved != NULL ? hash_search(resolved, &relid, HASH_FIND, NULL) : NULL;
	if (entry != NULL)
		return entry->wants;

	if (relation->rd_rel->relispartition)
		ancestors = get_partition_ancestors(relid);
	before = MemoryContextSwitchTo(resolved_memory);
	wants = list_copy(wants_of(relid));
	foreach(cell, ancestors)
		wants = list_concat(wants, wants_of(lfirst_oid(cell)));
	MemoryContextSwitchTo(before);
	if (resolved == NULL)
		resolved = hash_create("ordflow resolved sources", 64, &control, HASH_ELEM | HASH_BLOBS);
	entry = hash_search(resolved, &relid, HASH_ENTER, &found);
	entry->wants = wants;
	return wants;
}

/* ---- transactions ---- */

/* With its epoch: a sync's maker is told from one that has the same number later. */
static FullTransactionId
with_epoch(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return FullTransactionIdFromEpochAndXid(epoch, xid);
}

static void
begin_transaction(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	ListCell   *cell;

	change_lsn = InvalidXLogRecPtr;
	change_nth = 0;
	full_xid = with_epoch(txn->xid);
	foreach(cell, targets)
	{
		CaptureTarget *target = lfirst(cell);

		target->touched = false;
		target->skipped = target->spool == NULL || txn->final_lsn <= target->last;
	}
}

static void
touch(CaptureTarget *target, ReorderBufferTXN *txn)
{
	WireBegin	begin = {0};

	if (target->touched)
		return;
	target->touched = true;
	begin.xid = txn->xid;
	begin.commit_lsn = txn->final_lsn;
	begin.committed_at = txn->xact_time.commit_time;
	begin.previous = previous_commit;
	ordflow_spool_put(target->spool, SPOOL_BEGIN, (char *) &begin, sizeof(begin));
}

/* flushed: it is on disk before it can be read. */
static void
end_transaction(CaptureTarget *target, ReorderBufferTXN *txn, bool flushed)
{
	DeliveryShared *shared = target->shared;
	SpoolEnd	end;

	if (!target->touched)
		return;
	target->touched = false;
	target->alert = true;
	end = ordflow_spool_commit(target->spool, txn->final_lsn);
	target->last = txn->final_lsn;
	if (flushed)
		ordflow_spool_sync(target->spool);
	SpinLockAcquire(&shared->mutex);
	if (shared->durable >= shared->spooled || shared->pending_since == 0)
		shared->pending_since = txn->xact_time.commit_time;
	shared->end = end;
	shared->spooled = txn->final_lsn;
	SpinLockRelease(&shared->mutex);
}

static void
commit_transaction(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	ListCell   *cell;

	foreach(cell, targets)
		end_transaction(lfirst(cell), txn, false);
	previous_commit = txn->final_lsn;
	if (changed && changed_xid == InvalidTransactionId)
		changed_xid = txn->xid;
}

/* ---- changes ---- */

static void
put_relation(CaptureTarget *target, uint32 number, const ChangeRelation *relation)
{
	StringInfoData record;
	MemoryContext before;

	if (target->segment != ordflow_spool_segment(target->spool))
	{
		bms_free(target->described);
		target->described = NULL;
		target->segment = ordflow_spool_segment(target->spool);
	}
	if (bms_is_member(number, target->described))
		return;
	initStringInfo(&record);
	ordflow_wire_relation(&record, number, relation);
	ordflow_spool_put(target->spool, SPOOL_RELATION, record.data, record.len);
	before = MemoryContextSwitchTo(targets_memory);
	target->described = bms_add_member(target->described, number);
	MemoryContextSwitchTo(before);
}

static bool
wants_change(const Want *want, const Change *change)
{
	return !want->target->skipped && change->lsn >= want->start &&
		(want->start_xid == 0 || U64FromFullTransactionId(full_xid) != want->start_xid);
}

/* To every delivery that has a sync for it. */
static void
put_change(ReorderBufferTXN *txn, List *wants, RowRelation *row, Change *change, bool too_large)
{
	uint32	   *number = row->user;
	int64	   *ids = palloc((list_length(wants) + 1) * sizeof(int64));
	StringInfoData record;
	int			common;
	ListCell   *cell;

	if (number == NULL)
	{
		number = MemoryContextAlloc(row->context, sizeof(uint32));
		*number = ++relation_numbers;
		row->user = number;
	}
	initStringInfo(&record);
	ordflow_wire_change(&record, *number, change,
						ordflow_change_place(txn->final_lsn, change->lsn, change_nth), too_large);
	common = record.len;
	foreach(cell, targets)
	{
		CaptureTarget *target = lfirst(cell);
		int			n = 0;
		ListCell   *other;

		foreach(other, wants)
		{
			Want	   *want = lfirst(other);

			if (want->target == target && wants_change(want, change))
				ids[n++] = want->sync_id;
		}
		if (n == 0)
			continue;
		touch(target, txn);
		put_relation(target, *number, change->relation);
		record.len = common;
		ordflow_wire_syncs(&record, ids, n);
		ordflow_spool_put(target->spool, SPOOL_CHANGE, record.data, record.len);
	}
}

/* Bytes of what is not in place; as text it is about twice as much. */
static Size
tuple_bytes(TupleDesc desc, HeapTuple tuple)
{
	Size		bytes = 0;

	if (tuple == NULL)
		return 0;
	bytes = tuple->t_len;
	if (!HeapTupleHasExternal(tuple))
		return bytes;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		bool		isnull;
		Datum		value;

		if (attribute->attisdropped || attribute->attlen != -1)
			continue;
		value = heap_getattr(tuple, i + 1, desc, &isnull);
		if (!isnull && !VARATT_IS_EXTERNAL_ONDISK(DatumGetPointer(value)))
			bytes += toast_raw_datum_size(value);
	}
	return bytes;
}

static ChangeValue *
read_values(RowRelation *row, Relation relation, HeapTuple tuple, bool keys_only)
{
	ChangeValue *values;

	if (tuple == NULL)
		return NULL;
	values = palloc0((row->relation.ncolumns + 1) * sizeof(ChangeValue));
	ordflow_row_values(row, relation, tuple, keys_only, values);
	return values;
}

/* The place of a change among those of the same record. */
static void
count_change(XLogRecPtr lsn)
{
	change_nth = lsn == change_lsn ? change_nth + 1 : 0;
	change_lsn = lsn;
}

static ChangeOp
op_of(const ReorderBufferChange *change)
{
	return change->action == REORDER_BUFFER_CHANGE_INSERT ? CHANGE_INSERT :
		change->action == REORDER_BUFFER_CHANGE_UPDATE ? CHANGE_UPDATE : CHANGE_DELETE;
}

static void
capture(ReorderBufferTXN *txn, List *wants, Relation relation, ReorderBufferChange *decoded)
{
	RowRelation *row = ordflow_row_relation(relation);
	HeapTuple	new_tuple = ordflow_change_tuple(decoded->data.tp.newtuple);
	HeapTuple	old_tuple = ordflow_change_tuple(decoded->data.tp.oldtuple);
	bool		whole = relation->rd_rel->relreplident == REPLICA_IDENTITY_FULL;
	bool		too_large;
	Change		change = {.op = op_of(decoded)};

	if (decoded->action == REORDER_BUFFER_CHANGE_DELETE)
		new_tuple = NULL;
	too_large = tuple_bytes(RelationGetDescr(relation), new_tuple) > SYNC_ROW_MAX ||
		tuple_bytes(RelationGetDescr(relation), old_tuple) > SYNC_ROW_MAX;
	change.relation = &row->relation;
	change.lsn = decoded->lsn;
	change.values = read_values(row, relation, new_tuple, too_large);
	change.old = read_values(row, relation, old_tuple, too_large || !whole);
	change.old_is_whole = whole && change.old != NULL && !too_large;
	put_change(txn, wants, row, &change, too_large);
}

/* ---- messages of ordflow.emit() ---- */

/* As the outbox was created. */
enum
{
	OUTBOX_ID, OUTBOX_SERVER, OUTBOX_ROLE
};

static CaptureTarget *
find_server_target(const char *server, const char *role)
{
	ListCell   *cell;

	foreach(cell, targets)
	{
		const SyncDelivery *delivery = ((CaptureTarget *) lfirst(cell))->delivery;

		if (delivery->server != NULL && strcmp(delivery->server, server) == 0 &&
			strcmp(delivery->role, role) == 0)
			return lfirst(cell);
	}
	return NULL;
}

static void
forget_backlog(CaptureTarget *target, int64 outbox_id)
{
	for (int i = 0; i < target->nbacklog; i++)
		if (target->backlog[i] == outbox_id)
			target->backlog[i--] = target->backlog[--target->nbacklog];
}

/* To the delivery that the row names. */
static void
capture_message(ReorderBufferTXN *txn, Relation relation, ReorderBufferChange *decoded)
{
	RowRelation *row = ordflow_row_relation(relation);
	HeapTuple	tuple = ordflow_change_tuple(decoded->data.tp.newtuple);
	Change		change = {.op = CHANGE_INSERT,.lsn = decoded->lsn};
	Want		want = {0};

	if (decoded->action != REORDER_BUFFER_CHANGE_INSERT || tuple == NULL)
		return;
	change.relation = &row->relation;
	change.values = read_values(row, relation, tuple, false);
	want.target = find_server_target(change.values[OUTBOX_SERVER].text,
									 change.values[OUTBOX_ROLE].text);
	if (want.target == NULL)
		return;
	forget_backlog(want.target, pg_strtoint64(change.values[OUTBOX_ID].text));
	put_change(txn, list_make1(&want), row, &change, false);
}

static Statement read_backlog_ids = {
	.sql = "SELECT outbox_id FROM ordflow.outbox WHERE server = $1 AND role = $2 ORDER BY "
	"outbox_id",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

static Statement read_backlog = {
	.sql = "SELECT outbox_id::pg_catalog.text, server, role, topic, key, "
	"payload::pg_catalog.text, at::pg_catalog.text FROM ordflow.outbox AS o "
	"WHERE outbox_id = ANY($1) ORDER BY o.outbox_id",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static Statement end_backlog = {
	.sql = "UPDATE ordflow.sync_deliveries SET backlog = false WHERE delivery_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* What is in the outbox now, and up to where the WAL may still tell of it. */
static void
load_backlog(CaptureTarget *target)
{
	Datum		values[2];

	if (!target->delivery->backlog || target->spool == NULL ||
		!XLogRecPtrIsInvalid(target->backlog_until))
		return;
	target->nbacklog = 0;
	if (target->delivery->server != NULL)
	{
		values[0] = CStringGetTextDatum(target->delivery->server);
		values[1] = CStringGetTextDatum(target->delivery->role);
		target->nbacklog = ordflow_execute_latest(&read_backlog_ids, values, NULL);
	}
	target->backlog = MemoryContextAlloc(targets_memory,
										 (target->nbacklog + 1) * sizeof(int64));
	for (int i = 0; i < target->nbacklog; i++)
		target->backlog[i] = ordflow_result_int64(i, 1);
	target->backlog_until = GetXLogInsertRecPtr();
}

static bool
is_backlog_due(const CaptureTarget *target, XLogRecPtr decoded)
{
	return target->spool != NULL && !XLogRecPtrIsInvalid(target->backlog_until) &&
		decoded >= target->backlog_until;
}

bool
ordflow_capture_has_backlog(XLogRecPtr decoded)
{
	ListCell   *cell;

	foreach(cell, targets)
		if (is_backlog_due(lfirst(cell), decoded))
			return true;
	return false;
}

/*
 * Where no record can begin.  Of a delivery that still waits for its backlog it tells that we did
 * not live to note that it is in the spool, and nothing can have been put behind it.
 */
static bool
is_backlog_commit(XLogRecPtr lsn)
{
	return lsn % MAXIMUM_ALIGNOF == MAXIMUM_ALIGNOF - 1;
}

/* As one transaction, at a place in the WAL where no other can be. */
static void
put_backlog(CaptureTarget *target, XLogRecPtr decoded)
{
	ReorderBufferTXN txn = {.final_lsn = decoded - 1};
	Relation	outbox = RelationIdGetRelation(outbox_relid);
	RowRelation *row = ordflow_row_relation(outbox);
	Datum		ids = ordflow_int8_array(target->backlog, target->nbacklog);
	Want		want = {.target = target};
	uint64		n = ordflow_execute_latest(&read_backlog, &ids, NULL);

	txn.xact_time.commit_time = GetCurrentTimestamp();
	begin_transaction(NULL, &txn);
	for (uint64 i = 0; i < n; i++)
	{
		Change		change = {.op = CHANGE_INSERT,.relation = &row->relation};
		ChangeValue *values = palloc0((row->relation.ncolumns + 1) * sizeof(ChangeValue));

		for (int c = 0; c < row->relation.ncolumns; c++)
		{
			values[c].text = ordflow_result_text(i, c + 1);
			values[c].state = values[c].text ? VALUE_TEXT : VALUE_NULL;
			values[c].length = values[c].text ? strlen(values[c].text) : 0;
		}
		change.values = values;
		/* places that rise, 512 at each byte of the WAL */
		change.lsn = txn.final_lsn - 1 - (n - 1 - i) / 512;
		change_nth = 511 - (n - 1 - i) % 512;
		put_change(&txn, list_make1(&want), row, &change, false);
	}
	if (n > 0)
		end_transaction(target, &txn, true);
	RelationClose(outbox);
}

void
ordflow_capture_backlog(XLogRecPtr decoded)
{
	ListCell   *cell;

	SPI_connect();
	foreach(cell, targets)
	{
		CaptureTarget *target = lfirst(cell);
		Datum		id = Int64GetDatum(target->delivery->delivery_id);

		if (!is_backlog_due(target, decoded))
			continue;
		if (target->nbacklog > 0 && !is_backlog_commit(target->last))
			put_backlog(target, decoded);
		ordflow_execute(&end_backlog, &id, NULL);
		target->delivery->backlog = false;
		target->backlog_until = InvalidXLogRecPtr;
		target->nbacklog = 0;
	}
	SPI_finish();
}

/* ---- the callbacks ---- */

static void
change_row(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation relation,
		   ReorderBufferChange *change)
{
	List	   *wants;
	MemoryContext before;

	count_change(change->lsn);
	if (RelationGetRelid(relation) == syncs_relid ||
		(RelationGetRelid(relation) == deliveries_relid &&
		 change->action != REORDER_BUFFER_CHANGE_UPDATE))
	{
		changed = true;
		changed_xid = InvalidTransactionId;
		return;
	}
	if (RelationGetRelid(relation) == deliveries_relid)
		return;
	wants = resolve(relation);
	if (RelationGetRelid(relation) == outbox_relid)
	{
		before = MemoryContextSwitchTo(change_memory);
		capture_message(txn, relation, change);
		MemoryContextSwitchTo(before);
		MemoryContextReset(change_memory);
		return;
	}
	if (wants == NIL)
	{
		ordflow_unwanted_add(relation);
		return;
	}
	CHECK_FOR_INTERRUPTS();
	before = MemoryContextSwitchTo(change_memory);
	capture(txn, wants, relation, change);
	MemoryContextSwitchTo(before);
	MemoryContextReset(change_memory);
}

/*
 * Of partitions only what was told of the partitioned table itself: to empty one of them is not
 * to empty the whole, and the WAL does not say which rows went.
 */
static void
truncate_tables(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, int nrelations,
				Relation relations[], ReorderBufferChange *decoded)
{
	MemoryContext before = MemoryContextSwitchTo(change_memory);

	for (int i = 0; i < nrelations; i++)
	{
		List	   *wants = wants_of(RelationGetRelid(relations[i]));
		Change		change = {.op = CHANGE_TRUNCATE,.lsn = decoded->lsn};
		RowRelation *row;

		count_change(decoded->lsn);
		if (wants == NIL)
			continue;
		row = ordflow_row_relation(relations[i]);
		change.relation = &row->relation;
		change.cascade = decoded->data.truncate.cascade;
		change.restart_identity = decoded->data.truncate.restart_seqs;
		put_change(txn, wants, row, &change, false);
	}
	MemoryContextSwitchTo(before);
	MemoryContextReset(change_memory);
}

static void
start(LogicalDecodingContext *ctx, OutputPluginOptions *options, bool is_init)
{
	options->output_type = OUTPUT_PLUGIN_BINARY_OUTPUT;
	options->receive_rewrites = false;
}

static void
give_callbacks(OutputPluginCallbacks *callbacks)
{
	callbacks->startup_cb = start;
	callbacks->begin_cb = begin_transaction;
	callbacks->change_cb = change_row;
	callbacks->truncate_cb = truncate_tables;
	callbacks->commit_cb = commit_transaction;
}

void
ordflow_capture_init(void)
{
	ordflow_decoder_callbacks = give_callbacks;
}

/*
 * copy.c
 *	  The rows that a source has when a sync begins, or is to begin again.
 *
 * The copy and the stream of one sync are sent by the same process, in turns, and share its
 * position; what each of them sends is decided by one snapshot.  It is taken once, when everything
 * that was streamed is visible to it.  From then on the copy sends the rows as that snapshot has
 * them which are still the same, and the stream whatever a transaction does that the snapshot does
 * not see: so nothing is missing, nothing is told twice, and no row goes back to what it was.
 *
 * A row is still the same where a snapshot of now sees a version made by a transaction that the
 * first one sees too.  So no snapshot is held while the copy takes its time, and VACUUM goes on.
 *
 * Rows are read in the order of their place, some blocks at a time.  How far it has come stands in
 * ordflow.sync_copy_places, with the file that the places are of: where the table was rewritten
 * since, they mean nothing, and the copy begins again.
 *
 * A target that had nothing of the sync before is fresh: of what the snapshot sees nothing is
 * streamed to it.  Any other is brought to the snapshot by the stream before the first row is
 * copied.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/toast_internals.h"
#include "access/heaptoast.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "sync/internal.h"
#include "sync/row.h"

#define STEP_FIRST		16		/* blocks of a round; then as many as its time allows */
#define STEP_MAX		8192
#define ROUND_SHORT		(80 * INT64CONST(1000))
#define ROUND_LONG		(250 * INT64CONST(1000))

#define PLACE_BITS		48		/* of an ordinal: block and offset; above them the turn */
#define TURN_MAX		255

/* Who was in progress, sub-transactions too. */
struct CopySnapshot
{
	uint64		xmin;
	uint64		xmax;
	int			n;
	uint64	   *xids;			/* sorted */
};

/* ---- snapshots ---- */

static uint64
with_epoch(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return U64FromFullTransactionId(FullTransactionIdFromEpochAndXid(epoch, xid));
}

static int
compare_xids(const void *a, const void *b)
{
	uint64		left = *(const uint64 *) a;
	uint64		right = *(const uint64 *) b;

	return left < right ? -1 : left > right;
}

static char *
print_snapshot(Snapshot snapshot)
{
	int			n = snapshot->xcnt + snapshot->subxcnt;
	uint64	   *xids = palloc((n + 1) * sizeof(uint64));
	StringInfoData text;

	for (int i = 0; i < n; i++)
		xids[i] = with_epoch(i < snapshot->xcnt ? snapshot->xip[i] :
							 snapshot->subxip[i - snapshot->xcnt]);
	qsort(xids, n, sizeof(uint64), compare_xids);
	initStringInfo(&text);
	appendStringInfo(&text, UINT64_FORMAT ":" UINT64_FORMAT ":", with_epoch(snapshot->xmin),
					 with_epoch(snapshot->xmax));
	for (int i = 0; i < n; i++)
		appendStringInfo(&text, "%s" UINT64_FORMAT, i > 0 ? "," : "", xids[i]);
	return text.data;
}

static struct CopySnapshot *
parse_snapshot(const char *text)
{
	struct CopySnapshot *snapshot = palloc0(sizeof(struct CopySnapshot));
	char	   *end;

	snapshot->xids = palloc((strlen(text) + 1) * sizeof(uint64));
	snapshot->xmin = strtou64(text, &end, 10);
	snapshot->xmax = strtou64(end + 1, &end, 10);
	while (end[0] != '\0' && end[1] != '\0')
		snapshot->xids[snapshot->n++] = strtou64(end + 1, &end, 10);
	return snapshot;
}

static bool
is_seen(const struct CopySnapshot *snapshot, TransactionId xid)
{
	uint64		full = with_epoch(xid);

	if (full < snapshot->xmin)
		return true;
	return full < snapshot->xmax &&
		bsearch(&full, snapshot->xids, snapshot->n, sizeof(uint64), compare_xids) == NULL;
}

bool
ordflow_copy_holds(const Copy *copy, TransactionId xid)
{
	if (!copy->is_fresh)
		return false;
	return copy->phase == COPY_WAITING || is_seen(copy->snapshot, xid);
}

/*
 * Has someone written his commit, which may have been streamed, without having left the list of
 * those in progress?
 */
static bool
is_between(Snapshot snapshot)
{
	for (uint32 i = 0; i < snapshot->xcnt; i++)
		if (TransactionIdDidCommit(snapshot->xip[i]))
			return true;
	return false;
}

/* ---- the ledger ---- */

static Statement read_copies = {
	.sql = "SELECT sync_id, phase, is_fresh, filter, snapshot, lsn, base, turn "
	"FROM ordflow.sync_copies WHERE phase <> 'done' AND sync_id = ANY($1) ORDER BY sync_id",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static Statement write_beginning = {
	.sql = "UPDATE ordflow.sync_copies SET phase = 'copying', snapshot = $2, lsn = $3, "
	"started_at = pg_catalog.clock_timestamp() WHERE sync_id = $1",
	.nargs = 3,
	.argtypes = {INT8OID, TEXTOID, LSNOID}
};

static Statement delete_places = {
	.sql = "DELETE FROM ordflow.sync_copy_places WHERE sync_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement insert_place = {
	.sql = "INSERT INTO ordflow.sync_copy_places (sync_id, relid, relfilenode, blocks) "
	"VALUES ($1, $2, $3, $4)",
	.nargs = 4,
	.argtypes = {INT8OID, OIDOID, OIDOID, INT8OID}
};

/* One that was begun goes before the others. */
static Statement next_place = {
	.sql = "SELECT relid, relfilenode, place, blocks, until FROM ordflow.sync_copy_places "
	"WHERE sync_id = $1 AND place < blocks << 16 ORDER BY until IS NULL, relid LIMIT 1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement begin_round = {
	.sql = "WITH places AS (UPDATE ordflow.sync_copy_places SET until = $3 "
	"WHERE sync_id = $1 AND relid = $2) "
	"UPDATE ordflow.sync_copies SET base = $4, turn = $5 WHERE sync_id = $1",
	.nargs = 5,
	.argtypes = {INT8OID, OIDOID, INT8OID, LSNOID, INT4OID}
};

static Statement end_round = {
	.sql = "UPDATE ordflow.sync_copy_places SET place = until << 16, until = NULL, "
	"rows = rows + $3, bytes = bytes + $4 WHERE sync_id = $1 AND relid = $2",
	.nargs = 4,
	.argtypes = {INT8OID, OIDOID, INT8OID, INT8OID}
};

/* As far as it came. */
static Statement cut_round = {
	.sql = "UPDATE ordflow.sync_copy_places SET until = NULL, "
	"place = greatest(place, least($2, until << 16)) WHERE sync_id = $1 AND until IS NOT NULL",
	.nargs = 2,
	.argtypes = {INT8OID, INT8OID}
};

static Statement drop_place = {
	.sql = "DELETE FROM ordflow.sync_copy_places WHERE sync_id = $1 AND relid = $2",
	.nargs = 2,
	.argtypes = {INT8OID, OIDOID}
};

static Statement set_following = {
	.sql = "UPDATE ordflow.sync_copies SET phase = 'following', lsn = $2 WHERE sync_id = $1",
	.nargs = 2,
	.argtypes = {INT8OID, LSNOID}
};

static Statement set_done = {
	.sql = "UPDATE ordflow.sync_copies SET phase = 'done', snapshot = NULL, "
	"finished_at = pg_catalog.clock_timestamp() WHERE sync_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement set_waiting = {
	.sql = "UPDATE ordflow.sync_copies SET phase = 'waiting', is_fresh = false, snapshot = NULL, "
	"lsn = NULL, restarts = restarts + 1, reason = $2 WHERE sync_id = $1",
	.nargs = 2,
	.argtypes = {INT8OID, TEXTOID}
};

static void
execute_one(Statement *statement, Datum *values)
{
	SPI_connect();
	ordflow_execute(statement, values, NULL);
	SPI_finish();
}

static Copy *
read_copy(uint64 row)
{
	Copy	   *copy = palloc0(sizeof(Copy));
	char	   *phase = ordflow_result_text(row, 2);
	char	   *snapshot = ordflow_result_text(row, 5);
	Datum		value;
	bool		isnull;

	copy->sync_id = ordflow_result_int64(row, 1);
	copy->phase = strcmp(phase, "waiting") == 0 ? COPY_WAITING :
		strcmp(phase, "copying") == 0 ? COPY_COPYING : COPY_FOLLOWING;
	copy->is_fresh = DatumGetBool(ordflow_result(row, 3, &isnull));
	copy->filter = ordflow_result_text(row, 4);
	if (snapshot != NULL)
		copy->snapshot = parse_snapshot(snapshot);
	value = ordflow_result(row, 6, &isnull);
	copy->lsn = isnull ? InvalidXLogRecPtr : DatumGetLSN(value);
	value = ordflow_result(row, 7, &isnull);
	copy->base = isnull ? InvalidXLogRecPtr : DatumGetLSN(value);
	value = ordflow_result(row, 8, &isnull);
	copy->turn = DatumGetInt32(value);
	copy->step = STEP_FIRST;
	return copy;
}

List *
ordflow_copies_load(List *syncs)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *copies = NIL;
	int64	   *ids = palloc((list_length(syncs) + 1) * sizeof(int64));
	int			n = 0;
	ListCell   *cell;
	Datum		value;
	uint64		found;

	foreach(cell, syncs)
		ids[n++] = ((SyncDefinition *) lfirst(cell))->sync_id;
	value = ordflow_int8_array(ids, n);
	found = ordflow_execute(&read_copies, &value, NULL);
	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < found; i++)
		copies = lappend(copies, read_copy(i));
	return copies;
}

/* ---- the beginning ---- */

/* The tables that rows of the source lie in, locked; false: somebody is in the way. */
static bool
open_tables(Oid source, List **relations)
{
	List	   *relids = list_make1_oid(source);
	ListCell   *cell;

	*relations = NIL;
	if (get_rel_relkind(source) == RELKIND_PARTITIONED_TABLE)
		relids = find_all_inheritors(source, NoLock, NULL);
	foreach(cell, relids)
	{
		Relation	relation;

		if (!ConditionalLockRelationOid(lfirst_oid(cell), AccessShareLock))
			return false;
		relation = try_relation_open(lfirst_oid(cell), NoLock);
		if (relation == NULL)
			continue;
		if (relation->rd_rel->relkind == RELKIND_RELATION)
			*relations = lappend(*relations, relation);
		else
			relation_close(relation, NoLock);
	}
	return true;
}

static void
write_places(Copy *copy, List *relations)
{
	Datum		values[4] = {Int64GetDatum(copy->sync_id)};
	ListCell   *cell;

	ordflow_execute(&delete_places, values, NULL);
	foreach(cell, relations)
	{
		Relation	relation = lfirst(cell);

		values[1] = ObjectIdGetDatum(RelationGetRelid(relation));
		values[2] = ObjectIdGetDatum(relation->rd_rel->relfilenode);
		values[3] = Int64GetDatum(RelationGetNumberOfBlocks(relation));
		ordflow_execute(&insert_place, values, NULL);
	}
}

static void
close_tables(List *relations)
{
	ListCell   *cell;

	foreach(cell, relations)
		relation_close(lfirst(cell), NoLock);
}

bool
ordflow_copy_begin(Copy *copy, Route *route)
{
	MemoryContext context = GetMemoryChunkContext(copy);
	MemoryContext before;
	Snapshot	snapshot;
	List	   *relations;
	Datum		values[3] = {Int64GetDatum(copy->sync_id)};
	char	   *text;

	/* whoever rewrites one of them has ended, and is seen */
	if (!open_tables(route->sync->source, &relations))
	{
		close_tables(relations);
		return false;
	}
	snapshot = GetLatestSnapshot();
	if (snapshot->suboverflowed || is_between(snapshot))
	{
		/* not all who are in progress are known */
		close_tables(relations);
		return false;
	}
	text = print_snapshot(snapshot);
	copy->lsn = GetXLogInsertRecPtr();
	values[1] = CStringGetTextDatum(text);
	values[2] = LSNGetDatum(copy->lsn);
	SPI_connect();
	write_places(copy, relations);
	close_tables(relations);
	ordflow_execute(&write_beginning, values, NULL);
	SPI_finish();
	before = MemoryContextSwitchTo(context);
	copy->snapshot = parse_snapshot(text);
	MemoryContextSwitchTo(before);
	copy->phase = COPY_COPYING;
	return true;
}

void
ordflow_copy_begin_again(Copy *copy, const char *reason)
{
	Datum		values[2] = {Int64GetDatum(copy->sync_id), CStringGetTextDatum(reason)};

	execute_one(&set_waiting, values);
	copy->phase = COPY_WAITING;
	copy->is_fresh = false;
	copy->snapshot = NULL;
	copy->table = InvalidOid;
}

void
ordflow_copy_done(Copy *copy)
{
	Datum		id = Int64GetDatum(copy->sync_id);

	execute_one(&set_done, &id);
}

/* ---- rounds ---- */

/*
 * Positions of a round stand behind all that was streamed and before all that will be: an LSN at
 * which no record begins, and a turn, both greater than any that was used.  False: there is none
 * left until the stream has moved.
 */
static bool
choose_base(Copy *copy, const SinkPosition *position, XLogRecPtr streamed)
{
	XLogRecPtr	base = position->lsn;
	int			turn = position->ordinal >> PLACE_BITS;

	if (copy->base > base || (copy->base == base && copy->turn > turn))
	{
		base = copy->base;
		turn = copy->turn;
	}
	if (streamed / MAXIMUM_ALIGNOF > base / MAXIMUM_ALIGNOF)
	{
		copy->base = TYPEALIGN_DOWN(MAXIMUM_ALIGNOF, streamed) | 1;
		copy->turn = 0;
		return true;
	}
	if (base % MAXIMUM_ALIGNOF == 0)
		turn = TURN_MAX;		/* the stream's own */
	turn = Min(turn, TURN_MAX);
	if (turn == TURN_MAX && (base + 1) % MAXIMUM_ALIGNOF == 0)
		return false;
	copy->base = turn == TURN_MAX ? base + 1 : base;
	copy->turn = turn == TURN_MAX ? 0 : turn + 1;
	return true;
}

static void
write_round(Copy *copy)
{
	Datum		values[5] = {Int64GetDatum(copy->sync_id), ObjectIdGetDatum(copy->table),
	Int64GetDatum(copy->until), LSNGetDatum(copy->base), Int32GetDatum(copy->turn)};

	ordflow_execute(&begin_round, values, NULL);
}

CopyRound
ordflow_copy_start_round(Copy *copy, const SinkPosition *position, XLogRecPtr streamed)
{
	Datum		values[2] = {Int64GetDatum(copy->sync_id)};
	bool		begun;
	bool		isnull;
	Datum		until;
	int64		place;

	SPI_connect();
	if (ordflow_execute(&next_place, values, NULL) == 0)
	{
		copy->lsn = GetXLogInsertRecPtr();
		values[1] = LSNGetDatum(copy->lsn);
		ordflow_execute(&set_following, values, NULL);
		SPI_finish();
		copy->phase = COPY_FOLLOWING;
		return COPY_ROUND_LAST;
	}
	copy->table = DatumGetObjectId(ordflow_result(0, 1, &isnull));
	copy->file = DatumGetObjectId(ordflow_result(0, 2, &isnull));
	place = ordflow_result_int64(0, 3);
	until = ordflow_result(0, 5, &begun);
	begun = !begun;
	copy->until = begun ? DatumGetInt64(until) :
		Min((place >> 16) + copy->step, ordflow_result_int64(0, 4));
	if (!begun && !choose_base(copy, position, streamed))
	{
		SPI_finish();
		return COPY_ROUND_NOT_NOW;
	}
	if (!begun)
		write_round(copy);
	SPI_finish();
	ItemPointerSet(&copy->at, place >> 16, place & 0xFFFF);
	copy->rows = copy->bytes = 0;
	copy->round_began = GetCurrentTimestamp();
	return COPY_ROUND_BEGUN;
}

void
ordflow_copy_end_round(Copy *copy)
{
	Datum		values[4] = {Int64GetDatum(copy->sync_id), ObjectIdGetDatum(copy->table),
	Int64GetDatum(copy->rows), Int64GetDatum(copy->bytes)};
	int64		took = GetCurrentTimestamp() - copy->round_began;

	execute_one(&end_round, values);
	copy->table = InvalidOid;
	if (took < ROUND_SHORT)
		copy->step = Min(copy->step * 2, STEP_MAX);
	else if (took > ROUND_LONG)
		copy->step = Max(copy->step / 2, 1);
}

void
ordflow_copy_cut_round(Copy *copy, const SinkPosition *position)
{
	bool		inside = position->lsn == copy->base &&
		position->ordinal >> PLACE_BITS == copy->turn;
	Datum		values[2] = {Int64GetDatum(copy->sync_id)};

	values[1] = Int64GetDatum(inside ? (position->ordinal & COPY_PLACE_LAST) + 1 : 0);
	execute_one(&cut_round, values);
}

SinkPosition
ordflow_copy_position(const Copy *copy, uint32 generation, uint64 place)
{
	return (SinkPosition) {
		.generation = generation,
		.lsn = copy->base,
		.ordinal = (uint64) copy->turn << PLACE_BITS | place
	};
}

bool
ordflow_copy_is_position(const SinkPosition *at)
{
	return at->lsn % MAXIMUM_ALIGNOF != 0;
}

/* ---- reading ---- */

/* Those rows of the round that the filter lets pass, by their place, in order. */
typedef struct CopyChosen
{
	bool		all;
	uint64		n;
	uint64		next;
	uint64	   *places;
} CopyChosen;

static uint64
place_of(ItemPointer tid)
{
	return (uint64) ItemPointerGetBlockNumber(tid) << 16 | ItemPointerGetOffsetNumber(tid);
}

static char *
filter_sql(Copy *copy, Relation relation)
{
	return psprintf("SELECT ctid FROM ONLY %s WHERE ctid >= '(%u,%u)' AND ctid < '(%u,0)' "
					"AND (%s\n) ORDER BY ctid",
					quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
											   RelationGetRelationName(relation)),
					ItemPointerGetBlockNumber(&copy->at), ItemPointerGetOffsetNumber(&copy->at),
					copy->until, copy->filter);
}

/* As the sync's role, whose policies count. */
static CopyChosen
choose_rows(Copy *copy, Route *route, Relation relation, Snapshot snapshot)
{
	CopyChosen	chosen = {.all = copy->filter == NULL};
	MemoryContext context = CurrentMemoryContext;
	RoleSwitch	saved;

	if (chosen.all)
		return chosen;
	saved = ordflow_role_enter(route->role, true);
	SPI_connect();
	PushActiveSnapshot(snapshot);
	if (SPI_execute(filter_sql(copy, relation), true, 0) != SPI_OK_SELECT)
		elog(ERROR, "the filter of a copy gave no rows");
	PopActiveSnapshot();
	MemoryContextSwitchTo(context);
	chosen.n = SPI_processed;
	chosen.places = palloc((chosen.n + 1) * sizeof(uint64));
	for (uint64 i = 0; i < chosen.n; i++)
	{
		bool		isnull;

		chosen.places[i] = place_of((ItemPointer) DatumGetPointer(ordflow_result(i, 1, &isnull)));
	}
	SPI_finish();
	ordflow_role_leave(saved);
	MemoryContextSwitchTo(context);
	return chosen;
}

static bool
is_chosen(CopyChosen *chosen, uint64 place)
{
	while (!chosen->all && chosen->next < chosen->n && chosen->places[chosen->next] < place)
		chosen->next++;
	return chosen->all || (chosen->next < chosen->n && chosen->places[chosen->next] == place);
}

/* Made by a transaction that the copy's snapshot sees: nobody has touched it since. */
static bool
is_same(const Copy *copy, HeapTuple tuple)
{
	return HeapTupleHeaderXminFrozen(tuple->t_data) ||
		is_seen(copy->snapshot, HeapTupleHeaderGetRawXmin(tuple->t_data));
}

static Size
row_bytes(TupleDesc desc, HeapTuple tuple)
{
	Size		bytes = tuple->t_len;

	if (!HeapTupleHasExternal(tuple))
		return bytes;
	for (int i = 0; i < desc->natts; i++)
	{
		bool		isnull;
		Datum		value;

		if (TupleDescAttr(desc, i)->attisdropped || TupleDescAttr(desc, i)->attlen != -1)
			continue;
		value = heap_getattr(tuple, i + 1, desc, &isnull);
		if (!isnull && VARATT_IS_EXTERNAL(DatumGetPointer(value)))
			bytes += toast_raw_datum_size(value);
	}
	return bytes;
}

/* In the current context, of the tuple that is in the slot. */
static bool
take_row(Copy *copy, Route *route, Relation relation, HeapTuple tuple, CopyTake take)
{
	RowRelation *row = ordflow_row_relation(relation);
	Size		bytes = row_bytes(RelationGetDescr(relation), tuple);
	bool		too_large = bytes > SYNC_ROW_MAX;
	Change		change = {.is_snapshot = true,.lsn = copy->base,.commit_lsn = copy->base};
	ChangeValue *values = palloc0((row->relation.ncolumns + 1) * sizeof(ChangeValue));

	if (HeapTupleHasExternal(tuple) && !too_large)
		tuple = toast_flatten_tuple(tuple, RelationGetDescr(relation));
	ordflow_row_values(row, relation, tuple, too_large, values);
	/* where something may be there already, a row that the filter refuses is removed */
	change.op = copy->is_fresh || route->sink.shape == SHAPE_EVENT ? CHANGE_INSERT : CHANGE_UPDATE;
	change.relation = &row->relation;
	change.values = values;
	change.committed_at = copy->round_began;
	copy->rows++;
	copy->bytes += bytes;
	return take(route, &change, place_of(&tuple->t_self), too_large);
}

/* Up to where take() has had enough; true: to the end of the round. */
static bool
read_rows(Copy *copy, Route *route, Relation relation, Snapshot snapshot, CopyTake take)
{
	CopyChosen	chosen = choose_rows(copy, route, relation, snapshot);
	TupleTableSlot *slot = table_slot_create(relation, NULL);
	ItemPointerData last;
	TableScanDesc scan;
	bool		more = true;

	ItemPointerSet(&last, copy->until - 1, MaxOffsetNumber);
	scan = table_beginscan_tidrange(relation, snapshot, &copy->at, &last);
	while (more && table_scan_getnextslot_tidrange(scan, ForwardScanDirection, slot))
	{
		HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, NULL);

		CHECK_FOR_INTERRUPTS();
		if (!is_chosen(&chosen, place_of(&tuple->t_self)) || !is_same(copy, tuple))
			continue;
		more = take_row(copy, route, relation, tuple, take);
		ItemPointerSet(&copy->at, ItemPointerGetBlockNumber(&tuple->t_self),
					   ItemPointerGetOffsetNumber(&tuple->t_self) + 1);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return more;
}

CopyRead
ordflow_copy_read(Copy *copy, Route *route, CopyTake take)
{
	Relation	relation;
	Datum		values[2] = {Int64GetDatum(copy->sync_id), ObjectIdGetDatum(copy->table)};
	CopyRead	result = COPY_READ_REWRITTEN;
	Snapshot	snapshot;
	int			nest;

	if (!ConditionalLockRelationOid(copy->table, AccessShareLock))
		return COPY_READ_NOT_NOW;
	relation = try_relation_open(copy->table, NoLock);
	if (relation == NULL)
	{
		UnlockRelationOid(copy->table, AccessShareLock);
		execute_one(&drop_place, values);
		copy->table = InvalidOid;
		return COPY_READ_NOT_NOW;
	}
	if (relation->rd_rel->relfilenode == copy->file)
	{
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		nest = ordflow_change_settings();
		if (is_between(snapshot))
			result = COPY_READ_NOT_NOW;
		else
			result = read_rows(copy, route, relation, snapshot, take) ? COPY_READ_ALL :
				COPY_READ_SOME;
		AtEOXact_GUC(true, nest);
		UnregisterSnapshot(snapshot);
	}
	relation_close(relation, NoLock);
	return result;
}

/*
 * counter.c
 *	  Escrow counters: taking, adding, and what the end of a transaction makes of it.
 *
 * THE PROTOCOL
 *
 * truth	what the committed rows make, in the latest snapshot.
 * value	in shared memory: truth less what open transactions have taken.
 * pending	in the backend: what its transaction has added and not used up.  Only the transaction
 *			itself may spend it.
 *
 * So value + taken = truth whenever no transaction is between the moment at which its rows
 * become visible and its callback, and never is value above what may be promised:
 *
 *	 take		compare-and-swap down, before the rows are written.  Rows that are never committed
 *				make value too small for a while, not too large.
 *	 add		value goes up in the commit callback.  That comes after the rows are visible, so
 *				value is again too small for a moment.
 *	 rollback	(also to a savepoint) value goes up by what was taken.  Savepoints are undone last
 *				first, so what was taken out of own adds is undone before the adds are.
 *
 * Each step lives in one place:
 *
 *	 gate		A heavyweight lock.  Transactions that use counters hold it RowExclusive from
 *				before their first pin to their end; writes to the rows that are not ours take it
 *				ShareRowExclusive.  So such a write waits for all who have something in flight
 *				and keeps new ones out, loads too; it drops the database's counters in its
 *				callback, which runs before its locks are let go.  (gate.c)
 *	 pin		Taken before the first row that changes the value is written, given back in the
 *				callback, after value was set right.  A counter with a pin stays.  Thus: when
 *				a counter is absent, no transaction has rows for it that a callback is still
 *				to account for.  (table.c)
 *	 load		The loader publishes the counter as loading, so that nobody else writes rows for
 *				it, and only then takes its snapshot: the latest, at every isolation level.
 *				By the above that snapshot shows all rows or none of each transaction that
 *				had a pin before, whose callbacks have run.  Then the counter is ready.  An
 *				error withdraws it in the abort callback.  (table.c)
 *	 evict		Only without pins and under the partition's exclusive lock, which a new pin
 *				needs shared.
 *	 fold		Moves rows from the ledger to the balance within one transaction: no snapshot sees
 *				another sum.  It needs no counter.  (stock/fold.c)
 *
 * Room in the journal is made before the compare-and-swap.  From there on to the end of the
 * transaction nothing may fail: the callbacks neither allocate nor raise.
 *
 * No counter is made in recovery: no callback runs there for what is replayed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "counter/internal.h"

/* more records than that are given back to the system at the end of the transaction */
#define RECORDS_KEPT 1024

/*
 * What a subtransaction has done to a counter.  pending and expiry are the whole transaction's,
 * as they are at this level; so a rollback has nothing to undo in them.
 */
typedef struct Record
{
	Counter    *counter;
	uint64		id;
	CounterKind kind;
	int			level;			/* nesting level of the subtransaction */
	int			outer;			/* the record of an outer level; -1 = none */
	int64		taken;
	int64		pending;
	TimestampTz expiry;
} Record;

typedef struct Latest
{
	uint64		id;
	uint32		kind;
	int			record;			/* of the innermost level */
	char		status;
} Latest;

#define SH_PREFIX latest
#define SH_ELEMENT_TYPE Latest
#define SH_KEY_TYPE uint64
#define SH_KEY id
#define SH_HASH_KEY(table, key) hash_bytes_uint32((uint32) (key ^ (key >> 32)))
#define SH_EQUAL(table, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static latest_hash *latest[COUNTER_KINDS];
static Record *records;			/* levels never go down from one to the next */
static int	nrecords;
static int	room;

/* Deadlines were changed otherwise than by the journal. */
static bool expiries_changed = false;

/* ---- the journal ---- */

static void
make_room(CounterKind kind)
{
	if (latest[kind] == NULL)
		latest[kind] = latest_create(TopMemoryContext, 16, NULL);
	if (nrecords < room)
		return;
	if (records == NULL)
		records = MemoryContextAlloc(TopMemoryContext, sizeof(Record) * 16);
	else
		records = repalloc_huge(records, sizeof(Record) * Max(16, (Size) room * 2));
	room = Max(16, room * 2);
}

static Record *
find_record(CounterKind kind, int64 id)
{
	Latest	   *index = latest[kind] == NULL ? NULL : latest_lookup(latest[kind], id);

	return index == NULL ? NULL : &records[index->record];
}

/* There is room, and the pin is ours. */
static Record *
append_record(CounterKind kind, int64 id, Counter *counter, Latest *index, int outer)
{
	Record	   *record = &records[nrecords];

	memset(record, 0, sizeof(Record));
	record->counter = counter;
	record->kind = kind;
	record->id = id;
	record->level = GetCurrentTransactionNestLevel();
	record->outer = outer;
	record->pending = outer >= 0 ? records[outer].pending : 0;
	record->expiry = outer >= 0 ? records[outer].expiry : DT_NOEND;
	index->record = nrecords++;
	return record;
}

/* The record of this subtransaction, of a counter that it or an outer one has pinned. */
static Record *
own_record(CounterKind kind, int64 id)
{
	Record	   *record;
	Latest	   *index;

	make_room(kind);
	index = latest_lookup(latest[kind], id);
	if (index == NULL)
		elog(ERROR, "counter %lld is not pinned", (long long) id);
	record = &records[index->record];
	if (record->level == GetCurrentTransactionNestLevel())
		return record;
	ordflow_counter_repin(record->counter);
	return append_record(kind, id, record->counter, index, index->record);
}

bool
ordflow_counter_pin(CounterKind kind, int64 id)
{
	Latest	   *index;
	Counter    *counter;
	bool		found;

	if (find_record(kind, id) != NULL)
	{
		own_record(kind, id);
		return true;
	}
	counter = ordflow_counter_acquire(kind, id);
	if (counter == NULL)
		return false;

	/* the loader's own statements may have moved the journal: room is made after them */
	PG_TRY();
	{
		make_room(kind);
		index = latest_insert(latest[kind], id, &found);
	}
	PG_CATCH();
	{
		ordflow_counter_unpin(counter);
		PG_RE_THROW();
	}
	PG_END_TRY();
	append_record(kind, id, counter, index, -1);
	return true;
}

bool
ordflow_counter_is_pinned(CounterKind kind, int64 id)
{
	return find_record(kind, id) != NULL;
}

/* ---- taking and adding ---- */

static bool
swap_down(Counter *counter, int64 quantity)
{
	uint64		value = pg_atomic_read_u64(&counter->value);

	do
	{
		if ((int64) value < quantity)
			return false;
	} while (!pg_atomic_compare_exchange_u64(&counter->value, &value,
											 (uint64) ((int64) value - quantity)));
	return true;
}

/* From own adds first, whatever is said of the rest. */
static void
note_taken(Record *record, int64 own, int64 rest)
{
	record->pending -= own;
	if (rest == 0)
		return;
	record->taken += rest;
	pg_atomic_fetch_add_u64(&record->counter->in_flight, rest);
	ordflow_holder_change(record->counter, rest);
}

int64
ordflow_counter_spendable(CounterKind kind, int64 id)
{
	Record	   *record = find_record(kind, id);
	int64		sum;

	if (record == NULL)
		elog(ERROR, "counter %lld is not pinned", (long long) id);
	if (pg_add_s64_overflow((int64) pg_atomic_read_u64(&record->counter->value), record->pending,
							&sum))
		return PG_INT64_MAX;
	return sum;
}

bool
ordflow_counter_take(CounterKind kind, int64 id, int64 quantity)
{
	Record	   *record = own_record(kind, id);
	int64		own = Min(record->pending, quantity);

	Assert(quantity > 0);
	if (quantity > own && !swap_down(record->counter, quantity - own))
		return false;
	note_taken(record, own, quantity - own);
	return true;
}

void
ordflow_counter_untake(CounterKind kind, int64 id, int64 quantity)
{
	Record	   *record = own_record(kind, id);
	int64		shared = Min(record->taken, quantity);

	record->taken -= shared;
	record->pending += quantity - shared;
	pg_atomic_fetch_add_u64(&record->counter->value, shared);
	pg_atomic_fetch_sub_u64(&record->counter->in_flight, shared);
	ordflow_holder_change(record->counter, -shared);
}

void
ordflow_counter_add(CounterKind kind, int64 id, int64 quantity)
{
	Record	   *record = own_record(kind, id);
	int64		pending;
	int64		sum;

	if (pg_add_s64_overflow(record->pending, quantity, &pending) ||
		pg_add_s64_overflow((int64) pg_atomic_read_u64(&record->counter->value), pending, &sum))
		ereport(ERROR,
				errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				errmsg("the sum of the quantities is out of range"));
	record->pending = pending;
}

void
ordflow_counter_shift(CounterKind kind, int64 id, int64 delta)
{
	Record	   *record = own_record(kind, id);

	if (delta >= 0)
		record->pending += delta;
	else
	{
		int64		own = Min(record->pending, -delta);

		pg_atomic_fetch_sub_u64(&record->counter->value, -delta - own);
		note_taken(record, own, -delta - own);
	}
}

/* ---- deadlines ---- */

static uint64
changes_by_hand(void)
{
	return pg_atomic_read_u64(ordflow_counter_changes());
}

static void
lower_expiry(Counter *counter, TimestampTz at)
{
	SpinLockAcquire(&counter->mutex);
	counter->expiry = Min(counter->expiry, at);
	counter->serial++;
	SpinLockRelease(&counter->mutex);
}

void
ordflow_counter_note_expiry(CounterKind kind, int64 id, TimestampTz at)
{
	Record	   *record = own_record(kind, id);

	record->expiry = Min(record->expiry, at);
}

/* Both parts of serial only go up: the sum is the same only if neither has. */
TimestampTz
ordflow_counter_expiry(CounterKind kind, int64 id, uint64 *serial)
{
	Record	   *record = find_record(kind, id);
	uint64		changes = changes_by_hand();
	TimestampTz expiry;

	if (record == NULL)
		elog(ERROR, "counter %lld is not pinned", (long long) id);
	SpinLockAcquire(&record->counter->mutex);
	expiry = record->counter->changes == changes ? record->counter->expiry : DT_NOBEGIN;
	*serial = record->counter->serial + changes;
	SpinLockRelease(&record->counter->mutex);
	return Min(expiry, record->expiry);
}

void
ordflow_counter_set_expiry(CounterKind kind, int64 id, TimestampTz at, uint64 serial)
{
	Record	   *record = find_record(kind, id);
	uint64		changes = changes_by_hand();

	if (record == NULL)
		elog(ERROR, "counter %lld is not pinned", (long long) id);
	SpinLockAcquire(&record->counter->mutex);
	if (record->counter->serial + changes == serial)
	{
		record->counter->expiry = at;
		record->counter->changes = changes;
	}
	SpinLockRelease(&record->counter->mutex);
}

/* At once for this transaction, and at its commit for those who could not see the change before. */
void
ordflow_counter_forget_expiries(void)
{
	ordflow_refuse_prepare("holds");
	if (ordflow_counters == NULL)
		return;
	pg_atomic_fetch_add_u64(ordflow_counter_changes(), 1);
	expiries_changed = true;
}

static int64
taken_by_us(const Record *record)
{
	int64		taken = 0;

	for (; record != NULL; record = record->outer < 0 ? NULL : &records[record->outer])
		taken += record->taken;
	return taken;
}

bool
ordflow_counter_look(CounterKind kind, int64 id, CounterState *state)
{
	Record	   *record = find_record(kind, id);
	CounterCopy copy;

	if (ordflow_counters == NULL || RecoveryInProgress() || ordflow_gate_is_closed_by_us() ||
		!ordflow_counter_copy(ordflow_counter_key(kind, id), &copy))
		return false;
	state->value = copy.value;
	state->in_flight = copy.in_flight - taken_by_us(record);
	state->own = record == NULL ? 0 : record->pending;
	return true;
}

/* ---- the end of a (sub)transaction ---- */

/* Gives back what was taken, and the pin. */
static void
undo(Record *record)
{
	if (record->taken != 0)
	{
		pg_atomic_fetch_add_u64(&record->counter->value, record->taken);
		pg_atomic_fetch_sub_u64(&record->counter->in_flight, record->taken);
		ordflow_holder_change(record->counter, -record->taken);
	}
	ordflow_counter_unpin(record->counter);
}

static void
settle(Record *record)
{
	if (record->expiry != DT_NOEND)
		lower_expiry(record->counter, record->expiry);
	if (record->pending != 0)
		pg_atomic_fetch_add_u64(&record->counter->value, record->pending);
	if (record->taken != 0)
		pg_atomic_fetch_sub_u64(&record->counter->in_flight, record->taken);
	ordflow_counter_unpin(record->counter);
}

static void
journal_end(void)
{
	for (int i = 0; i < COUNTER_KINDS; i++)
	{
		if (latest[i] == NULL || latest[i]->members == 0)
			continue;
		if (latest[i]->size <= RECORDS_KEPT)
			latest_reset(latest[i]);
		else
		{
			latest_destroy(latest[i]);
			latest[i] = NULL;
		}
	}
	nrecords = 0;
	if (room > RECORDS_KEPT)
	{
		pfree(records);
		records = NULL;
		room = 0;
	}
}

static void
at_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			/* what a holder lists must be pinned */
			if (nrecords > 0)
				ordflow_holder_clear();
			for (int i = 0; i < nrecords; i++)
				settle(&records[i]);
			if (expiries_changed)
				pg_atomic_fetch_add_u64(ordflow_counter_changes(), 1);
			break;
		case XACT_EVENT_ABORT:
			for (int i = 0; i < nrecords; i++)
				undo(&records[i]);
			ordflow_counter_withdraw();
			break;
		case XACT_EVENT_PREPARE:
			break;
		default:
			return;
	}
	expiries_changed = false;
	if (nrecords > 0)
		journal_end();
	ordflow_gate_at_end();
}

static void
roll_back_level(int level)
{
	while (nrecords > 0 && records[nrecords - 1].level >= level)
	{
		Record	   *record = &records[--nrecords];

		undo(record);
		if (record->outer >= 0)
			latest_lookup(latest[record->kind], record->id)->record = record->outer;
		else
			latest_delete(latest[record->kind], record->id);
	}
}

/* What the subtransaction did becomes its parent's. */
static void
commit_level(int level)
{
	int			first = nrecords;
	int			kept;

	while (first > 0 && records[first - 1].level >= level)
		first--;
	kept = first;
	for (int i = first; i < nrecords; i++)
	{
		Record	   *record = &records[i];
		Latest	   *index = latest_lookup(latest[record->kind], record->id);

		if (record->outer >= 0 && records[record->outer].level == level - 1)
		{
			Record	   *outer = &records[record->outer];

			outer->taken += record->taken;
			outer->pending = record->pending;
			outer->expiry = record->expiry;
			index->record = record->outer;
			ordflow_counter_unpin(record->counter);
			continue;
		}
		record->level = level - 1;
		index->record = kept;
		records[kept++] = *record;
	}
	nrecords = kept;
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent,
					  void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		roll_back_level(level);
		ordflow_counter_withdraw();
		ordflow_gate_at_subtransaction_end(false, level);
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		commit_level(level);
		ordflow_gate_at_subtransaction_end(true, level);
	}
}

void
ordflow_counter_init(void)
{
	if (ordflow_preloaded)
		ordflow_counter_table_init();
	ordflow_gate_init();
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

/*
 * holder.c
 *	  Who holds what in an open transaction, for the view ordflow.reservations; and how the
 *	  counters compare with the rows, for ordflow.audit().
 *
 * Each backend has an area of its own, with room for as many counters as a customer's order
 * has; what a bulk call takes beyond that is not listed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "counter/internal.h"

PG_FUNCTION_INFO_V1(ordflow_open_reservations);
PG_FUNCTION_INFO_V1(ordflow_counter_differences);

#define HELD_MAX 64

typedef struct Held
{
	const Counter *counter;		/* pinned by the backend whose area it is */
	int64		quantity;
} Held;

/* The mutex guards all of it; only its backend writes. */
typedef struct Holder
{
	slock_t		mutex;
	pid_t		pid;
	Oid			database;
	TimestampTz since;
	int			n;
	Held		held[HELD_MAX];
} Holder;

static Holder *holders = NULL;

Size
ordflow_holders_size(void)
{
	return mul_size(sizeof(Holder), MaxBackends);
}

void
ordflow_holders_attach(void *memory, bool found)
{
	holders = memory;
	if (found)
		return;
	memset(holders, 0, ordflow_holders_size());
	for (int i = 0; i < MaxBackends; i++)
		SpinLockInit(&holders[i].mutex);
}

static void
change(Holder *holder, const Counter *counter, int64 quantity)
{
	int			i = 0;

	while (i < holder->n && holder->held[i].counter != counter)
		i++;
	if (i == HELD_MAX || (i == holder->n && quantity < 0))
		return;
	if (i == holder->n)
		holder->held[holder->n++] = (Held) {.counter = counter};
	holder->held[i].quantity += quantity;
	if (holder->held[i].quantity <= 0)
		holder->held[i] = holder->held[--holder->n];
}

void
ordflow_holder_change(const Counter *counter, int64 quantity)
{
	Holder	   *holder = &holders[ordflow_proc_number];
	TimestampTz since = GetCurrentTransactionStartTimestamp();

	if (quantity == 0)
		return;
	SpinLockAcquire(&holder->mutex);
	holder->pid = MyProcPid;
	holder->database = MyDatabaseId;
	holder->since = since;
	change(holder, counter, quantity);
	SpinLockRelease(&holder->mutex);
}

void
ordflow_holder_clear(void)
{
	Holder	   *holder = &holders[ordflow_proc_number];

	SpinLockAcquire(&holder->mutex);
	holder->n = 0;
	SpinLockRelease(&holder->mutex);
}

/* (pid, stock_id, quantity, since) */
Datum
ordflow_open_reservations(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Holder	   *copy = palloc(sizeof(Holder));
	Oid			stock = ordflow_counter_key(COUNTER_STOCK, 0).relation;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < MaxBackends && holders != NULL; i++)
	{
		int64		ids[HELD_MAX];

		SpinLockAcquire(&holders[i].mutex);
		*copy = holders[i];
		/* while it stands here it is pinned, and has the key that it had */
		for (int j = 0; j < copy->n; j++)
			ids[j] = copy->held[j].counter->key.relation == stock ?
				copy->held[j].counter->key.id : 0;
		SpinLockRelease(&holders[i].mutex);
		/* what this transaction has taken it sees in the tables */
		if (copy->database != MyDatabaseId || copy->pid == MyProcPid)
			continue;
		for (int j = 0; j < copy->n; j++)
		{
			Datum		values[4];
			bool		nulls[4] = {false};

			if (ids[j] == 0)
				continue;
			values[0] = Int32GetDatum(copy->pid);
			values[1] = Int64GetDatum(ids[j]);
			values[2] = Int64GetDatum(copy->held[j].quantity);
			values[3] = TimestampTzGetDatum(copy->since);
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		}
	}
	return (Datum) 0;
}

/* ---- counters against rows ---- */

static int
copy_quiet_counters(CounterKind kind, CounterCopy *copies)
{
	Oid			relation = ordflow_counter_key(kind, 0).relation;
	int			n = 0;

	for (int i = 0; i < ordflow_counter_count(); i++)
		if (ordflow_counter_copy_at(i, MyDatabaseId, &copies[n]) &&
			copies[n].key.relation == relation && copies[n].pins == 0)
			n++;
	return n;
}

/* Has nobody had a pin since the copy was made? */
static bool
is_still_quiet(const CounterCopy *copy)
{
	CounterCopy now;

	return ordflow_counter_copy(copy->key, &now) && now.version == copy->version && now.pins == 0;
}

/*
 * (kind, id, counter, rows).  A seller pins the counter before it writes rows.  So where nobody has
 * pinned it since before the snapshot was taken, the snapshot shows what the counter stands for.
 * A counter may outlive its row, which a transaction made that was rolled back.
 */
Datum
ordflow_counter_differences(PG_FUNCTION_ARGS)
{
	static const char *const names[COUNTER_KINDS] = {"stock", "coupon"};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	CounterCopy *copies;
	Oid			gate = ordflow_relid("counter_gate");

	InitMaterializedSRF(fcinfo, 0);
	/* beside a direct write, of which the counters know at its end, there is nothing to compare */
	if (ordflow_counter_count() == 0 || RecoveryInProgress() || ordflow_gate_is_closed_by_us() ||
		!ConditionalLockRelationOid(gate, RowExclusiveLock))
		return (Datum) 0;
	copies = MemoryContextAllocHuge(CurrentMemoryContext,
									sizeof(CounterCopy) * Max(ordflow_counter_count(), 1));
	for (int kind = 0; kind < COUNTER_KINDS; kind++)
	{
		int			n = copy_quiet_counters(kind, copies);
		Snapshot	snapshot;

		if (n == 0)
			continue;
		snapshot = ordflow_register_latest();
		for (int i = 0; i < n; i++)
		{
			int64		rows = 0;
			bool		exists;
			Datum		values[4];
			bool		nulls[4] = {false};

			CHECK_FOR_INTERRUPTS();
			exists = ordflow_counter_source(kind)->load(copies[i].key.id, snapshot, &rows);
			if (!exists || rows == copies[i].value || !is_still_quiet(&copies[i]))
				continue;
			values[0] = CStringGetTextDatum(names[kind]);
			values[1] = Int64GetDatum(copies[i].key.id);
			values[2] = Int64GetDatum(copies[i].value);
			values[3] = Int64GetDatum(rows);
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
		}
		UnregisterSnapshot(snapshot);
	}
	UnlockRelationOid(gate, RowExclusiveLock);
	return (Datum) 0;
}

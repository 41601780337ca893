/*
 * available.c
 *	  What may still be promised: the narrow check that every sale goes through.
 *
 * It is decided by the counter of the stock row, in shared memory: nobody waits for anybody, and
 * what is sold out is answered at once.  Rows are taken in the order of stock_id, and only when
 * all that an order wants is there: so of two buyers of the same two skus one gets them, and
 * not each of them one.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "counter/counter.h"
#include "stock/stock.h"

#define NAME_KEYS 2

/* OFFSET 0: expired holds are few, lines many, so no hash over all the lines */
static Statement sum_expired = {
	.sql = "SELECT l.stock_id, sum(l.quantity)::bigint"
	" FROM ordflow.holds h, LATERAL ("
	"  SELECT l.stock_id, l.quantity FROM ordflow.hold_lines l"
	"  WHERE l.reference = h.reference AND l.stock_id = ANY ($2) OFFSET 0) AS l"
	" WHERE h.state = 'held' AND h.expires_at <= $1"
	" GROUP BY l.stock_id",
	.nargs = 2,
	.argtypes = {TIMESTAMPTZOID, INT8ARRAYOID}
};

/* ---- rows by name ---- */

/* The table while it is open. */
typedef struct Names
{
	Relation	rel;
	Relation	index;
	Snapshot	snapshot;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	AttrNumber	stock_id;
} Names;

/* With the latest snapshot: a sku is what it is called now. */
static void
names_open(Names *names)
{
	names->rel = table_open(ordflow_relid("stock"), AccessShareLock);
	names->index = index_open(ordflow_relid("stock_sku_location_key"), AccessShareLock);
	names->stock_id = SPI_fnumber(RelationGetDescr(names->rel), "stock_id");
	names->snapshot = ordflow_register_latest();
	names->scan = ordflow_index_beginscan(names->rel, names->index, names->snapshot, NAME_KEYS);
	names->slot = table_slot_create(names->rel, NULL);
}

static void
names_close(Names *names)
{
	index_endscan(names->scan);
	ExecDropSingleTupleTableSlot(names->slot);
	UnregisterSnapshot(names->snapshot);
	index_close(names->index, NoLock);
	table_close(names->rel, NoLock);
}

/* 0 = there is no such row. */
static int64
names_find(Names *names, const char *sku, const char *location)
{
	const char *values[NAME_KEYS] = {sku, location};
	ScanKeyData keys[NAME_KEYS];
	int64		stock_id = 0;
	bool		isnull;

	for (int i = 0; i < NAME_KEYS; i++)
		ScanKeyEntryInitialize(&keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid,
							   C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(values[i]));
	index_rescan(names->scan, keys, NAME_KEYS, NULL, 0);
	if (index_getnext_slot(names->scan, ForwardScanDirection, names->slot))
		stock_id = DatumGetInt64(slot_getattr(names->slot, names->stock_id, &isnull));
	ExecClearTuple(names->slot);
	return stock_id;
}

int64
ordflow_stock_find(const char *sku, const char *location)
{
	Names		names;
	int64		stock_id;

	names_open(&names);
	stock_id = names_find(&names, sku, location);
	names_close(&names);
	return stock_id;
}

/* Fills in stock_id of the demands; those of owners that are out have 0. */
static void
find_rows(StockDemand *demands, int ndemands, const bool *granted)
{
	Names		names;

	names_open(&names);
	for (int i = 0; i < ndemands; i++)
	{
		StockDemand *demand = &demands[i];

		CHECK_FOR_INTERRUPTS();
		demand->available = 0;
		demand->in_flight = 0;
		demand->stock_id = granted != NULL && !granted[demand->owner] ? 0 :
			names_find(&names, demand->sku, demand->location);
	}
	names_close(&names);
}

/* ---- the counter of a row ---- */

static bool
load_available(int64 stock_id, Snapshot snapshot, int64 *value)
{
	StockLevel	level;

	if (!ordflow_stock_level(stock_id, snapshot, &level))
		return false;
	*value = ordflow_stock_sum(level.on_hand, -level.reserved);
	return true;
}

void
ordflow_stock_init(void)
{
	static const CounterSource source = {.relname = "stock", .load = load_available};

	ordflow_counter_register(COUNTER_STOCK, &source);
}

/*
 * Holds that have expired count as released, whether or not the worker has come by.  When the next
 * one expires is kept with the counter, so that what is sold out is not looked up each time.
 *
 * A serializable transaction leaves them to others: to it, all that it reads of holds is a conflict
 * with whoever writes one beside it.
 */
static bool
release_expired(int64 stock_id)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64		serial;
	int			released;

	if (IsolationIsSerializable())
		return false;
	if (ordflow_counter_expiry(COUNTER_STOCK, stock_id, &serial) > now)
		return false;
	released = ordflow_stock_release_expired(stock_id, now);
	if (released == 0 && !ordflow_stock_has_ended_holds())
		ordflow_counter_set_expiry(COUNTER_STOCK, stock_id, ordflow_stock_next_expiry(), serial);
	return released > 0;
}

static bool
is_there(int64 stock_id, int64 quantity, int64 *available)
{
	*available = ordflow_counter_spendable(COUNTER_STOCK, stock_id);
	return *available >= quantity;
}

bool
ordflow_stock_take(int64 stock_id, int64 quantity, int64 *available)
{
	ordflow_counter_enter("stock");
	if (!ordflow_counter_pin(COUNTER_STOCK, stock_id))
	{
		*available = 0;
		return false;
	}
	do
	{
		CHECK_FOR_INTERRUPTS();
		if (!is_there(stock_id, quantity, available) &&
			!(release_expired(stock_id) && is_there(stock_id, quantity, available)))
			return false;
	} while (!ordflow_counter_take(COUNTER_STOCK, stock_id, quantity));
	return true;
}

int64
ordflow_stock_available(int64 stock_id)
{
	CounterState state;
	int64		value = 0;
	Snapshot	snapshot;

	if (ordflow_counter_look(COUNTER_STOCK, stock_id, &state))
		return state.value + state.own;
	snapshot = ordflow_register_latest();
	load_available(stock_id, snapshot, &value);
	UnregisterSnapshot(snapshot);
	return value;
}

/* ---- orders ---- */

static int
compare_stock_ids(const void *a, const void *b)
{
	int64		l = (*(StockDemand *const *) a)->stock_id;
	int64		r = (*(StockDemand *const *) b)->stock_id;

	return (l > r) - (l < r);
}

/* Says of each demand what is there for it; true when that is enough of all. */
static bool
look_at_all(StockDemand **demands, int n)
{
	bool		enough = true;

	for (int i = 0; i < n; i++)
	{
		StockDemand *demand = demands[i];
		CounterState state;

		if (demand->stock_id == 0)
			enough = false;
		else if (!is_there(demand->stock_id, demand->quantity, &demand->available) &&
				 !(release_expired(demand->stock_id) &&
				   is_there(demand->stock_id, demand->quantity, &demand->available)))
		{
			enough = false;
			if (ordflow_counter_look(COUNTER_STOCK, demand->stock_id, &state))
				demand->in_flight = state.in_flight;
		}
	}
	return enough;
}

/* All or nothing; false: somebody came between. */
static bool
take_all(StockDemand **demands, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (ordflow_counter_take(COUNTER_STOCK, demands[i]->stock_id, demands[i]->quantity))
			continue;
		while (--i >= 0)
			ordflow_counter_untake(COUNTER_STOCK, demands[i]->stock_id, demands[i]->quantity);
		return false;
	}
	return true;
}

/* Decides about one owner, whose demands are n from first on. */
static bool
decide_owner(StockDemand *first, int n)
{
	StockDemand *one[1] = {first};
	StockDemand **demands = n == 1 ? one : palloc(sizeof(StockDemand *) * n);
	bool		granted;

	for (int i = 0; i < n; i++)
	{
		demands[i] = &first[i];
		if (first[i].stock_id != 0 && !ordflow_counter_pin(COUNTER_STOCK, first[i].stock_id))
			first[i].stock_id = 0;
	}
	if (n > 1)
		qsort(demands, n, sizeof(StockDemand *), compare_stock_ids);
	do
	{
		CHECK_FOR_INTERRUPTS();
		granted = look_at_all(demands, n);
	} while (granted && !take_all(demands, n));
	if (n > 1)
		pfree(demands);
	return granted;
}

void
ordflow_stock_reserve(StockDemand *demands, int ndemands, bool *granted, int nowners)
{
	int			last;

	if (ndemands == 0)
		return;
	ordflow_counter_enter("stock");
	find_rows(demands, ndemands, granted);
	for (int first = 0; first < ndemands; first = last)
	{
		int			owner = demands[first].owner;

		for (last = first + 1; last < ndemands; last++)
			if (demands[last].owner != owner)
				break;
		if (granted[owner])
			granted[owner] = decide_owner(&demands[first], last - first);
	}
}

void
ordflow_stock_unreserve(const StockDemand *demands, int ndemands)
{
	for (int i = 0; i < ndemands; i++)
		ordflow_counter_untake(COUNTER_STOCK, demands[i].stock_id, demands[i].quantity);
}

/* What expired holds stand on: units that count as available. */
static void
add_expired(StockDemand *demands, int ndemands)
{
	int64	   *stock_ids = palloc(sizeof(int64) * ndemands);
	Datum		values[2];
	uint64		found;

	for (int i = 0; i < ndemands; i++)
		stock_ids[i] = demands[i].stock_id;
	values[0] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[1] = ordflow_int8_array(stock_ids, ndemands);
	found = ordflow_execute(&sum_expired, values, NULL);
	for (uint64 i = 0; i < found; i++)
		for (int j = 0; j < ndemands; j++)
			if (demands[j].stock_id == ordflow_result_int64(i, 1))
				demands[j].available += ordflow_result_int64(i, 2);
	SPI_freetuptable(SPI_tuptable);
}

void
ordflow_stock_look(StockDemand *demands, int ndemands)
{
	if (ndemands == 0)
		return;
	find_rows(demands, ndemands, NULL);
	for (int i = 0; i < ndemands; i++)
	{
		CounterState state;

		if (demands[i].stock_id == 0)
			continue;
		demands[i].available = ordflow_stock_available(demands[i].stock_id);
		if (ordflow_counter_look(COUNTER_STOCK, demands[i].stock_id, &state))
			demands[i].in_flight = state.in_flight;
	}
	add_expired(demands, ndemands);
}

void
ordflow_stock_put_problem(JsonBuild *b, const StockDemand *demand)
{
	ordflow_json_put_text(b, "sku", demand->sku);
	ordflow_json_put_text(b, "location", demand->location);
	if (demand->stock_id == 0)
		return;
	ordflow_json_put_int64(b, "requested", demand->quantity);
	ordflow_json_put_int64(b, "available", demand->available);
	if (demand->in_flight > 0)
		ordflow_json_put_int64(b, "in_flight", demand->in_flight);
}

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

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "counter/counter.h"
#include "stock/names.h"
#include "stock/stock.h"

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

/* Fills in stock_id of the demands that have none.  in_gate: the caller has passed the gate. */
static void
find_rows(StockDemand *demands, int ndemands, bool in_gate)
{
	StockNames	names;

	ordflow_stock_names_open(&names, in_gate);
	for (int i = 0; i < ndemands; i++)
	{
		StockDemand *demand = &demands[i];

		CHECK_FOR_INTERRUPTS();
		demand->available = 0;
		demand->in_flight = 0;
		if (demand->stock_id == 0)
			demand->stock_id = ordflow_stock_names_find(&names, demand->sku, demand->location);
	}
	ordflow_stock_names_close(&names);
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

/* Decides about one owner, whose demands are n from first on; take: gives him what he wants. */
static bool
decide_owner(StockDemand *first, int n, bool take)
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
	} while (granted && take && !take_all(demands, n));
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
	find_rows(demands, ndemands, true);
	for (int first = 0; first < ndemands; first = last)
	{
		int			owner = demands[first].owner;

		for (last = first + 1; last < ndemands; last++)
			if (demands[last].owner != owner)
				break;
		if (granted[owner])
			granted[owner] = decide_owner(&demands[first], last - first, true);
	}
}

/* As far as counters tell that are loaded; cheap, so that a sale hardly pays for it. */
static bool
seems_there(const StockDemand *demand)
{
	CounterState state;

	return demand->stock_id != 0 &&
		(!ordflow_counter_look(COUNTER_STOCK, demand->stock_id, &state) ||
		 state.value + state.own >= demand->quantity);
}

bool
ordflow_stock_is_sold_out(StockDemand *demands, int ndemands)
{
	bool		enough = true;

	if (ndemands == 0)
		return false;
	/* nobody renames what is found now, until this transaction ends */
	ordflow_counter_enter("stock");
	find_rows(demands, ndemands, true);
	for (int i = 0; i < ndemands && enough; i++)
		enough = seems_there(&demands[i]);
	return !enough && !decide_owner(demands, ndemands, false);
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
	find_rows(demands, ndemands, false);
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

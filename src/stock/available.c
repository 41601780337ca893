/*
 * available.c
 *	  What may still be promised: the narrow check that every sale goes through.
 *
 * The check is the column ordflow.stock.available, changed under the lock of its
 * row.  It is the part of stock that an escrow counter in shared memory is
 * meant to replace, so nothing outside of this file reads or writes that
 * column to decide about a sale.
 *
 * At READ COMMITTED the loser of a race for the last unit waits for the winner
 * and then sees what is left; at the higher levels it gets 40001.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "stock/row.h"
#include "stock/stock.h"

/* The distinct (sku, location) of a batch. */
typedef struct Pair
{
	const char *sku;
	const char *location;
} Pair;

typedef struct PairEntry
{
	Pair		pair;
	int			row;			/* index into Batch.rows */
	char		status;
} PairEntry;

static inline uint32
pair_hash(Pair pair)
{
	return hash_combine(hash_bytes((const unsigned char *) pair.sku, strlen(pair.sku)),
						hash_bytes((const unsigned char *) pair.location, strlen(pair.location)));
}

static inline bool
pair_equal(Pair a, Pair b)
{
	return strcmp(a.sku, b.sku) == 0 && strcmp(a.location, b.location) == 0;
}

#define SH_PREFIX pairs
#define SH_ELEMENT_TYPE PairEntry
#define SH_KEY_TYPE Pair
#define SH_KEY pair
#define SH_HASH_KEY(table, key) pair_hash(key)
#define SH_EQUAL(table, a, b) pair_equal(a, b)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* A stock row that the batch is about. */
typedef struct StockRow
{
	Pair		pair;
	StockRowRef ref;
	int64		taken;			/* by owners granted so far */
	bool		is_short;		/* some owner was refused for want of it */
} StockRow;

typedef struct Batch
{
	StockDemand *demands;
	int			ndemands;
	StockRow  **row_of;			/* of each demand */
	StockRow   *rows;
	int			nrows;
	bool	   *granted;
	int			nowners;
} Batch;

/*
 * Expired holds are few, lines of holds many: OFFSET 0 keeps the planner from a
 * hash over all the lines, here and below.
 */
static Statement look_at_one = {
	.sql = "SELECT s.stock_id, s.available, EXISTS ("
	"  SELECT FROM ordflow.holds h WHERE h.state = 'held' AND h.expires_at <= $3 AND EXISTS ("
	"   SELECT FROM ordflow.hold_lines l"
	"   WHERE l.reference = h.reference AND l.stock_id = s.stock_id OFFSET 0) OFFSET 0)"
	" FROM ordflow.stock s WHERE s.sku = $1 AND s.location = $2",
	.nargs = 3,
	.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

static Statement look_at_rows = {
	.sql = "SELECT i.n, s.stock_id, s.available"
	" FROM unnest($1, $2) WITH ORDINALITY AS i (sku, location, n)"
	" JOIN ordflow.stock s ON s.sku = i.sku AND s.location = i.location",
	.nargs = 2,
	.argtypes = {TEXTARRAYOID, TEXTARRAYOID}
};

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

/* Finds the distinct (sku, location) of the demands of owners still in. */
static void
batch_init(Batch *batch, StockDemand *demands, int ndemands, bool *granted, int nowners)
{
	pairs_hash *hash = pairs_create(CurrentMemoryContext, ndemands, NULL);

	memset(batch, 0, sizeof(Batch));
	batch->demands = demands;
	batch->ndemands = ndemands;
	batch->granted = granted;
	batch->nowners = nowners;
	batch->rows = MemoryContextAllocExtended(CurrentMemoryContext, sizeof(StockRow) * ndemands,
											 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	batch->row_of = MemoryContextAllocExtended(CurrentMemoryContext,
											   sizeof(StockRow *) * ndemands,
											   MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < ndemands; i++)
	{
		Pair		pair = {demands[i].sku, demands[i].location};
		PairEntry  *entry;
		bool		found;

		demands[i].stock_id = 0;
		demands[i].available = 0;
		if (granted != NULL && !granted[demands[i].owner])
			continue;
		entry = pairs_insert(hash, pair, &found);
		if (!found)
		{
			entry->row = batch->nrows;
			batch->rows[batch->nrows++].pair = pair;
		}
		batch->row_of[i] = &batch->rows[entry->row];
	}
	pairs_destroy(hash);
}

/* Reads stock_id and available of the rows, without a lock. */
static void
batch_look(Batch *batch)
{
	const char **skus = palloc(sizeof(char *) * batch->nrows);
	const char **locations = palloc(sizeof(char *) * batch->nrows);
	Datum		values[2];
	uint64		found;

	for (int i = 0; i < batch->nrows; i++)
	{
		skus[i] = batch->rows[i].pair.sku;
		locations[i] = batch->rows[i].pair.location;
		batch->rows[i].ref.stock_id = 0;
		batch->rows[i].ref.available = 0;
	}
	values[0] = ordflow_text_array(skus, batch->nrows);
	values[1] = ordflow_text_array(locations, batch->nrows);
	found = ordflow_execute(&look_at_rows, values, NULL);
	for (uint64 i = 0; i < found; i++)
	{
		StockRow   *row = &batch->rows[ordflow_result_int64(i, 1) - 1];

		row->ref.stock_id = ordflow_result_int64(i, 2);
		row->ref.available = ordflow_result_int64(i, 3);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Decides about one owner, whose demands are from first to before last. */
static bool
decide_owner(Batch *batch, int first, int last)
{
	bool		granted = true;

	for (int i = first; i < last; i++)
	{
		StockDemand *demand = &batch->demands[i];
		StockRow   *row = batch->row_of[i];

		demand->stock_id = row->ref.stock_id;
		demand->available = row->ref.available - row->taken;
		if (demand->stock_id != 0 && demand->quantity <= demand->available)
			continue;
		granted = false;
		row->is_short = row->ref.stock_id != 0;
	}
	if (granted)
		for (int i = first; i < last; i++)
			batch->row_of[i]->taken += batch->demands[i].quantity;
	return granted;
}

/* Decides in the order of owners, each with what the earlier ones left. */
static void
batch_decide(Batch *batch)
{
	int			last;

	for (int i = 0; i < batch->nrows; i++)
	{
		batch->rows[i].taken = 0;
		batch->rows[i].is_short = false;
	}
	for (int first = 0; first < batch->ndemands; first = last)
	{
		int			owner = batch->demands[first].owner;

		CHECK_FOR_INTERRUPTS();
		for (last = first + 1; last < batch->ndemands; last++)
			if (batch->demands[last].owner != owner)
				break;
		if (batch->granted[owner])
			batch->granted[owner] = decide_owner(batch, first, last);
	}
}

static bool
batch_is_short(const Batch *batch)
{
	for (int i = 0; i < batch->nrows; i++)
		if (batch->rows[i].is_short)
			return true;
	return false;
}

/* Releases expired holds on the rows that fell short; true when there were some. */
static bool
batch_release_expired(const Batch *batch)
{
	int64	   *stock_ids = palloc(sizeof(int64) * batch->nrows);
	int			n = 0;

	for (int i = 0; i < batch->nrows; i++)
		if (batch->rows[i].is_short)
			stock_ids[n++] = batch->rows[i].ref.stock_id;
	return n > 0 && ordflow_stock_release_expired(stock_ids, n, GetCurrentTimestamp()) > 0;
}

static int
compare_stock_ids(const void *a, const void *b)
{
	int64		l = (*(StockRow *const *) a)->ref.stock_id;
	int64		r = (*(StockRow *const *) b)->ref.stock_id;

	return (l > r) - (l < r);
}

/* Locks the rows of the batch in the order of stock_id. */
static void
batch_lock(Batch *batch, StockRows *rows)
{
	StockRow  **sorted = palloc(sizeof(StockRow *) * batch->nrows);

	for (int i = 0; i < batch->nrows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		sorted[i] = &batch->rows[i];
		ordflow_stock_row_find(rows, sorted[i]->pair.sku, sorted[i]->pair.location,
							   &sorted[i]->ref);
	}
	qsort(sorted, batch->nrows, sizeof(StockRow *), compare_stock_ids);
	for (int i = 0; i < batch->nrows; i++)
		if (sorted[i]->ref.stock_id != 0)
			ordflow_stock_row_lock(rows, &sorted[i]->ref);
	pfree(sorted);
}

static void
batch_take(Batch *batch, StockRows *rows)
{
	for (int i = 0; i < batch->nrows; i++)
		if (batch->rows[i].taken > 0)
			ordflow_stock_row_set(rows, &batch->rows[i].ref,
								  batch->rows[i].ref.available - batch->rows[i].taken);
}

static void
reserve_many(StockDemand *demands, int ndemands, bool *granted, int nowners)
{
	Batch		batch;
	StockRows	rows;
	bool	   *wanted = palloc(sizeof(bool) * nowners);

	memcpy(wanted, granted, sizeof(bool) * nowners);
	batch_init(&batch, demands, ndemands, granted, nowners);
	if (batch.nrows == 0)
		return;
	ordflow_stock_rows_open(&rows, STOCK_BY_NAME);
	batch_lock(&batch, &rows);
	batch_decide(&batch);
	if (batch_is_short(&batch))
	{
		bool		released;

		ordflow_stock_rows_close(&rows);
		released = batch_release_expired(&batch);
		ordflow_stock_rows_open(&rows, STOCK_BY_NAME);
		if (released)
		{
			batch_lock(&batch, &rows);
			memcpy(granted, wanted, sizeof(bool) * nowners);
			batch_decide(&batch);
		}
	}
	batch_take(&batch, &rows);
	ordflow_stock_rows_close(&rows);
}

/* Takes the demand from its row if it is there; false: not taken. */
static bool
take_one(StockDemand *demand)
{
	StockRows	rows;
	StockRowRef ref;
	bool		taken = false;

	ordflow_stock_rows_open(&rows, STOCK_BY_NAME);
	ordflow_stock_row_find(&rows, demand->sku, demand->location, &ref);
	/* sold out is answered without waiting for anybody */
	if (ref.stock_id != 0 && ref.available >= demand->quantity)
	{
		ordflow_stock_row_lock(&rows, &ref);
		taken = ref.stock_id != 0 && ref.available >= demand->quantity;
	}
	if (taken)
	{
		demand->stock_id = ref.stock_id;
		ordflow_stock_row_set(&rows, &ref, ref.available - demand->quantity);
	}
	ordflow_stock_rows_close(&rows);
	return taken;
}

/*
 * One demand, the common case.  A miss is answered without a lock unless expired
 * holds stand there or units came in meanwhile; false: it is not answered.
 */
static bool
reserve_one(StockDemand *demand, bool *granted)
{
	Datum		values[3];
	uint64		found;
	bool		isnull;

	if (take_one(demand))
		return true;

	values[0] = CStringGetTextDatum(demand->sku);
	values[1] = CStringGetTextDatum(demand->location);
	values[2] = TimestampTzGetDatum(GetCurrentTimestamp());
	found = ordflow_execute(&look_at_one, values, NULL);
	demand->stock_id = found == 0 ? 0 : ordflow_result_int64(0, 1);
	demand->available = found == 0 ? 0 : ordflow_result_int64(0, 2);
	if (found > 0 &&
		(demand->available >= demand->quantity || DatumGetBool(ordflow_result(0, 3, &isnull))))
		return false;
	*granted = false;
	return true;
}

void
ordflow_stock_reserve(StockDemand *demands, int ndemands, bool *granted, int nowners)
{
	if (ndemands == 0)
		return;
	if (ndemands == 1)
	{
		bool	   *grant = &granted[demands[0].owner];

		if (!*grant || reserve_one(&demands[0], grant))
			return;
	}
	reserve_many(demands, ndemands, granted, nowners);
}

/* What expired holds stand on: units that count as available. */
static void
add_expired(Batch *batch)
{
	int64	   *stock_ids = palloc(sizeof(int64) * batch->nrows);
	Datum		values[2];
	uint64		found;

	for (int i = 0; i < batch->nrows; i++)
		stock_ids[i] = batch->rows[i].ref.stock_id;
	values[0] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[1] = ordflow_int8_array(stock_ids, batch->nrows);
	found = ordflow_execute(&sum_expired, values, NULL);
	for (uint64 i = 0; i < found; i++)
		for (int j = 0; j < batch->nrows; j++)
			if (batch->rows[j].ref.stock_id == ordflow_result_int64(i, 1))
				batch->rows[j].ref.available += ordflow_result_int64(i, 2);
	SPI_freetuptable(SPI_tuptable);
}

void
ordflow_stock_look(StockDemand *demands, int ndemands)
{
	Batch		batch;

	if (ndemands == 0)
		return;
	batch_init(&batch, demands, ndemands, NULL, 0);
	batch_look(&batch);
	add_expired(&batch);
	for (int i = 0; i < ndemands; i++)
	{
		demands[i].stock_id = batch.row_of[i]->ref.stock_id;
		demands[i].available = batch.row_of[i]->ref.available;
	}
}

void
ordflow_stock_give(const int64 *stock_ids, const int64 *quantities, int n)
{
	StockRows	rows;
	StockRowRef *refs = palloc(sizeof(StockRowRef) * Max(n, 1));

	if (n == 0)
		return;
	ordflow_stock_rows_open(&rows, STOCK_BY_ID);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		ordflow_stock_row_find_id(&rows, stock_ids[i], &refs[i]);
		if (refs[i].stock_id != 0)
			ordflow_stock_row_lock(&rows, &refs[i]);
		if (refs[i].stock_id != 0)
			ordflow_stock_row_set(&rows, &refs[i],
								  ordflow_stock_sum(refs[i].available, quantities[i]));
	}
	ordflow_stock_rows_close(&rows);
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
}

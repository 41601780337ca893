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
	int64		stock_id;		/* 0: no such (sku, location) */
	int64		available;
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

static Statement take_one = {
	.sql = "UPDATE ordflow.stock SET available = available - $3"
	" WHERE sku = $1 AND location = $2 AND available >= $3 RETURNING stock_id",
	.nargs = 3,
	.argtypes = {TEXTOID, TEXTOID, INT8OID}
};

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

#define RESOLVE_ROWS \
	"SELECT i.n, s.stock_id, s.available" \
	" FROM unnest($1, $2) WITH ORDINALITY AS i (sku, location, n)" \
	" JOIN ordflow.stock s ON s.sku = i.sku AND s.location = i.location"

static Statement lock_rows = {
	.sql = RESOLVE_ROWS " ORDER BY s.stock_id FOR NO KEY UPDATE OF s",
	.nargs = 2,
	.argtypes = {TEXTARRAYOID, TEXTARRAYOID}
};

static Statement look_at_rows = {
	.sql = RESOLVE_ROWS,
	.nargs = 2,
	.argtypes = {TEXTARRAYOID, TEXTARRAYOID}
};

static Statement take_rows = {
	.sql = "UPDATE ordflow.stock s SET available = s.available - t.quantity"
	" FROM unnest($1, $2) AS t (stock_id, quantity) WHERE s.stock_id = t.stock_id",
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, INT8ARRAYOID}
};

static Statement lock_for_giving = {
	.sql = "SELECT FROM ordflow.stock WHERE stock_id = ANY ($1)"
	" ORDER BY stock_id FOR NO KEY UPDATE",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static Statement give_one = {
	.sql = "UPDATE ordflow.stock SET available = available + $2 WHERE stock_id = $1",
	.nargs = 2,
	.argtypes = {INT8OID, INT8OID}
};

static Statement give_rows = {
	.sql = "UPDATE ordflow.stock s SET available = s.available + t.quantity"
	" FROM unnest($1, $2) AS t (stock_id, quantity) WHERE s.stock_id = t.stock_id",
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, INT8ARRAYOID}
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

/* Reads stock_id and available of the rows, under their locks or not. */
static void
batch_read(Batch *batch, Statement *statement)
{
	const char **skus = palloc(sizeof(char *) * batch->nrows);
	const char **locations = palloc(sizeof(char *) * batch->nrows);
	Datum		values[2];
	uint64		found;

	for (int i = 0; i < batch->nrows; i++)
	{
		skus[i] = batch->rows[i].pair.sku;
		locations[i] = batch->rows[i].pair.location;
		batch->rows[i].stock_id = 0;
		batch->rows[i].available = 0;
	}
	values[0] = ordflow_text_array(skus, batch->nrows);
	values[1] = ordflow_text_array(locations, batch->nrows);
	found = ordflow_execute(statement, values, NULL);
	for (uint64 i = 0; i < found; i++)
	{
		StockRow   *row = &batch->rows[ordflow_result_int64(i, 1) - 1];

		row->stock_id = ordflow_result_int64(i, 2);
		row->available = ordflow_result_int64(i, 3);
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

		demand->stock_id = row->stock_id;
		demand->available = row->available - row->taken;
		if (demand->stock_id != 0 && demand->quantity <= demand->available)
			continue;
		granted = false;
		row->is_short = row->stock_id != 0;
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

/* Releases expired holds on the rows that fell short; true when there were some. */
static bool
batch_release_expired(const Batch *batch)
{
	int64	   *stock_ids = palloc(sizeof(int64) * batch->nrows);
	int			n = 0;

	for (int i = 0; i < batch->nrows; i++)
		if (batch->rows[i].is_short)
			stock_ids[n++] = batch->rows[i].stock_id;
	return n > 0 && ordflow_stock_release_expired(stock_ids, n, GetCurrentTimestamp()) > 0;
}

static void
batch_take(const Batch *batch)
{
	int64	   *stock_ids = palloc(sizeof(int64) * batch->nrows);
	int64	   *quantities = palloc(sizeof(int64) * batch->nrows);
	Datum		values[2];
	int			n = 0;

	for (int i = 0; i < batch->nrows; i++)
	{
		if (batch->rows[i].taken == 0)
			continue;
		stock_ids[n] = batch->rows[i].stock_id;
		quantities[n++] = batch->rows[i].taken;
	}
	if (n == 0)
		return;
	values[0] = ordflow_int8_array(stock_ids, n);
	values[1] = ordflow_int8_array(quantities, n);
	if (ordflow_execute(&take_rows, values, NULL) != n)
		elog(ERROR, "a locked row of stock is missing");
}

static void
reserve_many(StockDemand *demands, int ndemands, bool *granted, int nowners)
{
	Batch		batch;
	bool	   *wanted = palloc(sizeof(bool) * nowners);

	memcpy(wanted, granted, sizeof(bool) * nowners);
	batch_init(&batch, demands, ndemands, granted, nowners);
	if (batch.nrows == 0)
		return;
	batch_read(&batch, &lock_rows);
	batch_decide(&batch);
	if (batch_release_expired(&batch))
	{
		batch_read(&batch, &lock_rows);
		memcpy(granted, wanted, sizeof(bool) * nowners);
		batch_decide(&batch);
	}
	batch_take(&batch);
}

/*
 * One demand, the common case: a hit is one statement.  A miss is answered
 * without a lock unless expired holds stand there or units came in meanwhile; false:
 * it is not answered.
 */
static bool
reserve_one(StockDemand *demand, bool *granted)
{
	Datum		values[3];
	uint64		found;
	bool		isnull;

	values[0] = CStringGetTextDatum(demand->sku);
	values[1] = CStringGetTextDatum(demand->location);
	values[2] = Int64GetDatum(demand->quantity);
	if (ordflow_execute(&take_one, values, NULL) == 1)
	{
		demand->stock_id = ordflow_result_int64(0, 1);
		SPI_freetuptable(SPI_tuptable);
		return true;
	}

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
		stock_ids[i] = batch->rows[i].stock_id;
	values[0] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[1] = ordflow_int8_array(stock_ids, batch->nrows);
	found = ordflow_execute(&sum_expired, values, NULL);
	for (uint64 i = 0; i < found; i++)
		for (int j = 0; j < batch->nrows; j++)
			if (batch->rows[j].stock_id == ordflow_result_int64(i, 1))
				batch->rows[j].available += ordflow_result_int64(i, 2);
	SPI_freetuptable(SPI_tuptable);
}

void
ordflow_stock_look(StockDemand *demands, int ndemands)
{
	Batch		batch;

	if (ndemands == 0)
		return;
	batch_init(&batch, demands, ndemands, NULL, 0);
	batch_read(&batch, &look_at_rows);
	add_expired(&batch);
	for (int i = 0; i < ndemands; i++)
	{
		demands[i].stock_id = batch.row_of[i]->stock_id;
		demands[i].available = batch.row_of[i]->available;
	}
}

void
ordflow_stock_give(const int64 *stock_ids, const int64 *quantities, int n)
{
	Datum		values[2];

	if (n == 0)
		return;
	if (n == 1)
	{
		values[0] = Int64GetDatum(stock_ids[0]);
		values[1] = Int64GetDatum(quantities[0]);
		ordflow_execute(&give_one, values, NULL);
		return;
	}
	/* an UPDATE with a join locks in no certain order */
	values[0] = ordflow_int8_array(stock_ids, n);
	values[1] = ordflow_int8_array(quantities, n);
	ordflow_execute(&lock_for_giving, values, NULL);
	ordflow_execute(&give_rows, values, NULL);
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

/*
 * stock.c
 *	  The functions that change or tell what is on hand.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "counter/counter.h"
#include "stock/stock.h"

#define CREATE_TRIES_MAX 100

PG_FUNCTION_INFO_V1(ordflow_receive_stock);
PG_FUNCTION_INFO_V1(ordflow_adjust_stock);
PG_FUNCTION_INFO_V1(ordflow_set_stock);
PG_FUNCTION_INFO_V1(ordflow_available_stock);

static Statement create_row = {
	.sql = "INSERT INTO ordflow.stock (sku, location) VALUES ($1, $2)"
	" ON CONFLICT (sku, location) DO NOTHING",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

static Statement find_rows = {
	.sql = "SELECT s.stock_id FROM ordflow.stock s"
	" WHERE s.sku = $1 AND ($2 IS NULL OR s.location = $2)",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

/* OFFSET 0: expired holds are few, lines many, so no hash over all the lines */
static Statement sum_expired = {
	.sql = "SELECT COALESCE(sum(l.quantity), 0)::bigint FROM ordflow.holds h, LATERAL ("
	"  SELECT l.quantity FROM ordflow.hold_lines l WHERE l.reference = h.reference"
	"  AND l.stock_id = ANY ($1) OFFSET 0) AS l"
	" WHERE h.state = 'held' AND h.expires_at <= $2",
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, TIMESTAMPTZOID}
};

typedef struct Freed
{
	int64		stock_id;
	int64		quantity;
} Freed;

static int
compare_freed(const void *a, const void *b)
{
	int64		l = ((const Freed *) a)->stock_id;
	int64		r = ((const Freed *) b)->stock_id;

	return (l > r) - (l < r);
}

int64
ordflow_stock_sum(int64 a, int64 b)
{
	int64		sum;

	if (pg_add_s64_overflow(a, b, &sum))
		ereport(ERROR,
				errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				errmsg("the sum of the quantities is out of range"));
	return sum;
}

/* Counters are loaded in the order of stock_id, each once. */
static void
add_freed(const Freed *freed, int n)
{
	int64		quantity = 0;

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		quantity = ordflow_stock_sum(quantity, freed[i].quantity);
		if (i + 1 < n && freed[i + 1].stock_id == freed[i].stock_id)
			continue;
		if (ordflow_counter_pin(COUNTER_STOCK, freed[i].stock_id))
			ordflow_counter_add(COUNTER_STOCK, freed[i].stock_id, quantity);
		quantity = 0;
	}
}

void
ordflow_stock_apply(const StockMovement *movements, int n)
{
	Freed	   *freed = palloc(sizeof(Freed) * Max(n, 1));
	int			nfreed = 0;

	for (int i = 0; i < n; i++)
	{
		int64		quantity = movements[i].on_hand - movements[i].reserved;

		if (quantity < 0)
			elog(ERROR, "movement \"%s\" would take from stock", movements[i].kind);
		if (quantity == 0)
			continue;
		freed[nfreed].stock_id = movements[i].stock_id;
		freed[nfreed++].quantity = quantity;
	}
	qsort(freed, nfreed, sizeof(Freed), compare_freed);

	ordflow_counter_enter("stock");
	add_freed(freed, nfreed);
	ordflow_stock_record(movements, n);
	pfree(freed);
}

void
ordflow_stock_refuse(bool unknown, JsonBuild *problems)
{
	char	   *detail = ordflow_json_text(ordflow_json_finish(problems));

	if (unknown)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("unknown sku or location"),
				errdetail_internal("%s", detail),
				errhint("receive_stock() and set_stock() create a sku at a location."));
	ereport(ERROR,
			errcode(ERRCODE_ORDFLOW_INSUFFICIENT_STOCK),
			errmsg("insufficient stock"),
			errdetail_internal("%s", detail),
			errhint("Reduce the quantity, or receive stock first."));
	pg_unreachable();
}

/* The problem of one demand that belongs to no line of an order or a hold. */
static void
put_demand(JsonBuild *b, const StockDemand *demand)
{
	ordflow_json_begin_array(b);
	ordflow_json_begin_object(b);
	ordflow_json_put_text(b, "problem",
						  demand->stock_id == 0 ? "unknown_object" : "insufficient_stock");
	ordflow_stock_put_problem(b, demand);
	ordflow_json_end_object(b);
	ordflow_json_end_array(b);
}

/* Balance and ledger as they stand now, with what this transaction has written. */
static void
read_level(int64 stock_id, StockLevel *level)
{
	Snapshot	snapshot;
	bool		exists;

	snapshot = ordflow_register_latest();
	exists = ordflow_stock_level(stock_id, snapshot, level);
	UnregisterSnapshot(snapshot);
	if (!exists)
		elog(ERROR, "row %lld of stock is missing", (long long) stock_id);
}

static int64
on_hand_of(int64 stock_id)
{
	StockLevel	level;

	read_level(stock_id, &level);
	return level.on_hand;
}

/* The row of (sku, location), which is made where there is none. */
static int64
require_row(const char *sku, const char *location)
{
	int64		stock_id = ordflow_stock_find(sku, location);

	for (int i = 0; stock_id == 0; i++)
	{
		Datum		values[2];

		/* one that is inserted, deleted and inserted again by others, time after time? */
		if (i == CREATE_TRIES_MAX)
			elog(ERROR, "could not create a row of stock for \"%s\"", sku);
		CHECK_FOR_INTERRUPTS();
		values[0] = CStringGetTextDatum(sku);
		values[1] = CStringGetTextDatum(location);
		ordflow_counter_own_write("stock");
		ordflow_execute_latest(&create_row, values, NULL);
		ordflow_counter_own_write_done();
		stock_id = ordflow_stock_find(sku, location);
	}
	return stock_id;
}

Datum
ordflow_receive_stock(PG_FUNCTION_ARGS)
{
	char	   *sku;
	char	   *location;
	StockMovement movement = {.kind = "received"};
	int64		on_hand;

	ordflow_require_preload();
	sku = ordflow_arg_text(fcinfo, 0, "sku");
	movement.on_hand = ordflow_arg_quantity(fcinfo, 1, "quantity");
	location = ordflow_arg_text(fcinfo, 2, "location");
	movement.reference = ordflow_arg_text_or_null(fcinfo, 3, "reference");
	if (movement.reference != NULL)
		ordflow_stock_check_reference(movement.reference);

	SPI_connect();
	ordflow_counter_enter("stock");
	movement.stock_id = require_row(sku, location);
	ordflow_stock_apply(&movement, 1);
	on_hand = on_hand_of(movement.stock_id);
	SPI_finish();

	PG_RETURN_INT64(on_hand);
}

/* Books a change of what is on hand; OF002 or OF004 where it cannot be. */
static void
adjust(const char *sku, const char *location, StockMovement *movement)
{
	StockDemand demand = {.sku = sku, .location = location, .quantity = -movement->on_hand};
	bool		granted = true;

	if (movement->on_hand < 0)
		ordflow_stock_reserve(&demand, 1, &granted, 1);
	else
	{
		demand.stock_id = ordflow_stock_find(sku, location);
		granted = demand.stock_id != 0;
	}
	if (!granted)
	{
		JsonBuild	problems = {0};

		put_demand(&problems, &demand);
		ordflow_stock_refuse(demand.stock_id == 0, &problems);
	}
	movement->stock_id = demand.stock_id;
	if (movement->on_hand < 0)
		ordflow_stock_record(movement, 1);
	else
		ordflow_stock_apply(movement, 1);
}

Datum
ordflow_adjust_stock(PG_FUNCTION_ARGS)
{
	char	   *sku;
	char	   *location;
	StockMovement movement = {.kind = "adjusted"};
	int64		on_hand;

	ordflow_require_preload();
	sku = ordflow_arg_text(fcinfo, 0, "sku");
	ordflow_require_not_null(fcinfo, 1, "delta");
	movement.on_hand = PG_GETARG_INT64(1);
	movement.reason = ordflow_arg_text(fcinfo, 2, "reason");
	location = ordflow_arg_text(fcinfo, 3, "location");
	if (movement.on_hand == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("delta may not be 0"));
	if (movement.on_hand < -ORDFLOW_QUANTITY_MAX || movement.on_hand > ORDFLOW_QUANTITY_MAX)
		ereport(ERROR,
				errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				errmsg("delta may be at most %lld units up or down",
					   (long long) ORDFLOW_QUANTITY_MAX));

	SPI_connect();
	ordflow_counter_enter("stock");
	adjust(sku, location, &movement);
	on_hand = on_hand_of(movement.stock_id);
	SPI_finish();

	PG_RETURN_INT64(on_hand);
}

pg_noreturn static void
refuse_figure(const char *sku, const char *location, int64 figure, const StockDemand *demand)
{
	JsonBuild	problems = {0};
	StockLevel	level;

	read_level(demand->stock_id, &level);
	put_demand(&problems, demand);
	ereport(ERROR,
			errcode(ERRCODE_ORDFLOW_INSUFFICIENT_STOCK),
			errmsg("stock of \"%s\" at \"%s\" cannot be set to %lld, %lld units are reserved",
				   sku, location, (long long) figure, (long long) level.reserved),
			errdetail_internal("%s", ordflow_json_text(ordflow_json_finish(&problems))),
			errhint("ordflow.reservations lists who holds them."));
	pg_unreachable();
}

/*
 * Two figures for one row wait for each other: what is on hand is read under a lock of its
 * own, as the row is not locked to sell.  A sale meanwhile changes it as if it came later.
 */
static void
set_figure(const char *sku, const char *location, int64 figure, StockMovement *movement)
{
	StockDemand demand = {.sku = sku, .location = location};
	int64		available;

	movement->stock_id = demand.stock_id = require_row(sku, location);
	LockDatabaseObject(ordflow_relid("stock"), (Oid) movement->stock_id, 0, ExclusiveLock);
	movement->on_hand = figure - on_hand_of(movement->stock_id);
	if (movement->on_hand == 0)
		return;
	if (movement->on_hand > 0)
	{
		ordflow_stock_apply(movement, 1);
		return;
	}
	demand.quantity = -movement->on_hand;
	if (!ordflow_stock_take(demand.stock_id, demand.quantity, &available))
	{
		CounterState state;

		demand.available = available;
		if (ordflow_counter_look(COUNTER_STOCK, demand.stock_id, &state))
			demand.in_flight = state.in_flight;
		refuse_figure(sku, location, figure, &demand);
	}
	ordflow_stock_record(movement, 1);
}

Datum
ordflow_set_stock(PG_FUNCTION_ARGS)
{
	char	   *sku;
	int64		figure;
	char	   *location;
	StockMovement movement = {.kind = "adjusted"};

	ordflow_require_preload();
	sku = ordflow_arg_text(fcinfo, 0, "sku");
	ordflow_require_not_null(fcinfo, 1, "on_hand");
	figure = PG_GETARG_INT64(1);
	movement.reason = ordflow_arg_text(fcinfo, 2, "reason");
	location = ordflow_arg_text(fcinfo, 3, "location");
	if (figure < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("on_hand may not be negative"));
	if (figure > ORDFLOW_QUANTITY_MAX)
		ereport(ERROR,
				errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				errmsg("on_hand may be at most %lld", (long long) ORDFLOW_QUANTITY_MAX));

	SPI_connect();
	ordflow_counter_enter("stock");
	set_figure(sku, location, figure, &movement);
	SPI_finish();

	PG_RETURN_INT64(figure);
}

/* What may be promised of rows, added up, the units of expired holds too. */
static int64
sum_available(const int64 *stock_ids, int n)
{
	int64		sum = 0;
	Datum		values[2];

	for (int i = 0; i < n; i++)
		sum = ordflow_stock_sum(sum, ordflow_stock_available(stock_ids[i]));
	values[0] = ordflow_int8_array(stock_ids, n);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	ordflow_execute(&sum_expired, values, NULL);
	return ordflow_stock_sum(sum, ordflow_result_int64(0, 1));
}

Datum
ordflow_available_stock(PG_FUNCTION_ARGS)
{
	char	   *sku;
	char	   *location;
	Datum		values[2];
	char		nulls[2] = {' ', ' '};
	int64	   *stock_ids;
	int64		available;
	int			n;

	ordflow_require_preload();
	sku = ordflow_arg_text(fcinfo, 0, "sku");
	location = ordflow_arg_text_or_null(fcinfo, 1, "location");

	SPI_connect();
	values[0] = CStringGetTextDatum(sku);
	ORDFLOW_SET_TEXT(values, nulls, 1, location);
	n = ordflow_execute(&find_rows, values, nulls);
	if (n == 0)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				location != NULL ? errmsg("no stock is kept of \"%s\" at \"%s\"", sku, location) :
				errmsg("no stock is kept of \"%s\"", sku));
	stock_ids = palloc(sizeof(int64) * n);
	for (int i = 0; i < n; i++)
		stock_ids[i] = ordflow_result_int64(i, 1);
	available = sum_available(stock_ids, n);
	SPI_finish();

	PG_RETURN_INT64(available);
}

/*
 * stock.c
 *	  The ledger, and the functions that change or tell what is on hand.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "stock/stock.h"

PG_FUNCTION_INFO_V1(ordflow_receive_stock);
PG_FUNCTION_INFO_V1(ordflow_adjust_stock);
PG_FUNCTION_INFO_V1(ordflow_set_stock);
PG_FUNCTION_INFO_V1(ordflow_available_stock);

/* The first segment of the ledger: a partition, written without the detour by its parent. */
static RowTable movements_table = {
	.relname = "stock_movements_1",
	.ncolumns = 11,
	.columns = {
		{"movement_id", INT8OID}, {"segment", INT4OID}, {"stock_id", INT8OID}, {"kind", TEXTOID},
		{"on_hand", INT8OID}, {"reserved", INT8OID}, {"order_id", INT8OID}, {"reference", TEXTOID},
		{"reason", TEXTOID}, {"actor", TEXTOID}, {"at", TIMESTAMPTZOID}
	}
};

static Statement receive = {
	.sql = "INSERT INTO ordflow.stock AS s (sku, location, available) VALUES ($1, $2, $3)"
	" ON CONFLICT (sku, location) DO UPDATE SET available = s.available + excluded.available"
	" RETURNING s.stock_id",
	.nargs = 3,
	.argtypes = {TEXTOID, TEXTOID, INT8OID}
};

static Statement add = {
	.sql = "UPDATE ordflow.stock SET available = available + $3"
	" WHERE sku = $1 AND location = $2 RETURNING stock_id",
	.nargs = 3,
	.argtypes = {TEXTOID, TEXTOID, INT8OID}
};

/*
 * Balance + movements of the segments that are not folded.  Run under the row's
 * lock by a statement of its own, whose snapshot therefore sees all that was committed
 * before the lock was had.
 */
static Statement read_level = {
	.sql = "SELECT (s.on_hand + COALESCE(sum(m.on_hand), 0))::bigint,"
	" (s.reserved + COALESCE(sum(m.reserved), 0))::bigint, s.available"
	" FROM ordflow.stock s"
	" LEFT JOIN ordflow.stock_movements m ON m.stock_id = s.stock_id AND m.segment <> ALL"
	"  (ARRAY(SELECT g.segment FROM ordflow.stock_segments g WHERE g.folded))"
	" WHERE s.stock_id = $1 GROUP BY s.stock_id",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement sum_available = {
	.sql = "WITH found AS ("
	"  SELECT s.stock_id, s.available FROM ordflow.stock s"
	"  WHERE s.sku = $1 AND ($2 IS NULL OR s.location = $2)"
	" ), expired AS ("
	"  SELECT sum(l.quantity) AS quantity FROM ordflow.holds h, LATERAL ("
	"   SELECT l.quantity FROM ordflow.hold_lines l WHERE l.reference = h.reference"
	"   AND l.stock_id = ANY (ARRAY(SELECT f.stock_id FROM found f)) OFFSET 0) AS l"
	"  WHERE h.state = 'held' AND h.expires_at <= $3"
	" )"
	" SELECT (sum(f.available) + COALESCE((SELECT e.quantity FROM expired e), 0))::bigint"
	" FROM found f",
	.nargs = 3,
	.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

/* The segment that movements are written to.  All are in the first until a second is opened. */
static RowTable *
current_segment(int32 *segment)
{
	*segment = 1;
	return &movements_table;
}

void
ordflow_stock_record(const StockMovement *movements, int n)
{
	Oid			sequence = ordflow_relid("stock_movements_movement_id_seq");
	Datum		values[11];
	bool		nulls[11] = {false};
	int32		segment;
	RowWriter	writer;

	ordflow_refuse_prepare("stock");
	ordflow_rows_begin(&writer, current_segment(&segment));
	values[1] = Int32GetDatum(segment);
	ORDFLOW_PUT_TEXT(values, nulls, 9, ordflow_actor());
	values[10] = TimestampTzGetDatum(GetCurrentTimestamp());
	for (int i = 0; i < n; i++)
	{
		const StockMovement *movement = &movements[i];

		values[0] = Int64GetDatum(nextval_internal(sequence, false));
		values[2] = Int64GetDatum(movement->stock_id);
		ORDFLOW_PUT_TEXT(values, nulls, 3, movement->kind);
		values[4] = Int64GetDatum(movement->on_hand);
		values[5] = Int64GetDatum(movement->reserved);
		values[6] = Int64GetDatum(movement->order_id);
		nulls[6] = movement->order_id == 0;
		ORDFLOW_PUT_TEXT(values, nulls, 7, movement->reference);
		ORDFLOW_PUT_TEXT(values, nulls, 8, movement->reason);
		ordflow_rows_write(&writer, values, nulls);
	}
	ordflow_rows_end(&writer);
}

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

void
ordflow_stock_apply(const StockMovement *movements, int n)
{
	Freed	   *freed = palloc(sizeof(Freed) * Max(n, 1));
	int64	   *stock_ids;
	int64	   *quantities;
	int			nfreed = 0;
	int			nrows = 0;

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

	stock_ids = palloc(sizeof(int64) * Max(nfreed, 1));
	quantities = palloc(sizeof(int64) * Max(nfreed, 1));
	for (int i = 0; i < nfreed; i++)
	{
		if (i == 0 || freed[i].stock_id != freed[i - 1].stock_id)
		{
			stock_ids[nrows] = freed[i].stock_id;
			quantities[nrows++] = 0;
		}
		quantities[nrows - 1] = ordflow_stock_sum(quantities[nrows - 1], freed[i].quantity);
	}
	ordflow_stock_give(stock_ids, quantities, nrows);
	ordflow_stock_record(movements, n);
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

static int64
on_hand_of(int64 stock_id)
{
	Datum		values[1] = {Int64GetDatum(stock_id)};

	if (ordflow_execute(&read_level, values, NULL) != 1)
		elog(ERROR, "row %lld of stock is missing", (long long) stock_id);
	return ordflow_result_int64(0, 1);
}

/* Runs a statement of (sku, location, quantity) that answers the stock_id; 0 = no row. */
static int64
change_available(Statement *statement, const char *sku, const char *location, int64 quantity)
{
	Datum		values[3];

	values[0] = CStringGetTextDatum(sku);
	values[1] = CStringGetTextDatum(location);
	values[2] = Int64GetDatum(quantity);
	return ordflow_execute(statement, values, NULL) == 0 ? 0 : ordflow_result_int64(0, 1);
}

Datum
ordflow_receive_stock(PG_FUNCTION_ARGS)
{
	char	   *sku;
	int64		quantity;
	char	   *location;
	StockMovement movement = {.kind = "received"};
	int64		on_hand;

	ordflow_require_preload();
	sku = ordflow_arg_text(fcinfo, 0, "sku");
	quantity = ordflow_arg_quantity(fcinfo, 1, "quantity");
	location = ordflow_arg_text(fcinfo, 2, "location");
	movement.reference = ordflow_arg_text_or_null(fcinfo, 3, "reference");
	if (movement.reference != NULL)
		ordflow_stock_check_reference(movement.reference);

	SPI_connect();
	movement.stock_id = change_available(&receive, sku, location, quantity);
	movement.on_hand = quantity;
	ordflow_stock_record(&movement, 1);
	on_hand = on_hand_of(movement.stock_id);
	SPI_finish();

	PG_RETURN_INT64(on_hand);
}

/* Takes or adds units for adjust_stock; the stock_id. */
static int64
adjust_available(const char *sku, const char *location, int64 delta)
{
	StockDemand demand = {.sku = sku, .location = location};
	bool		granted = true;

	if (delta > 0)
	{
		demand.stock_id = change_available(&add, sku, location, delta);
		granted = demand.stock_id != 0;
	}
	else
	{
		demand.quantity = -delta;
		ordflow_stock_reserve(&demand, 1, &granted, 1);
	}
	if (!granted)
	{
		JsonBuild	problems = {0};

		put_demand(&problems, &demand);
		ordflow_stock_refuse(demand.stock_id == 0, &problems);
	}
	return demand.stock_id;
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
	movement.stock_id = adjust_available(sku, location, movement.on_hand);
	ordflow_stock_record(&movement, 1);
	on_hand = on_hand_of(movement.stock_id);
	SPI_finish();

	PG_RETURN_INT64(on_hand);
}

typedef struct Level
{
	int64		on_hand;
	int64		reserved;
	int64		available;
} Level;

static void
read_level_of(int64 stock_id, Level *level)
{
	level->on_hand = on_hand_of(stock_id);
	level->reserved = ordflow_result_int64(0, 2);
	level->available = ordflow_result_int64(0, 3);
}

/*
 * What has to be added to a row, which is locked, so that the figure is on hand:
 * OF002 where more is promised than that, expired holds not counted.
 */
static int64
figure_delta(const char *sku, const char *location, int64 stock_id, int64 figure)
{
	Level		level;
	StockDemand demand = {.sku = sku, .location = location, .stock_id = stock_id};
	JsonBuild	problems = {0};

	read_level_of(stock_id, &level);
	if (level.available < level.on_hand - figure &&
		ordflow_stock_release_expired(&stock_id, 1, GetCurrentTimestamp()) > 0)
		read_level_of(stock_id, &level);
	if (level.available >= level.on_hand - figure)
		return figure - level.on_hand;

	demand.quantity = level.on_hand - figure;
	demand.available = level.available;
	put_demand(&problems, &demand);
	ereport(ERROR,
			errcode(ERRCODE_ORDFLOW_INSUFFICIENT_STOCK),
			errmsg("stock of \"%s\" at \"%s\" cannot be set to %lld, %lld units are reserved",
				   sku, location, (long long) figure, (long long) level.reserved),
			errdetail_internal("%s", ordflow_json_text(ordflow_json_finish(&problems))),
			errhint("ordflow.reservations lists who holds them."));
	pg_unreachable();
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
	/* creates the row, or locks it: what is on hand is read by a later statement */
	movement.stock_id = change_available(&receive, sku, location, 0);
	movement.on_hand = figure_delta(sku, location, movement.stock_id, figure);
	if (movement.on_hand != 0)
	{
		change_available(&add, sku, location, movement.on_hand);
		ordflow_stock_record(&movement, 1);
	}
	SPI_finish();

	PG_RETURN_INT64(figure);
}

Datum
ordflow_available_stock(PG_FUNCTION_ARGS)
{
	char	   *sku;
	char	   *location;
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};
	Datum		available;
	bool		unknown;

	ordflow_require_preload();
	sku = ordflow_arg_text(fcinfo, 0, "sku");
	location = ordflow_arg_text_or_null(fcinfo, 1, "location");

	SPI_connect();
	values[0] = CStringGetTextDatum(sku);
	ORDFLOW_SET_TEXT(values, nulls, 1, location);
	values[2] = TimestampTzGetDatum(GetCurrentTimestamp());
	ordflow_execute(&sum_available, values, nulls);
	available = ordflow_result(0, 1, &unknown);
	SPI_finish();

	if (unknown)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				location != NULL ? errmsg("no stock is kept of \"%s\" at \"%s\"", sku, location) :
				errmsg("no stock is kept of \"%s\"", sku));
	PG_RETURN_DATUM(available);
}

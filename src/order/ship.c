/*
 * ship.c
 *	  ship_order, and the lines of a locked order that shipping and refunds share.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "order/order.h"

PG_FUNCTION_INFO_V1(ordflow_ship_order);

static Statement read_lines = {
	.sql = "SELECT line_no::bigint, stock_id, limit_id, quantity, shipped, returned, cancelled, "
	"payable, refunded FROM ordflow.order_lines WHERE order_id = $1 ORDER BY line_no",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement insert_shipment = {
	.sql = "INSERT INTO ordflow.shipments (order_id, carrier, tracking_number, actor, at) "
	"VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING shipment_id",
	.nargs = 5,
	.argtypes = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

static Statement find_shipment = {
	.sql = "SELECT l.line_no::bigint, l.quantity FROM ordflow.shipments s "
	"JOIN ordflow.shipment_lines l USING (shipment_id) "
	"WHERE s.order_id = $1 AND s.carrier = $2 AND s.tracking_number = $3 ORDER BY l.line_no",
	.nargs = 3,
	.argtypes = {INT8OID, TEXTOID, TEXTOID}
};

static Statement ship_lines = {
	.sql = "WITH parcel AS (SELECT * FROM unnest($3, $4) AS u (line_no, quantity)), "
	"sl AS (INSERT INTO ordflow.shipment_lines (shipment_id, line_no, quantity) "
	"SELECT $2, line_no, quantity FROM parcel) "
	"UPDATE ordflow.order_lines AS l SET shipped = l.shipped + p.quantity FROM parcel AS p "
	"WHERE l.order_id = $1 AND l.line_no = p.line_no",
	.nargs = 4,
	.argtypes = {INT8OID, INT8OID, INT8ARRAYOID, INT8ARRAYOID}
};

enum
{
	LINE_LINE, LINE_QUANTITY,
	LINE_FIELDS
};

static const JsonField line_fields[LINE_FIELDS] = {
	[LINE_LINE] = {"line", JSON_QUANTITY, true},
	[LINE_QUANTITY] = {"quantity", JSON_QUANTITY, true},
};

static int
compare_line_numbers(const void *a, const void *b)
{
	return ((const LineQuantity *) a)->line_no - ((const LineQuantity *) b)->line_no;
}

LineQuantity *
ordflow_line_quantities(Jsonb *lines, int *n)
{
	LineQuantity *result;

	if (!JB_ROOT_IS_ARRAY(lines) || JB_ROOT_IS_SCALAR(lines) || JB_ROOT_COUNT(lines) == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"lines\" must be an array of at least one line"),
				errhint("As in [{\"line\": 1, \"quantity\": 2}]."));
	*n = JB_ROOT_COUNT(lines);
	if (*n > ordflow_max_lines)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("%d lines were given, at most %d are allowed", *n, ordflow_max_lines));

	result = palloc(sizeof(LineQuantity) * *n);
	for (int i = 0; i < *n; i++)
	{
		JsonItem	items[LINE_FIELDS];
		char		what[32];

		snprintf(what, sizeof(what), "element %d", i + 1);
		ordflow_json_read(ordflow_json_element(&lines->root, i), what, line_fields, LINE_FIELDS,
						  items, NULL);
		result[i].line_no = (int) Min(items[LINE_LINE].quantity, PG_INT32_MAX);
		result[i].quantity = items[LINE_QUANTITY].quantity;
	}
	qsort(result, *n, sizeof(LineQuantity), compare_line_numbers);
	for (int i = 1; i < *n; i++)
		if (result[i].line_no == result[i - 1].line_no)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("line %d is named twice", result[i].line_no));
	return result;
}

void
ordflow_json_put_line_quantities(JsonBuild *b, const char *key, const LineQuantity *lines, int n)
{
	ordflow_json_key(b, key);
	ordflow_json_begin_array(b);
	for (int i = 0; i < n; i++)
	{
		ordflow_json_begin_object(b);
		ordflow_json_put_int64(b, "line", lines[i].line_no);
		ordflow_json_put_int64(b, "quantity", lines[i].quantity);
		ordflow_json_end_object(b);
	}
	ordflow_json_end_array(b);
}

OrderLineLeft *
ordflow_order_lines(const Order *order, int *n)
{
	Datum		values[1] = {Int64GetDatum(order->order_id)};
	OrderLineLeft *lines;

	*n = (int) ordflow_execute(&read_lines, values, NULL);
	lines = palloc(sizeof(OrderLineLeft) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		bool		isnull;

		lines[i].line_no = (int) ordflow_result_int64(i, 1);
		lines[i].stock_id = ordflow_result_int64(i, 2);
		lines[i].limit_id = ordflow_result_int64(i, 3);
		lines[i].quantity = ordflow_result_int64(i, 4);
		lines[i].shipped = ordflow_result_int64(i, 5);
		lines[i].returned = ordflow_result_int64(i, 6);
		lines[i].cancelled = ordflow_result_int64(i, 7);
		ordflow_money_exact(ordflow_result(i, 8, &isnull), order->decimals, "payable",
							&lines[i].payable, NULL);
		ordflow_money_exact(ordflow_result(i, 9, &isnull), order->decimals, "refunded",
							&lines[i].refunded, NULL);
	}
	return lines;
}

static int64
unshipped(const OrderLineLeft *line)
{
	return line->quantity - line->shipped - line->cancelled;
}

/* All that is left to ship. */
static LineQuantity *
rest_of(const OrderLineLeft *lines, int nlines, int *n)
{
	LineQuantity *parcel = palloc(sizeof(LineQuantity) * Max(nlines, 1));

	*n = 0;
	for (int i = 0; i < nlines; i++)
		if (unshipped(&lines[i]) > 0)
		{
			parcel[*n].line_no = lines[i].line_no;
			parcel[(*n)++].quantity = unshipped(&lines[i]);
		}
	return parcel;
}

/* Takes the parcel from the lines: 22023 where one has less left. */
static void
take_parcel(OrderLineLeft *lines, int nlines, const LineQuantity *parcel, int n)
{
	for (int i = 0; i < n; i++)
	{
		OrderLineLeft *line;

		if (parcel[i].line_no > nlines)
			ereport(ERROR,
					errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
					errmsg("the order has no line %d", parcel[i].line_no));
		line = &lines[parcel[i].line_no - 1];
		if (parcel[i].quantity > unshipped(line))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("line %d has %lld units left to ship, not %lld", line->line_no,
						   (long long) unshipped(line), (long long) parcel[i].quantity));
		line->shipped += parcel[i].quantity;
	}
}

static void
move_stock(const Order *order, const OrderLineLeft *lines, const LineQuantity *parcel, int n)
{
	StockMovement *movements = palloc0(sizeof(StockMovement) * n);
	int			k = 0;

	for (int i = 0; i < n; i++)
	{
		const OrderLineLeft *line = &lines[parcel[i].line_no - 1];

		if (line->stock_id == 0)
			continue;
		movements[k].kind = "shipped";
		movements[k].stock_id = line->stock_id;
		movements[k].on_hand = -parcel[i].quantity;
		movements[k].reserved = -parcel[i].quantity;
		movements[k++].order_id = order->order_id;
	}
	if (k > 0)
		ordflow_stock_apply(movements, k);
}

static void
write_parcel(const Order *order, int64 shipment_id, const LineQuantity *parcel, int n)
{
	int64	   *line_nos = palloc(sizeof(int64) * n);
	int64	   *quantities = palloc(sizeof(int64) * n);
	Datum		values[4];

	for (int i = 0; i < n; i++)
	{
		line_nos[i] = parcel[i].line_no;
		quantities[i] = parcel[i].quantity;
	}
	values[0] = Int64GetDatum(order->order_id);
	values[1] = Int64GetDatum(shipment_id);
	values[2] = ordflow_int8_array(line_nos, n);
	values[3] = ordflow_int8_array(quantities, n);
	ordflow_execute(&ship_lines, values, NULL);
}

/* The same parcel again: with the same lines a repeat, with others a mistake. */
static void
require_same_parcel(const Order *order, Datum *values, const LineQuantity *parcel, int n)
{
	bool		same = ordflow_execute(&find_shipment, values, NULL) == n && parcel != NULL;

	for (int i = 0; same && i < n; i++)
		same = ordflow_result_int64(i, 1) == parcel[i].line_no &&
			ordflow_result_int64(i, 2) == parcel[i].quantity;
	if (!same)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_KEY_REUSED),
				errmsg("order %lld has a parcel of that carrier and tracking number with other lines",
					   (long long) order->order_id));
}

static Jsonb *
parcel_data(int64 shipment_id, const LineQuantity *parcel, int n)
{
	JsonBuild	b = {0};

	ordflow_json_begin_object(&b);
	ordflow_json_put_int64(&b, "shipment_id", shipment_id);
	ordflow_json_put_line_quantities(&b, "lines", parcel, n);
	ordflow_json_end_object(&b);
	return ordflow_json_finish(&b);
}

static const char *
ship(Order *order, const char *carrier, const char *tracking_number,
	 const LineQuantity *parcel, int n)
{
	Datum		values[5];
	int			nlines;
	int			nleft;
	OrderLineLeft *lines;
	int64		shipment_id;

	if (ordflow_order_is(order, "pending_receipt") || ordflow_order_is(order, "completed"))
		return "duplicate";
	if (ordflow_machine_find("order", order->state, "ship", NULL) == NULL)
		ordflow_order_illegal(order, "ship", NULL);

	values[0] = Int64GetDatum(order->order_id);
	values[1] = CStringGetTextDatum(carrier);
	values[2] = CStringGetTextDatum(tracking_number);
	values[3] = CStringGetTextDatum(ordflow_actor());
	values[4] = TimestampTzGetDatum(order->now);
	if (ordflow_execute(&insert_shipment, values, NULL) == 0)
	{
		require_same_parcel(order, values, parcel, n);
		return "duplicate";
	}
	shipment_id = ordflow_result_int64(0, 1);

	lines = ordflow_order_lines(order, &nlines);
	if (parcel == NULL)
		parcel = rest_of(lines, nlines, &n);
	take_parcel(lines, nlines, parcel, n);
	write_parcel(order, shipment_id, parcel, n);
	move_stock(order, lines, parcel, n);
	rest_of(lines, nlines, &nleft);
	ordflow_order_apply(order, "ship", nleft == 0 ? "pending_receipt" : order->state, NULL,
						parcel_data(shipment_id, parcel, n));
	return "applied";
}

Datum
ordflow_ship_order(PG_FUNCTION_ARGS)
{
	Order		order;
	char	   *carrier;
	char	   *tracking_number;
	LineQuantity *parcel = NULL;
	int			n = 0;
	const char *result;

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "order_id");
	carrier = ordflow_arg_text(fcinfo, 1, "carrier");
	tracking_number = ordflow_arg_text(fcinfo, 2, "tracking_number");
	if (!PG_ARGISNULL(3))
		parcel = ordflow_line_quantities(PG_GETARG_JSONB_P(3), &n);

	SPI_connect();
	ordflow_order_require(PG_GETARG_INT64(0), &order);
	result = ship(&order, carrier, tracking_number, parcel, n);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

/*
 * write.c
 *	  The rows of new orders.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "order/order.h"
#include "worker/worker.h"

static RowTable orders = {
	.relname = "orders",
	.ncolumns = 17,
	.columns = {
		{"order_id", INT8OID}, {"order_no", TEXTOID}, {"customer", TEXTOID}, {"state", TEXTOID},
		{"currency", TEXTOID}, {"subtotal", NUMERICOID}, {"discount", NUMERICOID},
		{"charges", NUMERICOID}, {"payable", NUMERICOID}, {"coupon", TEXTOID},
		{"expires_at", TIMESTAMPTZOID}, {"due_at", TIMESTAMPTZOID}, {"cancel_reason", TEXTOID},
		{"idempotency_key", TEXTOID}, {"metadata", JSONBOID}, {"created_at", TIMESTAMPTZOID},
		{"updated_at", TIMESTAMPTZOID}
	}
};

static RowTable order_lines = {
	.relname = "order_lines",
	.ncolumns = 16,
	.columns = {
		{"order_id", INT8OID}, {"line_no", INT4OID}, {"sku", TEXTOID}, {"location", TEXTOID},
		{"stock_id", INT8OID}, {"quantity", INT8OID}, {"unit_price", NUMERICOID},
		{"amount", NUMERICOID}, {"discount", NUMERICOID}, {"payable", NUMERICOID},
		{"shipped", INT8OID}, {"returned", INT8OID}, {"cancelled", INT8OID},
		{"refunded", NUMERICOID}, {"limit_id", INT8OID}, {"metadata", JSONBOID}
	}
};

static RowTable order_charges = {
	.relname = "order_charges",
	.ncolumns = 8,
	.columns = {
		{"order_id", INT8OID}, {"charge_no", INT4OID}, {"code", TEXTOID}, {"amount", NUMERICOID},
		{"reason", TEXTOID}, {"added", BOOLOID}, {"actor", TEXTOID}, {"at", TIMESTAMPTZOID}
	}
};

RowTable	ordflow_order_history = {
	.relname = "order_history",
	.ncolumns = 9,
	.columns = {
		{"order_id", INT8OID}, {"seq", INT4OID}, {"event", TEXTOID}, {"from_state", TEXTOID},
		{"to_state", TEXTOID}, {"actor", TEXTOID}, {"reason", TEXTOID}, {"data", JSONBOID},
		{"at", TIMESTAMPTZOID}
	}
};

/*
 * Orders that bring a key or a number of their own.  A key is claimed by this
 * insert, in the order of the arrays; a twin waits here for the first's end.
 */
static Statement claim_orders = {
	.sql = "INSERT INTO ordflow.orders (order_id, order_no, customer, state, currency, subtotal, "
	"discount, charges, payable, coupon, expires_at, due_at, idempotency_key, metadata, "
	"created_at, updated_at) "
	"SELECT order_id, order_no, customer, state, currency, subtotal, discount, charges, payable, "
	"coupon, expires_at, CASE WHEN state = 'pending_payment' THEN expires_at END, key, metadata, "
	"$14, $14 FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) AS u (order_id, "
	"order_no, customer, state, currency, subtotal, discount, charges, payable, coupon, "
	"expires_at, key, metadata) ON CONFLICT DO NOTHING RETURNING order_id",
	.nargs = 14,
	.argtypes = {INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
		NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, TEXTARRAYOID,
	TIMESTAMPTZARRAYOID, TEXTARRAYOID, JSONBARRAYOID, TIMESTAMPTZOID}
};

static TimestampTz
expiry(const OrderRequest *request, TimestampTz now)
{
	if (request->pay_within == NULL)
		return now + (int64) ordflow_pay_within * USECS_PER_SEC;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(now),
												   IntervalPGetDatum(request->pay_within)));
}

static Jsonb *
empty_object(void)
{
	JsonBuild	b = {0};

	ordflow_json_begin_object(&b);
	ordflow_json_end_object(&b);
	return ordflow_json_finish(&b);
}

/* What submit decides of an order before its row is written. */
static void
decide(OrderRequest *request, TimestampTz now)
{
	request->number = request->order_no ? request->order_no :
		psprintf(INT64_FORMAT, request->order_id);
	if (request->metadata == NULL)
		request->metadata = empty_object();
	request->state = request->payable > 0 ? "pending_payment" : "pending_shipment";
	request->expires_at = expiry(request, now);
	if (request->payable > 0)
	{
		ordflow_worker_wake(DUTY_TIMER, request->expires_at);
		if (ordflow_worker_is_heard())
			ordflow_worker_deadline_of_id(ordflow_relid("orders"), request->order_id,
										  request->expires_at);
	}
}

/* No key and no number of its own: nothing to collide with but a number like its id. */
static void
write_order(const OrderRequest *request, TimestampTz now)
{
	Datum		values[17];
	bool		nulls[17] = {false};
	RowWriter	writer;

	values[0] = Int64GetDatum(request->order_id);
	ORDFLOW_PUT_TEXT(values, nulls, 1, request->number);
	ORDFLOW_PUT_TEXT(values, nulls, 2, request->customer);
	ORDFLOW_PUT_TEXT(values, nulls, 3, request->state);
	ORDFLOW_PUT_TEXT(values, nulls, 4, request->currency);
	values[5] = ordflow_money_numeric(request->subtotal, request->decimals);
	values[6] = ordflow_money_numeric(request->discount, request->decimals);
	values[7] = ordflow_money_numeric(request->charges_total, request->decimals);
	values[8] = ordflow_money_numeric(request->payable, request->decimals);
	ORDFLOW_PUT_TEXT(values, nulls, 9, request->has_coupon ? request->coupon.code : NULL);
	values[10] = TimestampTzGetDatum(request->expires_at);
	values[11] = values[10];
	nulls[11] = request->payable == 0;
	nulls[12] = true;
	nulls[13] = true;
	values[14] = JsonbPGetDatum(request->metadata);
	values[15] = values[16] = TimestampTzGetDatum(now);

	ordflow_rows_begin(&writer, &orders);
	ordflow_rows_write(&writer, values, nulls);
	ordflow_rows_end(&writer);
}

/* inserted[i] from the ids that came back; both are in the order of the requests */
static void
mark_inserted(OrderRequest **requests, int n, bool *inserted)
{
	uint64		row = 0;

	for (int i = 0; i < n; i++)
	{
		inserted[i] = row < SPI_processed &&
			ordflow_result_int64(row, 1) == requests[i]->order_id;
		if (inserted[i])
			row++;
	}
	Assert(row == SPI_processed);
}

static void
claim(OrderRequest **requests, int n, TimestampTz now, bool *inserted)
{
	int64	   *order_ids = palloc(sizeof(int64) * n);
	const char **texts[6];		/* order_no, customer, state, currency, coupon, key */
	Datum	   *amounts[4];		/* subtotal, discount, charges, payable */
	Datum	   *expires = palloc(sizeof(Datum) * n);
	Datum	   *metadata = palloc(sizeof(Datum) * n);
	Datum		values[14];

	for (int i = 0; i < lengthof(texts); i++)
		texts[i] = palloc(sizeof(char *) * n);
	for (int i = 0; i < lengthof(amounts); i++)
		amounts[i] = palloc(sizeof(Datum) * n);
	for (int i = 0; i < n; i++)
	{
		const OrderRequest *request = requests[i];

		order_ids[i] = request->order_id;
		texts[0][i] = request->number;
		texts[1][i] = request->customer;
		texts[2][i] = request->state;
		texts[3][i] = request->currency;
		texts[4][i] = request->has_coupon ? request->coupon.code : NULL;
		texts[5][i] = request->idempotency_key;
		amounts[0][i] = ordflow_money_numeric(request->subtotal, request->decimals);
		amounts[1][i] = ordflow_money_numeric(request->discount, request->decimals);
		amounts[2][i] = ordflow_money_numeric(request->charges_total, request->decimals);
		amounts[3][i] = ordflow_money_numeric(request->payable, request->decimals);
		expires[i] = TimestampTzGetDatum(request->expires_at);
		metadata[i] = JsonbPGetDatum(request->metadata);
	}

	values[0] = ordflow_int8_array(order_ids, n);
	for (int i = 0; i < 4; i++)
	{
		values[1 + i] = ordflow_text_array(texts[i], n);
		values[5 + i] = ordflow_numeric_array(amounts[i], NULL, n);
	}
	values[9] = ordflow_text_array(texts[4], n);
	values[10] = ordflow_timestamptz_array(expires, n);
	values[11] = ordflow_text_array(texts[5], n);
	values[12] = ordflow_jsonb_array(metadata, NULL, n);
	values[13] = TimestampTzGetDatum(now);
	ordflow_execute(&claim_orders, values, NULL);
	mark_inserted(requests, n, inserted);
}

void
ordflow_orders_insert(OrderRequest **requests, int n, TimestampTz now, bool *inserted)
{
	Oid			sequence = ordflow_relid("orders_order_id_seq");
	/* in a bulk call not even a number like the id of the order may raise */
	bool		may_collide = requests[0]->ordinal > 0 || requests[0]->idempotency_key ||
		requests[0]->order_no;

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		requests[i]->order_id = nextval_internal(sequence, false);
		decide(requests[i], now);
	}
	if (n > 1 || may_collide)
		claim(requests, n, now, inserted);
	else
	{
		write_order(requests[0], now);
		inserted[0] = true;
	}
}

static void
write_lines(RowWriter *writer, const OrderRequest *request)
{
	Datum		values[16];
	bool		nulls[16] = {false};

	values[0] = Int64GetDatum(request->order_id);
	values[10] = values[11] = values[12] = Int64GetDatum(0);
	values[13] = ordflow_money_numeric(0, request->decimals);
	for (int i = 0; i < request->nlines; i++)
	{
		const OrderLine *line = &request->lines[i];

		values[1] = Int32GetDatum(i + 1);
		ORDFLOW_PUT_TEXT(values, nulls, 2, line->sku);
		ORDFLOW_PUT_TEXT(values, nulls, 3, line->location);
		values[4] = Int64GetDatum(line->stock_id);
		nulls[4] = line->stock_id == 0;
		values[5] = Int64GetDatum(line->quantity);
		values[6] = line->unit_price;
		values[7] = ordflow_money_numeric(line->amount, request->decimals);
		values[8] = ordflow_money_numeric(line->discount, request->decimals);
		values[9] = ordflow_money_numeric(line->amount - line->discount, request->decimals);
		values[14] = Int64GetDatum(line->limit_id);
		nulls[14] = line->limit_id == 0;
		values[15] = line->metadata ? JsonbPGetDatum(line->metadata) : (Datum) 0;
		nulls[15] = line->metadata == NULL;
		ordflow_rows_write(writer, values, nulls);
	}
}

static void
write_charges(RowWriter *writer, const OrderRequest *request, const char *actor, TimestampTz now)
{
	Datum		values[8];
	bool		nulls[8] = {false};

	values[0] = Int64GetDatum(request->order_id);
	nulls[4] = true;
	values[5] = BoolGetDatum(false);
	ORDFLOW_PUT_TEXT(values, nulls, 6, actor);
	values[7] = TimestampTzGetDatum(now);
	for (int i = 0; i < request->ncharges; i++)
	{
		values[1] = Int32GetDatum(i + 1);
		ORDFLOW_PUT_TEXT(values, nulls, 2, request->charges[i].code);
		values[3] = ordflow_money_numeric(request->charges[i].amount, request->decimals);
		ordflow_rows_write(writer, values, nulls);
	}
}

static void
write_history(RowWriter *writer, const OrderRequest *request, const char *actor, TimestampTz now)
{
	Datum		values[9];
	bool		nulls[9] = {false};

	values[0] = Int64GetDatum(request->order_id);
	values[1] = Int32GetDatum(1);
	ORDFLOW_PUT_TEXT(values, nulls, 2, "submit");
	nulls[3] = true;
	ORDFLOW_PUT_TEXT(values, nulls, 4, request->state);
	ORDFLOW_PUT_TEXT(values, nulls, 5, actor);
	nulls[6] = true;
	nulls[7] = true;
	values[8] = TimestampTzGetDatum(now);
	ordflow_rows_write(writer, values, nulls);
}

/* One movement for each (order, stock row): lines of one stock row are added up. */
static void
record_movements(OrderRequest **requests, int n, int nlines)
{
	StockMovement *movements = palloc0(sizeof(StockMovement) * nlines);
	StockDemand *demands = palloc(sizeof(StockDemand) * nlines);
	int			k = 0;

	for (int i = 0; i < n; i++)
	{
		int			ndemands = ordflow_request_stock_demands(requests[i], i, demands);

		for (int j = 0; j < ndemands; j++, k++)
		{
			movements[k].kind = "reserved";
			movements[k].stock_id = demands[j].stock_id;
			movements[k].reserved = demands[j].quantity;
			movements[k].order_id = requests[i]->order_id;
		}
	}
	if (k > 0)
		ordflow_stock_record(movements, k);
}

void
ordflow_orders_insert_rest(OrderRequest **requests, int n, TimestampTz now)
{
	const char *actor = ordflow_actor();
	RowWriter	writer;
	int			nlines = 0;
	int			ncharges = 0;

	ordflow_rows_begin(&writer, &order_lines);
	for (int i = 0; i < n; i++)
	{
		write_lines(&writer, requests[i]);
		nlines += requests[i]->nlines;
		ncharges += requests[i]->ncharges;
	}
	ordflow_rows_end(&writer);

	ordflow_rows_begin(&writer, &ordflow_order_history);
	for (int i = 0; i < n; i++)
		write_history(&writer, requests[i], actor, now);
	ordflow_rows_end(&writer);

	if (ncharges > 0)
	{
		ordflow_rows_begin(&writer, &order_charges);
		for (int i = 0; i < n; i++)
			write_charges(&writer, requests[i], actor, now);
		ordflow_rows_end(&writer);
	}
	record_movements(requests, n, nlines);
}

/*
 * write.c
 *	  The rows of new orders.
 *
 * One order with one line is the common call and the fast one: plain VALUES.
 * Everything else goes by arrays, one statement a table whatever the number of orders.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "order/order.h"

#define ORDER_COLUMNS \
	"order_id, order_no, customer, state, currency, subtotal, discount, charges, payable, " \
	"coupon, expires_at, due_at, idempotency_key, metadata, created_at, updated_at"
#define ORDER_VALUES \
	"$1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15"
#define ORDER_NVALUES 15
#define ORDER_TYPES \
	{INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, NUMERICOID, NUMERICOID, NUMERICOID, NUMERICOID, \
	 TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, JSONBOID, TIMESTAMPTZOID}

/* No key and no number of the shop's own: nothing to collide with. */
static Statement insert_order = {
	.sql = "INSERT INTO ordflow.orders (" ORDER_COLUMNS ") VALUES (" ORDER_VALUES ")",
	.nargs = ORDER_NVALUES,
	.argtypes = ORDER_TYPES
};

/* The key is claimed by this insert; a twin waits here for the first's end. */
static Statement claim_order = {
	.sql = "INSERT INTO ordflow.orders (" ORDER_COLUMNS ") VALUES (" ORDER_VALUES ") "
	"ON CONFLICT DO NOTHING RETURNING order_id",
	.nargs = ORDER_NVALUES,
	.argtypes = ORDER_TYPES
};

/* Many orders at once; rows are claimed in the order they are given in. */
static Statement claim_orders = {
	.sql = "INSERT INTO ordflow.orders (" ORDER_COLUMNS ") "
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

static Statement insert_line = {
	.sql = "INSERT INTO ordflow.order_lines (order_id, line_no, sku, location, stock_id, quantity, "
	"unit_price, amount, discount, payable, limit_id, metadata) "
	"VALUES ($1, 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
	.nargs = 11,
	.argtypes = {INT8OID, TEXTOID, TEXTOID, INT8OID, INT8OID, NUMERICOID, NUMERICOID, NUMERICOID,
	NUMERICOID, INT8OID, JSONBOID}
};

static Statement insert_lines = {
	.sql = "INSERT INTO ordflow.order_lines (order_id, line_no, sku, location, stock_id, quantity, "
	"unit_price, amount, discount, payable, limit_id, metadata) "
	"SELECT * FROM unnest($1, $2::int[], $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
	.nargs = 12,
	.argtypes = {INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID,
		INT8ARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID, NUMERICARRAYOID,
	INT8ARRAYOID, JSONBARRAYOID}
};

static Statement insert_charges = {
	.sql = "INSERT INTO ordflow.order_charges (order_id, charge_no, code, amount, actor, at) "
	"SELECT u.order_id, u.charge_no, u.code, u.amount, $5, $6 "
	"FROM unnest($1, $2, $3, $4) AS u (order_id, charge_no, code, amount)",
	.nargs = 6,
	.argtypes = {INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, NUMERICARRAYOID, TEXTOID,
	TIMESTAMPTZOID}
};

static Statement insert_history = {
	.sql = "INSERT INTO ordflow.order_history (order_id, seq, event, to_state, actor, at) "
	"VALUES ($1, 1, 'submit', $2, $3, $4)",
	.nargs = 4,
	.argtypes = {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

static Statement insert_histories = {
	.sql = "INSERT INTO ordflow.order_history (order_id, seq, event, to_state, actor, at) "
	"SELECT u.order_id, 1, 'submit', u.state, $3, $4 FROM unnest($1, $2) AS u (order_id, state)",
	.nargs = 4,
	.argtypes = {INT8ARRAYOID, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID}
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
}

static bool
insert_one(OrderRequest *request, bool may_collide, TimestampTz now)
{
	Datum		values[ORDER_NVALUES];
	char		nulls[ORDER_NVALUES + 1];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(request->order_id);
	ORDFLOW_SET_TEXT(values, nulls, 1, request->number);
	ORDFLOW_SET_TEXT(values, nulls, 2, request->customer);
	ORDFLOW_SET_TEXT(values, nulls, 3, request->state);
	ORDFLOW_SET_TEXT(values, nulls, 4, request->currency);
	values[5] = ordflow_money_numeric(request->subtotal, request->decimals);
	values[6] = ordflow_money_numeric(request->discount, request->decimals);
	values[7] = ordflow_money_numeric(request->charges_total, request->decimals);
	values[8] = ordflow_money_numeric(request->payable, request->decimals);
	ORDFLOW_SET_TEXT(values, nulls, 9, request->has_coupon ? request->coupon.code : NULL);
	values[10] = TimestampTzGetDatum(request->expires_at);
	values[11] = values[10];
	nulls[11] = request->payable > 0 ? ' ' : 'n';
	ORDFLOW_SET_TEXT(values, nulls, 12, request->idempotency_key);
	values[13] = JsonbPGetDatum(request->metadata);
	values[14] = TimestampTzGetDatum(now);

	if (may_collide)
		return ordflow_execute(&claim_order, values, nulls) == 1;
	ordflow_execute(&insert_order, values, nulls);
	return true;
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
insert_many(OrderRequest **requests, int n, TimestampTz now, bool *inserted)
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
	bool		may_collide = requests[0]->idempotency_key || requests[0]->order_no;

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		requests[i]->order_id = nextval_internal(sequence, false);
		decide(requests[i], now);
	}
	if (n == 1)
		inserted[0] = insert_one(requests[0], may_collide, now);
	else
		insert_many(requests, n, now, inserted);
}

static void
insert_one_line(const OrderRequest *request)
{
	const OrderLine *line = &request->lines[0];
	Datum		values[11];
	char		nulls[12];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(request->order_id);
	ORDFLOW_SET_TEXT(values, nulls, 1, line->sku);
	ORDFLOW_SET_TEXT(values, nulls, 2, line->location);
	values[3] = Int64GetDatum(line->stock_id);
	nulls[3] = line->stock_id == 0 ? 'n' : ' ';
	values[4] = Int64GetDatum(line->quantity);
	values[5] = line->unit_price;
	values[6] = ordflow_money_numeric(line->amount, request->decimals);
	values[7] = ordflow_money_numeric(line->discount, request->decimals);
	values[8] = ordflow_money_numeric(line->amount - line->discount, request->decimals);
	values[9] = Int64GetDatum(line->limit_id);
	nulls[9] = line->limit_id == 0 ? 'n' : ' ';
	values[10] = line->metadata ? JsonbPGetDatum(line->metadata) : (Datum) 0;
	nulls[10] = line->metadata ? ' ' : 'n';
	ordflow_execute(&insert_line, values, nulls);
}

static void
insert_all_lines(OrderRequest **requests, int n, int nlines)
{
	int64	   *order_ids = palloc(sizeof(int64) * nlines);
	int64	   *line_nos = palloc(sizeof(int64) * nlines);
	const char **skus = palloc(sizeof(char *) * nlines);
	const char **locations = palloc(sizeof(char *) * nlines);
	int64	   *stock_ids = palloc(sizeof(int64) * nlines);
	int64	   *quantities = palloc(sizeof(int64) * nlines);
	Datum	   *prices = palloc(sizeof(Datum) * nlines);
	Datum	   *amounts = palloc(sizeof(Datum) * nlines);
	Datum	   *discounts = palloc(sizeof(Datum) * nlines);
	Datum	   *payables = palloc(sizeof(Datum) * nlines);
	int64	   *limit_ids = palloc(sizeof(int64) * nlines);
	Datum	   *metadata = palloc(sizeof(Datum) * nlines);
	bool	   *no_metadata = palloc(sizeof(bool) * nlines);
	Datum		values[12];
	int			k = 0;

	for (int i = 0; i < n; i++)
		for (int j = 0; j < requests[i]->nlines; j++, k++)
		{
			const OrderRequest *request = requests[i];
			const OrderLine *line = &request->lines[j];

			order_ids[k] = request->order_id;
			line_nos[k] = j + 1;
			skus[k] = line->sku;
			locations[k] = line->location;
			stock_ids[k] = line->stock_id;
			quantities[k] = line->quantity;
			prices[k] = line->unit_price;
			amounts[k] = ordflow_money_numeric(line->amount, request->decimals);
			discounts[k] = ordflow_money_numeric(line->discount, request->decimals);
			payables[k] = ordflow_money_numeric(line->amount - line->discount, request->decimals);
			limit_ids[k] = line->limit_id;
			metadata[k] = line->metadata ? JsonbPGetDatum(line->metadata) : (Datum) 0;
			no_metadata[k] = line->metadata == NULL;
		}

	values[0] = ordflow_int8_array(order_ids, k);
	values[1] = ordflow_int8_array(line_nos, k);
	values[2] = ordflow_text_array(skus, k);
	values[3] = ordflow_text_array(locations, k);
	values[4] = ordflow_id_array(stock_ids, k);
	values[5] = ordflow_int8_array(quantities, k);
	values[6] = ordflow_numeric_array(prices, NULL, k);
	values[7] = ordflow_numeric_array(amounts, NULL, k);
	values[8] = ordflow_numeric_array(discounts, NULL, k);
	values[9] = ordflow_numeric_array(payables, NULL, k);
	values[10] = ordflow_id_array(limit_ids, k);
	values[11] = ordflow_jsonb_array(metadata, no_metadata, k);
	ordflow_execute(&insert_lines, values, NULL);
}

static void
insert_all_charges(OrderRequest **requests, int n, int ncharges, TimestampTz now)
{
	int64	   *order_ids = palloc(sizeof(int64) * ncharges);
	int64	   *charge_nos = palloc(sizeof(int64) * ncharges);
	const char **codes = palloc(sizeof(char *) * ncharges);
	Datum	   *amounts = palloc(sizeof(Datum) * ncharges);
	Datum		values[6];
	int			k = 0;

	for (int i = 0; i < n; i++)
		for (int j = 0; j < requests[i]->ncharges; j++, k++)
		{
			order_ids[k] = requests[i]->order_id;
			charge_nos[k] = j + 1;
			codes[k] = requests[i]->charges[j].code;
			amounts[k] = ordflow_money_numeric(requests[i]->charges[j].amount,
											   requests[i]->decimals);
		}
	values[0] = ordflow_int8_array(order_ids, k);
	values[1] = ordflow_int8_array(charge_nos, k);
	values[2] = ordflow_text_array(codes, k);
	values[3] = ordflow_numeric_array(amounts, NULL, k);
	values[4] = CStringGetTextDatum(ordflow_actor());
	values[5] = TimestampTzGetDatum(now);
	ordflow_execute(&insert_charges, values, NULL);
}

static void
insert_history_rows(OrderRequest **requests, int n, TimestampTz now)
{
	Datum		values[4];

	values[2] = CStringGetTextDatum(ordflow_actor());
	values[3] = TimestampTzGetDatum(now);
	if (n == 1)
	{
		values[0] = Int64GetDatum(requests[0]->order_id);
		values[1] = CStringGetTextDatum(requests[0]->state);
		ordflow_execute(&insert_history, values, NULL);
	}
	else
	{
		int64	   *order_ids = palloc(sizeof(int64) * n);
		const char **states = palloc(sizeof(char *) * n);

		for (int i = 0; i < n; i++)
		{
			order_ids[i] = requests[i]->order_id;
			states[i] = requests[i]->state;
		}
		values[0] = ordflow_int8_array(order_ids, n);
		values[1] = ordflow_text_array(states, n);
		ordflow_execute(&insert_histories, values, NULL);
	}
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
	int			nlines = 0;
	int			ncharges = 0;

	for (int i = 0; i < n; i++)
	{
		nlines += requests[i]->nlines;
		ncharges += requests[i]->ncharges;
	}
	if (nlines == 0)
		return;
	if (nlines == 1)
		insert_one_line(requests[0]);
	else
		insert_all_lines(requests, n, nlines);
	if (ncharges > 0)
		insert_all_charges(requests, n, ncharges, now);
	insert_history_rows(requests, n, now);
	record_movements(requests, n, nlines);
}

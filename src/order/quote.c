/*
 * quote.c
 *	  quote_order: submit's own arithmetic without a lock, and every problem at once.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "order/order.h"

PG_FUNCTION_INFO_V1(ordflow_quote_order);

/* What stock has for the lines. */
static StockDemand *
look_at_stock(OrderRequest *request)
{
	StockDemand *demands = palloc(sizeof(StockDemand) * request->nlines);
	int			n = ordflow_request_stock_demands(request, 0, demands);

	if (n > 0)
		ordflow_stock_look(demands, n);
	for (int i = 0; i < n; i++)
		if (demands[i].stock_id == 0 || demands[i].available < demands[i].quantity)
			ordflow_request_stock_refused(request, &demands[i], i);
	return demands;
}

static void
look_at_limits(OrderRequest *request, TimestampTz now)
{
	LimitDemand *demands = palloc(sizeof(LimitDemand) * request->nlines);
	int			n = ordflow_request_limit_demands(request, 0, demands);
	bool		granted = true;

	ordflow_limit_take(demands, n, &granted, 1, now, false);
	for (int i = 0; i < n; i++)
		if (demands[i].limit_id != 0 && demands[i].refused)
			ordflow_request_limit_refused(request, &demands[i], i);
}

static void
put_money(JsonBuild *b, const OrderRequest *request, const char *key, Money money)
{
	ordflow_json_put_numeric(b, key, ordflow_money_numeric(money, request->decimals));
}

static void
put_lines(JsonBuild *b, const OrderRequest *request, const StockDemand *demands)
{
	ordflow_json_key(b, "lines");
	ordflow_json_begin_array(b);
	for (int i = 0; i < request->nlines; i++)
	{
		const OrderLine *line = &request->lines[i];
		const StockDemand *demand = line->location ? &demands[line->stock_demand] : NULL;

		ordflow_json_begin_object(b);
		ordflow_json_put_int64(b, "line", i + 1);
		ordflow_json_put_text(b, "sku", line->sku);
		ordflow_json_put_text(b, "location", line->location);
		ordflow_json_put_int64(b, "quantity", line->quantity);
		ordflow_json_put_numeric(b, "unit_price", line->unit_price);
		put_money(b, request, "amount", line->amount);
		put_money(b, request, "discount", line->discount);
		put_money(b, request, "payable", line->amount - line->discount);
		if (demand != NULL && demand->stock_id != 0)
			ordflow_json_put_int64(b, "available", demand->available);
		else
			ordflow_json_put_null(b, "available");
		ordflow_json_end_object(b);
	}
	ordflow_json_end_array(b);
}

static Jsonb *
quote(OrderRequest *request, const StockDemand *demands)
{
	JsonBuild	b = {0};

	ordflow_json_begin_object(&b);
	ordflow_json_put_text(&b, "currency", request->currency);
	put_money(&b, request, "subtotal", request->subtotal);
	put_money(&b, request, "discount", request->discount);
	put_money(&b, request, "charges", request->charges_total);
	put_money(&b, request, "payable", request->payable);
	put_lines(&b, request, demands);
	ordflow_json_put_jsonb(&b, "problems", ordflow_request_detail(request));
	ordflow_json_end_object(&b);
	return ordflow_json_finish(&b);
}

/* A payable out of range is one more problem of a quote, not the end of it. */
static void
note_invalid(OrderRequest *request)
{
	ordflow_request_problem_begin(request, SUBMIT_INVALID, "invalid");
	ordflow_json_put_text(&request->detail, "sqlstate",
						  unpack_sql_state(request->problem.sqlerrcode));
	ordflow_json_put_text(&request->detail, "message", request->problem.message);
	ordflow_request_problem_end(request);
}

Datum
ordflow_quote_order(PG_FUNCTION_ARGS)
{
	OrderRequest request = {0};
	TimestampTz now = GetCurrentTimestamp();
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext spi;
	StockDemand *demands;
	Jsonb	   *result;

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 1, "lines");
	ordflow_require_not_null(fcinfo, 3, "charges");
	request.customer = ordflow_arg_text_or_null(fcinfo, 0, "customer");
	request.coupon_code = ordflow_arg_text_or_null(fcinfo, 2, "coupon");
	if (!ordflow_request_set_currency(&request, ordflow_arg_text_or_null(fcinfo, 4, "currency")) ||
		!ordflow_request_set_lines(&request, &PG_GETARG_JSONB_P(1)->root) ||
		!ordflow_request_set_charges(&request, &PG_GETARG_JSONB_P(3)->root))
		ordflow_problem_raise(&request.problem);

	SPI_connect();
	ordflow_request_price(&request, now);
	if (request.problem.sqlerrcode != 0)
		note_invalid(&request);
	demands = look_at_stock(&request);
	look_at_limits(&request, now);
	if (request.has_coupon)
	{
		CouponRefusal refusal;

		if (!ordflow_coupon_look(&request.coupon, request.customer, &refusal))
			ordflow_request_coupon_refused(&request, &refusal);
	}
	spi = MemoryContextSwitchTo(caller);
	result = quote(&request, demands);
	MemoryContextSwitchTo(spi);
	SPI_finish();
	PG_RETURN_JSONB_P(result);
}

/*
 * request.c
 *	  One order as it is asked for: its JSON, its arithmetic, its refusals.
 *
 * A request is refused either by a Problem (bad input: one is enough) or by
 * problem objects (stock, coupon, limit, unknown names: all of them at once).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "order/order.h"

/* a unit price has at most so many digits before and after its point */
#define PRICE_WHOLE_MAX		INT64CONST(1000000000000000)
#define PRICE_DECIMALS_MAX	10

enum
{
	LINE_SKU, LINE_QUANTITY, LINE_UNIT_PRICE, LINE_LOCATION, LINE_METADATA, LINE_STOCK,
	LINE_FIELDS
};

static const JsonField line_fields[LINE_FIELDS] = {
	[LINE_SKU] = {"sku", JSON_TEXT, true},
	[LINE_QUANTITY] = {"quantity", JSON_QUANTITY, true},
	[LINE_UNIT_PRICE] = {"unit_price", JSON_AMOUNT, true},
	[LINE_LOCATION] = {"location", JSON_TEXT, false},
	[LINE_METADATA] = {"metadata", JSON_OBJECT, false},
	[LINE_STOCK] = {"stock", JSON_BOOLEAN, false},
};

enum
{
	CHARGE_CODE, CHARGE_AMOUNT,
	CHARGE_FIELDS
};

static const JsonField charge_fields[CHARGE_FIELDS] = {
	[CHARGE_CODE] = {"code", JSON_TEXT, true},
	[CHARGE_AMOUNT] = {"amount", JSON_AMOUNT, true},
};

enum
{
	ORDER_CUSTOMER, ORDER_LINES, ORDER_COUPON, ORDER_KEY, ORDER_PAY_WITHIN, ORDER_METADATA,
	ORDER_CHARGES, ORDER_CURRENCY, ORDER_NO,
	ORDER_FIELDS
};

static const JsonField order_fields[ORDER_FIELDS] = {
	[ORDER_CUSTOMER] = {"customer", JSON_TEXT, false},
	[ORDER_LINES] = {"lines", JSON_ARRAY, true},
	[ORDER_COUPON] = {"coupon", JSON_TEXT, false},
	[ORDER_KEY] = {"idempotency_key", JSON_TEXT, false},
	[ORDER_PAY_WITHIN] = {"pay_within", JSON_TEXT, false},
	[ORDER_METADATA] = {"metadata", JSON_OBJECT, false},
	[ORDER_CHARGES] = {"charges", JSON_ARRAY, false},
	[ORDER_CURRENCY] = {"currency", JSON_TEXT, false},
	[ORDER_NO] = {"order_no", JSON_TEXT, false},
};

/* What a result is called, and how a single call raises it. */
static const struct
{
	const char *name;
	int			sqlerrcode;
	const char *message;
	const char *hint;
}			results[] = {
	[SUBMIT_PENDING] = {"pending", 0, NULL, NULL},
	[SUBMIT_OK] = {"ok", 0, NULL, NULL},
	[SUBMIT_DUPLICATE] = {"duplicate", 0, NULL, NULL},
	[SUBMIT_INSUFFICIENT_STOCK] = {"insufficient_stock", ERRCODE_ORDFLOW_INSUFFICIENT_STOCK,
		"not enough stock", "Reduce the quantities to what is available, or receive stock."},
	[SUBMIT_COUPON_REFUSED] = {"coupon_refused", ERRCODE_ORDFLOW_COUPON_REFUSED,
		"the coupon cannot be used for this order", "Submit without the coupon, or with another."},
	[SUBMIT_UNKNOWN_OBJECT] = {"unknown_object", ERRCODE_ORDFLOW_NO_SUCH_OBJECT,
		"the order names something that does not exist",
		"receive_stock() creates a sku at a location, create_coupon() a coupon; "
	"\"stock\": false is for lines without stock."},
	[SUBMIT_KEY_CONFLICT] = {"key_conflict", ERRCODE_ORDFLOW_KEY_REUSED,
		"the idempotency key belongs to an order with other arguments",
		"A repeat must have the same customer, lines, coupon, currency and charges; "
	"another order needs another key."},
	[SUBMIT_LIMIT_REACHED] = {"limit_reached", ERRCODE_ORDFLOW_LIMIT_REACHED,
		"the order is above a purchase limit",
	"Reduce the quantity; a guest cannot buy what is limited per customer."},
	[SUBMIT_INVALID] = {"invalid", 0, NULL, NULL},
	[SUBMIT_REFUSED] = {"refused", 0, NULL, NULL},
};

const char *
ordflow_submit_result_name(SubmitResult result)
{
	return results[result].name;
}

void
ordflow_request_problem_begin(OrderRequest *request, SubmitResult result, const char *name)
{
	/* the first problem names the result, the detail names them all */
	if (request->result == SUBMIT_PENDING || request->result == SUBMIT_OK)
		request->result = result;
	if (request->nproblems++ == 0)
		ordflow_json_begin_array(&request->detail);
	ordflow_json_begin_object(&request->detail);
	ordflow_json_put_text(&request->detail, "problem", name);
}

void
ordflow_request_problem_end(OrderRequest *request)
{
	ordflow_json_end_object(&request->detail);
}

void
ordflow_request_reset(OrderRequest *request)
{
	request->result = SUBMIT_PENDING;
	memset(&request->problem, 0, sizeof(Problem));
	memset(&request->detail, 0, sizeof(JsonBuild));
	request->nproblems = 0;
	request->stock_taken = false;
	request->limits_taken = false;
	request->coupon_taken = false;
	request->written = false;
	for (int i = 0; i < request->nlines; i++)
		request->lines[i].limit_id = 0;
}

Jsonb *
ordflow_request_detail(OrderRequest *request)
{
	JsonBuild	b = request->detail;

	if (request->nproblems == 0)
		ordflow_json_begin_array(&b);
	ordflow_json_end_array(&b);
	return ordflow_json_finish(&b);
}

void
ordflow_request_raise(OrderRequest *request)
{
	if (request->problem.sqlerrcode != 0)
		ordflow_problem_raise(&request->problem);
	ereport(ERROR,
			errcode(results[request->result].sqlerrcode),
			errmsg_internal("%s", results[request->result].message),
			errdetail_internal("%s", ordflow_json_text(ordflow_request_detail(request))),
			errhint("%s", results[request->result].hint));
	pg_unreachable();
}

/* A unit price is finite, not negative, and has at most 15 + 10 digits. */
static bool
check_unit_price(Datum price, const char *what, Problem *problem)
{
	Numeric		number = DatumGetNumeric(price);
	Datum		limit = NumericGetDatum(int64_to_numeric(PRICE_WHOLE_MAX));
	Datum		rounded;

	if (numeric_is_nan(number) || numeric_is_inf(number))
		return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL, NULL,
							  "%s: \"unit_price\" must be a finite number", what);
	if (DatumGetInt32(DirectFunctionCall2(numeric_cmp, price,
										  NumericGetDatum(int64_to_numeric(0)))) < 0)
		return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
							  "A deduction belongs into \"charges\".",
							  "%s: \"unit_price\" may not be negative", what);
	rounded = DirectFunctionCall2(numeric_round, price, Int32GetDatum(PRICE_DECIMALS_MAX));
	if (DatumGetInt32(DirectFunctionCall2(numeric_cmp, price, limit)) >= 0 ||
		!DatumGetBool(DirectFunctionCall2(numeric_eq, price, rounded)))
		return ordflow_refuse(problem, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
							  "A price has at most 15 digits before and 10 after the point.", NULL,
							  "%s: \"unit_price\" is out of range", what);
	return true;
}

static bool
set_line(OrderRequest *request, OrderLine *line, JsonbContainer *object, int line_no)
{
	JsonItem	items[LINE_FIELDS];
	char		what[32];
	bool		stock;

	snprintf(what, sizeof(what), "line %d", line_no);
	if (!ordflow_json_read(object, what, line_fields, LINE_FIELDS, items, &request->problem) ||
		!check_unit_price(items[LINE_UNIT_PRICE].amount, what, &request->problem))
		return false;

	stock = items[LINE_STOCK].null || items[LINE_STOCK].boolean;
	if (!stock && !items[LINE_LOCATION].null)
		return ordflow_refuse(&request->problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL, NULL,
							  "%s: a line without stock has no location", what);
	line->sku = items[LINE_SKU].text;
	line->quantity = items[LINE_QUANTITY].quantity;
	line->unit_price = items[LINE_UNIT_PRICE].amount;
	line->location = !stock ? NULL : items[LINE_LOCATION].null ? "main" : items[LINE_LOCATION].text;
	if (!items[LINE_METADATA].null &&
		JsonContainerSize(ordflow_json_container(&items[LINE_METADATA].value)) > 0)
		line->metadata = JsonbValueToJsonb(&items[LINE_METADATA].value);
	return ordflow_money_line(line->unit_price, line->quantity, request->decimals, what,
							  &line->amount, &request->problem);
}

bool
ordflow_request_set_lines(OrderRequest *request, JsonbContainer *lines)
{
	if (!JsonContainerIsArray(lines) || JsonContainerIsScalar(lines) ||
		JsonContainerSize(lines) == 0)
		return ordflow_refuse(&request->problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
							  "As in [{\"sku\": \"85123A\", \"quantity\": 6, \"unit_price\": 2.55}].",
							  "\"lines\" must be an array of at least one line");
	request->nlines = JsonContainerSize(lines);
	if (request->nlines > ordflow_max_lines)
		return ordflow_refuse(&request->problem, ERRCODE_PROGRAM_LIMIT_EXCEEDED, NULL,
							  "The setting ordflow.max_lines holds the limit.",
							  "the order has %d lines, at most %d are allowed",
							  request->nlines, ordflow_max_lines);

	request->lines = palloc0(sizeof(OrderLine) * request->nlines);
	for (int i = 0; i < request->nlines; i++)
		if (!set_line(request, &request->lines[i], ordflow_json_element(lines, i), i + 1))
			return false;
	return true;
}

bool
ordflow_request_set_charges(OrderRequest *request, JsonbContainer *charges)
{
	if (!JsonContainerIsArray(charges) || JsonContainerIsScalar(charges))
		return ordflow_refuse(&request->problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
							  "As in [{\"code\": \"shipping\", \"amount\": 12}].",
							  "\"charges\" must be an array");
	request->ncharges = JsonContainerSize(charges);
	if (request->ncharges > ordflow_max_lines)
		return ordflow_refuse(&request->problem, ERRCODE_PROGRAM_LIMIT_EXCEEDED, NULL,
							  "The setting ordflow.max_lines holds the limit.",
							  "the order has %d charges, at most %d are allowed",
							  request->ncharges, ordflow_max_lines);

	request->charges = palloc0(sizeof(OrderCharge) * Max(request->ncharges, 1));
	for (int i = 0; i < request->ncharges; i++)
	{
		JsonItem	items[CHARGE_FIELDS];
		char		what[32];

		snprintf(what, sizeof(what), "charge %d", i + 1);
		if (!ordflow_json_read(ordflow_json_element(charges, i), what, charge_fields,
							   CHARGE_FIELDS, items, &request->problem) ||
			!ordflow_money_exact(items[CHARGE_AMOUNT].amount, request->decimals, what,
								 &request->charges[i].amount, &request->problem))
			return false;
		request->charges[i].code = items[CHARGE_CODE].text;
	}
	return true;
}

bool
ordflow_request_set_currency(OrderRequest *request, const char *currency)
{
	request->currency = currency != NULL ? currency : ordflow_currency;
	if (!ordflow_check_currency(request->currency, &request->problem))
		return false;
	request->decimals = ordflow_currency_decimals(request->currency);
	return true;
}

bool
ordflow_request_set_pay_within(OrderRequest *request, Interval *pay_within)
{
	if (!ordflow_check_interval(pay_within, "\"pay_within\"", GetCurrentTimestamp(),
								&request->problem))
		return false;
	request->pay_within = pay_within;
	return true;
}

/*
 * An interval in text.  interval_in() raises on garbage, and in a bulk call one
 * bad order must not fail the others: so it runs in a subtransaction.  Few calls
 * set pay_within for a single order.
 */
static bool
set_pay_within_text(OrderRequest *request, const char *text)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Interval   *volatile interval = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		interval = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(text),
														 ObjectIdGetDatum(InvalidOid),
														 Int32GetDatum(-1)));
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (ordflow_error_is_callers(error->sqlerrcode))
			ReThrowError(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;

	if (interval == NULL)
		return ordflow_refuse(&request->problem, ERRCODE_INVALID_DATETIME_FORMAT, NULL, NULL,
							  "\"pay_within\" is not an interval");
	return ordflow_request_set_pay_within(request, interval);
}

bool
ordflow_request_from_json(OrderRequest *request, JsonbContainer *object)
{
	JsonItem	items[ORDER_FIELDS];

	if (!ordflow_json_read(object, "order", order_fields, ORDER_FIELDS, items, &request->problem))
		return false;
	request->customer = items[ORDER_CUSTOMER].text;
	request->coupon_code = items[ORDER_COUPON].text;
	request->idempotency_key = items[ORDER_KEY].text;
	request->order_no = items[ORDER_NO].text;
	request->metadata = items[ORDER_METADATA].null ? NULL :
		JsonbValueToJsonb(&items[ORDER_METADATA].value);

	return ordflow_request_set_currency(request, items[ORDER_CURRENCY].text) &&
		ordflow_request_set_lines(request, ordflow_json_container(&items[ORDER_LINES].value)) &&
		(items[ORDER_CHARGES].null ||
		 ordflow_request_set_charges(request,
									 ordflow_json_container(&items[ORDER_CHARGES].value))) &&
		(items[ORDER_PAY_WITHIN].null ||
		 set_pay_within_text(request, items[ORDER_PAY_WITHIN].text));
}

/* Lays the coupon over the lines. */
static void
price_coupon(OrderRequest *request, TimestampTz now)
{
	CouponBasket basket = {0};
	CouponRefusal refusal;
	const char **skus = palloc(sizeof(char *) * request->nlines);
	Money	   *amounts = palloc(sizeof(Money) * request->nlines);

	if (!ordflow_coupon_read(request->coupon_code, &request->coupon))
	{
		ordflow_request_problem_begin(request, SUBMIT_UNKNOWN_OBJECT, "unknown_object");
		ordflow_json_put_text(&request->detail, "coupon", request->coupon_code);
		ordflow_request_problem_end(request);
		return;
	}
	for (int i = 0; i < request->nlines; i++)
	{
		skus[i] = request->lines[i].sku;
		amounts[i] = request->lines[i].amount;
	}
	basket.customer = request->customer;
	basket.currency = request->currency;
	basket.decimals = request->decimals;
	basket.now = now;
	basket.nlines = request->nlines;
	basket.skus = skus;
	basket.amounts = amounts;
	basket.shares = palloc0(sizeof(Money) * request->nlines);
	if (!ordflow_coupon_price(&request->coupon, &basket, &refusal))
	{
		ordflow_request_coupon_refused(request, &refusal);
		return;
	}
	request->has_coupon = true;
	request->discount = basket.discount;
	for (int i = 0; i < request->nlines; i++)
		request->lines[i].discount = basket.shares[i];
}

void
ordflow_request_price(OrderRequest *request, TimestampTz now)
{
	/* MONEY_MAX x the most lines fits an int64; the sum of both totals need not */
	for (int i = 0; i < request->nlines; i++)
		request->subtotal += request->lines[i].amount;
	for (int i = 0; i < request->ncharges; i++)
		request->charges_total += request->charges[i].amount;
	if (request->coupon_code != NULL)
		price_coupon(request, now);
	if (request->subtotal <= MONEY_MAX && request->charges_total <= MONEY_MAX)
		request->payable = request->subtotal - request->discount + request->charges_total;
	else
		request->payable = MONEY_MAX + 1;

	if (request->payable < 0)
		ordflow_refuse(&request->problem, ERRCODE_INVALID_PARAMETER_VALUE,
					   psprintf("The goods come to %s, the charges to %s.",
								ordflow_money_text(request->subtotal - request->discount,
												   request->decimals),
								ordflow_money_text(request->charges_total, request->decimals)),
					   NULL, "the order would be payable below zero");
	else if (request->payable > MONEY_MAX)
		ordflow_refuse(&request->problem, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, NULL, NULL,
					   "the order's amount is out of range");
	if (request->problem.sqlerrcode != 0)
		request->result = SUBMIT_INVALID;
}

/* The lines of one (sku, location) lie side by side after this sort. */
static int
compare_lines(const void *a, const void *b)
{
	const OrderLine *l = *(const OrderLine *const *) a;
	const OrderLine *r = *(const OrderLine *const *) b;
	int			cmp;

	if (l->location == NULL || r->location == NULL)
	{
		if (l->location != r->location)
			return l->location == NULL ? 1 : -1;
		return strcmp(l->sku, r->sku);
	}
	cmp = strcmp(l->sku, r->sku);
	return cmp != 0 ? cmp : strcmp(l->location, r->location);
}

static OrderLine **
sorted_lines(const OrderRequest *request)
{
	OrderLine **sorted = palloc(sizeof(OrderLine *) * request->nlines);

	for (int i = 0; i < request->nlines; i++)
		sorted[i] = &request->lines[i];
	if (request->nlines > 1)
		qsort(sorted, request->nlines, sizeof(OrderLine *), compare_lines);
	return sorted;
}

int
ordflow_request_stock_demands(OrderRequest *request, int owner, StockDemand *demands)
{
	OrderLine **sorted = sorted_lines(request);
	int			n = 0;

	for (int i = 0; i < request->nlines && sorted[i]->location != NULL; i++)
	{
		if (i == 0 || compare_lines(&sorted[i - 1], &sorted[i]) != 0)
		{
			memset(&demands[n], 0, sizeof(StockDemand));
			demands[n].owner = owner;
			demands[n].sku = sorted[i]->sku;
			demands[n].location = sorted[i]->location;
			demands[n].stock_id = sorted[i]->stock_id;
			n++;
		}
		demands[n - 1].quantity += sorted[i]->quantity;
		sorted[i]->stock_demand = n - 1;
	}
	pfree(sorted);
	return n;
}

static int
compare_skus(const void *a, const void *b)
{
	return strcmp((*(const OrderLine *const *) a)->sku, (*(const OrderLine *const *) b)->sku);
}

int
ordflow_request_limit_demands(OrderRequest *request, int owner, LimitDemand *demands)
{
	OrderLine **sorted = sorted_lines(request);
	int			n = 0;

	qsort(sorted, request->nlines, sizeof(OrderLine *), compare_skus);
	for (int i = 0; i < request->nlines; i++)
	{
		if (i == 0 || compare_skus(&sorted[i - 1], &sorted[i]) != 0)
		{
			memset(&demands[n], 0, sizeof(LimitDemand));
			demands[n].owner = owner;
			demands[n].customer = request->customer;
			demands[n].sku = sorted[i]->sku;
			n++;
		}
		demands[n - 1].quantity += sorted[i]->quantity;
		sorted[i]->limit_demand = n - 1;
	}
	pfree(sorted);
	return n;
}

void
ordflow_request_stock_refused(OrderRequest *request, const StockDemand *demand, int index)
{
	bool		known = demand->stock_id != 0;

	ordflow_request_problem_begin(request,
								  known ? SUBMIT_INSUFFICIENT_STOCK : SUBMIT_UNKNOWN_OBJECT,
								  known ? "insufficient_stock" : "unknown_object");
	ordflow_json_key(&request->detail, "lines");
	ordflow_json_begin_array(&request->detail);
	for (int i = 0; i < request->nlines; i++)
		if (request->lines[i].location != NULL && request->lines[i].stock_demand == index)
			ordflow_json_put_int64(&request->detail, NULL, i + 1);
	ordflow_json_end_array(&request->detail);
	ordflow_stock_put_problem(&request->detail, demand);
	ordflow_request_problem_end(request);
}

void
ordflow_request_limit_refused(OrderRequest *request, const LimitDemand *demand, int index)
{
	ordflow_request_problem_begin(request, SUBMIT_LIMIT_REACHED, "limit_reached");
	ordflow_json_key(&request->detail, "lines");
	ordflow_json_begin_array(&request->detail);
	for (int i = 0; i < request->nlines; i++)
		if (request->lines[i].limit_demand == index)
			ordflow_json_put_int64(&request->detail, NULL, i + 1);
	ordflow_json_end_array(&request->detail);
	ordflow_json_put_text(&request->detail, "sku", demand->sku);
	ordflow_json_put_int64(&request->detail, "requested", demand->quantity);
	ordflow_json_put_int64(&request->detail, "per_customer", demand->per_customer);
	if (demand->customer == NULL)
		ordflow_json_put_text(&request->detail, "reason", "guest");
	else
		ordflow_json_put_int64(&request->detail, "bought", demand->bought);
	ordflow_request_problem_end(request);
}

void
ordflow_request_coupon_refused(OrderRequest *request, const CouponRefusal *refusal)
{
	ordflow_request_problem_begin(request, SUBMIT_COUPON_REFUSED, "coupon_refused");
	ordflow_json_put_text(&request->detail, "coupon", request->coupon_code);
	ordflow_json_put_text(&request->detail, "reason", refusal->reason);
	if (refusal->in_flight > 0)
		ordflow_json_put_int64(&request->detail, "in_flight", refusal->in_flight);
	ordflow_request_problem_end(request);
}

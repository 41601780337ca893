/*
 * submit.c
 *	  submit_order and submit_orders: one path, for one order or thousands.
 *
 * What is sold out is answered first, from the counters alone.  Then in this order, and
 * set by set for a bulk call: the orders' own rows (which claim the idempotency keys; a
 * twin waits there for the first's end), stock, purchase limits, coupons, then lines,
 * history and movements.  So whoever loses the race for a key has taken nothing yet, and
 * all callers meet the locks in one order.
 *
 * A refused order of a bulk call is withdrawn: its rows are deleted and what it
 * took is given back, within the call and without a subtransaction.  A
 * subtransaction is used only around effects of users.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/resowner.h"

#include "order/order.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_submit_order);
PG_FUNCTION_INFO_V1(ordflow_submit_orders);

/* how often a key may be found taken and then free again before we give up */
#define CLAIM_TRIES_MAX 10

static Statement delete_order = {
	.sql = "WITH l AS (DELETE FROM ordflow.order_lines WHERE order_id = $1), "
	"c AS (DELETE FROM ordflow.order_charges WHERE order_id = $1), "
	"h AS (DELETE FROM ordflow.order_history WHERE order_id = $1) "
	"DELETE FROM ordflow.orders WHERE order_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* ---- taking, and giving back ---- */

static bool
pending(const OrderRequest *request)
{
	return request->result == SUBMIT_PENDING;
}

/* The stock rows of the lines. */
static void
note_rows(OrderRequest *request, const StockDemand *demands)
{
	for (int i = 0; i < request->nlines; i++)
		if (request->lines[i].location != NULL)
			request->lines[i].stock_id = demands[request->lines[i].stock_demand].stock_id;
}

static void
refuse_stock(OrderRequest *request, const StockDemand *demands, int ndemands)
{
	for (int i = 0; i < ndemands; i++)
		if (demands[i].stock_id == 0 || demands[i].available < demands[i].quantity)
			ordflow_request_stock_refused(request, &demands[i], i);
}

static void
take_stock(OrderRequest **requests, int n, int nlines)
{
	StockDemand *demands = palloc(sizeof(StockDemand) * nlines);
	int		   *first = palloc(sizeof(int) * (n + 1));
	bool	   *granted = palloc(sizeof(bool) * n);

	first[0] = 0;
	for (int i = 0; i < n; i++)
	{
		granted[i] = pending(requests[i]);
		first[i + 1] = first[i];
		if (granted[i])
			first[i + 1] += ordflow_request_stock_demands(requests[i], i, demands + first[i]);
	}
	if (first[n] == 0)
		return;
	ordflow_stock_reserve(demands, first[n], granted, n);

	for (int i = 0; i < n; i++)
	{
		OrderRequest *request = requests[i];
		StockDemand *mine = demands + first[i];

		request->stock_taken = granted[i] && first[i + 1] > first[i];
		if (granted[i])
			note_rows(request, mine);
		else
			refuse_stock(request, mine, first[i + 1] - first[i]);
	}
}

static void
take_limits(OrderRequest **requests, int n, int nlines, TimestampTz now)
{
	LimitDemand *demands = palloc(sizeof(LimitDemand) * nlines);
	int		   *first = palloc(sizeof(int) * (n + 1));
	bool	   *granted = palloc(sizeof(bool) * n);

	first[0] = 0;
	for (int i = 0; i < n; i++)
	{
		granted[i] = pending(requests[i]);
		first[i + 1] = first[i];
		if (granted[i])
			first[i + 1] += ordflow_request_limit_demands(requests[i], i, demands + first[i]);
	}
	if (first[n] == 0)
		return;
	ordflow_limit_take(demands, first[n], granted, n, now, true);

	for (int i = 0; i < n; i++)
	{
		OrderRequest *request = requests[i];
		LimitDemand *mine = demands + first[i];

		for (int j = 0; granted[i] && j < request->nlines; j++)
		{
			request->lines[j].limit_id = mine[request->lines[j].limit_demand].limit_id;
			request->limits_taken |= request->lines[j].limit_id != 0;
		}
		for (int j = 0; !granted[i] && j < first[i + 1] - first[i]; j++)
			if (mine[j].limit_id != 0 && mine[j].refused)
				ordflow_request_limit_refused(request, &mine[j], j);
	}
}

static int
compare_coupons(const void *a, const void *b)
{
	const OrderRequest *l = *(const OrderRequest *const *) a;
	const OrderRequest *r = *(const OrderRequest *const *) b;

	int			cmp;

	if (l->coupon.coupon_id != r->coupon.coupon_id)
		return l->coupon.coupon_id < r->coupon.coupon_id ? -1 : 1;
	cmp = strcmp(l->customer ? l->customer : "", r->customer ? r->customer : "");
	return cmp != 0 ? cmp : l->ordinal - r->ordinal;
}

/* in the order of coupon and customer, so that two bulk calls cannot deadlock */
static void
take_coupons(OrderRequest **requests, int n)
{
	OrderRequest **with = palloc(sizeof(OrderRequest *) * n);
	int			k = 0;

	for (int i = 0; i < n; i++)
		if (pending(requests[i]) && requests[i]->has_coupon)
			with[k++] = requests[i];
	qsort(with, k, sizeof(OrderRequest *), compare_coupons);

	for (int i = 0; i < k; i++)
	{
		CouponRefusal refusal;

		CHECK_FOR_INTERRUPTS();
		with[i]->coupon_taken = ordflow_coupon_lock(&with[i]->coupon, with[i]->customer,
													with[i]->order_id, &refusal);
		if (!with[i]->coupon_taken)
			ordflow_request_coupon_refused(with[i], &refusal);
	}
}

/* Of an order whose movements are written, units that nobody else may have yet. */
static void
give_back_stock(OrderRequest *request)
{
	StockDemand *demands = palloc(sizeof(StockDemand) * request->nlines);
	int			n = ordflow_request_stock_demands(request, 0, demands);
	StockMovement *movements = palloc0(sizeof(StockMovement) * Max(n, 1));

	if (!request->written)
	{
		ordflow_stock_unreserve(demands, n);
		return;
	}
	for (int i = 0; i < n; i++)
	{
		movements[i].kind = "released";
		movements[i].stock_id = demands[i].stock_id;
		movements[i].reserved = -demands[i].quantity;
		movements[i].order_id = request->order_id;
		movements[i].reason = "refused";
	}
	ordflow_stock_apply(movements, n);
}

static void
give_back_limits(const OrderRequest *request)
{
	LimitReturn *returns = palloc(sizeof(LimitReturn) * request->nlines);
	int			n = 0;

	for (int i = 0; i < request->nlines; i++)
		if (request->lines[i].limit_id != 0)
		{
			returns[n].limit_id = request->lines[i].limit_id;
			returns[n].customer = request->customer;
			returns[n++].quantity = request->lines[i].quantity;
		}
	ordflow_limit_return(returns, n);
}

/* A refused order of a bulk call leaves nothing: no row, no key, no unit. */
static void
withdraw(OrderRequest *request)
{
	Datum		values[1] = {Int64GetDatum(request->order_id)};

	if (request->stock_taken)
		give_back_stock(request);
	if (request->limits_taken)
		give_back_limits(request);
	if (request->coupon_taken)
		ordflow_coupon_forget(&request->order_id, 1);

	/* what is not written has its own row alone, which goes without being a conflict for others */
	if (request->written || !ordflow_rows_delete("orders", "orders_pkey", request->order_id))
		ordflow_execute(&delete_order, values, NULL);
	request->order_id = 0;
}

/* ---- effects of users ---- */

static void
user_effects(OrderRequest *request, TimestampTz now)
{
	MachineStep step = {0};
	Datum		key = Int64GetDatum(request->order_id);

	step.target = ordflow_order_target();
	step.event = "submit";
	step.to_state = request->state;
	step.now = now;
	step.written = true;
	step.nkeys = 1;
	step.keys = &key;
	ordflow_machine_user_effects(&step);
}

/* In a bulk call an effect that fails refuses its order alone. */
static void
user_effects_or_refuse(OrderRequest *request, TimestampTz now)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		user_effects(request, now);
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
		request->result = SUBMIT_REFUSED;
		request->problem.sqlerrcode = error->sqlerrcode;
		request->problem.message = error->message;
		request->problem.detail = error->detail;
		request->problem.hint = error->hint;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = owner;
}

/* ---- the path ---- */

static bool
same_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

static int
compare_claims(const void *a, const void *b)
{
	const OrderRequest *l = *(const OrderRequest *const *) a;
	const OrderRequest *r = *(const OrderRequest *const *) b;
	int			cmp;

	/* orders without a key first, in the order of their numbers, for which they may wait */
	if (l->idempotency_key == NULL || r->idempotency_key == NULL)
		cmp = (l->idempotency_key != NULL) - (r->idempotency_key != NULL);
	else if ((cmp = strcmp(l->customer ? l->customer : "", r->customer ? r->customer : "")) == 0)
		cmp = strcmp(l->idempotency_key, r->idempotency_key);
	if (cmp == 0)
		cmp = strcmp(l->order_no ? l->order_no : "", r->order_no ? r->order_no : "");
	return cmp != 0 ? cmp : l->ordinal - r->ordinal;
}

static bool
same_claim(const OrderRequest *a, const OrderRequest *b)
{
	return a->idempotency_key != NULL && b->idempotency_key != NULL &&
		same_text(a->customer, b->customer) && same_text(a->idempotency_key, b->idempotency_key);
}

static int
compare_ordinals(const void *a, const void *b)
{
	const OrderRequest *l = *(const OrderRequest *const *) a;
	const OrderRequest *r = *(const OrderRequest *const *) b;

	return l->ordinal - r->ordinal;
}

static void
mark_stage(OrderRequest **requests, int n, int stage)
{
	for (int i = 0; i < n; i++)
		if (pending(requests[i]))
			requests[i]->stage = stage;
}

static void submit_pass(OrderRequest **requests, int n, TimestampTz now, bool bulk);

/*
 * An order that came further than another may have held, for a while, what the other was
 * refused for: so the other is decided again, alone and once.  Together they would
 * hold each other up anew, a pass for each of them.
 */
static void
withdraw_refused(OrderRequest **requests, int n, TimestampTz now)
{
	int			furthest = 0;

	for (int i = 0; i < n; i++)
		if (requests[i]->result != SUBMIT_OK)
		{
			withdraw(requests[i]);
			furthest = Max(furthest, requests[i]->stage);
		}
	for (int i = 0; i < n; i++)
		if (requests[i]->result != SUBMIT_OK && requests[i]->stage < furthest)
		{
			CHECK_FOR_INTERRUPTS();
			ordflow_request_reset(requests[i]);
			submit_pass(&requests[i], 1, now, true);
		}
}

/* Decides requests[] whose rows have been inserted; in the order of the call. */
static void
submit_inserted(OrderRequest **requests, int n, TimestampTz now, bool bulk)
{
	bool		hooks = ordflow_machine_has_hooks("order", "submit");
	int			nlines = 0;
	int			naccepted = 0;
	OrderRequest **accepted = palloc(sizeof(OrderRequest *) * Max(n, 1));

	for (int i = 0; i < n; i++)
		nlines += requests[i]->nlines;
	mark_stage(requests, n, 0);
	take_stock(requests, n, nlines);
	mark_stage(requests, n, 1);
	take_limits(requests, n, nlines, now);
	mark_stage(requests, n, 2);
	take_coupons(requests, n);
	mark_stage(requests, n, 3);

	for (int i = 0; i < n; i++)
		if (pending(requests[i]))
			accepted[naccepted++] = requests[i];
	if (naccepted > 0)
		ordflow_orders_insert_rest(accepted, naccepted, now);

	for (int i = 0; i < naccepted; i++)
	{
		accepted[i]->result = SUBMIT_OK;
		accepted[i]->written = true;
		if (accepted[i]->payable == 0 && accepted[i]->coupon_taken)
			ordflow_coupon_use(&accepted[i]->order_id, 1);
		if (hooks && bulk)
			user_effects_or_refuse(accepted[i], now);
		else if (hooks)
			user_effects(accepted[i], now);
	}

	if (bulk)
		withdraw_refused(requests, n, now);
}

/*
 * One pass: claims the keys of requests[], sorted by claim, and decides all that
 * got theirs.
 */
static void
submit_pass(OrderRequest **requests, int n, TimestampTz now, bool bulk)
{
	bool	   *inserted = palloc(sizeof(bool) * n);
	OrderRequest **mine = palloc(sizeof(OrderRequest *) * n);
	int			nmine = 0;

	ordflow_orders_insert(requests, n, now, inserted);
	for (int i = 0; i < n; i++)
		if (inserted[i])
			mine[nmine++] = requests[i];
	qsort(mine, nmine, sizeof(OrderRequest *), compare_ordinals);
	if (nmine > 0)
		submit_inserted(mine, nmine, now, bulk);

	for (int i = 0; i < n; i++)
		if (!inserted[i] && !ordflow_settle_collision(requests[i]) &&
			++requests[i]->tries > CLAIM_TRIES_MAX)
		{
			requests[i]->order_id = 0;
			requests[i]->result = SUBMIT_INVALID;
			ordflow_refuse(&requests[i]->problem, ERRCODE_UNIQUE_VIOLATION, NULL,
						   "A unique index of your own on ordflow.orders may be in the way.",
						   "the order collides with another, but neither by its key nor by its number");
		}
}

static bool
key_taken(const OrderRequest *request)
{
	return request->result == SUBMIT_OK || request->result == SUBMIT_DUPLICATE ||
		request->result == SUBMIT_KEY_CONFLICT;
}

/*
 * What is sold out is answered before a row is written.  But a key that is taken, or is being taken
 * now, stands for an order that may have been accepted: then the answer is that order's.  The
 * requests are sorted by claim.
 */
static void
refuse_sold_out(OrderRequest **requests, int n)
{
	for (int i = 0; i < n; i++)
	{
		OrderRequest *request = requests[i];
		bool		has_twin = (i > 0 && same_claim(requests[i - 1], request)) ||
			(i + 1 < n && same_claim(request, requests[i + 1]));
		StockDemand *demands = palloc(sizeof(StockDemand) * request->nlines);
		int			ndemands = ordflow_request_stock_demands(request, 0, demands);

		/* whoever waits for a twin has passed the gate, and so has the twin */
		CHECK_FOR_INTERRUPTS();
		if (ordflow_stock_is_sold_out(demands, ndemands) && !has_twin &&
			ordflow_claim_is_free(request))
			refuse_stock(request, demands, ndemands);
		else
			note_rows(request, demands);
		pfree(demands);
	}
}

/*
 * Decides every pending request.  Of several with one key in the call the first
 * goes ahead, and the others find what became of it in the next pass: a
 * duplicate if it was accepted, their own turn if it was refused.
 */
static void
submit_all(OrderRequest **requests, int n, TimestampTz now, bool bulk)
{
	OrderRequest **pass = palloc(sizeof(OrderRequest *) * Max(n, 1));
	bool		first = true;

	if (n > 1)
		qsort(requests, n, sizeof(OrderRequest *), compare_claims);
	refuse_sold_out(requests, n);
	for (;;)
	{
		int			k = 0;
		int			end;

		CHECK_FOR_INTERRUPTS();
		for (int start = 0; start < n; start = end)
		{
			bool		taken = key_taken(requests[start]);

			for (end = start + 1; end < n && same_claim(requests[start], requests[end]); end++)
				taken |= key_taken(requests[end]);
			for (int i = start; i < end; i++)
				if (pending(requests[i]))
				{
					pass[k++] = requests[i];
					if (!taken)
						break;
				}
		}
		if (k == 0)
			break;
		if (first)
		{
			ordflow_worker_activate(DUTY_TIMER);
			ordflow_worker_wake_blocked();
			first = false;
		}
		submit_pass(pass, k, now, bulk);
	}
}

/* ---- SQL ---- */

enum
{
	SUBMIT_CUSTOMER, SUBMIT_LINES, SUBMIT_COUPON, SUBMIT_KEY, SUBMIT_PAY_WITHIN, SUBMIT_METADATA,
	SUBMIT_CHARGES, SUBMIT_CURRENCY, SUBMIT_ORDER_NO
};

static void
request_from_arguments(OrderRequest *request, FunctionCallInfo fcinfo)
{
	const char *currency;

	ordflow_require_not_null(fcinfo, SUBMIT_LINES, "lines");
	ordflow_require_not_null(fcinfo, SUBMIT_METADATA, "metadata");
	ordflow_require_not_null(fcinfo, SUBMIT_CHARGES, "charges");
	request->customer = ordflow_arg_text_or_null(fcinfo, SUBMIT_CUSTOMER, "customer");
	request->coupon_code = ordflow_arg_text_or_null(fcinfo, SUBMIT_COUPON, "coupon");
	request->idempotency_key = ordflow_arg_text_or_null(fcinfo, SUBMIT_KEY, "idempotency_key");
	request->order_no = ordflow_arg_text_or_null(fcinfo, SUBMIT_ORDER_NO, "order_no");
	request->metadata = PG_GETARG_JSONB_P(SUBMIT_METADATA);
	if (!JB_ROOT_IS_OBJECT(request->metadata))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"metadata\" must be a JSON object"));

	currency = ordflow_arg_text_or_null(fcinfo, SUBMIT_CURRENCY, "currency");
	if (!ordflow_request_set_currency(request, currency) ||
		(!PG_ARGISNULL(SUBMIT_PAY_WITHIN) &&
		 !ordflow_request_set_pay_within(request, PG_GETARG_INTERVAL_P(SUBMIT_PAY_WITHIN))) ||
		!ordflow_request_set_lines(request, &PG_GETARG_JSONB_P(SUBMIT_LINES)->root) ||
		!ordflow_request_set_charges(request, &PG_GETARG_JSONB_P(SUBMIT_CHARGES)->root))
		ordflow_problem_raise(&request->problem);
}

Datum
ordflow_submit_order(PG_FUNCTION_ARGS)
{
	OrderRequest request = {0};
	OrderRequest *requests[1] = {&request};
	TimestampTz now = GetCurrentTimestamp();

	ordflow_require_preload();
	request_from_arguments(&request, fcinfo);

	SPI_connect();
	ordflow_request_price(&request, now);
	if (!pending(&request))
		ordflow_recall_twin(&request);
	else
		submit_all(requests, 1, now, false);
	if (!key_taken(&request) || request.result == SUBMIT_KEY_CONFLICT)
		ordflow_request_raise(&request);
	SPI_finish();
	PG_RETURN_INT64(request.order_id);
}

/* The detail of a result row: problem objects, or what a single call would have raised. */
static Jsonb *
result_detail(OrderRequest *request)
{
	JsonBuild	b = {0};

	if (request->problem.sqlerrcode == 0)
		return ordflow_request_detail(request);
	ordflow_json_begin_array(&b);
	ordflow_json_begin_object(&b);
	ordflow_json_put_text(&b, "problem", ordflow_submit_result_name(request->result));
	ordflow_json_put_text(&b, "sqlstate", unpack_sql_state(request->problem.sqlerrcode));
	ordflow_json_put_text(&b, "message", request->problem.message);
	if (request->problem.detail != NULL)
		ordflow_json_put_text(&b, "detail", request->problem.detail);
	if (request->problem.hint != NULL)
		ordflow_json_put_text(&b, "hint", request->problem.hint);
	ordflow_json_end_object(&b);
	ordflow_json_end_array(&b);
	return ordflow_json_finish(&b);
}

static void
put_result(ReturnSetInfo *rsinfo, OrderRequest *request)
{
	Datum		values[4];
	bool		nulls[4] = {false};

	values[0] = Int32GetDatum(request->ordinal);
	values[1] = Int64GetDatum(request->order_id);
	nulls[1] = request->order_id == 0;
	values[2] = CStringGetTextDatum(ordflow_submit_result_name(request->result));
	nulls[3] = request->result == SUBMIT_OK || request->result == SUBMIT_DUPLICATE;
	values[3] = nulls[3] ? (Datum) 0 : JsonbPGetDatum(result_detail(request));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static JsonbContainer *
orders_argument(FunctionCallInfo fcinfo, int *n)
{
	Jsonb	   *orders;

	ordflow_require_not_null(fcinfo, 0, "orders");
	orders = PG_GETARG_JSONB_P(0);
	if (!JB_ROOT_IS_ARRAY(orders) || JB_ROOT_IS_SCALAR(orders))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"orders\" must be an array of objects"));
	*n = JB_ROOT_COUNT(orders);
	if (*n > ORDFLOW_ORDERS_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("one call takes at most %d orders, %d were given", ORDFLOW_ORDERS_MAX, *n));
	return &orders->root;
}

Datum
ordflow_submit_orders(PG_FUNCTION_ARGS)
{
	int			n;
	int			k = 0;
	JsonbContainer *orders = orders_argument(fcinfo, &n);
	OrderRequest *all = palloc0(sizeof(OrderRequest) * Max(n, 1));
	OrderRequest **valid = palloc(sizeof(OrderRequest *) * Max(n, 1));
	TimestampTz now = GetCurrentTimestamp();

	ordflow_require_preload();
	InitMaterializedSRF(fcinfo, 0);

	SPI_connect();
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		all[i].ordinal = i + 1;
		if (ordflow_request_from_json(&all[i], ordflow_json_element(orders, i)))
		{
			ordflow_request_price(&all[i], now);
			if (!pending(&all[i]))
				ordflow_recall_twin(&all[i]);
		}
		else
			all[i].result = SUBMIT_INVALID;
		if (pending(&all[i]))
			valid[k++] = &all[i];
	}
	submit_all(valid, k, now, true);
	for (int i = 0; i < n; i++)
		put_result((ReturnSetInfo *) fcinfo->resultinfo, &all[i]);
	SPI_finish();
	return (Datum) 0;
}

/*
 * refund.c
 *	  Money on its way back.
 *
 * The money of k of a line's n units is round(payable x k / n) less what earlier
 * refunds of that line took, so the last unit's refund brings the line to its payable
 * exactly.  Refunds of an order never come to more than its payment.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "order/order.h"

PG_FUNCTION_INFO_V1(ordflow_refund_order);

static Statement refund_payment = {
	.sql = "INSERT INTO ordflow.refunds (order_id, payment_id, amount, currency, state, reason, "
	"actor, created_at, updated_at) SELECT order_id, payment_id, amount, currency, $2, $3, $4, $5, $5 "
	"FROM ordflow.payments WHERE payment_id = $1 RETURNING refund_id",
	.nargs = 5,
	.argtypes = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

#define MONEY_LEFT \
	"p.amount - coalesce((SELECT sum(r.amount) FROM ordflow.refunds r " \
	"WHERE r.payment_id = p.payment_id), 0)"

static Statement refund_rest = {
	.sql = "INSERT INTO ordflow.refunds (order_id, payment_id, amount, currency, state, reason, "
	"actor, created_at, updated_at) SELECT u.order_id, u.payment_id, u.rest, u.currency, 'due', $2, $3, $4, $4 "
	"FROM (SELECT p.order_id, p.payment_id, p.currency, " MONEY_LEFT " AS rest "
	"FROM ordflow.payments p WHERE p.order_id = ANY ($1) AND p.result = 'applied') AS u "
	"WHERE u.rest > 0",
	.nargs = 4,
	.argtypes = {INT8ARRAYOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

static Statement money_left = {
	.sql = "SELECT p.payment_id, " MONEY_LEFT " FROM ordflow.payments p "
	"WHERE p.order_id = $1 AND p.result = 'applied'",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement find_request = {
	.sql = "SELECT refund_id, request = $3 FROM ordflow.refunds "
	"WHERE order_id = $1 AND idempotency_key = $2",
	.nargs = 3,
	.argtypes = {INT8OID, TEXTOID, JSONBOID}
};

static Statement insert_refund = {
	.sql = "INSERT INTO ordflow.refunds (order_id, payment_id, amount, currency, state, reason, "
	"restock, idempotency_key, request, actor, created_at, updated_at) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11) RETURNING refund_id",
	.nargs = 11,
	.argtypes = {INT8OID, INT8OID, NUMERICOID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID,
	JSONBOID, TEXTOID, TIMESTAMPTZOID}
};

static Statement refund_lines = {
	.sql = "WITH u AS ("
	"SELECT * FROM unnest($3, $4, $5, $6) AS u (line_no, cancelled, returned, amount)), "
	"rl AS (INSERT INTO ordflow.refund_lines (refund_id, line_no, quantity, amount) "
	"SELECT $2, line_no, cancelled + returned, amount FROM u) "
	"UPDATE ordflow.order_lines AS l SET cancelled = l.cancelled + u.cancelled, "
	"returned = l.returned + u.returned, refunded = l.refunded + u.amount FROM u "
	"WHERE l.order_id = $1 AND l.line_no = u.line_no",
	.nargs = 6,
	.argtypes = {INT8OID, INT8OID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, NUMERICARRAYOID}
};

/* ---- refunds that follow from something else ---- */

int64
ordflow_refund_payment(int64 payment_id, const char *state, const char *reason, TimestampTz now)
{
	Datum		values[5];

	values[0] = Int64GetDatum(payment_id);
	values[1] = CStringGetTextDatum(state);
	values[2] = CStringGetTextDatum(reason);
	values[3] = CStringGetTextDatum(ordflow_actor());
	values[4] = TimestampTzGetDatum(now);
	ordflow_execute(&refund_payment, values, NULL);
	return ordflow_result_int64(0, 1);
}

void
ordflow_refund_rest(const int64 *order_ids, int n, const char *reason, TimestampTz now)
{
	Datum		values[4];

	values[0] = ordflow_int8_array(order_ids, n);
	values[1] = CStringGetTextDatum(reason);
	values[2] = CStringGetTextDatum(ordflow_actor());
	values[3] = TimestampTzGetDatum(now);
	ordflow_execute(&refund_rest, values, NULL);
}

/* ---- refund_order ---- */

/* What of one line is refunded now. */
typedef struct RefundLine
{
	OrderLineLeft *line;
	int64		cancelled;		/* units that had not shipped */
	int64		returned;		/* units that had */
	Money		amount;
} RefundLine;

typedef struct Refund
{
	Order		order;
	OrderLineLeft *lines;
	int			nlines;
	RefundLine *parts;
	int			nparts;
	bool		has_payment;
	int64		payment_id;
	Money		left;			/* of the payment, before this refund */
	Money		amount;
	bool		restock;
	const char *reason;
	const char *idempotency_key;
	Jsonb	   *request;
	int64		refund_id;
} Refund;

static int64
units_left(const OrderLineLeft *line)
{
	return line->quantity - line->cancelled - line->returned;
}

static void
read_money_left(Refund *refund)
{
	Datum		values[1] = {Int64GetDatum(refund->order.order_id)};
	bool		isnull;

	refund->has_payment = ordflow_execute(&money_left, values, NULL) > 0;
	if (!refund->has_payment)
		return;
	refund->payment_id = ordflow_result_int64(0, 1);
	ordflow_money_exact(ordflow_result(0, 2, &isnull), refund->order.decimals, "payment",
						&refund->left, NULL);
}

/* Units that have not shipped go first: they need not travel back. */
static void
take_units(Refund *refund, OrderLineLeft *line, int64 quantity)
{
	RefundLine *part = &refund->parts[refund->nparts++];
	int64		unshipped = line->quantity - line->shipped - line->cancelled;
	int64		refunded_units;

	part->line = line;
	part->cancelled = Min(quantity, unshipped);
	part->returned = quantity - part->cancelled;
	line->cancelled += part->cancelled;
	line->returned += part->returned;
	refunded_units = line->cancelled + line->returned;
	part->amount = Max(ordflow_money_share(line->payable, refunded_units, line->quantity) -
					   line->refunded, 0);
}

static void
take_all_units(Refund *refund)
{
	for (int i = 0; i < refund->nlines; i++)
		if (units_left(&refund->lines[i]) > 0)
			take_units(refund, &refund->lines[i], units_left(&refund->lines[i]));
}

static void
take_named_units(Refund *refund, const LineQuantity *named, int n)
{
	for (int i = 0; i < n; i++)
	{
		OrderLineLeft *line;

		if (named[i].line_no > refund->nlines)
			ereport(ERROR,
					errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
					errmsg("order %lld has no line %d", (long long) refund->order.order_id,
						   named[i].line_no));
		line = &refund->lines[named[i].line_no - 1];
		if (named[i].quantity > units_left(line))
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("line %d has %lld units left to refund, not %lld", line->line_no,
						   (long long) units_left(line), (long long) named[i].quantity));
		take_units(refund, line, named[i].quantity);
	}
}

/*
 * The refund's money, and each line's part of it.  An amount that was asked for
 * must be there; a computed one stops at what is left of the payment.
 */
static void
set_amount(Refund *refund, bool all, bool asked, Datum asked_amount)
{
	Money		sum = 0;
	Money		of_lines;
	Money	   *weights = palloc(sizeof(Money) * Max(refund->nparts, 1));
	Money	   *shares = palloc(sizeof(Money) * Max(refund->nparts, 1));

	for (int i = 0; i < refund->nparts; i++)
		sum += weights[i] = refund->parts[i].amount;

	if (asked)
	{
		ordflow_money_exact(asked_amount, refund->order.decimals, "the amount", &refund->amount,
							NULL);
		if (refund->amount <= 0)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("a refund must be above zero"));
		if (refund->amount > refund->left)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("the refund is more than what is left of the payment"),
					errdetail("Asked for %s, left %s %s.",
							  DatumGetCString(DirectFunctionCall1(numeric_out, asked_amount)),
							  ordflow_money_text(refund->left, refund->order.decimals),
							  refund->order.currency));
	}
	else
		refund->amount = all ? refund->left : Min(sum, refund->left);

	of_lines = Min(sum, refund->amount);
	ordflow_money_spread(of_lines, weights, refund->nparts, shares);
	for (int i = 0; i < refund->nparts; i++)
		refund->parts[i].amount = shares[i];
}

static void
write_refund(Refund *refund)
{
	Datum		values[11];
	char		nulls[12];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(refund->order.order_id);
	values[1] = Int64GetDatum(refund->payment_id);
	nulls[1] = refund->has_payment ? ' ' : 'n';
	values[2] = ordflow_money_numeric(refund->amount, refund->order.decimals);
	values[3] = CStringGetTextDatum(refund->order.currency);
	/* nothing to send back: the goods of a free order, say */
	values[4] = CStringGetTextDatum(refund->amount > 0 ? "due" : "done");
	values[5] = CStringGetTextDatum(refund->reason);
	values[6] = BoolGetDatum(refund->restock);
	ORDFLOW_SET_TEXT(values, nulls, 7, refund->idempotency_key);
	values[8] = JsonbPGetDatum(refund->request);
	values[9] = CStringGetTextDatum(ordflow_actor());
	values[10] = TimestampTzGetDatum(refund->order.now);
	ordflow_execute(&insert_refund, values, nulls);
	refund->refund_id = ordflow_result_int64(0, 1);
}

static void
write_refund_lines(const Refund *refund)
{
	int			n = refund->nparts;
	int64	   *line_nos = palloc(sizeof(int64) * n);
	int64	   *cancelled = palloc(sizeof(int64) * n);
	int64	   *returned = palloc(sizeof(int64) * n);
	Datum	   *amounts = palloc(sizeof(Datum) * n);
	Datum		values[6];

	for (int i = 0; i < n; i++)
	{
		const RefundLine *part = &refund->parts[i];

		line_nos[i] = part->line->line_no;
		cancelled[i] = part->cancelled;
		returned[i] = part->returned;
		amounts[i] = ordflow_money_numeric(part->amount, refund->order.decimals);
	}
	values[0] = Int64GetDatum(refund->order.order_id);
	values[1] = Int64GetDatum(refund->refund_id);
	values[2] = ordflow_int8_array(line_nos, n);
	values[3] = ordflow_int8_array(cancelled, n);
	values[4] = ordflow_int8_array(returned, n);
	values[5] = ordflow_numeric_array(amounts, NULL, n);
	ordflow_execute(&refund_lines, values, NULL);
}

/*
 * Units that had not shipped are promised no more; without restock they are
 * written off.  Units that had shipped come back only with restock.
 */
static void
move_stock(const Refund *refund)
{
	StockMovement *movements = palloc0(sizeof(StockMovement) * refund->nparts * 2);
	int			k = 0;

	for (int i = 0; i < refund->nparts; i++)
	{
		const RefundLine *part = &refund->parts[i];

		if (part->line->stock_id == 0)
			continue;
		if (part->cancelled > 0)
		{
			movements[k].kind = refund->restock ? "released" : "adjusted";
			movements[k].on_hand = refund->restock ? 0 : -part->cancelled;
			movements[k].reserved = -part->cancelled;
			movements[k].stock_id = part->line->stock_id;
			movements[k].reason = refund->reason;
			movements[k++].order_id = refund->order.order_id;
		}
		if (part->returned > 0 && refund->restock)
		{
			movements[k].kind = "returned";
			movements[k].on_hand = part->returned;
			movements[k].stock_id = part->line->stock_id;
			movements[k].reason = refund->reason;
			movements[k++].order_id = refund->order.order_id;
		}
	}
	if (k > 0)
		ordflow_stock_apply(movements, k);
}

static void
return_limits(const Refund *refund)
{
	LimitReturn *returns = palloc(sizeof(LimitReturn) * refund->nparts);
	int			n = 0;

	for (int i = 0; i < refund->nparts; i++)
		if (refund->parts[i].line->limit_id != 0)
		{
			returns[n].limit_id = refund->parts[i].line->limit_id;
			returns[n].customer = refund->order.customer;
			returns[n++].quantity = refund->parts[i].cancelled + refund->parts[i].returned;
		}
	if (n > 0)
		ordflow_limit_return(returns, n);
}

/* Where the order stands once these units are gone. */
static const char *
next_state(const Refund *refund)
{
	int64		to_ship = 0;
	int64		kept = 0;

	for (int i = 0; i < refund->nlines; i++)
	{
		const OrderLineLeft *line = &refund->lines[i];

		to_ship += line->quantity - line->shipped - line->cancelled;
		kept += line->shipped - line->returned;
	}
	if (to_ship == 0 && kept == 0)
		return "cancelled";
	if (to_ship == 0 && ordflow_order_is(&refund->order, "pending_shipment"))
		return "pending_receipt";
	return refund->order.state;
}

static Jsonb *
refund_data(const Refund *refund)
{
	JsonBuild	b = {0};
	LineQuantity *lines = palloc(sizeof(LineQuantity) * Max(refund->nparts, 1));

	for (int i = 0; i < refund->nparts; i++)
	{
		lines[i].line_no = refund->parts[i].line->line_no;
		lines[i].quantity = refund->parts[i].cancelled + refund->parts[i].returned;
	}
	ordflow_json_begin_object(&b);
	ordflow_json_put_int64(&b, "refund_id", refund->refund_id);
	ordflow_json_put_numeric(&b, "amount",
							 ordflow_money_numeric(refund->amount, refund->order.decimals));
	ordflow_json_put_line_quantities(&b, "lines", lines, refund->nparts);
	ordflow_json_end_object(&b);
	return ordflow_json_finish(&b);
}

/* A repeat of an earlier call with this key: its refund; other arguments: OF005. */
static bool
is_repeat(Refund *refund)
{
	Datum		values[3];
	bool		isnull;

	if (refund->idempotency_key == NULL)
		return false;
	values[0] = Int64GetDatum(refund->order.order_id);
	values[1] = CStringGetTextDatum(refund->idempotency_key);
	values[2] = JsonbPGetDatum(refund->request);
	if (ordflow_execute(&find_request, values, NULL) == 0)
		return false;
	refund->refund_id = ordflow_result_int64(0, 1);
	if (!DatumGetBool(ordflow_result(0, 2, &isnull)))
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_KEY_REUSED),
				errmsg("the idempotency key belongs to refund %lld with other arguments",
					   (long long) refund->refund_id));
	return true;
}

static void
refund_order(Refund *refund, const LineQuantity *named, int n, bool asked, Datum asked_amount)
{
	bool		all = named == NULL && !asked;
	const char *to_state;

	if (ordflow_machine_find("order", refund->order.state, "refund", NULL) == NULL)
		ordflow_order_illegal(&refund->order, "refund", NULL);
	read_money_left(refund);
	refund->lines = ordflow_order_lines(&refund->order, &refund->nlines);
	refund->parts = palloc0(sizeof(RefundLine) * Max(refund->nlines, 1));
	if (all)
		take_all_units(refund);
	else
		take_named_units(refund, named, n);
	set_amount(refund, all, asked, asked_amount);
	if (all && refund->nparts == 0 && refund->amount == 0)
		ordflow_order_illegal(&refund->order, "refund", "Nothing is left to refund.");

	to_state = next_state(refund);
	write_refund(refund);
	if (refund->nparts > 0)
	{
		write_refund_lines(refund);
		move_stock(refund);
		return_limits(refund);
	}
	ordflow_order_apply(&refund->order, "refund", to_state, refund->reason, refund_data(refund));
}

/* The arguments as one value, to tell a repeat. */
static Jsonb *
request_value(FunctionCallInfo fcinfo, const char *reason)
{
	JsonBuild	b = {0};

	ordflow_json_begin_object(&b);
	if (!PG_ARGISNULL(1))
		ordflow_json_put_jsonb(&b, "lines", PG_GETARG_JSONB_P(1));
	if (!PG_ARGISNULL(2))
		ordflow_json_put_numeric(&b, "amount", PG_GETARG_DATUM(2));
	ordflow_json_put_bool(&b, "restock", PG_GETARG_BOOL(3));
	ordflow_json_put_text(&b, "reason", reason);
	ordflow_json_end_object(&b);
	return ordflow_json_finish(&b);
}

static void
require_finite_amount(Datum amount)
{
	if (numeric_is_nan(DatumGetNumeric(amount)) || numeric_is_inf(DatumGetNumeric(amount)))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the amount must be a finite number"));
}

Datum
ordflow_refund_order(PG_FUNCTION_ARGS)
{
	Refund		refund = {0};
	LineQuantity *named = NULL;
	int			n = 0;
	bool		asked = !PG_ARGISNULL(2);

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "order_id");
	ordflow_require_not_null(fcinfo, 3, "restock");
	refund.restock = PG_GETARG_BOOL(3);
	refund.reason = ordflow_arg_text(fcinfo, 4, "reason");
	refund.idempotency_key = ordflow_arg_text_or_null(fcinfo, 5, "idempotency_key");
	if (!PG_ARGISNULL(1))
		named = ordflow_line_quantities(PG_GETARG_JSONB_P(1), &n);
	if (asked)
		require_finite_amount(PG_GETARG_DATUM(2));
	refund.request = request_value(fcinfo, refund.reason);

	SPI_connect();
	ordflow_order_require(PG_GETARG_INT64(0), &refund.order);
	if (!is_repeat(&refund))
		refund_order(&refund, named, n, asked, asked ? PG_GETARG_DATUM(2) : (Datum) 0);
	SPI_finish();
	PG_RETURN_INT64(refund.refund_id);
}

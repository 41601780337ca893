/*
 * pay.c
 *	  pay_order: every verified payment is recorded and ends applied or with a
 *	  refund due, in the commit that answers.
 *
 * The order's row is locked first, then the payment's row claims its transaction
 * id: a twin of either waits for the first's end.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "order/order.h"

PG_FUNCTION_INFO_V1(ordflow_pay_order);

#define PAYMENT_INSERT(original) \
	"INSERT INTO ordflow.payments (order_id, provider, transaction_id, amount, currency, result, " \
	"original, actor, at) VALUES ($1, $2, $3, $4, $5, $6, " original ", $7, $8) " \
	"ON CONFLICT DO NOTHING RETURNING payment_id"
#define PAYMENT_TYPES \
	{INT8OID, TEXTOID, TEXTOID, NUMERICOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}

/* The first report of a transaction id. */
static Statement insert_original = {
	.sql = PAYMENT_INSERT("true"), .nargs = 8, .argtypes = PAYMENT_TYPES
};

/* Another report with that id: no row if it repeats an earlier one in all five. */
static Statement insert_other = {
	.sql = PAYMENT_INSERT("false"), .nargs = 8, .argtypes = PAYMENT_TYPES
};

static Statement set_result = {
	.sql = "UPDATE ordflow.payments SET result = $2 WHERE payment_id = $1",
	.nargs = 2,
	.argtypes = {INT8OID, TEXTOID}
};

static Statement find_applied = {
	.sql = "SELECT 1 FROM ordflow.payments WHERE order_id = $1 AND result = 'applied'",
	.nargs = 1,
	.argtypes = {INT8OID}
};

typedef struct Payment
{
	int64		payment_id;
	int64		order_id;
	const char *provider;
	const char *transaction_id;
	Datum		amount;			/* numeric */
	const char *currency;
} Payment;

static void
require_payment_amount(Datum amount)
{
	Numeric		number = DatumGetNumeric(amount);

	if (numeric_is_nan(number) || numeric_is_inf(number))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a payment must be a finite amount"));
	if (DatumGetInt32(DirectFunctionCall2(numeric_cmp, amount,
										  NumericGetDatum(int64_to_numeric(0)))) <= 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a payment must be above zero"));
	if (DatumGetInt32(DirectFunctionCall2(numeric_cmp, amount,
										  NumericGetDatum(int64_to_numeric(MONEY_MAX)))) > 0)
		ereport(ERROR,
				errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				errmsg("the payment is out of range"));
}

static bool
insert_payment(Statement *statement, Payment *payment, const char *result, TimestampTz now)
{
	Datum		values[8];

	values[0] = Int64GetDatum(payment->order_id);
	values[1] = CStringGetTextDatum(payment->provider);
	values[2] = CStringGetTextDatum(payment->transaction_id);
	values[3] = payment->amount;
	values[4] = CStringGetTextDatum(payment->currency);
	values[5] = CStringGetTextDatum(result);
	values[6] = CStringGetTextDatum(ordflow_actor());
	values[7] = TimestampTzGetDatum(now);
	if (ordflow_execute(statement, values, NULL) == 0)
		return false;
	payment->payment_id = ordflow_result_int64(0, 1);
	return true;
}

static const char *
set_payment_result(const Payment *payment, const char *result)
{
	Datum		values[2] = {Int64GetDatum(payment->payment_id), CStringGetTextDatum(result)};

	ordflow_execute(&set_result, values, NULL);
	return result;
}

static Jsonb *
payment_data(const Payment *payment, const char *result, int64 refund_id)
{
	JsonBuild	b = {0};

	ordflow_json_begin_object(&b);
	ordflow_json_put_text(&b, "result", result);
	ordflow_json_put_int64(&b, "payment_id", payment->payment_id);
	if (refund_id != 0)
		ordflow_json_put_int64(&b, "refund_id", refund_id);
	ordflow_json_end_object(&b);
	return ordflow_json_finish(&b);
}

/* The payment buys nothing: all of it goes back, and the order's history says so. */
static const char *
give_back(const Payment *payment, Order *order, const char *result, const char *refund_state)
{
	int64		refund_id = ordflow_refund_payment(payment->payment_id, refund_state, result,
												   order->now);
	Jsonb	   *data = payment_data(payment, result, refund_id);

	if (strcmp(result, "late") == 0 && ordflow_order_is(order, "cancelled"))
		ordflow_order_apply(order, "pay", "cancelled", "late", data);
	else
		ordflow_order_note(order, "pay", result, data);
	return result;
}

static bool
is_paid(const Order *order)
{
	Datum		values[1] = {Int64GetDatum(order->order_id)};

	return order->payable == 0 || ordflow_execute(&find_applied, values, NULL) > 0;
}

/* Sold on account, by an event of the shop's own: the payment comes when it comes. */
static bool
is_on_account(const Order *order)
{
	return (ordflow_order_is(order, "pending_shipment") ||
			ordflow_order_is(order, "pending_receipt") || ordflow_order_is(order, "completed")) &&
		!is_paid(order);
}

static bool
pays_exactly(const Payment *payment, const Order *order)
{
	return strcmp(payment->currency, order->currency) == 0 &&
		DatumGetBool(DirectFunctionCall2(numeric_eq, payment->amount,
										 ordflow_money_numeric(order->payable, order->decimals)));
}

/*
 * What becomes of a payment for an order that exists.  The row is inserted as
 * "mismatch" and set right here, so that the id is claimed before anything is decided.
 */
static const char *
decide(Payment *payment, Order *order)
{
	if (ordflow_order_is(order, "pending_payment"))
	{
		if (order->now >= order->expires_at)
		{
			ordflow_order_apply(order, "expire", "cancelled", "timeout", NULL);
			return give_back(payment, order, set_payment_result(payment, "late"), "due");
		}
		if (!pays_exactly(payment, order))
			return give_back(payment, order, "mismatch", "due");
		set_payment_result(payment, "applied");
		ordflow_order_apply(order, "pay", "pending_shipment", NULL,
							payment_data(payment, "applied", 0));
		return "applied";
	}
	if (is_on_account(order))
	{
		if (!pays_exactly(payment, order))
			return give_back(payment, order, "mismatch", "due");
		set_payment_result(payment, "applied");
		ordflow_order_note(order, "pay", NULL, payment_data(payment, "applied", 0));
		return "applied";
	}
	if (!ordflow_order_is(order, "cancelled") && is_paid(order))
		return give_back(payment, order, set_payment_result(payment, "already_paid"), "due");
	return give_back(payment, order, set_payment_result(payment, "late"), "due");
}

static const char *
pay(Payment *payment)
{
	Order		order;
	bool		known = ordflow_order_lock(payment->order_id, &order);
	const char *result = known ? "mismatch" : "unknown_order";

	if (!known)
		order.now = GetCurrentTimestamp();
	if (payment->currency == NULL)
		payment->currency = known ? order.currency : ordflow_currency;

	if (!insert_payment(&insert_original, payment, result, order.now))
	{
		if (!insert_payment(&insert_other, payment, "mismatch", order.now))
			return "duplicate";
		if (known)
			return give_back(payment, &order, "mismatch", "held");
		ordflow_refund_payment(payment->payment_id, "held", "mismatch", order.now);
		return "mismatch";
	}
	if (known)
		return decide(payment, &order);
	ordflow_refund_payment(payment->payment_id, "due", "unknown_order", order.now);
	return result;
}

Datum
ordflow_pay_order(PG_FUNCTION_ARGS)
{
	Payment		payment = {0};
	const char *result;

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "order_id");
	ordflow_require_not_null(fcinfo, 3, "amount");
	payment.order_id = PG_GETARG_INT64(0);
	payment.provider = ordflow_arg_text(fcinfo, 1, "provider");
	payment.transaction_id = ordflow_arg_text(fcinfo, 2, "transaction_id");
	payment.amount = PG_GETARG_DATUM(3);
	payment.currency = ordflow_arg_text_or_null(fcinfo, 4, "currency");
	require_payment_amount(payment.amount);
	if (payment.currency != NULL)
		ordflow_check_currency(payment.currency, NULL);

	SPI_connect();
	result = pay(&payment);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

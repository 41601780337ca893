/*
 * verbs.c
 *	  The short verbs on one order: confirm, cancel, expire, extend, add_charge,
 *	  and the look-up by number.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/numeric.h"

#include "order/order.h"

PG_FUNCTION_INFO_V1(ordflow_confirm_order);
PG_FUNCTION_INFO_V1(ordflow_cancel_order);
PG_FUNCTION_INFO_V1(ordflow_expire_order);
PG_FUNCTION_INFO_V1(ordflow_extend_order);
PG_FUNCTION_INFO_V1(ordflow_add_charge);
PG_FUNCTION_INFO_V1(ordflow_order_id);

static Statement set_deadline = {
	.sql = "UPDATE ordflow.orders SET due_at = $2, updated_at = $3, "
	"expires_at = CASE WHEN state = 'pending_payment' THEN $2 ELSE expires_at END "
	"WHERE order_id = $1",
	.nargs = 3,
	.argtypes = {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

static Statement insert_charge = {
	.sql = "INSERT INTO ordflow.order_charges (order_id, charge_no, code, amount, reason, added, "
	"actor, at) SELECT $1, 1 + coalesce(max(charge_no), 0), $2, $3, $4, true, $5, $6 "
	"FROM ordflow.order_charges WHERE order_id = $1",
	.nargs = 6,
	.argtypes = {INT8OID, TEXTOID, NUMERICOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

static Statement add_to_payable = {
	.sql = "UPDATE ordflow.orders SET charges = charges + $2, payable = payable + $2, "
	"updated_at = $3 WHERE order_id = $1",
	.nargs = 3,
	.argtypes = {INT8OID, NUMERICOID, TIMESTAMPTZOID}
};

static Statement find_by_number = {
	.sql = "SELECT order_id FROM ordflow.orders WHERE order_no = $1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static const char *
confirm(Order *order, const char *reason)
{
	if (ordflow_order_is(order, "completed"))
		return "duplicate";
	ordflow_order_apply(order, "confirm", NULL, reason, NULL);
	return "applied";
}

static const char *
cancel(Order *order, const char *reason)
{
	if (ordflow_order_is(order, "cancelled"))
		return "duplicate";
	ordflow_order_apply(order, "cancel", NULL, reason, NULL);
	return "applied";
}

static Datum
verb_with_reason(FunctionCallInfo fcinfo, const char *(*verb) (Order *order, const char *reason))
{
	Order		order;
	char	   *reason;
	const char *result;

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "order_id");
	reason = ordflow_arg_text(fcinfo, 1, "reason");

	SPI_connect();
	ordflow_order_require(PG_GETARG_INT64(0), &order);
	result = verb(&order, reason);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

Datum
ordflow_confirm_order(PG_FUNCTION_ARGS)
{
	static const char *const reasons[] = {"customer", "carrier", "timeout"};

	ordflow_require_not_null(fcinfo, 1, "reason");
	for (int i = 0; i < lengthof(reasons); i++)
		if (strcmp(reasons[i], text_to_cstring(PG_GETARG_TEXT_PP(1))) == 0)
			return verb_with_reason(fcinfo, confirm);
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("an order is confirmed by customer, carrier or timeout"));
}

Datum
ordflow_cancel_order(PG_FUNCTION_ARGS)
{
	return verb_with_reason(fcinfo, cancel);
}

Datum
ordflow_expire_order(PG_FUNCTION_ARGS)
{
	Order		order;
	const char *result = "not_due";

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "order_id");

	SPI_connect();
	ordflow_order_require(PG_GETARG_INT64(0), &order);
	if (ordflow_order_is(&order, "cancelled"))
		result = "duplicate";
	else if (ordflow_order_is(&order, "pending_payment") && order.now >= order.expires_at)
	{
		ordflow_order_apply(&order, "expire", "cancelled", "timeout", NULL);
		result = "applied";
	}
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

Datum
ordflow_extend_order(PG_FUNCTION_ARGS)
{
	Order		order;
	Datum		values[3];
	TimestampTz due;
	JsonBuild	b = {0};

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "order_id");
	ordflow_require_not_null(fcinfo, 1, "extra");

	SPI_connect();
	ordflow_order_require(PG_GETARG_INT64(0), &order);
	if (ordflow_order_is(&order, "pending_payment"))
		order.due_at = order.expires_at;
	if (order.due_at == DT_NOEND)
		ordflow_order_illegal(&order, "extend",
							  "Only an order that waits for payment or receipt has a deadline.");
	if (order.now >= order.due_at)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_ILLEGAL_TRANSITION),
				errmsg("the deadline of order %lld has passed", (long long) order.order_id),
				errdetail("It was %s.", timestamptz_to_str(order.due_at)));
	ordflow_check_interval(PG_GETARG_INTERVAL_P(1), "\"extra\"", order.due_at, NULL);
	due = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												  TimestampTzGetDatum(order.due_at),
												  PG_GETARG_DATUM(1)));

	values[0] = Int64GetDatum(order.order_id);
	values[1] = TimestampTzGetDatum(due);
	values[2] = TimestampTzGetDatum(order.now);
	ordflow_execute(&set_deadline, values, NULL);
	ordflow_json_begin_object(&b);
	ordflow_json_put_text(&b, "until", JsonEncodeDateTime(NULL, TimestampTzGetDatum(due),
														  TIMESTAMPTZOID, NULL));
	ordflow_json_end_object(&b);
	ordflow_order_note(&order, "extend", NULL, ordflow_json_finish(&b));
	SPI_finish();
	PG_RETURN_TIMESTAMPTZ(due);
}

static void
write_charge(const Order *order, const char *code, Money amount, const char *reason)
{
	Datum		values[6];
	char		nulls[7] = "      ";
	JsonBuild	b = {0};

	values[0] = Int64GetDatum(order->order_id);
	values[1] = CStringGetTextDatum(code);
	values[2] = ordflow_money_numeric(amount, order->decimals);
	ORDFLOW_SET_TEXT(values, nulls, 3, reason);
	values[4] = CStringGetTextDatum(ordflow_actor());
	values[5] = TimestampTzGetDatum(order->now);
	ordflow_execute(&insert_charge, values, nulls);

	values[1] = values[2];
	values[2] = values[5];
	ordflow_execute(&add_to_payable, values, NULL);

	ordflow_json_begin_object(&b);
	ordflow_json_put_text(&b, "code", code);
	ordflow_json_put_numeric(&b, "amount", ordflow_money_numeric(amount, order->decimals));
	ordflow_json_end_object(&b);
	ordflow_order_note(order, "add_charge", reason, ordflow_json_finish(&b));
}

Datum
ordflow_add_charge(PG_FUNCTION_ARGS)
{
	Order		order;
	char	   *code;
	char	   *reason;
	Money		amount;

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "order_id");
	code = ordflow_arg_text(fcinfo, 1, "code");
	ordflow_require_not_null(fcinfo, 2, "amount");
	reason = ordflow_arg_text_or_null(fcinfo, 3, "reason");

	SPI_connect();
	ordflow_order_require(PG_GETARG_INT64(0), &order);
	if (!ordflow_order_is(&order, "pending_payment") || order.now >= order.expires_at)
		ordflow_order_illegal(&order, "add_charge",
							  "A charge can be added until the order is paid or its payment deadline has passed.");
	ordflow_money_exact(PG_GETARG_DATUM(2), order.decimals, "the amount", &amount, NULL);
	if (order.payable + amount < 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("order %lld would be payable below zero", (long long) order.order_id));
	if (order.payable + amount > MONEY_MAX)
		ereport(ERROR,
				errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				errmsg("the amount of order %lld is out of range", (long long) order.order_id));

	write_charge(&order, code, amount, reason);
	order.payable += amount;
	/* nothing left to pay: as an order that was submitted with a payable of 0 */
	if (order.payable == 0)
		ordflow_order_apply(&order, "pay", "pending_shipment", "nothing to pay", NULL);
	SPI_finish();
	PG_RETURN_DATUM(ordflow_money_numeric(order.payable, order.decimals));
}

Datum
ordflow_order_id(PG_FUNCTION_ARGS)
{
	char	   *order_no = ordflow_arg_text(fcinfo, 0, "order_no");
	Datum		values[1] = {CStringGetTextDatum(order_no)};
	int64		order_id;

	ordflow_require_version();
	SPI_connect();
	if (ordflow_execute(&find_by_number, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("no order has the number \"%s\"", order_no));
	order_id = ordflow_result_int64(0, 1);
	SPI_finish();
	PG_RETURN_INT64(order_id);
}

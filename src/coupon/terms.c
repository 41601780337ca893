/*
 * terms.c
 *	  create_coupon() and alter_coupon(): the options, read and checked.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "base/json.h"
#include "counter/counter.h"
#include "coupon/coupon.h"

/* skus in the scope of one coupon */
#define COUPON_SKUS_MAX 5000

PG_FUNCTION_INFO_V1(ordflow_create_coupon);
PG_FUNCTION_INFO_V1(ordflow_alter_coupon);

enum
{
	OPT_MIN_TOTAL, OPT_MAX_DISCOUNT, OPT_VALID_FROM, OPT_VALID_UNTIL, OPT_USAGE_LIMIT,
	OPT_PER_CUSTOMER, OPT_CUSTOMER, OPT_SKUS, OPT_ENABLED, OPT_CURRENCY, OPTIONS
};

static const JsonField option_fields[OPTIONS] = {
	{"min_total", JSON_AMOUNT, false},
	{"max_discount", JSON_AMOUNT, false},
	{"valid_from", JSON_TEXT, false},
	{"valid_until", JSON_TEXT, false},
	{"usage_limit", JSON_QUANTITY, false},
	{"per_customer", JSON_QUANTITY, false},
	{"customer", JSON_TEXT, false},
	{"skus", JSON_ARRAY, false},
	{"enabled", JSON_BOOLEAN, false},
	{"currency", JSON_TEXT, false}
};

/* $1 to $13 as coupon_values() sets them, $14 the clock */
#define COUPON_ARGTYPES \
	{TEXTOID, TEXTOID, NUMERICOID, TEXTOID, NUMERICOID, NUMERICOID, TIMESTAMPTZOID, \
	TIMESTAMPTZOID, INT8OID, INT8OID, TEXTOID, TEXTARRAYOID, BOOLOID, TIMESTAMPTZOID}

static Statement insert_coupon = {
	.sql = "INSERT INTO ordflow.coupons (code, kind, value, currency, min_total, max_discount,"
	" valid_from, valid_until, usage_limit, per_customer, customer, skus, enabled, created_at)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
	" ON CONFLICT (code) DO NOTHING RETURNING coupon_id",
	.nargs = 14,
	.argtypes = COUPON_ARGTYPES
};

static Statement update_coupon = {
	.sql = "UPDATE ordflow.coupons SET kind = $2, value = $3, currency = $4, min_total = $5,"
	" max_discount = $6, valid_from = $7, valid_until = $8, usage_limit = $9,"
	" per_customer = $10, customer = $11, skus = $12, enabled = $13,"
	" revision = revision + 1, altered_at = $14 WHERE code = $1",
	.nargs = 14,
	.argtypes = COUPON_ARGTYPES
};

pg_noreturn static void refuse_value(const char *fmt,...) pg_attribute_printf(1, 2);

static void
refuse_value(const char *fmt,...)
{
	char		message[256];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg_internal("%s", message));
	pg_unreachable();
}

static void
set_skus(Coupon *coupon, const JsonItem *item)
{
	JsonbContainer *array;
	int			n;

	coupon->skus = NULL;
	coupon->nskus = 0;
	if (item->null)
		return;
	array = ordflow_json_container(&item->value);
	n = JsonContainerSize(array);
	if (n == 0)
		refuse_value("\"skus\" may not be empty");
	if (n > COUPON_SKUS_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("\"skus\" has %d elements, at most %d are allowed", n, COUPON_SKUS_MAX));
	coupon->skus = palloc(sizeof(char *) * n);
	coupon->nskus = n;
	for (int i = 0; i < n; i++)
	{
		JsonbValue *sku = getIthJsonbValueFromContainer(array, i);

		if (sku->type != jbvString)
			refuse_value("\"skus\" must be an array of strings");
		coupon->skus[i] = pnstrdup(sku->val.string.val, sku->val.string.len);
		ordflow_check_text(coupon->skus[i], "a sku of \"skus\"", NULL);
	}
}

/* 22007 or 22008 for what is no timestamp. */
static TimestampTz
timestamp_of(const JsonItem *item, TimestampTz none)
{
	if (item->null)
		return none;
	return DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(item->text),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
}

/*
 * Lays the options that were given over the terms; null takes one away.  True
 * when per_customer was among them.
 */
static bool
set_options(Coupon *coupon, Jsonb *options)
{
	JsonItem	items[OPTIONS];

	ordflow_json_read(&options->root, "options", option_fields, OPTIONS, items, NULL);
	if (items[OPT_MIN_TOTAL].given)
	{
		coupon->has_min_total = !items[OPT_MIN_TOTAL].null;
		coupon->min_total = items[OPT_MIN_TOTAL].amount;
	}
	if (items[OPT_MAX_DISCOUNT].given)
	{
		coupon->has_max_discount = !items[OPT_MAX_DISCOUNT].null;
		coupon->max_discount = items[OPT_MAX_DISCOUNT].amount;
	}
	if (items[OPT_VALID_FROM].given)
		coupon->valid_from = timestamp_of(&items[OPT_VALID_FROM], DT_NOBEGIN);
	if (items[OPT_VALID_UNTIL].given)
		coupon->valid_until = timestamp_of(&items[OPT_VALID_UNTIL], DT_NOEND);
	if (items[OPT_USAGE_LIMIT].given)
		coupon->usage_limit = items[OPT_USAGE_LIMIT].quantity;
	if (items[OPT_PER_CUSTOMER].given)
		coupon->per_customer = items[OPT_PER_CUSTOMER].quantity;
	if (items[OPT_CUSTOMER].given)
		coupon->customer = items[OPT_CUSTOMER].text;
	if (items[OPT_SKUS].given)
		set_skus(coupon, &items[OPT_SKUS]);
	if (items[OPT_ENABLED].given)
		coupon->enabled = items[OPT_ENABLED].null || items[OPT_ENABLED].boolean;
	if (items[OPT_CURRENCY].given)
		coupon->currency = items[OPT_CURRENCY].text;
	return items[OPT_PER_CUSTOMER].given;
}

static void
check_percent(Datum value)
{
	Numeric		number = DatumGetNumeric(value);
	Datum		rounded;

	if (numeric_is_nan(number) || numeric_is_inf(number))
		refuse_value("value must be a finite number");
	if (DatumGetInt32(DirectFunctionCall2(numeric_cmp, value,
										  NumericGetDatum(int64_to_numeric(100)))) > 0 ||
		DatumGetInt32(DirectFunctionCall2(numeric_cmp, value,
										  NumericGetDatum(int64_to_numeric(0)))) <= 0)
		refuse_value("a percentage must be above 0 and at most 100");
	rounded = DirectFunctionCall2(numeric_round, value, Int32GetDatum(COUPON_PERCENT_DECIMALS));
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, value, rounded)))
		refuse_value("a percentage may have at most %d decimals", COUPON_PERCENT_DECIMALS);
}

static Money
exact_amount(const Coupon *coupon, Datum amount, const char *name)
{
	Money		money;

	ordflow_money_exact(amount, ordflow_currency_decimals(coupon->currency), name, &money, NULL);
	return money;
}

/* The terms as a whole.  Amounts give the coupon a currency. */
static void
check_coupon(Coupon *coupon)
{
	if (coupon->currency == NULL &&
		(!coupon->percent || coupon->has_min_total || coupon->has_max_discount))
		coupon->currency = ordflow_currency;
	if (coupon->currency != NULL)
		ordflow_check_currency(coupon->currency, NULL);

	if (coupon->percent)
		check_percent(coupon->value);
	else if (exact_amount(coupon, coupon->value, "value") <= 0)
		refuse_value("value must be above 0");
	if (coupon->has_min_total && exact_amount(coupon, coupon->min_total, "\"min_total\"") < 0)
		refuse_value("\"min_total\" may not be negative");
	if (coupon->has_max_discount &&
		exact_amount(coupon, coupon->max_discount, "\"max_discount\"") <= 0)
		refuse_value("\"max_discount\" must be above 0");
	if (coupon->valid_from >= coupon->valid_until)
		refuse_value("\"valid_from\" must be before \"valid_until\"");
}

/* $1 to $14 of the statements that write a coupon. */
static void
coupon_values(const Coupon *coupon, TimestampTz now, Datum *values, char *nulls)
{
	memset(nulls, ' ', 14);
	values[0] = CStringGetTextDatum(coupon->code);
	values[1] = CStringGetTextDatum(coupon->percent ? "percent" : "fixed");
	values[2] = coupon->value;
	ORDFLOW_SET_TEXT(values, nulls, 3, coupon->currency);
	values[4] = coupon->min_total;
	nulls[4] = coupon->has_min_total ? ' ' : 'n';
	values[5] = coupon->max_discount;
	nulls[5] = coupon->has_max_discount ? ' ' : 'n';
	values[6] = TimestampTzGetDatum(coupon->valid_from);
	nulls[6] = coupon->valid_from == DT_NOBEGIN ? 'n' : ' ';
	values[7] = TimestampTzGetDatum(coupon->valid_until);
	nulls[7] = coupon->valid_until == DT_NOEND ? 'n' : ' ';
	values[8] = Int64GetDatum(coupon->usage_limit);
	nulls[8] = coupon->usage_limit == 0 ? 'n' : ' ';
	values[9] = Int64GetDatum(coupon->per_customer);
	nulls[9] = coupon->per_customer == 0 ? 'n' : ' ';
	ORDFLOW_SET_TEXT(values, nulls, 10, coupon->customer);
	values[11] = ordflow_text_array((const char *const *) coupon->skus, coupon->nskus);
	nulls[11] = coupon->skus == NULL ? 'n' : ' ';
	values[12] = BoolGetDatum(coupon->enabled);
	values[13] = TimestampTzGetDatum(now);
}

Datum
ordflow_create_coupon(PG_FUNCTION_ARGS)
{
	Coupon		coupon = {.valid_from = DT_NOBEGIN, .valid_until = DT_NOEND, .enabled = true};
	char	   *kind;
	Datum		values[14];
	char		nulls[14];
	int64		coupon_id;

	ordflow_require_version();
	coupon.code = ordflow_arg_text(fcinfo, 0, "code");
	kind = ordflow_arg_text(fcinfo, 1, "kind");
	coupon.percent = strcmp(kind, "percent") == 0;
	if (!coupon.percent && strcmp(kind, "fixed") != 0)
		refuse_value("kind must be fixed or percent");
	ordflow_require_not_null(fcinfo, 2, "value");
	coupon.value = NumericGetDatum(PG_GETARG_NUMERIC(2));
	ordflow_require_not_null(fcinfo, 3, "options");
	set_options(&coupon, PG_GETARG_JSONB_P(3));
	check_coupon(&coupon);

	SPI_connect();
	coupon_values(&coupon, GetCurrentTimestamp(), values, nulls);
	if (ordflow_execute(&insert_coupon, values, nulls) == 0)
		ereport(ERROR,
				errcode(ERRCODE_UNIQUE_VIOLATION),
				errmsg("coupon \"%s\" exists already", coupon.code),
				errhint("alter_coupon() changes its options."));
	coupon_id = ordflow_result_int64(0, 1);
	SPI_finish();

	PG_RETURN_INT64(coupon_id);
}

/*
 * Holds the coupon alone, after all who use it now: its uses are then counted anew for a limit
 * that was not kept before.  Without preload nobody can sell, so there is nothing to hold.
 */
static void
stop_uses(int64 coupon_id)
{
	if (!ordflow_preloaded)
		return;
	ordflow_counter_enter("coupons");
	ordflow_coupon_hold(coupon_id, ExclusiveLock);
	ordflow_counter_forget(COUNTER_COUPON, coupon_id);
}

Datum
ordflow_alter_coupon(PG_FUNCTION_ARGS)
{
	char	   *code;
	Jsonb	   *options;
	Coupon		coupon;
	bool		number;
	Datum		values[14];
	char		nulls[14];

	ordflow_require_version();
	code = ordflow_arg_text(fcinfo, 0, "code");
	ordflow_require_not_null(fcinfo, 1, "options");
	options = PG_GETARG_JSONB_P(1);

	SPI_connect();
	if (!ordflow_coupon_read_for_update(code, &coupon))
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("there is no coupon \"%s\"", code));
	number = set_options(&coupon, options) && coupon.per_customer > 0;
	check_coupon(&coupon);
	stop_uses(coupon.coupon_id);
	coupon_values(&coupon, GetCurrentTimestamp(), values, nulls);
	ordflow_counter_own_write("coupons");
	ordflow_execute(&update_coupon, values, nulls);
	ordflow_counter_own_write_done();
	if (number)
		ordflow_coupon_number_uses(coupon.coupon_id);
	SPI_finish();

	PG_RETURN_VOID();
}

/*
 * coupon.c
 *	  The terms of coupons, and what they make of an order.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "coupon/coupon.h"

/* one percent and a hundred, in units of 10^-COUPON_PERCENT_DECIMALS percent */
#define ONE_PERCENT		INT64CONST(10000)
#define HUNDRED_PERCENT	(100 * ONE_PERCENT)

StaticAssertDecl(COUPON_PERCENT_DECIMALS == 4, "ONE_PERCENT must have as many zeros");

#define READ_COUPON \
	"SELECT coupon_id, code, kind = 'percent', value, currency, min_total, max_discount," \
	" COALESCE(valid_from, '-infinity'), COALESCE(valid_until, 'infinity')," \
	" usage_limit, per_customer, customer, skus, enabled, revision" \
	" FROM ordflow.coupons WHERE code = $1"

static Statement read_coupon = {
	.sql = READ_COUPON,
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static Statement read_coupon_for_update = {
	.sql = READ_COUPON " FOR UPDATE",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

bool
ordflow_coupon_refuse(CouponRefusal *refusal, const char *reason, const char *fmt,...)
{
	StringInfoData message;

	initStringInfo(&message);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&message, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}
	refusal->reason = reason;
	refusal->message = message.data;
	refusal->in_flight = 0;
	return false;
}

static int
compare_strings(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

static void
set_skus(Coupon *coupon, Datum array)
{
	Datum	   *elements;
	int			n;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
					  &elements, NULL, &n);
	coupon->skus = palloc(sizeof(char *) * Max(n, 1));
	coupon->nskus = n;
	for (int i = 0; i < n; i++)
		coupon->skus[i] = TextDatumGetCString(elements[i]);
	qsort(coupon->skus, n, sizeof(char *), compare_strings);
}

/* The value of a column; has says that it is not NULL. */
static Datum
result_or_null(int column, bool *has)
{
	bool		isnull;
	Datum		value = ordflow_result(0, column, &isnull);

	*has = !isnull;
	return value;
}

static bool
coupon_read(Statement *statement, const char *code, Coupon *coupon)
{
	Datum		values[1] = {CStringGetTextDatum(code)};
	Datum		skus;
	bool		has;

	if (ordflow_execute(statement, values, NULL) == 0)
		return false;
	memset(coupon, 0, sizeof(Coupon));
	coupon->coupon_id = ordflow_result_int64(0, 1);
	coupon->code = ordflow_result_text(0, 2);
	coupon->percent = DatumGetBool(result_or_null(3, &has));
	coupon->value = result_or_null(4, &has);
	coupon->currency = ordflow_result_text(0, 5);
	coupon->min_total = result_or_null(6, &coupon->has_min_total);
	coupon->max_discount = result_or_null(7, &coupon->has_max_discount);
	coupon->valid_from = DatumGetTimestampTz(result_or_null(8, &has));
	coupon->valid_until = DatumGetTimestampTz(result_or_null(9, &has));
	coupon->usage_limit = ordflow_result_int64(0, 10);
	coupon->per_customer = ordflow_result_int64(0, 11);
	coupon->customer = ordflow_result_text(0, 12);
	skus = result_or_null(13, &has);
	if (has)
		set_skus(coupon, skus);
	coupon->enabled = DatumGetBool(result_or_null(14, &has));
	coupon->revision = ordflow_result_int64(0, 15);
	return true;
}

bool
ordflow_coupon_read(const char *code, Coupon *coupon)
{
	return coupon_read(&read_coupon, code, coupon);
}

bool
ordflow_coupon_read_for_update(const char *code, Coupon *coupon)
{
	return coupon_read(&read_coupon_for_update, code, coupon);
}

static bool
in_scope(const Coupon *coupon, const char *sku)
{
	return coupon->skus == NULL ||
		bsearch(&sku, coupon->skus, coupon->nskus, sizeof(char *), compare_strings) != NULL;
}

/* What can be told without looking at the lines. */
static bool
check_terms(const Coupon *coupon, const CouponBasket *basket, CouponRefusal *refusal)
{
	if (!coupon->enabled)
		return ordflow_coupon_refuse(refusal, "disabled", "coupon \"%s\" is disabled",
									 coupon->code);
	if (basket->now < coupon->valid_from)
		return ordflow_coupon_refuse(refusal, "not_yet_valid", "coupon \"%s\" is not valid yet",
									 coupon->code);
	if (basket->now >= coupon->valid_until)
		return ordflow_coupon_refuse(refusal, "expired", "coupon \"%s\" has expired",
									 coupon->code);
	if (coupon->currency != NULL && strcmp(coupon->currency, basket->currency) != 0)
		return ordflow_coupon_refuse(refusal, "currency", "coupon \"%s\" is in %s",
									 coupon->code, coupon->currency);
	if (basket->customer == NULL && (coupon->customer != NULL || coupon->per_customer > 0))
		return ordflow_coupon_refuse(refusal, "guest", "coupon \"%s\" is not for guests",
									 coupon->code);
	if (coupon->customer != NULL && strcmp(coupon->customer, basket->customer) != 0)
		return ordflow_coupon_refuse(refusal, "customer",
									 "coupon \"%s\" belongs to another customer", coupon->code);
	return true;
}

/* An amount of the coupon, which was exact in its currency when it was written. */
static Money
amount_of(Datum amount, const CouponBasket *basket)
{
	Money		money;

	ordflow_money_exact(amount, basket->decimals, "an amount of the coupon", &money, NULL);
	return money;
}

/* The discount on lines that come to total, never more than that. */
static Money
discount_of(const Coupon *coupon, const CouponBasket *basket, Money total)
{
	Money		discount;

	if (coupon->percent)
	{
		Datum		part = DirectFunctionCall2(numeric_mul, coupon->value,
											   NumericGetDatum(int64_to_numeric(ONE_PERCENT)));

		discount = ordflow_money_share(total,
									   DatumGetInt64(DirectFunctionCall1(numeric_int8, part)),
									   HUNDRED_PERCENT);
	}
	else
		discount = amount_of(coupon->value, basket);
	if (coupon->has_max_discount)
		discount = Min(discount, amount_of(coupon->max_discount, basket));
	return Min(discount, total);
}

bool
ordflow_coupon_price(const Coupon *coupon, CouponBasket *basket, CouponRefusal *refusal)
{
	Money	   *weights;
	Money		total = 0;
	bool		any = false;

	if (!check_terms(coupon, basket, refusal))
		return false;

	/* lines out of scope weigh nothing and get nothing */
	weights = palloc0(sizeof(Money) * Max(basket->nlines, 1));
	for (int i = 0; i < basket->nlines; i++)
	{
		if (!in_scope(coupon, basket->skus[i]))
			continue;
		any = true;
		weights[i] = basket->amounts[i];
		total += basket->amounts[i];
	}
	if (!any)
		return ordflow_coupon_refuse(refusal, "scope",
									 "coupon \"%s\" is for none of the lines", coupon->code);
	if (coupon->has_min_total && total < amount_of(coupon->min_total, basket))
		return ordflow_coupon_refuse(refusal, "min_total",
									 "coupon \"%s\" asks for lines that come to more",
									 coupon->code);

	basket->discount = discount_of(coupon, basket, total);
	ordflow_money_spread(basket->discount, weights, basket->nlines, basket->shares);
	pfree(weights);
	return true;
}

void
ordflow_coupon_init(void)
{
	ordflow_coupon_uses_init();
	ordflow_limit_init();
}

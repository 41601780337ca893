/*
 * money.c
 *	  Money as whole minor units of one ISO 4217 currency.
 */
#include "postgres.h"

#include "common/int.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "base/base.h"
#include "base/money.h"

/*
 * ISO 4217:2015, active currencies by the number of their decimals; those that
 * are not here and active have two, listed below.
 */
static const struct
{
	int			decimals;
	const char *codes;
}			currencies[] = {
	{0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"},
	{3, "BHD IQD JOD KWD LYD OMR TND"},
	{4, "CLF UYW"},
	{2, "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP "
		"BYN BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR "
		"FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW "
		"KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN "
		"NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD "
		"SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS "
		"VED VES WST XCD XCG YER ZAR ZMW ZWG"}
};

int
ordflow_currency_decimals(const char *currency)
{
	if (strlen(currency) != 3 || strchr(currency, ' ') != NULL)
		return -1;
	for (int i = 0; i < lengthof(currencies); i++)
	{
		const char *found = strstr(currencies[i].codes, currency);

		if (found != NULL && (found - currencies[i].codes) % 4 == 0)
			return currencies[i].decimals;
	}
	return -1;
}

bool
ordflow_check_currency(const char *currency, Problem *problem)
{
	if (ordflow_currency_decimals(currency) >= 0)
		return true;
	return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
						  "Use a code of ISO 4217 in capital letters, as in \"CNY\".",
						  "\"%s\" is not a currency",
						  strlen(currency) <= ORDFLOW_TEXT_MAX ? currency : "...");
}

static Datum
numeric_of(int64 value)
{
	return NumericGetDatum(int64_to_numeric(value));
}

static bool
is_finite(Datum number)
{
	return !numeric_is_nan(DatumGetNumeric(number)) && !numeric_is_inf(DatumGetNumeric(number));
}

static bool
above_max(Datum number)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp,
											 DirectFunctionCall1(numeric_abs, number),
											 numeric_of(MONEY_MAX))) > 0;
}

/* number x 10^decimals, rounded half away from zero, if it fits. */
static bool
to_minor_units(Datum number, int decimals, Money *money)
{
	Datum		scaled;

	/* a number of 131072 digits would make numeric_mul() raise */
	if (above_max(number))
		return false;
	scaled = DirectFunctionCall2(numeric_mul, number,
								 numeric_of(decimals == 0 ? 1 : decimals == 2 ? 100 :
											decimals == 3 ? 1000 : 10000));
	scaled = DirectFunctionCall2(numeric_round, scaled, Int32GetDatum(0));
	if (above_max(scaled))
		return false;
	*money = DatumGetInt64(DirectFunctionCall1(numeric_int8, scaled));
	return true;
}

static bool
refuse_range(const char *what, Problem *problem)
{
	return ordflow_refuse(problem, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
						  "An amount has at most 15 digits, counted in the smallest unit of its currency.",
						  NULL, "%s is out of range", what);
}

bool
ordflow_money_line(Datum unit_price, int64 quantity, int decimals, const char *what,
				   Money *amount, Problem *problem)
{
	Assert(is_finite(unit_price));
	if (!to_minor_units(DirectFunctionCall2(numeric_mul, unit_price, numeric_of(quantity)),
						decimals, amount))
		return refuse_range(what, problem);
	return true;
}

bool
ordflow_money_exact(Datum amount, int decimals, const char *what, Money *money,
					Problem *problem)
{
	if (numeric_is_nan(DatumGetNumeric(amount)))
		return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL, NULL,
							  "%s may not be NaN", what);
	if (!is_finite(amount) || !to_minor_units(amount, decimals, money))
		return refuse_range(what, problem);
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, amount,
										  ordflow_money_numeric(*money, decimals))))
		return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE,
							  psprintf("The currency has %d.", decimals), NULL,
							  "%s has too many decimals", what);
	return true;
}

Money
ordflow_money_share(Money total, int64 part, int64 whole)
{
	int128		product = (int128) total * part;

	Assert(total >= 0 && part >= 0 && part <= whole && whole > 0);
	return (Money) ((product * 2 + whole) / ((int128) whole * 2));
}

typedef struct Remainder
{
	int64		remainder;
	int			index;
} Remainder;

/* Largest remainder first, ties to the lower index. */
static int
compare_remainders(const void *a, const void *b)
{
	const Remainder *l = a;
	const Remainder *r = b;

	if (l->remainder != r->remainder)
		return l->remainder > r->remainder ? -1 : 1;
	return l->index - r->index;
}

void
ordflow_money_spread(Money total, const Money *weights, int n, Money *shares)
{
	Money		whole = 0;
	Money		left = total;
	Remainder  *remainders = palloc(sizeof(Remainder) * Max(n, 1));

	for (int i = 0; i < n; i++)
		whole += weights[i];
	Assert(total >= 0 && total <= whole);

	for (int i = 0; i < n; i++)
	{
		int128		product = (int128) total * weights[i];

		shares[i] = whole == 0 ? 0 : (Money) (product / whole);
		remainders[i].remainder = whole == 0 ? 0 : (int64) (product % whole);
		remainders[i].index = i;
		left -= shares[i];
	}

	/* what is left is less than n units, and only weights above 0 leave a remainder */
	qsort(remainders, n, sizeof(Remainder), compare_remainders);
	for (int i = 0; i < n && left > 0; i++, left--)
		shares[remainders[i].index]++;
	Assert(left == 0);
	pfree(remainders);
}

Datum
ordflow_money_numeric(Money money, int decimals)
{
	return NumericGetDatum(int64_div_fast_to_numeric(money, decimals));
}

char *
ordflow_money_text(Money money, int decimals)
{
	Datum		number = ordflow_money_numeric(money, decimals);

	return DatumGetCString(DirectFunctionCall1(numeric_out, number));
}

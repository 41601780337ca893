/*
 * money.h
 *	  Money as whole minor units of one ISO 4217 currency.
 *
 * An amount is numeric in SQL and int64 minor units (fen, cents, yen) in C, so
 * sums and shares are exact.  Every amount is at most MONEY_MAX, so that
 * the sum of the most lines an order may have cannot overflow.
 */
#ifndef ORDFLOW_MONEY_H
#define ORDFLOW_MONEY_H

#include "postgres.h"

#include "base/error.h"

typedef int64 Money;

#define MONEY_MAX	INT64CONST(1000000000000000)	/* minor units */

/* The number of decimals of a currency, or -1 when it is not of ISO 4217. */
extern int	ordflow_currency_decimals(const char *currency);

/* 22023 unless the currency is of ISO 4217. */
extern bool ordflow_check_currency(const char *currency, Problem *problem);

/*
 * round(quantity x unit_price, decimals), half away from zero.  Refuses (22003)
 * an amount above MONEY_MAX.
 */
extern bool ordflow_money_line(Datum unit_price, int64 quantity, int decimals,
							   const char *what, Money *amount, Problem *problem);

/*
 * A numeric that must be representable: 22023 when it is NaN or has more decimals
 * than the currency, 22003 when infinite or above MONEY_MAX.
 */
extern bool ordflow_money_exact(Datum amount, int decimals, const char *what,
								Money *money, Problem *problem);

/* round(total x part / whole) half away from zero; 0 <= part <= whole, whole > 0. */
extern Money ordflow_money_share(Money total, int64 part, int64 whole);

/*
 * Spreads total (0 <= total <= sum of weights) over weights by largest
 * remainder, ties to the lower index: the shares add up to total exactly and no
 * share is above its weight.
 */
extern void ordflow_money_spread(Money total, const Money *weights, int n, Money *shares);

extern Datum ordflow_money_numeric(Money money, int decimals);
extern char *ordflow_money_text(Money money, int decimals);

#endif							/* ORDFLOW_MONEY_H */

/*
 * coupon.h
 *	  Coupons, their redemptions, and purchase limits.
 *
 * Locks: the gate of the counters, the coupon, which every use and every return holds shared and
 * alter_coupon() alone, then the rows of redemptions.  Who works on several orders
 * goes by (coupon_id, customer), so that no two can deadlock.  All functions run
 * connected to SPI and as the extension's owner.
 */
#ifndef ORDFLOW_COUPON_H
#define ORDFLOW_COUPON_H

#include "postgres.h"
#include "storage/lockdefs.h"
#include "utils/timestamp.h"

#include "base/base.h"
#include "base/money.h"

/* ---- coupon.c: the terms, and what they make of an order ---- */

/* decimals of a percentage; so a discount is exact in 128 bits */
#define COUPON_PERCENT_DECIMALS 4

/* The terms of a coupon as read without a lock; revision tells whether they still hold. */
typedef struct Coupon
{
	int64		coupon_id;
	char	   *code;
	bool		percent;		/* else fixed */
	Datum		value;			/* numeric: percent, or an amount */
	char	   *currency;		/* of its amounts; NULL = any */
	bool		has_min_total;
	Datum		min_total;		/* numeric */
	bool		has_max_discount;
	Datum		max_discount;
	TimestampTz valid_from;		/* DT_NOBEGIN */
	TimestampTz valid_until;	/* DT_NOEND; exclusive */
	int64		usage_limit;	/* 0 = none */
	int64		per_customer;	/* 0 = none */
	char	   *customer;		/* NULL = anybody */
	char	  **skus;			/* in the order of strcmp(); NULL = all */
	int			nskus;
	bool		enabled;
	int64		revision;
} Coupon;

/* What the coupon is laid over: the lines of one order. */
typedef struct CouponBasket
{
	const char *customer;		/* NULL = a guest */
	const char *currency;
	int			decimals;
	TimestampTz now;
	int			nlines;
	const char *const *skus;
	const Money *amounts;		/* of the lines, rounded */
	Money	   *shares;			/* out: the discount of each line */
	Money		discount;		/* out: their sum */
} CouponBasket;

/*
 * Why a coupon is refused.  reason is one word of a closed list: disabled,
 * not_yet_valid, expired, currency, customer, guest, scope, min_total,
 * usage_limit, per_customer, changed.
 */
typedef struct CouponRefusal
{
	const char *reason;
	const char *message;
	int64		in_flight;		/* usage_limit: uses by orders of open transactions */
} CouponRefusal;

/* Notes the refusal; returns false. */
extern bool ordflow_coupon_refuse(CouponRefusal *refusal, const char *reason,
								  const char *fmt,...) pg_attribute_printf(3, 4);

/* Reads a coupon by its code, without a lock or FOR UPDATE; false = no such coupon. */
extern bool ordflow_coupon_read(const char *code, Coupon *coupon);
extern bool ordflow_coupon_read_for_update(const char *code, Coupon *coupon);

/* Checks all but the counts, and computes discount and shares.  False: refused. */
extern bool ordflow_coupon_price(const Coupon *coupon, CouponBasket *basket,
								 CouponRefusal *refusal);

/* ---- uses.c: what stands behind the limits, in the latest snapshot, past predicate locks ---- */

typedef struct CouponNow
{
	int64		revision;
	int64		usage_limit;	/* 0 = none */
	bool		own;			/* this transaction has created or altered it */
} CouponNow;

/* False: it is gone. */
extern bool ordflow_coupon_now(int64 coupon_id, CouponNow *now);

/* Its uses that are not given back, or most if there are more. */
extern int64 ordflow_coupon_count_uses(int64 coupon_id, int64 most);

/* The lowest slot that the customer may use now; 0 = none. */
extern int64 ordflow_coupon_free_slot(int64 coupon_id, const char *customer, int64 per_customer);

extern void ordflow_coupon_uses_init(void);

/* ---- redemption.c: uses of a coupon ---- */

/* May the customer still use it, seen without a lock?  For quote_order. */
extern bool ordflow_coupon_look(const Coupon *coupon, const char *customer,
								CouponRefusal *refusal);

/*
 * Takes one use of the coupon for the order: shares the coupon, checks that its terms have not
 * changed since they were read, checks usage_limit and per_customer, inserts
 * the redemption in state locked.  False: refused, nothing written.  Raises 40001 where the
 * terms have changed since the snapshot of a higher isolation level.
 */
extern bool ordflow_coupon_lock(const Coupon *coupon, const char *customer, int64 order_id,
								CouponRefusal *refusal);

/* locked -> used, for the orders that have a redemption. */
extern void ordflow_coupon_use(const int64 *order_ids, int n);

/*
 * locked or used -> returned, or expired where the coupon is not valid any
 * more; the use is given back.  The caller has locked the orders.
 */
extern void ordflow_coupon_return(const int64 *order_ids, int n, TimestampTz now);

/* Gives the uses back and deletes the redemptions: the orders themselves are withdrawn. */
extern void ordflow_coupon_forget(const int64 *order_ids, int n);

/* Holds the coupon to the end of the (sub)transaction: ShareLock to use it, ExclusiveLock alone. */
extern void ordflow_coupon_hold(int64 coupon_id, LOCKMODE mode);

/*
 * The coupon is held alone: numbers the uses that have no slot for a per_customer, at every
 * isolation level as they stand now.
 */
extern void ordflow_coupon_number_uses(int64 coupon_id);

/* ---- limit.c: purchase limits ---- */

/* What one order wants of one limited sku. */
typedef struct LimitDemand
{
	int			owner;			/* which order of the batch */
	const char *customer;		/* NULL = a guest */
	const char *sku;
	int64		quantity;		/* added up per sku */
	int64		limit_id;		/* out: 0 = the sku has no limit in force */
	int64		per_customer;	/* out */
	int64		bought;			/* out, where refused: what counts already */
	bool		refused;		/* out */
} LimitDemand;

/*
 * Counts the demands against the limits in force, each owner all or nothing, in the
 * order of owners; granted[owner] false on entry = left out.  Rows are locked in
 * the order of (limit_id, customer).  Demands are grouped by owner, ascending.
 * Costs nothing when no limit exists at all.  take false: look only (quote_order).
 */
extern void ordflow_limit_take(LimitDemand *demands, int n, bool *granted, int nowners,
							   TimestampTz now, bool take);

/* Units that count no more: cancelled or returned. */
typedef struct LimitReturn
{
	int64		limit_id;
	const char *customer;
	int64		quantity;
} LimitReturn;

extern void ordflow_limit_return(const LimitReturn *returns, int n);

extern void ordflow_limit_init(void);

/* All of the feature; called from _PG_init. */
extern void ordflow_coupon_init(void);

#endif							/* ORDFLOW_COUPON_H */

/*
 * redemption.c
 *	  Uses of coupons: locked at submit, used at pay, given back at cancel.
 *
 * Every use and every return shares the coupon, to the end of its transaction, so that
 * alter_coupon(), which holds it alone, finds nobody between two counts; and changes the counter
 * of a coupon that has a usage_limit.  No row of the coupon is locked, so nobody waits for
 * anybody but for a transaction that alters it.
 *
 * A coupon that this very transaction has created or altered is used by nobody else before it
 * ends.  Its uses are counted in the rows, which a rollback to a savepoint takes back together with
 * the terms, and its counter is dropped at the end.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"

#include "counter/counter.h"
#include "coupon/coupon.h"

/*
 * Coupons share that many locks: a call with 10,000 orders may use 10,000 coupons, more than the
 * server's table of locks has room for.
 */
#define COUPON_LOCKS 1024

/*
 * The uses of a coupon of this transaction's own, as it counted them last: in this
 * subtransaction, and none has been given back, or taken without a limit, since.
 */
static struct
{
	FullTransactionId xid;
	SubTransactionId subxid;
	int64		coupon_id;
	int64		uses;
}			own;

#define INSERT_REDEMPTION \
	"INSERT INTO ordflow.coupon_redemptions" \
	" (coupon_id, order_id, customer, slot, state, at, updated_at)" \
	" VALUES ($1, $2, $3, $4, 'locked', $5, $5)"

static Statement insert_redemption = {
	.sql = INSERT_REDEMPTION,
	.nargs = 5,
	.argtypes = {INT8OID, INT8OID, TEXTOID, INT8OID, TIMESTAMPTZOID}
};

/* Inserts nothing where the slot is taken. */
static Statement insert_slot = {
	.sql = INSERT_REDEMPTION
	" ON CONFLICT (coupon_id, customer, slot) WHERE state IN ('locked', 'used') DO NOTHING",
	.nargs = 5,
	.argtypes = {INT8OID, INT8OID, TEXTOID, INT8OID, TIMESTAMPTZOID}
};

static Statement use_redemptions = {
	.sql = "UPDATE ordflow.coupon_redemptions SET state = 'used', updated_at = $2"
	" WHERE order_id = ANY ($1) AND state = 'locked'",
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, TIMESTAMPTZOID}
};

static Statement count_live = {
	.sql = "SELECT coupon_id, count(*) FROM ordflow.coupon_redemptions"
	" WHERE order_id = ANY ($1) AND state IN ('locked', 'used')"
	" GROUP BY coupon_id ORDER BY coupon_id",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static Statement return_redemptions = {
	.sql = "UPDATE ordflow.coupon_redemptions r SET slot = NULL, updated_at = $2,"
	" state = CASE WHEN EXISTS (SELECT FROM ordflow.coupons c WHERE c.coupon_id = r.coupon_id"
	"  AND $2 < COALESCE(c.valid_until, 'infinity')) THEN 'returned' ELSE 'expired' END"
	" WHERE r.order_id = ANY ($1) AND r.state IN ('locked', 'used')",
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, TIMESTAMPTZOID}
};

static Statement delete_redemptions = {
	.sql = "DELETE FROM ordflow.coupon_redemptions WHERE order_id = ANY ($1)",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static Statement number_uses = {
	.sql = "WITH missing AS ("
	"  SELECT u.redemption_id, u.customer,"
	"  row_number() OVER (PARTITION BY u.customer ORDER BY u.redemption_id) AS n"
	"  FROM ordflow.coupon_redemptions u"
	"  WHERE u.coupon_id = $1 AND u.slot IS NULL AND u.customer IS NOT NULL"
	"  AND u.state IN ('locked', 'used'))"
	" UPDATE ordflow.coupon_redemptions r SET slot = m.n"
	"  + (SELECT COALESCE(max(t.slot), 0) FROM ordflow.coupon_redemptions t"
	"     WHERE t.coupon_id = $1 AND t.customer = m.customer)"
	" FROM missing m WHERE r.redemption_id = m.redemption_id",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static uint64
write_redemptions(Statement *statement, Datum *values, const char *nulls)
{
	uint64		n;

	ordflow_counter_own_write("coupon_redemptions");
	n = ordflow_execute(statement, values, nulls);
	ordflow_counter_own_write_done();
	return n;
}

void
ordflow_coupon_hold(int64 coupon_id, LOCKMODE mode)
{
	LockDatabaseObject(ordflow_relid("coupons"), 1 + (Oid) ((uint64) coupon_id % COUPON_LOCKS), 0,
					   mode);
}

/* ---- a use ---- */

static bool
refuse_per_customer(const Coupon *coupon, CouponRefusal *refusal)
{
	return ordflow_coupon_refuse(refusal, "per_customer",
								 "the customer has used coupon \"%s\" as often as it allows",
								 coupon->code);
}

static bool
refuse_usage_limit(const Coupon *coupon, CouponRefusal *refusal)
{
	CounterState state;

	ordflow_coupon_refuse(refusal, "usage_limit", "coupon \"%s\" is used up", coupon->code);
	if (ordflow_counter_look(COUNTER_COUPON, coupon->coupon_id, &state))
		refusal->in_flight = state.in_flight;
	return false;
}

/* The price was computed by terms that have gone; an old snapshot would show them again. */
static bool
refuse_changed(const Coupon *coupon, CouponRefusal *refusal)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("could not serialize access due to concurrent change of coupon \"%s\"",
					   coupon->code));
	return ordflow_coupon_refuse(refusal, "changed",
								 "the terms of coupon \"%s\" have just changed", coupon->code);
}

/* Is there a use left?  Seen without taking it. */
static bool
has_use_left(const Coupon *coupon)
{
	CouponNow	now;
	CounterState state;

	if (ordflow_coupon_now(coupon->coupon_id, &now) && !now.own &&
		ordflow_counter_look(COUNTER_COUPON, coupon->coupon_id, &state))
		return state.value + state.own > 0;
	return ordflow_coupon_count_uses(coupon->coupon_id, coupon->usage_limit) < coupon->usage_limit;
}

bool
ordflow_coupon_look(const Coupon *coupon, const char *customer, CouponRefusal *refusal)
{
	if (coupon->usage_limit > 0 && !has_use_left(coupon))
		return refuse_usage_limit(coupon, refusal);
	if (coupon->per_customer > 0 && customer != NULL &&
		ordflow_coupon_free_slot(coupon->coupon_id, customer, coupon->per_customer) == 0)
		return refuse_per_customer(coupon, refusal);
	return true;
}

/*
 * Inserts the redemption.  Where uses are counted per customer it takes the lowest
 * slot that is free: two orders at once want the same one, the second
 * waits and looks again.
 */
static bool
insert_locked(const Coupon *coupon, const char *customer, int64 order_id,
			  CouponRefusal *refusal)
{
	bool		slotted = coupon->per_customer > 0;
	Datum		values[5];
	char		nulls[5] = {' ', ' ', ' ', slotted ? ' ' : 'n', ' '};

	values[0] = Int64GetDatum(coupon->coupon_id);
	values[1] = Int64GetDatum(order_id);
	ORDFLOW_SET_TEXT(values, nulls, 2, customer);
	do
	{
		int64		slot = 0;

		CHECK_FOR_INTERRUPTS();
		Assert(customer != NULL || !slotted);
		if (slotted)
			slot = ordflow_coupon_free_slot(coupon->coupon_id, customer, coupon->per_customer);
		if (slotted && slot == 0)
			return refuse_per_customer(coupon, refusal);
		values[3] = Int64GetDatum(slot);
		values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	} while (write_redemptions(slotted ? &insert_slot : &insert_redemption, values, nulls) == 0 &&
			 slotted);
	return true;
}

/* Does the coupon's counter account for what is used now and given back? */
static bool
is_counted(int64 coupon_id, const CouponNow *now)
{
	return now->usage_limit > 0 && !now->own && ordflow_counter_pin(COUNTER_COUPON, coupon_id);
}

/* A limit that was lowered below the uses leaves less than nothing, own returns included. */
static bool
take_counted(int64 coupon_id)
{
	return ordflow_counter_spendable(COUNTER_COUPON, coupon_id) >= 1 &&
		ordflow_counter_take(COUNTER_COUPON, coupon_id, 1);
}

static void
forget_own(void)
{
	own.xid = InvalidFullTransactionId;
}

static bool
take_own(int64 coupon_id, int64 usage_limit)
{
	FullTransactionId xid = GetTopFullTransactionId();
	SubTransactionId subxid = GetCurrentSubTransactionId();

	if (!FullTransactionIdEquals(own.xid, xid) || own.subxid != subxid ||
		own.coupon_id != coupon_id)
	{
		forget_own();
		own.uses = ordflow_coupon_count_uses(coupon_id, PG_INT64_MAX);
		own.coupon_id = coupon_id;
		own.subxid = subxid;
		own.xid = xid;
	}
	if (own.uses >= usage_limit)
		return false;
	own.uses++;
	return true;
}

bool
ordflow_coupon_lock(const Coupon *coupon, const char *customer, int64 order_id,
					CouponRefusal *refusal)
{
	int64		coupon_id = coupon->coupon_id;
	CouponNow	now;
	bool		counted;

	ordflow_counter_enter("coupons");
	ordflow_coupon_hold(coupon_id, ShareLock);
	if (!ordflow_coupon_now(coupon_id, &now) || now.revision != coupon->revision)
		return refuse_changed(coupon, refusal);

	counted = is_counted(coupon_id, &now);
	if (now.usage_limit == 0)
		forget_own();
	else if (counted ? !take_counted(coupon_id) : !take_own(coupon_id, now.usage_limit))
		return refuse_usage_limit(coupon, refusal);
	if (insert_locked(coupon, customer, order_id, refusal))
		return true;

	/* nothing may stay of a refusal: the order's transaction may go on */
	if (counted)
		ordflow_counter_untake(COUNTER_COUPON, coupon_id, 1);
	forget_own();
	return false;
}

void
ordflow_coupon_use(const int64 *order_ids, int n)
{
	Datum		values[2];

	values[0] = ordflow_int8_array(order_ids, n);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	write_redemptions(&use_redemptions, values, NULL);
}

/* ---- a return ---- */

/* Uses of one coupon that are given back. */
typedef struct Return
{
	int64		coupon_id;
	int64		uses;
	bool		counted;
} Return;

/* A coupon that somebody deleted must not stop a cancel. */
static void
begin_return(Return *given)
{
	CouponNow	now;

	CHECK_FOR_INTERRUPTS();
	ordflow_coupon_hold(given->coupon_id, ShareLock);
	given->counted = ordflow_coupon_now(given->coupon_id, &now) &&
		is_counted(given->coupon_id, &now);
}

void
ordflow_coupon_return(const int64 *order_ids, int n, TimestampTz now)
{
	Datum		values[2];
	Return	   *returns;
	int			nreturns;

	ordflow_counter_enter("coupons");
	forget_own();
	/* the orders are locked, so their redemptions stand still */
	values[0] = ordflow_int8_array(order_ids, n);
	values[1] = TimestampTzGetDatum(now);
	nreturns = ordflow_execute(&count_live, values, NULL);
	if (nreturns == 0)
		return;

	returns = palloc(sizeof(Return) * nreturns);
	for (int i = 0; i < nreturns; i++)
	{
		returns[i].coupon_id = ordflow_result_int64(i, 1);
		returns[i].uses = ordflow_result_int64(i, 2);
	}
	for (int i = 0; i < nreturns; i++)
		begin_return(&returns[i]);
	write_redemptions(&return_redemptions, values, NULL);
	for (int i = 0; i < nreturns; i++)
		if (returns[i].counted)
			ordflow_counter_add(COUNTER_COUPON, returns[i].coupon_id, returns[i].uses);
}

/* A withdrawn order was submitted in this very call: nobody else sees its redemption. */
void
ordflow_coupon_forget(const int64 *order_ids, int n)
{
	Datum		values[1] = {ordflow_int8_array(order_ids, n)};

	ordflow_coupon_return(order_ids, n, GetCurrentTimestamp());
	write_redemptions(&delete_redemptions, values, NULL);
}

/* ---- an alteration ---- */

/*
 * With the latest snapshot: at REPEATABLE READ the transaction's own would miss uses that were
 * committed after it, which leave no trace in the coupon's row.
 */
void
ordflow_coupon_number_uses(int64 coupon_id)
{
	Datum		values[1] = {Int64GetDatum(coupon_id)};

	ordflow_counter_own_write("coupon_redemptions");
	ordflow_execute_latest(&number_uses, values, NULL);
	ordflow_counter_own_write_done();
}

/*
 * redemption.c
 *	  Uses of coupons: locked at submit, used at pay, given back at cancel.
 *
 * Every use and return holds the coupon's row: FOR NO KEY UPDATE, by counting
 * in it, where it has a usage_limit, else FOR SHARE, so that alter_coupon(), which
 * holds it FOR UPDATE, finds nobody between two counts.  The column used is kept
 * only where usage_limit is set.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "coupon/coupon.h"

/* looks for another lock when alter_coupon() comes between; each needs one more alteration */
#define LOCK_ATTEMPTS_MAX 100

static Statement count_use = {
	.sql = "UPDATE ordflow.coupons SET used = used + 1"
	" WHERE coupon_id = $1 AND revision = $2 AND used < usage_limit",
	.nargs = 2,
	.argtypes = {INT8OID, INT8OID}
};

static Statement share_coupon = {
	.sql = "SELECT FROM ordflow.coupons WHERE coupon_id = $1 AND revision = $2 FOR SHARE",
	.nargs = 2,
	.argtypes = {INT8OID, INT8OID}
};

static Statement read_counts = {
	.sql = "SELECT revision, used, usage_limit FROM ordflow.coupons WHERE coupon_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement count_returns = {
	.sql = "UPDATE ordflow.coupons SET used = used - $2"
	" WHERE coupon_id = $1 AND usage_limit IS NOT NULL",
	.nargs = 2,
	.argtypes = {INT8OID, INT8OID}
};

static Statement share_unlimited = {
	.sql = "SELECT FROM ordflow.coupons WHERE coupon_id = $1 AND usage_limit IS NULL FOR SHARE",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement insert_redemption = {
	.sql = "INSERT INTO ordflow.coupon_redemptions"
	" (coupon_id, order_id, customer, slot, state, at, updated_at)"
	" VALUES ($1, $2, $3, $4, 'locked', $5, $5)"
	" ON CONFLICT (coupon_id, customer, slot) DO NOTHING",
	.nargs = 5,
	.argtypes = {INT8OID, INT8OID, TEXTOID, INT8OID, TIMESTAMPTZOID}
};

/*
 * The lowest free slot of a customer, NULL when the uses are as many as
 * per_customer.  Uses may stand in slots above it, after it was lowered: so they
 * are counted too.
 */
static Statement free_slot = {
	.sql = "WITH taken AS ("
	"  SELECT r.slot FROM ordflow.coupon_redemptions r"
	"  WHERE r.coupon_id = $1 AND r.customer = $2 AND r.slot IS NOT NULL)"
	" SELECT min(c.slot)"
	" FROM (SELECT 1::bigint UNION ALL SELECT t.slot + 1 FROM taken t) AS c (slot)"
	" WHERE c.slot <= $3 AND (SELECT count(*) FROM taken) < $3"
	" AND NOT EXISTS (SELECT FROM taken t WHERE t.slot = c.slot)",
	.nargs = 3,
	.argtypes = {INT8OID, TEXTOID, INT8OID}
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
	return ordflow_coupon_refuse(refusal, "usage_limit", "coupon \"%s\" is used up",
								 coupon->code);
}

/* Why the coupon could not be counted or shared: its revision tells. */
static bool
refuse_lock(const Coupon *coupon, CouponRefusal *refusal)
{
	Datum		values[1] = {Int64GetDatum(coupon->coupon_id)};

	if (ordflow_execute(&read_counts, values, NULL) == 1 &&
		ordflow_result_int64(0, 1) == coupon->revision)
		return refuse_usage_limit(coupon, refusal);
	return ordflow_coupon_refuse(refusal, "changed",
								 "the terms of coupon \"%s\" have just changed", coupon->code);
}

/* The customer's lowest free slot; 0 = none. */
static int64
lowest_free_slot(const Coupon *coupon, const char *customer)
{
	Datum		values[3];

	values[0] = Int64GetDatum(coupon->coupon_id);
	values[1] = CStringGetTextDatum(customer);
	values[2] = Int64GetDatum(coupon->per_customer);
	ordflow_execute(&free_slot, values, NULL);
	return ordflow_result_int64(0, 1);
}

bool
ordflow_coupon_look(const Coupon *coupon, const char *customer, CouponRefusal *refusal)
{
	Datum		values[1] = {Int64GetDatum(coupon->coupon_id)};

	if (coupon->usage_limit > 0 &&
		ordflow_execute(&read_counts, values, NULL) == 1 &&
		ordflow_result_int64(0, 2) >= coupon->usage_limit)
		return refuse_usage_limit(coupon, refusal);
	if (coupon->per_customer > 0 && customer != NULL &&
		lowest_free_slot(coupon, customer) == 0)
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
	Datum		values[5];
	char		nulls[5] = {' ', ' ', ' ', ' ', ' '};

	values[0] = Int64GetDatum(coupon->coupon_id);
	values[1] = Int64GetDatum(order_id);
	ORDFLOW_SET_TEXT(values, nulls, 2, customer);
	do
	{
		int64		slot = 0;

		CHECK_FOR_INTERRUPTS();
		if (coupon->per_customer > 0)
		{
			Assert(customer != NULL);
			slot = lowest_free_slot(coupon, customer);
			if (slot == 0)
				return refuse_per_customer(coupon, refusal);
		}
		values[3] = Int64GetDatum(slot);
		nulls[3] = slot == 0 ? 'n' : ' ';
		values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	} while (ordflow_execute(&insert_redemption, values, nulls) == 0);
	return true;
}

bool
ordflow_coupon_lock(const Coupon *coupon, const char *customer, int64 order_id,
					CouponRefusal *refusal)
{
	Statement  *lock = coupon->usage_limit > 0 ? &count_use : &share_coupon;
	Datum		values[2];

	ordflow_refuse_prepare("coupons");
	values[0] = Int64GetDatum(coupon->coupon_id);
	values[1] = Int64GetDatum(coupon->revision);
	if (ordflow_execute(lock, values, NULL) == 0)
		return refuse_lock(coupon, refusal);
	if (insert_locked(coupon, customer, order_id, refusal))
		return true;

	/* nothing may stay of a refusal: the order's transaction may go on */
	if (coupon->usage_limit > 0)
	{
		values[1] = Int64GetDatum(1);
		ordflow_execute(&count_returns, values, NULL);
	}
	return false;
}

void
ordflow_coupon_use(const int64 *order_ids, int n)
{
	Datum		values[2];

	values[0] = ordflow_int8_array(order_ids, n);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
	ordflow_execute(&use_redemptions, values, NULL);
}

/*
 * Locks a coupon and gives uses back where they are counted.  A coupon that
 * somebody deleted must not stop a cancel.
 */
static void
give_back(int64 coupon_id, int64 uses)
{
	Datum		values[2];

	values[0] = Int64GetDatum(coupon_id);
	values[1] = Int64GetDatum(uses);
	for (int attempt = 0; attempt < LOCK_ATTEMPTS_MAX; attempt++)
	{
		CHECK_FOR_INTERRUPTS();
		if (ordflow_execute(&count_returns, values, NULL) == 1 ||
			ordflow_execute(&share_unlimited, values, NULL) == 1 ||
			ordflow_execute(&read_counts, values, NULL) == 0)
			return;
	}
	elog(ERROR, "coupon %lld could not be locked", (long long) coupon_id);
}

void
ordflow_coupon_return(const int64 *order_ids, int n, TimestampTz now)
{
	Datum		values[2];
	int64	   *coupon_ids;
	int64	   *uses;
	int			ncoupons;

	ordflow_refuse_prepare("coupons");
	/* the orders are locked, so their redemptions stand still */
	values[0] = ordflow_int8_array(order_ids, n);
	values[1] = TimestampTzGetDatum(now);
	ncoupons = ordflow_execute(&count_live, values, NULL);
	if (ncoupons == 0)
		return;

	coupon_ids = palloc(sizeof(int64) * ncoupons);
	uses = palloc(sizeof(int64) * ncoupons);
	for (int i = 0; i < ncoupons; i++)
	{
		coupon_ids[i] = ordflow_result_int64(i, 1);
		uses[i] = ordflow_result_int64(i, 2);
	}
	for (int i = 0; i < ncoupons; i++)
		give_back(coupon_ids[i], uses[i]);
	ordflow_execute(&return_redemptions, values, NULL);
}

/* A withdrawn order was submitted in this very call: nobody else sees its redemption. */
void
ordflow_coupon_forget(const int64 *order_ids, int n)
{
	Datum		values[1] = {ordflow_int8_array(order_ids, n)};

	ordflow_coupon_return(order_ids, n, GetCurrentTimestamp());
	ordflow_execute(&delete_redemptions, values, NULL);
}

/*
 * A statement in a new snapshot at every isolation level.  At REPEATABLE READ
 * the transaction's own would miss uses of a coupon without usage_limit,
 * which leave no trace in its row that the lock could stumble over.
 */
static void
execute_latest(const char *sql, int64 coupon_id)
{
	Oid			argtypes[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(coupon_id)};
	SPIPlanPtr	plan = SPI_prepare(sql, 1, argtypes);
	Snapshot	snapshot;

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", sql);
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	if (SPI_execute_snapshot(plan, values, NULL, snapshot, InvalidSnapshot, false, true, 0) < 0)
		elog(ERROR, "could not execute \"%s\"", sql);
	UnregisterSnapshot(snapshot);
}

void
ordflow_coupon_recount(int64 coupon_id)
{
	execute_latest("UPDATE ordflow.coupons SET used ="
				   " (SELECT count(*) FROM ordflow.coupon_redemptions r"
				   "  WHERE r.coupon_id = $1 AND r.state IN ('locked', 'used'))"
				   " WHERE coupon_id = $1 AND usage_limit IS NOT NULL", coupon_id);
	execute_latest("WITH missing AS ("
				   "  SELECT u.redemption_id, u.customer,"
				   "  row_number() OVER (PARTITION BY u.customer ORDER BY u.redemption_id) AS n"
				   "  FROM ordflow.coupon_redemptions u"
				   "  WHERE u.coupon_id = $1 AND u.slot IS NULL AND u.customer IS NOT NULL"
				   "  AND u.state IN ('locked', 'used'))"
				   " UPDATE ordflow.coupon_redemptions r SET slot = m.n"
				   "  + (SELECT COALESCE(max(t.slot), 0) FROM ordflow.coupon_redemptions t"
				   "     WHERE t.coupon_id = $1 AND t.customer = m.customer)"
				   " FROM missing m WHERE r.redemption_id = m.redemption_id AND EXISTS ("
				   "  SELECT FROM ordflow.coupons c"
				   "  WHERE c.coupon_id = $1 AND c.per_customer IS NOT NULL)", coupon_id);
}

/*
 * uses.c
 *	  What stands behind a coupon's limits, read as it is now.
 *
 * How many uses are left is decided by the coupon's counter, and which of them a customer has
 * by a unique slot.  What is read for that must be the latest, at every isolation level, and
 * leave no trace for the serializable one: customers whose slots share a page of the index
 * would fail each other.  So it is read past the predicate locks: all versions of a row, of
 * which the snapshot sees one.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "counter/counter.h"
#include "coupon/coupon.h"

/* by (coupon_id, customer, slot), of uses that have not been given back */
#define USES_INDEX "coupon_redemptions_slot_key"

static void
int8_key(ScanKey key, int column, int64 value)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(value));
}

static int64
int64_of(RowReader *rows, const char *column)
{
	return ordflow_reader_int64(rows, ordflow_reader_column(rows, column));
}

/* ---- the coupon ---- */

static bool
read_coupon(int64 coupon_id, Snapshot snapshot, CouponNow *now)
{
	RowReader	rows;
	ScanKeyData key;
	bool		found;

	int8_key(&key, 1, coupon_id);
	ordflow_reader_open(&rows, "coupons", "coupons_pkey", snapshot, &key, 1);
	found = ordflow_reader_next(&rows, ForwardScanDirection);
	if (found)
	{
		HeapTuple	tuple = ExecFetchSlotHeapTuple(rows.slot, false, NULL);

		now->revision = int64_of(&rows, "revision");
		now->usage_limit = int64_of(&rows, "usage_limit");
		now->own = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
	}
	ordflow_reader_close(&rows);
	return found;
}

bool
ordflow_coupon_now(int64 coupon_id, CouponNow *now)
{
	Snapshot	snapshot = ordflow_register_latest();
	bool		found = read_coupon(coupon_id, snapshot, now);

	UnregisterSnapshot(snapshot);
	return found;
}

/* ---- its uses ---- */

static int64
count_uses(int64 coupon_id, Snapshot snapshot, int64 most)
{
	RowReader	rows;
	ScanKeyData key;
	int64		uses = 0;

	int8_key(&key, 1, coupon_id);
	ordflow_reader_open(&rows, "coupon_redemptions", USES_INDEX, snapshot, &key, 1);
	while (uses < most && ordflow_reader_next(&rows, ForwardScanDirection))
		uses++;
	ordflow_reader_close(&rows);
	return uses;
}

int64
ordflow_coupon_count_uses(int64 coupon_id, int64 most)
{
	Snapshot	snapshot = ordflow_register_latest();
	int64		uses = count_uses(coupon_id, snapshot, most);

	UnregisterSnapshot(snapshot);
	return uses;
}

static bool
load_uses_left(int64 coupon_id, Snapshot snapshot, int64 *value)
{
	CouponNow	now;

	if (!read_coupon(coupon_id, snapshot, &now) || now.usage_limit == 0)
		return false;
	*value = now.usage_limit - count_uses(coupon_id, snapshot, PG_INT64_MAX);
	return true;
}

void
ordflow_coupon_uses_init(void)
{
	static const CounterSource source = {.relname = "coupons", .load = load_uses_left};

	ordflow_counter_register(COUNTER_COUPON, &source);
}

/* ---- the slots of a customer ---- */

/*
 * Uses may stand in slots above per_customer, after it was lowered: so they are counted too.
 */
int64
ordflow_coupon_free_slot(int64 coupon_id, const char *customer, int64 per_customer)
{
	Snapshot	snapshot = ordflow_register_latest();
	RowReader	rows;
	ScanKeyData keys[3];
	int64		uses = 0;
	int64		lowest = 1;

	int8_key(&keys[0], 1, coupon_id);
	ScanKeyEntryInitialize(&keys[1], 0, 2, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID,
						   F_TEXTEQ, CStringGetTextDatum(customer));
	ScanKeyEntryInitialize(&keys[2], SK_ISNULL | SK_SEARCHNOTNULL, 3, InvalidStrategy, InvalidOid,
						   InvalidOid, InvalidOid, (Datum) 0);
	ordflow_reader_open(&rows, "coupon_redemptions", USES_INDEX, snapshot, keys, 3);
	/* in the order of slots */
	for (; uses < per_customer && ordflow_reader_next(&rows, ForwardScanDirection); uses++)
		if (int64_of(&rows, "slot") == lowest)
			lowest++;
	ordflow_reader_close(&rows);
	UnregisterSnapshot(snapshot);
	return uses < per_customer ? lowest : 0;
}

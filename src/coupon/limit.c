/*
 * limit.c
 *	  Purchase limits: how many units of a sku one customer may buy.
 *
 * A count is a row of (limit_id, customer).  Most shops have no limit at all, so
 * a backend remembers that there is none and spares every submit the look;
 * a trigger on the table invalidates that.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "coupon/coupon.h"

PG_FUNCTION_INFO_V1(ordflow_set_purchase_limit);
PG_FUNCTION_INFO_V1(ordflow_purchase_limits_changed);

/* What the backend remembers of the table of limits. */
static struct
{
	bool		known;
	bool		empty;
	Oid			relid;
	uint64		generation;		/* counts invalidations */
}			limits;

static Statement find_limits = {
	.sql = "SELECT sku, limit_id, per_customer FROM ordflow.purchase_limits"
	" WHERE sku = ANY ($1) AND COALESCE(valid_until, 'infinity') > $2",
	.nargs = 2,
	.argtypes = {TEXTARRAYOID, TIMESTAMPTZOID}
};

static Statement take_one = {
	.sql = "INSERT INTO ordflow.purchase_counts AS c (limit_id, customer, quantity)"
	" SELECT $1, $2, $3 WHERE $3 <= $4"
	" ON CONFLICT (limit_id, customer) DO UPDATE SET quantity = c.quantity + excluded.quantity"
	" WHERE c.quantity + excluded.quantity <= $4 RETURNING 1",
	.nargs = 4,
	.argtypes = {INT8OID, TEXTOID, INT8OID, INT8OID}
};

/* Locks the counts in order and reads them, making those that are not there yet. */
static Statement lock_counts = {
	.sql = "INSERT INTO ordflow.purchase_counts AS c (limit_id, customer, quantity)"
	" SELECT w.limit_id, w.customer, 0"
	" FROM unnest($1, $2) AS w (limit_id, customer)"
	" ORDER BY w.limit_id, w.customer COLLATE \"C\""
	" ON CONFLICT (limit_id, customer) DO UPDATE SET quantity = c.quantity"
	" RETURNING c.limit_id, c.customer, c.quantity",
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, TEXTARRAYOID}
};

static Statement look_at_counts = {
	.sql = "SELECT c.limit_id, c.customer, c.quantity"
	" FROM unnest($1, $2) AS w (limit_id, customer) JOIN ordflow.purchase_counts c"
	" ON c.limit_id = w.limit_id AND c.customer = w.customer",
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, TEXTARRAYOID}
};

static Statement add_counts = {
	.sql = "UPDATE ordflow.purchase_counts c SET quantity = c.quantity + t.quantity"
	" FROM unnest($1, $2, $3) AS t (limit_id, customer, quantity)"
	" WHERE c.limit_id = t.limit_id AND c.customer = t.customer",
	.nargs = 3,
	.argtypes = {INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID}
};

static Statement lock_for_return = {
	.sql = "SELECT FROM ordflow.purchase_counts c"
	" JOIN unnest($1, $2) AS w (limit_id, customer)"
	" ON c.limit_id = w.limit_id AND c.customer = w.customer"
	" ORDER BY c.limit_id, c.customer FOR NO KEY UPDATE OF c",
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, TEXTARRAYOID}
};

/* A count that is wrong must not stop a cancel: the audit finds it. */
static Statement return_counts = {
	.sql = "UPDATE ordflow.purchase_counts c SET quantity = greatest(c.quantity - t.quantity, 0)"
	" FROM (SELECT u.limit_id, u.customer, sum(u.quantity)::bigint AS quantity"
	"  FROM unnest($1, $2, $3) AS u (limit_id, customer, quantity)"
	"  GROUP BY u.limit_id, u.customer) AS t"
	" WHERE c.limit_id = t.limit_id AND c.customer = t.customer",
	.nargs = 3,
	.argtypes = {INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID}
};

static Statement set_limit = {
	.sql = "INSERT INTO ordflow.purchase_limits AS l (sku, per_customer, valid_until)"
	" VALUES ($1, $2, $3)"
	" ON CONFLICT (sku) DO UPDATE SET per_customer = excluded.per_customer,"
	" valid_until = excluded.valid_until,"
	" limit_id = CASE WHEN l.valid_until <= $4 THEN excluded.limit_id ELSE l.limit_id END",
	.nargs = 4,
	.argtypes = {TEXTOID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID}
};

static void
limits_forget(Oid relid)
{
	if (OidIsValid(relid) && relid != limits.relid)
		return;
	limits.known = false;
	limits.generation++;
}

void
ordflow_limit_init(void)
{
	ordflow_on_relation_change(limits_forget);
}

Datum
ordflow_purchase_limits_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("purchase_limits_changed() must be called as a trigger"));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}

/*
 * Is there any limit?  Looks with the latest snapshot: what the old one of a
 * REPEATABLE READ transaction shows must not be remembered beyond it.
 */
static bool
limits_exist(void)
{
	if (!limits.known)
	{
		uint64		generation;
		Relation	rel;
		Snapshot	snapshot;
		TableScanDesc scan;
		TupleTableSlot *slot;

		limits.relid = ordflow_relid("purchase_limits");
		rel = table_open(limits.relid, AccessShareLock);
		generation = limits.generation;
		snapshot = RegisterSnapshot(GetLatestSnapshot());
		slot = table_slot_create(rel, NULL);
		scan = table_beginscan(rel, snapshot, 0, NULL);
		limits.empty = !table_scan_getnextslot(scan, ForwardScanDirection, slot);
		table_endscan(scan);
		ExecDropSingleTupleTableSlot(slot);
		UnregisterSnapshot(snapshot);
		table_close(rel, AccessShareLock);
		limits.known = generation == limits.generation;
	}
	return !limits.empty;
}

/* A count that the batch is about. */
typedef struct Count
{
	int64		limit_id;
	const char *customer;
	int64		quantity;		/* bought already */
	int64		taken;			/* by owners granted so far */
} Count;

/* The counts by (limit_id, customer), and the demands that have one. */
typedef struct Counts
{
	Count	   *counts;
	int			n;
} Counts;

static int
compare_counts(const void *a, const void *b)
{
	const Count *l = a;
	const Count *r = b;

	if (l->limit_id != r->limit_id)
		return l->limit_id < r->limit_id ? -1 : 1;
	return strcmp(l->customer, r->customer);
}

static Count *
find_count(const Counts *counts, int64 limit_id, const char *customer)
{
	Count		key = {.limit_id = limit_id, .customer = customer};

	return bsearch(&key, counts->counts, counts->n, sizeof(Count), compare_counts);
}

/* A limit in force, as found for the skus of the batch. */
typedef struct LimitTerms
{
	const char *sku;
	int64		limit_id;
	int64		per_customer;
} LimitTerms;

static int
compare_limits(const void *a, const void *b)
{
	return strcmp(((const LimitTerms *) a)->sku, ((const LimitTerms *) b)->sku);
}

static int
compare_strings(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Sets limit_id and per_customer of the demands; how many have a limit. */
static int
set_limits(LimitDemand *demands, int n, TimestampTz now)
{
	const char **skus = palloc(sizeof(char *) * n);
	int			nskus = 0;
	LimitTerms *found;
	int			nfound;
	int			limited = 0;
	Datum		values[2];

	for (int i = 0; i < n; i++)
		skus[i] = demands[i].sku;
	qsort(skus, n, sizeof(char *), compare_strings);
	for (int i = 0; i < n; i++)
		if (nskus == 0 || strcmp(skus[i], skus[nskus - 1]) != 0)
			skus[nskus++] = skus[i];

	values[0] = ordflow_text_array(skus, nskus);
	values[1] = TimestampTzGetDatum(now);
	nfound = ordflow_execute(&find_limits, values, NULL);
	found = palloc(sizeof(LimitTerms) * Max(nfound, 1));
	for (int i = 0; i < nfound; i++)
	{
		found[i].sku = ordflow_result_text(i, 1);
		found[i].limit_id = ordflow_result_int64(i, 2);
		found[i].per_customer = ordflow_result_int64(i, 3);
	}
	qsort(found, nfound, sizeof(LimitTerms), compare_limits);
	for (int i = 0; i < n && nfound > 0; i++)
	{
		LimitTerms	key = {.sku = demands[i].sku};
		LimitTerms *limit = bsearch(&key, found, nfound, sizeof(LimitTerms), compare_limits);

		if (limit == NULL)
			continue;
		demands[i].limit_id = limit->limit_id;
		demands[i].per_customer = limit->per_customer;
		limited++;
	}
	return limited;
}

static bool
counts_for(const LimitDemand *demand, const bool *granted)
{
	return demand->limit_id != 0 && demand->customer != NULL && granted[demand->owner];
}

/* The arrays of limit_id and customer of the counts. */
static void
set_keys(const Counts *counts, Datum *values)
{
	int64	   *limit_ids = palloc(sizeof(int64) * counts->n);
	const char **customers = palloc(sizeof(char *) * counts->n);

	for (int i = 0; i < counts->n; i++)
	{
		limit_ids[i] = counts->counts[i].limit_id;
		customers[i] = counts->counts[i].customer;
	}
	values[0] = ordflow_int8_array(limit_ids, counts->n);
	values[1] = ordflow_text_array(customers, counts->n);
}

/* Finds the distinct counts of the demands and reads them, under their locks or not. */
static void
counts_read(Counts *counts, const LimitDemand *demands, int n, const bool *granted, bool take)
{
	int			ncounts = 0;
	uint64		found;
	Datum		values[2];

	counts->counts = palloc0(sizeof(Count) * n);
	counts->n = 0;
	for (int i = 0; i < n; i++)
	{
		if (!counts_for(&demands[i], granted))
			continue;
		counts->counts[ncounts].limit_id = demands[i].limit_id;
		counts->counts[ncounts++].customer = demands[i].customer;
	}
	if (ncounts == 0)
		return;
	qsort(counts->counts, ncounts, sizeof(Count), compare_counts);
	for (int i = 0; i < ncounts; i++)
		if (i == 0 || compare_counts(&counts->counts[i], &counts->counts[counts->n - 1]) != 0)
			counts->counts[counts->n++] = counts->counts[i];

	set_keys(counts, values);
	found = ordflow_execute(take ? &lock_counts : &look_at_counts, values, NULL);
	for (uint64 i = 0; i < found; i++)
	{
		Count	   *count = find_count(counts, ordflow_result_int64(i, 1),
									   ordflow_result_text(i, 2));

		count->quantity = ordflow_result_int64(i, 3);
	}
}

/* Decides about one owner, whose demands are from first to before last. */
static bool
decide_owner(const Counts *counts, LimitDemand *demands, int first, int last)
{
	bool		granted = true;

	for (int i = first; i < last; i++)
	{
		LimitDemand *demand = &demands[i];
		Count	   *count;

		if (demand->limit_id == 0)
			continue;
		demand->refused = true;
		if (demand->customer != NULL)
		{
			count = find_count(counts, demand->limit_id, demand->customer);
			demand->bought = count->quantity + count->taken;
			demand->refused = demand->quantity > demand->per_customer - demand->bought;
		}
		granted &= !demand->refused;
	}
	for (int i = first; i < last && granted; i++)
		if (demands[i].limit_id != 0)
			find_count(counts, demands[i].limit_id, demands[i].customer)->taken +=
				demands[i].quantity;
	return granted;
}

static void
counts_add(const Counts *counts)
{
	int64	   *quantities = palloc(sizeof(int64) * Max(counts->n, 1));
	Datum		values[3];

	if (counts->n == 0)
		return;
	set_keys(counts, values);
	for (int i = 0; i < counts->n; i++)
		quantities[i] = counts->counts[i].taken;
	values[2] = ordflow_int8_array(quantities, counts->n);
	ordflow_execute(&add_counts, values, NULL);
}

/* One demand with a customer: a hit is one statement. */
static bool
take_single(const LimitDemand *demand)
{
	Datum		values[4];

	values[0] = Int64GetDatum(demand->limit_id);
	values[1] = CStringGetTextDatum(demand->customer);
	values[2] = Int64GetDatum(demand->quantity);
	values[3] = Int64GetDatum(demand->per_customer);
	return ordflow_execute(&take_one, values, NULL) == 1;
}

void
ordflow_limit_take(LimitDemand *demands, int n, bool *granted, int nowners, TimestampTz now,
				   bool take)
{
	Counts		counts;
	int			last;

	for (int i = 0; i < n; i++)
	{
		demands[i].limit_id = 0;
		demands[i].refused = false;
	}
	if (n == 0 || !limits_exist() || set_limits(demands, n, now) == 0)
		return;
	if (n == 1 && take && counts_for(&demands[0], granted) && take_single(&demands[0]))
		return;

	counts_read(&counts, demands, n, granted, take);
	for (int first = 0; first < n; first = last)
	{
		int			owner = demands[first].owner;

		CHECK_FOR_INTERRUPTS();
		for (last = first + 1; last < n; last++)
			if (demands[last].owner != owner)
				break;
		if (granted[owner])
			granted[owner] = decide_owner(&counts, demands, first, last);
	}
	if (take)
		counts_add(&counts);
}

void
ordflow_limit_return(const LimitReturn *returns, int n)
{
	int64	   *limit_ids = palloc(sizeof(int64) * Max(n, 1));
	const char **customers = palloc(sizeof(char *) * Max(n, 1));
	int64	   *quantities = palloc(sizeof(int64) * Max(n, 1));
	Datum		values[3];

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
	{
		limit_ids[i] = returns[i].limit_id;
		customers[i] = returns[i].customer;
		quantities[i] = returns[i].quantity;
	}
	values[0] = ordflow_int8_array(limit_ids, n);
	values[1] = ordflow_text_array(customers, n);
	values[2] = ordflow_int8_array(quantities, n);
	/* an UPDATE with a join locks in no certain order */
	if (n > 1)
		ordflow_execute(&lock_for_return, values, NULL);
	ordflow_execute(&return_counts, values, NULL);
}

Datum
ordflow_set_purchase_limit(PG_FUNCTION_ARGS)
{
	char	   *sku;
	int64		per_customer;
	TimestampTz valid_until;
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};

	ordflow_require_version();
	sku = ordflow_arg_text(fcinfo, 0, "sku");
	per_customer = ordflow_arg_quantity(fcinfo, 1, "per_customer");
	valid_until = PG_ARGISNULL(2) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(2);

	SPI_connect();
	values[0] = CStringGetTextDatum(sku);
	values[1] = Int64GetDatum(per_customer);
	values[2] = TimestampTzGetDatum(valid_until);
	nulls[2] = valid_until == DT_NOEND ? 'n' : ' ';
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp());
	ordflow_execute(&set_limit, values, nulls);
	SPI_finish();

	PG_RETURN_VOID();
}

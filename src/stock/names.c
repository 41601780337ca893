/*
 * names.c
 *	  Stock rows by (sku, location), some of them remembered in the backend.
 *
 * A row gets another name, or goes, by a direct write alone.  Such a write closes the gate of the
 * counters to its end, and invalidates the relation cache of ordflow.stock before it opens the gate
 * again; whoever passes the gate takes in what was invalidated.  So behind the gate what is
 * remembered is right.
 */
#include "postgres.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "stock/names.h"
#include "stock/stock.h"

#define NAME_KEYS	2
#define REMEMBERED	4096

typedef struct KnownName
{
	int64		stock_id;		/* 0: nothing stands here */
	char	   *sku;
	char	   *location;
} KnownName;

/* A name has one place, which it takes from another. */
static struct
{
	MemoryContext context;		/* of the texts and the array */
	KnownName  *names;
	Oid			table;
	bool		stale;
	uint64		invalidations;
}			known;

/* ---- what is remembered ---- */

static void
forget_names(Oid relid)
{
	if (OidIsValid(relid) && relid != known.table)
		return;
	known.stale = true;
	known.invalidations++;
}

static void
known_init(void)
{
	if (known.context == NULL)
	{
		known.context = AllocSetContextCreate(TopMemoryContext, "ordflow stock names",
											  ALLOCSET_DEFAULT_SIZES);
		ordflow_on_relation_change(forget_names);
		known.stale = true;
	}
	if (!known.stale)
		return;
	known.names = NULL;
	MemoryContextReset(known.context);
	known.table = ordflow_relid("stock");
	known.names = MemoryContextAllocZero(known.context, sizeof(KnownName) * REMEMBERED);
	known.stale = false;
}

static KnownName *
known_place(const char *sku, const char *location)
{
	uint32		hash = hash_bytes((const unsigned char *) sku, strlen(sku));

	hash = hash_combine(hash, hash_bytes((const unsigned char *) location, strlen(location)));
	return &known.names[hash % REMEMBERED];
}

static int64
known_find(const char *sku, const char *location)
{
	const KnownName *name;

	known_init();
	name = known_place(sku, location);
	if (name->stock_id == 0 || strcmp(name->sku, sku) != 0 ||
		strcmp(name->location, location) != 0)
		return 0;
	return name->stock_id;
}

static void
known_put(const char *sku, const char *location, int64 stock_id)
{
	KnownName  *name = known_place(sku, location);

	if (name->stock_id != 0)
	{
		name->stock_id = 0;
		pfree(name->sku);
		pfree(name->location);
	}
	name->sku = MemoryContextStrdup(known.context, sku);
	name->location = MemoryContextStrdup(known.context, location);
	name->stock_id = stock_id;
}

/* ---- rows ---- */

void
ordflow_stock_names_open(StockNames *names, bool in_gate)
{
	memset(names, 0, sizeof(StockNames));
	names->in_gate = in_gate;
}

static void
init_keys(ScanKey keys, const char *sku, const char *location)
{
	const char *values[NAME_KEYS] = {sku, location};

	for (int i = 0; i < NAME_KEYS; i++)
		ScanKeyEntryInitialize(&keys[i], 0, i + 1, BTEqualStrategyNumber, InvalidOid,
							   C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(values[i]));
}

/* A row of our own transaction may be rolled back. */
static bool
is_ours(StockNames *names)
{
	bool		isnull;
	Datum		xmin = slot_getsysattr(names->reader.slot, MinTransactionIdAttributeNumber,
									   &isnull);

	return TransactionIdIsCurrentTransactionId(DatumGetTransactionId(xmin));
}

int64
ordflow_stock_names_find(StockNames *names, const char *sku, const char *location)
{
	ScanKeyData keys[NAME_KEYS];
	uint64		invalidations = known.invalidations;
	int64		stock_id = names->in_gate ? known_find(sku, location) : 0;

	if (stock_id != 0)
		return stock_id;
	init_keys(keys, sku, location);
	if (names->open)
		ordflow_reader_again(&names->reader, keys, NAME_KEYS);
	else
	{
		ordflow_reader_open(&names->reader, "stock", "stock_sku_location_key",
							ordflow_register_latest(), keys, NAME_KEYS);
		names->stock_id = ordflow_reader_column(&names->reader, "stock_id");
		names->open = true;
	}
	if (!ordflow_reader_next(&names->reader, ForwardScanDirection))
		return 0;
	stock_id = ordflow_reader_int64(&names->reader, names->stock_id);
	if (names->in_gate && invalidations == known.invalidations && !is_ours(names))
		known_put(sku, location, stock_id);
	return stock_id;
}

void
ordflow_stock_names_close(StockNames *names)
{
	Snapshot	snapshot = names->reader.snapshot;

	if (!names->open)
		return;
	ordflow_reader_close(&names->reader);
	UnregisterSnapshot(snapshot);
}

int64
ordflow_stock_find(const char *sku, const char *location)
{
	StockNames	names;
	int64		stock_id;

	ordflow_stock_names_open(&names, false);
	stock_id = ordflow_stock_names_find(&names, sku, location);
	ordflow_stock_names_close(&names);
	return stock_id;
}

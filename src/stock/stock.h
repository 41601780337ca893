/*
 * stock.h
 *	  What is on hand, what is promised, and the ledger of every change.
 *
 * stock		one row a (sku, location): on_hand and reserved as of the folded
 *				segments of the ledger.
 * stock_movements	one row a change, inserted and never updated, in numbered
 *				segments.  Balance + movements of unfolded segments = the truth.
 *
 * What may be promised is decided by the counters in shared memory (counter/counter.h): no row of
 * stock is locked to sell, to release or to receive.  A hold's row is locked before its units
 * are touched.  All functions run connected to SPI and as the extension's owner.
 */
#ifndef ORDFLOW_STOCK_H
#define ORDFLOW_STOCK_H

#include "postgres.h"
#include "utils/snapshot.h"

#include "base/base.h"
#include "base/json.h"

/* ---- available.c: what may still be promised ---- */

/* What one order wants of one (sku, location): quantities already added up. */
typedef struct StockDemand
{
	int			owner;			/* which order of the batch, from 0 */
	const char *sku;
	const char *location;
	int64		quantity;
	int64		stock_id;		/* out: 0 = no such (sku, location) */
	int64		available;		/* out, where the owner was refused: what was
								 * there for it */
	int64		in_flight;		/* out, likewise: what other open transactions hold of it */
} StockDemand;

/*
 * Takes what each owner wants, all of it or nothing, in the order of owners;
 * granted[owner] false on entry = left out.  Expired holds in the way are
 * released first.  On return granted[] tells who got it; a refused owner's
 * demands say why: stock_id is 0, or quantity is above available.  Writes no
 * movement: the caller does, by ordflow_stock_record().  Demands are grouped by
 * owner, ascending.
 */
extern void ordflow_stock_reserve(StockDemand *demands, int ndemands,
								  bool *granted, int nowners);

/*
 * Is there not enough for all of these demands, which are one owner's?  Nothing is taken, nothing
 * written (but that holds which have expired are released), so a sale that comes after may still
 * be refused.  Fills in the demands as reserve does.
 */
extern bool ordflow_stock_is_sold_out(StockDemand *demands, int ndemands);

/*
 * stock_id and available without a lock, for quote_order; stock_id 0 = unknown.
 * The units of expired holds count as available.
 */
extern void ordflow_stock_look(StockDemand *demands, int ndemands);

/*
 * Takes units of one row, by its id, for something else than an order; false: not that many are
 * there.  Expired holds in the way are released first.
 */
extern bool ordflow_stock_take(int64 stock_id, int64 quantity, int64 *available);

/* What may be promised of a row now, whether or not its counter is loaded; expired holds not. */
extern int64 ordflow_stock_available(int64 stock_id);

/* The row of (sku, location) as it stands now, without a lock; 0 = there is none. */
extern int64 ordflow_stock_find(const char *sku, const char *location);

/* Gives back at once what was reserved and has no movement. */
extern void ordflow_stock_unreserve(const StockDemand *demands, int ndemands);

/*
 * The members "sku", "location" and, where the stock row is known, "requested",
 * "available" and, where there are such, "in_flight" of a problem object.
 */
extern void ordflow_stock_put_problem(JsonBuild *b, const StockDemand *demand);

/* ---- ledger.c ---- */

/* One change of one stock row. */
typedef struct StockMovement
{
	const char *kind;			/* received, adjusted, reserved, released,
								 * shipped, returned */
	int64		stock_id;
	int64		on_hand;		/* deltas */
	int64		reserved;
	int64		order_id;		/* 0 = none */
	const char *reference;		/* NULL = none */
	const char *reason;			/* NULL = none */
} StockMovement;

/* Writes movements; what they take has been taken from the counters, what they add was added. */
extern void ordflow_stock_record(const StockMovement *movements, int n);

/*
 * On hand and reserved of a row, balance and ledger, as that snapshot sees them; false = no such
 * row.  Leaves no predicate locks.
 */
typedef struct StockLevel
{
	int64		on_hand;
	int64		reserved;
} StockLevel;

extern bool ordflow_stock_level(int64 stock_id, Snapshot snapshot, StockLevel *level);

/* ---- stock.c ---- */

/*
 * Adds to the counters what the movements free (on_hand - reserved > 0), then
 * writes them: for others from the commit on, for this transaction at once.  A movement that
 * would take (on_hand - reserved < 0) is a programming error.
 */
extern void ordflow_stock_apply(const StockMovement *movements, int n);

/* The sum of two quantities; 22003 when it overflows. */
extern int64 ordflow_stock_sum(int64 a, int64 b);

/* Raises OF004 or OF002 with the problems, a closed array, as its DETAIL. */
pg_noreturn extern void ordflow_stock_refuse(bool unknown, JsonBuild *problems);

/* ---- hold.c: units held under a reference of the shop's own ---- */

/* Releases expired holds, whose rows the caller has locked. */
extern void ordflow_stock_expire_holds(const char *const *references, int n, TimestampTz now);

/*
 * Releases the expired holds that stand on this row; returns how many.  It waits for nobody: a hold
 * that another transaction works on is left out.
 */
extern int	ordflow_stock_release_expired(int64 stock_id, TimestampTz now);

/* When the next hold of all expires, or has expired; DT_NOEND for never. */
extern TimestampTz ordflow_stock_next_expiry(void);

/* Has this transaction ended holds? */
extern bool ordflow_stock_has_ended_holds(void);

/* 42501 for a reference that begins with "order:", which are ours. */
extern void ordflow_stock_check_reference(const char *reference);

/* Called from _PG_init. */
extern void ordflow_stock_init(void);
extern void ordflow_fold_init(void);

#endif							/* ORDFLOW_STOCK_H */

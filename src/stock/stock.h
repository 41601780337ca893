/*
 * stock.h
 *	  What is on hand, what is promised, and the ledger of every change.
 *
 * stock		one row a (sku, location): on_hand and reserved as of the folded
 *				segments of the ledger, and available, the check.
 * stock_movements	one row a change, inserted and never updated, in numbered
 *				segments.  Balance + movements of unfolded segments = the truth.
 *
 * Locks: a hold before stock; rows of stock in the order of stock_id, always, so
 * that no two callers can deadlock over them.  All functions run connected to
 * SPI and as the extension's owner.
 */
#ifndef ORDFLOW_STOCK_H
#define ORDFLOW_STOCK_H

#include "postgres.h"

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
 * stock_id and available without a lock, for quote_order; stock_id 0 = unknown.
 * The units of expired holds count as available.
 */
extern void ordflow_stock_look(StockDemand *demands, int ndemands);

/*
 * Gives to available; quantities above 0, stock rows ascending and distinct.
 * Others see it once the transaction commits, the own transaction at once.
 */
extern void ordflow_stock_give(const int64 *stock_ids, const int64 *quantities, int n);

/*
 * The members "sku", "location" and, where the stock row is known, "requested"
 * and "available" of a problem object.
 */
extern void ordflow_stock_put_problem(JsonBuild *b, const StockDemand *demand);

/* ---- stock.c: the ledger ---- */

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

/* Writes movements; what they take from available has been taken by ordflow_stock_reserve(). */
extern void ordflow_stock_record(const StockMovement *movements, int n);

/*
 * Gives to available what the movements free (on_hand - reserved > 0), then
 * writes them.  A movement that would take (on_hand - reserved < 0) is a
 * programming error.
 */
extern void ordflow_stock_apply(const StockMovement *movements, int n);

/* The sum of two quantities; 22003 when it overflows. */
extern int64 ordflow_stock_sum(int64 a, int64 b);

/* Raises OF004 or OF002 with the problems, a closed array, as its DETAIL. */
pg_noreturn extern void ordflow_stock_refuse(bool unknown, JsonBuild *problems);

/* ---- hold.c: units held under a reference of the shop's own ---- */

/*
 * Releases expired holds, whose rows the caller has locked; expired[] tells which.  It
 * waits for nobody: a hold whose stock others work on is left as it is.
 */
extern void ordflow_stock_expire_holds(const char *const *references, int n, TimestampTz now,
									   bool *expired);

/*
 * Releases the expired holds that stand on any of these rows, whose locks the
 * caller may hold; returns how many.  It waits for nobody: a hold that another
 * transaction works on, or whose other rows are locked, is left out.
 */
extern int	ordflow_stock_release_expired(const int64 *stock_ids, int n, TimestampTz now);

/* 42501 for a reference that begins with "order:", which are ours. */
extern void ordflow_stock_check_reference(const char *reference);

#endif							/* ORDFLOW_STOCK_H */

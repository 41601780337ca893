/*
 * counter.h
 *	  Escrow counters in shared memory: what may still be promised of something
 *	  that runs out, the units of a stock row or the uses of a coupon.
 *
 * A counter only caches what rows say: the value that its source computes from the rows that are
 * committed, less what transactions in flight have taken.  The protocol stands at the head of
 * counter.c.
 *
 * A transaction enters, pins the counter of a row before it writes the first row that
 * changes its value, and takes or adds.  What it takes is gone for others at once, and
 * comes back when its (sub)transaction is rolled back; what it adds is there for others when it
 * has committed, and for itself at once.  Whoever takes or adds writes the rows that say so
 * in the same (sub)transaction.
 */
#ifndef ORDFLOW_COUNTER_H
#define ORDFLOW_COUNTER_H

#include "postgres.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"

#include "base/base.h"

/* What is counted. */
typedef enum CounterKind
{
	COUNTER_STOCK,				/* id: stock_id */
	COUNTER_COUPON				/* id: coupon_id */
#define COUNTER_KINDS (COUNTER_COUPON + 1)
} CounterKind;

/*
 * load() computes the value as the snapshot sees the rows; false = there is no such row.  It must
 * leave no trace for the serializable isolation level (no predicate lock on rows that
 * others write), and may raise.
 */
typedef struct CounterSource
{
	const char *relname;		/* the table of the rows, in schema ordflow */
	bool		(*load) (int64 id, Snapshot snapshot, int64 *value);
} CounterSource;

extern void ordflow_counter_register(CounterKind kind, const CounterSource *source);

/* Called from _PG_init; asks for shared memory. */
extern void ordflow_counter_init(void);

/* ---- for whoever writes rows that change a value ---- */

/*
 * Passes the gate, which direct writes close: RowExclusiveLock on ordflow.counter_gate to the
 * end of the (sub)transaction.  Cheap when it is held.  Every function below but look() and
 * forget() needs it, and so does the choice of the segment that movements are written to.  what is
 * for messages, as in "stock": the transaction may not be prepared any more.  Raises 25006 in
 * recovery, and 55000 in a transaction that has written to the tables directly.
 */
extern void ordflow_counter_enter(const char *what);

/*
 * Passes it before a row is locked that somebody who closes the gate may want, where this
 * transaction may pass at all.
 */
extern void ordflow_counter_pass_gate(void);

/*
 * Pins the counter for this subtransaction, loading it where it must be; false = there is
 * no such row, and nothing is pinned.  Raises 53400 when all counters are pinned.  The functions
 * below need a counter that this subtransaction or an outer one has pinned.
 */
extern bool ordflow_counter_pin(CounterKind kind, int64 id);

/* What this transaction may take now; below 0 where rows say so. */
extern int64 ordflow_counter_spendable(CounterKind kind, int64 id);

/* Takes all of it or nothing (false); quantity above 0.  Own adds are used up first. */
extern bool ordflow_counter_take(CounterKind kind, int64 id, int64 quantity);

/*
 * Gives back at once what this subtransaction took and has written no row for.
 */
extern void ordflow_counter_untake(CounterKind kind, int64 id, int64 quantity);

/* Adds; quantity above 0. */
extern void ordflow_counter_add(CounterKind kind, int64 id, int64 quantity);

/*
 * Changes a value by what an alteration means, of a limit: up like an add, down like a take that
 * is not refused.
 */
extern void ordflow_counter_shift(CounterKind kind, int64 id, int64 delta);

/* Is it pinned by this transaction? */
extern bool ordflow_counter_is_pinned(CounterKind kind, int64 id);

/*
 * The rows of a counter are changed by this transaction otherwise than by the functions above,
 * under a lock that keeps all others from pinning it until its end: the counter is dropped
 * now, unless it is pinned, and again at the end.
 */
extern void ordflow_counter_forget(CounterKind kind, int64 id);

/* ---- for whoever reads ---- */

typedef struct CounterState
{
	int64		value;			/* for others */
	int64		own;			/* what this transaction has added and may spend */
	int64		in_flight;		/* taken by other transactions that are open now */
} CounterState;

/* As it stands now, without the gate; false = it is not loaded: ask the rows. */
extern bool ordflow_counter_look(CounterKind kind, int64 id, CounterState *state);

/* ---- deadlines of what holds units: when it pays to look for units that are due back ---- */

/* This transaction gives the counter, which it has pinned, something that ends then. */
extern void ordflow_counter_note_expiry(CounterKind kind, int64 id, TimestampTz at);

/*
 * Not before this time is there anything to find; serial is for ordflow_counter_set_expiry(),
 * which raises the time unless something was noted meanwhile: read it before the snapshot is
 * taken that tells the new time.
 */
extern TimestampTz ordflow_counter_expiry(CounterKind kind, int64 id, uint64 *serial);
extern void ordflow_counter_set_expiry(CounterKind kind, int64 id, TimestampTz at, uint64 serial);

/* Deadlines were changed by hand: it pays to look, whatever counter it is. */
extern void ordflow_counter_forget_expiries(void);

/* ---- writes to the tables whose rows make the values ---- */

/*
 * Between these two, rows of the table are written by our own statement: its trigger
 * counter_gate lets them pass.  An error ends it too.  They do not nest.
 */
extern void ordflow_counter_own_write(const char *relname);
extern void ordflow_counter_own_write_done(void);

/* The name of that trigger, on every such table. */
#define COUNTER_GATE_TRIGGER "counter_gate"

#endif							/* ORDFLOW_COUNTER_H */

/*
 * internal.h
 *	  What the files of the counters share; nobody else includes it.
 */
#ifndef ORDFLOW_COUNTER_INTERNAL_H
#define ORDFLOW_COUNTER_INTERNAL_H

#include "postgres.h"

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#include "counter/counter.h"

#define COUNTER_PARTITIONS	128

typedef struct CounterKey
{
	Oid			database;
	Oid			relation;		/* of the rows: a new extension has new ones */
	int64		id;
} CounterKey;

typedef enum CounterPhase
{
	COUNTER_FREE,				/* in no bucket */
	COUNTER_LOADING,			/* its loader is reading rows; others wait */
	COUNTER_READY
} CounterPhase;

/*
 * key, phase and next change under the exclusive lock of the key's partition, and are read
 * under either.  A pin is taken under either; given back without.  value and in_flight are
 * changed by whoever has a pin, without a lock.  The mutex guards expiry, serial and changes.
 */
typedef struct Counter
{
	CounterKey	key;
	CounterPhase phase;
	int			next;			/* in its bucket or the free list; -1 = the last */
	bool		used;			/* since the hand came by last */
	slock_t		mutex;
	pg_atomic_uint32 pins;
	pg_atomic_uint64 value;		/* an int64 */
	pg_atomic_uint64 in_flight;
	pg_atomic_uint64 version;	/* pins ever taken */
	TimestampTz expiry;
	uint64		serial;			/* how often an expiry was noted */
	uint64		changes;		/* by hand, that the expiry takes account of */
} Counter;

/* ---- table.c ---- */

/* NULL when the library was not preloaded. */
extern struct CounterTable *ordflow_counters;

extern void ordflow_counter_table_init(void);
extern CounterKey ordflow_counter_key(CounterKind kind, int64 id);
extern const CounterSource *ordflow_counter_source(CounterKind kind);

/*
 * The counter, pinned, which is loaded where it must be; NULL = there is no such row.  What
 * was pinned is the caller's to unpin, but an error in here unpins and withdraws by itself.
 */
extern Counter *ordflow_counter_acquire(CounterKind kind, int64 id);
extern void ordflow_counter_repin(Counter *counter);	/* one more, of one that we have pinned */
extern void ordflow_counter_unpin(Counter *counter);

/* Takes back a load that has failed.  Neither allocates nor raises. */
extern void ordflow_counter_withdraw(void);

/* Drops one counter, or all of a database, but those that are pinned; the same holds. */
extern void ordflow_counter_drop(CounterKey key);
extern void ordflow_counter_drop_database(Oid database);

/* Deadlines of holds, in any database, were changed by hand so many times. */
extern pg_atomic_uint64 *ordflow_counter_changes(void);

extern int	ordflow_counter_count(void);

/* A ready counter as it stands, copied; false = there is none. */
typedef struct CounterCopy
{
	CounterKey	key;
	int64		value;
	int64		in_flight;
	uint32		pins;
	uint64		version;
} CounterCopy;

extern bool ordflow_counter_copy(CounterKey key, CounterCopy *copy);
extern bool ordflow_counter_copy_at(int i, Oid database, CounterCopy *copy);


/* ---- holder.c ---- */
extern Size ordflow_holders_size(void);
extern void ordflow_holders_attach(void *memory, bool found);

/* This backend has taken quantity more (less, below 0) of a counter that it has pinned. */
extern void ordflow_holder_change(const Counter *counter, int64 quantity);
extern void ordflow_holder_clear(void);

/* ---- gate.c ---- */
extern void ordflow_gate_init(void);
extern void ordflow_gate_at_end(void);

/* This transaction has written the tables directly: the counters do not show that. */
extern bool ordflow_gate_is_closed_by_us(void);
extern void ordflow_gate_at_subtransaction_end(bool committed, int level);

#endif							/* ORDFLOW_COUNTER_INTERNAL_H */

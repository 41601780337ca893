/*
 * internal.h
 *	  What the files of the worker feature share; nobody else includes it.
 */
#ifndef ORDFLOW_WORKER_INTERNAL_H
#define ORDFLOW_WORKER_INTERNAL_H

#include "postgres.h"

#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#include "base/base.h"
#include "worker/worker.h"

/* an idle worker looks at the clock this often, in case that it was set */
#define CLOCK_CHECK_MS 30000L

typedef enum CoordinatorState
{
	COORDINATOR_NONE,
	COORDINATOR_STARTING,		/* asked of the postmaster */
	COORDINATOR_RUNNING
} CoordinatorState;

/*
 * One database that has work, or had some.  database changes under the lock of
 * all slots (exclusively) and the mutex; all else under the mutex alone, so
 * a commit never waits for more than a few instructions.  A slot that was
 * found may be another database's when its mutex is held: compare.
 */
typedef struct DatabaseSlot
{
	slock_t		mutex;
	Oid			database;		/* invalid: free */
	CoordinatorState state;
	uint32		serial;			/* of the last start: tells a worker that comes too late */
	pid_t		pid;			/* 0 unless running */
	Latch	   *latch;			/* the running coordinator's */
	int			away;			/* transactions that keep workers out of the database */
	bool		yield;			/* asked to make room for another database */
	bool		no_room;		/* could not be started for want of a worker slot */
	bool		blocked;		/* a duty waits for locks of others */
	bool		unblocked;		/* which may be gone */
	TimestampTz noted[DUTY_KINDS];	/* the earliest that commits brought since the duty ran */
	bool		inactive[DUTY_KINDS];	/* found so: nobody need note anything */
	TimestampTz next_at;		/* until when it sleeps; DT_NOBEGIN while it is at work */
	TimestampTz since;			/* of the state */
	int			failures;		/* ends in a row that nobody wanted */
	TimestampTz retry_at;		/* not started before */
} DatabaseSlot;

/*
 * A companion, or one that is wanted.  database changes under the lock of all slots
 * (exclusively) and the mutex, all else under the mutex.
 */
typedef struct Companion
{
	slock_t		mutex;
	Oid			database;		/* invalid: free */
	CompanionRole role;
	char		name[COMPANION_NAME_MAX];
	Oid			roleid;			/* it logs in as; invalid: as the bootstrap superuser */
	CoordinatorState state;
	uint32		serial;			/* of the last start */
	pid_t		pid;
	Latch	   *latch;
	bool		wanted;
	bool		idle;			/* waits for work */
	bool		no_room;		/* could not be started for want of a worker slot */
	TimestampTz since;			/* of the state */
	int			failures;		/* ends in a row that nobody wanted */
	TimestampTz retry_at;
	char		problem[COMPANION_TEXT_MAX];
	char		hint[COMPANION_TEXT_MAX];
} Companion;

typedef struct WorkerShared
{
	LWLock	   *lock;			/* guards the slots' databases */
	slock_t		mutex;			/* guards the launcher's fields */
	Latch	   *launcher;		/* NULL: it does not run */
	pid_t		launcher_pid;
	TimestampTz launcher_since;
	bool		overflow;		/* a database found no slot */
	ConditionVariable ended;	/* a coordinator has ended */
	DatabaseSlot slots[WORKER_DATABASES_MAX];
	Companion	companions[COMPANIONS_MAX];
} WorkerShared;

/* ---- slot.c ---- */

/* NULL when the library was not preloaded, or is to run no workers. */
extern WorkerShared *ordflow_worker_shared;

extern void ordflow_slots_init(void);

/* The slot of a database, or NULL.  Takes the lock of all slots for a moment. */
extern DatabaseSlot *ordflow_slot_find(Oid database);

/* The same, but takes a free or idle one; NULL when there is none.  Allocates nothing. */
extern DatabaseSlot *ordflow_slot_claim(Oid database);

/* The earliest time that is noted; its mutex is held. */
extern TimestampTz ordflow_slot_wanted(const DatabaseSlot *slot);

/* Notes a time for every duty; its mutex is held. */
extern void ordflow_slot_note(DatabaseSlot *slot, TimestampTz at);

extern void ordflow_launcher_wake(void);

/* ---- companion.c ---- */
extern void ordflow_companions_clear(void);
extern void ordflow_companions_forget(Oid database);

/* Is one in the database, or on its way there?  pids: of those that run, at most COMPANIONS_MAX. */
extern bool ordflow_companions_present(Oid database, pid_t *pids, int *npids);

/* Sets the latches of those in the database. */
extern void ordflow_companions_alert(Oid database);

/* In a companion: it is to leave.  False in any other process. */
extern bool ordflow_companion_leaving(void);

/* ---- feed.c ---- */
extern void ordflow_feed_init(void);
extern void ordflow_feed_publish(void);

/* This transaction may have changed any number of deadlines. */
extern void ordflow_feed_all(void);
extern void ordflow_feed_forget(void);
extern void ordflow_feed_rolled_back(SubTransactionId subid);

/* ---- wake.c ---- */
extern void ordflow_wake_init(void);

/* Everything is to be looked at afresh, active or not, when this transaction has committed. */
extern void ordflow_wake_afresh(void);

/* ---- utility.c ---- */
extern void ordflow_utility_init(void);

/* Lets workers into the databases again that this transaction kept them out of. */
extern void ordflow_utility_at_end(bool committed);

/* ---- activation.c ---- */
extern void ordflow_activation_init(void);

/* The transaction or a part of it was rolled back, with what it may have written. */
extern void ordflow_activation_rolled_back(void);

/* The transaction has ended. */
extern void ordflow_activation_ended(void);

/* ---- coordinator.c ---- */

/* Settings that must not reach a worker's statements; its name for pg_stat_activity. */
extern void ordflow_worker_pin_settings(const char *name);

/* In a worker that is no coordinator: transactions are for this duty. */
extern void ordflow_worker_serve(DutyKind kind);
extern const char *ordflow_duty_part(DutyKind kind);

/* ---- launcher.c ---- */
extern void ordflow_launcher_init(void);

#endif							/* ORDFLOW_WORKER_INTERNAL_H */

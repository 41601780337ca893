/*
 * worker.h
 *	  Background workers: one launcher for the server, one coordinator for each
 *	  database that has work; wake-up at commit; activation.
 *
 * A feature gives the coordinator a duty.  A transaction that brings work says so
 * by ordflow_worker_wake(); when it has committed, and its rows can be seen, the
 * coordinator wakes, or the launcher starts one.
 */
#ifndef ORDFLOW_WORKER_H
#define ORDFLOW_WORKER_H

#include "postgres.h"
#include "utils/timestamp.h"

/* What coordinators do.  The order is that of their turns. */
typedef enum DutyKind
{
	DUTY_TIMER,
	DUTY_FOLD,
	DUTY_TASK,
	DUTY_SYNC
#define DUTY_KINDS (DUTY_SYNC + 1)
} DutyKind;

/*
 * run() is called in the coordinator outside any transaction; it makes its own by
 * ordflow_worker_begin() and ordflow_worker_commit(), short ones.  noted is the earliest time
 * that commits brought since its last call: DT_NOEND for none, DT_NOBEGIN when everything is
 * to be looked at afresh (at the start, and after attach(), activate() or an error).  Returns
 * when it is to be called next, if no commit brings an earlier time: DT_NOEND when it has no work
 * at all, so that the coordinator may end.  An error that run() lets pass is logged, and the
 * duty comes again, with DT_NOBEGIN, after a delay that doubles from 1 s to 1 minute.
 * unblocked: a transaction that held rows which the duty waits for may have ended.
 */
typedef struct Duty
{
	const char *part;			/* of ordflow.activation */
	TimestampTz (*run) (TimestampTz noted, bool unblocked);
	void		(*failed) (ErrorData *error);	/* told of such an error; may be NULL */
} Duty;

extern void ordflow_worker_register(DutyKind kind, const Duty *duty);

/* Called from _PG_init; asks for shared memory and registers the launcher. */
extern void ordflow_worker_init(void);

/* ---- for whoever brings work: wake.c ---- */

/*
 * Work that becomes due at that time, noted when this transaction commits.  Cheap,
 * allocates nothing; a note of a subtransaction that is rolled back only makes the
 * coordinator look once in vain.  Nothing happens in a database where the duty is not
 * active.  No snapshot or lock is needed.
 */
extern void ordflow_worker_wake(DutyKind kind, TimestampTz at);

/*
 * The same at once, for what is in shared memory already: in a callback of the commit too, where
 * ordflow_worker_wake() may come too late.  No LWLock or spinlock of the caller is held.
 */
extern void ordflow_worker_note(DutyKind kind, TimestampTz at);

/*
 * This transaction locks rows that a duty may be waiting for: at its end, whatever
 * that is, a duty that said so by ordflow_worker_blocked() is called at once.
 */
extern void ordflow_worker_wake_blocked(void);

/*
 * The first thing created in a fresh database activates a duty there (and, of a
 * restored or copied database, where the design says so).  Cheap after the first call.
 * Must be called in a transaction that may write.
 */
extern void ordflow_worker_activate(DutyKind kind);

/* May the duty act in this database?  In a transaction. */
extern bool ordflow_activation_is_on(DutyKind kind);

/* ---- for duties, in the coordinator, and for companions: coordinator.c ---- */

/*
 * A transaction as the extension's owner, with an active snapshot, in the memory context
 * TopTransactionContext.  False, without a transaction, when there is nothing to do it in: the
 * extension is gone or of another version, or the duty is not active.
 */
extern bool ordflow_worker_begin(void);
extern void ordflow_worker_commit(void);

/*
 * In PG_CATCH: takes the error, copied into that context, and ends the transaction, so that the
 * duty may go on with something else.  Nothing is logged.
 */
extern ErrorData *ordflow_worker_abort(MemoryContext context);

/* True when this worker was asked to leave: return from run(), or main(), soon. */
extern bool ordflow_worker_leaving(void);

/* The duty waits for locks of others: see ordflow_worker_wake_blocked(). */
extern void ordflow_worker_blocked(bool blocked);

/* ---- companions: companion.c ---- */

/*
 * Workers of a database beside its coordinator, each for one thing that has a name.  A duty says
 * which are to run; what ends by itself, or by an error, is started again after a rest.
 */
typedef enum CompanionRole
{
	COMPANION_DRIVER,			/* of timers; the name is that of the setting: redis(cache) */
	COMPANION_POOL,				/* runs tasks; the name is its role's, and a number */
	COMPANION_DECODER,			/* reads the WAL for syncs */
	COMPANION_DELIVERY,			/* of syncs; the name begins with its number */
	COMPANION_PULLER			/* pulls a sync; the name begins with the sync's number */
#define COMPANION_ROLES (COMPANION_PULLER + 1)
} CompanionRole;

#define COMPANIONS_MAX		128
#define COMPANION_NAME_MAX	128
#define COMPANION_TEXT_MAX	512

/*
 * main() runs in the companion, connected to the database, outside any transaction, until
 * ordflow_worker_leaving() or until there is nothing to do.
 */
typedef struct CompanionKind
{
	const char *title;			/* "driver" */
	DutyKind	duty;			/* whose activation it shares, and which asks for it */
	void		(*main) (const char *name);
	void		(*gone) (void); /* in its exit, when its place is free; may be NULL */
} CompanionKind;

extern void ordflow_companion_register(CompanionRole role, const CompanionKind *kind);

/*
 * In the coordinator, outside any transaction: exactly these are to run.  Returns when to be
 * called again at the latest.
 */
extern TimestampTz ordflow_companions_want(CompanionRole role, const char *const *names, int n);

/* What became of asking for one companion. */
typedef enum CompanionStart
{
	COMPANION_STARTED,
	COMPANION_THERE,			/* one of that name runs, or starts */
	COMPANION_RESTS,			/* it failed not long ago */
	COMPANION_NO_ROOM			/* no worker slot, or no place */
} CompanionStart;

/*
 * In the coordinator: starts one that logs in as that role, beside those there are.  It ends when
 * ordflow_companion_done() has been called, or it is dismissed.
 */
extern CompanionStart ordflow_companion_start(CompanionRole role, const char *name, Oid roleid);

/* Those of this database that do not run are not asked for any more. */
extern void ordflow_companions_give_up(CompanionRole role);

/* How many there are in this database, running or starting: of a role to log in as, or all. */
extern int	ordflow_companions_count(CompanionRole role, Oid roleid);

/* Tells the one of that login role that has run longest to go when it has done its work. */
extern void ordflow_companion_dismiss(CompanionRole role, Oid roleid);

/* In the companion: it has nothing more to do, so its end is no failure; what it does now. */
extern void ordflow_companion_done(void);
extern void ordflow_companion_idle(bool idle);

/* In the companion: its next transaction trusts nothing that its caches hold. */
extern void ordflow_worker_look_afresh(void);

/* In the companion: its place below COMPANIONS_MAX, for what is kept of it in shared memory. */
extern int	ordflow_companion_place(void);

/* What keeps it from its work, for the view; NULL: nothing. */
extern void ordflow_companion_problem(const char *problem, const char *hint);

/* False once the coordinator has said that it is not wanted any more. */
extern bool ordflow_companion_is_wanted(void);

/* A companion of this database as the view shows it. */
typedef struct CompanionLook
{
	Oid			database;
	CompanionRole role;
	char		name[COMPANION_NAME_MAX];
	const char *state;
	pid_t		pid;
	TimestampTz since;
	char		problem[COMPANION_TEXT_MAX];	/* empty: none */
	char		hint[COMPANION_TEXT_MAX];
} CompanionLook;

/* Fills in what stands at a place; false: nothing. */
extern bool ordflow_companion_look(int place, CompanionLook *look);

extern const char *ordflow_companion_title(CompanionRole role);

/* ---- single deadlines, for companions: feed.c ---- */

#define DEADLINE_KEY_MAX 40

/* What a commit says of one row.  A relid of InvalidOid: of more rows than are told one by one. */
typedef struct DeadlineNote
{
	Oid			relid;
	TimestampTz due;			/* DT_NOEND: it has none any more */
	char		key[DEADLINE_KEY_MAX];
} DeadlineNote;

/* Is there anybody in this database who wants to know?  Cheap. */
extern bool ordflow_worker_is_heard(void);

/*
 * The row has that deadline when this (sub)transaction commits.  Nothing where nobody is to know;
 * a key that is too long is left out.
 */
extern void ordflow_worker_deadline(Oid relid, const char *key, TimestampTz due);
extern void ordflow_worker_deadline_of_id(Oid relid, int64 id, TimestampTz due);

/* In a companion: what commits say from now on.  Ends with the process. */
extern void ordflow_feed_open(void);

/* What was said since the last call, at most max; overtaken: some of it is lost. */
extern int	ordflow_feed_read(DeadlineNote *notes, int max, bool *overtaken);

/* ---- databases in shared memory: slot.c ---- */

#define WORKER_DATABASES_MAX 128

/*
 * A number below WORKER_DATABASES_MAX that belongs to this database as long as it has
 * work, -1 for none: for what a duty keeps of it in shared memory.  It may be
 * another database's later, so keep the database's oid beside.
 */
extern int	ordflow_worker_database_slot(void);

#endif							/* ORDFLOW_WORKER_H */

/*
 * internal.h
 *	  What the files of the task feature share; nobody else includes it.
 *
 * The memory of a database's queue tells where open tasks may be found, never whether they
 * are: it may name a task that is over, or name one twice, but it never misses one.  Each open task
 * that is committed is covered by at least one of
 *
 *	 a run		tasks with consecutive numbers, ready or due later;
 *	 a claim	one task that somebody holds;
 *	 a key		the tasks of a key that wait for their turn (key.c);
 *	 unread		a range of numbers of a partition that nobody has looked through (load.c);
 *	 far		what is due later than the memory looks ahead (load.c).
 *
 * Who takes a task makes its claim first, and then looks at the rows with a new snapshot
 * (claim.c): what is over, or not to be tried yet, is let go.
 */
#ifndef ORDFLOW_TASK_INTERNAL_H
#define ORDFLOW_TASK_INTERNAL_H

#include "postgres.h"

#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "base/base.h"
#include "base/crontab.h"
#include "base/json.h"
#include "task/task.h"

/* ---- limits ---- */

#define TASK_PARTS			9		/* 0 keeps what outlasts its partition; 1 to 8 take turns */
#define TASK_PRIORITIES		10
#define TASK_DATABASES_MAX	64		/* with tasks in memory */
#define TASK_KINDS_MAX		1024	/* of all databases, that have tasks in memory or who waits */
#define TASK_CALL_MAX		1000000 /* payloads in a call */
#define TASK_PAYLOAD_MAX	(16 * 1024 * 1024)	/* bytes, of a payload and of a result */
#define TASK_CLAIMS_MAX		10000	/* that a session holds, and in a call */
#define TASK_GROUP_MAX		100		/* tasks in a transaction, where the kind is short */
#define TASK_GROUP_MS		5
#define TASK_IDS_AHEAD		8192	/* numbers drawn from the sequence at once, at least */
#define TASK_AHEAD			(USECS_PER_SEC * 3600)	/* due later than that: part 0 */
#define TASK_WAIT_MAX		(USECS_PER_SEC * 60)	/* with a snapshot */
#define LOOK_AGAIN			USECS_PER_SEC	/* while waiting, though nobody has told */
#define TASK_LEASE_MAX		(USECS_PER_SEC * 86400)
#define TASK_LOCKS_MAX		4096
#define TASK_BATCHES_MAX	4096	/* of all databases, whose progress is in memory */
#define TASK_KEYS_MAX		65536	/* of all databases, that run or wait */
#define TASK_SUSPECTS_MAX	1024

/* the fourth field of advisory locks: those of applications have 1 or 2 */
#define TASK_LOCK_TASK		6		/* a handler that runs; to the end of its transaction */
#define TASK_LOCK_BATCH		7		/* see batch.c */
#define TASK_LOCK_DATABASE	8		/* the coordinator */
#define TASK_LOCK_IDS		9		/* whoever draws numbers; let go at once */

/* The unique key of a task that a schedule submits, before its name; refused of others (42501). */
#define SCHEDULE_KEY		"schedule:"

/* ---- what verbs begin with: task.c ---- */

/* OF008, 25006, no two-phase commit; what: "ordflow.submit_task()". */
extern void ordflow_task_begin_verb(const char *what);

/* Connected to SPI, as the extension's owner; an error undoes both with its transaction. */
extern RoleSwitch ordflow_task_connect(void);
extern void ordflow_task_disconnect(RoleSwitch saved);

/* ---- kinds: kind.c ---- */

/* A row of ordflow.task_kinds as this backend knows it; good to the end of the transaction. */
typedef struct TaskKind
{
	int32		kind_id;
	char	   *kind;
	Oid			owner;			/* invalid: there is no such role any more */
	char	   *handler;		/* NULL: claimed by services */
	Oid			function;		/* of the handler; invalid: it is gone, or another's */
	bool		is_short;
	int32		max_concurrent; /* 0: no limit; so for per_key and rate */
	int32		per_key;
	double		rate;
	int32		max_attempts;
	int32		max_crashes;
	int64		backoff;		/* microseconds, as all that follow */
	int64		backoff_max;
	int64		timeout;		/* 0: none */
	int64		retention;		/* -1: for good */
	bool		notify;
	bool		paused;
} TaskKind;

/* NULL: there is none.  By name from an argument: OF004. */
extern const TaskKind *ordflow_kind_by_id(int32 kind_id);
extern const TaskKind *ordflow_kind_look(const char *kind);
extern const TaskKind *ordflow_kind_by_name(const char *kind);
extern int	ordflow_kinds_count(void);

/* This transaction has changed rows of kinds or grants: all sessions read them again. */
extern void ordflow_kinds_changed(void);

/* A function of (jsonb) that returns jsonb, and whose it is. */
extern bool ordflow_handler_fits(Oid function, Oid *owner);

/* All with a handler whose owner the role is (invalid: any), a List of const TaskKind *. */
extern List *ordflow_kinds_with_handler(Oid owner);

/* 42501 unless the current user may submit tasks; unless he is a member of the owner. */
extern void ordflow_kind_require_submit(const TaskKind *kind);
extern void ordflow_kind_require_owner(const TaskKind *kind);

/* The same of a role, without raising. */
extern bool ordflow_kind_may_submit(const TaskKind *kind, Oid roleid);

/* How long to wait after a failure; failures: those before it.  A little at random. */
extern int64 ordflow_kind_backoff(const TaskKind *kind, int failures);

/* Called from _PG_init: forgets kinds whose rows were changed. */
extern void ordflow_kinds_init(void);

/* ---- memory: shared.c.  One lock guards all of it but where said ---- */

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_RESERVED,				/* a run that an open transaction has submitted */
	SLOT_READY,					/* a run in its lane */
	SLOT_LATER,					/* a run in the heap */
	SLOT_CLAIMED				/* a task that somebody holds */
} SlotState;

#define CLAIM_LEASE			1	/* belongs to whoever has the token */
#define CLAIM_WORKER		2	/* of a background worker: no transaction's */
#define CLAIM_FINISHING		4	/* a transaction has written its outcome, or is to */
#define CLAIM_CANCELLING	8	/* another one wants to, or has */
#define CLAIM_CANCELLED		16	/* and that is committed */
#define CLAIM_UNIQUE		32	/* has a unique key */
#define CLAIM_SCHEDULED		64	/* the next time of a schedule may wait for it */
#define RUN_PUT_OFF			1	/* of a run: its time is in no row */
#define CLAIM_LEFT_OUT		128	/* another run named the task, and relies on this claim */

/* Slots are named by their place, from 1 on; 0 is none. */
typedef uint32 SlotNo;

/*
 * A run or a claim: the claim of a run's last task takes over its slot, and a claim that is
 * given back becomes a run of one, so giving back never needs room.
 */
typedef struct TaskSlot
{
	uint8		state;			/* SlotState */
	uint8		flags;
	uint8		part;
	uint8		priority;
	int16		lane;			/* place in lanes[] */
	uint16		failures;		/* of a claim: before this attempt */
	SlotNo		next;			/* in the lane, by number; free; the session's claims */
	SlotNo		previous;
	int64		first;			/* of a claim: the task */
	int64		last;
	TimestampTz at;				/* later: when; claimed: since when */
	/* claims only */
	TimestampTz until;			/* of a lease */
	int64		token;
	int64		batch_id;		/* 0: none */
	int32		holder;			/* ordflow_proc_number; -1: nobody, a lease */
	int32		key;			/* place of its key lane, -1: none */
	SlotNo		chain;			/* among the claims whose numbers hash alike */
} TaskSlot;

/* What the tasks of a kind need of memory. */
typedef struct Lane
{
	Oid			database;		/* invalid: free */
	int32		kind_id;
	Oid			owner;			/* whose pool runs it; invalid: services do */
	int32		running;		/* claims */
	int32		reserved;		/* runs of open transactions */
	int64		ready;			/* tasks in runs, at most */
	int64		later;
	int32		keys;			/* that run or wait */
	TimestampTz rate_at;		/* when the next may start, by the rate */
	int32		keys_ready;		/* first of the keys whose next task may start; -1: none */
	int32		looking;		/* with keys: who looks at what he took, and 1; 0: nobody */
	SlotNo		first[TASK_PRIORITIES]; /* runs by number */
	SlotNo		last[TASK_PRIORITIES];
} Lane;

/* The queue of a database. */
typedef struct TaskQueue
{
	Oid			database;		/* invalid: free */
	int32		users;			/* processes that have touched it: it stays as long */
	Oid			sequence;		/* ordflow.task_ids: a new extension has another */
	uint64		afresh;			/* counts what makes all unread again */
	int64		next_id;		/* numbers of tasks; 0: the sequence has not been asked */
	int64		ids_end;		/* the first that is not drawn */
	int64		unread[TASK_PARTS]; /* from this number on ... */
	int64		unread_end[TASK_PARTS]; /* ... to this one, which is not, is unread */
	int64		grown[TASK_PARTS];	/* the lowest that became unread during a step */
	TimestampTz far;			/* what is due from then on is not in memory; DT_NOEND: all is */
	TimestampTz dropped;		/* the earliest that became far while what is far was read */
	bool		loading;		/* somebody looks through rows */
	bool		quiet;			/* the next task has the coordinator called */
	bool		schedules;		/* a time of one may have waited for a task that has ended */
	int32		untracked;		/* transactions open whose runs found no slot */
	TimestampTz lease_end;		/* no lease ends earlier */
	int32		workers;		/* of the pool, alive */
	int32		workers_idle;
	TimestampTz pool_at;		/* when the pool may grow again */
} TaskQueue;

typedef struct TaskShared
{
	LWLock	   *lock;
	int64		token_base;		/* the first token since the start; 0: none was given */
	int64		token;			/* the last one */
	SlotNo		free;
	int32		nfree;
	int32		nslots;
	SlotNo		used;			/* no higher slot was ever taken */
	int32		nclaims;
	int32		nlater;
	int32		compact_after;	/* runs that find no room, before another try to make some */
	ConditionVariable loaded;
	TaskQueue	queues[TASK_DATABASES_MAX];
	Lane		lanes[TASK_KINDS_MAX];
} TaskShared;

extern TaskShared *ordflow_task_shared; /* NULL: not preloaded */
extern TaskSlot *ordflow_task_slots;	/* [0] is not used */

extern void ordflow_task_memory_init(void);
extern void ordflow_task_lock(void);	/* exclusively, for a moment; nothing may raise under it */
extern void ordflow_task_unlock(void);

/* This database's queue; made, all unread, where there was none.  53400. */
extern TaskQueue *ordflow_queue(void);

/* The same for the callbacks: NULL where there is none.  The lock is held. */
extern TaskQueue *ordflow_queue_find(void);

/*
 * Consecutive numbers of n new tasks: the first.  Where not enough are drawn ahead the sequence is
 * moved on under a heavyweight lock that is let go at once: it may sleep, so no LWLock is held.
 */
extern int64 ordflow_task_ids(int n);

/* The lane of a kind, made where there was none; the lock is held.  NULL: TASK_KINDS_MAX are. */
extern Lane *ordflow_lane(const TaskKind *kind);

/* The same of this database's kind, but NULL where there is none. */
extern Lane *ordflow_lane_find(int32 kind_id);

/*
 * For a run that this transaction is about to submit, before its numbers are drawn or, of a task
 * that has one, named by first (0: not drawn): to be noted as ACTION_SUBMIT at once.  0: there is
 * none, which the journal takes account of.  Takes the lock.
 */
extern SlotNo ordflow_run_reserve(const TaskKind *kind, int part, int64 first);

/*
 * The lock is held.  0: there is none; so that claims find room, runs get three quarters of all
 * slots only.
 */
extern SlotNo ordflow_slot_new(void);
extern SlotNo ordflow_slot_for_claim(void);
extern void ordflow_slot_free(SlotNo slot);

/* Is the claim still the one that had that token? */
extern bool ordflow_claim_is(SlotNo slot, int64 token);

/* After ordflow_task_unlock() the duty is told that it has something to do at that time. */
extern void ordflow_task_poke(TimestampTz at);

/* Long past, but not DT_NOBEGIN, which is "all afresh". */
#define TASK_AT_ONCE ((TimestampTz) 0)

/* This process has something in the memory that its end is to give back. */
extern void ordflow_task_attend(void);

/* ---- claims: shared.c; the lock is held ---- */

/* The claim of a task, 0: nobody holds it. */
extern SlotNo ordflow_claim_find(int64 task_id);

typedef struct ClaimTerms
{
	TimestampTz lease_until;	/* 0: of the session */
	bool		worker;
	TimestampTz now;
} ClaimTerms;

/* Makes it, with a token; the slot is the caller's.  False: somebody holds the task. */
extern bool ordflow_claim_make(SlotNo slot, Lane *lane, int64 task_id, int part, int priority,
							   const ClaimTerms *terms);

/* Ends it for good, and frees the slot: the task is over, or other memory covers it. */
extern void ordflow_claim_end(SlotNo slot);

/* In a worker: it has ended claims since it asked last, and is to tell others itself. */
extern bool ordflow_claims_owed(void);

/*
 * Ends it: the task is ready at that time, as its rows tell, DT_NOBEGIN at once, and whoever waits
 * is told.  put_off: the rows tell nothing of that time.
 */
extern void ordflow_claim_give_back(SlotNo slot, TimestampTz at);
extern void ordflow_claim_put_off(SlotNo slot, TimestampTz at);

/* Gives back what has a lease that is over; sets lease_end. */
extern void ordflow_leases_expire(TaskQueue *queue, TimestampTz now);

/* ---- lanes: lane.c; the lock is held ---- */

/* Tasks with consecutive numbers, alike in all that is told here. */
typedef struct TaskRun
{
	const TaskKind *kind;
	int			part;
	int			priority;
	int64		first;
	int64		last;
	TimestampTz run_at;			/* DT_NOBEGIN: at once */
} TaskRun;

/*
 * Puts a run where it is to be found, and tells as many who wait as it has tasks.  slot 0: there
 * was none, so the run joins a neighbour of its lane, or what is unread: then false.  Its kind is
 * not used; the slot, if there is one, has its lane.
 */
extern bool ordflow_run_publish(TaskQueue *queue, const TaskRun *run, int32 kind_id, SlotNo slot);

/* The same of a slot that holds all of it: a claim that is given back. */
extern void ordflow_run_put(SlotNo slot);

/* May another task of the kind start, by max_concurrent and rate?  again as in TaskTake. */
extern bool ordflow_lane_permits(const Lane *lane, const TaskKind *kind, TimestampTz now,
								 TimestampTz *again);

/* So many have started, within its rate. */
extern void ordflow_lane_started(Lane *lane, const TaskKind *kind, TimestampTz now, int n);

/* Tells whoever waits for tasks of the lane, at most n; the duty, where a pool is to grow. */
extern void ordflow_lane_tell(const Lane *lane, int n);

/* All tasks of the partition with those numbers are over: no run names them any more. */
extern void ordflow_runs_cut_off(const TaskQueue *queue, int part, int64 first, int64 last);

/* There is no room for a run: makes runs that are near to each other one; false: that is no use. */
extern bool ordflow_runs_compact(void);

/* Those numbers of a partition are to be looked through. */
extern void ordflow_unread_add(TaskQueue *queue, int part, int64 first, int64 last);

/* A database's queue is given up: all its slots are free. */
extern void ordflow_lanes_forget(Oid database);
extern Size ordflow_lanes_size(int nslots);
extern void ordflow_lanes_attach(void *memory);

/* Lets what has come due into the lanes; returns when the next does, DT_NOEND for never. */
extern TimestampTz ordflow_later_promote(TaskQueue *queue, TimestampTz now);

typedef struct TaskTake
{
	const TaskKind *const *kinds;
	int			nkinds;
	int			max;
	ClaimTerms	terms;
	/* out */
	int			n;
	SlotNo		slots[TASK_GROUP_MAX];	/* claims of one run, by number */
	const TaskKind *key;		/* none, as a key of this kind comes first: ordflow_key_next() */
	bool		unread;			/* none, but rows are unread */
	bool		busy;			/* none, but another is about to have looked at some */
	bool		full;			/* none, for want of a slot: 53400 */
	TimestampTz again;			/* none before, by rate: DT_NOEND where that is not the reason */
} TaskTake;

/*
 * Claims tasks of the kind that is to come first: by priority, then the lowest number; within
 * max_concurrent and rate.  A task that somebody holds is left out of its run.
 */
extern void ordflow_lane_take(TaskQueue *queue, TaskTake *take);

/* What was taken has been looked at, or is not to be.  Takes the lock. */
extern void ordflow_look_end(void);

/* The lowest number that may be open in a partition, by all that memory holds. */
extern int64 ordflow_lane_lowest(TaskQueue *queue, int part);

/* ---- keys: key.c; the lock is held ---- */

/*
 * The turn of a claimed task among those of its key.  False: others come first; the claim has
 * ended and the key covers the task.
 */
extern bool ordflow_key_enter(SlotNo claim, const TaskKind *kind, const char *key);

/* The claim ends; given_back: its task is to come before those that wait. */
extern void ordflow_key_leave(SlotNo claim, bool given_back);

/*
 * A key that has a permit to spare and tasks that wait: its hash and the numbers they are among.
 * False: none.  It stays listed, behind the others, so nothing is lost by an error of the caller.
 */
extern bool ordflow_key_next(Lane *lane, uint64 *hash, int64 *first, int64 *last);

/*
 * The caller has just made the claim of the first of them that is open and due: takes the permit.
 * False: another was faster; the claim has ended.
 */
extern bool ordflow_key_take(SlotNo claim, const TaskKind *kind, uint64 hash);

/* None up to last is open and due: those waiting have ended, or other memory covers them. */
extern void ordflow_key_none(Lane *lane, uint64 hash, int64 last);

/* The priority of the key that ordflow_key_next() would tell, and its lowest number; -1: none. */
extern int	ordflow_key_priority(const Lane *lane, int64 *first);

/* The lowest number that a key of the database keeps waiting. */
extern int64 ordflow_keys_lowest(Oid database);
extern void ordflow_keys_forget(Oid database);
extern Size ordflow_keys_size(void);
extern void ordflow_keys_attach(void *memory, bool found);

/* ---- who waits: wait.c ---- */

typedef enum WaitFor
{
	WAIT_KIND,					/* id: kind_id */
	WAIT_POOL,					/* id: the owner's oid */
	WAIT_BATCH					/* id: batch_id */
} WaitFor;

/*
 * Says that this process is to be told; look again after it, then sleep.  Being told ends it, and
 * is passed on to another where this process goes away, or stops, without having looked.
 */
extern void ordflow_wait_begin(WaitFor what, int64 id);
extern void ordflow_wait_end(bool looked);

/* Sleeps until told, or that time, or CHECK_FOR_INTERRUPTS() raises.  False: time is up. */
extern bool ordflow_wait_sleep(TimestampTz until);

/* The lock is held: tells at most n; returns how many. */
extern int	ordflow_wait_tell(Oid database, WaitFor what, int64 id, int n);

/* The lock is held: tells all who wait for tasks in the database. */
extern void ordflow_wait_tell_all(Oid database);

/* How many wait for that; the lock is held. */
extern int	ordflow_wait_count(Oid database, WaitFor what, int64 id);
extern Size ordflow_waiters_size(void);
extern void ordflow_waiters_attach(void *memory, bool found);

/* ---- the transaction: journal.c ---- */

/*
 * What this transaction has done that memory is to know, by subtransaction: undone when that is
 * rolled back, done when all has committed and can be seen.  Room is made when it is noted.
 */
typedef enum ActionKind
{
	ACTION_SUBMIT,				/* run and slot: is published */
	ACTION_CLAIM,				/* slot: becomes the session's; undone: is given back */
	ACTION_FINISH,				/* slot: ends; undone: goes on */
	ACTION_RETRY,				/* slot: is given back, for run.run_at (failed, released); undone:
								 * goes on */
	ACTION_CANCEL,				/* slot, and the task in run.first: its holder is interrupted */
	ACTION_BATCH,				/* delta: see batch.c */
	ACTION_CANCEL_BATCH,		/* delta.batch_id, run: its holders are interrupted */
	ACTION_WAKE,				/* kind_id: who waits is told: it may be resumed, or new */
	ACTION_UNREAD,				/* those numbers are, of the partition */
	ACTION_AFRESH				/* all of the queue is unread */
} ActionKind;

/* What becomes of the tasks of a batch. */
typedef struct BatchDelta
{
	int64		batch_id;
	int32		succeeded;
	int32		dead;
	int32		cancelled;
	int32		failed;			/* open ones that have failed before */
} BatchDelta;

typedef struct TaskAction
{
	ActionKind	kind;
	int			level;			/* of the subtransaction */
	SlotNo		slot;
	int64		token;			/* the slot may be another claim's by then */
	int32		kind_id;
	TaskRun		run;			/* its kind is not used */
	BatchDelta	delta;
} TaskAction;

extern void ordflow_journal_init(void);
extern void ordflow_journal_room(int n);
extern void ordflow_journal_add(const TaskAction *action);	/* there is room */
extern int	ordflow_journal_look(const TaskAction **actions);

/* Of the action that was added last, which is ACTION_SUBMIT: its numbers; it is no more. */
extern void ordflow_journal_numbers(int64 first, int64 last);
extern void ordflow_journal_undo_last(void);
extern bool ordflow_journal_has_submitted_batch(int64 batch_id);

/* ---- the session: session.c ---- */
extern void ordflow_session_init(void); /* DISCARD ALL */

/*
 * This process's claims; registers what gives them back at its end (on_shmem_exit: after an open
 * transaction has been aborted).  54000 above the limit.
 */
extern void ordflow_session_require_room(int n);
extern SlotNo ordflow_session_claims(void); /* the lock is held: the first of a list by next */
extern int	ordflow_session_nclaims(void);
extern void ordflow_session_give_back_all(void);
extern void ordflow_session_link(SlotNo slot);	/* the lock is held */
extern void ordflow_session_unlink(SlotNo slot);

/* ---- locks: lock.c ---- */
extern void ordflow_locks_release_all(void);
extern Size ordflow_locks_size(void);
extern void ordflow_locks_attach(void);

/* ---- rows: row.c ---- */

/* A task as its rows tell. */
typedef struct TaskRow
{
	SlotNo		slot;			/* the claim, if it was looked at for one */
	int64		token;
	int64		task_id;
	int			part;
	int			priority;
	int32		kind_id;
	int64		batch_id;		/* 0: none */
	TimestampTz run_at;			/* the later one of run_at and retry_at */
	char	   *key;
	char	   *unique_key;
	char	   *submitter;		/* NULL: the batch's */
	Jsonb	   *payload;		/* NULL where not asked for */
	int			failures;		/* since the last replay */
	int			attempts;		/* all of them */
	bool		over;			/* there is an outcome, or its batch was cancelled */
} TaskRow;

/*
 * Reads the tasks of a partition with numbers from first to last, in the latest snapshot, past
 * predicate locks, into the current context; how many.  A partition that is retired has none.
 */
extern int	ordflow_rows_read(int part, int64 first, int64 last, int max, bool payloads,
							  TaskRow **rows);

/* One task wherever it is; false: there is none. */
extern bool ordflow_row_find(int64 task_id, bool payload, TaskRow *row);

typedef struct Outcome
{
	int64		task_id;
	int			part;
	char		state;			/* s, d, c */
	int			attempts;
	TimestampTz started_at;		/* 0: it was not */
	TimestampTz finished_at;
	Jsonb	   *result;			/* may be NULL */
} Outcome;

/*
 * Writes outcomes of tasks that this process holds and nobody cancels, straight into their
 * partitions, or into part 0 where that has retired.
 */
extern void ordflow_outcomes_write(const Outcome *outcomes, int n);

/* One whose task another may be ending: waits for him.  False: he has ended it. */
extern bool ordflow_outcome_try(const Outcome *outcome);

/* Takes the outcome of a dead task back.  False: it is not dead. */
extern bool ordflow_outcome_remove(const TaskRow *row);

typedef struct Attempt
{
	int64		task_id;
	const char *cause;			/* error, crash, replay */
	int			sqlerrcode;		/* 0: none */
	const char *error;			/* may be NULL */
	TimestampTz retry_at;		/* DT_NOBEGIN: NULL */
} Attempt;

extern void ordflow_attempt_write(const Attempt *attempt, TimestampTz now);
extern void ordflow_unique_release(int32 kind_id, const char *unique_key);

/* Between these, statements of ours write tables of the feature: task_changed() lets them pass. */
extern void ordflow_task_own_write(void);
extern void ordflow_task_own_write_done(void);

/* ---- segments: segment.c ---- */

/* The partition that new tasks go to, locked (RowExclusiveLock) to the end of the transaction. */
extern int	ordflow_segment_current(void);

/* Locks the partition's outcomes for writing: it, or 0 where it has retired. */
extern int	ordflow_segment_for_outcome(int part);
extern bool ordflow_segment_is_retired(int part);
extern const char *ordflow_segment_relname(const char *table, int part);	/* "task_queue_3" */

/* Called from _PG_init: forgets the map of segments when its rows are changed. */
extern void ordflow_segments_init(void);
extern void ordflow_segments_changed(void);

/*
 * retention.c: a step of the duty, outside any transaction: opens, retires, empties; when to come
 * again.
 */
extern TimestampTz ordflow_segments_step(bool afresh);

/* ---- submitting: submit.c ---- */

typedef struct SubmitOptions
{
	int			priority;
	TimestampTz run_at;			/* DT_NOBEGIN: at once */
	char	   *key;
	char	   *unique_key;
	const TaskKind *on_finish;
} SubmitOptions;

/*
 * One task in the name of a submitter; rights have been checked.  Connected to SPI, as the
 * extension's owner.  A task with the same unique key that is open is returned instead.
 */
extern int64 ordflow_submit_one(const TaskKind *kind, Jsonb *payload, const SubmitOptions *options,
								const char *submitter);

/* ---- claiming and finishing: claim.c, finish.c ---- */

/*
 * Claims and looks again, until there is one that may run or nothing is to be had: returns
 * how many, at most max (and TASK_GROUP_MAX), all of one kind.  Reads rows into memory where they
 * are unread.  In a transaction; again: see TaskTake.
 */
extern int	ordflow_claim_next(const TaskKind *const *kinds, int nkinds, int max,
							   const ClaimTerms *terms, TaskRow *tasks, TimestampTz *again);

/*
 * The task is to end with this subtransaction, which may still be rolled back.  False: somebody is
 * cancelling it, or has: ordflow_finish_contested() waits for him.
 */
extern bool ordflow_finish_begin(const TaskRow *task);

/* Later in the transaction: those n tasks of one kind have succeeded. */
extern void ordflow_finish_write(const TaskKind *kind, const TaskRow *tasks, Jsonb **results, int n,
								 TimestampTz started_at);

/* Instead of both, for one task.  False: it was cancelled. */
extern bool ordflow_finish_contested(const TaskKind *kind, const TaskRow *task, Jsonb *result,
									 TimestampTz started_at);

/*
 * Has this transaction itself cancelled the task; here: in this subtransaction?  Then its claim
 * ends with it.
 */
extern bool ordflow_finish_cancelled(const TaskRow *task, bool here);

/* Instead: the attempt failed; retry_in -1: the backoff.  "retried", "dead", NULL: cancelled. */
extern const char *ordflow_finish_failed(const TaskKind *kind, const TaskRow *task,
										 const Attempt *failure, int64 retry_in);

/* The outcome of a task by another than its holder: cancel.c and suspects. */
extern bool ordflow_finish_for(const TaskKind *kind, const TaskRow *task, char state);

/* The task of the handler that runs, for current_task(); NULL: none. */
extern void ordflow_current_task_set(const TaskRow *task);

/* ---- batches: batch.c ---- */

/* Called by the journal: the first may run statements, the others neither allocate nor raise. */
extern void ordflow_batches_pre_commit(void);
extern void ordflow_batches_committed(void);
extern void ordflow_batches_aborted(void);

/* A batch that has just been written, of that many tasks; ends it at once where it has none. */
extern void ordflow_batch_opened(int64 batch_id, int total);
extern bool ordflow_batch_is_cancelled(int64 batch_id);

/* All that is not in use of a database, whose rows were written by hand; the lock is held. */
extern void ordflow_batches_forget(Oid database);
extern Size ordflow_batches_size(void);
extern void ordflow_batches_attach(void *memory, bool found);

/* ---- reading rows into memory: load.c ---- */

/*
 * A step, in a transaction: reads at most so many rows of what is unread, or waits for who does.
 * False: nothing was unread, or there is no room for more.
 */
extern bool ordflow_load_step(int max);

/* What lies beyond queue->far and comes near; when to come again. */
extern TimestampTz ordflow_load_far(TimestampTz now);
extern void ordflow_load_afresh(TaskQueue *queue);	/* the lock is held */
extern void ordflow_load_abandon(void); /* this process reads no more: an error, or its end */

/*
 * Writes ordflow.task_progress, in a transaction of the coordinator, where there is something to
 * write.  Whoever opens a task with a lower number than others (retry_task, what is copied to
 * part 0) has reserved its run, and then calls the second.
 */
extern void ordflow_progress_write(void);
extern void ordflow_progress_forget(int part);

/* ---- the pool: pool.c, run.c, suspect.c ---- */
extern void ordflow_pool_init(void);

/* A step of the duty: starts workers that are wanted; when to come again. */
extern TimestampTz ordflow_pool_step(TimestampTz now);
extern int	ordflow_pool_workers(Oid owner);	/* of this database, alive */

/*
 * Runs claimed tasks of one kind in the transaction that is open, each in a subtransaction, and
 * writes what became of them; how many, the others are still held.  alone: see suspect.c.
 * Raises what ends the transaction.
 */
extern int	ordflow_run_group(const TaskKind *kind, const TaskRow *tasks, int n, bool alone);

/* The file of suspects; mapped by the postmaster, so that its children share it. */
extern void ordflow_suspects_start(void);	/* memory has been made anew */

/* The last token that was ever given, kept there too; NULL: there is no file. */
extern int64 *ordflow_suspects_token(void);

/*
 * This worker is about to run the task; 0: it has done so.  False: it must not, as another wants
 * to be alone.
 */
extern bool ordflow_suspect_note(int64 task_id, bool alone);

/* How often the task has crashed the server alone; -1: it is no suspect. */
extern int	ordflow_suspect_crashes(int64 task_id);
extern void ordflow_suspect_cleared(int64 task_id);

typedef enum AloneResult
{
	ALONE_GRANTED,				/* no other worker runs a task, nor will until alone_end() */
	ALONE_ANOTHER,				/* another is alone, or this one is to go */
	ALONE_REFUSED				/* others have not come to an end */
} AloneResult;

extern AloneResult ordflow_suspect_alone_begin(void);
extern void ordflow_suspect_alone_end(void);
extern bool ordflow_suspect_others_wait(void);	/* a worker is to run nothing now */

/* ---- schedules: schedule.c ---- */

/* A step of the duty; when to come again. */
extern TimestampTz ordflow_schedules_step(TimestampTz now, bool afresh);

/* ---- the duty: duty.c ---- */
extern void ordflow_task_duty_init(void);

#endif							/* ORDFLOW_TASK_INTERNAL_H */

/*
 * internal.h
 *	  What the files of the timer feature share; nobody else includes it.
 */
#ifndef ORDFLOW_TIMER_INTERNAL_H
#define ORDFLOW_TIMER_INTERNAL_H

#include "postgres.h"

#include "machine/machine.h"
#include "timer/timer.h"

/* ---- due.c: tables, and their rows that are due ---- */

/* A table in one transaction. */
typedef struct DueTable
{
	const MachineTarget *target;	/* of the holds: machine is NULL */
	const char *name;			/* qualified */
	Oid			owner;
	bool		ours;			/* in schema ordflow: trusted */
	/* of ordflow.parked, by ordflow_parked_read() */
	const char **waiting;		/* keys that may not be tried yet */
	int			nwaiting;
	const char **ready;			/* keys that are to be tried again */
	int			nready;
	TimestampTz retry_at;		/* the earliest of those waiting, or DT_NOEND */
} DueTable;

typedef enum DueOpening
{
	DUE_OPEN,
	DUE_GONE,					/* no table, a temporary one of another session, or one that a
								 * subscription writes to: its timeouts are the publisher's */
	DUE_LOCKED,					/* by somebody who changes it */
	DUE_BROKEN					/* a column is gone that the machine needs */
} DueOpening;

/* Which rows, up to that time. */
typedef struct DueSearch
{
	TimestampTz from;			/* by deadline, from here on; or ... */
	const char **keys;			/* ... by key, where nkeys > 0 */
	int			nkeys;
	TimestampTz until;
	int			limit;
} DueSearch;

/* A row that was due and has been locked. */
typedef struct DueObject
{
	Datum		key;
	char	   *state;			/* may be NULL */
	TimestampTz due;
	bool		fired;
} DueObject;

/* A row that has a deadline, without a lock. */
typedef struct DueRow
{
	char	   *key;
	TimestampTz due;
} DueRow;

/* The holds as a table with deadlines. */
extern MachineTarget *ordflow_due_holds(void);

/* Locks the table against changes of its form, if that takes no waiting, and fills in the rest. */
extern DueOpening ordflow_due_open(DueTable *table, const MachineTarget *target);

/* The WARNING for DUE_BROKEN. */
extern void ordflow_due_warn_broken(const DueTable *table);

/* The WARNING for a table whose rows cannot be read. */
extern void ordflow_due_warn_failed(const DueTable *table, const ErrorData *error);

/*
 * Locks rows that are due and not parked, past those that others hold, the earliest
 * deadline first (in no order where by key); returns how many.
 */
extern int	ordflow_due_lock(const DueTable *table, const DueSearch *search, DueObject **objects);

/* Reads rows in the same way, without a lock. */
extern int	ordflow_due_read(const DueTable *table, const DueSearch *search, DueRow **rows);

/* Counts them. */
extern int64 ordflow_due_count(const DueTable *table, const DueSearch *search);

/* ---- timer.c ---- */

/* This process is the coordinator, which has others to serve. */
extern bool ordflow_in_coordinator;

/* ---- fire.c ---- */

/* What is due in a table, fired. */
typedef struct DueRun
{
	DueTable   *table;
	DueSearch	search;
	/* out */
	DueObject  *objects;		/* all that were locked, not all may have fired */
	int			nobjects;
	TimestampTz last_due;		/* the latest deadline of them */
	int			nfired;
	int			nparked;
	bool		gave_up;		/* some have not been tried, for want of time */
	TimestampTz now;			/* the clock, read after the rows were locked */
	/* for fire.c */
	bool		settled;		/* something has been decided alone */
	TimestampTz give_up_at;
} DueRun;

/*
 * Locks and fires.  An object that fails is parked; one that would wait for another's lock
 * too long is left as it was.  NULL, or the error because of which the table
 * cannot be read; what is the caller's (cancellation, a serialization failure of his own
 * transaction) is raised.
 */
extern ErrorData *ordflow_due_fire(DueRun *run);

/*
 * Somebody else is in the way, so what failed is left as it is.  In the coordinator that is
 * also true of what the caller of run_due() is to repeat.
 */
extern bool ordflow_due_is_busy(int sqlerrcode);

/* Runs it in a subtransaction; NULL, or the error it failed with; raises what is the caller's. */
extern ErrorData *ordflow_due_attempt(void (*attempt) (void *arg), void *arg);

/* ---- park.c: table ordflow.parked ---- */

/* the event under which an object is parked that has no timeout */
#define NO_EVENT "timeout"

/* Fills in what is parked of the table. */
extern void ordflow_parked_read(DueTable *table, TimestampTz now);

extern void ordflow_parked_add(const DueRun *run, const DueObject *objects, int n,
							   const char *event, int sqlerrcode, const char *message);

/*
 * After a run that looked at keys which were ready, and rows that are due after it.  Forgets the
 * keys that are not due any more: they have fired, or somebody else has fired them, moved their
 * deadline or deleted them.  The others stay as they are, somebody works on them or there was no
 * time: the coordinator comes back to them in a second.  Returns how many of the rows were
 * not ready; they are put first.  Sorts the keys.
 */
extern int	ordflow_parked_settle(const DueTable *table, TimestampTz now, const char **ready,
								  int nready, DueRow *rows, int n);

/* The keys of a run's objects as text[]. */
extern Datum ordflow_due_key_texts(const DueTable *table, const DueObject *objects, int n);

/* What nobody has come back to: of tables that are gone, above all. */
extern void ordflow_parked_remove_stale(TimestampTz now);

/* ---- driver.c ---- */
extern void ordflow_driver_init(void);

/* ---- lateness.c: figures in shared memory ---- */

/*
 * Lateness is counted in buckets: 8 to each power of two of microseconds, so a
 * figure is at most an eighth too high.
 */
#define LATENESS_POWERS		40
#define LATENESS_STEPS		8
#define LATENESS_BUCKETS	(LATENESS_STEPS * (LATENESS_POWERS - 2) + 1)

typedef struct TimerFigures
{
	Oid			database;		/* invalid: no figures */
	TimestampTz since;
	uint64		done;			/* objects and holds that were fired */
	uint64		published;		/* deadlines that a driver has told its server of */
	int64		lateness_max;	/* in microseconds */
	uint64		lateness[LATENESS_BUCKETS];
	TimestampTz error_at;		/* 0: there was none */
	char		sqlstate[6];
	char		error[256];
} TimerFigures;

extern void ordflow_figures_init(void);

/* In a driver: its own figures from now on, which begin anew. */
extern void ordflow_figures_of_driver(void);
extern void ordflow_figures_published(int n);

/* Those of the driver at a companion's place; false when there are none. */
extern bool ordflow_figures_read_driver(int place, TimerFigures *figures);

/* Counts what a run has fired, and that is committed. */
extern void ordflow_figures_fired(const DueRun *run);

extern void ordflow_figures_failed(int sqlerrcode, const char *message);

/* False when there are none of this database. */
extern bool ordflow_figures_read(TimerFigures *figures);

/* The lateness in microseconds that a share of what was fired was below. */
extern int64 ordflow_figures_lateness(const TimerFigures *figures, double share);

/* ---- cron.c ---- */
extern void ordflow_cron_init(void);

#endif							/* ORDFLOW_TIMER_INTERNAL_H */

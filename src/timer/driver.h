/*
 * driver.h
 *	  What a timer driver is: another system that says when a deadline has come.
 *
 * The core tells it of deadlines that are committed and asks what has come due; whether an
 * object really is due the rows decide, so an event may come early, twice, or for what is
 * long gone.  One that never comes is made good by the coordinator, within ordflow.timer_grace.
 *
 * The functions run in a process of the driver's own, outside any transaction, one at a
 * time; none may take longer than a few times the server's option timeout.  A failure fills
 * in the error and ends the connection: connect() comes next, and then everything is told again.
 */
#ifndef ORDFLOW_DRIVER_H
#define ORDFLOW_DRIVER_H

#include "server/module.h"

/* The most that put() is given, and poll() may give, at once. */
#define DRIVER_ITEMS_MAX 1000

typedef struct Deadline
{
	const char *item;			/* printable; what poll() is to give back */
	int64		delay_ms;		/* from now on; below 0: withdraw it, where the system can */
} Deadline;

typedef struct TimerDriver
{
	const char *name;

	/* put() adds to what is there: the core connects anew before it tells everything again. */
	bool		adds;

	/*
	 * Makes the state (malloc), without connecting; NULL: out of memory.  Names of ours at
	 * the server begin with name_space.  Both arguments live as long as the state.
	 */
	void	   *(*open) (const ModuleConfig *config, const char *name_space);

	/* Also after an error.  Sees to it that events will come: sets the server up where it may. */
	bool		(*connect) (void *state, ModuleError *error);

	/* Done when it returns, in the server's own sense.  What is known is replaced, or added. */
	bool		(*put) (void *state, const Deadline *deadlines, int n, ModuleError *error);

	/*
	 * Items that have come due, without waiting: how many, 0 for none, -1 for an error.  The texts
	 * are good until the next call of anything.
	 */
	int			(*poll) (void *state, const char **items, int max, ModuleError *error);

	/* What poll() gave is dealt with, and committed. */
	bool		(*done) (void *state, ModuleError *error);

	/* What to wait for input on. */
	int			(*socket) (void *state);

	/* ms until poll() is to be called even without input; -1: none.  May be NULL. */
	int64		(*next) (void *state);

	/* Called at least every 10 s: heartbeats. */
	bool		(*idle) (void *state, ModuleError *error);

	/* Leaves nothing of the name space at the server.  The state stays connected. */
	bool		(*clear) (void *state, ModuleError *error);

	void		(*close) (void *state);
} TimerDriver;

#endif							/* ORDFLOW_DRIVER_H */

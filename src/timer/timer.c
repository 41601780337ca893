/*
 * timer.c
 *	  The coordinator's duty: each timeout is fired when its time has come.
 *
 * For each table with deadlines the coordinator remembers a time, next: no row that is still to
 * be fired has a deadline before it, but for those in the list of retries and the
 * parked ones.  So a search begins at next, whatever dead index entries lie before it, and next
 * is also when the table is to be looked at again.
 *
 * Why nothing is lost: a transaction that brings a deadline notes it after its rows can be seen,
 * and notes are taken before our snapshots.  Thus of a row that a snapshot of ours does not
 * show the note is still to come, and lowers next to its deadline or before, however far we have
 * moved it meanwhile.  A row that a snapshot shows is fired, or found by a second look
 * at the same range, which puts it on the list of retries, or has its deadline at or after the
 * next that we keep.  What is remembered is in memory alone: after a start, an error, a clock
 * set back, everything is looked at once.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "timer/internal.h"
#include "worker/worker.h"

#define MS INT64CONST(1000)

/* A row that others hold is tried again after as long as it is late, within these bounds. */
#define RETRY_MIN		(10 * MS)
#define RETRY_MAX		(1000 * MS)
#define RETRIES_MAX		10000

/* Where retries are worth a try at once, they take at most one part in so many of the time. */
#define RETRY_SHARE		10

/* how long a table rests that cannot be read */
#define REST_MIN		(1000 * MS)
#define REST_MAX		(60 * 1000 * MS)

/* A round takes about this long, so that others get their turn, and locks are soon free. */
#define ROUND_SHORT		(25 * MS)
#define ROUND_LONG		(50 * MS)
#define ROWS_START		100
#define ROWS_MAX		5000

/* A row that others had locked when it was due. */
typedef struct Retry
{
	char	   *key;
	TimestampTz due;
	TimestampTz at;
} Retry;

/* What is remembered of a table. */
typedef struct Watch
{
	MemoryContext context;
	MachineTarget target;
	TimestampTz next;
	TimestampTz parked_at;		/* a parked row is to be tried again, perhaps */
	Retry	   *retries;		/* RETRIES_MAX at most */
	int			nretries;
	TimestampTz retry_at;		/* the earliest of them */
	TimestampTz retried_until;	/* they may be tried out of turn from here on */
	TimestampTz not_before;		/* the table rests until then ... */
	int64		rest;			/* ... after a rest of this length ... */
	bool		locked;			/* ... since others have locked it, or too many rows */
	bool		warned;			/* that it cannot be read */
	int			rows_max;		/* of a round */
} Watch;

bool		ordflow_in_coordinator = false;

static MemoryContext memory = NULL;	/* of all that is remembered */
static MemoryContext turn = NULL;	/* of a round */
static List *watches = NIL;
static bool reload = true;		/* the list of tables may have changed */
static TimestampTz last_run = DT_NOBEGIN;

/* Microseconds by which the worker leaves what is due to other drivers. */
static int64 grace = 0;

/* When some deadline was open, so that other drivers had something to do. */
static TimestampTz last_open = DT_NOBEGIN;

/* Another driver is kept for so long though no deadline is open. */
#define LINGER			(60 * 1000 * MS)

/* ---- retries ---- */

static void
retries_find_earliest(Watch *watch)
{
	watch->retry_at = DT_NOEND;
	for (int i = 0; i < watch->nretries; i++)
		watch->retry_at = Min(watch->retry_at, watch->retries[i].at);
}

static void
retries_clear(Watch *watch)
{
	for (int i = 0; i < watch->nretries; i++)
		pfree(watch->retries[i].key);
	watch->nretries = 0;
	watch->retry_at = DT_NOEND;
}

/* Takes the retry off the list; the last one takes its place. */
static void
retry_remove(Watch *watch, int i)
{
	pfree(watch->retries[i].key);
	watch->retries[i] = watch->retries[--watch->nretries];
}

/* Those in a range that has been looked at again. */
static void
retries_remove_range(Watch *watch, TimestampTz from, TimestampTz until)
{
	for (int i = watch->nretries - 1; i >= 0; i--)
		if (watch->retries[i].due >= from && watch->retries[i].due <= until)
			retry_remove(watch, i);
	retries_find_earliest(watch);
}

/* False: the list is full.  soon: it has not been tried yet. */
static bool
retry_add(Watch *watch, const DueRow *row, TimestampTz now, bool soon)
{
	Retry	   *retry;
	int64		delay = soon ? RETRY_MIN : RETRY_MAX;

	if (watch->nretries == RETRIES_MAX)
		return false;
	if (watch->retries == NULL)
		watch->retries = MemoryContextAlloc(watch->context, sizeof(Retry) * RETRIES_MAX);
	if (!soon && row->due > now - RETRY_MAX)
		delay = Max(now - row->due, RETRY_MIN);
	retry = &watch->retries[watch->nretries++];
	retry->key = MemoryContextStrdup(watch->context, row->key);
	retry->due = row->due;
	retry->at = now + delay;
	watch->retry_at = Min(watch->retry_at, retry->at);
	return true;
}

/* Whoever was in the way may be gone. */
static void
retries_hasten(Watch *watch, TimestampTz now)
{
	TimestampTz at = Max(now, watch->retried_until) - grace;

	for (int i = 0; i < watch->nretries; i++)
		watch->retries[i].at = Min(watch->retries[i].at, at);
	retries_find_earliest(watch);
	if (watch->locked)
		watch->not_before = now;
}

/* ---- the list of tables ---- */

static void
relation_changed(Datum arg, Oid relid)
{
	reload = true;
}

static Watch *
watch_create(const MachineTarget *target)
{
	MemoryContext context = AllocSetContextCreate(memory, "ordflow timer table",
												  ALLOCSET_SMALL_SIZES);
	Watch	   *watch = MemoryContextAllocZero(context, sizeof(Watch));

	watch->context = context;
	watch->target = *ordflow_machine_target_copy(context, target);
	watch->next = watch->parked_at = watch->not_before = DT_NOBEGIN;
	watch->retry_at = DT_NOEND;
	watch->rows_max = ROWS_START;
	return watch;
}

static bool
watches_target(const Watch *watch, const MachineTarget *target)
{
	return ordflow_machine_target_equal(&watch->target, target);
}

static void
watches_delete(void)
{
	ListCell   *cell;

	foreach(cell, watches)
		MemoryContextDelete(((Watch *) lfirst(cell))->context);
	list_free(watches);
	watches = NIL;
}

/* Tables that stay keep what is remembered of them. */
static void
watches_update(List *targets)
{
	List	   *kept = NIL;
	ListCell   *cell;

	foreach(cell, targets)
	{
		const MachineTarget *target = lfirst(cell);
		Watch	   *watch = NULL;
		ListCell   *old;

		if (target->due_column == NULL)
			continue;
		foreach(old, watches)
			if (watches_target(lfirst(old), target))
				watch = lfirst(old);
		if (watch == NULL)
			watch = watch_create(target);
		watches = list_delete_ptr(watches, watch);
		MemoryContextSwitchTo(memory);
		kept = lappend(kept, watch);
		MemoryContextSwitchTo(turn);
	}
	watches_delete();
	watches = kept;
}

/* False: there is nothing to do here. */
static bool
watches_load(void)
{
	if (!ordflow_worker_begin())
		return false;
	SPI_connect();
	MemoryContextSwitchTo(turn);
	reload = false;
	watches_update(lappend(ordflow_machine_targets(InvalidOid), ordflow_due_holds()));
	ordflow_parked_remove_stale(GetCurrentTimestamp());
	SPI_finish();
	ordflow_worker_commit();
	MemoryContextReset(turn);
	return true;
}

/* ---- a round ---- */

static void
take_rest(Watch *watch, int64 min, int64 max)
{
	watch->rest = watch->rest == 0 ? min : Min(2 * watch->rest, max);
	watch->not_before = GetCurrentTimestamp() + watch->rest;
}

/* What has been tried in vain will be found again. */
static void
start_over(Watch *watch)
{
	retries_clear(watch);
	watch->next = watch->parked_at = DT_NOBEGIN;
}

/* The table cannot be read, or what becomes of its rows not be written. */
static void
table_failed(Watch *watch)
{
	start_over(watch);
	watch->warned = true;
	take_rest(watch, REST_MIN, REST_MAX);
}

/* Nothing of the round is certain. */
static void
round_failed(Watch *watch, const DueTable *table, const ErrorData *error)
{
	if (ordflow_due_is_busy(error->sqlerrcode))
	{
		start_over(watch);
		watch->locked = true;
		take_rest(watch, RETRY_MIN, RETRY_MAX);
		return;
	}
	if (!watch->warned)
		ordflow_due_warn_failed(table, error);
	ordflow_figures_failed(error->sqlerrcode, error->message);
	table_failed(watch);
}

/* Fires what the run's search finds, and learns what is parked after it. */
static bool
fire(Watch *watch, DueRun *run)
{
	ErrorData  *error = ordflow_due_fire(run);

	if (error != NULL)
	{
		round_failed(watch, run->table, error);
		return false;
	}
	if (run->nparked > 0)
		ordflow_parked_read(run->table, run->search.until);
	watch->parked_at = run->table->retry_at;
	return true;
}

/* Lists rows as retries; where the list gets full, the search begins with the rest again. */
static void
put_off(Watch *watch, const DueRun *run, const DueRow *rows, int n)
{
	TimestampTz now = run->search.until;
	int			i = 0;

	while (i < n && retry_add(watch, &rows[i], now, run->gave_up))
		i++;
	if (i == n)
		return;
	for (; i < n; i++)
		watch->next = Min(watch->next, rows[i].due);
	watch->locked = true;
	take_rest(watch, RETRY_MAX, RETRY_MAX);
}

/* The rows whose time has come again, by their keys: they are few, whatever the index holds. */
static void
fire_again(Watch *watch, DueRun *run, TimestampTz now)
{
	DueTable   *table = run->table;
	const char **keys = palloc(sizeof(char *) * watch->rows_max);
	int			nready = Min(table->nready, watch->rows_max);
	bool		more_ready = nready < table->nready;
	int			n = nready;
	DueRow	   *rows;

	memcpy(keys, table->ready, sizeof(char *) * nready);
	for (int i = watch->nretries - 1; i >= 0 && n < watch->rows_max; i--)
		if (watch->retries[i].at <= now)
		{
			keys[n++] = pstrdup(watch->retries[i].key);
			retry_remove(watch, i);
		}
	retries_find_earliest(watch);

	run->search = (DueSearch) {.keys = keys, .nkeys = n, .until = now, .limit = n};
	if (!fire(watch, run))
		return;
	n = ordflow_due_read(table, &run->search, &rows);
	if (nready > 0)
	{
		n = ordflow_parked_settle(table, now, keys, nready, rows, n);
		ordflow_parked_read(table, now);
		watch->parked_at = more_ready ? now : table->retry_at;
	}
	put_off(watch, run, rows, n);
}

static TimestampTz
first_after(const DueTable *table, TimestampTz time)
{
	DueSearch	search = {.from = time + 1, .until = DT_NOEND, .limit = 1};
	DueRow	   *rows;

	return ordflow_due_read(table, &search, &rows) > 0 ? rows[0].due : DT_NOEND;
}

/*
 * The rows whose time has come.  Where there may be more than were fetched, the last deadline is
 * looked at again, as others may share it; but not if nothing could be done with the
 * rows of this one.
 */
static void
fire_due(Watch *watch, DueRun *run, TimestampTz now)
{
	TimestampTz from = watch->next;
	TimestampTz until = now;
	bool		full;
	bool		again;
	DueSearch	search;
	DueRow	   *rows;
	int			n;

	run->search = (DueSearch) {.from = from, .until = now, .limit = watch->rows_max};
	if (!fire(watch, run))
		return;
	full = run->nobjects == watch->rows_max;
	again = full && run->nfired + run->nparked > 0;
	if (again)
	{
		watch->next = run->last_due;
		if (run->last_due <= from)
			return;
		until = run->last_due - 1;
	}
	else
	{
		if (full)
			until = run->last_due;
		watch->next = first_after(run->table, until);
	}
	retries_remove_range(watch, from, until);
	search = (DueSearch) {.from = from, .until = until, .limit = RETRIES_MAX + 1};
	n = ordflow_due_read(run->table, &search, &rows);
	put_off(watch, run, rows, n);
}

static void
do_round(Watch *watch, DueRun *run)
{
	DueTable   *table = run->table;
	DueOpening	opening = ordflow_due_open(table, &watch->target);
	TimestampTz now = GetCurrentTimestamp() - grace;

	if (opening == DUE_GONE)
	{
		retries_clear(watch);
		watch->next = watch->parked_at = DT_NOEND;
	}
	if (opening == DUE_BROKEN)
	{
		if (!watch->warned)
			ordflow_due_warn_broken(table);
		table_failed(watch);
	}
	watch->locked = opening == DUE_LOCKED;
	if (watch->locked)
		take_rest(watch, RETRY_MIN, RETRY_MAX);
	if (opening != DUE_OPEN)
		return;

	watch->not_before = DT_NOBEGIN;
	ordflow_parked_read(table, now);
	watch->parked_at = table->retry_at;
	if (table->nready > 0 || watch->retry_at <= now)
		fire_again(watch, run, now);
	else if (watch->next <= now)
		fire_due(watch, run, now);
}

static void
adapt(Watch *watch, const DueRun *run, int64 elapsed)
{
	int			nrows = Max(run->nobjects, run->search.nkeys);

	if (elapsed > ROUND_LONG)
		watch->rows_max = Max(watch->rows_max / 2, 1);
	else if (elapsed < ROUND_SHORT && nrows == watch->rows_max)
		watch->rows_max = Min(watch->rows_max * 2, ROWS_MAX);
}

/* False: there is nothing to do here. */
static bool
do_transaction(Watch *watch, DueRun *run)
{
	if (!ordflow_worker_begin())
		return false;
	SPI_connect();
	MemoryContextSwitchTo(turn);
	if (!reload)
		do_round(watch, run);
	SPI_finish();
	ordflow_worker_commit();

	/* it was read and written, if it was opened */
	if (run->table->name != NULL && watch->not_before == DT_NOBEGIN)
	{
		watch->rest = 0;
		watch->warned = false;
	}
	return true;
}

/* An error, or a cancellation, is the table's, and the others go on. */
static bool
try_transaction(Watch *watch, DueRun *run)
{
	DueTable   *table = run->table;
	ErrorData  *volatile error = NULL;
	volatile bool active = true;

	PG_TRY();
	{
		active = do_transaction(watch, run);
	}
	PG_CATCH();
	{
		error = ordflow_worker_abort(turn);
	}
	PG_END_TRY();
	if (error != NULL)
	{
		run->nfired = 0;
		if (table->name == NULL)
			table->name = psprintf("%u", watch->target.relid);
		round_failed(watch, table, error);
	}
	return active;
}

/* False: there is nothing to do here. */
static bool
round_of(Watch *watch)
{
	TimestampTz start = GetCurrentTimestamp();
	TimestampTz end;
	DueTable	table = {0};
	DueRun		run = {.table = &table};

	if (!try_transaction(watch, &run))
		return false;
	ordflow_figures_fired(&run);
	end = GetCurrentTimestamp();
	adapt(watch, &run, end - start);
	if (run.search.nkeys > 0)
		watch->retried_until = end + RETRY_SHARE * (end - start);
	MemoryContextReset(turn);
	return true;
}

/* ---- the duty ---- */

static void
begin(void)
{
	ordflow_in_coordinator = true;
	if (memory == NULL)
	{
		memory = AllocSetContextCreate(TopMemoryContext, "ordflow timer", ALLOCSET_DEFAULT_SIZES);
		turn = AllocSetContextCreate(TopMemoryContext, "ordflow timer round",
									 ALLOCSET_DEFAULT_SIZES);
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	}
	MemoryContextReset(turn);
}

/* Takes in what is new since the last run. */
static void
note(TimestampTz noted, bool unblocked)
{
	TimestampTz now = GetCurrentTimestamp();
	ListCell   *cell;

	if (now < last_run)
		noted = DT_NOBEGIN;
	last_run = now;
	if (noted == DT_NOBEGIN)
		reload = true;
	foreach(cell, watches)
	{
		Watch	   *watch = lfirst(cell);

		watch->next = Min(watch->next, noted);
		watch->parked_at = Min(watch->parked_at, noted);
		if (noted == DT_NOBEGIN)
		{
			retries_clear(watch);
			watch->not_before = DT_NOBEGIN;
		}
		if (unblocked)
			retries_hasten(watch, now);
	}
}

/* When the next of its rows is due; DT_NOEND: none is. */
static TimestampTz
due_at(const Watch *watch)
{
	return Min(Min(watch->next, watch->parked_at), watch->retry_at);
}

static TimestampTz
wanted_at(const Watch *watch)
{
	TimestampTz due = due_at(watch);

	return Max(TIMESTAMP_NOT_FINITE(due) ? due : due + grace, watch->not_before);
}

/* ---- other drivers ---- */

/* Reads ordflow.timer_drivers: sets grace, and returns how many others there are. */
static int
read_drivers(char names[TIMER_DRIVERS_MAX][COMPANION_NAME_MAX])
{
	TimerDriverName drivers[TIMER_DRIVERS_MAX];
	int			ndrivers = ordflow_timer_driver_names(ordflow_timer_drivers, drivers);
	int			n = 0;

	grace = ordflow_timer_grace * MS;
	for (int i = 0; i < ndrivers; i++)
		if (strcmp(drivers[i].driver, "worker") == 0)
			grace = 0;
		else if (drivers[i].server[0] != '\0')
			snprintf(names[n++], COMPANION_NAME_MAX, "%s(%s)", drivers[i].driver,
					 drivers[i].server);
	return n;
}

/* Others run while a deadline is open, and a while longer; returns when to look again. */
static TimestampTz
ask_for_drivers(bool active)
{
	char		names[TIMER_DRIVERS_MAX][COMPANION_NAME_MAX];
	const char *wanted[TIMER_DRIVERS_MAX];
	int			n = read_drivers(names);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz again = DT_NOEND;
	ListCell   *cell;

	foreach(cell, watches)
		if (due_at(lfirst(cell)) != DT_NOEND)
			last_open = now;
	if (!active || last_open < now - LINGER)
		n = 0;
	else if (n > 0)
		again = last_open + LINGER;
	for (int i = 0; i < n; i++)
		wanted[i] = names[i];
	return ordflow_earlier(again, ordflow_companions_want(COMPANION_DRIVER, wanted, n));
}

/* Whoever gives us work again begins afresh. */
static TimestampTz
stop(void)
{
	watches_delete();
	reload = true;
	ask_for_drivers(false);
	return DT_NOEND;
}

/* One round for each table that has something due: notes are taken again after that. */
static TimestampTz
run(TimestampTz noted, bool unblocked)
{
	TimestampTz next = DT_NOEND;
	bool		blocked = false;
	ListCell   *cell;

	char		names[TIMER_DRIVERS_MAX][COMPANION_NAME_MAX];

	begin();
	read_drivers(names);
	note(noted, unblocked);
	if (reload && !watches_load())
		return stop();
	foreach(cell, watches)
	{
		Watch	   *watch = lfirst(cell);

		if (ordflow_worker_leaving())
			return DT_NOBEGIN;
		if (wanted_at(watch) <= GetCurrentTimestamp() && !round_of(watch))
			return stop();
		next = Min(next, wanted_at(watch));
		blocked |= watch->nretries > 0 || watch->locked;
	}
	ordflow_worker_blocked(blocked);
	next = ordflow_earlier(next, ask_for_drivers(true));
	return reload ? DT_NOBEGIN : next;
}

static void
failed(ErrorData *error)
{
	ordflow_figures_failed(error->sqlerrcode, error->message);
}

static const Duty duty = {
	.part = "timer",
	.run = run,
	.failed = failed,
};

void
ordflow_timer_init(void)
{
	ordflow_figures_init();
	ordflow_cron_init();
	ordflow_driver_init();
	ordflow_worker_register(DUTY_TIMER, &duty);
}

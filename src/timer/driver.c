/*
 * driver.c
 *	  The process of a timer driver: tells another system of deadlines, and fires what it
 *	  says has come due.
 *
 * What to tell comes from two places.  At the start, and whenever the other system may have
 * lost something, all open deadlines are read from the tables; after that each commit tells
 * of what it changed (worker/feed.c).  A transaction that ran already when the process
 * began did not know that anybody listens, so the tables are read once more when the last
 * of those has ended.
 *
 * What comes back are names only.  Their rows are looked up by key, and decide: what is due is
 * fired as the coordinator does it, what is not yet due is told again, what others hold is tried
 * again until the coordinator takes over, ordflow.timer_grace after the deadline.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "server/server.h"
#include "timer/driver.h"
#include "timer/internal.h"
#include "worker/worker.h"

#define MS INT64CONST(1000)

#define IDLE_MS			10000
#define LOOK_MS			1000
#define RECONNECT_MIN	(100 * MS)
#define RECONNECT_MAX	(30000 * MS)

/* What others hold is tried again after this, doubled each time. */
#define RETRY_MIN		(10 * MS)
#define RETRIES_MAX		10000

typedef struct Retry
{
	char	   *item;
	TimestampTz at;
	int64		delay;
	TimestampTz until;			/* the coordinator does it after that */
} Retry;

static const TimerDriver *driver = NULL;
static void *state = NULL;		/* NULL: not opened */
static bool connected = false;

static TimerDriverName me;
static bool gone = false;		/* the extension, or our right to act here */
static bool warned = false;		/* of this outage */
static int64 rest = 0;			/* until the next try to connect */
static TimestampTz connect_at = DT_NOBEGIN;
static TimestampTz idle_at = DT_NOBEGIN;

static bool publish_all = false;	/* everything is to be told */
static TimestampTz publish_at = DT_NOBEGIN;

/* Transactions that ran when we began to listen. */
static VirtualTransactionId *older = NULL;
static int	nolder = 0;
static TimestampTz look_at = DT_NOBEGIN;

static MemoryContext memory;	/* of the process */
static MemoryContext turn;		/* of one turn of the loop */
static MemoryContext tables;	/* of the list of tables */
static List *targets = NIL;
static bool tables_changed = true;
static Oid	orders = InvalidOid;
static Oid	holds = InvalidOid;

static Retry *retries = NULL;
static int	nretries = 0;

/* ---- errors ---- */

/* Shown in the view; in the log once in an outage. */
static void
complain(int sqlerrcode, const char *message, const char *hint)
{
	ordflow_companion_problem(message, hint);
	ordflow_figures_failed(sqlerrcode, message);
	if (!warned)
		ereport(WARNING,
				errcode(sqlerrcode),
				errmsg("timer driver %s(%s) does not work: %s", me.driver, me.server, message),
				hint != NULL && hint[0] != '\0' ? errhint("%s", hint) : 0);
	warned = true;
}

static void
disconnect(void)
{
	if (state != NULL)
		driver->close(state);
	state = NULL;
	connected = false;
	rest = Min(Max(rest * 2, RECONNECT_MIN), RECONNECT_MAX);
	connect_at = GetCurrentTimestamp() + rest;
}

/* Of the module: the connection is gone. */
static bool
module_failed(const ModuleError *error)
{
	complain(ERRCODE_ORDFLOW_UNAVAILABLE, error->message, error->hint);
	disconnect();
	if (error->misconfigured)
		connect_at = Max(connect_at, GetCurrentTimestamp() + 5000 * MS);
	return false;
}

/* ---- the server ---- */

static char *
name_space(const ModuleConfig *config)
{
	return psprintf("%s:" UINT64_FORMAT ":%u:due:", module_option(config, "prefix"),
					GetSystemIdentifier(), MyDatabaseId);
}

/* In a transaction. */
static void
load(void)
{
	MemoryContext context = MemoryContextSwitchTo(memory);
	ModuleConfig *config = ordflow_server_config(me.server, ordflow_owner());
	const OrdflowModule *module;

	if (strcmp(config->module, me.driver) != 0)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("server \"%s\" is of wrapper ordflow_%s, not ordflow_%s", me.server,
					   config->module, me.driver));
	module = ordflow_module_load(config->module);
	if (module->driver == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("module ordflow_%s has no timer driver", config->module));
	driver = module->driver;
	state = driver->open(config, name_space(config));
	if (state == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	MemoryContextSwitchTo(context);
}

/* Runs it in a transaction; false: there is none to be had, or it failed. */
static bool
in_transaction(void (*work) (void *arg), void *arg)
{
	ErrorData  *volatile error = NULL;
	volatile bool began = false;

	PG_TRY();
	{
		began = ordflow_worker_begin();
		if (began)
		{
			SPI_connect();
			MemoryContextSwitchTo(turn);
			work(arg);
			SPI_finish();
			ordflow_worker_commit();
		}
	}
	PG_CATCH();
	{
		error = ordflow_worker_abort(turn);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(turn);
	if (error != NULL)
		complain(error->sqlerrcode, error->message, error->hint);
	else if (!began)
		gone = true;
	return began && error == NULL;
}

static void
load_in_transaction(void *arg)
{
	load();
}

static void
connect_server(void)
{
	ModuleError error = {0};

	if (state == NULL && !in_transaction(load_in_transaction, NULL))
	{
		disconnect();
		return;
	}
	if (!driver->connect(state, &error))
	{
		module_failed(&error);
		return;
	}
	connected = true;
	warned = false;
	rest = 0;
	publish_all = true;
	ordflow_companion_problem(NULL, NULL);
}

/* ---- tables and items ---- */

static void
relation_changed(Oid relid)
{
	tables_changed = true;
}

/* In a transaction: the tables with deadlines, until one of them changes. */
static void
load_tables(void)
{
	MemoryContext context;
	ListCell   *cell;

	if (!tables_changed)
		return;
	targets = NIL;
	MemoryContextReset(tables);
	context = MemoryContextSwitchTo(tables);
	tables_changed = false;
	orders = ordflow_relid("orders");
	holds = ordflow_relid("holds");
	foreach(cell, lappend(ordflow_machine_targets(InvalidOid), ordflow_due_holds()))
		if (((MachineTarget *) lfirst(cell))->due_column != NULL)
			targets = lappend(targets, lfirst(cell));
	MemoryContextSwitchTo(context);
}

static char *
item_of(Oid relid, const char *key)
{
	if (relid == orders)
		return pstrdup(key);
	return relid == holds ? psprintf("hold:%s", key) : psprintf("%u:%s", relid, key);
}

/* The table that the item is of, and its key; invalid where it makes no sense. */
static Oid
read_item(const char *item, const char **key)
{
	const char *colon = strchr(item, ':');
	char	   *end;
	Oid			relid;

	*key = item;
	if (colon == NULL)
		return orders;
	*key = colon + 1;
	if (strncmp(item, "hold:", 5) == 0)
		return holds;
	relid = strtoul(item, &end, 10);
	return end == colon ? relid : InvalidOid;
}

/* Rounded up: an event that comes too early is one more round. */
static int64
delay_until(TimestampTz due, TimestampTz now)
{
	return due <= now ? 1 : (due - now) / 1000 + 1;
}

static bool
put(Deadline *deadlines, int n)
{
	ModuleError error = {0};

	/* what is not told now is told when the connection is back */
	if (!connected)
		return false;
	for (int i = 0; i < n; i += DRIVER_ITEMS_MAX)
		if (!driver->put(state, &deadlines[i], Min(n - i, DRIVER_ITEMS_MAX), &error))
			return module_failed(&error);
	if (n > 0)
		ordflow_figures_published(n);
	return true;
}

/* ---- telling everything ---- */

/* The rows of one table, some at a time, in the order of their deadlines. */
typedef struct Reading
{
	const MachineTarget *target;
	TimestampTz from;
	int			limit;
	int			n;
	DueRow	   *rows;
	bool		locked;
} Reading;

static void
read_rows(void *arg)
{
	Reading    *reading = arg;
	DueTable	table;
	DueSearch	search = {.from = reading->from, .until = DT_NOEND - 1, .limit = reading->limit};
	DueOpening	opening = ordflow_due_open(&table, reading->target);

	reading->n = 0;
	reading->locked = opening == DUE_LOCKED;
	if (opening == DUE_OPEN)
		reading->n = ordflow_due_read(&table, &search, &reading->rows);
}

static bool
put_rows(const Reading *reading)
{
	Deadline   *deadlines = palloc(sizeof(Deadline) * Max(reading->n, 1));
	TimestampTz now = GetCurrentTimestamp();

	for (int i = 0; i < reading->n; i++)
	{
		deadlines[i].item = item_of(reading->target->relid, reading->rows[i].key);
		deadlines[i].delay_ms = delay_until(reading->rows[i].due, now);
	}
	return put(deadlines, reading->n);
}

/* False: the rest is to be told later. */
static bool
publish_table(const MachineTarget *target)
{
	Reading		reading = {.target = target, .from = DT_NOBEGIN, .limit = DRIVER_ITEMS_MAX};

	for (;;)
	{
		MemoryContextReset(turn);
		if (ordflow_worker_leaving() || !in_transaction(read_rows, &reading) ||
			reading.locked || !put_rows(&reading))
			return false;
		if (reading.n < reading.limit)
			return true;
		/* rows with the last deadline come again, as others may share it */
		if (reading.rows[reading.n - 1].due == reading.from)
			reading.limit *= 2;
		reading.from = reading.rows[reading.n - 1].due;
	}
}

static void
load_tables_in_transaction(void *arg)
{
	load_tables();
}

static void
publish(void)
{
	ListCell   *cell;
	List	   *list;

	publish_at = GetCurrentTimestamp() + LOOK_MS * MS;
	if (!in_transaction(load_tables_in_transaction, NULL))
		return;
	publish_all = false;
	MemoryContextSwitchTo(memory);
	list = list_copy(targets);
	MemoryContextSwitchTo(turn);
	foreach(cell, list)
		if (!publish_all && (tables_changed || !publish_table(lfirst(cell))))
			publish_all = true;
	list_free(list);
}

/* ---- telling what commits say ---- */

static void
tell_notes(void)
{
	static DeadlineNote notes[DRIVER_ITEMS_MAX];
	bool		overtaken;
	int			n;

	while (connected && (n = ordflow_feed_read(notes, DRIVER_ITEMS_MAX, &overtaken)) + overtaken)
	{
		TimestampTz now = GetCurrentTimestamp();
		Deadline   *deadlines = palloc(sizeof(Deadline) * Max(n, 1));
		int			k = 0;

		publish_all |= overtaken;
		for (int i = 0; i < n; i++)
		{
			if (!OidIsValid(notes[i].relid))
			{
				publish_all = tables_changed = true;
				continue;
			}
			deadlines[k].item = item_of(notes[i].relid, notes[i].key);
			deadlines[k++].delay_ms = TIMESTAMP_IS_NOEND(notes[i].due) ? -1 :
				delay_until(notes[i].due, now);
		}
		put(deadlines, k);
		MemoryContextReset(turn);
	}
}

/* Those that ran when we began may have brought what nobody told. */
static void
look_for_older(void)
{
	int			left = 0;

	if (nolder == 0 || GetCurrentTimestamp() < look_at)
		return;
	for (int i = 0; i < nolder; i++)
		if (!VirtualXactLock(older[i], false))
			older[left++] = older[i];
	nolder = left;
	look_at = GetCurrentTimestamp() + LOOK_MS * MS;
	if (nolder == 0)
		publish_all = true;
}

/* ---- firing ---- */

/* Items in one transaction, and what becomes of them. */
typedef struct Firing
{
	const char **items;
	int			n;
	DueRun	   *runs;			/* for the figures, when they are committed */
	int			nruns;
	Deadline   *again;			/* not due yet */
	int			nagain;
	const char **held;			/* by others */
	TimestampTz *held_due;
	int			nheld;
} Firing;

static void
note_held(Firing *firing, const MachineTarget *target, const char *key, TimestampTz due)
{
	firing->held[firing->nheld] = item_of(target->relid, key);
	firing->held_due[firing->nheld++] = due;
}

/* What is left of the keys after they have been fired. */
static void
sort_rest(Firing *firing, const DueTable *table, const DueSearch *tried)
{
	DueSearch	search = *tried;
	DueRow	   *rows;
	int			n;
	TimestampTz now = GetCurrentTimestamp();

	search.until = DT_NOEND - 1;
	n = ordflow_due_read(table, &search, &rows);
	for (int i = 0; i < n; i++)
		if (rows[i].due <= now)
			note_held(firing, table->target, rows[i].key, rows[i].due);
		else
		{
			firing->again[firing->nagain].item = item_of(table->target->relid, rows[i].key);
			firing->again[firing->nagain++].delay_ms = delay_until(rows[i].due, now);
		}
}

static void
fire_table(Firing *firing, const MachineTarget *target)
{
	const char **keys = palloc(sizeof(char *) * firing->n);
	DueTable   *table = palloc0(sizeof(DueTable));
	DueRun	   *run = &firing->runs[firing->nruns];
	TimestampTz now = GetCurrentTimestamp();
	DueOpening	opening;
	ErrorData  *error;
	int			n = 0;

	for (int i = 0; i < firing->n; i++)
	{
		const char *key;

		if (read_item(firing->items[i], &key) == target->relid)
			keys[n++] = key;
	}
	if (n == 0)
		return;
	opening = ordflow_due_open(table, target);
	if (opening == DUE_LOCKED)
		for (int i = 0; i < n; i++)
			note_held(firing, target, keys[i], now);
	if (opening != DUE_OPEN)
		return;

	ordflow_parked_read(table, now);
	*run = (DueRun) {.table = table};
	run->search = (DueSearch) {.keys = keys, .nkeys = n, .until = now, .limit = n};
	error = ordflow_due_fire(run);
	if (error != NULL && !ordflow_due_is_busy(error->sqlerrcode))
	{
		/* the coordinator comes to it, and says so */
		ordflow_figures_failed(error->sqlerrcode, error->message);
		return;
	}
	if (error == NULL)
		firing->nruns++;
	if (run->nparked > 0)
		ordflow_parked_read(table, now);
	sort_rest(firing, table, &run->search);
}

static void
fire_items(void *arg)
{
	Firing	   *firing = arg;
	ListCell   *cell;
	int			most;

	load_tables();
	most = firing->n * Max(list_length(targets), 1);
	firing->runs = palloc0(sizeof(DueRun) * Max(list_length(targets), 1));
	firing->again = palloc(sizeof(Deadline) * most);
	firing->held = palloc(sizeof(char *) * most);
	firing->held_due = palloc(sizeof(TimestampTz) * most);
	foreach(cell, targets)
		fire_table(firing, lfirst(cell));
}

static void
retry_later(const char *item, TimestampTz due, int64 delay)
{
	TimestampTz now = GetCurrentTimestamp();
	Retry	   *retry;

	if (nretries == RETRIES_MAX || now > due + ordflow_timer_grace * MS)
		return;
	retry = &retries[nretries++];
	retry->item = MemoryContextStrdup(memory, item);
	retry->at = now + delay;
	retry->delay = delay;
	retry->until = due + ordflow_timer_grace * MS;
}

/* delay: how long what others hold has waited already. */
static bool
fire(const char **items, int n, int64 delay)
{
	Firing		firing = {.items = items, .n = n};

	if (n == 0)
		return true;
	if (!in_transaction(fire_items, &firing))
		return true;
	for (int i = 0; i < firing.nruns; i++)
		ordflow_figures_fired(&firing.runs[i]);
	for (int i = 0; i < firing.nheld; i++)
		retry_later(firing.held[i], firing.held_due[i], Max(2 * delay, RETRY_MIN));
	return put(firing.again, firing.nagain);
}

static void
fire_events(void)
{
	ModuleError error = {0};
	int			n;

	do
	{
		const char **items = palloc(sizeof(char *) * DRIVER_ITEMS_MAX);

		n = driver->poll(state, items, DRIVER_ITEMS_MAX, &error);
		if (n < 0)
		{
			module_failed(&error);
			break;
		}
		for (int i = 0; i < n; i++)
			items[i] = pstrdup(items[i]);
		if (n > 0 && fire(items, n, 0) && !driver->done(state, &error))
			module_failed(&error);
		MemoryContextReset(turn);
	} while (n > 0 && connected && !ordflow_worker_leaving());
}

static void
fire_retries(void)
{
	TimestampTz now = GetCurrentTimestamp();
	const char **items = palloc(sizeof(char *) * Max(nretries, 1));
	int64		delay = 0;
	int			n = 0;

	for (int i = nretries - 1; i >= 0; i--)
		if (retries[i].at <= now)
		{
			items[n++] = pstrdup(retries[i].item);
			delay = Max(delay, retries[i].delay);
			pfree(retries[i].item);
			retries[i] = retries[--nretries];
		}
	fire(items, n, delay);
	MemoryContextReset(turn);
}

/* ---- the process ---- */

/* Milliseconds until there is something to do that nobody wakes us for. */
static long
time_to_sleep(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz at = connected ? idle_at : connect_at;

	for (int i = 0; i < nretries; i++)
		at = Min(at, retries[i].at);
	if (nolder > 0)
		at = Min(at, look_at);
	if (connected && publish_all)
		at = Min(at, publish_at);
	return Max(0, Min((at - now + 999) / 1000, IDLE_MS));
}

static void
wait_for_events(void)
{
	int			events = WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH;
	pgsocket	socket = connected ? driver->socket(state) : PGINVALID_SOCKET;

	if (socket != PGINVALID_SOCKET)
		events |= WL_SOCKET_READABLE;
	WaitLatchOrSocket(MyLatch, events, socket, time_to_sleep(), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

static void
do_nothing(void *arg)
{
}

/* Looks whether we are still to act here, and keeps the connection alive. */
static void
be_idle(void)
{
	ModuleError error = {0};
	TimestampTz now = GetCurrentTimestamp();

	if (now < idle_at)
		return;
	idle_at = now + IDLE_MS * MS;
	if (!in_transaction(do_nothing, NULL) || !connected)
		return;
	if (!driver->idle(state, &error))
		module_failed(&error);
	else
	{
		warned = false;
		ordflow_companion_problem(NULL, NULL);
	}
}

static void
do_turn(void)
{
	if (!connected && GetCurrentTimestamp() >= connect_at)
		connect_server();
	look_for_older();
	if (connected && publish_all && GetCurrentTimestamp() >= publish_at)
		publish();
	if (connected)
		tell_notes();
	if (connected)
		fire_events();
	if (nretries > 0)
		fire_retries();
	be_idle();
	MemoryContextReset(turn);
}

/* Where the server goes down the keys stay: after its start they bring their events. */
static void
leave(void)
{
	ModuleError error = {0};

	if (ProcDiePending || state == NULL)
		return;
	if (!driver->clear(state, &error))
		complain(ERRCODE_ORDFLOW_UNAVAILABLE, error.message, error.hint);
	driver->close(state);
	state = NULL;
}

static void
driver_main(const char *name)
{
	TimerDriverName names[TIMER_DRIVERS_MAX];

	if (ordflow_timer_driver_names(name, names) != 1)
		elog(ERROR, "\"%s\" is no timer driver", name);
	me = names[0];
	memory = AllocSetContextCreate(TopMemoryContext, "ordflow driver", ALLOCSET_DEFAULT_SIZES);
	turn = AllocSetContextCreate(memory, "ordflow driver turn", ALLOCSET_DEFAULT_SIZES);
	tables = AllocSetContextCreate(memory, "ordflow driver tables", ALLOCSET_SMALL_SIZES);
	retries = MemoryContextAlloc(memory, sizeof(Retry) * RETRIES_MAX);
	ordflow_in_coordinator = true;
	ordflow_figures_of_driver();
	ordflow_on_relation_change(relation_changed);

	ordflow_feed_open();
	MemoryContextSwitchTo(memory);
	older = GetCurrentVirtualXIDs(InvalidTransactionId, false, false, 0, &nolder);
	MemoryContextSwitchTo(turn);
	while (!ordflow_worker_leaving() && !gone)
	{
		do_turn();
		if (!ordflow_worker_leaving() && !gone)
			wait_for_events();
	}
	leave();
}

static const CompanionKind kind = {
	.title = "driver",
	.duty = DUTY_TIMER,
	.main = driver_main,
};

void
ordflow_driver_init(void)
{
	ordflow_companion_register(COMPANION_DRIVER, &kind);
}

/*
 * driver.c
 *	  The process of a timer driver: tells another system of deadlines, and fires what it
 *	  says has come due.
 *
 * What to tell comes from two places.  At the start, and whenever the other system may have
 * lost something, all open deadlines are read from the tables, some rows a turn; meanwhile, and
 * after that, each commit tells of what it changed (worker/feed.c).  A transaction that ran
 * already when the process began did not know that anybody listens, so the tables are read once
 * more when the last of those has ended.
 *
 * What comes back are names only.  Their rows are looked up by key, and decide: what is due is
 * fired as the coordinator does it, what is not yet due is told again, what others hold is tried
 * again until the coordinator takes over, ordflow.timer_grace after the deadline.
 *
 * An outage lasts until everything has been told: only then is it forgotten, and the next one
 * begins with the shortest rest.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "storage/procsignal.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "server/server.h"
#include "timer/driver.h"
#include "timer/internal.h"
#include "worker/worker.h"

#define MS INT64CONST(1000)

#define IDLE_MS			10000
#define LOOK_MS			1000
#define RECONNECT_MIN	(100 * MS)
#define RECONNECT_MAX	(30000 * MS)

/* How long the rest of the process may take when it is to leave. */
#define LEAVE_MS		3000

/* What others hold is tried again after this, doubled each time; so is a table that is locked. */
#define RETRY_MIN		(10 * MS)
#define RETRY_MAX		(1000 * MS)
#define TABLE_REST_MAX	(60000 * MS)
#define RETRIES_MAX		10000

typedef struct Retry
{
	uint64		hash;			/* of the item: two alike would be one, and wait for the grace */
	char	   *item;
	TimestampTz at;
	int64		delay;
	TimestampTz until;			/* the coordinator does it after that */
	bool		trying;
} Retry;

/* A table of which all open deadlines are to be told. */
typedef struct Telling
{
	MachineTarget *target;
	TimestampTz from;			/* the next rows */
	int			limit;
	bool		told;
	TimestampTz at;				/* not before, as it was locked or failed */
	int64		rest;
} Telling;

static const TimerDriver *driver = NULL;
static ModuleConfig *config = NULL;
static void *state = NULL;		/* NULL: never opened */
static bool connected = false;
static bool server_changed = false; /* somebody has altered a server or a mapping */

static TimerDriverName me;
static bool gone = false;		/* the extension, or our right to act here */
static bool warned = false;		/* of this outage */
static int64 rest = 0;			/* until the next try to connect */
static TimestampTz leave_by = DT_NOEND;

/* When it is time for what; all begin anew when the clock is set back. */
static TimestampTz clock_was = DT_NOBEGIN;
static TimestampTz connect_at = DT_NOBEGIN;
static TimestampTz idle_at = DT_NOBEGIN;
static TimestampTz look_at = DT_NOBEGIN;
static TimestampTz retry_at = DT_NOEND;

static bool tell_all = false;	/* everything is to be told, from the start */
static bool told_any = false;	/* on this connection */
static Telling *tellings = NULL;
static int	ntellings = 0;
static int	untold = 0;			/* of them */

/* Transactions that ran when we began to listen. */
static VirtualTransactionId *older = NULL;
static int	nolder = 0;

static MemoryContext memory;	/* of the process */
static MemoryContext turn;		/* of one turn of the loop */
static MemoryContext server;	/* of what was read of the server */
static MemoryContext tables;	/* of the list of tables */
static MemoryContext telling;	/* of the tables that are to be told */
static List *targets = NIL;
static bool tables_changed = true;
static Oid	orders = InvalidOid;
static Oid	holds = InvalidOid;

static HTAB *retries = NULL;
static bool unacknowledged = false; /* items that came are tried again, and not told done */

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

/* All is well again. */
static void
recovered(void)
{
	warned = false;
	rest = 0;
	ordflow_companion_problem(NULL, NULL);
}

/* The state stays, to be cleared by it. */
static void
disconnect(void)
{
	connected = false;
	unacknowledged = false;
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

/* Asked by the module while it waits: commands of others must not wait for it. */
static bool
is_cancelled(void)
{
	volatile bool failed = false;

	PG_TRY();
	{
		if (ProcSignalBarrierPending)
			ProcessProcSignalBarrier();
	}
	PG_CATCH();
	{
		/* no error may pass through a client library */
		FlushErrorState();
		failed = true;
	}
	PG_END_TRY();
	return failed || (leave_by == DT_NOEND ? ordflow_worker_leaving() :
					  GetCurrentTimestamp() >= leave_by);
}

static char *
name_space(const ModuleConfig *of)
{
	return psprintf("%s:" UINT64_FORMAT ":%u:due:", module_option(of, "prefix"),
					GetSystemIdentifier(), MyDatabaseId);
}

/* In a transaction. */
static ModuleConfig *
read_config(void)
{
	ModuleConfig *read = ordflow_server_config(me.server, ordflow_owner());

	if (strcmp(read->module, me.driver) != 0)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("server \"%s\" is of wrapper ordflow_%s, not ordflow_%s", me.server,
					   read->module, me.driver));
	read->cancelled = is_cancelled;
	return read;
}

static bool
is_same_config(const ModuleConfig *a, const ModuleConfig *b)
{
	if (a->noptions != b->noptions)
		return false;
	for (int i = 0; i < a->noptions; i++)
	{
		const char *left = a->options[i].value;
		const char *right = b->options[i].value;

		if ((left == NULL) != (right == NULL) || (left != NULL && strcmp(left, right) != 0))
			return false;
	}
	return true;
}

static void
close_server(void)
{
	if (state != NULL)
		driver->close(state);
	state = NULL;
	config = NULL;
	connected = false;
	MemoryContextReset(server);
}

/* In a transaction: makes the state, or makes it anew where the server is another now. */
static void
load(void *arg)
{
	ModuleConfig *read = read_config();
	const OrdflowModule *module = ordflow_module_load(read->module);
	MemoryContext context;

	if (module->driver == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("module ordflow_%s has no timer driver", read->module));
	if (config != NULL && is_same_config(read, config))
		return;
	close_server();
	driver = module->driver;
	context = MemoryContextSwitchTo(server);
	config = read_config();
	state = driver->open(config, name_space(config));
	MemoryContextSwitchTo(context);
	if (state == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
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
connect_server(void)
{
	ModuleError error = {0};

	if (!in_transaction(load, NULL))
	{
		disconnect();
		return;
	}
	server_changed = false;
	if (!driver->connect(state, &error))
	{
		module_failed(&error);
		return;
	}
	connected = true;
	told_any = false;
	tell_all = true;
}

/* In a transaction: raises where it cannot be read. */
static void
compare_config(void *arg)
{
	*(bool *) arg = config != NULL && is_same_config(read_config(), config);
}

/* Somebody has altered a server: where it is ours nothing stays at the old place. */
static void
follow_server(void)
{
	ModuleError error = {0};
	bool		same = false;

	server_changed = false;
	if (state == NULL || (in_transaction(compare_config, &same) && same) || gone)
		return;
	if (!driver->clear(state, &error))
		complain(ERRCODE_ORDFLOW_UNAVAILABLE, error.message, error.hint);
	close_server();
	connect_at = DT_NOBEGIN;
}

static void
note_server_changed(Datum arg, int cacheid, uint32 hash)
{
	server_changed = true;
}

/* ---- tables and items ---- */

/* A table that has become one is told of by a note. */
static void
relation_changed(Oid relid)
{
	ListCell   *cell;

	if (!OidIsValid(relid))
		tables_changed = true;
	else
		foreach(cell, targets)
			if (((MachineTarget *) lfirst(cell))->relid == relid)
				tables_changed = true;
}

static bool
has_deadlines(const MachineTarget *target)
{
	return target->due_column != NULL;
}

/* In a transaction: the tables with deadlines, in the current context. */
static List *
read_targets(void)
{
	List	   *result = NIL;
	ListCell   *cell;

	foreach(cell, lappend(ordflow_machine_targets(InvalidOid), ordflow_due_holds()))
		if (has_deadlines(lfirst(cell)))
			result = lappend(result, lfirst(cell));
	return result;
}

/* In a transaction: the tables with deadlines, until one of them changes. */
static void
load_tables(void)
{
	MemoryContext context;

	if (!tables_changed)
		return;
	targets = NIL;
	MemoryContextReset(tables);
	context = MemoryContextSwitchTo(tables);
	tables_changed = false;
	orders = ordflow_relid("orders");
	holds = ordflow_relid("holds");
	targets = read_targets();
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
	{
		told_any = true;
		ordflow_figures_published(n);
	}
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

/* In a transaction. */
static void
list_tellings(void *arg)
{
	MemoryContext context = MemoryContextSwitchTo(telling);
	List	   *list = read_targets();
	ListCell   *cell;

	tellings = palloc0(sizeof(Telling) * Max(list_length(list), 1));
	foreach(cell, list)
		tellings[ntellings++] = (Telling) {
			.target = lfirst(cell), .from = DT_NOBEGIN, .limit = DRIVER_ITEMS_MAX,
			.at = DT_NOBEGIN
		};
	MemoryContextSwitchTo(context);
	/* what commits tell from now on is read with these */
	load_tables();
}

static void
begin_telling(void)
{
	ModuleError error = {0};

	MemoryContextReset(telling);
	tellings = NULL;
	ntellings = untold = 0;
	if (driver->adds && told_any)
	{
		if (!driver->connect(state, &error))
		{
			module_failed(&error);
			return;
		}
		told_any = false;
	}
	if (!in_transaction(list_tellings, NULL))
	{
		ntellings = 0;
		disconnect();
		return;
	}
	tell_all = false;
	untold = ntellings;
}

static void
put_off(Telling *table)
{
	table->rest = Min(Max(2 * table->rest, RETRY_MIN), TABLE_REST_MAX);
	table->at = GetCurrentTimestamp() + table->rest;
}

/* Some rows of the table. */
static void
tell_some(Telling *table)
{
	Reading		reading = {.target = table->target, .from = table->from, .limit = table->limit};

	if (!in_transaction(read_rows, &reading) || reading.locked)
	{
		put_off(table);
		return;
	}
	if (!put_rows(&reading))
		return;
	if (reading.n < reading.limit)
	{
		table->told = true;
		if (--untold == 0)
			recovered();
		return;
	}
	/* rows with the last deadline come again, as others may share it */
	if (reading.rows[reading.n - 1].due == table->from)
		table->limit *= 2;
	table->from = reading.rows[reading.n - 1].due;
}

/* The next rows of the first table whose turn it is; the others are not held up by one. */
static void
tell_tables(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (tell_all)
		begin_telling();
	for (int i = 0; i < ntellings && connected; i++)
		if (!tellings[i].told && tellings[i].at <= now)
		{
			tell_some(&tellings[i]);
			return;
		}
}

/* When tell_tables() has something to do. */
static TimestampTz
next_telling(void)
{
	TimestampTz at = tell_all ? DT_NOBEGIN : DT_NOEND;

	for (int i = 0; i < ntellings && untold > 0; i++)
		if (!tellings[i].told)
			at = Min(at, tellings[i].at);
	return at;
}

/* ---- telling what commits say ---- */

/* One reading a turn: others have to get theirs. */
static void
tell_notes(void)
{
	static DeadlineNote notes[DRIVER_ITEMS_MAX];
	bool		overtaken;
	int			n = ordflow_feed_read(notes, DRIVER_ITEMS_MAX, &overtaken);
	TimestampTz now = GetCurrentTimestamp();
	Deadline   *deadlines = palloc(sizeof(Deadline) * Max(n, 1));
	int			k = 0;

	tell_all |= overtaken;
	for (int i = 0; i < n; i++)
	{
		if (!OidIsValid(notes[i].relid))
		{
			/* a commit tells us before it sends its invalidations */
			ordflow_worker_look_afresh();
			tell_all = tables_changed = true;
			continue;
		}
		deadlines[k].item = item_of(notes[i].relid, notes[i].key);
		deadlines[k++].delay_ms = TIMESTAMP_IS_NOEND(notes[i].due) ? -1 :
			delay_until(notes[i].due, now);
	}
	put(deadlines, k);
	if (n == DRIVER_ITEMS_MAX)
		SetLatch(MyLatch);
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
		tell_all = true;
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
forget_retry(Retry *retry)
{
	pfree(retry->item);
	hash_search(retries, &retry->hash, HASH_REMOVE, NULL);
}

/* What others hold, or what could not be committed. */
static void
retry_later(const char *item, TimestampTz due)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) item, strlen(item), 0);
	TimestampTz now = GetCurrentTimestamp();
	Retry	   *retry = hash_search(retries, &hash, HASH_FIND, NULL);

	if (retry == NULL)
	{
		TimestampTz until = due + ordflow_timer_grace * MS;

		if (hash_get_num_entries(retries) >= RETRIES_MAX || now > until)
			return;
		retry = hash_search(retries, &hash, HASH_ENTER, NULL);
		retry->item = MemoryContextStrdup(memory, item);
		retry->delay = 0;
		retry->until = until;
	}
	retry->delay = Min(Max(2 * retry->delay, RETRY_MIN), RETRY_MAX);
	retry->at = now + retry->delay;
	retry->trying = false;
	retry_at = Min(retry_at, retry->at);
}

/* False: they have not been dealt with, for whatever reason, and are tried again. */
static bool
fire(const char **items, int n)
{
	Firing		firing = {.items = items, .n = n};

	if (n == 0)
		return true;
	if (!in_transaction(fire_items, &firing))
	{
		TimestampTz now = GetCurrentTimestamp();

		for (int i = 0; i < n; i++)
			retry_later(items[i], now);
		return false;
	}
	for (int i = 0; i < firing.nruns; i++)
		ordflow_figures_fired(&firing.runs[i]);
	for (int i = 0; i < firing.nheld; i++)
		retry_later(firing.held[i], firing.held_due[i]);
	put(firing.again, firing.nagain);
	return true;
}

static void
acknowledge(void)
{
	ModuleError error = {0};

	unacknowledged = false;
	if (connected && !driver->done(state, &error))
		module_failed(&error);
}

/* One reading a turn, as for notes. */
static void
fire_events(void)
{
	ModuleError error = {0};
	const char **items = palloc(sizeof(char *) * DRIVER_ITEMS_MAX);
	int			n = driver->poll(state, items, DRIVER_ITEMS_MAX, &error);

	if (n < 0)
	{
		module_failed(&error);
		return;
	}
	for (int i = 0; i < n; i++)
		items[i] = pstrdup(items[i]);
	if (!fire(items, n))
		unacknowledged = true;
	else if (n > 0 && connected && !unacknowledged)
		acknowledge();
	if (n > 0)
		SetLatch(MyLatch);
}

/* Those whose time it is, at most so many; sets retry_at. */
static int
take_retries(const char **items, int max)
{
	TimestampTz now = GetCurrentTimestamp();
	HASH_SEQ_STATUS scan;
	Retry	   *retry;
	int			n = 0;

	retry_at = DT_NOEND;
	hash_seq_init(&scan, retries);
	while ((retry = hash_seq_search(&scan)) != NULL)
	{
		if (now > retry->until)
			forget_retry(retry);
		else if (retry->at <= now && n < max)
		{
			retry->trying = true;
			items[n++] = pstrdup(retry->item);
		}
		else
			retry_at = Min(retry_at, retry->at);
	}
	return n;
}

static void
fire_retries(void)
{
	const char **items = palloc(sizeof(char *) * DRIVER_ITEMS_MAX);
	HASH_SEQ_STATUS scan;
	Retry	   *retry;

	if (GetCurrentTimestamp() < retry_at)
		return;
	fire(items, take_retries(items, DRIVER_ITEMS_MAX));
	hash_seq_init(&scan, retries);
	while ((retry = hash_seq_search(&scan)) != NULL)
		if (retry->trying)
			forget_retry(retry);
	if (unacknowledged && hash_get_num_entries(retries) == 0)
		acknowledge();
}

/* ---- the process ---- */

/* Milliseconds until there is something to do that nobody wakes us for. */
static long
time_to_sleep(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz at = Min(connected ? idle_at : connect_at, retry_at);
	int64		ms;
	int64		next = connected && driver->next != NULL ? driver->next(state) : -1;

	if (nolder > 0)
		at = Min(at, look_at);
	if (connected)
		at = Min(at, next_telling());
	if (at <= now)
		return 0;
	ms = Min((at - now + 999) / 1000, IDLE_MS);
	return next >= 0 ? Min(next, ms) : ms;
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
	else if (untold == 0 && !tell_all)
		recovered();
}

static void
follow_clock(void)
{
	TimestampTz now = GetCurrentTimestamp();
	HASH_SEQ_STATUS scan;
	Retry	   *retry;

	/* by more than a correction */
	if (now < clock_was - LOOK_MS * MS)
	{
		connect_at = idle_at = look_at = now;
		tell_all = true;
		hash_seq_init(&scan, retries);
		while ((retry = hash_seq_search(&scan)) != NULL)
			retry->at = retry_at = now;
	}
	clock_was = now;
}

static void
do_turn(void)
{
	follow_clock();
	if (server_changed)
		follow_server();
	if (!connected && GetCurrentTimestamp() >= connect_at)
		connect_server();
	look_for_older();
	if (connected)
		tell_tables();
	if (connected)
		tell_notes();
	if (connected)
		fire_events();
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
	leave_by = GetCurrentTimestamp() + LEAVE_MS * MS;
	if (!driver->clear(state, &error))
		complain(ERRCODE_ORDFLOW_UNAVAILABLE, error.message, error.hint);
	close_server();
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
	server = AllocSetContextCreate(memory, "ordflow driver server", ALLOCSET_SMALL_SIZES);
	tables = AllocSetContextCreate(memory, "ordflow driver tables", ALLOCSET_SMALL_SIZES);
	telling = AllocSetContextCreate(memory, "ordflow driver telling", ALLOCSET_SMALL_SIZES);
	retries = hash_create("ordflow driver retries", 256,
						  &(HASHCTL) {.keysize = sizeof(uint64), .entrysize = sizeof(Retry),
									  .hcxt = memory},
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ordflow_in_coordinator = true;
	ordflow_figures_of_driver();
	ordflow_on_relation_change(relation_changed);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, note_server_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, note_server_changed, (Datum) 0);

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

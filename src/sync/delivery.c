/*
 * delivery.c
 *	  The process of one delivery: reads its spool and sends.
 *
 * It keeps nothing that a crash could take.  Where it stands the target says, or, of tables, a row
 * that is written with them; after any failure it asks there, goes back to the beginning of the
 * spool and passes over what is done.  What cannot be sent is put aside as a letter first, in a
 * transaction, and then passed over.
 *
 * A position at the target that this spool ought to hold but does not belongs to another history:
 * the source, or the target, was put back in time.  Then nothing is taken for "already there"; the
 * delivery is stopped, with the reason, until somebody has decided.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "storage/procsignal.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "server/server.h"
#include "sync/internal.h"
#include "sync/row.h"

#define REST_MIN		(50 * INT64CONST(1000))
#define REST_MAX		(30 * USECS_PER_SEC)
#define REST_MISCONFIGURED (5 * USECS_PER_SEC)
#define SAVE_EVERY		USECS_PER_SEC
#define IDLE_MS			1000L	/* then looks whether somebody has altered its server */
#define REPLAYS_MAX		500
#define MESSAGES_MAX	5000	/* delivered, to be removed from the outbox */
#define COPY_IDLE_MS	20L		/* while a copy waits for something */
#define INTERNAL_ERRORS_MAX 5	/* that may pass; then what they come with is to blame */

/* An item that goes to the letters. */
typedef struct Diverted
{
	Route	   *route;
	SinkItem	item;
	const char *state;
	const char *sqlstate;
	const char *message;
} Diverted;

static int64 my_id;
static DeliveryShared *shared = NULL;
static SyncDelivery *me = NULL;
static MemoryContext config_memory = NULL;
static MemoryContext server_memory = NULL;
static MemoryContext relation_memory = NULL;
static MemoryContext batch_memory = NULL;

static List *syncs = NIL;		/* of SyncDefinition */
static List *routes = NIL;
static Route *emit_route = NULL;
static const Sink *sink = NULL; /* NULL: tables of this database */
static ModuleConfig *server = NULL;
static void *state = NULL;
static bool connected = false;
static bool server_changed = true;
static uint64 looked = 0;		/* as of the decoder, when the syncs were read */
static bool look_again = true;
static bool must_look = false;	/* a change is of a sync that we have not heard of */

static SpoolReader reader;
static bool reading = false;
static uint32 spool_serial = 0;
static ChangeRelation **relations = NULL;
static uint32 nrelations = 0;

/* The transaction that is being read. */
static WireBegin transaction;
static bool in_source_transaction = false;

/* Where the target stands. */
static SinkPosition position;
static bool has_position = false;
static bool must_meet = false;	/* the position's transaction has to come by */
static bool target_open = false;	/* it has taken a part of a transaction, which is not durable */
static SinkPosition open_from;	/* then: where it stands until the rest has come */

/* What has been read, though not all of it made an item. */
static SinkPosition passed;
static TimestampTz passed_at = 0;

static ItemList items;
static List *diverted = NIL;
static bool in_transaction = false;

static int64 *messages = NULL;
static int	messages_size = 0;
static int	nmessages = 0;
static uint64 done_segment = 0; /* the reader was there when all was done */

static int64 rest = 0;
static bool one_by_one = false; /* something in a batch is refused: which? */
static bool row_by_row = false; /* a transaction is refused at its end: all of it become letters */
static bool again_at_end = false;	/* letters of it are to be tried when it is committed */
static bool half_applied = false;	/* a part of it is, in a transaction that is open */
static bool committing = false;
static int	internal_errors = 0;
static TimestampTz save_at = 0;
static SinkPosition saved;
static bool warned = false;

/* What an error is blamed on while items are made. */
static const Change *current_change = NULL;
static Route *current_route = NULL;
static const SinkItem *current_item = NULL;
static SinkPosition current_at;

static bool noted = false;		/* letters of the transaction that is open, as though committed */
static bool truncated = false;	/* some went with a TRUNCATE in it */
static bool has_letters = false;	/* something that was read since the last batch is a letter */
static bool must_replay = true;
static bool was_stopped = false;
static bool replay_failed = false;	/* what follows of its key must not be sent */

/* Of copies: when the next round may begin, though there is something to stream. */
static TimestampTz copy_at = 0;
static XLogRecPtr streamed = InvalidXLogRecPtr; /* what committed before it is at the target */

/* A round that was begun goes on before anything is streamed, or what came of it is noted. */
static bool round_again = false;
static bool must_settle = true;

/* Transactions that were streamed, which others may not see yet. */
static TransactionId *unseen = NULL;
static int	nunseen = 0;
static int	unseen_size = 0;

/* ---- telling ---- */

static void
tell_problem(const char *problem, const char *hint, bool misconfigured, TimestampTz retry_at)
{
	ordflow_companion_problem(problem, hint);
	SpinLockAcquire(&shared->mutex);
	strlcpy(shared->problem, problem ? problem : "", sizeof(shared->problem));
	shared->retry_at = retry_at;
	shared->misconfigured = misconfigured;
	if (problem != NULL)
		shared->errors++;
	SpinLockRelease(&shared->mutex);
	if (problem != NULL && !warned)
		ereport(WARNING,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("delivery %s of ordflow does not get on: %s",
					   me != NULL ? ordflow_delivery_name(me) : psprintf(INT64_FORMAT, my_id),
					   problem),
				hint != NULL && hint[0] != '\0' ? errhint("%s", hint) : 0);
	warned = problem != NULL;
}

static void
tell_progress(void)
{
	XLogRecPtr	lsn = passed.lsn;

	SpinLockAcquire(&shared->mutex);
	shared->sent = Max(shared->sent, lsn);
	shared->durable = Max(shared->durable, lsn);
	if (shared->durable >= shared->spooled)
		shared->pending_since = 0;
	else if (passed_at != 0)
		shared->pending_since = passed_at;
	SpinLockRelease(&shared->mutex);
}

/* The decoder needs no WAL that is before: our row tells so, whatever becomes of the spool. */
static void
tell_released(void)
{
	SpinLockAcquire(&shared->mutex);
	shared->released = me->released;
	SpinLockRelease(&shared->mutex);
}

static void
wait_for_something(long ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* Nobody wakes us for a server or a mapping that was altered. */
static void
take_invalidations(void)
{
	StartTransactionCommand();
	CommitTransactionCommand();
	MemoryContextSwitchTo(batch_memory);
}

static bool
syncs_changed(void)
{
	DecoderShared *decoder = ordflow_decoder_shared(false);

	return decoder != NULL && decoder->looked != looked;
}

/* Until a time, but for a latch that asks us to leave or to look. */
static void
rest_until(TimestampTz at)
{
	while (!ordflow_worker_leaving() && GetCurrentTimestamp() < at)
	{
		wait_for_something(Max(1, Min((at - GetCurrentTimestamp()) / 1000 + 1, IDLE_MS)));
		take_invalidations();
		if (shared->letters != 0 || server_changed || syncs_changed())
			return;
	}
}

/* Asked by the sink while it waits. */
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
		FlushErrorState();
		failed = true;
	}
	PG_END_TRY();
	return failed || ordflow_worker_leaving();
}

/* ---- transactions ---- */

/*
 * False: the extension is gone, or may not act here.  Here and at its end batch_memory is
 * current.
 */
static bool
begin(void)
{
	if (!in_transaction)
		in_transaction = ordflow_worker_begin();
	MemoryContextSwitchTo(batch_memory);
	return in_transaction;
}

static void
commit(void)
{
	if (in_transaction)
		ordflow_worker_commit();
	in_transaction = false;
	MemoryContextSwitchTo(batch_memory);
}

static void
abandon(void)
{
	AbortOutOfAnyTransaction();
	in_transaction = false;
	MemoryContextSwitchTo(batch_memory);
}

static ErrorData *
take_error(void)
{
	ErrorData  *error = ordflow_worker_abort(batch_memory);

	in_transaction = false;
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR))
		internal_errors++;
	return error;
}

/* ---- the spool ---- */

static void
stop_reading(void)
{
	ListCell   *cell;

	if (reading)
		ordflow_spool_read_close(&reader);
	reading = false;
	in_source_transaction = false;
	foreach(cell, routes)
		ordflow_route_forget_relation(lfirst(cell));
	if (relation_memory != NULL)
		MemoryContextReset(relation_memory);
	relations = NULL;
	nrelations = 0;
}

/* Whatever has been read and not done is read again. */
static void
go_back(void)
{
	/* of tables: what was applied of a transaction of the source must not be committed */
	if (in_transaction && in_source_transaction && sink == NULL)
		abandon();
	stop_reading();
	/* what was noted and is no letter is forgotten when they are read anew */
	must_replay |= noted;
	noted = truncated = half_applied = false;
	list_free(diverted);
	diverted = NIL;
	items = (ItemList) {0};
	has_letters = false;
	nmessages = 0;
	MemoryContextReset(batch_memory);
}

static void
keep_relation(const char *data, Size length)
{
	MemoryContext before = MemoryContextSwitchTo(relation_memory);
	uint32		number;
	ChangeRelation *relation = ordflow_wire_read_relation(data, length, &number);

	if (number >= nrelations)
	{
		uint32		n = Max(number + 1, nrelations * 2);
		ChangeRelation **more = palloc0(n * sizeof(ChangeRelation *));

		if (relations != NULL)
			memcpy(more, relations, nrelations * sizeof(ChangeRelation *));
		relations = more;
		nrelations = n;
	}
	relations[number] = relation;
	MemoryContextSwitchTo(before);
}

static bool
start_reading(void)
{
	if (reading)
		return true;
	if (shared->spool_serial == 0 || !ordflow_spool_read_open(&reader, my_id))
		return false;
	reading = true;
	done_segment = reader.first;
	/* what our own row tells of too was of this history; it need not be in the spool any more */
	must_meet = has_position && position.generation == me->generation && position.lsn > 0 &&
		position.lsn > reader.base && position.lsn > me->released &&
		!ordflow_copy_is_position(&position);
	/* of a former generation: the decoder has not begun the new one yet */
	if (reader.generation != me->generation)
		stop_reading();
	return reading;
}

/* ---- stopping by a gap ---- */

static Statement note_gap = {
	.sql = "UPDATE ordflow.sync_deliveries d SET problem = CASE WHEN n.any THEN $2 END, "
	"stopped = n.any, generation = greatest(generation, $3) + 1, backlog = true, sent = NULL, "
	"released = NULL FROM (SELECT EXISTS (SELECT FROM ordflow.syncs s JOIN "
	"ordflow.sync_deliveries o ON o.role = s.role AND o.server IS NOT DISTINCT FROM s.server "
	"WHERE o.delivery_id = $1 AND s.mode = 'cdc') AS any) AS n "
	"WHERE delivery_id = $1 AND NOT stopped",
	.nargs = 3,
	.argtypes = {INT8OID, TEXTOID, INT8OID}
};

static void
stop_by_gap(const char *problem)
{
	Datum		values[3] = {Int64GetDatum(my_id), CStringGetTextDatum(problem),
	Int64GetDatum(has_position ? position.generation : 0)};

	commit();
	tell_problem(problem, "SELECT ordflow.resume_sync(name) goes on with the present.", true, 0);
	if (!begin())
		return;
	values[1] = CStringGetTextDatum(problem);
	SPI_connect();
	ordflow_execute(&note_gap, values, NULL);
	SPI_finish();
	commit();
	ordflow_decoder_reload();
	look_again = was_stopped = true;
	connected = false;
	go_back();
}

/* ---- the configuration ---- */

static void
close_sink(void)
{
	if (state != NULL)
		sink->close(state);
	state = NULL;
	sink = NULL;
	server = NULL;
	connected = false;
	MemoryContextReset(server_memory);
}

static SyncDelivery *
find_me(void)
{
	ListCell   *cell;

	foreach(cell, ordflow_sync_deliveries())
	{
		SyncDelivery *delivery = lfirst(cell);

		if (delivery->delivery_id == my_id)
			return delivery;
	}
	return NULL;
}

static bool
is_same_config(const ModuleConfig *a, const ModuleConfig *b)
{
	if (strcmp(a->module, b->module) != 0 || a->noptions != b->noptions)
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

/* What the sink keeps for itself begins with this. */
static char *
name_space(const ModuleConfig *of)
{
	const char *prefix = module_option(of, "prefix");

	/* of a copied database others */
	return psprintf("%s:" UINT64_FORMAT ":%u:sync:%s:", prefix ? prefix : "ordflow",
					GetSystemIdentifier(), MyDatabaseId, me->token);
}

static void
load_server(void)
{
	ModuleConfig *read;
	const OrdflowModule *module;
	MemoryContext before;

	if (me->server == NULL)
		return;
	read = ordflow_server_config(me->server, get_role_oid(me->role, false));
	module = ordflow_module_load(read->module);
	if (module->sink == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("module ordflow_%s is no target of syncs", read->module));
	if (server != NULL && is_same_config(read, server))
		return;
	close_sink();
	before = MemoryContextSwitchTo(server_memory);
	sink = module->sink;
	server = ordflow_server_config(me->server, get_role_oid(me->role, false));
	server->cancelled = is_cancelled;
	state = sink->open(server, name_space(server));
	MemoryContextSwitchTo(before);
	if (state == NULL)
	{
		close_sink();
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory"));
	}
}

static void
forget_routes(void)
{
	ListCell   *cell;

	stop_reading();
	foreach(cell, routes)
	{
		Route	   *route = lfirst(cell);

		if (sink != NULL && state != NULL && sink->forget_route != NULL)
			sink->forget_route(state, &route->sink);
	}
	routes = NIL;
	emit_route = NULL;
}

static Route *
find_route(int64 sync_id)
{
	ListCell   *cell;

	if (sync_id == 0)
		return emit_route;
	foreach(cell, routes)
		if (((Route *) lfirst(cell))->sync->sync_id == sync_id)
			return lfirst(cell);
	return NULL;
}

static void
make_routes(List *copies)
{
	MemoryContext before;
	ListCell   *cell;

	before = MemoryContextSwitchTo(config_memory);
	foreach(cell, syncs)
		routes = lappend(routes, ordflow_route_make(lfirst(cell), sink, config_memory));
	foreach(cell, copies)
		find_route(((Copy *) lfirst(cell))->sync_id)->copy = lfirst(cell);
	if (sink != NULL)
		emit_route = ordflow_route_of_emit(sink, config_memory);
	MemoryContextSwitchTo(before);
}

/* Is there something left that could be cleared? */
static bool
target_is_there(void)
{
	return me->server == NULL || (OidIsValid(get_foreign_server_oid(me->server, true)) &&
								  OidIsValid(get_role_oid(me->role, true)));
}

static bool is_over(void);

/* In a transaction; false: the delivery is no more. */
static bool
read_config(void)
{
	MemoryContext before;
	List	   *copies = NIL;
	ListCell   *cell;

	forget_routes();
	me = NULL;
	syncs = NIL;
	MemoryContextReset(config_memory);
	SPI_connect();
	before = MemoryContextSwitchTo(config_memory);
	syncs = NIL;
	me = find_me();
	foreach(cell, me != NULL ? ordflow_sync_definitions() : NIL)
		if (((SyncDefinition *) lfirst(cell))->delivery_id == my_id)
			syncs = lappend(syncs, lfirst(cell));
	copies = ordflow_copies_load(syncs);
	MemoryContextSwitchTo(before);
	SPI_finish();
	if (me == NULL)
		return false;
	tell_released();
	if (syncs != NIL || !is_over() || target_is_there())
		load_server();
	make_routes(copies);
	ordflow_letters_wake(syncs);
	ordflow_letters_load(syncs);
	return true;
}

static Statement delete_delivery = {
	.sql = "DELETE FROM ordflow.sync_deliveries WHERE delivery_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement used_by_emit = {
	.sql = "SELECT emits AND (EXISTS (SELECT FROM pg_catalog.pg_foreign_server f "
	"WHERE f.srvname = d.server) OR EXISTS (SELECT FROM ordflow.outbox o WHERE o.server = d.server "
	"AND o.role = d.role)) FROM ordflow.sync_deliveries d WHERE delivery_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* No sync sends to it, nor does emit(), whose server may be gone: it leaves nothing behind. */
static bool
is_over(void)
{
	Datum		id = Int64GetDatum(my_id);
	bool		isnull;
	bool		over;

	if (syncs != NIL)
		return false;
	SPI_connect();
	ordflow_execute(&used_by_emit, &id, NULL);
	over = SPI_processed == 0 || !DatumGetBool(ordflow_result(0, 1, &isnull));
	SPI_finish();
	return over;
}

/* What the sink keeps at the target goes, where it can be reached. */
static void
clear_target(void)
{
	ModuleError error = {0};

	if (sink == NULL || state == NULL || sink->clear == NULL)
		return;
	if (!connected && !sink->connect(state, &error))
	{
		ereport(LOG,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("ordflow could not clear its position at server \"%s\": %s", me->server,
					   error.message));
		return;
	}
	if (!sink->clear(state, &error))
		ereport(LOG,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("ordflow could not clear its position at server \"%s\": %s", me->server,
					   error.message));
}

static void
end_delivery(void)
{
	Datum		id = Int64GetDatum(my_id);

	clear_target();
	if (!begin())
		return;
	SPI_connect();
	ordflow_execute(&delete_delivery, &id, NULL);
	SPI_finish();
	commit();
	stop_reading();
	ordflow_spool_remove(my_id);
	ordflow_delivery_forget(my_id);
}

/* ---- connecting ---- */

static void
retry_later(const ModuleError *error)
{
	TimestampTz at;

	connected = sink == NULL;
	rest = Min(Max(rest * 2, REST_MIN), REST_MAX);
	if (error->misconfigured)
		rest = Max(rest, REST_MISCONFIGURED);
	at = GetCurrentTimestamp() + rest;
	tell_problem(error->message, error->hint, error->misconfigured, at);
	go_back();
	rest_until(at);
}

static void
recovered(void)
{
	rest = 0;
	if (warned || shared->problem[0] != '\0')
		tell_problem(NULL, NULL, false, 0);
	warned = false;
}

/* What we have from our own row: of tables, and of sinks that keep no position. */
static void
position_of_row(void)
{
	has_position = me->sent != NULL && sink_position_parse(me->sent, &position);
	if (!has_position)
		memset(&position, 0, sizeof(position));
}

static bool
ask_position(ModuleError *error)
{
	SinkPosition known = {0};
	SinkPosition seen = target_open ? open_from : position;

	if (sink == NULL || !(sink->flags & SINK_KEEPS_POSITION))
	{
		position_of_row();
		return true;
	}
	/* our row may not say yet what this process has seen there */
	if (!has_position || seen.generation != me->generation)
		memset(&seen, 0, sizeof(seen));
	memset(&position, 0, sizeof(position));
	if (!sink->position(state, &position, &has_position, error))
		return false;
	if (me->sent != NULL && sink_position_parse(me->sent, &known) &&
		sink_position_compare(&seen, &known) < 0)
		seen = known;
	if (seen.generation > 0 &&
		(!has_position || sink_position_compare(&position, &seen) < 0))
	{
		stop_by_gap("the target has lost what was delivered: it was emptied, or put back in time");
		return true;
	}
	if (has_position && (position.generation > me->generation ||
						 (position.generation == me->generation &&
						  position.lsn > GetFlushRecPtr(NULL))))
		stop_by_gap("the target is ahead of this database, which was put back in time");
	return true;
}

/* Before anything is sent, the position tells whether a message is there that was sent again. */
static bool
settle_replays(void)
{
	if (sink == NULL || syncs == NIL)
		return true;
	if (!begin())
		return false;
	ordflow_letters_settle(syncs, &position);
	commit();
	return true;
}

static bool
connect_target(void)
{
	ModuleError error = {0};

	if (connected)
		return true;
	if (sink != NULL && !sink->connect(state, &error))
	{
		retry_later(&error);
		return false;
	}
	if (!ask_position(&error))
	{
		retry_later(&error);
		return false;
	}
	if (me->stopped || look_again || !settle_replays())
		return false;
	connected = true;
	target_open = false;
	if (was_stopped)
		tell_problem(NULL, NULL, false, 0);
	was_stopped = false;
	passed = position;
	saved = position;
	streamed = InvalidXLogRecPtr;
	must_settle = true;
	stop_reading();
	return true;
}

/* ---- letters ---- */

static void
divert(Route *route, const SinkItem *item, const char *letter_state, const char *sqlstate,
	   const char *message)
{
	MemoryContext before = MemoryContextSwitchTo(batch_memory);
	Diverted   *entry = palloc0(sizeof(Diverted));

	entry->route = route;
	entry->item = *item;
	entry->state = letter_state;
	entry->sqlstate = sqlstate;
	entry->message = message;
	diverted = lappend(diverted, entry);
	has_letters = true;
	MemoryContextSwitchTo(before);
}

static Statement pause_by_problem = {
	.sql = "UPDATE ordflow.syncs SET paused = true, problem = $2 WHERE sync_id = $1",
	.nargs = 2,
	.argtypes = {INT8OID, TEXTOID}
};

/* In a transaction. */
static void
write_letters(void)
{
	ListCell   *cell;

	foreach(cell, diverted)
	{
		Diverted   *entry = lfirst(cell);

		if (entry->item.op == SINK_TRUNCATE && entry->state == NULL)
			ordflow_letters_forget(entry->route->sync->sync_id, &entry->item.at);
		else
			ordflow_letter_put(entry->route->sync, &entry->item, entry->state, entry->sqlstate,
							   entry->message);
	}
}

/* They are committed, or will be: what they say holds from now on.  True: some are gone. */
static bool
note_letters(void)
{
	bool		gone = false;
	ListCell   *cell;

	foreach(cell, diverted)
	{
		Diverted   *entry = lfirst(cell);

		if (entry->state == NULL)
		{
			gone = true;
			continue;
		}
		ordflow_letter_note(entry->route->sync->sync_id, &entry->item,
							entry->route->options->on_error == ON_ERROR_PARK);
	}
	diverted = NIL;
	return gone;
}

/* Is it about what the tables look like, and not about this row? */
bool
ordflow_sync_error_is_schema(int sqlerrcode)
{
	int			class = ERRCODE_TO_CATEGORY(sqlerrcode);

	return class == ERRCODE_TO_CATEGORY(ERRCODE_SYNTAX_ERROR) ||
		class == ERRCODE_TO_CATEGORY(ERRCODE_INVALID_SCHEMA_NAME) ||
		class == ERRCODE_TO_CATEGORY(ERRCODE_FEATURE_NOT_SUPPORTED) ||
		class == ERRCODE_TO_CATEGORY(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION);
}

/* In a transaction. */
static void
note_pause(Route *route, const char *problem)
{
	Datum		values[2] = {Int64GetDatum(route->sync->sync_id)};

	values[1] = CStringGetTextDatum(problem);
	SPI_connect();
	ordflow_execute(&pause_by_problem, values, NULL);
	SPI_finish();
	route->sync->paused = true;
	look_again = true;
}

/* The sync alone stops: its changes wait as letters until somebody resumes it. */
static void
pause_sync(Route *route, const char *problem)
{
	ereport(WARNING,
			errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
			errmsg("sync \"%s\" is paused: %s", route->sync->name, problem),
			errhint("Mend it, then SELECT ordflow.resume_sync(%s); its changes are kept.",
					quote_literal_cstr(route->sync->name)));
	if (!begin())
		return;
	note_pause(route, problem);
	commit();
	go_back();
}

/* Letters of their own transaction; then everything is read again, past them. */
static void
put_aside(Route *route, const SinkItem *given, int n, const char *sqlstate, const char *message)
{
	bool		again = route->is_table && sqlstate != NULL && strncmp(sqlstate, "23", 2) == 0;

	/* what a constraint refuses may fit when the whole transaction is there */
	again_at_end |= again;
	diverted = NIL;
	for (int i = 0; i < n; i++)
		divert(route, &given[i], route->sync->paused ? "waiting" : again ? "replay" : "dead",
			   sqlstate, message);
	if (!begin())
		return;
	write_letters();
	commit();
	look_again |= note_letters();
	go_back();
}

static Route *
route_of(const SinkItem *item)
{
	ListCell   *cell;

	foreach(cell, routes)
		if (&((Route *) lfirst(cell))->sink == item->route)
			return lfirst(cell);
	return emit_route;
}

/*
 * What cannot be sent, and why: one item, or what stands for one change; sync_id 0 is of emit():
 * never put aside.  What comes behind a TRUNCATE would go with it, were that sent later.
 */
static void
refused(Route *route, const SinkItem *given, int n, const char *sqlstate, const char *message,
		const char *hint)
{
	ModuleError error = {.misconfigured = true};

	one_by_one = false;
	if (route != NULL && route->sync->sync_id != 0 &&
		(route->options->on_error != ON_ERROR_STOP || route->sync->paused))
	{
		/* all of it lies in what is reset at the end of the batch, after this */
		if (given->op == SINK_TRUNCATE)
			pause_sync(route, message);
		else
			put_aside(route, given, n, sqlstate, message);
		return;
	}
	strlcpy(error.message, message, sizeof(error.message));
	strlcpy(error.hint, hint ? hint : "", sizeof(error.hint));
	retry_later(&error);
}

/* ---- making items ---- */

/* Those that are done already, that wait, or that stand behind a letter do not go out. */
static void
sort_out(Route *route, int from)
{
	int			to = from;

	for (int i = from; i < items.n; i++)
	{
		SinkItem   *item = &items.items[i];
		int64		sync_id = route->sync->sync_id;

		if (has_position && sink_position_compare(&item->at, &position) <= 0)
			continue;
		if (ordflow_letter_is_there(sync_id, &item->at, false))
		{
			has_letters = true;
			continue;
		}
		if (route->sync->paused)
			divert(route, item, "waiting", NULL, NULL);
		else if (ordflow_letter_is_parked(sync_id, item->key, item->key_length))
			divert(route, item, "parked", NULL, "an earlier change of this key is a dead letter");
		else if (row_by_row && route->options->on_error != ON_ERROR_STOP)
			divert(route, item, "replay", NULL, NULL);
		else
		{
			/* the rows of older letters are gone too */
			if (item->op == SINK_TRUNCATE && ordflow_letters_any())
				divert(route, item, NULL, NULL, NULL);
			items.items[to++] = *item;
		}
	}
	items.n = to;
}

/* Whatever became of it, all of it is behind the position: no expression runs over it again. */
static bool
is_sent(void)
{
	SinkPosition last = current_at;

	last.part += SYNC_PARTS - 1;
	return has_position && sink_position_compare(&last, &position) <= 0;
}

/* An expression failed on it before: there is a letter, and no item to sort out. */
static bool
is_done(Route *route)
{
	bool		there = ordflow_letter_is_there(route->sync->sync_id, &current_at, true);

	has_letters |= there;
	return there;
}

/* Have the syncs been read anew by the decoder? */
static bool
has_news(void)
{
	DecoderShared *decoder = ordflow_decoder_shared(false);

	return decoder != NULL && decoder->looked != looked;
}

static void
make_items(WireChange *wire)
{
	wire->change.commit_lsn = transaction.commit_lsn;
	wire->change.committed_at = transaction.committed_at;
	wire->change.xid = transaction.xid;
	wire->change.ordinal = wire->place;
	current_at = (SinkPosition) {me->generation, transaction.commit_lsn, wire->place, 0};
	current_change = &wire->change;
	for (int i = 0; i < wire->nsyncs; i++)
	{
		Route	   *route = find_route(wire->sync_ids[i]);
		int			before = items.n;

		/* the same numbers whatever becomes of other syncs' items */
		current_at.part = i * SYNC_PARTS;
		if (route == NULL && has_news())
			must_look = true;
		if (route == NULL || must_look || is_sent() || is_done(route))
			continue;
		if (route->copy != NULL && ordflow_copy_holds(route->copy, transaction.xid))
			continue;
		current_route = route;
		if (wire->too_large)
			ereport(ERROR,
					errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					errmsg("the row takes more than %d MB", SYNC_ROW_MAX / 1024 / 1024));
		if (!in_transaction && ordflow_route_needs_sql(route, &wire->change) && !begin())
			ereport(ERROR,
					errcode(ERRCODE_ADMIN_SHUTDOWN),
					errmsg("ordflow may not act in this database"));
		ordflow_route_change(route, &wire->change, &current_at, &items);
		sort_out(route, before);
	}
	current_route = NULL;
	current_change = NULL;
}

static void
note_message(const Change *change)
{
	if (nmessages == messages_size)
	{
		messages_size = Max(MESSAGES_MAX, messages_size * 2);
		messages = messages == NULL ?
			MemoryContextAlloc(TopMemoryContext, messages_size * sizeof(int64)) :
			repalloc_huge(messages, messages_size * sizeof(int64));
	}
	messages[nmessages++] = pg_strtoint64(change->values[0].text);
}

/* True: of this transaction something is still to be done. */
static bool
is_news(void)
{
	if (!has_position || me->generation > position.generation)
		return true;
	return transaction.commit_lsn >= position.lsn;
}

static bool
read_change(const char *data, Size length)
{
	static WireChange wire;		/* current_change points to it, also after an error */

	ordflow_wire_read_change(data, length, &wire);
	if (wire.relation >= nrelations || relations[wire.relation] == NULL)
		ereport(ERROR,
				errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("the spool of delivery " INT64_FORMAT " tells of an unknown relation",
					   my_id));
	wire.change.relation = relations[wire.relation];
	if (wire.nsyncs > 0 && wire.sync_ids[0] == 0 && wire.change.values != NULL)
		note_message(&wire.change);
	if (is_news())
		make_items(&wire);
	passed = (SinkPosition) {me->generation, transaction.commit_lsn, wire.place, PG_UINT32_MAX};
	return true;
}

/* The position's own transaction has come by, or it never will. */
static bool
meets_position(void)
{
	if (!must_meet || transaction.commit_lsn < position.lsn)
		return true;
	must_meet = false;
	if (transaction.commit_lsn == position.lsn)
		return true;
	stop_by_gap("the target holds a position that is not of this database's history");
	return false;
}

static void
note_unseen(TransactionId xid)
{
	if (nunseen == unseen_size)
	{
		unseen_size = Max(64, unseen_size * 2);
		unseen = unseen == NULL ?
			MemoryContextAlloc(TopMemoryContext, unseen_size * sizeof(TransactionId)) :
			repalloc_huge(unseen, unseen_size * sizeof(TransactionId));
	}
	unseen[nunseen++] = xid;
}

/* The first whose rows are still to be copied; NULL: there is none. */
static Route *
find_copying(void)
{
	ListCell   *cell;

	foreach(cell, routes)
	{
		Route	   *route = lfirst(cell);

		if (route->copy != NULL && !route->sync->paused)
			return route;
	}
	return NULL;
}

/* How many rows a batch may have. */
static int
batch_max(void)
{
	int			n = one_by_one ? 1 : SINK_ITEMS_MAX;
	ListCell   *cell;

	foreach(cell, routes)
		n = Min(n, ((Route *) lfirst(cell))->options->batch_rows);
	return n;
}

/*
 * Stops where a batch is full, or a transaction that must not be cut ends.  False: nothing to
 * read.
 */
static bool
read_batch(SpoolEnd end)
{
	int			max = batch_max();
	bool		whole = sink != NULL && (sink->flags & SINK_TRANSACTIONS) != 0;
	bool		any = false;
	SpoolKind	kind;
	char	   *data;
	Size		length;

	while (ordflow_spool_read(&reader, end, &kind, &data, &length))
	{
		any = true;
		if (kind == SPOOL_RELATION)
			keep_relation(data, length);
		else if (kind == SPOOL_BEGIN)
		{
			memcpy(&transaction, data, sizeof(transaction));
			in_source_transaction = true;
			if (find_copying() != NULL)
				note_unseen(transaction.xid);
			if (!meets_position())
				return false;
		}
		else if (kind == SPOOL_CHANGE)
			read_change(data, length);
		else
		{
			in_source_transaction = false;
			passed = (SinkPosition) {me->generation, transaction.commit_lsn, PG_UINT64_MAX, 0};
			passed_at = transaction.committed_at;
			/* an open transaction would grow with the backlog */
			if (nmessages >= MESSAGES_MAX / 2 || half_applied ||
				(whole && items.n >= max / 2) ||
				(target_open && sink_position_compare(&passed, &position) > 0))
				return true;
		}
		if (items.n + list_length(diverted) >= max || items.bytes >= SINK_BYTES_MAX ||
			must_look || ordflow_worker_leaving())
			return true;
	}
	return any;
}

/* ---- sending ---- */

static Statement save_position = {
	.sql = "UPDATE ordflow.sync_deliveries SET sent = $2, released = $3 WHERE delivery_id = $1",
	.nargs = 3,
	.argtypes = {INT8OID, TEXTOID, LSNOID}
};

static Statement delete_messages = {
	.sql = "DELETE FROM ordflow.outbox WHERE outbox_id = ANY($1)",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

/* In a transaction. */
static void
write_position(const SinkPosition *at)
{
	char		text[SINK_POSITION_TEXT_MAX];
	Datum		values[3] = {Int64GetDatum(my_id)};

	sink_position_print(at, text);
	values[1] = CStringGetTextDatum(text);
	values[2] = LSNGetDatum(at->lsn);
	SPI_connect();
	ordflow_execute(&save_position, values, NULL);
	if (nmessages > 0)
	{
		values[0] = ordflow_int8_array(messages, nmessages);
		ordflow_execute(&delete_messages, values, NULL);
	}
	SPI_finish();
}

/* As it stands in our row now. */
static void
remember_sent(const SinkPosition *at)
{
	static char text[SINK_POSITION_TEXT_MAX];

	sink_position_print(at, text);
	me->sent = text;
	me->released = at->lsn;
	tell_released();
}

/* The last item of a batch, or all that was passed where the source's transaction is over. */
static SinkPosition
position_after(void)
{
	if (!in_source_transaction || items.n == 0)
		return passed;
	return items.items[items.n - 1].at;
}

static void
count_items(int n)
{
	for (int i = 0; i < n; i++)
	{
		Route	   *route = route_of(&items.items[i]);
		int			same = 1;

		while (i + 1 < n && items.items[i + 1].route == items.items[i].route)
			i++, same++;
		if (route != NULL)
			ordflow_sync_count(route->sync->sync_id, same, 0);
	}
	SpinLockAcquire(&shared->mutex);
	shared->items += n;
	SpinLockRelease(&shared->mutex);
}

/* All that was read is done with. */
static void
batch_done(void)
{
	ListCell   *cell;

	count_items(items.n);
	done_segment = in_source_transaction ? done_segment : reader.segment;
	items = (ItemList) {0};
	diverted = NIL;
	has_letters = false;
	MemoryContextReset(batch_memory);
	if (!in_source_transaction)
		tell_progress();
	recovered();
	one_by_one = row_by_row = false;
	foreach(cell, routes)
		((Route *) lfirst(cell))->whole = false;
	internal_errors = 0;
}

static void
sink_refused(const SinkResult *result)
{
	const SinkItem *item;

	if (result->ndone > 0)
	{
		position = items.items[result->ndone - 1].at;
		has_position = true;
		count_items(result->ndone);
	}
	item = &items.items[Max(result->rejected, 0)];
	if (result->lacks_row && !route_of(item)->whole)
	{
		route_of(item)->whole = true;
		go_back();
		return;
	}
	if (result->rejected < 0 && items.n > 1 && !one_by_one)
	{
		one_by_one = true;
		go_back();
		return;
	}
	refused(route_of(item), item, 1, NULL, result->error.message, result->error.hint);
}

/* The batch is done; of a sink of transactions it may be held back until the rest has come. */
static void
note_open(const SinkBatch *batch)
{
	bool		is_open = batch->goes_on && (sink->flags & SINK_TRANSACTIONS) != 0;

	if (is_open && !target_open)
		open_from = batch->from;
	target_open = is_open;
}

/* Diverted ones are committed before; the target moves on from where it stands. */
static void
apply_to_sink(void)
{
	SinkPosition to = position_after();
	SinkBatch	batch = {.n = items.n,.items = items.items,.was_empty = !has_position,
	.from = position,.to = to,.goes_on = in_source_transaction};
	SinkResult	result = {.rejected = -1};
	SinkOutcome outcome = SINK_DONE;
	/* past what will be a letter no more, or to the end of what was sent in part */
	bool		moves_on = items.n == 0 &&
		(has_letters || (target_open && !in_source_transaction)) &&
		(!has_position || sink_position_compare(&to, &position) > 0);

	if (diverted != NIL)
	{
		if (!begin())
			return;
		write_letters();
		commit();
		look_again |= note_letters();
	}
	commit();
	SpinLockAcquire(&shared->mutex);
	shared->sent = Max(shared->sent, transaction.commit_lsn);
	SpinLockRelease(&shared->mutex);
	if (items.n > 0 || moves_on)
	{
		outcome = sink->apply(state, &batch, &result);
		if (outcome == SINK_DONE && sink->flush != NULL && !sink->flush(state, &result.error))
			outcome = SINK_RETRY;
	}
	if (outcome == SINK_DONE)
	{
		if (items.n > 0 || moves_on)
		{
			position = to;
			has_position = true;
			note_open(&batch);
		}
		batch_done();
	}
	else if (outcome == SINK_REJECT)
		sink_refused(&result);
	else if (outcome == SINK_MOVED)
	{
		connected = false;
		go_back();
	}
	else
	{
		result.error.misconfigured = outcome == SINK_MISCONFIGURED;
		retry_later(&result.error);
	}
}

/* Of tables, which are in the same transaction as what is read of the source's. */
static void
apply_to_tables(void)
{
	if (!begin())
		return;
	if (items.n > 0)
		ordflow_table_begin(route_of(&items.items[0]));
	for (int i = 0; i < items.n; i++)
	{
		current_route = route_of(&items.items[i]);
		current_item = &items.items[i];
		ordflow_table_apply(current_route, &items.items[i]);
		current_item = NULL;
		current_route = NULL;
	}
	write_letters();
	noted |= diverted != NIL;
	truncated |= note_letters();
	if (in_source_transaction)
	{
		/* goes on: what was made so far has been written */
		count_items(items.n);
		items = (ItemList) {0};
		half_applied = true;
		MemoryContextReset(batch_memory);
		return;
	}
	write_position(&passed);
	committing = true;
	commit();
	committing = noted = half_applied = false;
	look_again |= truncated;
	truncated = false;
	must_replay |= row_by_row || again_at_end;
	again_at_end = false;
	position = saved = passed;
	has_position = true;
	remember_sent(&position);
	nmessages = 0;
	batch_done();
}

/* ---- errors of expressions and of table targets ---- */

bool
ordflow_sync_error_passes(int sqlerrcode)
{
	int			class = ERRCODE_TO_CATEGORY(sqlerrcode);

	return ordflow_error_is_callers(sqlerrcode) || sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		class == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
		class == ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR) ||
		class == ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK) ||
		(class == ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR) &&
		 internal_errors < INTERNAL_ERRORS_MAX);
}

/* Does the delivery wait for a person where that change fails? */
static bool
stops_at(const Route *route, const Change *change)
{
	return route != NULL && (change->op == CHANGE_TRUNCATE ||
							 (route->options->on_error == ON_ERROR_STOP && !route->sync->paused));
}

/* The error has been taken; the transaction is gone, and what was read is read again. */
static void
failed(ErrorData *error, Route *route, const Change *change, const SinkItem *item)
{
	ModuleError problem = {0};
	char	   *sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
	bool		was_committing = committing;

	committing = false;
	if (was_committing && !ordflow_sync_error_passes(error->sqlerrcode) && !row_by_row)
	{
		/* it does not tell which row it is: first which transaction, then each row of that */
		row_by_row = one_by_one;
		one_by_one = true;
		go_back();
	}
	else if (route != NULL && !route->sync->paused &&
		!ordflow_sync_error_passes(error->sqlerrcode) &&
		ordflow_sync_error_is_schema(error->sqlerrcode))
		pause_sync(route, error->message);
	else if (route != NULL && item != NULL && !ordflow_sync_error_passes(error->sqlerrcode))
		refused(route, item, 1, sqlstate, error->message, error->hint);
	else if (change != NULL && !one_by_one && stops_at(route, change))
	{
		/* what comes before it is sent */
		one_by_one = true;
		go_back();
	}
	else if (route != NULL && change != NULL && change->op != CHANGE_TRUNCATE &&
			 !ordflow_sync_error_passes(error->sqlerrcode))
	{
		ItemList	list = {0};

		ordflow_route_refetch_item(route, change, &current_at, &list);
		refused(route, list.items, list.n, sqlstate, error->message, error->hint);
	}
	else
	{
		strlcpy(problem.message, error->message, sizeof(problem.message));
		strlcpy(problem.hint, error->hint ? error->hint : "", sizeof(problem.hint));
		problem.misconfigured = was_committing ||
			(route != NULL && change != NULL && change->op == CHANGE_TRUNCATE);
		retry_later(&problem);
	}
}

/* ---- again ---- */

/* In a transaction.  What comes behind a TRUNCATE would go with it, were that sent later. */
static void
replay_refused(Route *route, const Letter *letter, const char *sqlstate, const char *message)
{
	replay_failed = true;
	if (letter->item.op != SINK_TRUNCATE)
		ordflow_letter_failed(letter->letter_id, sqlstate, message);
	else if (route != NULL)
		note_pause(route, message);
}

/*
 * What is to be sent, in a transaction.  Where a change was skipped later ones have overtaken it:
 * then the row is sent as it is; so it is where the change was told in part.
 */
static void
replay_items(Route *route, Letter *letter, const SinkPosition *at, ItemList *list)
{
	SinkItem	key = {.key = letter->item.key,.key_length = letter->item.key_length};
	bool		overtaken = (letter->item.is_partial ||
							 (letter->was_refused && route->options->on_error == ON_ERROR_SKIP)) &&
		route->options->nkeys == 0 && route->sink.shape != SHAPE_EVENT && key.key != NULL;

	letter->item.route = &route->sink;
	if (letter->refetch || overtaken)
		ordflow_route_by_key(route, letter->refetch ? &letter->item : &key, at, list);
	else
		ordflow_items_add(list, &letter->item);
	for (int i = 0; i < list->n; i++)
	{
		list->items[i].is_replay = true;
		list->items[i].at = *at;
	}
}

/*
 * Where the target will be.  A message is sent once: it moves the position, which can be done where
 * nothing of the position's transaction is still to come.
 */
static SinkPosition
replay_position(const Route *route, bool *moves)
{
	SinkPosition to = position;

	if (!has_position)
		to = (SinkPosition) {.generation = me->generation};
	*moves = route->sink.shape == SHAPE_EVENT && (sink->flags & SINK_KEEPS_POSITION) &&
		(to.lsn == 0 || to.ordinal == PG_UINT64_MAX ||
		 (passed.generation == to.generation && passed.lsn >= to.lsn &&
		  passed.ordinal == PG_UINT64_MAX));
	if (!*moves)
		return to;
	to.part = to.lsn == 0 || to.ordinal == PG_UINT64_MAX ? to.part + 1 : 1;
	to.ordinal = to.lsn == 0 ? 0 : PG_UINT64_MAX;
	return to;
}

static void
replay_done(const Letter *letter)
{
	internal_errors = 0;
	ordflow_letter_done(letter);
	ordflow_sync_count(letter->sync_id, 1, 0);
	/* what queued behind letters that went with it is free */
	if (letter->item.op == SINK_TRUNCATE)
		ordflow_letters_wake(syncs);
}

/* False: something is in the way; it was told.  Not in a transaction while the sink is busy. */
static bool
replay_to_sink(Route *route, Letter *letter)
{
	ItemList	list = {0};
	SinkBatch	batch = {.was_empty = !has_position,.from = position};
	SinkResult	result = {.rejected = -1};
	SinkOutcome outcome = SINK_DONE;
	bool		moves;

	batch.to = replay_position(route, &moves);
	replay_items(route, letter, &batch.to, &list);
	if (moves)
		ordflow_letter_mark(letter->letter_id, &batch.to);
	commit();
	batch.items = list.items;
	batch.n = list.n;
	if (list.n > 0)
		outcome = sink->apply(state, &batch, &result);
	if (outcome == SINK_DONE && list.n > 0 && sink->flush != NULL &&
		!sink->flush(state, &result.error))
		outcome = SINK_RETRY;
	if (outcome != SINK_DONE && outcome != SINK_REJECT)
	{
		result.error.misconfigured = outcome == SINK_MISCONFIGURED;
		connected = false;
		if (outcome == SINK_MOVED)
			go_back();
		else
			retry_later(&result.error);
		return false;
	}
	if (list.n > 0 && (outcome == SINK_DONE || result.ndone > 0))
	{
		position = batch.to;
		has_position = true;
	}
	if (!begin())
		return false;
	if (outcome == SINK_DONE)
		replay_done(letter);
	else
		replay_refused(route, letter, NULL, result.error.message);
	return true;
}

static bool
replay_one(Letter *letter)
{
	Route	   *route = find_route(letter->sync_id);
	ItemList	list = {0};

	if (route == NULL)
		return true;
	if (!route->is_table)
		return replay_to_sink(route, letter);
	replay_items(route, letter, &position, &list);
	ordflow_table_begin(route);
	for (int i = 0; i < list.n; i++)
		ordflow_table_apply(route, &list.items[i]);
	replay_done(letter);
	return true;
}

/* One letter a transaction: what it says is at the target before it is gone. */
static bool
replay_letter(Letter *letter)
{
	ErrorData  *volatile error = NULL;
	volatile bool goes_on = true;

	if (!begin())
		return false;
	PG_TRY();
	{
		goes_on = replay_one(letter);
		commit();
	}
	PG_CATCH();
	{
		error = take_error();
	}
	PG_END_TRY();
	if (error == NULL)
		return goes_on;
	if (ordflow_sync_error_passes(error->sqlerrcode))
	{
		failed(error, NULL, NULL, NULL);
		return false;
	}
	if (!begin())
		return false;
	replay_refused(find_route(letter->sync_id), letter, unpack_sql_state(error->sqlerrcode),
				   error->message);
	commit();
	return true;
}

/* All that were asked for, before anything new is read.  False: not all could be sent. */
static bool
replay(void)
{
	List	   *letters;
	ListCell   *cell;
	MemoryContext before;

	if (syncs == NIL || in_source_transaction)
		return true;
	for (;;)
	{
		if (!begin())
			return false;
		before = MemoryContextSwitchTo(batch_memory);
		letters = ordflow_letters_to_replay(syncs, REPLAYS_MAX);
		MemoryContextSwitchTo(before);
		commit();
		replay_failed = false;
		foreach(cell, letters)
		{
			bool		is_truncate = ((Letter *) lfirst(cell))->item.op == SINK_TRUNCATE;

			if (ordflow_worker_leaving() || !replay_letter(lfirst(cell)))
				return false;
			if (look_again)
				return false;
			if (replay_failed || is_truncate)
				break;			/* what follows it may be parked or free now: read anew */
		}
		MemoryContextReset(batch_memory);
		if (letters == NIL)
			break;
	}
	if (!begin())
		return false;
	ordflow_letters_load(syncs);
	commit();
	return true;
}

/* ---- turns ---- */

/* Now and then, what the target has is written down, and what is behind it removed. */
static void
save(void)
{
	TimestampTz now = GetCurrentTimestamp();

	if (in_source_transaction || target_open)
		return;
	if (sink != NULL && has_position &&
		(sink_position_compare(&saved, &position) != 0 || nmessages > 0) &&
		(now >= save_at || nmessages >= MESSAGES_MAX / 2))
	{
		if (!begin())
			return;
		write_position(&position);
		commit();
		nmessages = 0;
		saved = position;
		remember_sent(&position);
		save_at = now + SAVE_EVERY;
	}
	if (sink_position_compare(&saved, &position) == 0 && nmessages == 0 && reading &&
		done_segment > reader.first)
		ordflow_spool_release(&reader, done_segment);
}

/*
 * Up to where may be read, which is up to that commit; what committed before decoded is not behind
 * it.
 */
static SpoolEnd
readable(XLogRecPtr *decoded, XLogRecPtr *spooled)
{
	SpoolEnd	end;
	DecoderShared *decoder = ordflow_decoder_shared(false);

	*decoded = InvalidXLogRecPtr;
	if (decoder != NULL)
	{
		SpinLockAcquire(&decoder->mutex);
		*decoded = decoder->decoded;
		SpinLockRelease(&decoder->mutex);
	}
	SpinLockAcquire(&shared->mutex);
	end = shared->end;
	*spooled = shared->spooled;
	SpinLockRelease(&shared->mutex);
	return end;
}

/* True: something was read. */
static bool
deliver(void)
{
	MemoryContext before = MemoryContextSwitchTo(batch_memory);
	XLogRecPtr	decoded;
	XLogRecPtr	spooled;
	SpoolEnd	end = readable(&decoded, &spooled);
	bool		any;

	any = read_batch(end);
	if (must_look)
	{
		/* what was sent of the source's transaction is not to be taken for its beginning */
		connected = connected && (sink == NULL || !in_source_transaction);
		go_back();
		look_again = true;
		MemoryContextSwitchTo(before);
		return true;
	}
	if (any && !look_again && sink == NULL)
		apply_to_tables();
	else if (any && !look_again)
		apply_to_sink();
	MemoryContextSwitchTo(before);
	if (!any && must_meet)
		tell_problem("waits for the place in the WAL that the target has", NULL, false, 0);
	else if (!any && !look_again && !in_source_transaction)
	{
		passed.lsn = Max(passed.lsn, spooled);
		streamed = Max(streamed, decoded);
	}
	return any;
}

static void
take_failure(ErrorData *error)
{
	Route	   *route = current_route;
	const Change *change = current_change;
	const SinkItem *item = current_item;

	current_route = NULL;
	current_change = NULL;
	current_item = NULL;
	MemoryContextSwitchTo(batch_memory);
	failed(error, route, change, item);
}

/* With errors of expressions and table targets taken. */
static bool
deliver_safely(void)
{
	ErrorData  *volatile error = NULL;
	volatile bool any = true;

	PG_TRY();
	{
		any = deliver();
	}
	PG_CATCH();
	{
		error = take_error();
	}
	PG_END_TRY();
	if (error != NULL)
		take_failure(error);
	return any;
}

static void
keep_rate(int64 before)
{
	int			rate = 0;
	ListCell   *cell;
	int64		n = shared->items - before;

	foreach(cell, routes)
	{
		int			other = ((Route *) lfirst(cell))->options->rate;

		if (other != 0 && (rate == 0 || other < rate))
			rate = other;
	}
	if (rate != 0 && n > 0 && !in_source_transaction)
		rest_until(GetCurrentTimestamp() + n * USECS_PER_SEC / rate);
}

/* ---- copies ---- */

/* Is all that was streamed seen by everybody? */
static bool
is_quiet(void)
{
	int			n = 0;

	for (int i = 0; i < nunseen; i++)
		if (TransactionIdIsInProgress(unseen[i]))
			unseen[n++] = unseen[i];
	nunseen = n;
	return n == 0;
}

static bool
has_streamed(XLogRecPtr lsn)
{
	return streamed >= lsn || (passed.generation == me->generation && passed.lsn >= lsn);
}

/* All that commits from now on is behind it, and all that was streamed is not. */
static XLogRecPtr
streamed_place(void)
{
	XLogRecPtr	lsn = passed.generation == me->generation ? passed.lsn : InvalidXLogRecPtr;

	/* a record may begin where the last one that was decoded ends */
	return streamed > MAXIMUM_ALIGNOF ? Max(lsn, streamed - MAXIMUM_ALIGNOF) : lsn;
}

/* Of a round that is being read. */
static bool
take_copied(Route *route, const Change *change, uint64 place, bool is_too_large)
{
	static Change taken;		/* current_change points to it, also after an error */
	int			max = batch_max();
	int			before = items.n;

	taken = *change;
	current_at = ordflow_copy_position(route->copy, me->generation, place);
	current_change = &taken;
	if (is_sent() || is_done(route))
		return true;
	current_route = route;
	if (is_too_large)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("the row takes more than %d MB", SYNC_ROW_MAX / 1024 / 1024));
	ordflow_route_change(route, &taken, &current_at, &items);
	sort_out(route, before);
	current_route = NULL;
	current_change = NULL;
	return items.n + list_length(diverted) < max && items.bytes < SINK_BYTES_MAX;
}

/* What was read of the round is done with. */
static void
copied(const SinkPosition *to)
{
	position = *to;
	has_position = true;
	count_items(items.n);
	items = (ItemList) {0};
	diverted = NIL;
	has_letters = false;
	MemoryContextReset(batch_memory);
	recovered();
}

/* In the transaction that was read in, which is committed; is_end: of the round. */
static void
copy_to_table(Copy *copy, const SinkPosition *to, bool is_end)
{
	for (int i = 0; i < items.n; i++)
	{
		current_route = route_of(&items.items[i]);
		current_item = &items.items[i];
		ordflow_table_apply(current_route, &items.items[i]);
		current_item = NULL;
		current_route = NULL;
	}
	write_letters();
	if (is_end)
		ordflow_copy_end_round(copy);
	write_position(to);
	commit();
	note_letters();
	nmessages = 0;
	saved = *to;
	remember_sent(to);
	copied(to);
}

static void
copy_refused(Route *route, const SinkResult *result)
{
	const SinkItem *item = &items.items[Max(result->rejected, 0)];

	round_again = true;
	if (result->rejected < 0 && items.n > 1 && !one_by_one)
	{
		one_by_one = true;
		go_back();
		return;
	}
	refused(route, item, 1, NULL, result->error.message, result->error.hint);
}

/* Outside of any transaction; goes_on: the target's transaction does.  False: not now. */
static bool
copy_to_sink(Route *route, const SinkPosition *to, bool goes_on)
{
	SinkBatch	batch = {.n = items.n,.items = items.items,.was_empty = !has_position,
	.from = position,.to = *to,.goes_on = goes_on,.is_copy = route->copy->is_fresh};
	SinkResult	result = {.rejected = -1};
	SinkOutcome outcome = SINK_DONE;

	if (diverted != NIL)
	{
		if (!begin())
			return false;
		write_letters();
		commit();
		note_letters();
	}
	if (items.n > 0 || (target_open && !goes_on))
	{
		outcome = sink->apply(state, &batch, &result);
		if (outcome == SINK_DONE && !goes_on && sink->flush != NULL &&
			!sink->flush(state, &result.error))
			outcome = SINK_RETRY;
		if (outcome == SINK_DONE)
			note_open(&batch);
	}
	else
		batch.to = position;
	if (outcome == SINK_DONE)
	{
		copied(&batch.to);
		return true;
	}
	if (outcome == SINK_REJECT)
		copy_refused(route, &result);
	else if (outcome == SINK_MOVED)
	{
		connected = false;
		go_back();
	}
	else
	{
		result.error.misconfigured = outcome == SINK_MISCONFIGURED;
		retry_later(&result.error);
	}
	return false;
}

static void
begin_copy_again(Route *route)
{
	Oid			table = route->copy->table;
	char	   *reason = psprintf("%s.%s was rewritten",
								  get_namespace_name(get_rel_namespace(table)),
								  get_rel_name(table));

	ordflow_copy_begin_again(route->copy, reason);
	commit();
	ereport(LOG,
			errmsg("the copy of sync \"%s\" begins again: %s", route->sync->name, reason));
}

/* Whole, or as far as it goes: then it is read again, and what is there already is passed over. */
static bool
copy_round(Route *route)
{
	Copy	   *copy = route->copy;
	bool		whole = sink != NULL && (sink->flags & SINK_TRANSACTIONS) && !one_by_one;
	CopyRead	read = COPY_READ_SOME;

	while (read == COPY_READ_SOME && !ordflow_worker_leaving())
	{
		SinkPosition to;

		if (!begin())
			return false;
		read = ordflow_copy_read(copy, route, take_copied);
		if (read == COPY_READ_REWRITTEN)
		{
			begin_copy_again(route);
			return true;
		}
		if (read == COPY_READ_NOT_NOW)
		{
			commit();
			return false;
		}
		to = items.n > 0 && read == COPY_READ_SOME ? items.items[items.n - 1].at :
			ordflow_copy_position(copy, me->generation, COPY_PLACE_LAST);
		if (sink == NULL)
		{
			copy_to_table(copy, &to, read == COPY_READ_ALL);
			continue;
		}
		commit();
		if (!copy_to_sink(route, &to, whole && read == COPY_READ_SOME))
			return true;
	}
	if (read != COPY_READ_ALL)
		return true;
	one_by_one = false;
	if (sink == NULL)
	{
		must_settle = false;
		return true;
	}
	if (!begin())
		return true;
	ordflow_copy_end_round(copy);
	if (has_position)
		write_position(&position);
	commit();
	must_settle = false;
	nmessages = 0;
	saved = position;
	if (has_position)
		remember_sent(&position);
	return true;
}

/* False: not now. */
static bool
settle_rounds(void)
{
	ListCell   *cell;

	if (!must_settle)
		return true;
	if (!begin())
		return false;
	foreach(cell, routes)
	{
		Copy	   *begun = ((Route *) lfirst(cell))->copy;

		if (begun != NULL && begun->phase == COPY_COPYING)
			ordflow_copy_cut_round(begun, &position);
	}
	commit();
	must_settle = false;
	return true;
}

/* True: something was done. */
static bool
copy(Route *route)
{
	Copy	   *copying = route->copy;
	SinkPosition none = {0};
	CopyRound	round;
	bool		done = true;

	if (!is_quiet() || (copying->phase == COPY_FOLLOWING && !has_streamed(copying->lsn)) ||
		(copying->phase == COPY_COPYING && !copying->is_fresh && !has_streamed(copying->lsn)))
		return false;
	if (!begin())
		return false;
	if (copying->phase == COPY_WAITING)
		done = ordflow_copy_begin(copying, route);
	else if (copying->phase == COPY_FOLLOWING)
	{
		must_replay |= copying->sweeps && ordflow_sync_sweep(route, sink, state) > 0;
		ordflow_copy_done(copying);
		commit();
		route->copy = NULL;
	}
	else
	{
		round = ordflow_copy_start_round(copying, has_position &&
										 position.generation == me->generation ?
										 &position : &none, streamed_place());
		commit();
		must_settle |= round == COPY_ROUND_BEGUN;
		if (round == COPY_ROUND_BEGUN)
			done = copy_round(route);
		else
			done = round == COPY_ROUND_LAST;
	}
	commit();
	return done;
}

/* With errors of expressions and table targets taken. */
static bool
copy_safely(Route *route)
{
	ErrorData  *volatile error = NULL;
	volatile bool any = true;
	TimestampTz began = GetCurrentTimestamp();
	TimestampTz ended;

	round_again = false;
	PG_TRY();
	{
		any = copy(route);
	}
	PG_CATCH();
	{
		error = take_error();
	}
	PG_END_TRY();
	if (error != NULL)
	{
		take_failure(error);
		round_again = must_settle && !route->sync->paused;
	}
	/* the stream has as much of the time as the copy */
	ended = GetCurrentTimestamp();
	copy_at = ended + (ended - began);
	return any;
}

/* Reads the syncs where they have changed; false: it is over. */
static bool
look(void)
{
	ErrorData  *volatile error = NULL;
	volatile bool there = true;
	volatile bool over = false;
	DecoderShared *decoder = ordflow_decoder_shared(false);
	uint64		seen = decoder != NULL ? decoder->looked : 0;

	/* what has been written of a transaction's rows is not committed before the rest is */
	if (in_transaction)
		return true;
	if (!look_again && !server_changed && seen == looked && shared->letters == 0 &&
		spool_serial == shared->spool_serial)
		return true;
	go_back();
	spool_serial = shared->spool_serial;
	SpinLockAcquire(&shared->mutex);
	shared->letters = 0;
	SpinLockRelease(&shared->mutex);
	ordflow_worker_look_afresh();
	if (!begin())
		return false;
	/* behind begin(), which resets the caches and so calls note_server_changed() */
	server_changed = false;
	PG_TRY();
	{
		there = read_config();
		over = there && is_over();
		commit();
	}
	PG_CATCH();
	{
		error = take_error();
	}
	PG_END_TRY();
	if (error != NULL)
	{
		ModuleError problem = {.misconfigured = true};

		looked = seen;
		look_again = true;
		strlcpy(problem.message, error->message, sizeof(problem.message));
		strlcpy(problem.hint, error->hint ? error->hint : "", sizeof(problem.hint));
		retry_later(&problem);
		return true;
	}
	if (over)
		end_delivery();
	looked = seen;
	look_again = must_look = false;
	must_replay = true;
	if (there && sink == NULL)
		connected = false;
	return there && !over;
}

/* ---- after a gap ---- */

/* Messages of emit(), and events, cannot be read from anywhere again. */
static bool
can_copy_again(void)
{
	ListCell   *cell;

	foreach(cell, routes)
	{
		Route	   *route = lfirst(cell);

		if (!route->options->copy || route->sink.shape == SHAPE_EVENT)
			return false;
	}
	return routes != NIL;
}

static Statement copy_all_again = {
	.sql = "WITH delivery AS (UPDATE ordflow.sync_deliveries SET stopped = false, problem = NULL "
	"WHERE delivery_id = $1 AND stopped AND NOT emits RETURNING delivery_id) "
	"INSERT INTO ordflow.sync_copies AS c (sync_id, is_fresh, sweeps, reason) "
	"SELECT sync_id, false, true, $3 FROM delivery, pg_catalog.unnest($2) AS sync_id "
	"ON CONFLICT (sync_id) DO UPDATE SET phase = 'waiting', is_fresh = false, sweeps = true, "
	"filter = NULL, "
	"snapshot = NULL, lsn = NULL, restarts = c.restarts + 1, reason = excluded.reason, "
	"finished_at = NULL",
	.nargs = 3,
	.argtypes = {INT8OID, INT8ARRAYOID, TEXTOID}
};

/* What the gap holds is copied instead, now that the target is there; false: it cannot be. */
static bool
copy_again(void)
{
	Datum		values[3] = {Int64GetDatum(my_id)};
	int64	   *ids = palloc(list_length(routes) * sizeof(int64));
	ModuleError error = {0};
	uint64		n;
	ListCell   *cell;

	if (!can_copy_again())
		return false;
	if (sink != NULL && !sink->connect(state, &error))
	{
		retry_later(&error);
		return true;
	}
	if (!begin())
		return true;
	foreach(cell, routes)
		ids[foreach_current_index(cell)] = ((Route *) lfirst(cell))->sync->sync_id;
	values[1] = ordflow_int8_array(ids, list_length(routes));
	values[2] = CStringGetTextDatum(me->problem);
	SPI_connect();
	n = ordflow_execute(&copy_all_again, values, NULL);
	SPI_finish();
	commit();
	if (n == 0)
		return false;
	ereport(LOG,
			errmsg("delivery %s of ordflow copies its sources again: %s",
				   ordflow_delivery_name(me), me->problem));
	ordflow_decoder_reload();
	look_again = was_stopped = true;
	connected = false;
	return true;
}

static long
idle_ms(const Route *copying)
{
	if (copying != NULL)
		return COPY_IDLE_MS;
	if (has_position && (nmessages > 0 || sink_position_compare(&saved, &position) != 0))
		return Max(1, (save_at - GetCurrentTimestamp()) / 1000);
	return IDLE_MS;
}

static void
turn(void)
{
	int64		before = shared->items;
	Route	   *route;
	bool		any;

	if (me->stopped)
	{
		was_stopped = true;
		connected = false;
		if (copy_again())
			return;
		tell_problem(me->problem, "SELECT ordflow.resume_sync(name) goes on with the present.",
					 true, 0);
		wait_for_something(IDLE_MS);
		return;
	}
	if (!connect_target())
		return;
	if (must_replay && !in_source_transaction && !target_open)
	{
		if (!replay())
			return;
		must_replay = false;
	}
	if (!start_reading())
	{
		wait_for_something(1000);
		return;
	}
	route = find_copying();
	round_again &= route != NULL && connected && !look_again;
	if (!round_again && !settle_rounds())
		return;
	any = !round_again && deliver_safely();
	route = find_copying();
	if (route != NULL && connected && !look_again && !in_source_transaction && !in_transaction &&
		(round_again ||
		 (!must_meet && (!any || (!target_open && GetCurrentTimestamp() >= copy_at)))))
		any |= copy_safely(route);
	if (any)
	{
		keep_rate(before);
		save();
		return;
	}
	commit();
	tell_progress();
	if (!must_meet)
		recovered();
	save();
	take_invalidations();
	ordflow_companion_idle(true);
	wait_for_something(idle_ms(route));
	ordflow_companion_idle(false);
}

static void
note_server_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	server_changed = true;
}

static void
tell_latch(Latch *latch)
{
	SpinLockAcquire(&shared->mutex);
	if (shared->delivery_id == my_id)
		shared->latch = latch;
	SpinLockRelease(&shared->mutex);
}

static void
at_exit(int code, Datum arg)
{
	if (shared != NULL)
		tell_latch(NULL);
}

static void
delivery_main(const char *name)
{
	my_id = strtoll(name, NULL, 10);
	shared = ordflow_delivery_shared(my_id, true);
	if (shared == NULL)
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("all %d places for deliveries are taken", SYNC_DELIVERIES_MAX));
	on_shmem_exit(at_exit, (Datum) 0);
	config_memory = AllocSetContextCreate(TopMemoryContext, "ordflow syncs of a delivery",
											ALLOCSET_DEFAULT_SIZES);
	server_memory = AllocSetContextCreate(TopMemoryContext, "ordflow server of a delivery",
											ALLOCSET_DEFAULT_SIZES);
	relation_memory = AllocSetContextCreate(TopMemoryContext, "ordflow relations of a delivery",
											ALLOCSET_DEFAULT_SIZES);
	batch_memory = AllocSetContextCreate(TopMemoryContext, "ordflow batch",
											ALLOCSET_DEFAULT_SIZES);
	(void) ordflow_change_settings();
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, note_server_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, note_server_changed, (Datum) 0);
	tell_latch(MyLatch);
	/* what a predecessor has told holds no more */
	tell_problem(NULL, NULL, false, 0);
	while (!ordflow_worker_leaving())
	{
		if (!look())
		{
			ordflow_companion_done();
			break;
		}
		if (!look_again)
			turn();
	}
	close_sink();
	tell_latch(NULL);
}

void
ordflow_delivery_init(void)
{
	static const CompanionKind kind = {
		.title = "delivery",
		.duty = DUTY_SYNC,
		.main = delivery_main,
	};

	ordflow_companion_register(COMPANION_DELIVERY, &kind);
}

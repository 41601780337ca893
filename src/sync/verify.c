/*
 * verify.c
 *	  Does the target hold what the source does?
 *
 * Both are read while both are written, so what differs at first is no more than a suspect.  Each
 * is then looked at again: its row is read, everything that was committed until then is waited for,
 * the target is asked, and the row is read once more.  Where the row is the same and the target has
 * something else, nothing that is still under way can explain it.
 *
 * Of what the target has and the source has not, all names that the source's rows have are kept as
 * hashes of 64 bits, and the target is asked for its own.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "server/server.h"
#include "sync/internal.h"
#include "sync/row.h"

PG_FUNCTION_INFO_V1(ordflow_verify_sync);
PG_FUNCTION_INFO_V1(ordflow_repair_sync);

#define CHUNK_ROWS		1000
#define SUSPECTS_MAX	1000000
#define ASK_AT_ONCE		500		/* suspects that are waited for together */
#define TRIES_MAX		20		/* of a row that changes all the time */
#define WAIT_MAX		(30 * USECS_PER_SEC)

typedef struct Suspect
{
	char	   *key;			/* of the source's row */
	const char *problem;		/* NULL: it is well */
	bool		settled;
	int			tries;
	char	   *seen;			/* what the row is, as far as it is sent */
} Suspect;

typedef struct Verification
{
	SyncDefinition *sync;
	Route	   *route;
	const Sink *sink;			/* NULL: a table of this database */
	void	   *state;
	bool		names_only;		/* nothing is compared */
	uint64	   *names;			/* of rows that the source has, sorted at the end */
	int64		nnames;
	int64		names_size;
	Suspect    *suspects;
	int			nsuspects;
	int			suspects_size;
	MemoryContext memory;		/* of the above */
	MemoryContext chunk_memory;
} Verification;

/* ---- suspects ---- */

static void
add_suspect(Verification *verification, const char *key)
{
	MemoryContext before = MemoryContextSwitchTo(verification->memory);

	if (verification->nsuspects == SUSPECTS_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("more than %d rows of sync \"%s\" differ", SUSPECTS_MAX,
					   verification->sync->name),
				errhint("SELECT ordflow.resync(%s) sends all rows again.",
						quote_literal_cstr(verification->sync->name)));
	if (verification->nsuspects == verification->suspects_size)
	{
		verification->suspects_size = Max(64, verification->suspects_size * 2);
		verification->suspects = verification->suspects == NULL ?
			palloc(verification->suspects_size * sizeof(Suspect)) :
			repalloc_huge(verification->suspects, verification->suspects_size * sizeof(Suspect));
	}
	verification->suspects[verification->nsuspects++] = (Suspect) {.key = pstrdup(key)};
	MemoryContextSwitchTo(before);
}

/* ---- names ---- */

static void
keep_hash(Verification *verification, const char *name, Size length, uint64 seed)
{
	uint64		hash;

	if (name == NULL)
		return;
	hash = hash_bytes_extended((const unsigned char *) name, length, seed);
	/* one name for all rows: of a table elsewhere */
	if (verification->nnames > 0 && verification->names[verification->nnames - 1] == hash)
		return;
	if (verification->nnames == verification->names_size)
	{
		verification->names_size = Max(1024, verification->names_size * 2);
		verification->names = verification->names == NULL ?
			MemoryContextAllocHuge(verification->memory,
								   verification->names_size * sizeof(uint64)) :
			repalloc_huge(verification->names, verification->names_size * sizeof(uint64));
	}
	verification->names[verification->nnames++] = hash;
}

enum
{
	NAME_TARGET, NAME_KEY		/* seeds */
};

static void
keep_names(Verification *verification, const SinkItem *item)
{
	char	   *key;

	if (verification->sink != NULL)
	{
		keep_hash(verification, item->target, item->target_length, NAME_TARGET);
		keep_hash(verification, item->key, item->key_length, NAME_KEY);
		return;
	}
	key = ordflow_table_key(verification->route, item);
	keep_hash(verification, key, key != NULL ? strlen(key) : 0, NAME_KEY);
}

static int
compare_hashes(const void *a, const void *b)
{
	uint64		left = *(const uint64 *) a;
	uint64		right = *(const uint64 *) b;

	return left < right ? -1 : left > right;
}

static bool
is_known(const Verification *verification, const char *name, Size length, uint64 seed)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) name, length, seed);

	return bsearch(&hash, verification->names, verification->nnames, sizeof(uint64),
				   compare_hashes) != NULL;
}

/* ---- asking the target ---- */

pg_noreturn static void
target_failed(const Verification *verification, const ModuleError *error)
{
	ereport(ERROR,
			errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
			errmsg("the target of sync \"%s\" could not be read: %s", verification->sync->name,
				   error->message),
			error->hint[0] != '\0' ? errhint("%s", error->hint) : 0);
}

static void
compare_items(Verification *verification, const SinkItem *items, int n, SinkFound *found)
{
	ModuleError error = {0};

	if (n == 0)
		return;
	if (verification->sink == NULL)
		ordflow_table_compare(verification->route, items, n, found);
	else if (!verification->sink->compare(verification->state, items, n, found, &error))
		target_failed(verification, &error);
}

/* ---- the source, row by row ---- */

static char *
source_sql(Oid source, const ChangeRelation *relation)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < relation->ncolumns; i++)
		appendStringInfo(&sql, "%s%s::pg_catalog.text", i > 0 ? ", " : "",
						 quote_identifier(relation->columns[i].name));
	appendStringInfo(&sql, " FROM %s",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(source)),
												get_rel_name(source)));
	return sql.data;
}

static ChangeValue *
read_row(const ChangeRelation *relation, uint64 row)
{
	ChangeValue *values = palloc0((relation->ncolumns + 1) * sizeof(ChangeValue));

	for (int c = 0; c < relation->ncolumns; c++)
	{
		char	   *text = ordflow_result_text(row, c + 1);

		if (text != NULL && relation->columns[c].type == BOOLOID)
			text[1] = '\0';
		values[c].text = text;
		values[c].state = text ? VALUE_TEXT : VALUE_NULL;
		values[c].length = text ? strlen(text) : 0;
	}
	return values;
}

/* Of those that were fetched; what the target says otherwise is suspect. */
static void
check_chunk(Verification *verification, const ChangeRelation *relation, uint64 nrows)
{
	ItemList	items = {0};
	char	  **keys = palloc(nrows * sizeof(char *));
	SinkFound  *found = palloc(nrows * sizeof(SinkFound));
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < nrows; i++)
	{
		SinkPosition at = {1, 1, i + 1, 0};
		Change		change = {.op = CHANGE_INSERT,.relation = relation,.is_snapshot = true};
		ItemList	row = {0};
		char	   *key;

		SPI_tuptable = rows;
		change.values = read_row(relation, i);
		ordflow_route_change(verification->route, &change, &at, &row);
		key = ordflow_change_key(relation, change.values);
		if (row.n == 0 || key == NULL)
			continue;
		keep_names(verification, &row.items[0]);
		keys[items.n] = key;
		ordflow_items_add(&items, &row.items[0]);
	}
	if (verification->names_only)
		return;
	compare_items(verification, items.items, items.n, found);
	for (int i = 0; i < items.n; i++)
		if (found[i] != SINK_FOUND_SAME)
			add_suspect(verification, keys[i]);
}

/* As the sync's role; what its filter refuses is none of its rows. */
static void
read_source(Verification *verification, const ChangeRelation *relation)
{
	MemoryContext before = MemoryContextSwitchTo(verification->chunk_memory);
	RoleSwitch	saved = ordflow_role_enter(verification->route->role, true);
	Portal		portal;
	uint64		n;

	SPI_connect();
	portal = SPI_cursor_open_with_args(NULL, source_sql(verification->sync->source, relation), 0,
									   NULL, NULL, NULL, true, CURSOR_OPT_NO_SCROLL);
	do
	{
		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, CHUNK_ROWS);
		n = SPI_processed;
		MemoryContextSwitchTo(verification->chunk_memory);
		if (n > 0)
			check_chunk(verification, relation, n);
		SPI_freetuptable(SPI_tuptable);
		MemoryContextReset(verification->chunk_memory);
	} while (n > 0);
	SPI_cursor_close(portal);
	SPI_finish();
	ordflow_role_leave(saved);
	MemoryContextSwitchTo(before);
	qsort(verification->names, verification->nnames, sizeof(uint64), compare_hashes);
}

/* ---- what the target has besides ---- */

static bool
meet(void *context, const char *target, size_t target_length, const char *key, size_t key_length)
{
	Verification *verification = context;
	char	   *source_key;
	MemoryContext before;

	CHECK_FOR_INTERRUPTS();
	if (target != NULL ? is_known(verification, target, target_length, NAME_TARGET) :
		is_known(verification, key, key_length, NAME_KEY))
		return true;
	before = MemoryContextSwitchTo(verification->chunk_memory);
	source_key = target != NULL ?
		ordflow_route_key_of_target(verification->route, pnstrdup(target, target_length)) :
		verification->sink == NULL ? ordflow_table_source_key(verification->route, key) :
		ordflow_route_key_of_key(verification->route, pnstrdup(key, key_length));
	if (source_key != NULL)
		add_suspect(verification, source_key);
	MemoryContextSwitchTo(before);
	return true;
}

static void
read_target(Verification *verification)
{
	char	   *cursor;
	char	   *pattern;
	ModuleError error = {0};

	if (verification->sink == NULL)
	{
		ordflow_table_scan(verification->route, meet, verification);
		MemoryContextReset(verification->chunk_memory);
		return;
	}
	cursor = MemoryContextAllocZero(verification->memory, SINK_CURSOR_MAX);
	pattern = ordflow_route_pattern(verification->route);
	do
	{
		if (!verification->sink->scan(verification->state, &verification->route->sink, pattern,
									  cursor, meet, verification, &error))
			target_failed(verification, &error);
		MemoryContextReset(verification->chunk_memory);
	} while (cursor[0] != '\0');
}

/* ---- looking again ---- */

/* What the row is, as it is sent, as one text. */
static char *
print_item(const SinkItem *item)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "%d %s\n", item->op, item->target ? item->target : "");
	for (int i = 0; i < item->nfields; i++)
		appendStringInfo(&text, "%s %s\n", item->fields[i].name,
						 item->fields[i].value ? item->fields[i].value : "\\N");
	appendStringInfoString(&text, item->body ? item->body : "");
	return text.data;
}

/* The row of a suspect as it is now: to be there, or not to be. */
static bool
look_at(Verification *verification, const Suspect *suspect, SinkItem *item)
{
	SinkItem	letter = {.op = SINK_PUT,.key = suspect->key,.key_length = strlen(suspect->key),
	.body = ITEM_REFETCH,.body_length = strlen(ITEM_REFETCH)};
	SinkPosition at = {1, 1, 1, 0};
	ItemList	items = {0};

	ordflow_route_by_key(verification->route, &letter, &at, &items);
	if (items.n == 0)
		return false;
	*item = items.items[items.n - 1];
	return true;
}

/* All that was committed until now is there, or whatever is wrong with it is raised. */
static void
wait_for_target(Verification *verification)
{
	XLogRecPtr	lsn = GetXLogInsertRecPtr();
	TimestampTz until = GetCurrentTimestamp() + WAIT_MAX;

	if (strcmp(verification->sync->mode, "cdc") != 0)
		return;
	XLogFlush(lsn);
	ordflow_decoder_wake();
	while (!ordflow_sync_is_there(verification->sync, lsn))
	{
		if (GetCurrentTimestamp() >= until)
			ereport(ERROR,
					errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("sync \"%s\" is not up to date", verification->sync->name),
					errdetail("What the target lacks may be on its way: a copy is going on, the sync is paused, or its delivery does not get on."),
					errhint("SELECT * FROM ordflow.sync_status; and ask again."));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 1L,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
judge(Verification *verification, Suspect *suspect, const SinkItem *item, SinkFound found)
{
	SinkItem	now;
	bool		wrong = item->op == SINK_PUT ? found != SINK_FOUND_SAME :
		found != SINK_FOUND_NOTHING;

	suspect->settled = true;
	if (!wrong)
		return;
	if (!look_at(verification, suspect, &now) || strcmp(print_item(&now), suspect->seen) != 0)
	{
		/* it was written meanwhile; one that always is has every change of it sent anyway */
		suspect->settled = ++suspect->tries == TRIES_MAX;
		return;
	}
	suspect->problem = item->op != SINK_PUT ? "extra" :
		found == SINK_FOUND_NOTHING ? "missing" : "changed";
}

/* Some suspects at once; in which the target is asked of rows to be gone too, by their keys. */
static void
ask_again(Verification *verification, Suspect **suspects, int n)
{
	ItemList	items = {0};
	SinkItem   *asked = palloc(n * sizeof(SinkItem));
	SinkFound  *found = palloc(n * sizeof(SinkFound));

	for (int i = 0; i < n; i++)
	{
		SinkItem	item;

		if (!look_at(verification, suspects[i], &item))
		{
			suspects[i]->settled = true;
			continue;
		}
		suspects[i]->seen = print_item(&item);
		asked[items.n] = item;
		suspects[items.n] = suspects[i];
		if (item.op != SINK_PUT && item.body == NULL)
			item.body = "";
		item.op = SINK_PUT;
		ordflow_items_add(&items, &item);
	}
	wait_for_target(verification);
	compare_items(verification, items.items, items.n, found);
	for (int i = 0; i < items.n; i++)
		judge(verification, suspects[i], &asked[i], found[i]);
}

static int
compare_suspects(const void *a, const void *b)
{
	return strcmp(((const Suspect *) a)->key, ((const Suspect *) b)->key);
}

static void
settle(Verification *verification)
{
	MemoryContext before = MemoryContextSwitchTo(verification->chunk_memory);
	bool		all = false;
	int			to = 0;

	qsort(verification->suspects, verification->nsuspects, sizeof(Suspect), compare_suspects);
	for (int i = 0; i < verification->nsuspects; i++)
		if (to == 0 ||
			strcmp(verification->suspects[i].key, verification->suspects[to - 1].key) != 0)
			verification->suspects[to++] = verification->suspects[i];
	verification->nsuspects = to;
	while (!all)
	{
		all = true;
		for (int i = 0; i < verification->nsuspects;)
		{
			Suspect    *asked[ASK_AT_ONCE];
			int			n = 0;

			for (; i < verification->nsuspects && n < ASK_AT_ONCE; i++)
				if (!verification->suspects[i].settled)
					asked[n++] = &verification->suspects[i];
			all &= n == 0;
			if (n > 0)
				ask_again(verification, asked, n);
			MemoryContextReset(verification->chunk_memory);
		}
	}
	MemoryContextSwitchTo(before);
}

/* ---- all of it ---- */

static bool
is_cancelled(void)
{
	return QueryCancelPending || ProcDiePending;
}

pg_noreturn static void
refuse(const SyncDefinition *sync, const char *detail)
{
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("sync \"%s\" cannot be verified", sync->name),
			errdetail("%s", detail));
}

static pg_noinline void
open_target(Verification *verification)
{
	SyncDefinition *sync = verification->sync;
	ModuleConfig *config = NULL;
	ModuleError error = {0};

	if (sync->server != NULL)
	{
		config = ordflow_server_config(sync->server, get_role_oid(sync->role, false));
		verification->sink = ordflow_module_load(config->module)->sink;
		config->cancelled = is_cancelled;
	}
	verification->route = ordflow_route_make(sync, verification->sink, verification->memory);
	if (verification->route->sink.shape == SHAPE_EVENT ||
		verification->route->sink.shape == SHAPE_KEY)
		refuse(sync, "Its target keeps no rows.");
	ordflow_route_check(verification->route);
	if (verification->sink == NULL)
		return;
	if (verification->sink->compare == NULL || verification->sink->scan == NULL)
		refuse(sync, "Its target cannot be read.");
	verification->state = verification->sink->open(config, "ordflow:verify:");
	if (verification->state == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory"));
	if (!verification->sink->connect(verification->state, &error))
		target_failed(verification, &error);
}

static void
close_target(Verification *verification)
{
	if (verification->state != NULL)
		verification->sink->close(verification->state);
	verification->state = NULL;
}

static void
run(Verification *verification)
{
	Relation	source = table_open(verification->sync->source, AccessShareLock);
	int			nest = ordflow_change_settings();

	wait_for_target(verification);
	read_source(verification, &ordflow_row_relation(source)->relation);
	read_target(verification);
	settle(verification);
	ordflow_route_forget_relation(verification->route);
	AtEOXact_GUC(true, nest);
	table_close(source, AccessShareLock);
}

static Verification *
verify(FunctionCallInfo fcinfo)
{
	Verification *verification = palloc0(sizeof(Verification));

	ordflow_require_preload();
	verification->sync = ordflow_sync_of_caller(fcinfo);
	if (strcmp(verification->sync->mode, "cdc") != 0 &&
		strcmp(verification->sync->mode, "dual_write") != 0)
		refuse(verification->sync, "A pull brings what changed; one of mode full, all.");
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()) || IsolationUsesXactSnapshot())
		ereport(ERROR,
				errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				errmsg("a sync is verified in a transaction of its own, which is READ COMMITTED"),
				errhint("What this one has written is delivered after its commit, and what others write is to be seen."));
	verification->memory = AllocSetContextCreate(CurrentMemoryContext, "ordflow verification",
												 ALLOCSET_DEFAULT_SIZES);
	verification->chunk_memory = AllocSetContextCreate(verification->memory, "ordflow chunk",
													   ALLOCSET_DEFAULT_SIZES);
	PG_TRY();
	{
		open_target(verification);
		run(verification);
	}
	PG_FINALLY();
	{
		close_target(verification);
	}
	PG_END_TRY();
	return verification;
}

Datum
ordflow_verify_sync(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Verification *verification;

	InitMaterializedSRF(fcinfo, 0);
	verification = verify(fcinfo);
	for (int i = 0; i < verification->nsuspects; i++)
	{
		const Suspect *suspect = &verification->suspects[i];
		Datum		values[2];
		bool		nulls[2] = {false};

		if (suspect->problem == NULL)
			continue;
		values[0] = CStringGetTextDatum(suspect->key);
		values[1] = CStringGetTextDatum(suspect->problem);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	MemoryContextDelete(verification->memory);
	return (Datum) 0;
}

/* ---- after a gap ---- */

static Statement count_sharing = {
	.sql = "SELECT pg_catalog.count(*) FROM ordflow.syncs s, ordflow.syncs o "
	"WHERE s.sync_id = $1 AND o.sync_id <> s.sync_id AND o.target = s.target "
	"AND o.server IS NOT DISTINCT FROM s.server",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* What another sync has written to the same table is none of ours. */
static bool
shares_target(const SyncDefinition *sync)
{
	Datum		id = Int64GetDatum(sync->sync_id);
	bool		shares;

	SPI_connect();
	ordflow_execute(&count_sharing, &id, NULL);
	shares = ordflow_result_int64(0, 1) > 0;
	SPI_finish();
	return shares;
}

/* That say no more than the key: the delivery reads the row, in order with the stream. */
static int64
put_letters(const Verification *verification)
{
	XLogRecPtr	lsn = GetXLogInsertRecPtr();
	int64		n = 0;

	for (int i = 0; i < verification->nsuspects; i++)
	{
		const Suspect *suspect = &verification->suspects[i];
		SinkItem	item = {.op = SINK_PUT,.at = {0, lsn, i, 0},.key = suspect->key,
		.key_length = strlen(suspect->key),.body = ITEM_REFETCH,
		.body_length = strlen(ITEM_REFETCH)};

		if (suspect->problem == NULL && !verification->names_only)
			continue;
		ordflow_letter_put(verification->sync, &item, "replay", NULL, suspect->problem);
		n++;
	}
	return n;
}

int64
ordflow_sync_sweep(Route *route, const Sink *sink, void *state)
{
	Verification verification = {.sync = route->sync,.route = route,.sink = sink,.state = state,
	.names_only = true};
	Relation	source;
	int64		n;

	if ((sink != NULL && sink->scan == NULL) || route->sink.shape == SHAPE_EVENT ||
		route->sink.shape == SHAPE_KEY || get_rel_name(route->sync->source) == NULL ||
		shares_target(route->sync))
		return 0;
	verification.memory = AllocSetContextCreate(CurrentMemoryContext, "ordflow sweep",
												ALLOCSET_DEFAULT_SIZES);
	verification.chunk_memory = AllocSetContextCreate(verification.memory, "ordflow chunk",
													  ALLOCSET_DEFAULT_SIZES);
	source = table_open(route->sync->source, AccessShareLock);
	PushActiveSnapshot(GetLatestSnapshot());
	read_source(&verification, &ordflow_row_relation(source)->relation);
	PopActiveSnapshot();
	read_target(&verification);
	n = put_letters(&verification);
	ordflow_route_forget_relation(route);
	table_close(source, AccessShareLock);
	MemoryContextDelete(verification.memory);
	return n;
}

static Statement touch_sync = {
	.sql = "UPDATE ordflow.syncs SET name = name WHERE sync_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

Datum
ordflow_repair_sync(PG_FUNCTION_ARGS)
{
	Verification *verification;
	Datum		id;
	int64		n;
	RoleSwitch	saved;

	PreventCommandIfReadOnly("repair_sync()");
	verification = verify(fcinfo);
	if (strcmp(verification->sync->mode, "cdc") != 0)
		refuse(verification->sync, "It writes in the transaction of whoever changes the source: "
			   "update the rows there.");
	saved = ordflow_sync_connect();
	n = put_letters(verification);
	id = Int64GetDatum(verification->sync->sync_id);
	if (n > 0)
		ordflow_execute(&touch_sync, &id, NULL);
	ordflow_sync_disconnect(saved);
	MemoryContextDelete(verification->memory);
	ordflow_worker_wake(DUTY_SYNC, DT_NOBEGIN);
	PG_RETURN_INT64(n);
}

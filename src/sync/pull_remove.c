/*
 * pull_remove.c
 *	  After a full copy: what the target has and the source has no more is removed.
 *
 * The keys that were sent are kept beside, and the target's are compared with them by a query: of a
 * table as its key's type sees them, of a sink as texts.  Where a key is not known, as its row
 * could not be sent, nothing is removed.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"
#include "utils/typcache.h"

#include "sync/pull.h"

#define SENT "ordflow_sent"
#define MET "ordflow_met"
#define FETCH_ROWS 1000

/* ---- the keys ---- */

bool
ordflow_pull_removes(const Pull *pull)
{
	return pull->full && pull->route->options->remove &&
		(pull->sink == NULL || (pull->sink->scan != NULL &&
								pull->route->sink.shape != SHAPE_EVENT));
}

static TupleDesc
texts_desc(int n)
{
	TupleDesc	desc = CreateTemplateTupleDesc(n);

	for (int i = 1; i <= n; i++)
		TupleDescInitEntry(desc, i, psprintf("k%d", i), TEXTOID, -1, 0);
	return desc;
}

/* In a transaction. */
void
ordflow_pull_begin_keys(Pull *pull)
{
	MemoryContext before;
	char	  **names;
	Oid		   *types;
	int			n = pull->sink != NULL ? 1 : ordflow_table_keys(pull->route, &names, &types);

	before = MemoryContextSwitchTo(pull->memory);
	pull->keys_desc = texts_desc(n);
	pull->keys = tuplestore_begin_heap(true, true, work_mem);
	MemoryContextSwitchTo(before);
}

static const SinkField *
field_named(const SinkItem *item, const char *name)
{
	for (int i = 0; i < item->nfields; i++)
		if (strcmp(item->fields[i].name, name) == 0)
			return &item->fields[i];
	return NULL;
}

/* What a sink knows a row by, as its scan() tells it. */
static const char *
name_of(const SinkItem *item, Size *length)
{
	*length = item->target != NULL ? item->target_length : item->key_length;
	return item->target != NULL ? item->target : item->key;
}

static void
keep_table_key(Pull *pull, const SinkItem *item)
{
	char	  **names;
	Oid		   *types;
	int			n = ordflow_table_keys(pull->route, &names, &types);
	Datum	   *values = palloc(n * sizeof(Datum));
	bool	   *nulls = palloc(n * sizeof(bool));

	for (int i = 0; i < n; i++)
	{
		const SinkField *field = field_named(item, names[i]);

		ORDFLOW_PUT_TEXT(values, nulls, i, field != NULL ? field->value : NULL);
	}
	tuplestore_putvalues(pull->keys, pull->keys_desc, values, nulls);
}

void
ordflow_pull_keep_key(Pull *pull, const SinkItem *item)
{
	Size		length;
	const char *name;
	Datum		value;
	bool		isnull;

	if (pull->keys == NULL || item->op != SINK_PUT)
		return;
	if (pull->sink == NULL)
	{
		keep_table_key(pull, item);
		return;
	}
	name = name_of(item, &length);
	isnull = name == NULL;
	value = isnull ? (Datum) 0 : PointerGetDatum(cstring_to_text_with_len(name, length));
	tuplestore_putvalues(pull->keys, pull->keys_desc, &value, &isnull);
}

/* A store that queries of this connection to SPI can name. */
static void
name_store(const char *name, Tuplestorestate *store, TupleDesc desc)
{
	EphemeralNamedRelation relation = palloc0(sizeof(EphemeralNamedRelationData));

	relation->md.name = pstrdup(name);
	relation->md.reliddesc = InvalidOid;
	relation->md.tupdesc = desc;
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = tuplestore_tuple_count(store);
	relation->reldata = store;
	if (SPI_register_relation(relation) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not name a store for the query");
}

/* ---- tables ---- */

static char *
delete_sql(Pull *pull)
{
	StringInfoData sql;
	char	  **names;
	Oid		   *types;
	int			n = ordflow_table_keys(pull->route, &names, &types);

	initStringInfo(&sql);
	appendStringInfo(&sql, "DELETE FROM %s t WHERE NOT EXISTS (SELECT FROM " SENT " s WHERE ",
					 ordflow_table_name(pull->route));
	for (int i = 0; i < n; i++)
		appendStringInfo(&sql, "%ss.k%d::%s %s t.%s", i > 0 ? " AND " : "", i + 1,
						 format_type_be_qualified(types[i]),
						 ordflow_pull_operator(types[i], TYPECACHE_EQ_OPR),
						 quote_identifier(names[i]));
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

static void
remove_rows(Pull *pull)
{
	RoleSwitch	saved;

	ordflow_pull_begin(pull);
	saved = ordflow_role_enter(pull->route->role, true);
	SPI_connect();
	name_store(SENT, pull->keys, pull->keys_desc);
	if (SPI_execute(delete_sql(pull), false, 0) != SPI_OK_DELETE)
		elog(ERROR, "the target's rows could not be removed");
	pull->removed = SPI_processed;
	SPI_finish();
	ordflow_role_leave(saved);
	/* fails where the sync was altered meanwhile */
	ordflow_pull_note(pull, NULL, NULL, 0);
	ordflow_pull_commit(pull);
}

/* ---- sinks ---- */

typedef struct Meeting
{
	Pull	   *pull;
	Tuplestorestate *met;
} Meeting;

static bool
meet(void *context, const char *target, size_t target_length, const char *key, size_t key_length)
{
	Meeting    *meeting = context;
	bool		isnull = false;
	Datum		value = PointerGetDatum(target != NULL ?
										cstring_to_text_with_len(target, target_length) :
										cstring_to_text_with_len(key, key_length));

	tuplestore_putvalues(meeting->met, meeting->pull->keys_desc, &value, &isnull);
	pfree(DatumGetPointer(value));
	return !ordflow_worker_leaving();
}

/* The pattern of all rows, as of a source that was emptied. */
static char *
pattern_of(Pull *pull)
{
	Change		change = {.op = CHANGE_TRUNCATE,.relation = pull->source->relation};
	SinkPosition at = {1, 1, 1, 0};
	TruncatePolicy policy = pull->route->options->on_truncate;
	ItemList	list = {0};

	pull->route->options->on_truncate = ON_TRUNCATE_APPLY;
	ordflow_pull_begin(pull);
	ordflow_route_change(pull->route, &change, &at, &list);
	ordflow_pull_commit(pull);
	pull->route->options->on_truncate = policy;
	return list.n > 0 && list.items[0].target != NULL ?
		MemoryContextStrdup(pull->memory, list.items[0].target) : NULL;
}

static Tuplestorestate *
scan_target(Pull *pull)
{
	MemoryContext before = MemoryContextSwitchTo(pull->memory);
	char	   *cursor = palloc0(SINK_CURSOR_MAX);
	Meeting		meeting = {pull, tuplestore_begin_heap(true, true, work_mem)};
	ModuleError error = {0};
	char	   *pattern;

	MemoryContextSwitchTo(before);
	pattern = pattern_of(pull);
	do
	{
		if (!pull->sink->scan(pull->state, &pull->route->sink, pattern, cursor, meet, &meeting,
							  &error))
			ereport(ERROR,
					errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
					errmsg("the target could not be read: %s", error.message));
		ordflow_pull_check();
	} while (cursor[0] != '\0');
	return meeting.met;
}

/* Those that were met and not sent, in a store that outlives the transaction. */
static Tuplestorestate *
find_others(Pull *pull, Tuplestorestate *met)
{
	MemoryContext before = MemoryContextSwitchTo(pull->memory);
	Tuplestorestate *others = tuplestore_begin_heap(false, true, work_mem);
	Portal		portal;

	MemoryContextSwitchTo(before);
	ordflow_pull_begin(pull);
	SPI_connect();
	name_store(SENT, pull->keys, pull->keys_desc);
	name_store(MET, met, pull->keys_desc);
	portal = SPI_cursor_open_with_args(NULL, "SELECT k1 COLLATE \"C\" FROM " MET " EXCEPT "
									   "SELECT k1 COLLATE \"C\" FROM " SENT, 0, NULL, NULL, NULL,
									   true, CURSOR_OPT_NO_SCROLL);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
			tuplestore_puttuple(others, SPI_tuptable->vals[i]);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	SPI_finish();
	ordflow_pull_commit(pull);
	return others;
}

/* A deletion of what has that name. */
static void
add_deletion(Pull *pull, Datum name, bool by_target, ItemList *items)
{
	SinkItem	item = {.op = SINK_DELETE,.route = &pull->route->sink,
	.at = {pull->row->generation, pull->row->pull, ++pull->ordinal, 0}};
	char	   *called = TextDatumGetCString(name);

	if (by_target)
	{
		item.target = called;
		item.target_length = strlen(called);
	}
	else
	{
		item.key = called;
		item.key_length = strlen(called);
	}
	ordflow_items_add(items, &item);
}

static void
delete_others(Pull *pull, Tuplestorestate *others)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(pull->keys_desc, &TTSOpsMinimalTuple);
	ItemList	items;
	bool		by_target = pull->route->sink.target != NULL;

	do
	{
		items = (ItemList) {0};
		while (items.n < SINK_ITEMS_MAX && tuplestore_gettupleslot(others, true, false, slot))
		{
			bool		isnull;

			add_deletion(pull, slot_getattr(slot, 1, &isnull), by_target, &items);
		}
		if (items.n == 0)
			break;
		ordflow_pull_begin(pull);
		ordflow_pull_note(pull, &items.items[items.n - 1].at, NULL, 0);
		ordflow_pull_commit(pull);
		pull->removed += items.n;
		ordflow_pull_apply(pull, &items);
		ordflow_pull_check();
		MemoryContextReset(pull->batch_memory);
	} while (true);
	ExecDropSingleTupleTableSlot(slot);
}

void
ordflow_pull_remove(Pull *pull)
{
	MemoryContext before = MemoryContextSwitchTo(pull->batch_memory);

	if (pull->keys == NULL)
		return;
	if (pull->nunknown > 0)
		pull->held = MemoryContextStrdup(pull->memory,
										 "nothing was removed from the target, as there are rows "
										 "that could not be sent, see ordflow.sync_dead_letters");
	else if (pull->sink == NULL)
		remove_rows(pull);
	else
		delete_others(pull, find_others(pull, scan_target(pull)));
	MemoryContextSwitchTo(before);
	MemoryContextReset(pull->batch_memory);
}

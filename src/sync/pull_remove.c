/*
 * pull_remove.c
 *	  After a full copy: what the target has and the source has no more is removed.
 *
 * The keys that were sent are kept beside, and the target's are compared with them by a query: of a
 * table as its key's type sees them, of a sink as texts.  Where a key is not known, as its row
 * could not be sent, nothing is removed.
 */
#include "postgres.h"

#include <ctype.h>

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
	int			n = pull->sink != NULL ? 2 : ordflow_table_keys(pull->route, &names, &types);

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

/* What a sink may know a row by: its target, and its key. */
static void
keep_names(Tuplestorestate *store, TupleDesc desc, const char *target, size_t target_length,
		   const char *key, size_t key_length)
{
	Datum		values[2] = {0};
	bool		nulls[2] = {target == NULL, key == NULL};

	if (target != NULL)
		values[0] = PointerGetDatum(cstring_to_text_with_len(target, target_length));
	if (key != NULL)
		values[1] = PointerGetDatum(cstring_to_text_with_len(key, key_length));
	tuplestore_putvalues(store, desc, values, nulls);
	for (int i = 0; i < 2; i++)
		if (!nulls[i])
			pfree(DatumGetPointer(values[i]));
}

void
ordflow_pull_keep_key(Pull *pull, const SinkItem *item)
{
	if (pull->keys == NULL || item->op != SINK_PUT)
		return;
	if (pull->sink == NULL)
		keep_table_key(pull, item);
	else
		keep_names(pull->keys, pull->keys_desc, item->target, item->target_length, item->key,
				   item->key_length);
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
	const char *pattern;		/* NULL: the sink tells of its own rows alone */
	char	   *separators;		/* of the pattern's own text */
} Meeting;

/*
 * Is the name one of this sync's rows?  What stands for a column holds no separator of the
 * pattern: order:42 fits order:*, and order:42:lines is somebody else's, which is left alone.
 */
static bool
fits(const char *pattern, const char *name, const char *end, const char *separators)
{
	for (; *pattern != '\0' && *pattern != '*'; pattern++, name++)
	{
		if (*pattern == '\\')
			pattern++;
		if (name == end || *name != *pattern)
			return false;
	}
	if (*pattern == '\0')
		return name == end;
	for (;; name++)
	{
		if (fits(pattern + 1, name, end, separators))
			return true;
		if (name == end || strchr(separators, *name) != NULL)
			return false;
	}
}

static char *
separators_of(const char *pattern)
{
	char	   *separators = palloc0((pattern != NULL ? strlen(pattern) : 0) + 1);
	int			n = 0;

	for (const char *c = pattern; c != NULL && *c != '\0'; c++)
	{
		if (*c == '*')
			continue;
		if (*c == '\\')
			c++;
		if (ispunct((unsigned char) *c))
			separators[n++] = *c;
	}
	return separators;
}

static bool
meet(void *context, const char *target, size_t target_length, const char *key, size_t key_length)
{
	Meeting    *meeting = context;

	if (target != NULL && meeting->pattern != NULL &&
		!fits(meeting->pattern, target, target + target_length, meeting->separators))
		return !ordflow_worker_leaving();
	keep_names(meeting->met, meeting->pull->keys_desc, target, target_length,
			   target != NULL ? NULL : key, key_length);
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

	MemoryContextSwitchTo(before);
	meeting.pattern = pattern_of(pull);
	meeting.separators = separators_of(meeting.pattern);
	do
	{
		if (!pull->sink->scan(pull->state, &pull->route->sink, meeting.pattern, cursor, meet,
							  &meeting, &error))
			ereport(ERROR,
					errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
					errmsg("the target could not be read: %s", error.message));
		ordflow_pull_check();
	}
	while (cursor[0] != '\0');
	return meeting.met;
}

#define OTHERS \
	"(SELECT k1, NULL::text FROM " MET " WHERE k1 IS NOT NULL " \
	"EXCEPT SELECT k1, NULL FROM " SENT ") UNION ALL " \
	"(SELECT NULL, k2 FROM " MET " WHERE k1 IS NULL EXCEPT SELECT NULL, k2 FROM " SENT ")"

#define NOT_MET \
	"SELECT WHERE EXISTS (SELECT FROM " MET " WHERE k1 IS NULL) AND EXISTS (" \
	"SELECT k2 FROM " SENT " EXCEPT SELECT k2 FROM " MET ")"

/* Rows that a target tells by their keys must be there, now that they were sent; connected. */
static bool
is_told_as_sent(Pull *pull)
{
	if (SPI_execute(NOT_MET, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "keys could not be compared");
	if (SPI_processed == 0)
		return true;
	pull->held = MemoryContextStrdup(pull->memory,
									 "nothing was removed from the target, as it writes keys "
									 "otherwise than they were sent: give both the same types");
	return false;
}

static void
keep_others(Tuplestorestate *others)
{
	Portal		portal = SPI_cursor_open_with_args(NULL, OTHERS, 0, NULL, NULL, NULL, true,
												   CURSOR_OPT_NO_SCROLL);

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
}

/* Those that were met and not sent, in a store that outlives the transaction. */
static Tuplestorestate *
find_others(Pull *pull, Tuplestorestate *met)
{
	MemoryContext before = MemoryContextSwitchTo(pull->memory);
	Tuplestorestate *others = tuplestore_begin_heap(false, true, work_mem);

	MemoryContextSwitchTo(before);
	ordflow_pull_begin(pull);
	SPI_connect();
	name_store(SENT, pull->keys, pull->keys_desc);
	name_store(MET, met, pull->keys_desc);
	if (is_told_as_sent(pull))
		keep_others(others);
	SPI_finish();
	ordflow_pull_commit(pull);
	return others;
}

/* A deletion of what is told by its target, or by its key. */
static void
add_deletion(Pull *pull, TupleTableSlot *slot, ItemList *items)
{
	SinkItem	item = {.op = SINK_DELETE,.route = &pull->route->sink,
	.at = {pull->row->generation, pull->row->pull, ++pull->ordinal, 0}};
	bool		isnull;
	Datum		target = slot_getattr(slot, 1, &isnull);

	if (!isnull)
	{
		item.target = TextDatumGetCString(target);
		item.target_length = strlen(item.target);
	}
	else
	{
		item.key = TextDatumGetCString(slot_getattr(slot, 2, &isnull));
		item.key_length = strlen(item.key);
	}
	ordflow_items_add(items, &item);
}

static void
delete_others(Pull *pull, Tuplestorestate *others)
{
	MemoryContext before = MemoryContextSwitchTo(pull->memory);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(pull->keys_desc, &TTSOpsMinimalTuple);
	ItemList	items;

	MemoryContextSwitchTo(before);
	do
	{
		items = (ItemList) {0};
		while (items.n < SINK_ITEMS_MAX && tuplestore_gettupleslot(others, true, false, slot))
			add_deletion(pull, slot, &items);
		if (items.n == 0)
			break;
		ordflow_pull_begin(pull);
		ordflow_pull_note(pull, &items.items[items.n - 1].at, NULL, 0);
		ordflow_pull_commit(pull);
		pull->removed += items.n;
		ordflow_pull_apply(pull, &items);
		ordflow_pull_check();
		MemoryContextReset(pull->batch_memory);
	}
	while (true);
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

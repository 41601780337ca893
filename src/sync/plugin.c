/*
 * plugin.c
 *	  The output plugin "ordflow": changes in our formats for pg_recvlogical, for
 *	  pg_logical_slot_get_changes() and whoever else reads a replication slot.
 *
 * Callbacks see the catalogs as they were when the change was made.  They read nothing else, take
 * no transaction id and run no SQL.  Each works in a context that is reset behind it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/partition.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "replication/logical.h"
#include "replication/origin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "base/base.h"
#include "sync/format_internal.h"
#include "sync/plugin.h"
#include "sync/row.h"

/* A transaction that none of our tables is in still has to tell a client that time goes on. */
#define PROGRESS_EVERY 128		/* changes */

void		(*ordflow_decoder_callbacks) (OutputPluginCallbacks *callbacks) = NULL;

PGDLLEXPORT void _PG_output_plugin_init(OutputPluginCallbacks *callbacks);

/* What a table's changes are told as: of a partition the columns and the name of its root. */
typedef struct PluginRelation
{
	uint64		generation;
	MemoryContext context;
	bool		wanted;
	bool		is_partition;	/* of a root that it is told as */
	bool		warned;
	const ChangeRelation *relation;
	int		   *places;			/* in the table's own columns; NULL: they are the same */
} PluginRelation;

/* Of a transaction that is being decoded; hangs on it, as streamed ones are interleaved. */
typedef struct PluginTransaction
{
	uint64		changes;		/* told */
	int			ncollections;
	CollectionCount *collections;
} PluginTransaction;

typedef struct PluginState
{
	LogicalDecodingContext *ctx;
	MemoryContext context;		/* of what is kept */
	MemoryContext change_context;
	PluginOptions options;
	FormatContext format;
	int			settings_level; /* 0: they stay */
	bool		is_streaming;	/* within a streamed part */
	uint32		skipped;
	StringInfo	pending;		/* Maxwell's last message, which may be the transaction's */
	int			pending_value;	/* where in it the value begins */
} PluginState;

/* Grows whenever what a PluginRelation was made of may be another. */
static uint64 generation = 0;

static void
forget_relations(Oid relid)
{
	generation++;
}

/* ---- tables ---- */

static int
place_of(const ChangeRelation *relation, const char *column)
{
	for (int i = 0; i < relation->ncolumns; i++)
		if (strcmp(relation->columns[i].name, column) == 0)
			return i;
	return -1;
}

/* The columns of target, in its order, that are wanted and that the table has. */
static void
map_columns(const PluginOptions *options, PluginRelation *plugin, const ChangeRelation *source,
			const ChangeRelation *target)
{
	ChangeRelation *relation = palloc0(sizeof(ChangeRelation));
	int		   *keys = palloc((source->nkeys + 1) * sizeof(int));
	int			n = 0;

	*relation = *target;
	relation->relid = source->relid;
	relation->schema = pstrdup(target->schema);
	relation->name = pstrdup(target->name);
	relation->columns = palloc((target->ncolumns + 1) * sizeof(ChangeColumn));
	plugin->places = palloc((target->ncolumns + 1) * sizeof(int));
	for (int i = 0; i < target->ncolumns; i++)
	{
		const char *name = target->columns[i].name;
		int			place = place_of(source, name);

		if (place < 0 ||
			!ordflow_plugin_wants_column(options, target->schema, target->name, name))
			continue;
		relation->columns[n] = source->columns[place];
		plugin->places[n++] = place;
	}
	relation->ncolumns = n;

	/* the partition has the root's key, and it is what its changes were logged by */
	relation->nkeys = 0;
	for (int i = 0; i < source->nkeys; i++)
	{
		int			place = place_of(relation, source->columns[source->keys[i]].name);

		if (place >= 0)
			keys[relation->nkeys++] = place;
	}
	relation->keys = keys;
	ordflow_format_relation(relation);
	plugin->relation = relation;
}

static bool
wants_all_columns(const PluginOptions *options, const ChangeRelation *relation)
{
	for (int i = 0; i < relation->ncolumns; i++)
		if (!ordflow_plugin_wants_column(options, relation->schema, relation->name,
										 relation->columns[i].name))
			return false;
	return true;
}

static const ChangeRelation *
root_of(Relation rel)
{
	Oid			root = llast_oid(get_partition_ancestors(RelationGetRelid(rel)));
	Relation	root_rel = RelationIdGetRelation(root);
	const ChangeRelation *relation;

	if (!RelationIsValid(root_rel))
		elog(ERROR, "could not open relation %u", root);
	relation = &ordflow_row_relation(root_rel)->relation;
	RelationClose(root_rel);
	return relation;
}

static PluginRelation *
make_plugin_relation(PluginState *state, RowRelation *row, Relation rel)
{
	const PluginOptions *options = &state->options;
	MemoryContext context = AllocSetContextCreate(row->context, "ordflow plugin relation",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	PluginRelation *plugin = palloc0(sizeof(PluginRelation));
	const ChangeRelation *target = &row->relation;

	plugin->context = context;
	plugin->generation = generation;
	plugin->is_partition = options->publish_via_root && rel->rd_rel->relispartition;
	if (plugin->is_partition)
		target = root_of(rel);
	plugin->wanted = ordflow_plugin_wants_table(options, target->schema, target->name);
	plugin->relation = &row->relation;
	if (plugin->wanted && (plugin->is_partition || !wants_all_columns(options, target)))
		map_columns(options, plugin, &row->relation, target);
	MemoryContextSwitchTo(old);
	return plugin;
}

static PluginRelation *
plugin_relation(PluginState *state, RowRelation *row, Relation rel)
{
	PluginRelation *plugin = row->user;

	if (plugin && plugin->generation == generation)
		return plugin;
	row->user = NULL;
	if (plugin)
		MemoryContextDelete(plugin->context);
	row->user = make_plugin_relation(state, row, rel);
	return row->user;
}

static const ChangeValue *
read_values(const PluginRelation *plugin, RowRelation *row, Relation rel, HeapTuple tuple,
			bool keys_only)
{
	ChangeValue *values;
	ChangeValue *told;

	if (tuple == NULL)
		return NULL;
	values = palloc((row->relation.ncolumns + 1) * sizeof(ChangeValue));
	ordflow_row_values(row, rel, tuple, keys_only, values);
	if (plugin->places == NULL)
		return values;
	told = palloc((plugin->relation->ncolumns + 1) * sizeof(ChangeValue));
	for (int i = 0; i < plugin->relation->ncolumns; i++)
		told[i] = values[plugin->places[i]];
	return told;
}

/* ---- output ---- */

/* The last message of Maxwell's, as it is known now whether another follows in its transaction. */
static void
write_pending(PluginState *state, bool is_last)
{
	StringInfo	pending = state->pending;
	const char *offset;
	const char *rest;

	if (pending == NULL || pending->len == 0)
		return;
	OutputPluginPrepareWrite(state->ctx, true);
	/* what stands before this field are numbers and strings, which cannot hold it unescaped */
	offset = is_last ? strstr(pending->data + state->pending_value, ",\"xoffset\":") : NULL;
	if (offset)
	{
		rest = strchr(offset + 1, ',');
		appendBinaryStringInfo(state->ctx->out, pending->data, offset - pending->data);
		appendStringInfoString(state->ctx->out, ",\"commit\":true");
		appendStringInfoString(state->ctx->out, rest);
	}
	else
		appendBinaryStringInfo(state->ctx->out, pending->data, pending->len);
	OutputPluginWrite(state->ctx, true);
	resetStringInfo(pending);
}

static void
put_message(PluginState *state, StringInfo out, const char *key, int key_length,
			const char *value, int value_length)
{
	if (!state->options.include_key)
	{
		appendBinaryStringInfo(out, value, value_length);
		return;
	}
	appendStringInfoString(out, "{\"key\":");
	if (key)
		appendBinaryStringInfo(out, key, key_length);
	else
		appendStringInfoString(out, "null");
	appendStringInfoString(out, ",\"value\":");
	state->pending_value = out->len;
	if (value)
		appendBinaryStringInfo(out, value, value_length);
	else
		appendStringInfoString(out, "null");
	appendStringInfoChar(out, '}');
}

static void
emit_message(void *arg, const char *key, int key_length, const char *value, int value_length)
{
	PluginState *state = arg;

	if (state->pending)
	{
		write_pending(state, false);
		put_message(state, state->pending, key, key_length, value, value_length);
		return;
	}
	OutputPluginPrepareWrite(state->ctx, true);
	put_message(state, state->ctx->out, key, key_length, value, value_length);
	OutputPluginWrite(state->ctx, true);
}

/* ---- transactions ---- */

static PluginTransaction *
transaction_of(PluginState *state, ReorderBufferTXN *txn)
{
	ReorderBufferTXN *top = txn->toptxn ? txn->toptxn : txn;

	if (top->output_plugin_private == NULL)
		top->output_plugin_private = MemoryContextAllocZero(state->context,
															sizeof(PluginTransaction));
	return top->output_plugin_private;
}

static void
forget_transaction(ReorderBufferTXN *txn)
{
	PluginTransaction *transaction = txn->output_plugin_private;

	if (transaction == NULL)
		return;
	if (transaction->collections)
		pfree(transaction->collections);
	pfree(transaction);
	txn->output_plugin_private = NULL;
}

static void
describe_transaction(PluginState *state, ReorderBufferTXN *txn, Change *change)
{
	change->xid = txn->xid;
	if (state->is_streaming)
		return;
	change->commit_lsn = txn->final_lsn;
	change->committed_at = txn->xact_time.commit_time;
}

/* Tells of a transaction once there is something in it to tell. */
static void
tell_begin(PluginState *state, const Change *change)
{
	if (state->options.format == FORMAT_DEBEZIUM)
		ordflow_format_debezium_transaction(&state->format, change, false, 0, NULL, 0,
											emit_message, state);
	else
		ordflow_format_json_transaction(change, "begin", InvalidTransactionId, 0, emit_message,
										state);
}

/* The change's number among those of its table. */
static uint64
count_in_collection(PluginState *state, PluginTransaction *transaction,
					const ChangeRelation *relation)
{
	CollectionCount *collection = NULL;
	MemoryContext old;

	for (int i = 0; i < transaction->ncollections; i++)
	{
		collection = &transaction->collections[i];
		if (strcmp(collection->table, relation->name) == 0 &&
			strcmp(collection->schema, relation->schema) == 0)
			return ++collection->count;
	}
	old = MemoryContextSwitchTo(state->context);
	if (transaction->collections == NULL)
		transaction->collections = palloc(sizeof(CollectionCount));
	else
		transaction->collections = repalloc(transaction->collections,
											(transaction->ncollections + 1) *
											sizeof(CollectionCount));
	collection = &transaction->collections[transaction->ncollections++];
	collection->schema = pstrdup(relation->schema);
	collection->table = pstrdup(relation->name);
	collection->count = 1;
	MemoryContextSwitchTo(old);
	return 1;
}

static void
tell_change(PluginState *state, ReorderBufferTXN *txn, Change *change)
{
	PluginTransaction *transaction = transaction_of(state, txn);
	bool		with_transactions = state->options.include_transactions && !state->is_streaming;

	if (with_transactions && transaction->changes == 0)
		tell_begin(state, change);
	change->ordinal = ++transaction->changes;
	state->format.collection_order = 0;
	if (with_transactions && change->relation && state->options.format == FORMAT_DEBEZIUM)
		state->format.collection_order = count_in_collection(state, transaction, change->relation);
	ordflow_format_change(&state->format, change, emit_message, state);
}

static void
tell_end(PluginState *state, ReorderBufferTXN *txn)
{
	PluginTransaction *transaction = txn->output_plugin_private;
	Change		change = {0};

	if (transaction == NULL || transaction->changes == 0)
		return;
	write_pending(state, true);
	if (!state->options.include_transactions)
		return;
	describe_transaction(state, txn, &change);
	if (state->options.format == FORMAT_DEBEZIUM)
		ordflow_format_debezium_transaction(&state->format, &change, true, transaction->changes,
											transaction->collections, transaction->ncollections,
											emit_message, state);
	else
		ordflow_format_json_transaction(&change, "commit", InvalidTransactionId,
										transaction->changes, emit_message, state);
}

static MemoryContext
enter(PluginState *state)
{
	return MemoryContextSwitchTo(state->change_context);
}

static void
leave(PluginState *state, MemoryContext old)
{
	MemoryContextSwitchTo(old);
	MemoryContextReset(state->change_context);
}

/* ---- callbacks ---- */

static void
begin_transaction(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	txn->output_plugin_private = NULL;
}

static void
commit_transaction(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	PluginState *state = ctx->output_plugin_private;
	PluginTransaction *transaction = txn->output_plugin_private;
	bool		skipped = transaction == NULL || transaction->changes == 0;
	MemoryContext old = enter(state);

	tell_end(state, txn);
	if (!skipped)
		state->format.previous_commit = commit_lsn;
	forget_transaction(txn);
	leave(state, old);
	OutputPluginUpdateProgress(ctx, skipped);
}

static ChangeOp
op_of(const ReorderBufferChange *change)
{
	switch (change->action)
	{
		case REORDER_BUFFER_CHANGE_INSERT:
			return CHANGE_INSERT;
		case REORDER_BUFFER_CHANGE_UPDATE:
			return CHANGE_UPDATE;
		case REORDER_BUFFER_CHANGE_DELETE:
			return CHANGE_DELETE;
		default:
			elog(ERROR, "unexpected kind of change: %d", (int) change->action);
	}
}

/* A reader of these formats finds a deleted row by what the message has of it: there is nothing. */
static bool
is_untold(PluginState *state, PluginRelation *plugin, const Change *change)
{
	if (state->options.format == FORMAT_JSON || !is_nameless_delete(change))
		return false;
	if (!plugin->warned)
		ereport(WARNING,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("deletes from \"%s.%s\" are left out", change->relation->schema,
					   change->relation->name),
				errdetail("It has neither a primary key nor a replica identity."),
				errhint("ALTER TABLE ... REPLICA IDENTITY FULL;"));
	plugin->warned = true;
	return true;
}

static void
tell_row(PluginState *state, ReorderBufferTXN *txn, Relation rel, ReorderBufferChange *decoded)
{
	RowRelation *row = ordflow_row_relation(rel);
	PluginRelation *plugin = plugin_relation(state, row, rel);
	Change		change = {.op = op_of(decoded), .lsn = decoded->lsn};

	if (!plugin->wanted)
	{
		if (++state->skipped % PROGRESS_EVERY == 0)
			OutputPluginUpdateProgress(state->ctx, false);
		return;
	}
	change.relation = plugin->relation;
	change.old_is_whole = rel->rd_rel->relreplident == REPLICA_IDENTITY_FULL;
	change.values = read_values(plugin, row, rel, ordflow_change_tuple(decoded->data.tp.newtuple),
								false);
	change.old = read_values(plugin, row, rel, ordflow_change_tuple(decoded->data.tp.oldtuple),
							 !change.old_is_whole);
	if (change.op == CHANGE_DELETE)
		change.values = NULL;
	if (is_untold(state, plugin, &change))
		return;
	describe_transaction(state, txn, &change);
	tell_change(state, txn, &change);
}

static void
change_row(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation rel,
		   ReorderBufferChange *change)
{
	PluginState *state = ctx->output_plugin_private;
	MemoryContext old = enter(state);

	tell_row(state, txn, rel, change);
	leave(state, old);
}

static void
truncate_tables(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, int nrelations,
				Relation relations[], ReorderBufferChange *decoded)
{
	PluginState *state = ctx->output_plugin_private;
	MemoryContext old = enter(state);

	for (int i = 0; i < nrelations; i++)
	{
		RowRelation *row = ordflow_row_relation(relations[i]);
		PluginRelation *plugin = plugin_relation(state, row, relations[i]);
		Change		change = {.op = CHANGE_TRUNCATE, .lsn = decoded->lsn};

		/* that of the root is told; that of a partition alone would be taken for the root's */
		if (!plugin->wanted || plugin->is_partition || state->options.format == FORMAT_MAXWELL)
			continue;
		change.relation = plugin->relation;
		change.cascade = decoded->data.truncate.cascade;
		change.restart_identity = decoded->data.truncate.restart_seqs;
		describe_transaction(state, txn, &change);
		tell_change(state, txn, &change);
	}
	leave(state, old);
}

/* txn is NULL of a message that is no part of a transaction. */
static void
tell_message(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr lsn,
			 bool transactional, const char *prefix, Size size, const char *content)
{
	PluginState *state = ctx->output_plugin_private;
	Change		change = {.op = CHANGE_MESSAGE, .lsn = lsn};
	MemoryContext old;

	if (state->options.format == FORMAT_CANAL || state->options.format == FORMAT_MAXWELL ||
		!ordflow_plugin_wants_prefix(&state->options, prefix))
		return;
	old = enter(state);
	change.prefix = prefix;
	change.content = content;
	change.content_length = size;
	if (transactional)
	{
		describe_transaction(state, txn, &change);
		tell_change(state, txn, &change);
	}
	else
	{
		state->format.collection_order = 0;
		ordflow_format_change(&state->format, &change, emit_message, state);
	}
	leave(state, old);
}

static bool
filter_by_origin(LogicalDecodingContext *ctx, RepOriginId origin)
{
	PluginState *state = ctx->output_plugin_private;

	return state->options.local_only && origin != InvalidRepOriginId;
}

/* ---- streaming: json only, for clients that can take a transaction back ---- */

static void
tell_stream(PluginState *state, ReorderBufferTXN *txn, const char *op, TransactionId top,
			uint64 changes)
{
	MemoryContext old = enter(state);
	Change		change = {0};

	describe_transaction(state, txn, &change);
	ordflow_format_json_transaction(&change, op, top, changes, emit_message, state);
	leave(state, old);
}

static void
start_stream(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	PluginState *state = ctx->output_plugin_private;

	state->is_streaming = true;
	tell_stream(state, txn, "stream_start", InvalidTransactionId, 0);
}

static void
stop_stream(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	PluginState *state = ctx->output_plugin_private;

	tell_stream(state, txn, "stream_stop", InvalidTransactionId, 0);
	state->is_streaming = false;
}

static void
abort_stream(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr abort_lsn)
{
	PluginState *state = ctx->output_plugin_private;
	bool		is_top = txn->toptxn == NULL;

	state->is_streaming = true;
	tell_stream(state, txn, "stream_abort", is_top ? InvalidTransactionId : txn->toptxn->xid, 0);
	state->is_streaming = false;
	if (is_top)
		forget_transaction(txn);
}

static void
commit_stream(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	PluginState *state = ctx->output_plugin_private;
	PluginTransaction *transaction = transaction_of(state, txn);

	tell_stream(state, txn, "stream_commit", InvalidTransactionId, transaction->changes);
	forget_transaction(txn);
	OutputPluginUpdateProgress(ctx, false);
}

/* What an aborted subtransaction did has to be found again: changes have its id. */
static void
stream_row(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation rel,
		   ReorderBufferChange *change)
{
	PluginState *state = ctx->output_plugin_private;
	MemoryContext old = enter(state);

	tell_row(state, change->txn, rel, change);
	leave(state, old);
}

/* ---- start and end ---- */

/* A walsender starts without a transaction to look in. */
static const char *
database_name(void)
{
	MemoryContext context = CurrentMemoryContext;
	const char *name;

	if (IsTransactionState())
		return get_database_name(MyDatabaseId);
	StartTransactionCommand();
	name = MemoryContextStrdup(context, get_database_name(MyDatabaseId));
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return name;
}

static void
shut_down(LogicalDecodingContext *ctx)
{
	PluginState *state = ctx->output_plugin_private;

	if (state->settings_level > 0)
		AtEOXact_GUC(false, state->settings_level);
	/* contexts go with that of the decoding */
}

static void
start_up(LogicalDecodingContext *ctx, OutputPluginOptions *output, bool is_init)
{
	static bool watching = false;
	PluginState *state = palloc0(sizeof(PluginState));

	output->output_type = OUTPUT_PLUGIN_TEXTUAL_OUTPUT;
	state->ctx = ctx;
	state->context = ctx->context;
	state->change_context = AllocSetContextCreate(ctx->context, "ordflow change",
												  ALLOCSET_DEFAULT_SIZES);
	ctx->output_plugin_private = state;
	if (!watching)
		ordflow_on_relation_change(forget_relations);
	watching = true;
	/* what an earlier reader in this process asked for */
	generation++;

	ordflow_plugin_options(ctx->output_plugin_options, &state->options);
	ctx->streaming &= state->options.streaming;
	if (is_init)
		return;
	state->format.format = state->options.format;
	state->format.database = database_name();
	state->format.origin = state->options.server_name ? state->options.server_name :
		state->format.database;
	state->format.tombstones = state->options.tombstones;
	state->format.without_keys = !state->options.include_key;
	if (state->options.format == FORMAT_MAXWELL)
		state->pending = makeStringInfo();
	state->settings_level = ordflow_change_settings();
}

void
_PG_output_plugin_init(OutputPluginCallbacks *callbacks)
{
	if (ordflow_decoder_callbacks)
	{
		ordflow_decoder_callbacks(callbacks);
		return;
	}
	callbacks->startup_cb = start_up;
	callbacks->begin_cb = begin_transaction;
	callbacks->change_cb = change_row;
	callbacks->truncate_cb = truncate_tables;
	callbacks->message_cb = tell_message;
	callbacks->commit_cb = commit_transaction;
	callbacks->filter_by_origin_cb = filter_by_origin;
	callbacks->shutdown_cb = shut_down;
	callbacks->stream_start_cb = start_stream;
	callbacks->stream_stop_cb = stop_stream;
	callbacks->stream_abort_cb = abort_stream;
	callbacks->stream_commit_cb = commit_stream;
	callbacks->stream_change_cb = stream_row;
	callbacks->stream_message_cb = tell_message;
	callbacks->stream_truncate_cb = truncate_tables;
}

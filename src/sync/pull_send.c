/*
 * pull_send.c
 *	  Rows that were pulled go to the target, some at a time.
 *
 * What goes to a table is written with the place of its last row in one transaction.  Of a sink,
 * the place that its next batch will leave it at is written first: so after a crash the target's
 * position tells which of two places holds.  Where it tells of a third, somebody has emptied the
 * target or put it back, or this database: then everything is sent again.
 *
 * What a row says is no error of the pull: by the option on_error it becomes a letter.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "sync/pull.h"

#define REPLAYS_MAX 500
#define RETRIES_MAX 9			/* of a batch, then all begins anew: 50 ms to 12.8 s, 25 s in all */
#define RETRY_MS	50L

typedef struct PulledRow
{
	ChangeValue *values;
	uint64		ordinal;
	bool		too_large;
	bool		dead;			/* it is a letter, or is to be one */
} PulledRow;

static PulledRow rows[SINK_ITEMS_MAX];
static int	nrows = 0;

/* What an error is blamed on: a row, or what was made of it. */
static PulledRow *current_row = NULL;
static const SinkItem *current_item = NULL;

/* ---- errors ---- */

pg_noreturn static void
fail(Pull *pull, const ModuleError *error)
{
	pull->misconfigured = error->misconfigured;
	ereport(ERROR,
			errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
			errmsg("%s", error->message),
			error->hint[0] != '\0' ? errhint("%s", error->hint) : 0);
}

/* The transaction is gone; the row becomes a letter, or the error stops the pull. */
static void
put_aside(Pull *pull, const SinkItem *item, const char *sqlstate, const char *message)
{
	ModuleError error = {.misconfigured = true};

	if (pull->route->options->on_error == ON_ERROR_STOP)
	{
		strlcpy(error.message, message, sizeof(error.message));
		fail(pull, &error);
	}
	ordflow_pull_begin(pull);
	ordflow_letter_put(pull->sync, item, "dead", sqlstate, message);
	ordflow_pull_commit(pull);
	ordflow_letter_note(pull->sync_id, item, pull->route->options->on_error == ON_ERROR_PARK);
}

static PulledRow *
row_of(const SinkItem *item)
{
	for (int i = 0; i < nrows; i++)
		if (rows[i].ordinal == item->at.ordinal)
			return &rows[i];
	return NULL;
}

/* Of a row of which no item could be made, all that its key says. */
static void
put_row_aside(Pull *pull, PulledRow *row, const char *sqlstate, const char *message)
{
	ItemList	list = {0};
	Change		change = {.relation = pull->source->relation,.values = row->values};
	SinkPosition at = {pull->row->generation, pull->row->pull, row->ordinal, 0};

	row->dead = true;
	pull->nunknown++;
	ordflow_route_refetch_item(pull->route, &change, &at, &list);
	put_aside(pull, &list.items[0], sqlstate, message);
}

/* An error of an expression, or of a table; passes where it is not about a row. */
static void
blame(Pull *pull, ErrorData *error)
{
	const char *sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
	PulledRow  *row = current_row;
	const SinkItem *item = current_item;

	current_row = NULL;
	current_item = NULL;
	if ((row == NULL && item == NULL) || ordflow_sync_error_passes(error->sqlerrcode) ||
		ordflow_sync_error_is_schema(error->sqlerrcode))
	{
		pull->misconfigured = ordflow_sync_error_is_schema(error->sqlerrcode);
		ReThrowError(error);
	}
	if (item == NULL)
	{
		put_row_aside(pull, row, sqlstate, error->message);
		return;
	}
	row = row_of(item);
	if (row != NULL)
		row->dead = true;
	put_aside(pull, item, sqlstate, error->message);
}

/* ---- the rows of a batch ---- */

static void
take_row(Pull *pull, TupleTableSlot *slot, Size *bytes)
{
	const ChangeRelation *relation = pull->source->relation;
	PulledRow  *row = &rows[nrows++];

	slot_getallattrs(slot);
	memset(row, 0, sizeof(PulledRow));
	row->ordinal = ++pull->ordinal;
	row->too_large = !slot->tts_isnull[relation->ncolumns];
	row->values = palloc0((relation->ncolumns + 1) * sizeof(ChangeValue));
	for (int i = 0; i < relation->ncolumns; i++)
	{
		ChangeValue *value = &row->values[i];

		if (slot->tts_isnull[i])
			continue;
		value->state = VALUE_TEXT;
		value->text = TextDatumGetCString(slot->tts_values[i]);
		value->length = strlen(value->text);
		*bytes += value->length;
	}
}

/* False: there is none left. */
static bool
take_rows(Pull *pull, TupleTableSlot *slot)
{
	int			max = pull->route->options->batch_rows;
	Size		bytes = 0;

	nrows = 0;
	while (nrows < max && bytes < SINK_BYTES_MAX &&
		   tuplestore_gettupleslot(pull->rows, true, false, slot))
		take_row(pull, slot, &bytes);
	pull->nread += nrows;
	return nrows > 0;
}

/* The last place of the batch that can be gone on from; 0: none. */
static int
place_after(Pull *pull, char **after)
{
	const PullSource *source = pull->source;

	for (int i = nrows - 1; i >= 0; i--)
	{
		bool		whole = true;

		for (int k = 0; k < source->norder && whole; k++)
		{
			const ChangeValue *value = &rows[i].values[source->order[k]];

			whole = value->state == VALUE_TEXT;
			after[k] = unconstify(char *, value->text);
		}
		if (whole)
			return source->norder;
	}
	return 0;
}

static void
set_after(Pull *pull, char **after, int nafter)
{
	MemoryContext before = MemoryContextSwitchTo(pull->memory);

	pull->row->nafter = nafter;
	pull->row->after = palloc((nafter + 1) * sizeof(char *));
	for (int i = 0; i < nafter; i++)
		pull->row->after[i] = pstrdup(after[i]);
	MemoryContextSwitchTo(before);
}

/* ---- items ---- */

/* Those of a key that has a letter queue behind it. */
static void
park(Pull *pull, ItemList *items, int from)
{
	int			to = from;

	for (int i = from; i < items->n; i++)
	{
		SinkItem   *item = &items->items[i];

		ordflow_pull_keep_key(pull, item);
		if (!ordflow_letter_is_parked(pull->sync_id, item->key, item->key_length))
		{
			items->items[to++] = *item;
			continue;
		}
		ordflow_pull_begin(pull);
		ordflow_letter_put(pull->sync, item, "parked", NULL,
						   "an earlier state of this key is a dead letter");
	}
	items->n = to;
}

static bool
has_key(const Pull *pull, const PulledRow *row)
{
	const ChangeRelation *relation = pull->source->relation;

	for (int i = 0; i < relation->nkeys; i++)
		if (row->values[relation->keys[i]].state != VALUE_TEXT)
			return false;
	return true;
}

/* Neither can be sent, nor would it help to try. */
static bool
refuse_row(Pull *pull, PulledRow *row)
{
	if (row->too_large)
		put_row_aside(pull, row, "54000", psprintf("the row takes more than %d MB",
												   SYNC_ROW_MAX / 1024 / 1024));
	else if (!has_key(pull, row) && pull->route->sink.shape != SHAPE_EVENT)
		put_row_aside(pull, row, "22004", "a column of its key is null");
	return row->dead;
}

/*
 * A row that the filter refuses now may be there from before: only of a first pull, or a full copy,
 * it is known not to be, or to be removed.
 */
static void
make_items(Pull *pull, ItemList *items)
{
	Change		change = {.op = pull->full || pull->row->bound == NULL ? CHANGE_INSERT :
		CHANGE_UPDATE,.relation = pull->source->relation,.is_snapshot = true,
	.committed_at = GetCurrentTimestamp()};

	if (pull->route->sink.shape == SHAPE_EVENT)
		change.op = CHANGE_INSERT;
	for (int i = 0; i < nrows; i++)
	{
		SinkPosition at = {pull->row->generation, pull->row->pull, rows[i].ordinal, 0};
		int			from = items->n;

		if (rows[i].dead)
			continue;
		change.values = rows[i].values;
		change.ordinal = rows[i].ordinal;
		current_row = &rows[i];
		ordflow_route_change(pull->route, &change, &at, items);
		current_row = NULL;
		park(pull, items, from);
	}
}

static void
count_rows(Pull *pull, const ItemList *items)
{
	int			n = 0;

	for (int i = 0; i < items->n; i++)
		n += i == 0 || items->items[i].at.ordinal != items->items[i - 1].at.ordinal;
	pull->row->rows += n;
	ordflow_sync_count(pull->sync_id, n, 0);
}

/* ---- tables ---- */

static void
write_items(Pull *pull, const ItemList *items)
{
	for (int i = 0; i < items->n; i++)
	{
		current_item = &items->items[i];
		ordflow_table_apply(pull->route, &items->items[i]);
		current_item = NULL;
	}
}

/* ---- sinks ---- */

/* What the target has when it is asked. */
static void
ask_position(Pull *pull)
{
	ModuleError error = {0};

	if (!pull->sink->connect(pull->state, &error))
		fail(pull, &error);
	pull->has_position = false;
	memset(&pull->position, 0, sizeof(pull->position));
	if (!(pull->sink->flags & SINK_KEEPS_POSITION))
		pull->has_position = pull->row->sent != NULL &&
			sink_position_parse(pull->row->sent, &pull->position);
	else if (!pull->sink->position(pull->state, &pull->position, &pull->has_position, &error))
		fail(pull, &error);
}

static bool
is_at(const Pull *pull, const char *text)
{
	SinkPosition at;

	return text != NULL && pull->has_position && sink_position_parse(text, &at) &&
		sink_position_compare(&at, &pull->position) == 0;
}

/* In the middle of what was sent last: something was refused, and then the process was lost. */
static bool
is_between(const Pull *pull)
{
	SinkPosition sent = {0};
	SinkPosition next;

	if (!pull->has_position || pull->row->next == NULL ||
		!sink_position_parse(pull->row->next, &next) ||
		(pull->row->sent != NULL && !sink_position_parse(pull->row->sent, &sent)))
		return false;
	return sink_position_compare(&sent, &pull->position) < 0 &&
		sink_position_compare(&pull->position, &next) < 0;
}

void
ordflow_pull_connect(Pull *pull)
{
	PullRow    *row = pull->row;

	if (pull->sink == NULL)
		return;
	ask_position(pull);
	if (is_at(pull, row->next))
	{
		row->nafter = row->nnext;
		row->after = row->next_after;
	}
	else if (!is_at(pull, row->sent) && !is_between(pull) &&
			 (pull->has_position || row->sent != NULL))
	{
		ereport(LOG,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("sync \"%s\" sends everything again: its target does not stand where it was left",
					   pull->sync->name));
		ordflow_pull_begin(pull);
		ordflow_pull_anew(pull);
		ordflow_pull_commit(pull);
	}
}

/* A batch whose connection broke may be there, or not. */
static bool
is_there(Pull *pull, const SinkBatch *batch)
{
	ask_position(pull);
	if (pull->has_position && sink_position_compare(&pull->position, &batch->to) == 0)
		return true;
	if (pull->has_position == batch->was_empty ||
		(pull->has_position && sink_position_compare(&pull->position, &batch->from) != 0))
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("the target does not stand where it was left"));
	return false;
}

static SinkOutcome
send_batch(Pull *pull, const SinkBatch *batch, SinkResult *result)
{
	for (int tries = 0;; tries++)
	{
		SinkOutcome outcome;

		*result = (SinkResult) {.rejected = -1};
		outcome = pull->sink->apply(pull->state, batch, result);
		if (outcome == SINK_DONE && pull->sink->flush != NULL &&
			!pull->sink->flush(pull->state, &result->error))
			outcome = SINK_RETRY;
		if (outcome != SINK_RETRY || tries >= RETRIES_MAX)
			return outcome;
		ordflow_pull_rest(RETRY_MS << tries);
		if (is_there(pull, batch))
			return SINK_DONE;
	}
}

/* Of a batch, which items are done; the one to blame becomes a letter.  Returns where to go on. */
static int
take_refusal(Pull *pull, const SinkBatch *batch, const SinkResult *result)
{
	const SinkItem *item = &batch->items[Max(result->rejected, 0)];
	PulledRow  *row = row_of(item);

	if (result->ndone > 0)
	{
		pull->position = batch->items[result->ndone - 1].at;
		pull->has_position = true;
	}
	if (result->rejected < 0 && batch->n > 1)
		return -1;
	put_aside(pull, item, NULL, result->error.message);
	if (row != NULL)
		row->dead = true;
	return result->ndone;
}

void
ordflow_pull_apply(Pull *pull, ItemList *list)
{
	SinkItem   *items = list->items;
	int			n = list->n;
	bool		one_by_one = false;

	while (n > 0)
	{
		SinkBatch	batch = {.n = one_by_one ? 1 : n,.items = items,
		.was_empty = !pull->has_position,.from = pull->position};
		SinkResult	result;
		SinkOutcome outcome;
		int			done;

		batch.to = items[batch.n - 1].at;
		outcome = send_batch(pull, &batch, &result);
		if (outcome == SINK_DONE)
		{
			pull->position = batch.to;
			pull->has_position = true;
			items += batch.n;
			n -= batch.n;
			continue;
		}
		if (outcome != SINK_REJECT)
		{
			result.error.misconfigured = outcome == SINK_MISCONFIGURED;
			if (outcome == SINK_MOVED)
				strcpy(result.error.message, "somebody else has moved the target's position");
			fail(pull, &result.error);
		}
		done = take_refusal(pull, &batch, &result);
		one_by_one = one_by_one || done < 0;
		if (done < 0)
			continue;
		/* without the one to blame */
		memmove(&items[result.rejected < 0 ? 0 : result.rejected],
				&items[(result.rejected < 0 ? 0 : result.rejected) + 1],
				(n - Max(result.rejected, 0) - 1) * sizeof(SinkItem));
		items += done;
		n -= done + 1;
	}
}

/* ---- batches ---- */

/* In one transaction: makes items, writes those of a table, and where that leaves us. */
static void
write_batch(Pull *pull, ItemList *items, char **after, int nafter)
{
	ordflow_pull_begin(pull);
	make_items(pull, items);
	if (pull->sink == NULL)
	{
		write_items(pull, items);
		count_rows(pull, items);
		if (nafter > 0)
			set_after(pull, after, nafter);
	}
	ordflow_pull_note(pull, pull->sink != NULL && items->n > 0 ?
					  &items->items[items->n - 1].at : NULL, after, nafter);
	ordflow_pull_commit(pull);
}

/* Tries a batch; an error that is a row's leaves it to be tried again without it: false. */
static bool
try_batch(Pull *pull, ItemList *items)
{
	MemoryContext context = CurrentMemoryContext;
	char	  **after = palloc(MaxTupleAttributeNumber * sizeof(char *));
	const int	nafter = pull->full ? 0 : place_after(pull, after);
	ErrorData  *volatile error = NULL;

	for (int i = 0; i < nrows; i++)
		if (!rows[i].dead && refuse_row(pull, &rows[i]))
			return false;
	PG_TRY();
	{
		write_batch(pull, items, after, nafter);
	}
	PG_CATCH();
	{
		error = ordflow_worker_abort(context);
		ordflow_pull_aborted();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (error == NULL)
	{
		if (pull->sink != NULL)
		{
			count_rows(pull, items);
			ordflow_pull_apply(pull, items);
			if (nafter > 0)
				set_after(pull, after, nafter);
		}
		return true;
	}
	blame(pull, error);
	return false;
}

static void
keep_rate(Pull *pull)
{
	if (pull->route->options->rate > 0 && nrows > 0)
		ordflow_pull_rest(nrows * 1000L / pull->route->options->rate);
}

void
ordflow_pull_send(Pull *pull)
{
	MemoryContext before = MemoryContextSwitchTo(pull->memory);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(pull->rows_desc, &TTSOpsMinimalTuple);
	ItemList	items;

	MemoryContextSwitchTo(pull->batch_memory);
	while (take_rows(pull, slot))
	{
		do
			items = (ItemList) {0};
		while (!try_batch(pull, &items));
		keep_rate(pull);
		ordflow_pull_check();
		MemoryContextReset(pull->batch_memory);
	}
	nrows = 0;
	MemoryContextSwitchTo(before);
	ExecDropSingleTupleTableSlot(slot);
}

/* ---- letters that are asked for again ---- */

/* False: it is a letter still, and so are those behind it. */
static bool
replay_one(Pull *pull, Letter *letter)
{
	ItemList	list = {0};
	SinkBatch	batch = {.was_empty = !pull->has_position,.from = pull->position,
	.to = pull->position};
	SinkResult	result = {.rejected = -1};
	SinkOutcome outcome;

	if (!pull->has_position)
		batch.to.generation = pull->row->generation;
	letter->item.route = &pull->route->sink;
	letter->item.at = batch.to;
	if (letter->refetch && letter->item.key != NULL)
		ordflow_route_by_key(pull->route, &letter->item, &batch.to, &list);
	else if (!letter->refetch)
		ordflow_items_add(&list, &letter->item);
	if (pull->sink == NULL)
	{
		write_items(pull, &list);
		return true;
	}
	for (int i = 0; i < list.n; i++)
	{
		list.items[i].is_replay = true;
		list.items[i].at = batch.to;
	}
	batch.items = list.items;
	batch.n = list.n;
	outcome = list.n == 0 ? SINK_DONE : pull->sink->apply(pull->state, &batch, &result);
	if (outcome == SINK_REJECT)
	{
		ordflow_letter_failed(letter->letter_id, NULL, result.error.message);
		return false;
	}
	if (outcome != SINK_DONE)
		fail(pull, &result.error);
	pull->position = batch.to;
	pull->has_position = pull->has_position || list.n > 0;
	return true;
}

/* False: what follows may queue behind it. */
static bool
replay_letter(Pull *pull, Letter *letter)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;
	volatile bool done = false;

	PG_TRY();
	{
		ordflow_pull_begin(pull);
		done = replay_one(pull, letter);
		if (done)
			ordflow_letter_done(letter);
		ordflow_pull_commit(pull);
	}
	PG_CATCH();
	{
		error = ordflow_worker_abort(context);
		ordflow_pull_aborted();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	current_item = NULL;
	if (error == NULL)
		return done;
	if (ordflow_sync_error_passes(error->sqlerrcode) ||
		error->sqlerrcode == ERRCODE_ORDFLOW_UNAVAILABLE)
		ReThrowError(error);
	ordflow_pull_begin(pull);
	ordflow_letter_failed(letter->letter_id, unpack_sql_state(error->sqlerrcode), error->message);
	ordflow_pull_commit(pull);
	return false;
}

void
ordflow_pull_replay(Pull *pull)
{
	List	   *syncs = list_make1(pull->sync);
	List	   *letters;
	SinkPosition all = {PG_UINT32_MAX, PG_UINT64_MAX, PG_UINT64_MAX, PG_UINT32_MAX};

	ordflow_pull_begin(pull);
	if (pull->full)
		ordflow_letters_forget(pull->sync_id, &all);
	ordflow_letters_wake(syncs);
	ordflow_pull_commit(pull);
	do
	{
		ListCell   *cell;

		ordflow_pull_begin(pull);
		letters = ordflow_letters_to_replay(syncs, REPLAYS_MAX);
		ordflow_pull_commit(pull);
		foreach(cell, letters)
		{
			ordflow_pull_check();
			if (!replay_letter(pull, lfirst(cell)))
				break;
		}
	} while (letters != NIL);
	ordflow_pull_begin(pull);
	ordflow_letters_load(syncs);
	ordflow_pull_commit(pull);
}

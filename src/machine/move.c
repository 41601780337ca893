/*
 * move.c
 *	  Rows on their way from one partition to another.
 *
 * An UPDATE that moves a row fires BEFORE UPDATE and BEFORE DELETE where it was and BEFORE INSERT
 * where it goes, and later AFTER DELETE and AFTER INSERT, but no AFTER UPDATE.  So the first three,
 * which come one after the other for each row, tell that it moves; the AFTER DELETE finds it by
 * its place in the table and tells the AFTER INSERT, which comes next, in which state it was.
 *
 * What a trigger does meanwhile by statements of its own happens at another depth of triggers.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "machine/internal.h"

/* Triggers that fire one another deeper than that move no rows. */
#define DEPTH_MAX 64

/* A row's place; without padding, as it is compared and hashed as bytes. */
typedef struct Place
{
	Oid			partition;
	BlockNumber block;
	uint32		offset;
} Place;

/* Of more machines on one table the keys are not compared. */
#define HASHES_MAX 4

/* By depth: the row that is being updated. */
typedef struct Update
{
	Place		place;			/* partition invalid: none */
	int			ninserts;		/* BEFORE INSERT triggers of ours that are still to come */
	uint64		hashes[HASHES_MAX]; /* of its new key, for each machine */
	int			nhashes;
} Update;

/* A row that has been taken from its partition. */
typedef struct Moved
{
	Place		place;
	int			ntriggers;		/* AFTER DELETE triggers of ours that are still to come */
	bool		arrives;		/* no trigger has skipped its INSERT */
	SubTransactionId subid;
} Moved;

static Update updates[DEPTH_MAX];
static int	ndepths = 0;		/* all further ones are empty */
static HTAB *moved = NULL;		/* in TopTransactionContext */

/* Between AFTER DELETE and AFTER INSERT, of each machine of the table. */
typedef struct Leaving
{
	int			depth;
	Oid			relid;
	const char *state_column;
	char	   *from_state;
	Datum		key;
	bool		key_is_null;
} Leaving;

static List *leaving = NIL;		/* in TopTransactionContext */

static int
trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

static Place
place_of(Relation partition, ItemPointer row)
{
	Place		place = {
		.partition = RelationGetRelid(partition),
		.block = ItemPointerGetBlockNumber(row),
		.offset = ItemPointerGetOffsetNumber(row)
	};

	return place;
}

static Update *
update_at(int depth)
{
	if (depth >= DEPTH_MAX)
		return NULL;
	while (ndepths <= depth)
		memset(&updates[ndepths++], 0, sizeof(Update));
	return &updates[depth];
}

/* Each machine of the table says it of the same row. */
void
ordflow_move_updating(Relation partition, ItemPointer row, uint64 key_hash)
{
	Update	   *update = update_at(trigger_depth());
	Place		place = place_of(partition, row);

	if (update == NULL)
		return;
	if (memcmp(&update->place, &place, sizeof(Place)) != 0 || update->ninserts > 0)
		update->nhashes = 0;
	update->place = place;
	update->ninserts = 0;
	if (update->nhashes < HASHES_MAX)
		update->hashes[update->nhashes] = key_hash;
	update->nhashes++;
}

static void
note_moved(const Place *place)
{
	bool		found;
	Moved	   *entry;

	if (moved == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Place), .entrysize = sizeof(Moved),
		.hcxt = TopTransactionContext};

		moved = hash_create("ordflow moved rows", 256, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(moved, place, HASH_ENTER, &found);
	if (!found)
	{
		entry->ntriggers = 0;
		entry->arrives = false;
		entry->subid = GetCurrentSubTransactionId();
	}
	entry->ntriggers++;
}

void
ordflow_move_deleting(Relation partition, ItemPointer row)
{
	Update	   *update = update_at(trigger_depth());
	Place		place = place_of(partition, row);

	if (update == NULL || memcmp(&update->place, &place, sizeof(Place)) != 0)
		return;
	update->ninserts++;
	note_moved(&place);
}

/* Has the row that is being updated that key? */
static bool
has_key(const Update *update, uint64 key_hash)
{
	for (int i = 0; i < Min(update->nhashes, HASHES_MAX); i++)
		if (update->hashes[i] == key_hash)
			return true;
	return update->nhashes > HASHES_MAX;
}

/* Where a trigger has skipped the INSERT of a moving row, that of another may come instead. */
bool
ordflow_move_inserting(uint64 key_hash)
{
	Update	   *update = update_at(trigger_depth());
	Moved	   *entry;

	if (update == NULL || update->ninserts == 0 || !has_key(update, key_hash))
		return false;
	update->ninserts--;
	entry = moved == NULL ? NULL : hash_search(moved, &update->place, HASH_FIND, NULL);
	if (entry != NULL)
		entry->arrives = true;
	return true;
}

bool
ordflow_move_deleted(Relation partition, ItemPointer row)
{
	Place		place = place_of(partition, row);
	Moved	   *entry = moved == NULL ? NULL : hash_search(moved, &place, HASH_FIND, NULL);
	bool		arrives = entry != NULL && entry->arrives;

	if (entry != NULL && --entry->ntriggers == 0)
		hash_search(moved, &place, HASH_REMOVE, NULL);
	return arrives;
}

/* ---- from AFTER DELETE to AFTER INSERT ---- */

static Leaving *
find_leaving(const MachineTarget *target, int depth)
{
	ListCell   *cell;

	foreach(cell, leaving)
	{
		Leaving    *row = lfirst(cell);

		if (row->depth == depth && row->relid == target->relid &&
			strcmp(row->state_column, target->state_column) == 0)
			return row;
	}
	return NULL;
}

void
ordflow_move_leave(const MachineTarget *target, const char *from_state, Datum key,
				   bool key_is_null)
{
	int			depth = trigger_depth();
	Leaving    *row = find_leaving(target, depth);
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	int16		length;
	bool		byval;

	if (row == NULL)
	{
		row = palloc0(sizeof(Leaving));
		row->depth = depth;
		row->relid = target->relid;
		row->state_column = pstrdup(target->state_column);
		leaving = lappend(leaving, row);
	}
	if (row->from_state != NULL)
		pfree(row->from_state);
	get_typlenbyval(target->key_type, &length, &byval);
	row->from_state = pstrdup(from_state);
	row->key_is_null = key_is_null;
	row->key = key_is_null ? (Datum) 0 : datumCopy(key, byval, length);
	MemoryContextSwitchTo(old);
}

bool
ordflow_move_arrive(const MachineTarget *target, char **from_state, Datum *key, bool *key_is_null)
{
	Leaving    *row = find_leaving(target, trigger_depth());
	int16		length;
	bool		byval;

	if (row == NULL || row->from_state == NULL)
		return false;
	get_typlenbyval(target->key_type, &length, &byval);
	*from_state = pstrdup(row->from_state);
	*key_is_null = row->key_is_null;
	*key = row->key_is_null ? (Datum) 0 : datumCopy(row->key, byval, length);
	pfree(row->from_state);
	row->from_state = NULL;
	if (!byval && !row->key_is_null)
		pfree(DatumGetPointer(row->key));
	return true;
}

/* ---- ends ---- */

void
ordflow_move_statement_ended(void)
{
	if (ndepths > 0)
		ndepths = Min(ndepths, trigger_depth() + 1);
}

/* A row whose INSERT a trigger has skipped is gone. */
void
ordflow_move_triggers_ended(void)
{
	int			depth = trigger_depth();
	ListCell   *cell;

	foreach(cell, leaving)
	{
		Leaving    *row = lfirst(cell);

		if (row->depth > depth && row->from_state != NULL)
		{
			pfree(row->from_state);
			row->from_state = NULL;
		}
	}
}

static void
transaction_ended(XactEvent event, void *arg)
{
	/* the memory goes with the transaction */
	moved = NULL;
	leaving = NIL;
	ndepths = 0;
}

/* Subtransactions are numbered in the order in which they begin. */
static void
subtransaction_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
					 void *arg)
{
	HASH_SEQ_STATUS scan;
	Moved	   *entry;

	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	ordflow_move_statement_ended();
	ordflow_move_triggers_ended();
	if (moved == NULL)
		return;
	hash_seq_init(&scan, moved);
	while ((entry = hash_seq_search(&scan)) != NULL)
		if (entry->subid >= mine)
			hash_search(moved, &entry->place, HASH_REMOVE, NULL);
}

void
ordflow_move_init(void)
{
	RegisterXactCallback(transaction_ended, NULL);
	RegisterSubXactCallback(subtransaction_ended, NULL);
}

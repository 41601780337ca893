/*
 * pending.c
 *	  Updates of ours that are under way.
 *
 * The triggers of an attached table must tell the update of a step, whose
 * legality, history and effects are the step's, from any other update that a user's
 * trigger makes meanwhile, of the same table too.  So each update is announced
 * with its rows, their state and their new state, and each row is taken from the
 * announcement once.  Steps nest, so announcements are a stack; an error
 * takes them off with their (sub)transaction, and gives back what was taken in it.
 *
 * Contexts: entries live in TopTransactionContext, since the callback for an
 * aborted subtransaction must still be able to read them; keys are the step's.
 */
#include "postgres.h"

#include "access/xact.h"
#include "port/pg_bitutils.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "machine/internal.h"

#define NO_KEY (-1)

struct Pending
{
	Pending    *outer;
	int			nest_level;
	const MachineStep *step;
	bool		keeps_due;
	int			nkeys;
	int16		key_length;
	bool		key_byval;
	uint32		mask;			/* number of buckets - 1 */
	int		   *buckets;		/* first key of each, or NO_KEY */
	int		   *next;			/* by key: the next in its bucket */
	int		   *taken;			/* by key: at which nest level, 0 = not yet */
	int			taken_level;	/* the deepest of them */
};

static Pending *top = NULL;

static void
entry_free(Pending *pending)
{
	pfree(pending->buckets);
	pfree(pending->next);
	pfree(pending->taken);
	pfree(pending);
}

/* What was taken in a subtransaction that ends belongs to the outer one now, or to none. */
static void
change_taken(Pending *pending, int level, int outer_level)
{
	for (int i = 0; i < pending->nkeys; i++)
		if (pending->taken[i] >= level)
			pending->taken[i] = outer_level;
	pending->taken_level = level - 1;
}

static void
transaction_ended(XactEvent event, void *arg)
{
	/* the memory goes with the transaction */
	top = NULL;
}

static void
subtransaction_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
					 void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	while (event == SUBXACT_EVENT_ABORT_SUB && top != NULL && top->nest_level >= level)
	{
		Pending    *pending = top;

		top = pending->outer;
		entry_free(pending);
	}
	for (Pending *pending = top; pending != NULL; pending = pending->outer)
		if (pending->taken_level >= level)
			change_taken(pending, level, event == SUBXACT_EVENT_ABORT_SUB ? 0 : level - 1);
}

void
ordflow_pending_init(void)
{
	RegisterXactCallback(transaction_ended, NULL);
	RegisterSubXactCallback(subtransaction_ended, NULL);
}

static uint32
bucket_of(const Pending *pending, Datum key)
{
	return datum_image_hash(key, pending->key_byval, pending->key_length) & pending->mask;
}

Pending *
ordflow_pending_push(const MachineStep *step, bool keeps_due)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Pending    *pending = palloc0(sizeof(Pending));
	uint32		nbuckets = pg_nextpower2_32(step->nkeys);

	pending->nest_level = GetCurrentTransactionNestLevel();
	pending->step = step;
	pending->keeps_due = keeps_due;
	pending->nkeys = step->nkeys;
	get_typlenbyval(step->target->key_type, &pending->key_length, &pending->key_byval);
	pending->mask = nbuckets - 1;
	pending->buckets = palloc(sizeof(int) * nbuckets);
	pending->next = palloc(sizeof(int) * step->nkeys);
	pending->taken = palloc0(sizeof(int) * step->nkeys);
	for (uint32 i = 0; i < nbuckets; i++)
		pending->buckets[i] = NO_KEY;
	for (int i = 0; i < step->nkeys; i++)
	{
		uint32		bucket = bucket_of(pending, step->keys[i]);

		pending->next[i] = pending->buckets[bucket];
		pending->buckets[bucket] = i;
	}
	MemoryContextSwitchTo(old);

	pending->outer = top;
	top = pending;
	return pending;
}

void
ordflow_pending_pop(Pending *pending)
{
	Assert(top == pending);
	top = pending->outer;
	entry_free(pending);
}

/* The first of the entry's keys that is this one and has not been taken, or NO_KEY. */
static int
find_key(const Pending *pending, Datum key)
{
	for (int i = pending->buckets[bucket_of(pending, key)]; i != NO_KEY; i = pending->next[i])
		if (pending->taken[i] == 0 &&
			datum_image_eq(key, pending->step->keys[i], pending->key_byval, pending->key_length))
			return i;
	return NO_KEY;
}

bool
ordflow_pending_any(void)
{
	return top != NULL;
}

bool
ordflow_pending_match(Oid relid, const char *state_column, Datum key, const char *from_state,
					  const char *to_state, bool consume, PendingMatch *match)
{
	if (from_state == NULL)
		return false;
	for (Pending *pending = top; pending != NULL; pending = pending->outer)
	{
		const MachineStep *step = pending->step;
		int			i;

		if (step->target->relid != relid ||
			strcmp(step->target->state_column, state_column) != 0 ||
			strcmp(step->from_state, from_state) != 0 ||
			strcmp(step->to_state, to_state) != 0)
			continue;
		i = find_key(pending, key);
		if (i == NO_KEY)
			continue;
		if (consume)
			pending->taken[i] = pending->taken_level = GetCurrentTransactionNestLevel();
		match->event = step->event;
		match->now = step->now;
		match->keeps_due = pending->keeps_due;
		return true;
	}
	return false;
}

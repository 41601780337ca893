/*
 * sink.h
 *	  What a sink is: another system that takes the changes of tables.
 *
 * The core decodes, filters, maps, encodes, retries, parks and reports; a sink sends.  Its
 * functions run in the process of one delivery, outside any transaction, one at a time; none may
 * take longer than a few times the server's option timeout, and each asks config->cancelled()
 * while it waits.  As in server/module.h, a sink calls no function of the server.
 *
 * docs/writing-a-sink.md goes through src/module/script.c, which is meant to be copied.
 */
#ifndef ORDFLOW_SINK_H
#define ORDFLOW_SINK_H

#include "server/module.h"

/*
 * Where a change stands among all that one delivery sends.  Later changes compare greater, field
 * by field.  The generation rises when LSNs begin anew: after a restore, a failover, a gap.
 */
typedef struct SinkPosition
{
	uint32		generation;		/* from 1; below 2048 */
	uint64		lsn;			/* of the commit; below 2^52 */
	uint64		ordinal;		/* of the change in its transaction; below 2^56 */
	uint32		part;			/* of the messages of one change, from 0 */
} SinkPosition;

static inline int
sink_position_compare(const SinkPosition *a, const SinkPosition *b)
{
#define SINK_COMPARE(field) if (a->field != b->field) return a->field < b->field ? -1 : 1
	SINK_COMPARE(generation);
	SINK_COMPARE(lsn);
	SINK_COMPARE(ordinal);
	SINK_COMPARE(part);
	return 0;
}

/* generation and LSN in 63 bits, for systems that order versions by one number. */
static inline uint64
sink_position_version(const SinkPosition *at)
{
	return (uint64) at->generation << 52 | at->lsn;
}

#define SINK_POSITION_TEXT_MAX 80

/* generation-lsn-ordinal-part, in decimal: for sinks that keep a position as text. */
static inline void
sink_position_print(const SinkPosition *at, char *text)
{
	snprintf(text, SINK_POSITION_TEXT_MAX, "%u-%llu-%llu-%u", at->generation,
			 (unsigned long long) at->lsn, (unsigned long long) at->ordinal, at->part);
}

static inline bool
sink_position_parse(const char *text, SinkPosition *at)
{
	unsigned long long lsn;
	unsigned long long ordinal;
	int			end = 0;

	if (sscanf(text, "%u-%llu-%llu-%u%n", &at->generation, &lsn, &ordinal, &at->part, &end) != 4 ||
		text[end] != '\0')
		return false;
	at->lsn = lsn;
	at->ordinal = ordinal;
	return true;
}

/* What a route wants to be given of a change. */
typedef enum SinkShape
{
	SHAPE_KEY,					/* that the row of this key changed: op and target alone */
	SHAPE_FIELDS,				/* the columns, one by one; see is_partial */
	SHAPE_DOCUMENT,				/* the whole row as one JSON object */
	SHAPE_EVENT					/* each change as a message in the sync's format */
} SinkShape;

typedef enum SinkOp
{
	SINK_PUT,					/* this is the row now; is_insert: nothing of it was there before */
	SINK_DELETE,				/* the row is gone; it need not have been there */
	SINK_TRUNCATE,				/* every row is gone: target is a pattern, see below */
	SINK_APPEND					/* a message, of SHAPE_EVENT */
} SinkOp;

/* One sync, as its sink sees it.  Lives until the sink is closed, or told to forget_route(). */
typedef struct SinkRoute
{
	const char *sync;			/* its name */
	const char *target;			/* as given to create_sync: 'order:{id}'; NULL: none */
	bool		is_emit;		/* of ordflow.emit(): SHAPE_EVENT, an item's target is its topic */
	int			noptions;		/* those of the sink, each with an entry, checked */
	const ModuleOption *options;
	SinkShape	shape;			/* set by the sink's route() */
	int			nkeys;			/* the names that an item's key is made of, in its order; */
	const char *const *keys;	/* before the first item they may not be known: 0 */
	void	   *state;			/* the sink's own (malloc); NULL at first */
} SinkRoute;

typedef struct SinkField
{
	const char *name;
	const char *value;			/* NULL: null; ends with a zero byte */
	size_t		length;
} SinkField;

typedef struct SinkItem
{
	SinkOp		op;
	bool		is_insert;
	bool		is_replay;		/* a dead letter, sent again: "at" is that of what was sent last */
	SinkRoute  *route;
	SinkPosition at;

	/*
	 * The route's target with {column} replaced by the row's text: order:42; NULL where the route
	 * has none.  Of SINK_TRUNCATE a glob pattern, as of Redis' SCAN: * for each column, \ before
	 * what stands for itself.
	 */
	const char *target;
	size_t		target_length;

	const char *key;			/* the row's, as text; of several columns a JSON array */
	size_t		key_length;

	int			nfields;		/* SHAPE_FIELDS; of SINK_DELETE the key's */
	const SinkField *fields;
	bool		is_partial;		/* of SINK_PUT: columns are left out that stay as they were */

	const char *body;			/* SHAPE_DOCUMENT and SHAPE_EVENT; NULL: a tombstone, or a delete */
	size_t		body_length;
} SinkItem;

/*
 * All of it ends with the items: nothing points into it later.  Items are in commit order; those of
 * one transaction may go over several batches.
 */
typedef struct SinkBatch
{
	int			n;				/* may be 0: then the position moves alone */
	const SinkItem *items;
	bool		was_empty;		/* nothing was ever sent: the target need have no position */

	/*
	 * Its last transaction does, in the next batch.  A sink of SINK_TRANSACTIONS may hold it back
	 * until then: what is lost with the connection is sent again, from position() on.
	 */
	bool		goes_on;
	bool		is_copy;		/* rows as they stand, of one route: most are not there yet */
	SinkPosition from;			/* what the target's position must be before it */
	SinkPosition to;			/* and shall be after it: not below that of the last item */
} SinkBatch;

typedef enum SinkOutcome
{
	SINK_DONE,					/* all of it is durable, in the target's own sense */
	SINK_RETRY,					/* connection, throttling, a conflict: connect and try again */
	SINK_MOVED,					/* the target's position is not "from": somebody else was there */
	SINK_REJECT,				/* the target refuses what an item says, and would again */
	SINK_MISCONFIGURED			/* credentials, privileges, a missing table: a person must act */
} SinkOutcome;

typedef struct SinkResult
{
	/*
	 * Of SINK_REJECT: the first items that are durable; the target's position is that of the last
	 * of them, or still "from".
	 */
	int			ndone;
	int			rejected;		/* the item to blame, not below ndone; -1: not known which */
	bool		lacks_row;		/* it is partial, and nothing of it is there: give it whole */
	ModuleError error;
} SinkResult;

/* What compare() found of an item. */
typedef enum SinkFound
{
	SINK_FOUND_SAME,
	SINK_FOUND_OTHER,			/* it is there, and says something else */
	SINK_FOUND_NOTHING
} SinkFound;

/* A row that scan() met: its target, or its key, as in SinkItem, the other NULL.  False: stop. */
typedef bool (*SinkMeet) (void *context, const char *target, size_t target_length,
						  const char *key, size_t key_length);

typedef enum SinkOptionKind
{
	SINK_OPTION_TEXT,
	SINK_OPTION_INT,
	SINK_OPTION_BOOLEAN,
	SINK_OPTION_SECONDS,		/* given as an interval ('15 min'), handed over in seconds */
	SINK_OPTION_CHOICE
} SinkOptionKind;

/* What create_sync takes in options beside the core's own, and what becomes of it. */
typedef struct SinkOption
{
	const char *name;
	SinkOptionKind kind;
	const char *default_value;	/* NULL: none */
	int64		min;			/* of INT and SECONDS */
	int64		max;
	const char *choices;		/* "hash, string"; of CHOICE */
} SinkOption;

/* Bits of Sink.flags. */
#define SINK_KEEPS_POSITION		1	/* in the target, moved with the items */
#define SINK_TRANSACTIONS		2	/* a batch is done whole or not at all: give it whole ones */

/* The most that apply() is given at once, but for one transaction of SINK_TRANSACTIONS. */
#define SINK_ITEMS_MAX			1000
#define SINK_BYTES_MAX			(8 * 1024 * 1024)	/* one item may be larger */

#define SINK_CURSOR_MAX			8192

typedef struct Sink
{
	const char *name;
	int			flags;
	const SinkOption *options;
	int			noptions;

	/* Sets the shape; false with the error where target or options make no sense.  No state yet. */
	bool		(*route) (SinkRoute *route, ModuleError *error);

	/* Frees what it keeps of a route; may be NULL. */
	void		(*forget_route) (void *state, SinkRoute *route);

	/*
	 * Makes the state (malloc), without connecting; NULL: out of memory.  What the sink keeps at
	 * the target for itself has a name that begins with name_space.  Both arguments live as long
	 * as the state.
	 */
	void	   *(*open) (const ModuleConfig *config, const char *name_space);

	/* Also after an error. */
	bool		(*connect) (void *state, ModuleError *error);

	/* Of SINK_KEEPS_POSITION: what the target holds; *found false where it has none. */
	bool		(*position) (void *state, SinkPosition *at, bool *found, ModuleError *error);

	SinkOutcome (*apply) (void *state, const SinkBatch *batch, SinkResult *result);

	/* All that was applied is durable now; NULL: it is when apply() returns. */
	bool		(*flush) (void *state, ModuleError *error);

	/* Leaves nothing of the name space at the target; NULL: there is nothing. */
	bool		(*clear) (void *state, ModuleError *error);

	/*
	 * Does the target hold what these items, all SINK_PUT of one route, would put there?  At most
	 * SINK_ITEMS_MAX, each with its place in found.  Reads only; NULL: it cannot tell.
	 */
	bool		(*compare) (void *state, const SinkItem *items, int n, SinkFound *found,
							ModuleError *error);

	/*
	 * Meets each row that the target holds of a route, some maybe twice; pattern is that of the
	 * route's SINK_TRUNCATE.  cursor, of SINK_CURSOR_MAX bytes, is empty at the start and again
	 * at the end: each call goes on for some hundred rows.  NULL: it cannot.
	 */
	bool		(*scan) (void *state, SinkRoute *route, const char *pattern, char *cursor,
						 SinkMeet meet, void *context, ModuleError *error);

	void		(*close) (void *state);
} Sink;

#endif							/* ORDFLOW_SINK_H */

/*
 * pull.h
 *	  Syncs that are pulled, of the modes scheduled and full: what their files share.
 *
 * A pull reads the source by one query, in one snapshot, into a store of its own, and sends that
 * outside the transaction.  The process of a sync's pull runs while there is something to do and
 * keeps nothing: what is done says its row of ordflow.sync_pulls, which is written with the rows of
 * a table; and of a sink, the target's position, which tells which of two places in that row holds.
 */
#ifndef ORDFLOW_PULL_H
#define ORDFLOW_PULL_H

#include "postgres.h"

#include "utils/tuplestore.h"

#include "sync/internal.h"

#define PULL_SCHEDULED "scheduled"
#define PULL_FULL "full"

/* What a bound of the cursor takes. */
typedef enum CursorKind
{
	CURSOR_NONE,				/* mode full has none */
	CURSOR_TIME,				/* the clock, but not past the oldest transaction's beginning */
	CURSOR_XID,					/* no transaction before it runs */
	CURSOR_ORDER,				/* the greatest value, when whoever was writing then is done */
	CURSOR_REMOTE				/* the greatest value: nobody can tell who writes there */
} CursorKind;

typedef struct PullSource
{
	Oid			relid;
	char	   *name;			/* quoted, qualified */
	ChangeRelation *relation;	/* with the sync's key */
	CursorKind	kind;
	int			norder;			/* what rows are read in the order of: the cursor, then the key */
	int		   *order;			/* columns of the relation */
	List	   *relids;			/* tables that it reads */
} PullSource;

/* What the columns of ordflow.sync_pulls say. */
typedef struct PullRow
{
	bool		is_over;		/* its sync was dropped: what is at the target is to be cleared */
	bool		paused;
	bool		unfinished;
	const char *server;
	const char *role;
	const char *token;
	uint32		generation;
	uint64		pull;
	const char *bound;			/* NULL: nothing was pulled yet */
	const char *until;			/* of the pull that is unfinished; NULL: it has none yet */
	const char *sent;			/* where the target stands; NULL: nothing was sent */
	int			nafter;			/* 0, or the place of the last row that is there */
	char	  **after;
	const char *next;			/* where it stands if the batch that was sent last is there */
	int			nnext;
	char	  **next_after;
	int64		rows;
	int			failures;		/* in a row */
	TimestampTz next_at;		/* DT_NOEND: when it is asked for */
	TimestampTz retry_at;		/* DT_NOBEGIN: at once */
} PullRow;

/* A pull as its process has it. */
typedef struct Pull
{
	int64		sync_id;
	SyncDefinition *sync;
	PullRow    *row;
	Route	   *route;
	PullSource *source;
	const Sink *sink;			/* NULL: a table of this database */
	ModuleConfig *server;
	void	   *state;
	SinkPosition position;		/* where the target stands */
	bool		has_position;
	bool		full;
	bool		misconfigured;	/* whatever fails now is for a person to mend */
	uint64		ordinal;		/* of the row that was made an item last */
	int64		nread;
	int64		nunknown;		/* rows whose key at the target is not known */
	int64		removed;
	const char *held;			/* who holds back what is newer; NULL: nobody */
	Tuplestorestate *rows;		/* the source's, as texts */
	TupleDesc	rows_desc;
	Tuplestorestate *keys;		/* that were sent; NULL: nobody asks for them */
	TupleDesc	keys_desc;
	MemoryContext memory;		/* of this attempt */
	MemoryContext batch_memory;
} Pull;

/* ---- pull.c ---- */
extern void ordflow_puller_init(void);

/* In PG_CATCH-less code of a pull: a transaction, its end.  batch_memory is current after both. */
extern void ordflow_pull_begin(Pull *pull);
extern void ordflow_pull_commit(Pull *pull);

/* It was ended by ordflow_worker_abort(). */
extern void ordflow_pull_aborted(void);

/* Raised in the middle of a pull when it is to stop, or the process is to leave. */
extern void ordflow_pull_check(void);

/* Waits; raises as above. */
extern void ordflow_pull_rest(long ms);

/* ---- pull_ledger.c ---- */

/* In a transaction.  NULL: there is no such row, nor sync. */
extern PullRow *ordflow_pull_read_row(int64 sync_id);

/* Another attempt begins; the row as it stands then.  In a transaction, as all that follows. */
extern PullRow *ordflow_pull_start(int64 sync_id);
extern void ordflow_pull_set_bound(Pull *pull, const char *until);

/* Nothing of what was sent holds any more. */
extern void ordflow_pull_anew(Pull *pull);

/* What was sent before is there; next: what is sent now will leave the target at; or NULL. */
extern void ordflow_pull_note(Pull *pull, const SinkPosition *next, char **after, int nafter);
extern void ordflow_pull_finish(Pull *pull);
extern void ordflow_pull_failed(int64 sync_id, const char *problem, TimestampTz retry_at);
extern void ordflow_pull_waits(Pull *pull, const char *problem);
extern void ordflow_pull_forget(int64 sync_id);

/* ---- pull_asked.c: run_sync() and whom it asks ---- */

/* Of a sync in shared memory; NULL: there is none, or no place. */
extern PullShared *ordflow_pull_shared(int64 sync_id, bool make);

/* All that were asked for up to that number have this result; problem NULL: it is done. */
extern void ordflow_pull_served(PullShared *place, uint64 number, int64 rows, const char *problem);

/* Does its process run, or does somebody wait for it? */
extern bool ordflow_pull_is_wanted(int64 sync_id);

/* In the coordinator, in a transaction: names of pulls that are to run; when to look again. */
extern int	ordflow_pull_names(MemoryContext context, const char ***names, bool *any,
							   TimestampTz *again);

/* ---- pull_source.c ---- */

/* Checks cursor and key: 42703, 22023.  In a transaction, in the current context. */
extern PullSource *ordflow_pull_source(SyncDefinition *sync, SyncOptions *options);

/* Reads into pull->rows, in a transaction. */
extern void ordflow_pull_read(Pull *pull);

/* The same, and the other options that are of pulls alone. */
extern void ordflow_pull_check_sync(SyncDefinition *sync, SyncOptions *options);

/* An operator of the type's order: which is TYPECACHE_LT_OPR or the like. */
extern char *ordflow_pull_operator(Oid type, int which);

/* ---- pull_bound.c ---- */

/* Up to where to read; NULL: there is nothing new.  Makes transactions of its own. */
extern const char *ordflow_pull_bound(Pull *pull);

/* A bound less the option overlap, in a transaction. */
extern char *ordflow_pull_lower(const Pull *pull, const char *bound);
extern void ordflow_pull_check_overlap(const PullSource *source, const SyncOptions *options);

/* ---- pull_send.c ---- */
extern void ordflow_pull_connect(Pull *pull);
extern void ordflow_pull_replay(Pull *pull);
extern void ordflow_pull_send(Pull *pull);

/* Items of this sync to its sink, in their order; what is refused becomes a letter. */
extern void ordflow_pull_apply(Pull *pull, ItemList *items);

/* ---- pull_remove.c ---- */

/* Is what the source has no more removed from the target? */
extern bool ordflow_pull_removes(const Pull *pull);
extern void ordflow_pull_begin_keys(Pull *pull);
extern void ordflow_pull_keep_key(Pull *pull, const SinkItem *item);
extern void ordflow_pull_remove(Pull *pull);

/* For the verbs, connected as the owner. */
extern void ordflow_pull_created(const SyncDefinition *sync, const SyncOptions *options);
extern void ordflow_pull_altered(const SyncDefinition *sync, const SyncOptions *options,
								 bool cursor_changed);
extern void ordflow_pull_dropped(const SyncDefinition *sync);

static inline bool
ordflow_is_pulled(const char *mode)
{
	return strcmp(mode, PULL_SCHEDULED) == 0 || strcmp(mode, PULL_FULL) == 0;
}

#endif							/* ORDFLOW_PULL_H */

/*
 * internal.h
 *	  What the files of the sync feature share; nobody else includes it.
 *
 * One decoder a database reads the WAL through a slot of its own and writes what the syncs want
 * into a spool for each delivery: that is one server with one role, or the tables of this database
 * with one role.  The process of a delivery reads its spool, makes items of the changes, and has
 * them sent.  What is told of each other lies in shared memory; what must last lies in
 * ordflow.sync_deliveries, in the spools, and at the target.
 */
#ifndef ORDFLOW_SYNC_INTERNAL_H
#define ORDFLOW_SYNC_INTERNAL_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"
#include "storage/latch.h"
#include "storage/spin.h"

#include "base/base.h"
#include "sync/change.h"
#include "sync/format.h"
#include "sync/sink.h"
#include "worker/worker.h"

#define SYNC_LETTER_TEXT_MAX 500

/*
 * Each sync of one change has so many parts of the position for its items, whatever the others make
 * of theirs; sinks have 256 in all.
 */
#define SYNC_PARTS 4
#define SYNC_SAME_MAX (256 / SYNC_PARTS)

/* A row whose values take more is not sent: it becomes a dead letter. */
#define SYNC_ROW_MAX (64 * 1024 * 1024)

/* ---- config.c: the syncs of this database ---- */

typedef struct SyncDelivery
{
	int64		delivery_id;
	const char *server;			/* NULL: tables of this database */
	const char *role;
	const char *token;			/* part of what the sink's things are named */
	uint32		generation;
	bool		stopped;		/* by a gap: see problem */
	const char *problem;
	const char *sent;			/* what had been sent when the spool was last let go; or NULL */
	XLogRecPtr	released;		/* and the commit up to which that holds */
	bool		backlog;		/* messages may lie in the outbox that no WAL will tell of */
} SyncDelivery;

typedef struct SyncDefinition
{
	int64		sync_id;
	const char *name;
	Oid			source;
	const char *server;			/* NULL: a table of this database */
	const char *target;
	const char *mode;
	const char *role;
	bool		paused;
	Jsonb	   *options;
	XLogRecPtr	start;			/* its first change is behind this; 0: no bound */
	uint64		start_xid;		/* and not of this transaction; 0: none */
	int64		delivery_id;
} SyncDefinition;

/* All that are decoded; in the current context, in a transaction connected as the owner. */
extern List *ordflow_sync_definitions(void);

/* Those of one delivery, or all for 0. */
extern List *ordflow_sync_deliveries(void);

/* A row for every server and role that syncs name, and what else a restored database lacks. */
extern void ordflow_sync_make_deliveries(void);

/* Sources that were renamed get their name into the syncs; connected, in a transaction. */
extern void ordflow_sync_follow_names(void);

/* By name; OF004 where there is none, 42501 where the caller is no member of its role. */
extern SyncDefinition *ordflow_sync_by_name(const char *name);
extern SyncDefinition *ordflow_sync_by_id(int64 sync_id);

/* ---- option.c ---- */

typedef enum ErrorPolicy
{
	ON_ERROR_PARK,				/* a dead letter, and what follows of the key queues behind it */
	ON_ERROR_SKIP,				/* a dead letter */
	ON_ERROR_STOP				/* the delivery waits until somebody has acted */
} ErrorPolicy;

typedef enum TruncatePolicy
{
	ON_TRUNCATE_APPLY,
	ON_TRUNCATE_IGNORE,
	ON_TRUNCATE_STOP
} TruncatePolicy;

typedef struct SyncOptions
{
	bool		copy;
	int			ncolumns;		/* 0: all, by their names */
	const char **columns;		/* of the target */
	const char **expressions;	/* over the source's columns */
	bool		plain;			/* every expression is a column's name */
	const char *filter;			/* SQL, or NULL */
	const char *cursor;			/* a column of the source; or NULL, as what follows */
	const char *overlap;
	const char *schedule;
	const char *time_zone;
	bool		remove;			/* mode full: what the source has no more */
	int			nkeys;			/* 0: the primary key */
	const char **keys;			/* names among columns */
	ChangeFormat format;
	ErrorPolicy on_error;
	TruncatePolicy on_truncate;
	int			batch_rows;
	int			rate;			/* rows a second; 0: no limit */
	int			nsink_options;
	ModuleOption *sink_options; /* of the sink, each with an entry */
} SyncOptions;

/*
 * Reads and checks: 22023 with the valid names, in the current context.  sink NULL: a table of this
 * database, which has no options of its own.
 */
extern SyncOptions *ordflow_sync_options(Jsonb *options, const Sink *sink, const char *mode);

/* Raises 42601 where the option's text is not one SQL expression. */
extern void ordflow_sync_expression(const char *option, const char *expression);

/* ---- shared.c ---- */

#define SYNC_DELIVERIES_MAX 128
#define SYNC_FIGURES_MAX 1024

typedef struct SpoolEnd
{
	uint64		segment;
	uint64		offset;
} SpoolEnd;

/* Of a database's decoder.  All under the mutex. */
typedef struct DecoderShared
{
	slock_t		mutex;
	Oid			database;		/* invalid: free */
	Latch	   *latch;			/* NULL: it does not run */
	XLogRecPtr	decoded;		/* up to here all that is wanted is in the spools */
	XLogRecPtr	confirmed;		/* the slot holds no WAL before */
	uint64		looked;			/* rises with each look at the syncs */
	bool		creating;		/* the slot is being made */
	bool		reload;			/* it is to look at the deliveries again */
} DecoderShared;

/* Of a delivery.  All under the mutex. */
typedef struct DeliveryShared
{
	slock_t		mutex;
	Oid			database;		/* invalid: free */
	int64		delivery_id;
	Latch	   *latch;			/* its process's */
	uint32		spool_serial;	/* rises with each decoder that has opened the spool; 0: none */
	SpoolEnd	end;			/* of what may be read */
	XLogRecPtr	spooled;		/* the last commit in the spool */
	XLogRecPtr	sent;			/* the last commit that was handed to the sink */
	XLogRecPtr	durable;		/* the last commit of the spool that is done with */
	XLogRecPtr	released;		/* and of which that stands in our table too */
	TimestampTz durable_at;		/* when that committed at the source */
	TimestampTz pending_since;	/* commit time of the first that is not done with; or 0 */
	int64		bytes;			/* in the spool, not done with */
	int64		items;
	int64		errors;
	TimestampTz retry_at;		/* 0: it does not wait */
	int64		letters;		/* replays that were asked for: rises */
	bool		misconfigured;	/* it waits for a person */
	bool		gap;			/* told by the decoder: the spool was given up */
	char		problem[256];
} DeliveryShared;

typedef struct SyncFigure
{
	Oid			database;
	int64		sync_id;
	int64		rows;
	int64		letters;
} SyncFigure;

#define SYNC_PULLS_MAX 128

/* Of a sync that is pulled.  All under the mutex. */
typedef struct PullShared
{
	slock_t		mutex;
	Oid			database;		/* invalid: free */
	int64		sync_id;
	Latch	   *latch;			/* its process's; NULL: it does not run */
	uint64		asked;			/* pulls that were asked for: rises */
	uint64		served;			/* up to that one the result is: */
	int64		rows;
	bool		failed;
	char		problem[256];
} PullShared;

typedef struct SyncShared
{
	slock_t		mutex;			/* guards who has which place */
	DecoderShared decoders[WORKER_DATABASES_MAX];
	DeliveryShared deliveries[SYNC_DELIVERIES_MAX];
	SyncFigure	figures[SYNC_FIGURES_MAX];
	PullShared	pulls[SYNC_PULLS_MAX];
} SyncShared;

/* NULL where the library was not preloaded. */
extern SyncShared *ordflow_sync_shared;

extern void ordflow_sync_memory_init(void);

/* This database's; NULL: no memory, or no place.  make: takes one. */
extern DecoderShared *ordflow_decoder_shared(bool make);
extern DeliveryShared *ordflow_delivery_shared(int64 delivery_id, bool make);

/*
 * The place of a delivery that is no more; those of all of this database, false where some still
 * run; the figures of all syncs but these.
 */
extern void ordflow_delivery_forget(int64 delivery_id);
extern bool ordflow_deliveries_forget(void);
extern void ordflow_sync_keep_figures(const int64 *sync_ids, int n);
extern void ordflow_sync_count(int64 sync_id, int64 rows, int64 letters);
extern SyncFigure ordflow_sync_figure(int64 sync_id);

/* Sets the latch of this database's decoder; has it look at syncs and deliveries too. */
extern void ordflow_decoder_wake(void);
extern void ordflow_decoder_reload(void);

/* ---- spool.c: what a delivery has not taken yet, in files ---- */

typedef enum SpoolKind
{
	SPOOL_RELATION = 'R',
	SPOOL_BEGIN = 'B',
	SPOOL_CHANGE = 'C',
	SPOOL_COMMIT = 'K'
} SpoolKind;

typedef struct SpoolWriter SpoolWriter;

/*
 * In the decoder.  Opens what is there, cuts off what was not written whole, and begins a new
 * segment.  Raises where the files cannot be written.  *last: the last commit that it holds, or
 * that of the segment's beginning; invalid where nothing was there.
 */
extern SpoolWriter *ordflow_spool_open(int64 delivery_id, uint32 generation, XLogRecPtr base,
									   XLogRecPtr *last);
extern void ordflow_spool_put(SpoolWriter *spool, SpoolKind kind, const char *data, Size length);

/* A transaction is whole: what was put can be read now.  Returns where it ends. */
extern SpoolEnd ordflow_spool_commit(SpoolWriter *spool, XLogRecPtr commit_lsn);

/* The transaction is not to be read: forgets what was put since the last commit. */
extern void ordflow_spool_rollback(SpoolWriter *spool);

/* All of it is on disk when it returns. */
extern void ordflow_spool_sync(SpoolWriter *spool);
extern int64 ordflow_spool_bytes(SpoolWriter *spool);
extern uint64 ordflow_spool_segment(SpoolWriter *spool);
extern SpoolEnd ordflow_spool_end(SpoolWriter *spool);
extern void ordflow_spool_close(SpoolWriter *spool);

/* Removes a delivery's files; all that have no delivery in the list. */
extern void ordflow_spool_remove(int64 delivery_id);
extern void ordflow_spool_remove_others(const int64 *delivery_ids, int n);

typedef struct SpoolReader
{
	int64		delivery_id;
	uint32		generation;
	int			file;
	uint64		segment;
	uint64		offset;
	uint64		first;			/* segments before it are gone */
	XLogRecPtr	base;			/* what committed before the first segment is not in it */
	char	   *buffer;			/* read ahead */
	Size		filled;
	Size		used;
	Size		size;
} SpoolReader;

/* At the first segment there is.  False: there is none. */
extern bool ordflow_spool_read_open(SpoolReader *reader, int64 delivery_id);

/*
 * The next record before end; false: there is none.  The data lie in the current context, aligned,
 * to be freed by whoever called.  Raises XX001 where the file is damaged.
 */
extern bool ordflow_spool_read(SpoolReader *reader, SpoolEnd end, SpoolKind *kind,
							   char **data, Size *length);
extern void ordflow_spool_read_close(SpoolReader *reader);

/* Files of segments before that one are removed. */
extern void ordflow_spool_release(SpoolReader *reader, uint64 before);

/* ---- wire.c: changes as records of the spool ---- */

typedef struct WireBegin
{
	TransactionId xid;
	XLogRecPtr	commit_lsn;
	TimestampTz committed_at;
	XLogRecPtr	previous;
} WireBegin;

extern void ordflow_wire_relation(StringInfo out, uint32 number, const ChangeRelation *relation);
extern ChangeRelation *ordflow_wire_read_relation(const char *data, Size length, uint32 *number);

/* place: of the change in its transaction, see ordflow_change_place(). */
extern void ordflow_wire_change(StringInfo out, uint32 number, const Change *change,
								uint64 place, bool too_large);
extern void ordflow_wire_syncs(StringInfo out, const int64 *sync_ids, int n);

typedef struct WireChange
{
	Change		change;			/* without relation, commit, xid and ordinal */
	uint32		relation;
	uint64		place;
	bool		too_large;
	int			nsyncs;
	int64	   *sync_ids;
} WireChange;

/* Values point into the data. */
extern void ordflow_wire_read_change(const char *data, Size length, WireChange *wire);

/* Rises within a transaction, and is the same whenever it is decoded; below 2^56. */
static inline uint64
ordflow_change_place(XLogRecPtr commit_lsn, XLogRecPtr lsn, int nth)
{
	return ((UINT64CONST(1) << 47) - (commit_lsn - lsn)) * 512 + nth;
}

/* ---- wanted.c: what the decoder may skip ---- */
struct XLogReaderState;

/* Nothing is known any more. */
extern void ordflow_unwanted_forget(void);

/* A relation that nobody wants, as it lies on disk now; with its TOAST table. */
extern void ordflow_unwanted_add(struct RelationData *relation);

/* Is the record about a relation that is known as unwanted? */
extern bool ordflow_is_unwanted(struct XLogReaderState *record);

/* ---- capture.c: the decoder's output plugin ---- */

/* In the decoder's process. */
extern void ordflow_capture_init(void);

/*
 * The syncs changed, or a delivery: what the callbacks are to do from now on.  In a transaction.
 * Spools that are made anew begin behind that LSN.  Returns how many deliveries there are.
 */
extern int	ordflow_capture_load(XLogRecPtr base);
extern void ordflow_capture_close(void);

/* All up to that place has been decoded: in a transaction, what no WAL tells of follows. */
extern bool ordflow_capture_has_backlog(XLogRecPtr decoded);
extern void ordflow_capture_backlog(XLogRecPtr decoded);

/* Has a transaction been decoded that changed the syncs since the last call? */
extern bool ordflow_capture_changed(TransactionId *xid);
extern int	ordflow_capture_ntargets(void);

/* Sets the latches of deliveries that have something new. */
extern void ordflow_capture_alert(void);

typedef struct CaptureTarget
{
	SyncDelivery *delivery;
	DeliveryShared *shared;
	SpoolWriter *spool;			/* NULL: stopped */
	XLogRecPtr	last;			/* the last commit in the spool */
	XLogRecPtr	synced;			/* on disk up to this commit */
	TimestampTz behind_since;	/* 0: it is not */
	/* what follows is of the transaction that is being decoded */
	int			nbacklog;		/* of messages that were there before, by number */
	int64	   *backlog;
	XLogRecPtr	backlog_until;	/* those that the WAL tells of up to this are not among them */
	bool		alert;			/* there is something new for its process */
	bool		touched;
	bool		skipped;		/* it is in the spool already */
	Bitmapset  *described;		/* numbers of relations that the segment tells of */
	uint64		segment;
} CaptureTarget;

extern CaptureTarget *ordflow_capture_target(int i);

/* ---- decoder.c ---- */
extern void ordflow_decoder_init(void);
extern char *ordflow_slot_name(void);

/* What the database keeps for syncs outside its tables: the slot, if nobody uses it, and spools. */
extern void ordflow_sync_leave_nothing(void);

/* ---- route.c: changes as items ---- */

typedef struct ItemList
{
	int			n;
	int			size;
	SinkItem   *items;
	Size		bytes;
} ItemList;

extern void ordflow_items_add(ItemList *list, const SinkItem *item);

typedef struct Route Route;
typedef struct TableTarget TableTarget;

struct Route
{
	SyncDefinition *sync;
	SyncOptions *options;
	Oid			role;
	SinkRoute	sink;
	bool		is_table;		/* a table of this database */
	TableTarget *table;			/* made at first use */
	bool		whole;			/* the target lacks a row: no column is left out */
	MemoryContext context;
	struct RouteShape *shape;	/* of the relation that it saw last */
	struct Copy *copy;			/* while the rows that were there are copied; else NULL */
};

/* The route of a sync, in a context of its own; sink NULL for a table.  Needs a transaction. */
extern Route *ordflow_route_make(SyncDefinition *sync, const Sink *sink, MemoryContext parent);

/* Of ordflow.emit(). */
extern Route *ordflow_route_of_emit(const Sink *sink, MemoryContext parent);

/* What was made for relations that are no more. */
extern void ordflow_route_forget_relation(Route *route);

/* Is a transaction needed to make items of the change? */
extern bool ordflow_route_needs_sql(Route *route, const Change *change);

/*
 * Items of a change, appended, in the current context; runs the sync's expressions as its role,
 * whose errors pass.
 */
extern void ordflow_route_change(Route *route, const Change *change, const SinkPosition *at,
								 ItemList *items);

/*
 * Such that say no more than the key: what the row is now is read when they are sent again.  Of a
 * change of the key two.
 */
extern void ordflow_route_refetch_item(Route *route, const Change *change, const SinkPosition *at,
									   ItemList *items);

/* The items for the row that it names as it is now: put it, or delete it.  In a transaction. */
extern void ordflow_route_by_key(Route *route, const SinkItem *letter, const SinkPosition *at,
								 ItemList *items);

/* The key of a row of the source, as text; of several columns an array.  NULL: it has none. */
extern char *ordflow_change_key(const ChangeRelation *relation, const ChangeValue *values);

/*
 * The source's key of a row of which the target tells columns by name, its name there, or its key
 * there; NULL: these do not tell it.  In a transaction, in the current context.
 */
extern char *ordflow_route_source_key(Route *route, char **names, char **values, int n);
extern char *ordflow_route_key_of_target(Route *route, const char *target);
extern char *ordflow_route_key_of_key(Route *route, const char *key);

/* The pattern of a SINK_TRUNCATE; NULL: the target has no name. */
extern char *ordflow_route_pattern(Route *route);

/* Checks the sync against its source as it is: raises what create_sync() raises. */
extern void ordflow_route_check(Route *route);

/* ---- copy.c: the rows that are there when a sync begins ---- */

typedef enum CopyPhase
{
	COPY_WAITING,				/* for its snapshot */
	COPY_COPYING,
	COPY_FOLLOWING				/* until the stream has what the last round may have seen */
} CopyPhase;

/* As ordflow.sync_copies has it, and the round that is being sent. */
typedef struct Copy
{
	int64		sync_id;
	CopyPhase	phase;
	bool		is_fresh;		/* nothing of the sync was at the target before */
	const char *filter;			/* SQL: only these rows; or NULL */
	bool		sweeps;			/* in the end, what the source has not is removed */
	struct CopySnapshot *snapshot;
	XLogRecPtr	lsn;			/* what the snapshot, in the end the last round, sees is before */
	XLogRecPtr	base;			/* of the positions of the round's rows, with its turn */
	int			turn;
	int			step;			/* blocks of the next round */
	/* the round; of an invalid table there is none */
	Oid			table;
	Oid			file;			/* its relfilenode */
	BlockNumber until;
	ItemPointerData at;			/* what is before it has been read */
	int64		rows;
	int64		bytes;
	TimestampTz round_began;
} Copy;

/* Those of the syncs that are not done, in the current context; connected, in a transaction. */
extern List *ordflow_copies_load(List *syncs);

/* Does the copy bring what that transaction did, so that the stream is not to? */
extern bool ordflow_copy_holds(const Copy *copy, TransactionId xid);

/*
 * Each in a transaction.  begin: takes the snapshot, to which all that was streamed is visible;
 * false: not now.
 */
extern bool ordflow_copy_begin(Copy *copy, Route *route);
extern void ordflow_copy_begin_again(Copy *copy, const char *reason);
extern void ordflow_copy_done(Copy *copy);

typedef enum CopyRound
{
	COPY_ROUND_BEGUN,
	COPY_ROUND_NOT_NOW,
	COPY_ROUND_LAST				/* there is nothing left: it follows now */
} CopyRound;

/*
 * In a transaction, to be committed before anything of the round is sent.  One that was begun goes
 * on with the positions that it has.  position: of the target; streamed: all that commits later is
 * behind that place.
 */
extern CopyRound ordflow_copy_start_round(Copy *copy, const SinkPosition *position,
										  XLogRecPtr streamed);

/* In the transaction that follows the round's last row. */
extern void ordflow_copy_end_round(Copy *copy);

/*
 * In a transaction, before anything is streamed past a round that was begun: position tells how far
 * it came, and the next one begins there.
 */
extern void ordflow_copy_cut_round(Copy *copy, const SinkPosition *position);

/* Of a row of the round, by its place below 2^48. */
extern SinkPosition ordflow_copy_position(const Copy *copy, uint32 generation, uint64 place);

/* Is it of a copy?  No commit of the stream has it. */
extern bool ordflow_copy_is_position(const SinkPosition *at);

#define COPY_PLACE_LAST ((UINT64CONST(1) << 48) - 1)

/* A row of a round, to be looked at at once; false: enough for now. */
typedef bool (*CopyTake) (Route *route, const Change *change, uint64 place, bool too_large);

typedef enum CopyRead
{
	COPY_READ_ALL,				/* to the round's end */
	COPY_READ_SOME,				/* take() had enough: more follows */
	COPY_READ_NOT_NOW,			/* somebody holds a lock, or the table is gone: look again */
	COPY_READ_REWRITTEN			/* the places are of a file that is no more */
} CopyRead;

/* In a transaction: goes on behind what was read last. */
extern CopyRead ordflow_copy_read(Copy *copy, Route *route, CopyTake take);

/* ---- verify.c ---- */

/*
 * In the delivery, in a transaction to which all that was streamed is visible: letters for what the
 * target has and the source has not.  Returns how many; 0 where the target cannot be asked.
 */
extern int64 ordflow_sync_sweep(Route *route, const Sink *sink, void *state);

/* ---- table.c: a table of this database as target ---- */

/* At the beginning of a transaction, or later. */
extern void ordflow_table_begin(const Route *route);

/* In a transaction with a snapshot; as the sync's role; raises what the target raises. */
extern void ordflow_table_apply(Route *route, const SinkItem *item);

/* The target's quoted name, and the columns that rows are found by; in a transaction. */
extern char *ordflow_table_name(Route *route);
extern int	ordflow_table_keys(Route *route, char ***keys, Oid **types);

/* Is there a table that the route can write?  42P01, 42501, 42703, 42P10. */
extern void ordflow_table_check(Route *route);

/*
 * What the target holds of items that are to be put there, each with its place in found; as the
 * sync's role, connected to nothing.  Values are compared as what the columns are.
 */
extern void ordflow_table_compare(Route *route, const SinkItem *items, int n, SinkFound *found);

extern bool ordflow_table_is_generated(Route *route, const char *column);

/* The target's key of an item, or of each row that is there, as text; of several an array. */
extern char *ordflow_table_key(Route *route, const SinkItem *item);
extern void ordflow_table_scan(Route *route, SinkMeet meet, void *context);

/* The source's key of a row that has this key there; NULL: the target does not tell it. */
extern char *ordflow_table_source_key(Route *route, const char *key);

/* ---- letter.c: what could not be sent ---- */
/*
 * In a transaction.  state: dead, parked (behind a dead one), waiting (its sync is paused).  One
 * that is there already stays.
 */
extern void ordflow_letter_put(const SyncDefinition *sync, const SinkItem *item, const char *state,
							   const char *sqlstate, const char *message);

/*
 * What there is for these syncs, in a transaction: is asked by the two that follow.  whole: the
 * change that is there, of which no items could be made; else an item.
 */
extern void ordflow_letters_load(List *syncs);
extern bool ordflow_letter_is_parked(int64 sync_id, const char *key, Size length);
extern bool ordflow_letter_is_there(int64 sync_id, const SinkPosition *at, bool whole);
extern void ordflow_letter_note(int64 sync_id, const SinkItem *item, bool park);

typedef struct Letter
{
	int64		letter_id;
	int64		sync_id;
	bool		refetch;
	bool		was_refused;
	SinkItem	item;			/* without route */
} Letter;

/* Is there any?  In a transaction: those of a sync go that are of before that place. */
extern bool ordflow_letters_any(void);
extern void ordflow_letters_forget(int64 sync_id, const SinkPosition *at);

/* In a transaction: what nothing keeps from being sent any more is to be sent. */
extern void ordflow_letters_wake(List *syncs);

/* In a transaction: those to be sent again, the oldest first, in the current context. */
extern List *ordflow_letters_to_replay(List *syncs, int max);
extern void ordflow_letter_done(const Letter *letter);

/* In a transaction, before a message is sent again: the target's position behind it. */
extern void ordflow_letter_mark(int64 letter_id, const SinkPosition *to);

/* In a transaction: those that the target has, by its position, are done; no mark is left. */
extern void ordflow_letters_settle(List *syncs, const SinkPosition *at);
extern void ordflow_letter_failed(int64 letter_id, const char *sqlstate, const char *message);

#define ITEM_REFETCH "refetch"

/* ---- delivery.c, duty.c ---- */
extern void ordflow_delivery_init(void);

/* Errors that may pass by themselves; that are about what the tables look like, not about a row. */
extern bool ordflow_sync_error_passes(int sqlerrcode);
extern bool ordflow_sync_error_is_schema(int sqlerrcode);
extern void ordflow_sync_duty_init(void);

/* "7 cache", as companions are named. */
extern char *ordflow_delivery_name(const SyncDelivery *delivery);

/* ---- status.c ---- */

/* The sync that argument 0 names, whose role the caller is a member of; in the current context. */
/* Is all that committed before that place at the target?  Not of a sync of another mode. */
extern bool ordflow_sync_is_there(const SyncDefinition *sync, XLogRecPtr lsn);
extern SyncDefinition *ordflow_sync_of_caller(FunctionCallInfo fcinfo);

/* ---- verbs.c ---- */
extern RoleSwitch ordflow_sync_connect(void);
extern void ordflow_sync_disconnect(RoleSwitch saved);

#endif							/* ORDFLOW_SYNC_INTERNAL_H */

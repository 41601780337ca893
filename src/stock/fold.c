/*
 * fold.c
 *	  The duty that adds the ledger to the balances, so that a level is read from few movements,
 *	  and that lets old movements go.
 *
 * Each step is a transaction of its own, and the rows of ordflow.stock_segments say which comes
 * next: so a crash, a start, another server or ordflow.fold_stock() go on where the last one ended.
 *
 *	 open		The row of the next segment is inserted, and all sessions are told, by a relcache
 *				invalidation of the table.  Whoever passes the gate from then on writes there.
 *	 wait		All who held the gate when that had committed may still write the segment before.
 *				They are asked again and again, never waited for: one that stays open delays
 *				the fold and nothing else.
 *	 fold		The sums of the closed segment go to the balances, and it is marked as folded.
 *				Each snapshot sees both or neither, hence the same truth.  The gate keeps direct
 *				writes out.  Nothing in the rows makes it fail: a balance below zero is
 *				written, and is even right when the receipt stands in the next segment.
 *	 retire		When ordflow.movement_retention has passed since the last segment of a stretch was
 *				folded, a row says that its movements count as history no more (see the view
 *				ledger_start, by which the audit goes).
 *	 empty		When no snapshot is left that does not see this row, the partition is truncated, if
 *				the lock is there at once.  So a held snapshot costs disk, never truth.
 *
 * Only one at a time does any of it: whoever has stock_segments in SHARE UPDATE EXCLUSIVE.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/procarray.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "counter/counter.h"
#include "stock/ledger.h"
#include "stock/stock.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_fold_stock);

/* how soon is asked again for what others hold, doubled each time, in microseconds */
#define POLL_MIN	10000
#define POLL_MAX	USECS_PER_SEC
#define EMPTY_MIN	USECS_PER_SEC
#define EMPTY_MAX	(10 * USECS_PER_SEC)

/* how long fold_stock() waits for transactions that are about to end */
#define WAIT_MAX	USECS_PER_SEC
#define WAIT_STEP	2000L

/* A stretch that is older than this part of the retention is followed by the next. */
#define STRETCHES_A_RETENTION 6

/* A row of ordflow.stock_segments. */
typedef struct Segment
{
	int64		segment;
	TimestampTz opened_at;
	TimestampTz folded_at;		/* DT_NOEND: it is not folded */
	bool		retired;
	TransactionId xmin;
} Segment;

typedef struct Ledger
{
	Segment    *segments;		/* from the lowest on */
	int			n;
	int64		current;
	TimestampTz opened_at;		/* the current one */
	int64		folded;			/* the highest that is; 0 = none */
	int64		closed;			/* the highest that is neither folded nor current; 0 = none */
	const Segment *retired;		/* the highest that is, or NULL */
} Ledger;

/* The transactions that may still write what the current segment has closed. */
typedef struct Writers
{
	int64		current;		/* 0 = they have not been listed */
	TimestampTz opened_at;
	VirtualTransactionId *list;
	int			n;
} Writers;

/* What the coordinator remembers from step to step; the rows would tell it again. */
static struct
{
	TimestampTz open_at;		/* when to close the current segment */
	TimestampTz next;			/* the next step */
	int64		poll_rest;
	int64		empty_rest;
	Writers		writers;
}			duty_state;

static Statement read_segments = {
	.sql = "SELECT g.segment, g.opened_at, g.folded_at, g.retired_at, g.xmin"
	" FROM ordflow.stock_segments g ORDER BY g.segment",
};

static Statement insert_segment = {
	.sql = "INSERT INTO ordflow.stock_segments (segment, opened_at) VALUES ($1, $2)"
	" ON CONFLICT (segment) DO NOTHING",
	.nargs = 2,
	.argtypes = {INT8OID, TIMESTAMPTZOID}
};

static Statement find_movements = {
	.sql = "SELECT EXISTS (SELECT FROM ordflow.stock_movements m WHERE m.segment > $1)",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* As the partition key has it, so only one partition is read. */
static Statement find_above = {
	.sql = "SELECT EXISTS (SELECT FROM ordflow.stock_movements m"
	" WHERE ((m.segment >> 20) & 7) = $1 AND m.segment > $2)",
	.nargs = 2,
	.argtypes = {INT4OID, INT8OID}
};

/* What is out of range is wrong already, and is shown by audit(); it must not stop all others. */
static Statement fold_sums = {
	.sql = "WITH sums AS ("
	"  SELECT m.stock_id, count(*) AS n, sum(m.on_hand) AS on_hand, sum(m.reserved) AS reserved"
	"  FROM ordflow.stock_movements m WHERE m.segment > $1 AND m.segment <= $2"
	"  GROUP BY m.stock_id"
	" ), changed AS ("
	"  UPDATE ordflow.stock s SET"
	"   on_hand = greatest(least(s.on_hand + u.on_hand, 9223372036854775807),"
	"    -9223372036854775808)::bigint,"
	"   reserved = greatest(least(s.reserved + u.reserved, 9223372036854775807),"
	"    -9223372036854775808)::bigint"
	"  FROM sums u WHERE s.stock_id = u.stock_id AND (u.on_hand <> 0 OR u.reserved <> 0)"
	" )"
	" SELECT coalesce(sum(u.n), 0)::bigint FROM sums u",
	.nargs = 2,
	.argtypes = {INT8OID, INT8OID}
};

/* Those before it too, if several were closed. */
static Statement mark_folded = {
	.sql = "UPDATE ordflow.stock_segments SET folded_at = $2"
	" WHERE segment <= $1 AND folded_at IS NULL",
	.nargs = 2,
	.argtypes = {INT8OID, TIMESTAMPTZOID}
};

static Statement mark_retired = {
	.sql = "UPDATE ordflow.stock_segments SET retired_at = $2 WHERE segment = $1",
	.nargs = 2,
	.argtypes = {INT8OID, TIMESTAMPTZOID}
};

/* Those between two, which are kept. */
static Statement delete_segments = {
	.sql = "DELETE FROM ordflow.stock_segments WHERE segment > $1 AND segment < $2",
	.nargs = 2,
	.argtypes = {INT8OID, INT8OID}
};

/* ---- the state, as the rows say ---- */

static TimestampTz
time_or(uint64 row, int column, TimestampTz otherwise)
{
	bool		isnull;
	Datum		value = ordflow_result(row, column, &isnull);

	return isnull ? otherwise : DatumGetTimestampTz(value);
}

static void
read_rows(Ledger *ledger)
{
	ledger->n = (int) ordflow_execute_latest(&read_segments, NULL, NULL);
	ledger->segments = palloc(sizeof(Segment) * Max(ledger->n, 1));
	for (int i = 0; i < ledger->n; i++)
	{
		Segment    *segment = &ledger->segments[i];
		bool		isnull;

		segment->segment = ordflow_result_int64(i, 1);
		segment->opened_at = time_or(i, 2, DT_NOBEGIN);
		segment->folded_at = time_or(i, 3, DT_NOEND);
		segment->retired = time_or(i, 4, DT_NOEND) != DT_NOEND;
		segment->xmin = DatumGetTransactionId(ordflow_result(i, 5, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
ledger_read(Ledger *ledger)
{
	memset(ledger, 0, sizeof(Ledger));
	read_rows(ledger);
	ledger->current = 1;
	ledger->opened_at = DT_NOBEGIN;
	for (int i = 0; i < ledger->n; i++)
	{
		const Segment *segment = &ledger->segments[i];

		ledger->current = segment->segment;
		ledger->opened_at = segment->opened_at;
		if (segment->folded_at != DT_NOEND)
			ledger->folded = segment->segment;
		if (segment->retired)
			ledger->retired = segment;
	}
	for (int i = 0; i < ledger->n - 1; i++)
		if (ledger->segments[i].segment > ledger->folded)
			ledger->closed = ledger->segments[i].segment;
	/* the first has no row before it is folded */
	if (ledger->folded == 0 && ledger->closed == 0 && ledger->current > 1)
		ledger->closed = 1;
}

static bool
has_open_movements(const Ledger *ledger)
{
	Datum		values[1] = {Int64GetDatum(ledger->folded)};
	bool		isnull;

	ordflow_execute_latest(&find_movements, values, NULL);
	return DatumGetBool(ordflow_result(0, 1, &isnull));
}

static int64
retention(void)
{
	return ordflow_movement_retention * USECS_PER_SEC;
}

/* The first segment of a stretch that has a row. */
static const Segment *
first_of_stretch(const Ledger *ledger, int64 stretch)
{
	for (int i = 0; i < ledger->n; i++)
		if (LEDGER_STRETCH(ledger->segments[i].segment) == stretch)
			return &ledger->segments[i];
	return NULL;
}

/* ---- partitions ---- */

static bool
partition_is_empty(int i)
{
	Relation	rel = table_open(ordflow_relid(ordflow_ledger_partition(i)), AccessShareLock);
	bool		empty = RelationGetNumberOfBlocks(rel) == 0;

	table_close(rel, AccessShareLock);
	return empty;
}

static bool
partition_is_above(int i, int64 segment)
{
	Datum		values[2] = {Int32GetDatum(i), Int64GetDatum(segment)};
	bool		isnull;

	ordflow_execute_latest(&find_above, values, NULL);
	return DatumGetBool(ordflow_result(0, 1, &isnull));
}

/* The row that retires the movements was written by a transaction that every snapshot sees. */
static bool
all_see_retired(const Ledger *ledger, int i)
{
	Relation	rel = table_open(ordflow_relid(ordflow_ledger_partition(i)), AccessShareLock);
	TransactionId oldest = GetOldestNonRemovableTransactionId(rel);

	table_close(rel, AccessShareLock);
	return TransactionIdPrecedes(ledger->retired->xmin, oldest);
}

/* False: not now. */
static bool
empty_partition(const Ledger *ledger, int i)
{
	const char *relname = ordflow_ledger_partition(i);
	char	   *sql = psprintf("TRUNCATE ONLY ordflow.%s", relname);

	if (!all_see_retired(ledger, i) ||
		!ConditionalLockRelationOid(ordflow_relid(relname), AccessExclusiveLock))
		return false;
	/* what somebody has written directly meanwhile, out of turn */
	if (partition_is_above(i, ledger->retired->segment))
		return false;
	ordflow_counter_own_write(relname);
	if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not execute \"%s\"", sql);
	ordflow_counter_own_write_done();
	return true;
}

/* False: some are to be emptied, but not now.  *emptied: some were. */
static bool
empty_partitions(const Ledger *ledger, bool *emptied)
{
	bool		done = true;

	*emptied = false;
	for (int i = 0; ledger->retired != NULL && i < LEDGER_PARTITIONS; i++)
	{
		if (i == LEDGER_PARTITION(ledger->current) || partition_is_empty(i) ||
			partition_is_above(i, ledger->retired->segment))
			continue;
		if (empty_partition(ledger, i))
			*emptied = true;
		else
			done = false;
	}
	return done;
}

/* ---- retention ---- */

/* When the next stretch is to follow: DT_NOEND while nothing of the current one is folded. */
static TimestampTz
stretch_ends(const Ledger *ledger)
{
	const Segment *first = first_of_stretch(ledger, LEDGER_STRETCH(ledger->current));

	if (retention() < 0 || first == NULL || first->folded_at == DT_NOEND)
		return DT_NOEND;
	return first->opened_at + retention() / STRETCHES_A_RETENTION;
}

static int64
next_stretch(const Ledger *ledger)
{
	return (LEDGER_STRETCH(ledger->current) + 1) << LEDGER_STRETCH_BITS;
}

static bool
stretch_has_ended(const Ledger *ledger, TimestampTz now)
{
	return stretch_ends(ledger) <= now &&
		partition_is_empty(LEDGER_PARTITION(next_stretch(ledger)));
}

/* The last segment of the oldest stretch that is not retired, NULL if that is not all folded. */
static const Segment *
oldest_stretch(const Ledger *ledger)
{
	int			i = 0;

	while (i < ledger->n && ledger->retired != NULL &&
		   ledger->segments[i].segment <= ledger->retired->segment)
		i++;
	while (i + 1 < ledger->n && LEDGER_STRETCH(ledger->segments[i + 1].segment) ==
		   LEDGER_STRETCH(ledger->segments[i].segment))
		i++;
	return i + 1 < ledger->n && ledger->segments[i].segment <= ledger->folded ?
		&ledger->segments[i] : NULL;
}

static void
retire(const Segment *last, TimestampTz now)
{
	Datum		values[2] = {Int64GetDatum(last->segment), TimestampTzGetDatum(now)};
	Datum		range[2] = {Int64GetDatum(PG_INT64_MIN), Int64GetDatum(last->segment)};

	ordflow_counter_own_write("stock_segments");
	ordflow_execute_latest(&mark_retired, values, NULL);
	ordflow_execute_latest(&delete_segments, range, NULL);
	ordflow_counter_own_write_done();
}

/* ---- steps ---- */

static void
open_segment(int64 segment, TimestampTz now)
{
	Datum		values[2] = {Int64GetDatum(segment), TimestampTzGetDatum(now)};

	ordflow_counter_own_write("stock_segments");
	ordflow_execute_latest(&insert_segment, values, NULL);
	ordflow_counter_own_write_done();
	CacheInvalidateRelcacheByRelid(ordflow_relid("stock_segments"));
}

static void
open_next(const Ledger *ledger, TimestampTz now)
{
	open_segment(stretch_has_ended(ledger, now) ? next_stretch(ledger) : ledger->current + 1, now);
}

/*
 * Lists all who hold the gate now, after the current segment was opened.  It was opened by a
 * transaction that has let go its locks, hence has sent its invalidations.
 */
static void
writers_list(Writers *writers, const Ledger *ledger)
{
	LOCKTAG		gate;
	VirtualTransactionId *holders;

	if (writers->current == ledger->current && writers->opened_at == ledger->opened_at)
		return;
	SET_LOCKTAG_RELATION(gate, MyDatabaseId, ordflow_relid("counter_gate"));
	holders = GetLockConflicts(&gate, ShareLock, &writers->n);
	if (writers->list != NULL)
		pfree(writers->list);
	writers->list = MemoryContextAlloc(TopMemoryContext,
									   sizeof(VirtualTransactionId) * Max(writers->n, 1));
	memcpy(writers->list, holders, sizeof(VirtualTransactionId) * writers->n);
	writers->current = ledger->current;
	writers->opened_at = ledger->opened_at;
}

static bool
writers_have_ended(Writers *writers)
{
	while (writers->n > 0 && VirtualXactLock(writers->list[writers->n - 1], false))
		writers->n--;
	return writers->n == 0;
}

/* Adds all up to the closed segment to the balances; how many movements it were. */
static int64
fold(const Ledger *ledger, TimestampTz now)
{
	const Segment *first = first_of_stretch(ledger, LEDGER_STRETCH(ledger->closed));
	Datum		range[2] = {Int64GetDatum(ledger->folded), Int64GetDatum(ledger->closed)};
	Datum		mark[2] = {Int64GetDatum(ledger->closed), TimestampTzGetDatum(now)};
	int64		nmovements;

	ordflow_counter_own_write("stock");
	ordflow_execute_latest(&fold_sums, range, NULL);
	ordflow_counter_own_write_done();
	nmovements = ordflow_result_int64(0, 1);

	ordflow_counter_own_write("stock_segments");
	/* the first has no row yet */
	ordflow_execute_latest(&insert_segment, mark, NULL);
	ordflow_execute_latest(&mark_folded, mark, NULL);
	if (first != NULL)
	{
		range[0] = Int64GetDatum(first->segment);
		ordflow_execute_latest(&delete_segments, range, NULL);
	}
	ordflow_counter_own_write_done();
	return nmovements;
}

static bool
try_lock(const char *relname, LOCKMODE mode)
{
	return ConditionalLockRelationOid(ordflow_relid(relname), mode);
}

/*
 * Before the rows are read that tell what comes next: a direct write that commits in between would
 * make them old, and what it has folded be folded again.
 */
static bool
lock_ledger(void)
{
	return try_lock("stock_segments", ShareUpdateExclusiveLock) &&
		try_lock("counter_gate", RowExclusiveLock);
}

/* Retires what is due and empties what may be; when there is more to do. */
static TimestampTz
tidy(const Ledger *ledger, TimestampTz now)
{
	const Segment *oldest = oldest_stretch(ledger);
	TimestampTz next = stretch_ends(ledger);
	bool		emptied;

	/* the next stretch has no room: it will have when that is emptied */
	if (next <= now)
		next = DT_NOEND;
	if (retention() >= 0 && oldest != NULL)
	{
		if (oldest->folded_at + retention() <= now)
		{
			retire(oldest, now);
			return now;
		}
		next = Min(next, oldest->folded_at + retention());
	}
	if (empty_partitions(ledger, &emptied))
		duty_state.empty_rest = 0;
	else
	{
		duty_state.empty_rest = Min(Max(2 * duty_state.empty_rest, EMPTY_MIN), EMPTY_MAX);
		next = Min(next, now + duty_state.empty_rest);
	}
	return emptied ? now : next;
}

/* ---- the duty ---- */

static TimestampTz
poll_again(TimestampTz now)
{
	duty_state.poll_rest = Min(Max(2 * duty_state.poll_rest, POLL_MIN), POLL_MAX);
	return now + duty_state.poll_rest;
}

static TimestampTz
step_closed(const Ledger *ledger, TimestampTz now)
{
	writers_list(&duty_state.writers, ledger);
	if (!writers_have_ended(&duty_state.writers))
		return poll_again(now);
	duty_state.poll_rest = 0;
	fold(ledger, now);
	return now;
}

/* Does what comes next, and says when that after it does. */
static TimestampTz
step(TimestampTz now)
{
	Ledger		ledger;
	bool		movements;

	if (!lock_ledger())
		return poll_again(now);
	ledger_read(&ledger);
	if (ledger.closed != 0)
		return step_closed(&ledger, now);
	duty_state.poll_rest = 0;

	movements = has_open_movements(&ledger);
	if (movements)
	{
		TimestampTz since = ledger.opened_at;

		/* not known of the first; and a clock that was set back must not put it off */
		if (since == DT_NOBEGIN || since > now)
			since = now;
		duty_state.open_at = Min(duty_state.open_at,
								 TimestampTzPlusMilliseconds(since, ordflow_fold_interval));
	}
	else
		duty_state.open_at = stretch_has_ended(&ledger, now) ? now : DT_NOEND;
	if (duty_state.open_at <= now)
	{
		open_next(&ledger, now);
		duty_state.open_at = DT_NOEND;
		return now;
	}
	return Min(tidy(&ledger, now), duty_state.open_at);
}

/* In a transaction of its own; DT_NOEND as well where there is nothing to do it in. */
static TimestampTz
run_step(void)
{
	TimestampTz next;

	if (!ordflow_worker_begin())
		return DT_NOEND;
	SPI_connect();
	next = step(GetCurrentTimestamp());
	SPI_finish();
	ordflow_worker_commit();
	return next;
}

/* A table or a row that somebody has locked is no error: the fold can wait. */
static TimestampTz
try_step(void)
{
	volatile TimestampTz next;

	PG_TRY();
	{
		next = run_step();
	}
	PG_CATCH();
	{
		int			code = geterrcode();

		if (code != ERRCODE_LOCK_NOT_AVAILABLE && code != ERRCODE_T_R_DEADLOCK_DETECTED)
			PG_RE_THROW();
		FreeErrorData(ordflow_worker_abort(TopMemoryContext));
		next = poll_again(GetCurrentTimestamp());
	}
	PG_END_TRY();
	return next;
}

static TimestampTz
run(TimestampTz noted, bool unblocked)
{
	if (noted == DT_NOBEGIN)
	{
		duty_state.open_at = DT_NOEND;
		duty_state.next = DT_NOBEGIN;
		duty_state.poll_rest = 0;
		duty_state.empty_rest = 0;
		duty_state.writers.current = 0;
	}
	else
	{
		duty_state.open_at = Min(duty_state.open_at, noted);
		if (duty_state.poll_rest == 0)
			duty_state.next = Min(duty_state.next, noted);
	}
	if (duty_state.next <= GetCurrentTimestamp())
		duty_state.next = try_step();
	return duty_state.next;
}

static const Duty duty = {
	.part = "fold",
	.run = run,
};

void
ordflow_fold_init(void)
{
	ordflow_worker_register(DUTY_FOLD, &duty);
}

/* ---- the same by hand ---- */

/* Was the current segment opened by this very transaction, so that others do not know of it? */
static bool
opened_by_us(const Ledger *ledger)
{
	return ledger->n > 0 &&
		TransactionIdIsCurrentTransactionId(ledger->segments[ledger->n - 1].xmin);
}

static bool
wait_for_writers(const Ledger *ledger)
{
	Writers		writers = {0};
	TimestampTz end = GetCurrentTimestamp() + WAIT_MAX;
	bool		ended;

	writers_list(&writers, ledger);
	while (!(ended = writers_have_ended(&writers)) && GetCurrentTimestamp() < end)
	{
		pg_usleep(WAIT_STEP);
		CHECK_FOR_INTERRUPTS();
	}
	pfree(writers.list);
	return ended;
}

static int64
fold_by_hand(void)
{
	TimestampTz now = GetCurrentTimestamp();
	Ledger		ledger;
	int64		nmovements = 0;

	if (!lock_ledger())
		return 0;
	ordflow_counter_enter("stock");
	ledger_read(&ledger);
	if (ledger.closed != 0 && !opened_by_us(&ledger) && wait_for_writers(&ledger))
	{
		nmovements = fold(&ledger, now);
		ledger_read(&ledger);
	}
	if (ledger.closed == 0 && (has_open_movements(&ledger) || stretch_has_ended(&ledger, now)))
		open_next(&ledger, now);
	else
		tidy(&ledger, now);
	return nmovements;
}

Datum
ordflow_fold_stock(PG_FUNCTION_ARGS)
{
	int64		nmovements;

	ordflow_require_preload();
	PreventCommandIfReadOnly("ordflow.fold_stock()");
	PreventCommandDuringRecovery("ordflow.fold_stock()");
	ordflow_refuse_prepare("stock");
	SPI_connect();
	nmovements = fold_by_hand();
	SPI_finish();
	PG_RETURN_INT64(nmovements);
}

/*
 * retention.c
 *	  The step of the duty that lets old tasks go, so that tables stay small without dead rows.
 *
 *	 open		New tasks go to another partition, an empty one, when those of the current one have
 *				been coming in for a sixth of the retention, or are very many.
 *	 retire		When the retention has passed since then, what is to be kept longer is copied to
 *				partition 0: what is open, the dead, what its kind wants to be kept.  All sessions
 *				are told that the partition counts no more.
 *	 empty		When no snapshot is left that does not see that, it is truncated, if the locks are
 *				there at once.  So a held snapshot costs disk, never speed, and where no partition
 *				is empty the current one grows on.
 *
 * Partition 0 is worked off row by row.  Each step is a transaction of its own, and the rows of
 * ordflow.task_segments say what comes next, so a crash or a start goes on where the last one
 * ended.  To retire is the longest: it reads a whole partition, and the other duties wait for it.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "task/internal.h"
#include "worker/worker.h"

/* a partition is followed by the next after this share of the retention, or so many tasks */
#define SEGMENTS_A_RETENTION 6
#define SEGMENT_AGE_MIN USECS_PER_SEC
#define SEGMENT_AGE_MAX (8 * USECS_PER_HOUR)
#define SEGMENT_TASKS_MAX 4000000

/* so many rows are copied while there is another empty partition */
#define COPY_MAX 200000

#define LOCKED_REST USECS_PER_SEC
#define COPY_REST (10 * USECS_PER_MINUTE)
#define EMPTY_REST_MIN USECS_PER_SEC
#define EMPTY_REST_MAX (10 * USECS_PER_SEC)
#define TIDY_REST_MIN USECS_PER_MINUTE
#define TIDY_ROWS 10000

/* A row of ordflow.task_segments. */
typedef struct Segment
{
	int64		segment;
	int			part;
	TimestampTz opened_at;
	TimestampTz closed_at;		/* DT_NOEND: it is the current one */
	bool		retired;
	TransactionId xmin;
} Segment;

typedef struct Segments
{
	Segment    *rows;			/* from the lowest on */
	int			n;
} Segments;

/* What the coordinator remembers from step to step; the rows would tell it again. */
static struct
{
	TimestampTz next;			/* the next step */
	TimestampTz tidy_at;		/* of partition 0; DT_NOEND: it was empty ... */
	int64		tidy_id;		/* ... when this was the next number */
	TimestampTz copy_at[TASK_PARTS];	/* a partition with much to copy waits */
	int64		empty_rest;
	int64		first_id;		/* the next number when the current segment was opened */
	int64		segment;		/* that one */
	int64		retention;		/* as it was set then */
}			state;

static Statement read_segments = {
	.sql = "SELECT g.segment, g.part, g.opened_at, g.retired_at, g.xmin "
	"FROM ordflow.task_segments g ORDER BY g.segment"
};

static Statement insert_segment = {
	.sql = "INSERT INTO ordflow.task_segments (segment, part, opened_at) VALUES ($1, $2, $3)",
	.nargs = 3,
	.argtypes = {INT8OID, INT2OID, TIMESTAMPTZOID}
};

static Statement mark_retired = {
	.sql = "UPDATE ordflow.task_segments SET retired_at = $2 WHERE segment = $1",
	.nargs = 2,
	.argtypes = {INT8OID, TIMESTAMPTZOID}
};

static Statement delete_segment = {
	.sql = "DELETE FROM ordflow.task_segments WHERE segment = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* When a task with an outcome may go; dead ones are kept for longer.  NULL: never. */
#define KEPT_UNTIL \
	"o.finished_at + greatest($1, k.retention, CASE WHEN o.state = 'd' THEN $2 END)"

/*
 * Tasks of a partition that are kept at a moment: $3.  Without an outcome they are open, or of a
 * cancelled batch and over since then.  Of a batch that is open what has succeeded may go, as it is
 * what counts when it is missing (batch_row.c); all else is needed for its figures.
 */
#define KEPT \
	"(o.task_id IS NULL AND coalesce(e.cancelled_at + greatest($1, k.retention) > $3, true) OR " \
	"o.state <> 's' AND q.batch_id IS NOT NULL AND e.reopened IS NOT FALSE OR " \
	"o.state = 'd' AND $2 IS NULL OR " KEPT_UNTIL " > $3)"

#define TASKS_OF_PART \
	"FROM ordflow.task_queue_%1$d q JOIN ordflow.task_kinds k ON k.kind_id = q.kind_id " \
	"LEFT JOIN ordflow.task_outcomes_%1$d o ON o.task_id = q.task_id " \
	"LEFT JOIN ordflow.task_batch_ends e ON e.batch_id = q.batch_id "

static const char *const count_kept =
"SELECT count(*), min(task_id), max(task_id) FROM (SELECT q.task_id " TASKS_OF_PART
"WHERE " KEPT " LIMIT 1000000000) s";

/* The second goes by what the first has copied: a task without its outcome would run again. */
static const char *const copy_kept[] = {
	"INSERT INTO ordflow.task_queue_0 (task_id, batch_id, run_at, submitted_at, kind_id, part, "
	"priority, key, unique_key, submitter, payload) "
	"SELECT q.task_id, q.batch_id, q.run_at, q.submitted_at, q.kind_id, 0, q.priority, q.key, "
	"q.unique_key, q.submitter, q.payload " TASKS_OF_PART "WHERE " KEPT,

	"INSERT INTO ordflow.task_outcomes_0 (task_id, started_at, finished_at, part, attempts, "
	"state, result) "
	"SELECT o.task_id, o.started_at, o.finished_at, 0, o.attempts, o.state, o.result "
	"FROM ordflow.task_outcomes_%1$d o WHERE EXISTS "
	"(SELECT FROM ordflow.task_queue_0 z WHERE z.task_id = o.task_id)"
};

/* What goes with the others. */
static const char *const delete_rest[] = {
	"DELETE FROM ordflow.task_attempts a USING ordflow.task_queue_%1$d q "
	"WHERE a.task_id = q.task_id AND NOT EXISTS "
	"(SELECT FROM ordflow.task_queue_0 z WHERE z.task_id = a.task_id)",

	"DELETE FROM ordflow.task_batch_ends e USING ordflow.task_batches b "
	"WHERE b.batch_id = e.batch_id AND b.part = %1$d AND NOT EXISTS "
	"(SELECT FROM ordflow.task_queue_0 z "
	"WHERE z.task_id BETWEEN b.first_task AND b.first_task + b.total - 1)",

	"DELETE FROM ordflow.task_batches b WHERE b.part = %1$d AND NOT EXISTS "
	"(SELECT FROM ordflow.task_queue_0 z "
	"WHERE z.task_id BETWEEN b.first_task AND b.first_task + b.total - 1)"
};

/*
 * Rows of partition 0 whose time is over, and what hangs on them.  A dead one that is just being
 * put back is left alone: retry_task() takes its outcome away.
 */
static Statement tidy_tasks = {
	.sql = "WITH gone AS (SELECT q.task_id, o.task_id IS NOT NULL AS ended "
	"FROM ordflow.task_queue_0 q JOIN ordflow.task_kinds k ON k.kind_id = q.kind_id "
	"LEFT JOIN ordflow.task_outcomes_0 o ON o.task_id = q.task_id "
	"LEFT JOIN ordflow.task_batch_ends e ON e.batch_id = q.batch_id "
	"WHERE " KEPT " IS NOT TRUE LIMIT $4), "
	"ours AS (SELECT o.task_id FROM ordflow.task_outcomes_0 o "
	"JOIN gone ON gone.task_id = o.task_id FOR UPDATE OF o SKIP LOCKED), "
	"goes AS (SELECT task_id FROM ours UNION ALL SELECT task_id FROM gone WHERE NOT ended), "
	"outcomes AS (DELETE FROM ordflow.task_outcomes_0 o USING ours "
	"WHERE o.task_id = ours.task_id), "
	"attempts AS (DELETE FROM ordflow.task_attempts a USING goes WHERE a.task_id = goes.task_id) "
	"DELETE FROM ordflow.task_queue_0 q USING goes WHERE q.task_id = goes.task_id",
	.nargs = 4,
	.argtypes = {INTERVALOID, INTERVALOID, TIMESTAMPTZOID, INT4OID}
};

static Statement tidy_batches = {
	.sql = "WITH gone AS (SELECT b.batch_id FROM ordflow.task_batches b "
	"JOIN ordflow.task_batch_ends e ON e.batch_id = b.batch_id "
	"WHERE e.finished_at + $1 <= $2 AND (b.part = 0 OR EXISTS "
	"(SELECT FROM ordflow.task_segments g WHERE g.part = b.part AND g.opened_at > b.submitted_at) "
	"OR NOT EXISTS (SELECT FROM ordflow.task_segments g WHERE g.part = b.part)) AND NOT EXISTS "
	"(SELECT FROM ordflow.task_queue z "
	"WHERE z.task_id BETWEEN b.first_task AND b.first_task + b.total - 1) LIMIT $3), "
	"ends AS (DELETE FROM ordflow.task_batch_ends e USING gone "
	"WHERE e.batch_id = gone.batch_id) "
	"DELETE FROM ordflow.task_batches b USING gone WHERE b.batch_id = gone.batch_id",
	.nargs = 3,
	.argtypes = {INTERVALOID, TIMESTAMPTZOID, INT4OID}
};

static Statement find_kept = {
	.sql = "SELECT EXISTS (SELECT FROM ordflow.task_queue_0)"
};

/* ---- settings ---- */

/* In microseconds; -1: for good. */
static int64
retention(void)
{
	return ordflow_task_retention < 0 ? -1 : ordflow_task_retention * USECS_PER_SEC;
}

static int64
segment_age(void)
{
	return Max(Min(retention() / SEGMENTS_A_RETENTION, SEGMENT_AGE_MAX), SEGMENT_AGE_MIN);
}

static int64
tidy_rest(void)
{
	return Max(segment_age(), TIDY_REST_MIN);
}

/* $1 and $2 of the statements above; NULL: for good. */
static void
set_retentions(Datum *values, char *nulls)
{
	values[0] = IntervalPGetDatum(ordflow_setting_interval("ordflow.task_retention"));
	nulls[0] = ' ';
	nulls[1] = ordflow_task_dead_retention < 0 ? 'n' : ' ';
	values[1] = (Datum) 0;
	if (ordflow_task_dead_retention >= 0)
		values[1] = IntervalPGetDatum(ordflow_setting_interval("ordflow.task_dead_retention"));
}

/* ---- the rows ---- */

static void
read_all(Segments *segments)
{
	uint64		n = ordflow_execute_latest(&read_segments, NULL, NULL);

	segments->n = n;
	segments->rows = palloc(sizeof(Segment) * Max(n, 1));
	for (uint64 i = 0; i < n; i++)
	{
		Segment    *row = &segments->rows[i];
		bool		isnull;

		row->segment = ordflow_result_int64(i, 1);
		row->part = DatumGetInt16(ordflow_result(i, 2, &isnull));
		row->opened_at = DatumGetTimestampTz(ordflow_result(i, 3, &isnull));
		ordflow_result(i, 4, &isnull);
		row->retired = !isnull;
		row->xmin = DatumGetTransactionId(ordflow_result(i, 5, &isnull));
		row->closed_at = DT_NOEND;
		if (i > 0)
			segments->rows[i - 1].closed_at = row->opened_at;
	}
}

static BlockNumber
blocks_of(const char *table, int part)
{
	Relation	rel = table_open(ordflow_relid(ordflow_segment_relname(table, part)),
								 AccessShareLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(rel);

	table_close(rel, AccessShareLock);
	return blocks;
}

static bool
is_empty(int part)
{
	return blocks_of("task_queue", part) == 0 && blocks_of("task_outcomes", part) == 0;
}

static bool
is_listed(const Segments *segments, int part)
{
	for (int i = 0; i < segments->n; i++)
		if (segments->rows[i].part == part)
			return true;
	return false;
}

/* 0: there is none. */
static int
find_empty(const Segments *segments)
{
	for (int part = 1; part < TASK_PARTS; part++)
		if (!is_listed(segments, part) && is_empty(part) && (segments->n > 0 || part > 1))
			return part;
	return 0;
}

static void
run_for_part(const char *sql, int part, int nargs, Datum *values, const char *nulls)
{
	static Oid	types[] = {INTERVALOID, INTERVALOID, TIMESTAMPTZOID};

	if (SPI_execute_with_args(psprintf(sql, part), nargs, types, values, nulls, false, 0) < 0)
		elog(ERROR, "could not execute \"%s\"", sql);
}

/* ---- opening ---- */

static void
open_segment(int64 segment, int part, TimestampTz now)
{
	Datum		values[] = {
		Int64GetDatum(segment), Int16GetDatum(part), TimestampTzGetDatum(now)
	};

	ordflow_task_own_write();
	ordflow_execute_latest(&insert_segment, values, NULL);
	ordflow_task_own_write_done();
	ordflow_segments_changed();
}

static int64
next_number(void)
{
	TaskQueue  *queue = ordflow_queue();
	int64		number;

	ordflow_task_lock();
	number = queue->next_id;
	ordflow_task_unlock();
	return number;
}

/* When the current segment is to be followed; *done: it was. */
static TimestampTz
open_if_due(const Segments *segments, TimestampTz now, bool *done)
{
	const Segment *current = segments->n == 0 ? NULL : &segments->rows[segments->n - 1];
	TimestampTz at;
	int			part;

	if (blocks_of("task_queue", current == NULL ? 1 : current->part) == 0)
	{
		state.first_id = next_number();
		return DT_NOEND;
	}
	if (current == NULL)
	{
		/* from now on it is known how old the first one is */
		open_segment(1, 1, now);
		*done = true;
		return now;
	}
	if (state.segment != current->segment || state.first_id == 0)
	{
		state.segment = current->segment;
		state.first_id = next_number();
	}
	at = current->opened_at + segment_age();
	if (at > now && next_number() - state.first_id < SEGMENT_TASKS_MAX)
		return at;
	part = find_empty(segments);
	if (part == 0)
	{
		/* not again before as many more have come */
		state.first_id = next_number();
		return now + segment_age();
	}
	open_segment(current->segment + 1, part, now);
	*done = true;
	return now;
}

/* ---- retiring ---- */

/* Nobody writes to the partition, or will: the locks are kept to the end. */
static bool
lock_part(int part, LOCKMODE mode)
{
	Oid			queue = ordflow_relid(ordflow_segment_relname("task_queue", part));
	Oid			outcomes = ordflow_relid(ordflow_segment_relname("task_outcomes", part));

	if (!ConditionalLockRelationOid(queue, mode))
		return false;
	if (ConditionalLockRelationOid(outcomes, mode))
		return true;
	UnlockRelationOid(queue, mode);
	return false;
}

/* What is copied is to be looked through in its new place. */
static void
note_copied(int64 first, int64 last)
{
	TaskAction	action = {.kind = ACTION_UNREAD, .run = {.first = first, .last = last}};

	ordflow_queue();
	ordflow_journal_room(1);
	ordflow_journal_add(&action);
	ordflow_progress_forget(0);
	state.tidy_at = Min(state.tidy_at, GetCurrentTimestamp() + tidy_rest());
}

static void
copy_and_delete(const Segment *segment, Datum *values, const char *nulls)
{
	ordflow_task_own_write();
	for (int i = 0; i < lengthof(copy_kept); i++)
		run_for_part(copy_kept[i], segment->part, 3, values, nulls);
	for (int i = 0; i < lengthof(delete_rest); i++)
		run_for_part(delete_rest[i], segment->part, 0, NULL, NULL);
	ordflow_task_own_write_done();
}

static TimestampTz
retire(const Segments *segments, const Segment *segment, TimestampTz now, bool *done)
{
	Datum		values[3];
	char		nulls[] = "   ";
	Datum		mark[] = {Int64GetDatum(segment->segment), TimestampTzGetDatum(now)};
	int64		n;

	if (!lock_part(segment->part, ShareRowExclusiveLock))
		return now + LOCKED_REST;
	set_retentions(values, nulls);
	values[2] = TimestampTzGetDatum(now);
	run_for_part(count_kept, segment->part, 3, values, nulls);
	n = ordflow_result_int64(0, 1);
	if (n > COPY_MAX && find_empty(segments) != 0)
		return now + COPY_REST;
	if (n > 0)
		note_copied(ordflow_result_int64(0, 2), ordflow_result_int64(0, 3));
	copy_and_delete(segment, values, nulls);
	ordflow_task_own_write();
	ordflow_execute_latest(&mark_retired, mark, NULL);
	ordflow_task_own_write_done();
	ordflow_segments_changed();
	*done = true;
	return now;
}

static TimestampTz
retire_if_due(const Segments *segments, TimestampTz now, bool *done)
{
	TimestampTz next = DT_NOEND;

	for (int i = 0; i < segments->n && !*done; i++)
	{
		const Segment *segment = &segments->rows[i];
		TimestampTz at;

		if (segment->retired || segment->closed_at == DT_NOEND)
			continue;
		at = segment->closed_at + retention();
		if (at <= now && state.copy_at[segment->part] > now)
			at = state.copy_at[segment->part];
		if (at <= now)
		{
			at = retire(segments, segment, now, done);
			if (at == now + COPY_REST)
				state.copy_at[segment->part] = at;
		}
		next = Min(next, at);
	}
	return next;
}

/* ---- emptying ---- */

static bool
all_see_retired(const Segment *segment)
{
	Relation	rel = table_open(ordflow_relid(ordflow_segment_relname("task_queue",
																	   segment->part)),
								 AccessShareLock);
	TransactionId oldest = GetOldestNonRemovableTransactionId(rel);

	table_close(rel, AccessShareLock);
	return TransactionIdPrecedes(segment->xmin, oldest);
}

static bool
empty(const Segment *segment)
{
	Datum		values[] = {Int64GetDatum(segment->segment)};
	char	   *sql = psprintf("TRUNCATE ONLY ordflow.task_queue_%1$d, "
							   "ONLY ordflow.task_outcomes_%1$d", segment->part);

	if (!all_see_retired(segment) || !lock_part(segment->part, AccessExclusiveLock))
		return false;
	ordflow_progress_forget(segment->part);
	ordflow_task_own_write();
	if (SPI_execute(sql, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not execute \"%s\"", sql);
	ordflow_execute_latest(&delete_segment, values, NULL);
	ordflow_task_own_write_done();
	ordflow_segments_changed();
	return true;
}

static TimestampTz
empty_if_due(const Segments *segments, TimestampTz now, bool *done)
{
	bool		waits = false;

	for (int i = 0; i < segments->n && !*done; i++)
	{
		if (!segments->rows[i].retired)
			continue;
		*done = empty(&segments->rows[i]);
		waits = true;
	}
	if (*done || !waits)
	{
		state.empty_rest = 0;
		return *done ? now : DT_NOEND;
	}
	state.empty_rest = Min(Max(2 * state.empty_rest, EMPTY_REST_MIN), EMPTY_REST_MAX);
	return now + state.empty_rest;
}

/* ---- partition 0 ---- */

static TimestampTz
tidy_if_due(TimestampTz now, bool *done)
{
	Datum		values[4];
	char		nulls[] = "    ";
	Datum		of_batches[3];
	bool		isnull;
	uint64		n;

	if (state.tidy_at > now && (state.tidy_at != DT_NOEND || state.tidy_id == next_number()))
		return state.tidy_at;
	state.tidy_id = next_number();
	ordflow_execute_latest(&find_kept, NULL, NULL);
	state.tidy_at = DT_NOEND;
	if (!DatumGetBool(ordflow_result(0, 1, &isnull)))
		return DT_NOEND;
	set_retentions(values, nulls);
	values[2] = of_batches[1] = TimestampTzGetDatum(now);
	values[3] = of_batches[2] = Int32GetDatum(TIDY_ROWS);
	of_batches[0] = values[0];
	ordflow_task_own_write();
	n = ordflow_execute_latest(&tidy_tasks, values, nulls);
	ordflow_execute_latest(&tidy_batches, of_batches, NULL);
	ordflow_task_own_write_done();
	state.tidy_at = n == TIDY_ROWS ? now : now + tidy_rest();
	*done = n == TIDY_ROWS;
	return state.tidy_at;
}

/* ---- the step ---- */

static TimestampTz
step(TimestampTz now)
{
	Segments	segments;
	bool		done = false;
	TimestampTz next;

	read_all(&segments);
	next = empty_if_due(&segments, now, &done);
	if (!done)
		next = ordflow_earlier(next, retire_if_due(&segments, now, &done));
	if (!done)
		next = ordflow_earlier(next, open_if_due(&segments, now, &done));
	if (!done)
		next = ordflow_earlier(next, tidy_if_due(now, &done));
	return done ? now : next;
}

/* Tasks have come since there was nothing to let go, or very many, or all has its time anew. */
static bool
is_due_early(int64 seen)
{
	int64		number = next_number();

	return (state.next == DT_NOEND && seen != number) || state.retention != retention() ||
		(state.first_id > 0 && number - state.first_id >= SEGMENT_TASKS_MAX);
}

TimestampTz
ordflow_segments_step(bool afresh)
{
	TimestampTz now = GetCurrentTimestamp();
	static int64 seen = 0;

	if (retention() < 0)
		return DT_NOEND;
	if (is_due_early(seen))
		state.next = now;
	if (!afresh && state.next > now)
		return state.next;
	if (afresh || state.retention != retention())
		state.tidy_at = DT_NOBEGIN;
	state.retention = retention();
	seen = next_number();
	/* an error has it looked at again, when the duty comes afresh */
	if (!ordflow_worker_begin())
		return DT_NOEND;
	SPI_connect();
	state.next = step(now);
	SPI_finish();
	ordflow_worker_commit();
	return state.next;
}

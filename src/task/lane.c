/*
 * lane.c
 *	  Runs of tasks: where they wait, and which comes next.
 *
 * A lane has a list of runs for each priority, by number; runs that touch are made one, so a lane
 * that is worked off in order is as short as it was filled.  What is due later waits in a heap that
 * all databases share, and joins its lane when its time has come.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

#include "task/internal.h"

/* runs that are let into their lanes at once */
#define PROMOTE_MAX 1000

/* of those due later, to find a time that half of them are later than */
#define SAMPLES 64

/* numbers that a run may cover beyond its own, where room is short */
#define COMPACT_GAP_MAX 10000

/* what a rate lets start at once after a pause */
#define RATE_BURST (100 * 1000)

static SlotNo *later;			/* a heap by the time when they are due; from 1 on */

Size
ordflow_lanes_size(int nslots)
{
	return mul_size(sizeof(SlotNo), nslots + 1);
}

void
ordflow_lanes_attach(void *memory)
{
	later = memory;
}

static inline TaskSlot *
slot_at(SlotNo no)
{
	return &ordflow_task_slots[no];
}

static inline Lane *
lane_of(const TaskSlot *slot)
{
	return &ordflow_task_shared->lanes[slot->lane];
}

static inline int64
length(const TaskSlot *slot)
{
	return slot->last - slot->first + 1;
}

static TaskQueue *
queue_of(Oid database)
{
	TaskQueue  *queues = ordflow_task_shared->queues;

	while (queues->database != database)
		queues++;
	return queues;
}

void
ordflow_unread_add(TaskQueue *queue, int part, int64 first, int64 last)
{
	if (queue->unread[part] >= queue->unread_end[part])
	{
		queue->unread[part] = first;
		queue->unread_end[part] = last + 1;
	}
	else
	{
		queue->unread[part] = Min(queue->unread[part], first);
		queue->unread_end[part] = Max(queue->unread_end[part], last + 1);
	}
	queue->grown[part] = Min(queue->grown[part], first);
	ordflow_wait_tell_all(queue->database);
	ordflow_task_poke(TASK_AT_ONCE);
}

/* ---- telling ---- */

void
ordflow_lane_tell(const Lane *lane, int n)
{
	int			told;

	if (!OidIsValid(lane->owner))
	{
		ordflow_wait_tell(lane->database, WAIT_KIND, lane->kind_id, n);
		return;
	}
	told = ordflow_wait_tell(lane->database, WAIT_POOL, lane->owner, n);
	if (told < n)
		ordflow_task_poke(queue_of(lane->database)->pool_at);
}

/* ---- the heap ---- */

static inline TimestampTz
due(int place)
{
	return slot_at(later[place])->at;
}

static void
sift_up(int place)
{
	SlotNo		no = later[place];
	TimestampTz at = slot_at(no)->at;

	for (; place > 1 && due(place / 2) > at; place /= 2)
		later[place] = later[place / 2];
	later[place] = no;
}

static void
sift_down(int place)
{
	int			n = ordflow_task_shared->nlater;
	SlotNo		no = later[place];
	TimestampTz at = slot_at(no)->at;

	for (;;)
	{
		int			child = place * 2;

		if (child < n && due(child + 1) < due(child))
			child++;
		if (child > n || due(child) >= at)
			break;
		later[place] = later[child];
		place = child;
	}
	later[place] = no;
}

static SlotNo
pop_later(void)
{
	TaskShared *shared = ordflow_task_shared;
	SlotNo		no = later[1];

	later[1] = later[shared->nlater--];
	if (shared->nlater > 0)
		sift_down(1);
	return no;
}

static int
compare_times(const void *a, const void *b)
{
	TimestampTz x = *(const TimestampTz *) a;
	TimestampTz y = *(const TimestampTz *) b;

	return x < y ? -1 : x > y;
}

/* There are too many: those in the later half of time are left to the rows that tell it. */
static void
drop_latest(void)
{
	TaskShared *shared = ordflow_task_shared;
	TimestampTz times[SAMPLES];
	TimestampTz kept_to;
	bool		all_alike;
	int			kept = 0;

	for (int i = 0; i < SAMPLES; i++)
		times[i] = due(1 + (int64) i * shared->nlater / SAMPLES);
	qsort(times, SAMPLES, sizeof(TimestampTz), compare_times);
	kept_to = times[SAMPLES / 2];
	all_alike = times[SAMPLES - 1] == kept_to;
	for (int i = 1; i <= shared->nlater; i++)
	{
		TaskSlot   *slot = slot_at(later[i]);
		TaskQueue  *queue;

		if (slot->at < kept_to || (slot->at == kept_to && !all_alike) ||
			(slot->flags & RUN_PUT_OFF) != 0)
		{
			later[++kept] = later[i];
			continue;
		}
		queue = queue_of(lane_of(slot)->database);
		queue->far = Min(queue->far, slot->at);
		queue->dropped = Min(queue->dropped, slot->at);
		lane_of(slot)->later -= length(slot);
		ordflow_slot_free(later[i]);
	}
	shared->nlater = kept;
	for (int i = kept / 2; i >= 1; i--)
		sift_down(i);
}

static void
put_later(SlotNo no)
{
	TaskShared *shared = ordflow_task_shared;
	TaskSlot   *slot = slot_at(no);

	slot->state = SLOT_LATER;
	lane_of(slot)->later += length(slot);
	ordflow_task_poke(slot->at);
	later[++shared->nlater] = no;
	sift_up(shared->nlater);
	if (shared->nlater > shared->nslots / 2)
		drop_latest();
}

/* ---- the lists ---- */

static void
unlink_run(SlotNo no)
{
	TaskSlot   *slot = slot_at(no);
	Lane	   *lane = lane_of(slot);

	if (slot->previous != 0)
		slot_at(slot->previous)->next = slot->next;
	else
		lane->first[slot->priority] = slot->next;
	if (slot->next != 0)
		slot_at(slot->next)->previous = slot->previous;
	else
		lane->last[slot->priority] = slot->previous;
}

/*
 * The last run that does not begin later than that number; 0: none does.  From both ends: mostly
 * it is among the newest, or was claimed and comes back to the front.
 */
static SlotNo
find_place(const Lane *lane, int priority, int64 first)
{
	SlotNo		front = lane->first[priority];
	SlotNo		back = lane->last[priority];

	for (;;)
	{
		if (front == 0 || slot_at(front)->first > first)
			return front == 0 ? lane->last[priority] : slot_at(front)->previous;
		if (slot_at(back)->first <= first)
			return back;
		front = slot_at(front)->next;
		back = slot_at(back)->previous;
	}
}

/* Makes the run behind part of this one, if they touch. */
static void
join_next(SlotNo no)
{
	TaskSlot   *slot = slot_at(no);
	SlotNo		next = slot->next;

	if (next == 0 || slot_at(next)->part != slot->part || slot_at(next)->first > slot->last + 1)
		return;
	lane_of(slot)->ready -= length(slot) + length(slot_at(next));
	slot->last = Max(slot->last, slot_at(next)->last);
	lane_of(slot)->ready += length(slot);
	unlink_run(next);
	ordflow_slot_free(next);
}

static void
put_ready(SlotNo no)
{
	TaskSlot   *slot = slot_at(no);
	Lane	   *lane = lane_of(slot);
	int64		n = length(slot);

	slot->state = SLOT_READY;
	slot->previous = find_place(lane, slot->priority, slot->first);
	slot->next = slot->previous != 0 ? slot_at(slot->previous)->next :
		lane->first[slot->priority];
	if (slot->previous != 0)
		slot_at(slot->previous)->next = no;
	else
		lane->first[slot->priority] = no;
	if (slot->next != 0)
		slot_at(slot->next)->previous = no;
	else
		lane->last[slot->priority] = no;
	lane->ready += n;
	join_next(no);
	if (slot->previous != 0)
		join_next(slot->previous);
	ordflow_lane_tell(lane, Min(n, MaxBackends));
}

void
ordflow_run_put(SlotNo no)
{
	TaskSlot   *slot = slot_at(no);

	if (slot->at != DT_NOBEGIN && slot->at > GetCurrentTimestamp())
		put_later(no);
	else
		put_ready(no);
}

/* The nearest run of the partition in front of the number, or else behind it. */
static SlotNo
find_neighbour(const Lane *lane, const TaskRun *run)
{
	SlotNo		place = find_place(lane, run->priority, run->first);
	SlotNo		no = place;

	for (int i = 0; no != 0 && i < 100; i++, no = slot_at(no)->previous)
		if (slot_at(no)->part == run->part)
			return no;
	no = place != 0 ? slot_at(place)->next : lane->first[run->priority];
	return no != 0 && slot_at(no)->part == run->part ? no : 0;
}

/* A run without a slot: a neighbour covers it and what lies between; false: there is none. */
static bool
join_neighbour(Lane *lane, const TaskRun *run)
{
	SlotNo		no = find_neighbour(lane, run);
	TaskSlot   *slot = slot_at(no);

	if (no == 0)
		return false;
	lane->ready -= length(slot);
	slot->first = Min(slot->first, run->first);
	slot->last = Max(slot->last, run->last);
	lane->ready += length(slot);
	ordflow_lane_tell(lane, Min(run->last - run->first + 1, MaxBackends));
	return true;
}

/* Joins each second run of a list to the one before it. */
static void
compact_list(const Lane *lane, int priority)
{
	for (SlotNo no = lane->first[priority]; no != 0; no = slot_at(no)->next)
	{
		TaskSlot   *slot = slot_at(no);
		const TaskSlot *next = slot->next == 0 ? NULL : slot_at(slot->next);
		int64		gap;

		if (next == NULL || next->part != slot->part)
			continue;
		gap = next->first - slot->last - 1;
		if (gap > COMPACT_GAP_MAX)
			continue;
		lane_of(slot)->ready += Max(gap, 0);
		slot->last = Max(slot->last, next->first - 1);
		join_next(no);
	}
}

/*
 * Single tasks of many kinds, submitted in turn, are a run each; those of one that nobody works
 * on must not keep the others out.  A run that covers what is not its own costs a look at it,
 * when it is taken.  Where that has not helped it is not tried again for a while.
 */
bool
ordflow_runs_compact(void)
{
	TaskShared *shared = ordflow_task_shared;
	int			before = shared->nfree;

	if (shared->compact_after-- > 0)
		return false;
	for (int i = 0; i < TASK_KINDS_MAX; i++)
		if (OidIsValid(shared->lanes[i].database))
			for (int p = 0; p < TASK_PRIORITIES; p++)
				compact_list(&shared->lanes[i], p);
	shared->compact_after = shared->nfree - before > shared->nslots / 64 ? 0 : shared->nslots / 4;
	return shared->nfree > before;
}

bool
ordflow_run_publish(TaskQueue *queue, const TaskRun *run, int32 kind_id, SlotNo no)
{
	Lane	   *lane;

	if (no != 0)
	{
		TaskSlot   *slot = slot_at(no);

		if (slot->state == SLOT_RESERVED)
			lane_of(slot)->reserved--;
		slot->part = run->part;
		slot->priority = run->priority;
		slot->first = run->first;
		slot->last = run->last;
		slot->at = run->run_at;
		ordflow_run_put(no);
		return true;
	}
	lane = ordflow_lane_find(kind_id);
	if (lane != NULL && join_neighbour(lane, run))
		return true;
	ordflow_unread_add(queue, run->part, run->first, run->last);
	return false;
}

TimestampTz
ordflow_later_promote(TaskQueue *queue, TimestampTz now)
{
	for (int i = 0; ordflow_task_shared->nlater > 0; i++)
	{
		SlotNo		no = later[1];

		if (slot_at(no)->at > now || i == PROMOTE_MAX)
			return slot_at(no)->at;
		pop_later();
		lane_of(slot_at(no))->later -= length(slot_at(no));
		put_ready(no);
	}
	return DT_NOEND;
}

/* ---- what is over ---- */

/* Cuts numbers off the ends of a run; true: nothing is left of it. */
static bool
cut_off(TaskSlot *slot, int64 first, int64 last)
{
	if (slot->first >= first && slot->first <= last)
		slot->first = Min(last, slot->last) + 1;
	if (slot->last >= first && slot->last <= last)
		slot->last = Max(first, slot->first) - 1;
	return slot->first > slot->last;
}

/* Of those due later, which leaves the heap as it is but for what is nothing any more. */
static void
cut_off_later(const TaskQueue *queue, int part, int64 first, int64 last)
{
	TaskShared *shared = ordflow_task_shared;
	int			kept = 0;

	for (int i = 1; i <= shared->nlater; i++)
	{
		TaskSlot   *slot = slot_at(later[i]);
		int64		before = length(slot);
		bool		gone = slot->part == part && lane_of(slot)->database == queue->database &&
			cut_off(slot, first, last);

		lane_of(slot)->later -= before - (gone ? 0 : length(slot));
		if (gone)
			ordflow_slot_free(later[i]);
		else
			later[++kept] = later[i];
	}
	if (kept == shared->nlater)
		return;
	shared->nlater = kept;
	for (int i = kept / 2; i >= 1; i--)
		sift_down(i);
}

void
ordflow_runs_cut_off(const TaskQueue *queue, int part, int64 first, int64 last)
{
	TaskShared *shared = ordflow_task_shared;

	for (SlotNo no = 1; no <= shared->used; no++)
	{
		TaskSlot   *slot = slot_at(no);
		int64		before = length(slot);
		bool		gone;

		if (slot->state != SLOT_READY || slot->part != part ||
			lane_of(slot)->database != queue->database)
			continue;
		gone = cut_off(slot, first, last);
		lane_of(slot)->ready -= before - (gone ? 0 : length(slot));
		if (!gone)
			continue;
		unlink_run(no);
		ordflow_slot_free(no);
	}
	cut_off_later(queue, part, first, last);
}

/* ---- what comes next ---- */

bool
ordflow_lane_permits(const Lane *lane, const TaskKind *kind, TimestampTz now, TimestampTz *again)
{
	if (kind->max_concurrent > 0 && lane->running >= kind->max_concurrent)
		return false;
	if (kind->rate > 0 && lane->rate_at > now)
	{
		*again = Min(*again, lane->rate_at);
		return false;
	}
	return true;
}

void
ordflow_lane_started(Lane *lane, const TaskKind *kind, TimestampTz now, int n)
{
	if (kind->rate > 0)
		lane->rate_at = Max(lane->rate_at, now - RATE_BURST) +
			(TimestampTz) (n * (double) USECS_PER_SEC / kind->rate);
}

/* How many may start, of so many that are wanted; one may. */
static int
permitted(const Lane *lane, const TaskKind *kind, TimestampTz now, int max)
{
	if (kind->max_concurrent > 0)
		max = Min(max, kind->max_concurrent - lane->running);
	if (kind->rate > 0)
	{
		TimestampTz since = Max(lane->rate_at, now - RATE_BURST);

		max = (int) Min((double) max, (now - since) * kind->rate / USECS_PER_SEC + 1);
	}
	return max;
}

typedef struct Best
{
	const TaskKind *kind;
	Lane	   *lane;
	SlotNo		run;			/* 0: a key's */
	int			priority;
	int64		number;
} Best;

static void
consider(Best *best, const Best *other)
{
	if (best->kind == NULL || other->priority > best->priority ||
		(other->priority == best->priority && other->number < best->number))
		*best = *other;
}

/*
 * The key of a task is known once its row was read.  So that the tasks of a key start in their
 * order, of a kind with keys only one process at a time is between taking and having looked.
 */
static Lane *looking_at = NULL;

static void
look_begin(const TaskKind *kind, Lane *lane)
{
	if (kind->per_key == 0)
		return;
	lane->looking = ordflow_proc_number + 1;
	looking_at = lane;
}

void
ordflow_look_end(void)
{
	if (looking_at == NULL)
		return;
	ordflow_task_lock();
	if (looking_at->looking == ordflow_proc_number + 1)
		looking_at->looking = 0;
	ordflow_task_unlock();
	looking_at = NULL;
}

static bool
find_best(TaskTake *take, Best *best, TimestampTz *again)
{
	best->kind = NULL;
	for (int i = 0; i < take->nkinds; i++)
	{
		Best		other = {.kind = take->kinds[i]};

		other.lane = other.kind->paused ? NULL : ordflow_lane_find(other.kind->kind_id);
		if (other.lane == NULL || (other.lane->ready == 0 && other.lane->keys_ready < 0) ||
			!ordflow_lane_permits(other.lane, other.kind, take->terms.now, again))
			continue;
		if (other.lane->looking != 0)
		{
			take->busy = true;
			continue;
		}
		for (int p = TASK_PRIORITIES - 1; p >= 0 && other.run == 0; p--)
			if (other.lane->first[p] != 0)
			{
				other.run = other.lane->first[p];
				other.priority = p;
				other.number = slot_at(other.run)->first;
				consider(best, &other);
			}
		other.run = 0;
		other.priority = ordflow_key_priority(other.lane, &other.number);
		if (other.priority >= 0)
			consider(best, &other);
	}
	return best->kind != NULL;
}

/* False: there is no slot for the claim. */
static bool
claim_first(TaskTake *take, Lane *lane, SlotNo run)
{
	TaskSlot   *slot = slot_at(run);
	bool		is_last = slot->first == slot->last;
	SlotNo		no = is_last ? run : ordflow_slot_for_claim();

	if (no == 0)
		return false;
	if (is_last)
		unlink_run(run);
	ordflow_claim_make(no, lane, slot->first, slot->part, slot->priority, &take->terms);
	take->slots[take->n++] = no;
	return true;
}

/* Takes from the front of a run; false: there is nothing left of it. */
static bool
take_from(TaskTake *take, Lane *lane, SlotNo run, int max)
{
	for (;;)
	{
		TaskSlot   *slot = slot_at(run);
		bool		is_last = slot->first == slot->last;
		SlotNo		held = ordflow_claim_find(slot->first);

		if (held != 0)
		{
			/* whoever holds it brings it back if he gives it back */
			slot_at(held)->flags |= CLAIM_LEFT_OUT;
			if (is_last)
			{
				unlink_run(run);
				ordflow_slot_free(run);
			}
		}
		else if (take->n == max)
			return true;
		else if (!claim_first(take, lane, run))
		{
			take->full = true;
			return true;
		}
		lane->ready--;
		if (is_last)
			return false;
		slot->first++;
	}
}

void
ordflow_lane_take(TaskQueue *queue, TaskTake *take)
{
	Best		best;

	take->n = 0;
	take->key = NULL;
	take->unread = false;
	take->busy = false;
	take->full = false;
	take->again = DT_NOEND;
	while (take->n == 0 && !take->full && find_best(take, &best, &take->again))
	{
		TimestampTz now = take->terms.now;
		int			max = Min(take->max, TASK_GROUP_MAX);

		if (best.run == 0)
		{
			take->key = best.kind;
			look_begin(best.kind, best.lane);
			return;
		}
		take_from(take, best.lane, best.run, permitted(best.lane, best.kind, now, max));
		ordflow_lane_started(best.lane, best.kind, now, take->n);
		if (take->n > 0)
			look_begin(best.kind, best.lane);
	}
	for (int part = 0; part < TASK_PARTS; part++)
		take->unread |= take->n == 0 && queue->unread[part] < queue->unread_end[part];
}

/* ---- all slots ---- */

int64
ordflow_lane_lowest(TaskQueue *queue, int part)
{
	int64		lowest = ordflow_keys_lowest(queue->database);

	for (SlotNo no = 1; no <= ordflow_task_shared->used; no++)
	{
		const TaskSlot *slot = slot_at(no);

		if (slot->state != SLOT_FREE && slot->part == part && slot->first < lowest &&
			lane_of(slot)->database == queue->database)
			lowest = slot->first;
	}
	if (queue->unread[part] < queue->unread_end[part])
		lowest = Min(lowest, queue->unread[part]);
	/* an open transaction may have drawn what is drawn already, and not have its slot */
	return queue->untracked > 0 ? 0 : lowest;
}

void
ordflow_lanes_forget(Oid database)
{
	TaskShared *shared = ordflow_task_shared;
	int			kept = 0;

	for (int i = 1; i <= shared->nlater; i++)
		if (lane_of(slot_at(later[i]))->database != database)
			later[++kept] = later[i];
	shared->nlater = kept;
	for (int i = kept / 2; i >= 1; i--)
		sift_down(i);
	for (SlotNo no = 1; no <= shared->used; no++)
		if (slot_at(no)->state != SLOT_FREE && lane_of(slot_at(no))->database == database)
			ordflow_slot_free(no);
}

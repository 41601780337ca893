/*
 * shared.c
 *	  The memory of all queues: slots, claims, lanes, numbers.
 *
 * One lock guards it.  What is done under it is short, of the order of a hundred steps, but for a
 * few walks over all slots that are used (leases that have ended, a batch that is cancelled, the
 * lowest open task), each of which comes at most every few milliseconds.
 *
 * The claims of all databases are found by a hash of the task's number: chains through the
 * slots themselves, so that to make a claim needs nothing but its slot.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "task/internal.h"
#include "worker/worker.h"

#define TRANCHE "ordflow tasks"

TaskShared *ordflow_task_shared = NULL;
TaskSlot   *ordflow_task_slots = NULL;

static SlotNo *buckets;			/* of claims */
static uint32 bucket_mask;

static TaskQueue *mine = NULL;	/* this database's queue, once this process has touched it */
static TimestampTz poke_at = DT_NOEND;

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

/* ---- the memory as a whole ---- */

static uint32
bucket_count(void)
{
	return pg_nextpower2_32(Max(ordflow_task_slots_setting, 16));
}

/* Its parts, one behind the other; memory NULL: only adds them up. */
static Size
lay_out(char *memory, bool found)
{
	int			nslots = ordflow_task_slots_setting;
	Size		at = MAXALIGN(sizeof(TaskShared));
	Size		slots = at;
	Size		claims;
	Size		lanes;
	Size		keys;
	Size		waiters;
	Size		batches;

	at = MAXALIGN(add_size(at, mul_size(sizeof(TaskSlot), nslots + 1)));
	claims = at;
	at = MAXALIGN(add_size(at, mul_size(sizeof(SlotNo), bucket_count())));
	lanes = at;
	at = MAXALIGN(add_size(at, ordflow_lanes_size(nslots)));
	keys = at;
	at = MAXALIGN(add_size(at, ordflow_keys_size()));
	waiters = at;
	at = MAXALIGN(add_size(at, ordflow_waiters_size()));
	batches = at;
	at = add_size(at, ordflow_batches_size());
	if (memory == NULL)
		return at;
	ordflow_task_shared = (TaskShared *) memory;
	ordflow_task_slots = (TaskSlot *) (memory + slots);
	buckets = (SlotNo *) (memory + claims);
	bucket_mask = bucket_count() - 1;
	if (!found)
		memset(memory, 0, keys);
	ordflow_lanes_attach(memory + lanes);
	ordflow_keys_attach(memory + keys, found);
	ordflow_waiters_attach(memory + waiters, found);
	ordflow_batches_attach(memory + batches, found);
	return at;
}

static void
request_memory(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(add_size(lay_out(NULL, false), ordflow_locks_size()));
	RequestNamedLWLockTranche(TRANCHE, 1);
}

static void
make_free_list(void)
{
	TaskShared *shared = ordflow_task_shared;

	shared->nslots = ordflow_task_slots_setting;
	shared->nfree = shared->nslots;
	shared->free = 1;
	for (int i = 1; i < shared->nslots; i++)
		ordflow_task_slots[i].next = i + 1;
}

static void
startup(void)
{
	char	   *memory;
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	memory = ShmemInitStruct(TRANCHE, lay_out(NULL, false), &found);
	lay_out(memory, found);
	ordflow_locks_attach();
	if (!found)
	{
		ordflow_task_shared->lock = &GetNamedLWLockTranche(TRANCHE)->lock;
		ConditionVariableInit(&ordflow_task_shared->loaded);
		make_free_list();
		ordflow_suspects_start();
	}
	LWLockRelease(AddinShmemInitLock);
}

void
ordflow_task_memory_init(void)
{
	if (!ordflow_preloaded)
		return;
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}

void
ordflow_task_lock(void)
{
	LWLockAcquire(ordflow_task_shared->lock, LW_EXCLUSIVE);
}

void
ordflow_task_unlock(void)
{
	TimestampTz at = poke_at;

	poke_at = DT_NOEND;
	LWLockRelease(ordflow_task_shared->lock);
	if (at != DT_NOEND)
		ordflow_worker_note(DUTY_TASK, at);
}

void
ordflow_task_poke(TimestampTz at)
{
	poke_at = Min(poke_at, at);
}

/* ---- queues ---- */

/* The open transaction has been aborted by now. */
static void
give_back_at_exit(int code, Datum arg)
{
	ordflow_load_abandon();
	ordflow_look_end();
	ordflow_wait_end(false);
	ordflow_session_give_back_all();
	ordflow_locks_release_all();
	if (mine == NULL)
		return;
	ordflow_task_lock();
	mine->users--;
	ordflow_task_unlock();
}

void
ordflow_task_attend(void)
{
	static bool registered = false;

	if (!registered)
		on_shmem_exit(give_back_at_exit, (Datum) 0);
	registered = true;
}

/* Nobody touches the queue, and nobody holds a task of it: its rows tell all that it does. */
static bool
is_idle(const TaskQueue *queue)
{
	if (queue->users > 0)
		return false;
	for (int i = 0; i < TASK_KINDS_MAX; i++)
	{
		const Lane *lane = &ordflow_task_shared->lanes[i];

		if (lane->database == queue->database && lane->running > 0)
			return false;
	}
	return true;
}

static void
forget_queue(TaskQueue *queue)
{
	TaskShared *shared = ordflow_task_shared;

	ordflow_lanes_forget(queue->database);
	ordflow_keys_forget(queue->database);
	ordflow_batches_forget(queue->database);
	for (int i = 0; i < TASK_KINDS_MAX; i++)
		if (shared->lanes[i].database == queue->database)
			memset(&shared->lanes[i], 0, sizeof(Lane));
	memset(queue, 0, sizeof(TaskQueue));
}

/* The lock is held. */
static TaskQueue *
find_queue(Oid database)
{
	TaskQueue  *queues = ordflow_task_shared->queues;

	for (int i = 0; i < TASK_DATABASES_MAX; i++)
		if (queues[i].database == database)
			return &queues[i];
	return NULL;
}

static TaskQueue *
make_queue(void)
{
	TaskQueue  *queues = ordflow_task_shared->queues;
	TaskQueue  *queue = find_queue(InvalidOid);

	for (int i = 0; i < TASK_DATABASES_MAX && queue == NULL; i++)
		if (is_idle(&queues[i]))
		{
			forget_queue(&queues[i]);
			queue = &queues[i];
		}
	if (queue == NULL)
		return NULL;
	queue->database = MyDatabaseId;
	queue->lease_end = DT_NOEND;
	queue->quiet = true;
	ordflow_load_afresh(queue);
	return queue;
}

TaskQueue *
ordflow_queue_find(void)
{
	return mine != NULL ? mine : find_queue(MyDatabaseId);
}

TaskQueue *
ordflow_queue(void)
{
	TaskQueue  *queue;

	if (mine != NULL)
		return mine;
	ordflow_require_preload();
	PreventCommandDuringRecovery("a task");
	ordflow_task_attend();
	ordflow_task_lock();
	queue = find_queue(MyDatabaseId);
	if (queue == NULL)
		queue = make_queue();
	if (queue != NULL)
		queue->users++;
	ordflow_task_unlock();
	if (queue == NULL)
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("tasks are in use in too many databases"),
				errdetail("At most %d databases of a server may have sessions that use tasks.",
						  TASK_DATABASES_MAX));
	mine = queue;
	return queue;
}

/* ---- numbers ---- */

/* 0: not enough are drawn ahead.  What is known of an extension that was dropped is forgotten. */
static int64
hand_out(TaskQueue *queue, Oid sequence, int n)
{
	int64		first = 0;

	ordflow_task_lock();
	if (queue->sequence != sequence && OidIsValid(queue->sequence))
		ordflow_load_afresh(queue);
	queue->sequence = sequence;
	if (queue->next_id > 0 && queue->next_id + n <= queue->ids_end)
	{
		first = queue->next_id;
		queue->next_id += n;
	}
	ordflow_task_unlock();
	return first;
}

/* Whoever draws by hand moves the sequence too: then what was drawn before is left out. */
static void
draw(TaskQueue *queue, Oid sequence, int n)
{
	RoleSwitch	saved = ordflow_role_enter(ordflow_owner(), false);
	int64		value = nextval_internal(sequence, false);

	DirectFunctionCall2(setval_oid, ObjectIdGetDatum(sequence),
						Int64GetDatum(value + n + TASK_IDS_AHEAD - 1));
	ordflow_role_leave(saved);
	ordflow_task_lock();
	if (queue->next_id == 0 || queue->ids_end != value)
		queue->next_id = value;
	queue->ids_end = value + n + TASK_IDS_AHEAD;
	ordflow_task_unlock();
}

int64
ordflow_task_ids(int n)
{
	TaskQueue  *queue = ordflow_queue();
	Oid			sequence = ordflow_relid("task_ids");
	int64		first = hand_out(queue, sequence, n);
	LOCKTAG		tag;

	if (first > 0)
		return first;
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, TASK_LOCK_IDS);
	LockAcquire(&tag, ExclusiveLock, false, false);
	while ((first = hand_out(queue, sequence, n)) == 0)
		draw(queue, sequence, n);
	LockRelease(&tag, ExclusiveLock, false);
	return first;
}

/* ---- lanes ---- */

#define LANES_KNOWN 64

/* Where this process has found lanes before: the place may be another's by now. */
static int16 known[LANES_KNOWN];

Lane *
ordflow_lane_find(int32 kind_id)
{
	Lane	   *lanes = ordflow_task_shared->lanes;
	int16	   *place = &known[(uint32) kind_id % LANES_KNOWN];

	if (lanes[*place].kind_id == kind_id && lanes[*place].database == MyDatabaseId)
		return &lanes[*place];
	for (int i = 0; i < TASK_KINDS_MAX; i++)
		if (lanes[i].kind_id == kind_id && lanes[i].database == MyDatabaseId)
		{
			*place = i;
			return &lanes[i];
		}
	return NULL;
}

static bool
lane_is_empty(const Lane *lane)
{
	return lane->running == 0 && lane->reserved == 0 && lane->ready == 0 && lane->later == 0 &&
		lane->keys == 0;
}

static Lane *
make_lane(int32 kind_id)
{
	Lane	   *lanes = ordflow_task_shared->lanes;
	Lane	   *lane = NULL;

	for (int i = 0; i < TASK_KINDS_MAX && lane == NULL; i++)
		if (!OidIsValid(lanes[i].database))
			lane = &lanes[i];
	for (int i = 0; i < TASK_KINDS_MAX && lane == NULL; i++)
		if (lane_is_empty(&lanes[i]))
			lane = &lanes[i];
	if (lane == NULL)
		return NULL;
	memset(lane, 0, sizeof(Lane));
	lane->database = MyDatabaseId;
	lane->kind_id = kind_id;
	lane->keys_ready = -1;
	return lane;
}

Lane *
ordflow_lane(const TaskKind *kind)
{
	Lane	   *lane = ordflow_lane_find(kind->kind_id);

	if (lane == NULL)
		lane = make_lane(kind->kind_id);
	if (lane != NULL)
		lane->owner = kind->handler != NULL ? kind->owner : InvalidOid;
	return lane;
}

SlotNo
ordflow_run_reserve(const TaskKind *kind, int part, int64 first)
{
	TaskQueue  *queue = ordflow_queue();
	SlotNo		no = 0;
	Lane	   *lane;

	ordflow_task_lock();
	lane = ordflow_lane(kind);
	if (lane != NULL)
		no = ordflow_slot_new();
	if (no == 0)
		queue->untracked++;
	else
	{
		TaskSlot   *slot = &ordflow_task_slots[no];

		slot->state = SLOT_RESERVED;
		slot->lane = lane - ordflow_task_shared->lanes;
		slot->part = part;
		slot->first = slot->last = first > 0 ? first : queue->next_id;
		lane->reserved++;
	}
	ordflow_task_unlock();
	return no;
}

/* ---- slots ---- */

SlotNo
ordflow_slot_for_claim(void)
{
	TaskShared *shared = ordflow_task_shared;
	SlotNo		no = shared->free;

	if (no == 0)
		return 0;
	shared->free = ordflow_task_slots[no].next;
	shared->nfree--;
	shared->used = Max(shared->used, no);
	memset(&ordflow_task_slots[no], 0, sizeof(TaskSlot));
	return no;
}

SlotNo
ordflow_slot_new(void)
{
	TaskShared *shared = ordflow_task_shared;
	int			runs = shared->nslots - shared->nfree - shared->nclaims;

	if (runs >= shared->nslots - shared->nslots / 4 && !ordflow_runs_compact())
		return 0;
	return ordflow_slot_for_claim();
}

void
ordflow_slot_free(SlotNo no)
{
	ordflow_task_slots[no].state = SLOT_FREE;
	ordflow_task_slots[no].next = ordflow_task_shared->free;
	ordflow_task_shared->free = no;
	ordflow_task_shared->nfree++;
}

/* ---- claims ---- */

static SlotNo *
bucket_of(Oid database, int64 task_id)
{
	/* numbers that follow each other do not collide; the factor keeps databases apart */
	return &buckets[((uint32) task_id + database * 0x9E3779B1U) & bucket_mask];
}

SlotNo
ordflow_claim_find(int64 task_id)
{
	SlotNo		no = *bucket_of(MyDatabaseId, task_id);

	while (no != 0 && (ordflow_task_slots[no].first != task_id ||
					   ordflow_task_shared->lanes[ordflow_task_slots[no].lane].database !=
					   MyDatabaseId))
		no = ordflow_task_slots[no].chain;
	return no;
}

bool
ordflow_claim_is(SlotNo no, int64 token)
{
	return no != 0 && ordflow_task_slots[no].state == SLOT_CLAIMED &&
		ordflow_task_slots[no].token == token;
}

/*
 * Tokens are never given twice, after a restart neither: they begin at the microsecond of the first
 * claim, and the last one is kept in a file in case the clock was set back.
 */
static int64
new_token(TimestampTz now)
{
	TaskShared *shared = ordflow_task_shared;
	int64	   *kept = ordflow_suspects_token();

	if (shared->token == 0)
	{
		shared->token_base = Max(now, kept == NULL ? 0 : *kept + 1);
		shared->token = shared->token_base - 1;
	}
	shared->token++;
	if (kept != NULL)
		*kept = shared->token;
	return shared->token;
}

bool
ordflow_claim_make(SlotNo no, Lane *lane, int64 task_id, int part, int priority,
				   const ClaimTerms *terms)
{
	TaskSlot   *slot = &ordflow_task_slots[no];
	SlotNo	   *bucket;

	if (ordflow_claim_find(task_id) != 0)
		return false;
	bucket = bucket_of(lane->database, task_id);
	*slot = (TaskSlot) {
		.state = SLOT_CLAIMED,
		.flags = (terms->lease_until != 0 ? CLAIM_LEASE : 0) | (terms->worker ? CLAIM_WORKER : 0),
		.part = part,
		.priority = priority,
		.lane = lane - ordflow_task_shared->lanes,
		.first = task_id,
		.last = task_id,
		.at = terms->now,
		.until = terms->lease_until,
		.token = new_token(terms->now),
		.holder = terms->lease_until != 0 ? -1 : ordflow_proc_number,
		.key = -1,
		.chain = *bucket
	};
	*bucket = no;
	lane->running++;
	ordflow_task_shared->nclaims++;
	if (terms->lease_until == 0)
		ordflow_session_link(no);
	else
	{
		TaskQueue  *queue = find_queue(lane->database);

		queue->lease_end = Min(queue->lease_end, terms->lease_until);
		ordflow_task_poke(terms->lease_until);
	}
	return true;
}

/* Whatever becomes of its slot, it is nobody's claim any more. */
static void
unclaim(SlotNo no)
{
	TaskSlot   *slot = &ordflow_task_slots[no];
	Lane	   *lane = &ordflow_task_shared->lanes[slot->lane];
	SlotNo	   *link = bucket_of(lane->database, slot->first);

	while (*link != no)
		link = &ordflow_task_slots[*link].chain;
	*link = slot->chain;
	if (slot->holder >= 0)
		ordflow_session_unlink(no);
	lane->running--;
	ordflow_task_shared->nclaims--;
}

/*
 * A run that named the task was taken while this claim stood, and has left it to us.  We may have
 * taken it by mistake, from a run that covers more than it should, or from a partition that has
 * retired since: so, unless the task is over, which FINISHING says, all look for it again.
 */
static void
see_to_left_out(const TaskSlot *slot)
{
	TaskQueue  *queue = find_queue(ordflow_task_shared->lanes[slot->lane].database);

	if ((slot->flags & CLAIM_LEFT_OUT) == 0 || (slot->flags & CLAIM_FINISHING) != 0)
		return;
	for (int part = 0; part < TASK_PARTS; part++)
		ordflow_unread_add(queue, part, slot->first, slot->first);
}

/* A worker has ended claims and told nobody. */
static bool owed = false;

bool
ordflow_claims_owed(void)
{
	bool		was_owed = owed;

	owed = false;
	return was_owed;
}

void
ordflow_claim_end(SlotNo no)
{
	TaskSlot   *slot = &ordflow_task_slots[no];
	Lane	   *lane = &ordflow_task_shared->lanes[slot->lane];
	bool		by_worker = (slot->flags & CLAIM_WORKER) != 0 &&
		slot->holder == ordflow_proc_number;

	if (slot->key >= 0)
		ordflow_key_leave(no, false);
	unclaim(no);
	see_to_left_out(slot);
	ordflow_slot_free(no);
	/* a permit may be what others wait for; a worker looks for itself first, and is mostly right */
	if (lane->ready == 0 && lane->keys_ready < 0)
		return;
	if (by_worker)
		owed = true;
	else
		ordflow_lane_tell(lane, 1);
}

static void
give_back(SlotNo no, TimestampTz at, uint8 flags)
{
	TaskSlot   *slot = &ordflow_task_slots[no];
	bool		keyed = slot->key >= 0;

	/* what is cancelled is over */
	if ((slot->flags & CLAIM_CANCELLED) != 0)
	{
		ordflow_claim_end(no);
		return;
	}
	/* one that is to wait steps aside; else those of its key wait for it */
	if (keyed)
		ordflow_key_leave(no, at == DT_NOBEGIN);
	unclaim(no);
	see_to_left_out(slot);
	if (keyed && at == DT_NOBEGIN)
	{
		Lane	   *lane = &ordflow_task_shared->lanes[slot->lane];

		ordflow_slot_free(no);
		if (lane->keys_ready >= 0)
			ordflow_lane_tell(lane, 1);
		return;
	}
	slot->flags = flags;
	slot->at = at;
	ordflow_run_put(no);
}

void
ordflow_claim_give_back(SlotNo no, TimestampTz at)
{
	give_back(no, at, 0);
}

void
ordflow_claim_put_off(SlotNo no, TimestampTz at)
{
	give_back(no, at, RUN_PUT_OFF);
}

void
ordflow_leases_expire(TaskQueue *queue, TimestampTz now)
{
	static TimestampTz looked = 0;
	TimestampTz earliest = DT_NOEND;

	/* many claimers in a row are not to look through all slots, each for nothing */
	if (queue->lease_end > now || (now - looked < 10 * 1000 && now >= looked))
		return;
	looked = now;
	for (SlotNo no = 1; no <= ordflow_task_shared->used; no++)
	{
		TaskSlot   *slot = &ordflow_task_slots[no];

		if (slot->state != SLOT_CLAIMED || slot->holder >= 0 ||
			ordflow_task_shared->lanes[slot->lane].database != queue->database)
			continue;
		if (slot->until > now)
			earliest = Min(earliest, slot->until);
		else if ((slot->flags & CLAIM_FINISHING) != 0)
			earliest = Min(earliest, now + USECS_PER_SEC);
		else
			ordflow_claim_give_back(no, DT_NOBEGIN);
	}
	queue->lease_end = earliest;
}

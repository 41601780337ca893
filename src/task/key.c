/*
 * key.c
 *	  Keys: how many tasks of one run at once, and in which order they start.
 *
 * A key is in memory while a task of it runs or waits.  Those that wait are kept as the range of
 * their numbers; which of them are open is read when one may start.  Keys whose hashes are equal
 * share an entry: that is stricter, never looser.
 *
 * The keys of a lane that have a permit to spare and tasks that wait are in a ring; only the end
 * of one of the two takes a key out of it.
 */
#include "postgres.h"

#include "common/hashfn.h"

#include "task/internal.h"

#define BUCKETS 65536

typedef struct KeyLane
{
	uint64		hash;
	int64		from;			/* what waits is from here ... */
	int64		to;				/* ... to here; nothing does where this is lower */
	int			next;			/* in the bucket or the free list; -1: the last */
	int			after;			/* in the ring */
	int			before;
	int32		running;
	int32		per_key;
	int16		lane;
	uint8		priority;		/* the highest of those that have waited */
	bool		used;
	bool		listed;
} KeyLane;

typedef struct Keys
{
	int			free;
	int			made;			/* no higher place was ever taken */
	int			buckets[BUCKETS];
	KeyLane		keys[TASK_KEYS_MAX];
} Keys;

static Keys *all;

Size
ordflow_keys_size(void)
{
	return sizeof(Keys);
}

void
ordflow_keys_attach(void *memory, bool found)
{
	all = memory;
	if (found)
		return;
	memset(all, 0, sizeof(Keys));
	all->free = -1;
	for (int i = 0; i < BUCKETS; i++)
		all->buckets[i] = -1;
}

static inline Lane *
lane_of(const KeyLane *key)
{
	return &ordflow_task_shared->lanes[key->lane];
}

static int *
bucket_of(int lane, uint64 hash)
{
	return &all->buckets[(hash ^ (hash >> 32) ^ (uint32) lane * 0x9E3779B1U) % BUCKETS];
}

static KeyLane *
find(int lane, uint64 hash)
{
	int			i = *bucket_of(lane, hash);

	while (i >= 0 && (all->keys[i].hash != hash || all->keys[i].lane != lane))
		i = all->keys[i].next;
	return i < 0 ? NULL : &all->keys[i];
}

static KeyLane *
make(int lane, uint64 hash)
{
	int		   *bucket = bucket_of(lane, hash);
	int			i = all->free;

	if (i >= 0)
		all->free = all->keys[i].next;
	else if (all->made < TASK_KEYS_MAX)
		i = all->made++;
	else
		return NULL;
	all->keys[i] = (KeyLane) {
		.hash = hash,
		.from = PG_INT64_MAX,
		.to = PG_INT64_MIN,
		.next = *bucket,
		.lane = lane,
		.used = true
	};
	*bucket = i;
	ordflow_task_shared->lanes[lane].keys++;
	return &all->keys[i];
}

static bool
has_waiting(const KeyLane *key)
{
	return key->from <= key->to;
}

static void
list(KeyLane *key)
{
	Lane	   *lane = lane_of(key);
	int			me = key - all->keys;

	key->listed = true;
	if (lane->keys_ready < 0)
	{
		key->after = key->before = me;
		lane->keys_ready = me;
		return;
	}
	key->after = lane->keys_ready;
	key->before = all->keys[key->after].before;
	all->keys[key->before].after = me;
	all->keys[key->after].before = me;
}

static void
unlist(KeyLane *key)
{
	Lane	   *lane = lane_of(key);
	int			me = key - all->keys;

	key->listed = false;
	if (key->after == me)
	{
		lane->keys_ready = -1;
		return;
	}
	all->keys[key->before].after = key->after;
	all->keys[key->after].before = key->before;
	if (lane->keys_ready == me)
		lane->keys_ready = key->after;
}

static void
discard(KeyLane *key)
{
	int			me = key - all->keys;
	int		   *link = bucket_of(key->lane, key->hash);

	while (*link != me)
		link = &all->keys[*link].next;
	*link = key->next;
	lane_of(key)->keys--;
	key->used = false;
	key->next = all->free;
	all->free = me;
}

/* It has changed: is it to be in the ring, or nowhere? */
static void
settle(KeyLane *key)
{
	bool		ready = has_waiting(key) && key->running < key->per_key;

	if (ready && !key->listed)
	{
		list(key);
		ordflow_lane_tell(lane_of(key), 1);
	}
	else if (!ready && key->listed)
		unlist(key);
	if (key->running == 0 && !has_waiting(key))
		discard(key);
}

static void
cover(KeyLane *key, int64 number, int priority)
{
	key->priority = has_waiting(key) ? Max(key->priority, priority) : priority;
	key->from = Min(key->from, number);
	key->to = Max(key->to, number);
}

bool
ordflow_key_enter(SlotNo claim, const TaskKind *kind, const char *text)
{
	TaskSlot   *slot = &ordflow_task_slots[claim];
	uint64		hash = hash_bytes_extended((const unsigned char *) text, strlen(text), 0);
	KeyLane    *key = find(slot->lane, hash);

	if (key == NULL)
		key = make(slot->lane, hash);
	if (key == NULL)
	{
		/* another key must end first */
		ordflow_claim_put_off(claim, slot->at + USECS_PER_SEC);
		return false;
	}
	key->per_key = kind->per_key;
	if (key->running < key->per_key && (!has_waiting(key) || slot->first < key->from))
	{
		key->running++;
		slot->key = key - all->keys;
		settle(key);
		return true;
	}
	cover(key, slot->first, slot->priority);
	ordflow_claim_end(claim);
	settle(key);
	return false;
}

void
ordflow_key_leave(SlotNo claim, bool given_back)
{
	TaskSlot   *slot = &ordflow_task_slots[claim];
	KeyLane    *key = &all->keys[slot->key];

	slot->key = -1;
	key->running--;
	if (given_back)
		cover(key, slot->first, slot->priority);
	settle(key);
}

bool
ordflow_key_next(Lane *lane, uint64 *hash, int64 *first, int64 *last)
{
	const KeyLane *key;

	if (lane->keys_ready < 0)
		return false;
	key = &all->keys[lane->keys_ready];
	*hash = key->hash;
	*first = key->from;
	*last = key->to;
	lane->keys_ready = key->after;
	return true;
}

bool
ordflow_key_take(SlotNo claim, const TaskKind *kind, uint64 hash)
{
	TaskSlot   *slot = &ordflow_task_slots[claim];
	KeyLane    *key = find(slot->lane, hash);

	if (key == NULL || key->running >= key->per_key || slot->first < key->from)
	{
		/* nothing but this claim may cover it by now, if it was given back and taken again */
		if (key != NULL && has_waiting(key))
			cover(key, slot->first, slot->priority);
		else
			slot->flags |= CLAIM_LEFT_OUT;
		ordflow_claim_end(claim);
		return false;
	}
	key->per_key = kind->per_key;
	key->running++;
	key->from = slot->first + 1;
	if (!has_waiting(key))
	{
		key->from = PG_INT64_MAX;
		key->to = PG_INT64_MIN;
	}
	slot->key = key - all->keys;
	settle(key);
	return true;
}

void
ordflow_key_none(Lane *lane, uint64 hash, int64 last)
{
	KeyLane    *key = find(lane - ordflow_task_shared->lanes, hash);

	if (key == NULL || !has_waiting(key))
		return;
	key->from = Max(key->from, last + 1);
	if (!has_waiting(key))
	{
		key->from = PG_INT64_MAX;
		key->to = PG_INT64_MIN;
	}
	settle(key);
}

int
ordflow_key_priority(const Lane *lane, int64 *first)
{
	if (lane->keys_ready < 0)
		return -1;
	*first = all->keys[lane->keys_ready].from;
	return all->keys[lane->keys_ready].priority;
}

int64
ordflow_keys_lowest(Oid database)
{
	int64		lowest = PG_INT64_MAX;

	for (int i = 0; i < all->made; i++)
		if (all->keys[i].used && has_waiting(&all->keys[i]) &&
			lane_of(&all->keys[i])->database == database)
			lowest = Min(lowest, all->keys[i].from);
	return lowest;
}

void
ordflow_keys_forget(Oid database)
{
	for (int i = 0; i < all->made; i++)
	{
		KeyLane    *key = &all->keys[i];

		if (!key->used || lane_of(key)->database != database)
			continue;
		if (key->listed)
			unlist(key);
		discard(key);
	}
}

/*
 * table.c
 *	  The counters in shared memory: found, loaded, pinned, evicted.
 *
 * An array of counters, in buckets by the hash of their key; a bucket belongs to a
 * partition, whose lock guards the membership and the keys.  The lock of allocation guards the
 * free list and the hand that looks for a victim.  Locks are taken in the order allocation,
 * partition; never two partitions at once.
 *
 * A counter that was taken off the free list belongs to whoever took it until it is linked.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "counter/internal.h"

#define TRANCHE "ordflow counters"

/*
 * A load is an index scan and waits for nobody, unless somebody locks the tables against reading.
 * If that is us, the loader waits for us: so we do not wait for ever.
 */
#define LOAD_WAIT_MS	10000L

#define NONE (-1)

typedef struct Partition
{
	LWLock	   *lock;
	ConditionVariable loaded;	/* some load in it has ended */
} Partition;

typedef struct CounterTable
{
	LWLock	   *allocation;
	int			free;			/* a list by next */
	int			hand;
	int			n;
	uint32		mask;			/* of the buckets */
	pg_atomic_uint64 loads;
	pg_atomic_uint64 changes;	/* of deadlines, by hand */
	Partition	partitions[COUNTER_PARTITIONS];
	int		   *buckets;
	Counter    *counters;
} CounterTable;

CounterTable *ordflow_counters = NULL;

static const CounterSource *sources[COUNTER_KINDS];

/* What this backend has published as loading. */
static Counter *loading = NULL;

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

/* ---- shared memory ---- */

static uint32
nbuckets(void)
{
	return pg_nextpower2_32(Max(ordflow_stock_counters, COUNTER_PARTITIONS));
}

static Size
table_size(void)
{
	Size		size = MAXALIGN(sizeof(CounterTable));

	size = add_size(size, MAXALIGN(mul_size(sizeof(int), nbuckets())));
	return add_size(size, mul_size(sizeof(Counter), ordflow_stock_counters));
}

static void
request_memory(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(table_size()));
	RequestAddinShmemSpace(MAXALIGN(ordflow_holders_size()));
	RequestNamedLWLockTranche(TRANCHE, COUNTER_PARTITIONS + 1);
}

static void
counter_clear(Counter *counter)
{
	memset(counter, 0, sizeof(Counter));
	SpinLockInit(&counter->mutex);
	pg_atomic_init_u32(&counter->pins, 0);
	pg_atomic_init_u64(&counter->value, 0);
	pg_atomic_init_u64(&counter->in_flight, 0);
	pg_atomic_init_u64(&counter->version, 0);
}

static void
make_table(CounterTable *table)
{
	LWLockPadded *locks = GetNamedLWLockTranche(TRANCHE);

	memset(table, 0, sizeof(CounterTable));
	table->n = ordflow_stock_counters;
	table->mask = nbuckets() - 1;
	pg_atomic_init_u64(&table->loads, 0);
	pg_atomic_init_u64(&table->changes, 0);
	table->buckets = (int *) ((char *) table + MAXALIGN(sizeof(CounterTable)));
	table->counters = (Counter *) ((char *) table->buckets +
								   MAXALIGN(sizeof(int) * (Size) nbuckets()));
	table->allocation = &locks[COUNTER_PARTITIONS].lock;
	for (int i = 0; i < COUNTER_PARTITIONS; i++)
	{
		table->partitions[i].lock = &locks[i].lock;
		ConditionVariableInit(&table->partitions[i].loaded);
	}
	for (uint32 i = 0; i <= table->mask; i++)
		table->buckets[i] = NONE;
	for (int i = 0; i < table->n; i++)
	{
		counter_clear(&table->counters[i]);
		table->counters[i].next = i + 1 < table->n ? i + 1 : NONE;
	}
}

static void
startup(void)
{
	bool		found;
	void	   *holders;

	if (previous_shmem_startup)
		previous_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	ordflow_counters = ShmemInitStruct("ordflow counters", table_size(), &found);
	if (!found)
		make_table(ordflow_counters);
	holders = ShmemInitStruct("ordflow holders", ordflow_holders_size(), &found);
	ordflow_holders_attach(holders, found);
	LWLockRelease(AddinShmemInitLock);
}

void
ordflow_counter_table_init(void)
{
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = request_memory;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = startup;
}

void
ordflow_counter_register(CounterKind kind, const CounterSource *source)
{
	sources[kind] = source;
}

const CounterSource *
ordflow_counter_source(CounterKind kind)
{
	return sources[kind];
}

CounterKey
ordflow_counter_key(CounterKind kind, int64 id)
{
	CounterKey	key;

	memset(&key, 0, sizeof(key));
	key.database = MyDatabaseId;
	key.relation = ordflow_relid(sources[kind]->relname);
	key.id = id;
	return key;
}

/* ---- buckets ---- */

static uint32
bucket_of(const CounterKey *key)
{
	return hash_bytes((const unsigned char *) key, sizeof(CounterKey)) & ordflow_counters->mask;
}

static Partition *
partition_of(const CounterKey *key)
{
	return &ordflow_counters->partitions[bucket_of(key) % COUNTER_PARTITIONS];
}

static bool
same_key(const CounterKey *a, const CounterKey *b)
{
	return a->id == b->id && a->relation == b->relation && a->database == b->database;
}

/* The partition is locked. */
static Counter *
find(const CounterKey *key)
{
	int			i = ordflow_counters->buckets[bucket_of(key)];

	while (i != NONE && !same_key(&ordflow_counters->counters[i].key, key))
		i = ordflow_counters->counters[i].next;
	return i == NONE ? NULL : &ordflow_counters->counters[i];
}

/* The partition is locked exclusively, here and in unlink_counter(). */
static void
link_counter(Counter *counter)
{
	int		   *head = &ordflow_counters->buckets[bucket_of(&counter->key)];

	counter->next = *head;
	*head = counter - ordflow_counters->counters;
}

static void
unlink_counter(Counter *counter)
{
	int		   *next = &ordflow_counters->buckets[bucket_of(&counter->key)];

	while (*next != counter - ordflow_counters->counters)
		next = &ordflow_counters->counters[*next].next;
	*next = counter->next;
	counter->phase = COUNTER_FREE;
}

static void
release_counter(Counter *counter)
{
	LWLockAcquire(ordflow_counters->allocation, LW_EXCLUSIVE);
	counter->next = ordflow_counters->free;
	ordflow_counters->free = counter - ordflow_counters->counters;
	LWLockRelease(ordflow_counters->allocation);
}

/* ---- allocation ---- */

/*
 * Unlinks the counter if it can be spared.  Its key was read without a lock: only a counter
 * that stands in the bucket of that key is what it seems.
 */
static bool
evict(Counter *counter, CounterKey key, bool even_used)
{
	Partition  *partition = partition_of(&key);
	bool		evicted = false;

	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	if (find(&key) == counter && counter->phase == COUNTER_READY &&
		pg_atomic_read_u32(&counter->pins) == 0)
	{
		evicted = even_used || !counter->used;
		counter->used = false;
		if (evicted)
			unlink_counter(counter);
	}
	LWLockRelease(partition->lock);
	return evicted;
}

/* A counter that is in no bucket and no list, ours. */
static Counter *
allocate(void)
{
	CounterTable *table = ordflow_counters;
	Counter    *counter = NULL;

	LWLockAcquire(table->allocation, LW_EXCLUSIVE);
	if (table->free != NONE)
	{
		counter = &table->counters[table->free];
		table->free = counter->next;
	}
	/* the first time around clears the marks of use */
	for (int i = 0; i < 2 * table->n && counter == NULL; i++)
	{
		Counter    *candidate = &table->counters[table->hand];

		table->hand = (table->hand + 1) % table->n;
		if (evict(candidate, candidate->key, i >= table->n))
			counter = candidate;
	}
	LWLockRelease(table->allocation);
	if (counter == NULL)
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("all %d counters are in use by open transactions", table->n),
				errhint("Raise ordflow.stock_counters, or change fewer stock rows and coupons"
						" in a transaction."));
	counter_clear(counter);
	return counter;
}

/* ---- loading ---- */

/*
 * Publishes a counter as loading; NULL when somebody else has come first.
 */
static Counter *
publish_loading(const CounterKey *key)
{
	Partition  *partition = partition_of(key);
	Counter    *counter = allocate();
	bool		linked;

	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	linked = find(key) == NULL;
	if (linked)
	{
		counter->key = *key;
		counter->phase = COUNTER_LOADING;
		counter->expiry = DT_NOBEGIN;
		pg_atomic_write_u32(&counter->pins, 1);
		link_counter(counter);
		loading = counter;
	}
	LWLockRelease(partition->lock);
	if (!linked)
		release_counter(counter);
	return linked ? counter : NULL;
}

void
ordflow_counter_withdraw(void)
{
	Counter    *counter = loading;
	Partition  *partition;

	if (counter == NULL)
		return;
	partition = partition_of(&counter->key);
	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	unlink_counter(counter);
	pg_atomic_write_u32(&counter->pins, 0);
	LWLockRelease(partition->lock);
	loading = NULL;
	release_counter(counter);
	ConditionVariableBroadcast(&partition->loaded);
}

static void
publish_ready(Counter *counter, int64 value)
{
	Partition  *partition = partition_of(&counter->key);

	LWLockAcquire(partition->lock, LW_EXCLUSIVE);
	pg_atomic_write_u64(&counter->value, (uint64) value);
	/* never one that it has had before it was evicted */
	pg_atomic_write_u64(&counter->version,
						pg_atomic_add_fetch_u64(&ordflow_counters->loads, 1) << 32);
	counter->phase = COUNTER_READY;
	counter->used = true;
	loading = NULL;
	LWLockRelease(partition->lock);
	ConditionVariableBroadcast(&partition->loaded);
}

/*
 * The snapshot is the latest one, whatever the isolation level: what is committed is no longer
 * accounted for by any transaction's callback.  NULL when there is no such row.
 */
static Counter *
load(Counter *counter, CounterKind kind)
{
	Snapshot	snapshot;
	int64		value = 0;
	bool		exists;

	snapshot = ordflow_register_latest();
	exists = sources[kind]->load(counter->key.id, snapshot, &value);
	UnregisterSnapshot(snapshot);
	if (!exists)
	{
		ordflow_counter_withdraw();
		return NULL;
	}
	publish_ready(counter, value);
	return counter;
}

/* ---- pins ---- */

void
ordflow_counter_repin(Counter *counter)
{
	pg_atomic_fetch_add_u32(&counter->pins, 1);
}

void
ordflow_counter_unpin(Counter *counter)
{
	pg_atomic_fetch_sub_u32(&counter->pins, 1);
}

/* The counter if it is ready, pinned.  Otherwise *found tells whether it is being loaded. */
static Counter *
pin_ready(const CounterKey *key, bool *found)
{
	Partition  *partition = partition_of(key);
	Counter    *counter;

	LWLockAcquire(partition->lock, LW_SHARED);
	counter = find(key);
	*found = counter != NULL;
	if (counter != NULL && counter->phase == COUNTER_READY)
	{
		pg_atomic_fetch_add_u32(&counter->pins, 1);
		pg_atomic_fetch_add_u64(&counter->version, 1);
		if (!counter->used)
			counter->used = true;
	}
	else
		counter = NULL;
	LWLockRelease(partition->lock);
	return counter;
}

static Counter *
wait_until_loaded(const CounterKey *key, bool *found)
{
	Partition  *partition = partition_of(key);
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOAD_WAIT_MS);
	Counter    *counter;

	ConditionVariablePrepareToSleep(&partition->loaded);
	while ((counter = pin_ready(key, found)) == NULL && *found)
	{
		long		rest = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);

		if (rest <= 0)
			ereport(ERROR,
					errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					errmsg("counter %lld is still being loaded by another transaction",
						   (long long) key->id),
					errhint("Repeat the call. Does a transaction lock tables of ordflow?"));
		ConditionVariableTimedSleep(&partition->loaded, rest, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return counter;
}

Counter *
ordflow_counter_acquire(CounterKind kind, int64 id)
{
	CounterKey	key = ordflow_counter_key(kind, id);

	for (;;)
	{
		bool		found;
		Counter    *counter = pin_ready(&key, &found);

		if (counter == NULL && found)
			counter = wait_until_loaded(&key, &found);
		if (counter != NULL)
			return counter;
		CHECK_FOR_INTERRUPTS();
		counter = publish_loading(&key);
		if (counter != NULL)
			return load(counter, kind);
	}
}

/* ---- dropping, and looking ---- */

static void
drop(Counter *counter, CounterKey key)
{
	if (evict(counter, key, true))
		release_counter(counter);
}

void
ordflow_counter_drop(CounterKey key)
{
	Partition  *partition = partition_of(&key);
	Counter    *counter;

	LWLockAcquire(partition->lock, LW_SHARED);
	counter = find(&key);
	LWLockRelease(partition->lock);
	if (counter != NULL)
		drop(counter, key);
}

void
ordflow_counter_drop_database(Oid database)
{
	for (int i = 0; i < ordflow_counters->n; i++)
		if (ordflow_counters->counters[i].key.database == database &&
			ordflow_counters->counters[i].phase != COUNTER_FREE)
			drop(&ordflow_counters->counters[i], ordflow_counters->counters[i].key);
}

pg_atomic_uint64 *
ordflow_counter_changes(void)
{
	return &ordflow_counters->changes;
}

int
ordflow_counter_count(void)
{
	return ordflow_counters == NULL ? 0 : ordflow_counters->n;
}

/* The partition is locked; the counter may be NULL. */
static bool
copy_ready(Counter *counter, CounterCopy *copy)
{
	if (counter == NULL || counter->phase != COUNTER_READY)
		return false;
	copy->key = counter->key;
	copy->version = pg_atomic_read_u64(&counter->version);
	copy->pins = pg_atomic_read_u32(&counter->pins);
	copy->value = (int64) pg_atomic_read_u64(&counter->value);
	copy->in_flight = (int64) pg_atomic_read_u64(&counter->in_flight);
	return true;
}

bool
ordflow_counter_copy(CounterKey key, CounterCopy *copy)
{
	Partition  *partition = partition_of(&key);
	bool		ready;

	LWLockAcquire(partition->lock, LW_SHARED);
	ready = copy_ready(find(&key), copy);
	LWLockRelease(partition->lock);
	return ready;
}

/* A free one still has the key that it had, which may be another's now. */
bool
ordflow_counter_copy_at(int i, Oid database, CounterCopy *copy)
{
	Counter    *counter = &ordflow_counters->counters[i];
	CounterKey	key = counter->key;
	Partition  *partition = partition_of(&key);
	bool		ready;

	if (key.database != database)
		return false;
	LWLockAcquire(partition->lock, LW_SHARED);
	ready = find(&key) == counter && copy_ready(counter, copy);
	LWLockRelease(partition->lock);
	return ready;
}

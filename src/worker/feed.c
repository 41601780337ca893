/*
 * feed.c
 *	  What commits say of single deadlines, for companions that tell another system of them.
 *
 * The notes of a transaction are collected in its backend, and put into a ring in shared memory
 * when it has committed and its rows can be seen.  The ring is everybody's: a reader takes the
 * notes of its database, and learns when it was overtaken, so that it can look at all rows
 * again.  Nothing is collected while nobody reads in the database: a reader that has just
 * begun has to wait until the transactions have ended that ran before, and look again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "worker/internal.h"

#define SHMEM_NAME "ordflow feed"

/* 2 MB */
#define RING 32768

#define READERS_MAX COMPANIONS_MAX

/* More of one transaction are not told one by one. */
#define NOTES_MAX 10000

typedef struct RingNote
{
	Oid			database;
	DeadlineNote note;
} RingNote;

typedef struct Reader
{
	Oid			database;		/* invalid: free */
	Latch	   *latch;
} Reader;

typedef struct Feed
{
	LWLock	   *lock;			/* guards all but nreaders */
	pg_atomic_uint32 nreaders;
	uint64		head;			/* notes so far */
	Reader		readers[READERS_MAX];
	RingNote	ring[RING];
} Feed;

/* A note of this transaction. */
typedef struct OwnNote
{
	SubTransactionId subid;
	DeadlineNote note;
} OwnNote;

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

static Feed *feed = NULL;		/* NULL: no worker runs on this server */

static OwnNote *own = NULL;
static int	nown = 0;
static int	own_size = 0;
static bool own_overflow = false;

/* In a reader. */
static Reader *reader = NULL;
static uint64 cursor;

/* ---- memory ---- */

static void
request_shmem(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	RequestAddinShmemSpace(MAXALIGN(sizeof(Feed)));
	RequestNamedLWLockTranche(SHMEM_NAME, 1);
}

static void
start_shmem(void)
{
	bool		found;

	if (previous_shmem_startup)
		previous_shmem_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	feed = ShmemInitStruct(SHMEM_NAME, sizeof(Feed), &found);
	if (!found)
	{
		memset(feed, 0, sizeof(Feed));
		feed->lock = &GetNamedLWLockTranche(SHMEM_NAME)->lock;
		pg_atomic_init_u32(&feed->nreaders, 0);
	}
	LWLockRelease(AddinShmemInitLock);
}

void
ordflow_feed_init(void)
{
	if (!ordflow_preloaded || !ordflow_workers)
		return;
	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = start_shmem;
}

/* ---- collecting ---- */

bool
ordflow_worker_is_heard(void)
{
	if (feed == NULL || pg_atomic_read_u32(&feed->nreaders) == 0)
		return false;
	for (int i = 0; i < READERS_MAX; i++)
		if (feed->readers[i].database == MyDatabaseId)
			return true;
	return false;
}

static void
make_room(void)
{
	if (own == NULL)
	{
		own_size = 64;
		own = MemoryContextAlloc(TopMemoryContext, sizeof(OwnNote) * own_size);
	}
	else if (nown == own_size)
	{
		own = repalloc(own, sizeof(OwnNote) * own_size * 2);
		own_size *= 2;
	}
}

void
ordflow_worker_deadline(Oid relid, const char *key, TimestampTz due)
{
	OwnNote    *note;

	if (!ordflow_worker_is_heard() || strlen(key) >= DEADLINE_KEY_MAX)
		return;
	if (nown == NOTES_MAX)
	{
		own_overflow = true;
		return;
	}
	make_room();
	note = &own[nown++];
	note->subid = GetCurrentSubTransactionId();
	note->note.relid = relid;
	note->note.due = due;
	strlcpy(note->note.key, key, DEADLINE_KEY_MAX);
}

void
ordflow_worker_deadline_of_id(Oid relid, int64 id, TimestampTz due)
{
	char		key[DEADLINE_KEY_MAX];

	if (!ordflow_worker_is_heard())
		return;
	snprintf(key, sizeof(key), INT64_FORMAT, id);
	ordflow_worker_deadline(relid, key, due);
}

void
ordflow_feed_all(void)
{
	own_overflow = ordflow_worker_is_heard();
}

/* Subtransactions within the one that is rolled back have higher numbers. */
void
ordflow_feed_rolled_back(SubTransactionId subid)
{
	int			kept = 0;

	for (int i = 0; i < nown; i++)
		if (own[i].subid < subid)
			own[kept++] = own[i];
	nown = kept;
}

void
ordflow_feed_forget(void)
{
	nown = 0;
	own_overflow = false;
	if (own_size > 1024)
	{
		pfree(own);
		own = NULL;
		own_size = 0;
	}
}

/* ---- publishing: in the callback at commit, so nothing is allocated or raised ---- */

/* The lock is held. */
static void
put(const DeadlineNote *note)
{
	RingNote   *place = &feed->ring[feed->head++ % RING];

	place->database = MyDatabaseId;
	place->note = *note;
}

void
ordflow_feed_publish(void)
{
	static const DeadlineNote many = {.relid = InvalidOid, .due = 0, .key = ""};

	if (nown == 0 && !own_overflow)
		return;
	LWLockAcquire(feed->lock, LW_EXCLUSIVE);
	for (int i = 0; i < nown; i++)
		put(&own[i].note);
	if (own_overflow)
		put(&many);
	for (int i = 0; i < READERS_MAX; i++)
		if (feed->readers[i].database == MyDatabaseId)
			SetLatch(feed->readers[i].latch);
	LWLockRelease(feed->lock);
}

/* ---- reading ---- */

static void
close_feed(int code, Datum arg)
{
	LWLockAcquire(feed->lock, LW_EXCLUSIVE);
	reader->database = InvalidOid;
	reader->latch = NULL;
	LWLockRelease(feed->lock);
	pg_atomic_fetch_sub_u32(&feed->nreaders, 1);
}

void
ordflow_feed_open(void)
{
	LWLockAcquire(feed->lock, LW_EXCLUSIVE);
	for (int i = 0; i < READERS_MAX && reader == NULL; i++)
		if (!OidIsValid(feed->readers[i].database))
			reader = &feed->readers[i];
	if (reader != NULL)
	{
		reader->latch = MyLatch;
		reader->database = MyDatabaseId;
		cursor = feed->head;
	}
	LWLockRelease(feed->lock);
	if (reader == NULL)
		elog(ERROR, "out of places for readers of deadlines");
	pg_atomic_fetch_add_u32(&feed->nreaders, 1);
	before_shmem_exit(close_feed, (Datum) 0);
}

int
ordflow_feed_read(DeadlineNote *notes, int max, bool *overtaken)
{
	int			n = 0;

	*overtaken = false;
	LWLockAcquire(feed->lock, LW_SHARED);
	if (feed->head - cursor > RING)
	{
		*overtaken = true;
		cursor = feed->head;
	}
	for (; cursor < feed->head && n < max; cursor++)
	{
		const RingNote *place = &feed->ring[cursor % RING];

		if (place->database == MyDatabaseId)
			notes[n++] = place->note;
	}
	LWLockRelease(feed->lock);
	return n;
}

/*
 * lock.c
 *	  Locks by name for applications, which end with the session and nothing else.
 *
 * Not the server's: session locks of its one kind go at a rollback of the transaction that took
 * them, those of the other with pg_advisory_unlock_all(), which is the application's.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "task/internal.h"

PG_FUNCTION_INFO_V1(ordflow_try_lock);
PG_FUNCTION_INFO_V1(ordflow_unlock);

typedef struct LockName
{
	Oid			database;
	char		name[ORDFLOW_TEXT_MAX + 1];
} LockName;

typedef struct NamedLock
{
	LockName	key;
	int			holder;			/* ordflow_proc_number */
} NamedLock;

static HTAB *locks = NULL;
static int	nheld = 0;			/* by this process */

Size
ordflow_locks_size(void)
{
	return hash_estimate_size(TASK_LOCKS_MAX, sizeof(NamedLock));
}

void
ordflow_locks_attach(void)
{
	HASHCTL		control = {.keysize = sizeof(LockName), .entrysize = sizeof(NamedLock)};

	locks = ShmemInitHash("ordflow locks", TASK_LOCKS_MAX, TASK_LOCKS_MAX, &control,
						  HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

static LockName
name_of(FunctionCallInfo fcinfo)
{
	LockName	key;

	memset(&key, 0, sizeof(key));
	key.database = MyDatabaseId;
	strlcpy(key.name, ordflow_arg_text(fcinfo, 0, "name"), sizeof(key.name));
	return key;
}

Datum
ordflow_try_lock(PG_FUNCTION_ARGS)
{
	NamedLock  *lock;
	LockName	key;
	bool		found;
	bool		ours = false;

	ordflow_require_preload();
	PreventCommandDuringRecovery("ordflow.try_lock()");
	key = name_of(fcinfo);
	ordflow_task_attend();
	ordflow_task_lock();
	lock = hash_search(locks, &key, HASH_ENTER_NULL, &found);
	if (lock != NULL && !found)
	{
		lock->holder = ordflow_proc_number;
		nheld++;
	}
	if (lock != NULL)
		ours = lock->holder == ordflow_proc_number;
	ordflow_task_unlock();
	if (lock == NULL)
		ereport(ERROR,
				errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				errmsg("all %d locks are taken", TASK_LOCKS_MAX));
	PG_RETURN_BOOL(ours);
}

Datum
ordflow_unlock(PG_FUNCTION_ARGS)
{
	const NamedLock *lock;
	LockName	key;
	bool		ours;

	ordflow_require_preload();
	PreventCommandDuringRecovery("ordflow.unlock()");
	key = name_of(fcinfo);
	ordflow_task_lock();
	lock = hash_search(locks, &key, HASH_FIND, NULL);
	ours = lock != NULL && lock->holder == ordflow_proc_number;
	if (ours)
	{
		hash_search(locks, &key, HASH_REMOVE, NULL);
		nheld--;
	}
	ordflow_task_unlock();
	PG_RETURN_BOOL(ours);
}

/* The walk is short of memory to take: it is over a table of fixed size. */
void
ordflow_locks_release_all(void)
{
	HASH_SEQ_STATUS walk;
	const NamedLock *lock;

	if (nheld == 0)
		return;
	ordflow_task_lock();
	hash_seq_init(&walk, locks);
	while ((lock = hash_seq_search(&walk)) != NULL)
		if (lock->holder == ordflow_proc_number)
			hash_search(locks, &lock->key, HASH_REMOVE, NULL);
	ordflow_task_unlock();
	nheld = 0;
}

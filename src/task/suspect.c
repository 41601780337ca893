/*
 * suspect.c
 *	  Which tasks ran when the server crashed, and who runs alone.
 *
 * A handler may crash its process, and with it the server's memory: so what each worker runs is
 * kept in a file that is mapped, the only thing beside rows that outlives a crash.  When memory is
 * made anew every task that ran becomes a suspect, and a suspect runs alone: if the server
 * crashes again it was the one.  The file is never flushed; after a power loss a task runs alone
 * once more at worst.
 *
 * Alone: whoever wants to be says so, and then looks whether anybody runs a task; whoever is to
 * run one says that, and then looks whether anybody wants to be alone.  With a barrier between
 * the two at least one of them sees the other.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/wait_event.h"

#include "task/internal.h"
#include "worker/worker.h"

#define SUSPECTS_FILE "ordflow.tasks"
#define SUSPECTS_MAGIC 0x4F465431

#define ALONE_WAIT (10 * USECS_PER_SEC)
#define ALONE_STEP_MS 10L

typedef struct Running
{
	Oid			database;
	bool		alone;
	int64		task_id;		/* 0: none */
} Running;

typedef struct Suspect
{
	Oid			database;
	int32		crashes;		/* while it ran alone */
	int64		task_id;
} Suspect;

/* What the file holds. */
typedef struct SuspectsFile
{
	uint32		magic;
	uint32		size;
	int64		token;			/* the last one that was given */
	pg_atomic_uint32 alone;		/* the place of whoever wants to be, and 1; 0: nobody does */
	int32		nsuspects;
	Running		running[COMPANIONS_MAX];
	Suspect		suspects[TASK_SUSPECTS_MAX];
} SuspectsFile;

static SuspectsFile *file = NULL;
static bool registered = false;

/* ---- the file ---- */

/* NULL where it cannot be had: then a task that crashes the server is never found out. */
static SuspectsFile *
map_file(void)
{
	int			fd = OpenTransientFile(SUSPECTS_FILE, O_RDWR | O_CREAT | PG_BINARY);
	void	   *memory = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, sizeof(SuspectsFile)) == 0)
		memory = mmap(NULL, sizeof(SuspectsFile), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		ereport(LOG,
				errcode_for_file_access(),
				errmsg("ordflow could not map file \"%s\": %m", SUSPECTS_FILE),
				errdetail("Tasks that crash the server are tried again and again until it can."));
	if (fd >= 0)
		CloseTransientFile(fd);
	return memory == MAP_FAILED ? NULL : memory;
}

static Suspect *
find_suspect(Oid database, int64 task_id)
{
	for (int i = 0; i < file->nsuspects; i++)
		if (file->suspects[i].task_id == task_id && file->suspects[i].database == database)
			return &file->suspects[i];
	return NULL;
}

/* Where there is no room the one that was added first is forgotten. */
static Suspect *
add_suspect(Oid database, int64 task_id)
{
	Suspect    *suspects = file->suspects;

	if (file->nsuspects == TASK_SUSPECTS_MAX)
		memmove(suspects, suspects + 1, sizeof(Suspect) * --file->nsuspects);
	suspects[file->nsuspects] = (Suspect) {.database = database, .task_id = task_id};
	return &suspects[file->nsuspects++];
}

static void
accuse(Running *running)
{
	Suspect    *suspect;

	if (running->task_id == 0)
		return;
	suspect = find_suspect(running->database, running->task_id);
	if (suspect == NULL)
		suspect = add_suspect(running->database, running->task_id);
	suspect->crashes += running->alone;
	running->task_id = 0;
}

void
ordflow_suspects_start(void)
{
	if (file == NULL)
		file = map_file();
	if (file == NULL)
		return;
	if (file->magic != SUSPECTS_MAGIC || file->size != sizeof(SuspectsFile) ||
		file->nsuspects < 0 || file->nsuspects > TASK_SUSPECTS_MAX)
	{
		memset(file, 0, sizeof(SuspectsFile));
		file->magic = SUSPECTS_MAGIC;
		file->size = sizeof(SuspectsFile);
	}
	pg_atomic_init_u32(&file->alone, 0);
	for (int i = 0; i < COMPANIONS_MAX; i++)
		accuse(&file->running[i]);
}

int64 *
ordflow_suspects_token(void)
{
	return file == NULL ? NULL : &file->token;
}

/* ---- in a worker ---- */

static Running *
mine(void)
{
	return &file->running[ordflow_companion_place()];
}

static uint32
my_mark(void)
{
	return ordflow_companion_place() + 1;
}

/* An orderly end, whatever the reason: the task did not crash anything. */
static void
forget_at_exit(int code, Datum arg)
{
	mine()->task_id = 0;
	ordflow_suspect_alone_end();
}

static void
attend(void)
{
	if (!registered)
		on_shmem_exit(forget_at_exit, (Datum) 0);
	registered = true;
}

bool
ordflow_suspect_note(int64 task_id, bool alone)
{
	uint32		who;

	if (file == NULL)
		return true;
	attend();
	mine()->database = MyDatabaseId;
	mine()->alone = alone;
	mine()->task_id = task_id;
	if (task_id == 0)
		return true;
	pg_memory_barrier();
	who = pg_atomic_read_u32(&file->alone);
	if (who == 0 || who == my_mark())
		return true;
	mine()->task_id = 0;
	return false;
}

int
ordflow_suspect_crashes(int64 task_id)
{
	const Suspect *suspect;
	int			crashes;

	if (file == NULL || file->nsuspects == 0)
		return -1;
	ordflow_task_lock();
	suspect = find_suspect(MyDatabaseId, task_id);
	crashes = suspect == NULL ? -1 : suspect->crashes;
	ordflow_task_unlock();
	return crashes;
}

void
ordflow_suspect_cleared(int64 task_id)
{
	Suspect    *suspect;

	ordflow_task_lock();
	suspect = find_suspect(MyDatabaseId, task_id);
	if (suspect != NULL)
		*suspect = file->suspects[--file->nsuspects];
	ordflow_task_unlock();
}

/* ---- alone ---- */

static bool
others_run(void)
{
	for (int i = 0; i < COMPANIONS_MAX; i++)
		if (file->running[i].task_id != 0 && &file->running[i] != mine())
			return true;
	return false;
}

bool
ordflow_suspect_others_wait(void)
{
	uint32		who = file == NULL ? 0 : pg_atomic_read_u32(&file->alone);

	return who != 0 && who != my_mark();
}

AloneResult
ordflow_suspect_alone_begin(void)
{
	TimestampTz until = GetCurrentTimestamp() + ALONE_WAIT;
	uint32		nobody = 0;

	attend();
	if (!pg_atomic_compare_exchange_u32(&file->alone, &nobody, my_mark()))
		return ALONE_ANOTHER;
	while (others_run())
	{
		if (ordflow_worker_leaving() || GetCurrentTimestamp() >= until)
		{
			ordflow_suspect_alone_end();
			return ordflow_worker_leaving() ? ALONE_ANOTHER : ALONE_REFUSED;
		}
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ALONE_STEP_MS,
				  PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return ALONE_GRANTED;
}

void
ordflow_suspect_alone_end(void)
{
	if (file != NULL && pg_atomic_read_u32(&file->alone) == my_mark())
		pg_atomic_write_u32(&file->alone, 0);
}

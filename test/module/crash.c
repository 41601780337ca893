/*
 * crash.c
 *	  Handlers of tasks that test/t/042_task_suspects.pl and 045_task_lanes.pl load: one takes its
 *	  process down, and the server with it; one counts how many run at once.
 */
#include "postgres.h"

#include <sys/mman.h>
#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(test_crash);
PG_FUNCTION_INFO_V1(test_count);
PG_FUNCTION_INFO_V1(test_counted);

Datum
test_crash(PG_FUNCTION_ARGS)
{
	abort();
}

typedef struct Count
{
	pg_atomic_uint32 now;
	pg_atomic_uint32 most;
	pg_atomic_uint64 all;
} Count;

/* A file that all processes map; the tests' server was started with nothing in it. */
static Count *
count(void)
{
	static Count *mapped = NULL;
	FILE	   *file;

	if (mapped != NULL)
		return mapped;
	file = fopen("test_count", "a+");
	if (file == NULL || ftruncate(fileno(file), sizeof(Count)) != 0)
		elog(ERROR, "there is no file to count in: %m");
	mapped = mmap(NULL, sizeof(Count), PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
	fclose(file);
	return mapped;
}

/* How many of us run now, the highest ever: for a moment, so that others come in. */
Datum
test_count(PG_FUNCTION_ARGS)
{
	uint32		now = pg_atomic_add_fetch_u32(&count()->now, 1);
	uint32		most = pg_atomic_read_u32(&count()->most);

	while (now > most && !pg_atomic_compare_exchange_u32(&count()->most, &most, now))
		;
	pg_atomic_fetch_add_u64(&count()->all, 1);
	pg_usleep(1000);
	pg_atomic_sub_fetch_u32(&count()->now, 1);
	PG_RETURN_NULL();
}

Datum
test_counted(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%u at once, " UINT64_FORMAT " in all",
											  pg_atomic_read_u32(&count()->most),
											  pg_atomic_read_u64(&count()->all))));
}

/*
 * clock.c
 *	  A wall clock that a test sets.  Preloaded into a server, it adds to the machine's clock the
 *	  seconds that stand, as a number of 8 bytes, in the file named by TEST_CLOCK.
 *
 * libfaketime does the same; but it takes no notice of what is forked by a signal handler out
 * of select(), as PostgreSQL 15 forks background workers: those keep the true time for ever.
 * The steady clock that sleeps go by is left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

typedef int (*ClockGettime) (clockid_t, struct timespec *);

static ClockGettime real_clock_gettime;
static const volatile int64_t *offset;

__attribute__((constructor))
static void
init(void)
{
	const char *path = getenv("TEST_CLOCK");
	int			fd = path ? open(path, O_RDONLY) : -1;
	void	   *mapped = MAP_FAILED;

	real_clock_gettime = (ClockGettime) dlsym(RTLD_NEXT, "clock_gettime");
	if (fd >= 0)
		mapped = mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, fd, 0);
	if (mapped != MAP_FAILED)
		offset = mapped;
}

int
clock_gettime(clockid_t clock, struct timespec *time)
{
	int			result;

	if (!real_clock_gettime)
		init();
	result = real_clock_gettime(clock, time);
	if (result == 0 && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		time->tv_sec += *offset;
	return result;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return -1;
	tv->tv_sec = now.tv_sec;
	tv->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *result)
{
	struct timespec now = {0};

	clock_gettime(CLOCK_REALTIME, &now);
	if (result)
		*result = now.tv_sec;
	return now.tv_sec;
}

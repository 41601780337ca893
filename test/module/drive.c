/*
 * drive.c
 *	  Drives a module without a server: drive MODULE NAME=VALUE ... -- CALL ...
 *
 * Calls: connect, idle, clear, pause MS, put N FIRST_MS SPAN_MS (items 0 to N - 1, due at equal
 * distances), drop N, take MS (what comes in that time).  A line is printed for each.
 */
#include "timer/driver.h"

#include <dlfcn.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ITEMS_MAX 100000
#define OPTIONS_MAX 32
#define POLL_MAX 100

static ModuleOption options[OPTIONS_MAX];
static ModuleConfig config = {.server = "test",.options = options};
static const TimerDriver *driver;
static void *state;
static ModuleError error;
static int64 due[ITEMS_MAX];
static int	seen[ITEMS_MAX];

static int64
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
report(const char *call, bool done)
{
	if (done)
		printf("%s: ok\n", call);
	else
		printf("%s: %s%s | %s\n", call, error.misconfigured ? "misconfigured: " : "",
			   error.message, error.hint);
	fflush(stdout);
}

static bool
put(int n, int first, int span, bool drop)
{
	Deadline   *deadlines = calloc(n, sizeof(Deadline));
	char		(*names)[16] = calloc(n, sizeof(*names));

	for (int i = 0; i < n; i++)
	{
		sprintf(names[i], "%d", i);
		deadlines[i].item = names[i];
		deadlines[i].delay_ms = drop ? -1 : first + (int64) span * i / n;
		if (!drop)
		{
			due[i] = clock_ms() + deadlines[i].delay_ms;
			seen[i] = 0;
		}
	}
	return driver->put(state, deadlines, n, &error);
}

/* Prints how many items came, how many of them early and twice, and the lateness of the latest. */
static bool
take(int ms)
{
	int64		until = clock_ms() + ms;
	int			events = 0,
				early = 0,
				twice = 0,
				n = 0;
	int64		latest = 0;

	while (n >= 0 && clock_ms() < until)
	{
		struct pollfd readable = {.fd = driver->socket(state),.events = POLLIN};
		const char *items[POLL_MAX];
		int64		next = driver->next ? driver->next(state) : -1;
		int64		rest = Max(until - clock_ms(), 1);

		(void) poll(&readable, 1, (int) (next >= 0 ? Min(next, rest) : rest));
		while ((n = driver->poll(state, items, POLL_MAX, &error)) > 0)
		{
			for (int i = 0; i < n; i++, events++)
			{
				int			item = atoi(items[i]);

				early += clock_ms() < due[item];
				twice += seen[item]++ > 0;
				latest = Max(latest, clock_ms() - due[item]);
			}
			if (!driver->done(state, &error))
				return false;
		}
	}
	printf("events %d early %d twice %d latest %d\n", events, early, twice, (int) latest);
	return n >= 0;
}

static int
run(char **call)
{
	const char *name = call[0];

	if (strcmp(name, "connect") == 0)
		report(name, driver->connect(state, &error));
	else if (strcmp(name, "idle") == 0)
		report(name, driver->idle(state, &error));
	else if (strcmp(name, "clear") == 0)
		report(name, driver->clear(state, &error));
	else if (strcmp(name, "put") == 0)
		return report(name, put(atoi(call[1]), atoi(call[2]), atoi(call[3]), false)), 4;
	else if (strcmp(name, "drop") == 0)
		return report(name, put(atoi(call[1]), 0, 0, true)), 2;
	else if (strcmp(name, "take") == 0)
		return report(name, take(atoi(call[1]))), 2;
	else if (strcmp(name, "pause") == 0)
		return (void) poll(NULL, 0, atoi(call[1])), 2;
	return 1;
}

int
main(int argc, char **argv)
{
	void	   *module = dlopen(argv[1], RTLD_NOW);
	OrdflowModuleFunction function;
	int			i = 2;

	if (module == NULL)
		return printf("%s\n", dlerror()), 1;
	function = (OrdflowModuleFunction) dlsym(module, "ordflow_module");
	driver = function()->driver;
	for (; i < argc && strcmp(argv[i], "--") != 0 && config.noptions < OPTIONS_MAX; i++)
	{
		char	   *value = strchr(argv[i], '=');

		*value++ = '\0';
		options[config.noptions++] = (ModuleOption) {argv[i], value};
	}
	state = driver->open(&config, "ordflow:1:2:due:");
	for (i++; i < argc;)
		i += run(argv + i);
	driver->close(state);
	return 0;
}

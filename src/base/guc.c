/*
 * guc.c
 *	  The settings: each default has its only home here.
 */
#include "postgres.h"

#include <limits.h>

#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/base.h"
#include "base/money.h"

char	   *ordflow_currency;
char	   *ordflow_actor_setting;
char	   *ordflow_event_setting;
int			ordflow_pay_within;
int			ordflow_confirm_within;
int			ordflow_max_lines;
bool		ordflow_workers;
int			ordflow_stock_counters;
int			ordflow_fold_interval;
int			ordflow_movement_retention;
char	   *ordflow_timer_drivers;
int			ordflow_timer_grace;
int			ordflow_task_slots_setting;
int			ordflow_task_workers_min;
int			ordflow_task_workers_max;
int			ordflow_task_worker_idle;
int			ordflow_task_retention;
int			ordflow_task_dead_retention;
int			ordflow_wal_budget;

static bool
check_currency(char **newval, void **extra, GucSource source)
{
	if (ordflow_currency_decimals(*newval) >= 0)
		return true;
	GUC_check_errdetail("\"%s\" is not a currency code of ISO 4217.", *newval);
	return false;
}

static bool
check_name(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) <= ORDFLOW_TEXT_MAX)
		return true;
	GUC_check_errdetail("The value may have at most %d bytes.", ORDFLOW_TEXT_MAX);
	return false;
}

/* Copies a word of a list's item; false: it is empty or too long. */
static bool
copy_word(char *word, const char *begin, const char *end)
{
	while (begin < end && scanner_isspace(*begin))
		begin++;
	while (end > begin && scanner_isspace(end[-1]))
		end--;
	if (begin == end || end - begin >= NAMEDATALEN)
		return false;
	memcpy(word, begin, end - begin);
	word[end - begin] = '\0';
	return true;
}

/* "worker", "cron", or "redis(cache)", as it stands between two commas. */
static bool
read_timer_driver(TimerDriverName *name, const char *begin, const char *end)
{
	const char *open = memchr(begin, '(', end - begin);

	while (end > begin && scanner_isspace(end[-1]))
		end--;
	name->server[0] = '\0';
	if (open == NULL)
		return copy_word(name->driver, begin, end) &&
			(strcmp(name->driver, "worker") == 0 || strcmp(name->driver, "cron") == 0);
	return end[-1] == ')' && copy_word(name->driver, begin, open) &&
		copy_word(name->server, open + 1, end - 1) &&
		(strcmp(name->driver, "redis") == 0 || strcmp(name->driver, "amqp") == 0);
}

int
ordflow_timer_driver_names(const char *list, TimerDriverName *names)
{
	int			n = 0;

	for (const char *item = list;; item++)
	{
		const char *end = strchrnul(item, ',');

		if (n == TIMER_DRIVERS_MAX || !read_timer_driver(&names[n++], item, end))
			return -1;
		item = end;
		if (*item == '\0')
			return n;
	}
}

static bool
check_timer_drivers(char **newval, void **extra, GucSource source)
{
	TimerDriverName names[TIMER_DRIVERS_MAX];

	if (ordflow_timer_driver_names(*newval, names) >= 0)
		return true;
	GUC_check_errdetail("It is a list of worker, cron, redis(server), amqp(server), "
						"at most %d of them.", TIMER_DRIVERS_MAX);
	GUC_check_errhint("As in 'worker, redis(cache)', where cache is from "
					  "CREATE SERVER cache FOREIGN DATA WRAPPER ordflow_redis.");
	return false;
}

static void
define_task_settings(void)
{
	DefineCustomIntVariable("ordflow.task_slots",
							"How many runs of tasks, and tasks that are held, are kept in shared memory.",
							"All databases share them, 80 bytes each; a batch is one.",
							&ordflow_task_slots_setting, 65536, 64, 16 * 1024 * 1024,
							ordflow_preloaded ? PGC_POSTMASTER : PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("ordflow.task_workers_min",
							"How many background workers that run tasks a database keeps.",
							"Where it has ever had tasks since the server was started.",
							&ordflow_task_workers_min, 0, 0, 100,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ordflow.task_workers_max",
							"How many background workers that run tasks a database may have.",
							"They count among max_worker_processes.",
							&ordflow_task_workers_max, 4, 0, 100,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("ordflow.task_worker_idle",
							"How long a background worker waits for tasks before it ends.",
							NULL,
							&ordflow_task_worker_idle, 30000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("ordflow.task_retention",
							"How long finished tasks are kept at least.",
							"They go when they are a sixth older, and nobody reads them; -1 keeps them for good.",
							&ordflow_task_retention, SECS_PER_DAY, -1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("ordflow.task_dead_retention",
							"How long dead tasks are kept at least.",
							"-1 keeps them for good.",
							&ordflow_task_dead_retention, 30 * SECS_PER_DAY, -1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

static void
define_sync_settings(void)
{
	DefineCustomIntVariable("ordflow.wal_budget",
							"How much of changes is kept on disk for a target of syncs that does not take them.",
							"Beyond it that target's delivery stops, and is reported.",
							&ordflow_wal_budget, 4096, 16, INT_MAX / 2,
							PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
}

void
ordflow_settings_init(void)
{
	define_task_settings();
	define_sync_settings();
	DefineCustomStringVariable("ordflow.timer_drivers",
							   "What tells that a deadline has come.",
							   "A list of worker, cron, redis(server), amqp(server); for each database.",
							   &ordflow_timer_drivers, "worker", PGC_SUSET, 0,
							   check_timer_drivers, NULL, NULL);
	DefineCustomIntVariable("ordflow.timer_grace",
							"How long after a deadline the worker fires what another driver was to fire.",
							"Where ordflow.timer_drivers does not list worker.",
							&ordflow_timer_grace, 5000, 0, 3600000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable("ordflow.currency",
							   "The currency of an order that names none.",
							   "A code of ISO 4217.",
							   &ordflow_currency, "CNY", PGC_USERSET, 0,
							   check_currency, NULL, NULL);
	DefineCustomStringVariable("ordflow.actor",
							   "Who acts, as written to history, movements and payments.",
							   "Empty means the session user.",
							   &ordflow_actor_setting, "", PGC_USERSET, 0,
							   check_name, NULL, NULL);
	DefineCustomStringVariable("ordflow.event",
							   "The event that a plain UPDATE of a state means.",
							   "Empty means the first transition between the two states.",
							   &ordflow_event_setting, "", PGC_USERSET, 0,
							   check_name, NULL, NULL);
	DefineCustomIntVariable("ordflow.pay_within",
							"How long an order waits for its payment.",
							"An order keeps the deadline it was submitted with.",
							&ordflow_pay_within, 15 * SECS_PER_MINUTE, 1, INT_MAX,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("ordflow.confirm_within",
							"How long after its shipment an order completes by itself.",
							"An order keeps the deadline it was shipped with.",
							&ordflow_confirm_within, 10 * SECS_PER_DAY, 1, INT_MAX,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("ordflow.max_lines",
							"The most lines that an order or a hold may have.",
							NULL,
							&ordflow_max_lines, 5000, 1, 5000,
							PGC_SUSET, 0, NULL, NULL, NULL);
	/* what needs a restart can only be defined while the server starts */
	DefineCustomBoolVariable("ordflow.workers",
							 "Runs background workers.",
							 "Off keeps every worker away, as from a physical copy of a server.",
							 &ordflow_workers, true,
							 ordflow_preloaded ? PGC_POSTMASTER : PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("ordflow.stock_counters",
							"How many counters of stock rows and coupons are kept in shared memory.",
							"All databases share them; what is not used gives way.",
							&ordflow_stock_counters, 65536, 16, 64 * 1024 * 1024,
							ordflow_preloaded ? PGC_POSTMASTER : PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("ordflow.fold_interval",
							"How long stock movements wait until they are added up in the balances.",
							"When 200,000 have come in, they wait no longer.",
							&ordflow_fold_interval, 30000, 10, 3600000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("ordflow.movement_retention",
							"How long stock movements are kept at least.",
							"They go when they are a sixth older, and nobody reads them; -1 keeps them for good.",
							&ordflow_movement_retention, -1, -1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	MarkGUCPrefixReserved("ordflow");
}

Interval *
ordflow_setting_interval(const char *name)
{
	Interval   *interval = palloc0(sizeof(Interval));

	/* settings in seconds are shown without their unit */
	interval->time = pg_strtoint32(GetConfigOption(name, false, false)) * USECS_PER_SEC;
	return interval;
}

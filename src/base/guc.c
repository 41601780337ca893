/*
 * guc.c
 *	  The settings: each default has its only home here.
 */
#include "postgres.h"

#include <limits.h>

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

void
ordflow_settings_init(void)
{
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

/*
 * duty.c
 *	  What the coordinator does for syncs: it keeps the decoder and the deliveries running.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "sync/internal.h"
#include "sync/pull.h"

#define LOOK_AGAIN		(60 * USECS_PER_SEC)
#define LEAVE_AGAIN		(USECS_PER_SEC / 5)

#define DECODER_NAME	"wal"

static Statement read_sync_ids = {
	.sql = "SELECT sync_id FROM ordflow.syncs WHERE mode = 'cdc'"
};

/* What was counted of others is nobody's any more.  Is there any?  Connected. */
static bool
keep_figures(void)
{
	int			n = (int) ordflow_execute(&read_sync_ids, NULL, NULL);
	int64	   *ids = palloc((n + 1) * sizeof(int64));

	for (int i = 0; i < n; i++)
		ids[i] = ordflow_result_int64(i, 1);
	ordflow_sync_keep_figures(ids, n);
	return n > 0;
}

/* Names in the context, of what is to run. */
static int
read_names(MemoryContext context, const char ***names, bool *any)
{
	MemoryContext before = MemoryContextSwitchTo(context);
	List	   *deliveries;
	ListCell   *cell;
	int			n = 0;

	SPI_connect();
	ordflow_sync_follow_names();
	*any = keep_figures();
	MemoryContextSwitchTo(context);
	deliveries = ordflow_sync_deliveries();
	*names = palloc((list_length(deliveries) + 1) * sizeof(char *));
	foreach(cell, deliveries)
		(*names)[n++] = ordflow_delivery_name(lfirst(cell));
	SPI_finish();
	MemoryContextSwitchTo(before);
	return n;
}

static bool
slot_is_there(void)
{
	char	   *name = ordflow_slot_name();
	bool		there = SearchNamedReplicationSlot(name, true) != NULL;

	pfree(name);
	return there;
}

static void
dismiss_all(void)
{
	(void) ordflow_companions_want(COMPANION_DECODER, NULL, 0);
	(void) ordflow_companions_want(COMPANION_DELIVERY, NULL, 0);
	(void) ordflow_companions_want(COMPANION_PULLER, NULL, 0);
}

/* Names in the context, of the pulls that are to run now; when to look for others. */
static int
read_pulls(MemoryContext context, const char ***names, bool *any, TimestampTz *again)
{
	MemoryContext before = CurrentMemoryContext;
	int			n;

	SPI_connect();
	n = ordflow_pull_names(context, names, any, again);
	SPI_finish();
	MemoryContextSwitchTo(before);
	return n;
}

/* Where there is no extension any more nothing is to be left of it. */
static TimestampTz
leave(void)
{
	bool		gone;

	StartTransactionCommand();
	gone = !OidIsValid(get_extension_oid("ordflow", true));
	CommitTransactionCommand();
	dismiss_all();
	if (!gone)
		return DT_NOEND;
	if (ordflow_companions_count(COMPANION_DECODER, InvalidOid) > 0)
		return GetCurrentTimestamp() + LEAVE_AGAIN;
	if (slot_is_there())
		ordflow_sync_leave_nothing();
	ordflow_sync_keep_figures(NULL, 0);
	return ordflow_deliveries_forget() ? DT_NOEND : GetCurrentTimestamp() + LEAVE_AGAIN;
}

static TimestampTz
run(TimestampTz noted, bool unblocked)
{
	static const char *const decoder[] = {DECODER_NAME};
	MemoryContext context;
	const char **names;
	const char **pulls;
	bool		any;
	bool		any_pull;
	int			n;
	int			npulls;
	TimestampTz next;
	TimestampTz next_pull;

	if (!ordflow_worker_begin())
		return leave();
	context = AllocSetContextCreate(TopMemoryContext, "ordflow syncs", ALLOCSET_SMALL_SIZES);
	n = read_names(context, &names, &any);
	npulls = read_pulls(context, &pulls, &any_pull, &next_pull);
	ordflow_worker_commit();
	any = any || n > 0 || slot_is_there();
	next = ordflow_companions_want(COMPANION_DECODER, decoder, any ? 1 : 0);
	next = ordflow_earlier(next, ordflow_companions_want(COMPANION_DELIVERY, names, n));
	next = ordflow_earlier(next, ordflow_companions_want(COMPANION_PULLER, pulls, npulls));
	next = ordflow_earlier(next, next_pull);
	MemoryContextDelete(context);
	return any || any_pull ? ordflow_earlier(next, GetCurrentTimestamp() + LOOK_AGAIN) : next;
}

static const Duty duty = {
	.part = "sync",
	.run = run,
};

void
ordflow_sync_duty_init(void)
{
	ordflow_worker_register(DUTY_SYNC, &duty);
}

/*
 * wake.c
 *	  What a transaction brings is noted when it has committed.
 *
 * The commit callback comes after the transaction's rows can be seen, so whoever
 * it wakes sees them.  It may neither allocate nor raise: all it does is
 * to find the slot, lower a time and set a latch.
 *
 * Whether a duty is active is asked then, not when the work was brought: the transaction may
 * have been open while somebody activated it.  A coordinator that finds a duty inactive marks
 * the slot, and unmarks it before it takes the snapshot of its next look.  So what is not noted
 * because of the mark is in that snapshot, and a change of ordflow.activation brings that look.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "worker/internal.h"

static TimestampTz brought[DUTY_KINDS];
static bool brought_any = false;
static bool afresh = false;
static bool locked_rows = false;

static void
forget(void)
{
	for (int i = 0; i < DUTY_KINDS; i++)
		brought[i] = DT_NOEND;
	brought_any = false;
	afresh = false;
	locked_rows = false;
}

static void
bring(DutyKind kind, TimestampTz at)
{
	brought[kind] = Min(brought[kind], at);
	brought_any = true;
}

void
ordflow_worker_wake(DutyKind kind, TimestampTz at)
{
	if (ordflow_worker_shared == NULL)
		return;
	/* companions are told too: rows may have deadlines that no commit has named */
	if (at == DT_NOBEGIN)
		ordflow_feed_all();
	bring(kind, at);
}

void
ordflow_wake_afresh(void)
{
	if (ordflow_worker_shared == NULL)
		return;
	afresh = true;
	ordflow_feed_all();
	for (int i = 0; i < DUTY_KINDS; i++)
		bring(i, DT_NOBEGIN);
}

void
ordflow_worker_wake_blocked(void)
{
	locked_rows = true;
}

/* Notes times for each duty, for inactive ones too where all is; whose latch is to be set. */
static Latch *
note(DatabaseSlot *slot, const TimestampTz *times, bool all, bool *launch)
{
	Latch	   *latch = NULL;
	TimestampTz earliest = DT_NOEND;
	bool		lowered = false;

	for (int i = 0; i < DUTY_KINDS; i++)
	{
		if (slot->inactive[i] && !all)
			continue;
		slot->inactive[i] = false;
		lowered = lowered || times[i] < slot->noted[i];
		slot->noted[i] = Min(slot->noted[i], times[i]);
		earliest = Min(earliest, times[i]);
	}
	if (slot->state == COORDINATOR_RUNNING && earliest < slot->next_at)
	{
		slot->next_at = earliest;
		latch = slot->latch;
	}
	*launch = slot->state == COORDINATOR_NONE && lowered;
	return latch;
}

static void
publish(const TimestampTz *times, bool all)
{
	Latch	   *latch = NULL;
	bool		launch = false;
	bool		done = false;

	/* a slot that was found may be given to another database before its mutex is held */
	while (!done)
	{
		DatabaseSlot *slot = ordflow_slot_claim(MyDatabaseId);

		if (slot == NULL)
		{
			SpinLockAcquire(&ordflow_worker_shared->mutex);
			ordflow_worker_shared->overflow = true;
			SpinLockRelease(&ordflow_worker_shared->mutex);
			launch = true;
			break;
		}
		SpinLockAcquire(&slot->mutex);
		done = slot->database == MyDatabaseId;
		if (done)
			latch = note(slot, times, all, &launch);
		SpinLockRelease(&slot->mutex);
	}
	if (latch != NULL)
		SetLatch(latch);
	if (launch)
		ordflow_launcher_wake();
}

void
ordflow_worker_note(DutyKind kind, TimestampTz at)
{
	TimestampTz times[DUTY_KINDS];

	if (ordflow_worker_shared == NULL)
		return;
	for (int i = 0; i < DUTY_KINDS; i++)
		times[i] = DT_NOEND;
	times[kind] = at;
	publish(times, false);
}

static void
publish_unblocked(void)
{
	DatabaseSlot *slot = ordflow_slot_find(MyDatabaseId);
	Latch	   *latch = NULL;

	/* what the coordinator did itself was in nobody's way */
	if (slot == NULL || !slot->blocked || slot->latch == MyLatch)
		return;
	SpinLockAcquire(&slot->mutex);
	if (slot->database == MyDatabaseId && slot->blocked)
	{
		slot->unblocked = true;
		latch = slot->latch;
	}
	SpinLockRelease(&slot->mutex);
	if (latch != NULL)
		SetLatch(latch);
}

static void
at_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			ordflow_feed_publish();
			if (brought_any)
				publish(brought, afresh);
			break;
		case XACT_EVENT_ABORT:
			ordflow_activation_rolled_back();
			break;
		case XACT_EVENT_PREPARE:
			break;
		default:
			return;
	}
	if (locked_rows && ordflow_worker_shared != NULL)
		publish_unblocked();
	ordflow_utility_at_end(event == XACT_EVENT_COMMIT);
	ordflow_activation_ended();
	ordflow_feed_forget();
	forget();
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent,
					  void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		ordflow_activation_rolled_back();
		ordflow_feed_rolled_back(subid);
	}
}

void
ordflow_wake_init(void)
{
	forget();
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

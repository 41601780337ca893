/*
 * journal.c
 *	  What a transaction has done that the memory of the queue is to know.
 *
 * A list in the order in which it was done, each action with the level of its subtransaction.  The
 * callback of the commit comes after the rows can be seen, so whoever finds a task sees it; it
 * neither allocates nor raises, as all room was made before.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#include "task/internal.h"

/* more actions than that are given back to the system at the end of the transaction */
#define ACTIONS_KEPT 1024

/* so many at a time are done under the lock */
#define ACTIONS_AT_ONCE 100

static TaskAction *actions = NULL;	/* levels never go down from one to the next */
static int	nactions = 0;
static int	room = 0;

void
ordflow_journal_room(int n)
{
	int			wanted = nactions + n;

	if (wanted <= room)
		return;
	wanted = Max(wanted, Max(room * 2, 16));
	actions = actions == NULL ?
		MemoryContextAllocHuge(TopMemoryContext, sizeof(TaskAction) * (Size) wanted) :
		repalloc_huge(actions, sizeof(TaskAction) * (Size) wanted);
	room = wanted;
}

void
ordflow_journal_add(const TaskAction *action)
{
	Assert(nactions < room);
	actions[nactions] = *action;
	actions[nactions++].level = GetCurrentTransactionNestLevel();
}

void
ordflow_journal_numbers(int64 first, int64 last)
{
	Assert(nactions > 0 && actions[nactions - 1].kind == ACTION_SUBMIT);
	actions[nactions - 1].run.first = first;
	actions[nactions - 1].run.last = last;
}

int
ordflow_journal_look(const TaskAction **list)
{
	*list = actions;
	return nactions;
}

bool
ordflow_journal_has_submitted_batch(int64 batch_id)
{
	for (int i = 0; i < nactions; i++)
		if (actions[i].delta.batch_id == batch_id &&
			(actions[i].kind == ACTION_SUBMIT || actions[i].kind == ACTION_BATCH))
			return true;
	return false;
}

/* ---- doing ---- */

/* A time of the schedule that has submitted the task may wait for its end. */
static void
tell_schedules(const TaskSlot *slot)
{
	if ((slot->flags & CLAIM_SCHEDULED) == 0)
		return;
	ordflow_queue_find()->schedules = true;
	ordflow_task_poke(TASK_AT_ONCE);
}

/* The task is not to end any more; its holder, if he runs it now, is interrupted. */
static void
cancel_claim(SlotNo no)
{
	TaskSlot   *slot = &ordflow_task_slots[no];

	tell_schedules(slot);

	slot->flags = (slot->flags & ~CLAIM_CANCELLING) | CLAIM_CANCELLED;
	/* one that is finishing is stale only if it does not commit */
	if ((slot->flags & (CLAIM_WORKER | CLAIM_FINISHING)) == CLAIM_WORKER)
		kill(GetPGProcByNumber(slot->holder)->pid, SIGINT);
}

static void
cancel_claims(TaskQueue *queue, int64 first, int64 last)
{
	for (SlotNo no = 1; no <= ordflow_task_shared->used; no++)
	{
		TaskSlot   *slot = &ordflow_task_slots[no];

		if (slot->state == SLOT_CLAIMED && slot->first >= first && slot->first <= last &&
			ordflow_task_shared->lanes[slot->lane].database == queue->database)
			cancel_claim(no);
	}
}

static void
wake(int32 kind_id)
{
	const Lane *lane = ordflow_lane_find(kind_id);

	ordflow_wait_tell(MyDatabaseId, WAIT_KIND, kind_id, PG_INT32_MAX);
	if (lane != NULL && OidIsValid(lane->owner))
		ordflow_wait_tell(MyDatabaseId, WAIT_POOL, lane->owner, PG_INT32_MAX);
	ordflow_task_poke(TASK_AT_ONCE);
}

/* There is a queue, but perhaps for those that need none. */
static void
do_action(TaskQueue *queue, const TaskAction *action)
{
	bool		ours = ordflow_claim_is(action->slot, action->token);

	switch (action->kind)
	{
		case ACTION_SUBMIT:
			if (action->slot == 0)
				queue->untracked--;
			if (queue->quiet)
				ordflow_task_poke(TASK_AT_ONCE);
			queue->quiet = false;
			ordflow_run_publish(queue, &action->run, action->kind_id, action->slot);
			break;
		case ACTION_FINISH:
			if (ours)
			{
				tell_schedules(&ordflow_task_slots[action->slot]);
				ordflow_claim_end(action->slot);
			}
			break;
		case ACTION_RETRY:
			if (ours)
				ordflow_claim_give_back(action->slot, action->run.run_at);
			break;
		case ACTION_CANCEL:
			if (ours)
				cancel_claim(action->slot);
			break;
		case ACTION_CANCEL_BATCH:
			cancel_claims(queue, action->run.first, action->run.last);
			ordflow_runs_cut_off(queue, action->run.part, action->run.first, action->run.last);
			break;
		case ACTION_WAKE:
			wake(action->kind_id);
			break;
		case ACTION_UNREAD:
			ordflow_unread_add(queue, action->run.part, action->run.first, action->run.last);
			break;
		case ACTION_AFRESH:
			if (queue != NULL)
				ordflow_load_afresh(queue);
			ordflow_wait_tell_all(MyDatabaseId);
			ordflow_task_poke(DT_NOBEGIN);
			break;
		case ACTION_CLAIM:
		case ACTION_BATCH:
			break;
	}
}

/* ---- undoing ---- */

static void
undo_submit(TaskQueue *queue, const TaskAction *action)
{
	TaskSlot   *slot = &ordflow_task_slots[action->slot];

	if (action->slot == 0)
	{
		queue->untracked--;
		return;
	}
	ordflow_task_shared->lanes[slot->lane].reserved--;
	ordflow_slot_free(action->slot);
}

static void
undo_action(TaskQueue *queue, const TaskAction *action)
{
	TaskSlot   *slot = &ordflow_task_slots[action->slot];
	bool		ours = ordflow_claim_is(action->slot, action->token);

	switch (action->kind)
	{
		case ACTION_SUBMIT:
			undo_submit(queue, action);
			break;
		case ACTION_CLAIM:
			if (ours)
				ordflow_claim_give_back(action->slot, DT_NOBEGIN);
			break;
		case ACTION_FINISH:
		case ACTION_RETRY:
			if (ours)
				slot->flags &= ~CLAIM_FINISHING;
			break;
		case ACTION_CANCEL:
			if (ours)
				slot->flags &= ~CLAIM_CANCELLING;
			break;
		case ACTION_CANCEL_BATCH:
			/* what we have looked for ourselves meanwhile we took for cancelled */
			ordflow_unread_add(queue, action->run.part, action->run.first, action->run.last);
			break;
		case ACTION_BATCH:
		case ACTION_WAKE:
		case ACTION_UNREAD:
		case ACTION_AFRESH:
			break;
	}
}

void
ordflow_journal_undo_last(void)
{
	ordflow_task_lock();
	undo_action(ordflow_queue_find(), &actions[--nactions]);
	ordflow_task_unlock();
}

/* Undoes the last ones, down to the first of that level. */
static void
roll_back_level(int level)
{
	if (nactions == 0 || actions[nactions - 1].level < level)
		return;
	ordflow_task_lock();
	while (nactions > 0 && actions[nactions - 1].level >= level)
	{
		undo_action(ordflow_queue_find(), &actions[--nactions]);
		if (nactions % ACTIONS_AT_ONCE == 0)
		{
			ordflow_task_unlock();
			ordflow_task_lock();
		}
	}
	ordflow_task_unlock();
}

static void
settle(void)
{
	ordflow_task_lock();
	for (int i = 0; i < nactions; i++)
	{
		do_action(ordflow_queue_find(), &actions[i]);
		if (i % ACTIONS_AT_ONCE == ACTIONS_AT_ONCE - 1)
		{
			ordflow_task_unlock();
			ordflow_task_lock();
		}
	}
	ordflow_task_unlock();
}

static void
forget(void)
{
	nactions = 0;
	if (room <= ACTIONS_KEPT)
		return;
	pfree(actions);
	actions = NULL;
	room = 0;
}

static void
at_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (nactions > 0)
				ordflow_batches_pre_commit();
			break;
		case XACT_EVENT_COMMIT:
			if (nactions == 0)
				break;
			ordflow_batches_committed();
			settle();
			forget();
			break;
		case XACT_EVENT_ABORT:
			ordflow_task_own_write_done();
			ordflow_load_abandon();
			ordflow_wait_end(false);
			if (nactions == 0)
				break;
			ordflow_batches_aborted();
			roll_back_level(0);
			forget();
			break;
		default:
			break;
	}
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId subid, SubTransactionId parent,
					  void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		ordflow_task_own_write_done();
		ordflow_load_abandon();
		ordflow_wait_end(false);
		roll_back_level(level);
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		for (int i = nactions - 1; i >= 0 && actions[i].level >= level; i--)
			actions[i].level = level - 1;
}

void
ordflow_journal_init(void)
{
	RegisterXactCallback(at_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

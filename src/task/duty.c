/*
 * duty.c
 *	  What the coordinator does for tasks.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lock.h"

#include "task/internal.h"
#include "worker/worker.h"

#define LOAD_ROWS 20000
#define PROGRESS_REST (30 * USECS_PER_SEC)

/* One step of what is unread.  True: there is more. */
static bool
load(TaskQueue *queue)
{
	bool		unread = false;
	bool		more;

	ordflow_task_lock();
	for (int part = 0; part < TASK_PARTS; part++)
		unread |= queue->unread[part] < queue->unread_end[part];
	ordflow_task_unlock();
	if (!unread || !ordflow_worker_begin())
		return false;
	more = ordflow_load_step(LOAD_ROWS);
	ordflow_worker_commit();
	return more;
}

/* What is due now, by leases and by times; when the next is. */
static TimestampTz
let_in(TaskQueue *queue, TimestampTz now)
{
	TimestampTz next;

	ordflow_task_lock();
	ordflow_leases_expire(queue, now);
	next = ordflow_later_promote(queue, now);
	next = Min(next, queue->lease_end);
	ordflow_task_unlock();
	return next;
}

/* While tasks come and go; when to look again. */
static TimestampTz
write_progress(TaskQueue *queue, TimestampTz now)
{
	static TimestampTz last = 0;
	static int64 token = 0;
	static int64 next_id = 0;
	bool		moved;

	if (now >= last && now - last < PROGRESS_REST)
		return last + PROGRESS_REST;
	ordflow_task_lock();
	moved = token != ordflow_task_shared->token || next_id != queue->next_id;
	token = ordflow_task_shared->token;
	next_id = queue->next_id;
	ordflow_task_unlock();
	if (!moved)
		return DT_NOEND;
	last = now;
	ordflow_progress_write();
	return last + PROGRESS_REST;
}

/* Where it is long until we come again by ourselves the next task calls us. */
static void
set_quiet(TaskQueue *queue, bool quiet)
{
	ordflow_task_lock();
	queue->quiet = quiet;
	ordflow_task_unlock();
}

static bool
take_schedules(TaskQueue *queue)
{
	bool		told;

	ordflow_task_lock();
	told = queue->schedules;
	queue->schedules = false;
	ordflow_task_unlock();
	return told;
}

/* To the end of this process; an effect of a timer's may have let it go.  It shows who we are. */
static void
lock_database(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, 0, TASK_LOCK_DATABASE);
	if (!ordflow_lock_is_held(&tag, ExclusiveLock))
		LockAcquire(&tag, ExclusiveLock, true, true);
}

/* Is the duty active here at all?  Only then a queue is made. */
static bool
is_active(void)
{
	if (!ordflow_worker_begin())
		return false;
	lock_database();
	ordflow_worker_commit();
	return true;
}

static TimestampTz
run(TimestampTz noted, bool unblocked)
{
	bool		afresh = noted == DT_NOBEGIN;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next;
	TaskQueue  *queue;

	if (afresh && !is_active())
		return DT_NOEND;
	queue = ordflow_queue();
	/* what comes after this either is seen by the steps or calls us again */
	set_quiet(queue, true);
	next = let_in(queue, now);
	if (load(queue))
		next = now;
	next = ordflow_earlier(next, ordflow_load_far(now));
	next = ordflow_earlier(next,
						   ordflow_schedules_step(now, take_schedules(queue) || afresh));
	next = ordflow_earlier(next, ordflow_pool_step(now));
	next = ordflow_earlier(next, ordflow_segments_step(afresh));
	next = ordflow_earlier(next, write_progress(queue, now));
	if (next <= now + PROGRESS_REST)
		set_quiet(queue, false);
	return next;
}

static const Duty duty = {
	.part = "task",
	.run = run,
};

void
ordflow_task_duty_init(void)
{
	ordflow_worker_register(DUTY_TASK, &duty);
}

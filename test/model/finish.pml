/*
 * finish.pml
 *	  Who ends a batch: the protocol of src/task/batch.c from the lock to the callback.
 *
 * Three tasks are finished by three sessions, each of which may roll back and try again; somebody
 * may cancel the batch, or roll that back; an onlooker has the batch counted, and evicts it; the
 * server may crash.  Between the commit and the callback lies a state of its own: the rows are
 * visible, memory does not know yet.
 *
 * A crash ends all sessions at once: each notices at its next step.  What it had committed stays.
 *
 * It proves: the batch ends once, so on_finish is submitted once; it does not end before its last
 * task unless it is cancelled; it does end, with figures that add up; memory never knows more or
 * less than is committed and settled; and nobody is stuck.
 *
 * broken: REGISTER_BEFORE_LOCK assertion
 * broken: NO_LOCK assertion
 * broken: END_WITHOUT_LOOKING assertion
 * broken: KEEP_SHARE assertion
 * broken: UNLOCK_BEFORE_CALLBACK assertion
 * broken: COUNT_BEFORE_ENTRY assertion
 * broken: UNPIN_AT_COMMIT assertion
 * broken: ABORT_KEEPS_IN_FLIGHT assertion
 * broken: CANCEL_IN_COMMON assertion
 * broken: CANCELLED_NOT_LOOKED_AT assertion
 */

#define TASKS 3
#define ABORTS 1				/* in all */
#define CRASHES 1
#define LOOKS 1

mtype = { ABSENT, LOADING, READY };

/* the rows */
byte outcomes;
bit end_row;
bit cancelled_row;
byte on_finish;					/* tasks of it */
byte recorded;					/* in the end row: tasks with an outcome */

/* the entry, in shared memory */
mtype phase = ABSENT;
byte pins;
byte finished;
byte in_flight;
bit cancelled;

/* the lock of the batch */
byte shared;
bit alone;

byte aborts;
byte crashes;
byte epoch;						/* how often the server was started */
byte settling;					/* committed, the callback is to come */
byte done;						/* tasks that have an outcome */
byte looks;

#ifdef BROKEN
#define CHECK skip
#else
#define CHECK assert(phase != READY || cancelled || cancelled_row || \
	finished + settling == outcomes)
#endif

#define ALIVE (epoch == mine)

/* The entry, pinned and ready: acquire() and load(). */
inline acquire()
{
#ifdef COUNT_BEFORE_ENTRY
	atomic { ALIVE -> count = outcomes; seen_cancelled = cancelled_row }
#endif
	if
	:: atomic {
			ALIVE ->
			if
			:: phase == ABSENT -> phase = LOADING; cancelled = 0; in_flight = 0
			:: else
			fi;
			pins++;
			ready = (phase == READY)
		}
	:: !ALIVE -> goto gone
	fi;
	if
	:: ready
	:: !ready ->
#ifndef COUNT_BEFORE_ENTRY
		if
		:: atomic { ALIVE -> count = outcomes; seen_cancelled = cancelled_row }
		:: !ALIVE -> goto gone
		fi;
#endif
		if
		:: atomic {
				ALIVE ->
				if
				:: phase == LOADING -> finished = count; cancelled = cancelled | seen_cancelled;
					phase = READY; CHECK
				:: else
				fi;
				count = 0; seen_cancelled = 0
			}
		:: !ALIVE -> goto gone
		fi
	fi;
	ready = 0
}

inline take_alone()
{
	if
	:: atomic { ALIVE && !alone && shared == 0 -> alone = 1; has = 2 }
	:: !ALIVE -> goto gone
	fi
}

inline unlock()
{
	if
	:: has == 1 -> shared--
	:: has == 2 -> alone = 0
	:: else
	fi;
	has = 0
}

active [TASKS] proctype finisher()
{
	byte mine, count;
	bit ready, seen_cancelled, complete, ends, late;
	byte has;					/* 1: the lock in common, 2: alone */

again:
	atomic {
		mine = epoch; has = 0; complete = 0; ends = 0; late = 0; count = 0; ready = 0;
		seen_cancelled = 0
	}
#ifdef REGISTER_BEFORE_LOCK
	acquire();
	if
	:: atomic { ALIVE -> late = cancelled; in_flight = in_flight + !late;
		complete = late || (finished + in_flight == TASKS) }
	:: !ALIVE -> goto gone
	fi;
#endif
#ifndef NO_LOCK
	if
	:: atomic { ALIVE && !alone -> shared++; has = 1 }
	:: !ALIVE -> goto gone
	fi;
#endif
#ifndef REGISTER_BEFORE_LOCK
	acquire();
	/* register_work() */
	if
	:: atomic { ALIVE -> late = cancelled; in_flight = in_flight + !late;
		complete = late || (finished + in_flight == TASKS) }
	:: !ALIVE -> goto gone
	fi;
#endif
	if
	:: !complete
	:: complete ->
#ifndef NO_LOCK
#ifndef KEEP_SHARE
		if
		:: atomic { ALIVE -> shared--; has = 0 }
		:: !ALIVE -> goto gone
		fi;
#endif
		take_alone();
#endif
		/* settle_alone() */
		if
		:: atomic {
				ALIVE ->
				if
#ifndef CANCELLED_NOT_LOOKED_AT
				:: cancelled -> in_flight = in_flight - !late; late = 1
				:: !cancelled ->
#else
				:: true ->
#endif
#ifdef END_WITHOUT_LOOKING
					ends = 1
#else
					ends = (finished + 1 == TASKS)
#endif
				fi
			}
		:: !ALIVE -> goto gone
		fi
	fi;
	if
	:: atomic {
			/* the commit: rows are visible */
			ALIVE ->
			outcomes++;
			done++;
			settling = settling + !late;
			if
			:: ends ->
				assert(!end_row && outcomes == TASKS);
				end_row = 1;
				recorded = TASKS;
				on_finish++
			:: late -> recorded++
			:: else
			fi;
#ifdef UNPIN_AT_COMMIT
			pins--;
#endif
#ifdef UNLOCK_BEFORE_CALLBACK
			unlock();
#endif
		}
		/* the callback */
		if
		:: atomic {
				ALIVE ->
				finished++;
				in_flight = in_flight - !late;
				settling = settling - !late;
#ifndef UNPIN_AT_COMMIT
				pins--;
#endif
				CHECK
			}
			if
			:: atomic { ALIVE -> unlock() }
			:: !ALIVE
			fi
		:: !ALIVE
		fi;
		goto over
	:: atomic {
			ALIVE && aborts < ABORTS ->
			aborts++;
#ifndef ABORT_KEEPS_IN_FLIGHT
			in_flight = in_flight - !late;
#endif
			pins--;
			CHECK
		}
		if
		:: atomic { ALIVE -> unlock() }
		:: !ALIVE
		fi;
		goto again
	:: !ALIVE -> goto gone
	fi;
gone:
	goto again;
over:
	skip
}

/* cancel_batch() */
active proctype canceller()
{
	byte mine, count;
	bit ready, seen_cancelled, ends;
	byte has, mine_recorded;

	if
	:: goto over
	:: skip
	fi;
again:
	atomic {
		mine = epoch; has = 0; ends = 0; count = 0; ready = 0; seen_cancelled = 0;
		mine_recorded = 0
	}
#ifdef CANCEL_IN_COMMON
	if
	:: atomic { ALIVE && !alone -> shared++; has = 1 }
	:: !ALIVE -> goto gone
	fi;
#else
	take_alone();
#endif
	acquire();
	if
	:: atomic { ALIVE -> ends = !end_row; mine_recorded = finished; pins-- }
	:: !ALIVE -> goto gone
	fi;
	if
	:: atomic {
			ALIVE ->
			if
			:: ends -> assert(!end_row); end_row = 1; cancelled_row = 1; recorded = mine_recorded;
				on_finish++
			:: else
			fi
		}
		if
		:: atomic {
				ALIVE ->
				if
				:: ends && phase != ABSENT -> cancelled = 1
				:: else
				fi
			}
			if
			:: atomic { ALIVE -> unlock() }
			:: !ALIVE
			fi
		:: !ALIVE
		fi
	:: atomic { ALIVE && aborts < ABORTS -> aborts++; unlock() }
	:: !ALIVE -> goto gone
	fi;
	goto over;
gone:
	goto again;
over:
	skip
}

/* A look at the view batches, and somebody who needs room. */
active proctype onlooker()
{
	byte mine, count;
	bit ready, seen_cancelled;

	do
	:: atomic { looks < LOOKS -> looks++; mine = epoch }
		acquire();
		if
		:: atomic { ALIVE -> pins-- }
		:: !ALIVE
		fi
	:: atomic { looks < LOOKS && phase == READY && pins == 0 -> phase = ABSENT; finished = 0;
		in_flight = 0; cancelled = 0; looks++ }
	:: atomic { crashes < CRASHES ->
			crashes++;
			epoch++;
			phase = ABSENT; pins = 0; finished = 0; in_flight = 0; cancelled = 0;
			shared = 0; alone = 0; settling = 0
		}
	:: break
	od;
gone:
	skip
}

/* All is quiet. */
active proctype judge()
{
	timeout ->
	assert(done == TASKS);
	assert(end_row && on_finish == 1 && recorded == TASKS);
	assert(pins == 0 && in_flight == 0 && shared == 0 && !alone)
}

/*
 * load.pml
 *	  Who waits while another loads the counter: ordflow_counter_acquire() in
 *	  src/counter/table.c.
 *
 * Three sessions want a counter that is absent.  One publishes it as loading and reads rows,
 * which may fail; the others sleep on the condition variable of the partition.  A condition
 * variable is a set of sleepers here: to prepare is to step into it, a broadcast empties it, and
 * he sleeps who is still in it.  The 10 s after which a sleeper gives up are left out: nobody may
 * need them.
 *
 * It proves: one loads at a time; nobody sleeps for ever; each session in the end has the counter
 * or the error of its own load (the property "served", under weak fairness).
 *
 * broken: CHECK_BEFORE_PREPARE stuck
 * broken: BROADCAST_BEFORE_READY stuck
 * broken: WITHDRAW_SILENTLY stuck
 * broken: ERROR_LEAVES_LOADING stuck
 * broken: PUBLISH_WITHOUT_LOOKING assertion
 */

#define SESSIONS 3

mtype = { ABSENT, LOADING, READY };

mtype phase = ABSENT;
bool asleep[SESSIONS];
byte loaders;
byte done;

inline broadcast()
{
	atomic { asleep[0] = false; asleep[1] = false; asleep[2] = false }
}

active [SESSIONS] proctype session()
{
	mtype seen;

again:
	/* pin_ready(): under the shared lock of the partition */
	seen = phase;
	if
	:: seen == READY -> goto served
	:: seen == LOADING ->
		/* wait_until_loaded() */
#ifndef CHECK_BEFORE_PREPARE
		asleep[_pid] = true;
#endif
		do
		:: seen = phase;
			if
			:: seen == LOADING ->
#ifdef CHECK_BEFORE_PREPARE
				asleep[_pid] = true;
#endif
				atomic { !asleep[_pid] -> asleep[_pid] = true }
			:: else -> break
			fi
		od;
		asleep[_pid] = false;
		if
		:: seen == READY -> goto served
		:: else
		fi
	:: else
	fi;

	/* publish_loading(): looks again, under the exclusive lock */
	atomic {
		if
#ifndef PUBLISH_WITHOUT_LOOKING
		:: phase != ABSENT -> goto again
#endif
		:: else
		fi;
		phase = LOADING;
		loaders++;
		assert(loaders == 1)
	}
	if
	:: true ->
#ifdef BROADCAST_BEFORE_READY
		broadcast();
#endif
		atomic { phase = READY; loaders-- }
#ifndef BROADCAST_BEFORE_READY
		broadcast()
#endif
	:: true ->
		/* an error: the abort callback withdraws it, and this session is out */
		atomic {
#ifndef ERROR_LEAVES_LOADING
			phase = ABSENT;
#endif
			loaders--
		}
#ifndef WITHDRAW_SILENTLY
		broadcast()
#endif
	fi;

served:
	done++
}

ltl served { <> (done == SESSIONS) }

/*
 * table.pml
 *	  Where the counters lie: the array, the buckets and the free list of src/counter/table.c,
 *	  with the locks that guard them.
 *
 * Two sessions pin a counter of one of two keys, loading it where it must be, and unpin it, for
 * ever; somebody drops counters.  There are two places in the array.  A place is free, or linked
 * in the bucket of its key, or belongs to whoever has taken it off.  The key of a candidate for
 * eviction is read without its partition's lock.
 *
 * It proves: a key has one counter; who has a pin has it on the counter of his key; no place is
 * lost or given out twice; and the locks are taken in an order in which nobody is stuck.
 *
 * broken: EVICT_WITHOUT_LOOKING assertion
 * broken: EVICT_PINNED assertion
 * broken: PIN_OUTSIDE_LOCK assertion
 * broken: PUBLISH_WITHOUT_LOOKING assertion
 * broken: RELEASE_UNDER_PARTITION_LOCK stuck
 */

#define SESSIONS 2
#define PLACES 2
#define KEYS 2
#define NONE 7

#define FREE_PLACE 0
#define LOADING 1
#define READY 2

byte key[PLACES] = NONE;
byte phase[PLACES];
short pins[PLACES];
bool is_free[PLACES] = true;
byte linked[KEYS] = NONE;		/* what stands in the bucket */
byte open;

/*
 * Each key has a partition of its own.  Nobody waits who holds its lock, so what is done under it
 * is one step; exclusive is for the one fault that breaks this.
 */
bool exclusive[KEYS];
bool allocation;

#define LOCK_ALLOCATION atomic { !allocation -> allocation = true }

inline release_counter(i)
{
	atomic { !allocation -> assert(!is_free[i]); is_free[i] = true }
}

#if defined(EVICT_WITHOUT_LOOKING)
#define MAY_EVICT(i, k) (phase[i] == READY && pins[i] == 0)
#elif defined(EVICT_PINNED)
#define MAY_EVICT(i, k) (linked[k] == i && phase[i] == READY)
#else
#define MAY_EVICT(i, k) (linked[k] == i && phase[i] == READY && pins[i] == 0)
#endif

/* evicted = 1 if counter i, whose key was k when it was looked at, could be spared. */
inline evict(i, k)
{
	atomic {
		!exclusive[k];
		if
		:: MAY_EVICT(i, k) ->
			linked[k] = NONE;
			phase[i] = FREE_PLACE;
			evicted = 1
		:: else ->
			evicted = 0
		fi
	}
}

/* Ends with mine, which is in no bucket and no list, or NONE. */
inline allocate()
{
	LOCK_ALLOCATION;
	mine = NONE;
	if
	:: is_free[0] -> mine = 0; is_free[0] = false
	:: is_free[1] -> mine = 1; is_free[1] = false
	:: else ->
		candidate = 0;
		do
		:: candidate == PLACES || mine != NONE -> break
		:: else ->
			other = key[candidate];
			if
			:: other == NONE
			:: else ->
				evict(candidate, other);
				if
				:: evicted -> mine = candidate
				:: else
				fi
			fi;
			candidate++
		od
	fi;
	allocation = false;
	if
	:: mine != NONE -> d_step { key[mine] = NONE; phase[mine] = FREE_PLACE; pins[mine] = 0 }
	:: else
	fi;
	d_step { candidate = 0; other = 0; evicted = 0 }
}

active [SESSIONS] proctype session()
{
	byte k, mine = NONE, candidate, other;
	bit evicted;

end:
	atomic {
		open++;
		if
		:: k = 0
		:: k = 1
		fi
	}
again:
	/* pin_ready() */
	atomic {
		!exclusive[k];
		mine = linked[k];
		if
		:: mine != NONE && phase[mine] == READY ->
#ifndef PIN_OUTSIDE_LOCK
			pins[mine]++;
#endif
			goto pinned
		:: mine != NONE && phase[mine] != READY ->
			mine = NONE
		:: else ->
			goto absent
		fi
	}
	/* waits until that load has ended: see load.pml */
	(linked[k] == NONE -> 1 : phase[linked[k]] == READY);
	goto again;

absent:
	allocate();
	if
	:: mine == NONE -> goto over
	:: else
	fi;
	/* publish_loading() */
	atomic {
		!exclusive[k];
		if
#ifndef PUBLISH_WITHOUT_LOOKING
		:: linked[k] != NONE -> goto too_late
#endif
		:: else
		fi;
		assert(linked[k] == NONE);
		key[mine] = k;
		phase[mine] = LOADING;
		pins[mine] = 1;
		linked[k] = mine
	}
	if
	:: atomic { !exclusive[k] -> phase[mine] = READY }
#ifdef PIN_OUTSIDE_LOCK
		pins[mine]--;
#endif
		goto pinned
	:: atomic {
			/* ordflow_counter_withdraw() */
			!exclusive[k];
			assert(linked[k] == mine);
			linked[k] = NONE;
			phase[mine] = FREE_PLACE;
			pins[mine] = 0;
#ifdef RELEASE_UNDER_PARTITION_LOCK
			exclusive[k] = true
#endif
		}
		release_counter(mine);
#ifdef RELEASE_UNDER_PARTITION_LOCK
		exclusive[k] = false;
#endif
		goto over
	fi;

too_late:
	release_counter(mine);
	mine = NONE;
	goto again;

pinned:
#ifdef PIN_OUTSIDE_LOCK
	pins[mine]++;
#endif
	assert(key[mine] == k && linked[k] == mine && phase[mine] == READY && pins[mine] > 0);
	pins[mine]--;
over:
	atomic { mine = NONE; k = 0; open-- }
	goto end
}

active proctype dropper()
{
	byte k, mine;
	bit evicted;

end:
	do
	:: atomic { linked[0] != NONE -> open++; k = 0 }
		goto drop
	:: atomic { linked[1] != NONE -> open++; k = 1 }
		goto drop
	od;
drop:
	mine = linked[k];
	if
	:: mine != NONE ->
		evict(mine, k);
		if
		:: evicted -> release_counter(mine)
		:: else
		fi
	:: else
	fi;
	atomic { mine = 0; k = 0; evicted = 0; open-- }
	goto end
}

#define LINKED(i) (linked[0] == i || linked[1] == i)

active proctype auditor()
{
end:
	do
	:: atomic {
			open == 0;
			assert(LINKED(0) != is_free[0] && LINKED(1) != is_free[1]);
			assert(pins[0] == 0 || is_free[0]);
			assert(pins[1] == 0 || is_free[1])
		}
	od
}

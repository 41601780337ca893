/*
 * deadline.pml
 *	  When it pays to look for holds that have expired: ordflow_counter_expiry() and its like
 *	  in src/counter/counter.c, release_expired() in src/stock/available.c.
 *
 * Two sessions hold units under one of two references to a deadline, end such a hold, and may
 * look for expired ones, all in one transaction, which commits or aborts.  Who looks finds holds
 * that are due and that nobody has locked.  If there is none, he raises the time that is kept
 * with the counter to the next deadline, unless a deadline was noted since before his snapshot.
 * A clock goes on.
 *
 * It proves: when all is quiet, no hold is due before the time that is kept, so that the units of
 * an expired hold are found by the next who falls short of them.
 *
 * broken: NOTE_BEFORE_COMMIT forgotten
 * broken: WITHOUT_SERIAL forgotten
 * broken: SERIAL_AFTER_SNAPSHOT forgotten
 * broken: NEXT_LEAVES_OUT_OVERDUE forgotten
 * broken: RAISE_AFTER_OWN_END forgotten
 */

#define HOLDS 2
#define NEVER 4
#define HOLDS_EVER 2

byte now = 1;					/* to 3 */
byte expiry;					/* with the counter; 0 = look in any case, as after a load */
byte serial;

byte deadline[HOLDS];			/* as the latest snapshot sees it; 0 = there is no such hold */
bool row_locked[HOLDS];
byte begun;						/* holds, ever */
byte open;						/* transactions */

#define MIN(a, b) (a < b -> a : b)

/* In his eyes, who has locked hold mine, and made it or ended it. */
#define SEES(i) (i == mine -> made : deadline[i])
#ifdef NEXT_LEAVES_OUT_OVERDUE
#define NEXT(i) (SEES(i) > t -> SEES(i) : NEVER)
#else
#define NEXT(i) (SEES(i) > 0 -> SEES(i) : NEVER)
#endif
#define IS_FREE(i) (i != mine && !row_locked[i] && deadline[i] > 0 && deadline[i] <= t)

#define CAN_BEGIN(i) (now < 3 && begun < HOLDS_EVER && !row_locked[i] && deadline[i] == 0)

inline lower(at)
{
	d_step {
		expiry = MIN(expiry, at);
		serial = (at < NEVER -> serial + 1 : serial)
	}
}

active [2] proctype session()
{
	byte mine = HOLDS, made, noted = NEVER, also = HOLDS, t, next, seen;
	bit has_ended;

end:
	open++;
	if
	:: atomic {
			if
			:: CAN_BEGIN(0) -> mine = 0
			:: CAN_BEGIN(1) -> mine = 1
			fi;
			row_locked[mine] = true;
			begun++;
			made = now + 1;
			if
			:: now < 2 -> made++
			:: true
			fi;
			noted = made
		}
#ifdef NOTE_BEFORE_COMMIT
		lower(noted);
		noted = NEVER
#endif
	:: atomic {
			if
			:: !row_locked[0] && deadline[0] > 0 -> mine = 0
			:: !row_locked[1] && deadline[1] > 0 -> mine = 1
			fi;
			row_locked[mine] = true;
			has_ended = 1
		}
	:: skip
	fi;

	/* release_expired() */
	if
	:: atomic { MIN(expiry, noted) <= now -> t = now; seen = serial }
		if
		:: atomic {
				if
				:: IS_FREE(0) -> also = 0
				:: IS_FREE(1) -> also = 1
				fi;
				row_locked[also] = true
			}
		:: atomic {
				!IS_FREE(0) && !IS_FREE(1);
#ifdef SERIAL_AFTER_SNAPSHOT
				next = MIN(NEXT(0), NEXT(1))
			}
			atomic {
				seen = serial
			}
#else
			}
			next = MIN(NEXT(0), NEXT(1));
#endif
			atomic {
				if
#ifndef RAISE_AFTER_OWN_END
				:: has_ended
#endif
#ifdef WITHOUT_SERIAL
				:: !has_ended -> expiry = next
#elif defined(RAISE_AFTER_OWN_END)
				:: serial == seen -> expiry = next
#else
				:: !has_ended && serial == seen -> expiry = next
#endif
				:: else
				fi
			}
		fi
	:: skip
	fi;

	if
	:: atomic {
			/* visible, and the locks on the rows are gone */
			true;
			if
			:: mine < HOLDS -> deadline[mine] = made; row_locked[mine] = false
			:: else
			fi;
			if
			:: also < HOLDS -> deadline[also] = 0; row_locked[also] = false
			:: else
			fi
		}
		/* the callback */
		lower(noted)
	:: atomic {
			true;
			if
			:: mine < HOLDS -> row_locked[mine] = false
			:: else
			fi;
			if
			:: also < HOLDS -> row_locked[also] = false
			:: else
			fi
		}
	fi;
	d_step {
		mine = HOLDS;
		made = 0;
		noted = NEVER;
		also = HOLDS;
		t = 0;
		next = 0;
		seen = 0;
		has_ended = 0;
		open--
	}
	goto end
}

active proctype clock()
{
	do
	:: now < 3 -> now++
	:: break
	od
}

#define FORGOTTEN(i) (deadline[i] > 0 && deadline[i] < expiry)

active proctype auditor()
{
end:
	do
	:: atomic { open == 0 -> serial = 0; assert(!(FORGOTTEN(0) || FORGOTTEN(1))) }
	od
}

/*
 * counter.pml
 *	  Sellers of one counter, and somebody who evicts it: the protocol of
 *	  src/counter/counter.c from the pin to the callback.
 *
 * Two sellers and a buyer run one transaction after the other, for ever.  A seller takes and
 * writes, or takes and gives back, or releases a unit of an old order; does that again behind a
 * savepoint, which he releases or rolls back; takes once more; and commits or aborts.  A buyer
 * takes and commits or aborts.  Two units exist, one of them sold long ago.
 *
 * Between the commit and the callback lies a state of its own: the rows are visible, the counter
 * does not know yet.
 *
 * A sale is more than one step where it comes first; to see that compare-and-swap work again,
 * later, would only cost time.
 *
 * It proves: the committed rows never go below 0 (never oversold); at any time the value of a
 * ready counter is the truth less what is in flight; when all is quiet it is the truth, with no
 * pin and nothing in flight; and nobody is stuck.
 *
 * broken: WITHOUT_PIN harm
 * broken: UNPIN_BEFORE_ADD harm
 * broken: UNPIN_AT_COMMIT harm
 * broken: LOAD_BEFORE_PUBLISH harm
 * broken: LOAD_OLD_SNAPSHOT harm
 * broken: EVICT_WITHOUT_LOCK harm
 * broken: ADD_BEFORE_COMMIT harm
 * broken: SETTLE_BEFORE_VISIBLE harm
 * broken: TAKE_WITHOUT_SWAP harm
 * broken: ABORT_KEEPS_TAKEN harm
 * broken: SAVEPOINT_KEEPS_PENDING harm
 * broken: SAVEPOINT_KEEPS_TAKEN harm
 * broken: SAVEPOINT_UNPINS_OUTER harm
 * broken: ERROR_LEAVES_LOADING stuck
 */

#include "counter.inc"

#define SELLERS 2

/* Sells, or thinks better of it before the row is written, or releases. */
inline work(to)
{
	if
	:: sell(to)
	:: take();
		if
		:: refused
		:: !refused -> untake()
		fi
	:: release(to)
	:: skip
	fi
}

/* Its record begins with the pending of the outer one and holds a pin of its own. */
inline savepoint()
{
	outer_taken = taken;
	outer_pending = pending;
	outer_mine = mine;
	taken = 0;
	pins++;
	work(inner_rows);
	if
	:: atomic {
			/* released: merged into the outer record */
			taken = taken + outer_taken;
			rows = rows + inner_rows;
			pins--
		}
	:: atomic {
			/* rolled back: what was taken goes back, the rest is as it was */
			sold = sold + mine - outer_mine;
			mine = outer_mine;
#ifndef SAVEPOINT_KEEPS_TAKEN
			value = value + taken;
#endif
			owed = owed - taken;
			in_flight = in_flight - taken;
			CHECK;
#ifndef SAVEPOINT_KEEPS_PENDING
			pending = outer_pending
#endif
		}
		taken = outer_taken;
#ifdef SAVEPOINT_UNPINS_OUTER
		pins--;
#endif
		pins--
	fi;
	atomic { inner_rows = 0; outer_taken = 0; outer_pending = 0; outer_mine = 0 }
}

inline commit_or_abort()
{
	if
	:: become_visible();
		settle()
	:: undo()
	fi
}

active [SELLERS] proctype seller()
{
	SESSION;
	short inner_rows, outer_taken, outer_pending;
	byte outer_mine;

end:
	begin();
	acquire();
	if
	:: failed -> failed = 0
	:: else ->
		work(rows);
		if
		:: savepoint()
		:: skip
		fi;
		if
		:: atomic { sell(rows) }
		:: skip
		fi;
		commit_or_abort()
	fi;
	end_of_transaction();
	goto end
}

#ifndef BROKEN				/* he is not needed to do harm */
active proctype buyer()
{
	SESSION;

end:
	begin();
	acquire();
	if
	:: failed -> failed = 0
	:: else ->
		atomic { sell(rows) }
		commit_or_abort()
	fi;
	end_of_transaction();
	goto end
}
#endif

/* Whoever needs room. */
active proctype evictor()
{
end:
	do
	:: phase == READY -> evict()
	od
}

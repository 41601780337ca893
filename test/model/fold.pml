/*
 * fold.pml
 *	  The fold beside two sellers and the owner, who rewrites balances, segments and movements
 *	  directly, behind the closed gate, as a restore would.  See ledger.inc.
 *
 * It proves: balance and unfolded movements make the truth in every snapshot, at any time, so no
 * movement is left behind in a folded segment or counted twice; and nobody is stuck.
 *
 * broken: FOLD_WITHOUT_WAIT harm
 * broken: FOLD_LISTS_BEFORE_OPEN harm
 * broken: FOLD_STARTS_WITHOUT_LIST harm
 * broken: FOLD_KEEPS_LIST harm
 * broken: FOLD_OLD_SNAPSHOT harm
 * broken: FOLD_MARKS_LATER harm
 * broken: FOLD_READS_BEFORE_GATE harm
 * broken: SEGMENT_BEFORE_GATE harm
 * broken: CACHE_WITHOUT_INVALIDATION harm
 * broken: OWNER_WITHOUT_INVALIDATION harm
 */

#define SELLERS 2
#define SEGMENTS 2

#include "ledger.inc"

/* The same truth in other rows. */
active proctype owner()
{
end:
	do
	:: atomic { !closing -> closing = 1 }
		!ANY_HOLDS;
		atomic {
			if
			:: current = 0; folded = 0; balance = truth; sum[0] = 0
			:: current = 1; folded = 0; balance = 0; sum[0] = truth
			:: current = 1; folded = 1; balance = truth; sum[0] = truth
			fi;
			sum[1] = 0;
			CHECK
		}
#ifndef OWNER_WITHOUT_INVALIDATION
		invalidate();
#endif
		closing = 0
	od
}

/*
 * empty.pml
 *	  The emptying of folded segments beside a seller and a reader, who holds a snapshot for
 *	  as long as he likes and only then adds the balance and the movements that are not folded
 *	  in it, as pg_dump does.  What is emptied is gone from every snapshot.  See ledger.inc.
 *
 * It proves: what a snapshot has to add to its balance is there as long as the snapshot lasts;
 * and nobody is stuck.
 *
 * broken: EMPTY_WITHOUT_HORIZON lost
 * broken: RETIRE_BEFORE_FOLD lost
 */

#define SELLERS 1
#define SEGMENTS 3
#define RETENTION

#include "ledger.inc"

/* pg_dump, a report, a load of a counter. */
active proctype reader()
{
end:
	do
	:: atomic { has_snapshot = 1; seen_folded = folded }
		atomic {
			assert(!lost);
			lost = 0;
			seen_folded = 0;
			has_snapshot = 0;
			is_old = 0
		}
	od
}

/*
 * locks.pml
 *	  The order in which the gate and the locks on rows are taken.
 *
 * Two callers of our functions need the row of one hold, or of one order; the owner of the tables
 * writes a row of stock directly, which the server locks before it calls the trigger that closes
 * the gate; the fold, which passes the gate, writes that row too, but lets it be when it does not
 * get it in time.
 *
 * It proves that nobody waits in a circle: the server would break it, with 40P01 for somebody.
 *
 * broken: ROW_BEFORE_GATE stuck
 * broken: FOLD_WAITS_FOR_ROW stuck
 * broken: CALLER_LOCKS_STOCK stuck
 */

#define CALLERS 2

byte passed;
bit closing;
bit hold_locked;
bit stock_locked;

#define PASS_GATE atomic { !closing -> passed++ }

active [CALLERS] proctype caller()
{
end:
	do
	:: PASS_GATE
		atomic { !hold_locked -> hold_locked = 1 }
#ifdef CALLER_LOCKS_STOCK
		atomic { !stock_locked -> stock_locked = 1 }
		stock_locked = 0;
#endif
		atomic { hold_locked = 0; passed-- }
#ifdef ROW_BEFORE_GATE
	:: atomic { !hold_locked -> hold_locked = 1 }
		PASS_GATE
		atomic { hold_locked = 0; passed-- }
#endif
	od
}

active proctype owner()
{
end:
	do
	:: atomic { !stock_locked -> stock_locked = 1 }
		closing = 1;
		passed == 0;
		/* writes */
		atomic { stock_locked = 0; closing = 0 }
	od
}

active proctype fold()
{
end:
	do
	:: PASS_GATE
		if
		:: atomic { !stock_locked -> stock_locked = 1 }
			stock_locked = 0
#ifndef FOLD_WAITS_FOR_ROW
		:: stock_locked
#endif
		fi;
		passed--
	od
}

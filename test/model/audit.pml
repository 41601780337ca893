/*
 * audit.pml
 *	  The comparison of a counter with its rows, ordflow_counter_differences() in
 *	  src/counter/holder.c, beside a seller, the owner and somebody who evicts.
 *
 * audit() passes the gate.  It copies a counter on which there is no pin, takes a snapshot, and
 * reports a difference if the counter is there still, without a pin, in the same version.
 *
 * It proves that no difference is reported where the counter is right.
 *
 * broken: AUDIT_OUTSIDE_GATE false alarm
 * broken: AUDIT_SNAPSHOT_FIRST false alarm
 * broken: AUDIT_ONCE false alarm
 * broken: VERSION_STARTS_ANEW false alarm
 */

#define SELLERS 1

bit touched;				/* has the counter's version changed since it was copied? */

#define NEW_PIN touched = 1
#ifndef VERSION_STARTS_ANEW
#define NEW_LOAD touched = 1
#endif

#include "gate.inc"

active proctype audit()
{
	short copy, snapshot;

end:
	do
	:: atomic {
			open++;
			touched = 0
		}
#ifndef AUDIT_OUTSIDE_GATE
		pass_gate();
#endif
#ifdef AUDIT_SNAPSHOT_FIRST
		snapshot = truth;
#endif
		if
		:: atomic { !locked && phase == READY && pins == 0 -> copy = value; touched = 0 }
#ifndef AUDIT_SNAPSHOT_FIRST
			snapshot = truth;
#endif
			atomic {
				!locked;
				if
#ifdef AUDIT_ONCE
				:: true -> assert(copy == snapshot)
#else
				:: phase == READY && pins == 0 && !touched -> assert(copy == snapshot)
#endif
				:: else
				fi
			}
		:: skip
		fi;
#ifndef AUDIT_OUTSIDE_GATE
		leave_gate();
#endif
		atomic { copy = 0; snapshot = 0; touched = 0; open-- }
	od
}

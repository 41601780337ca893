/*
 * gate.pml
 *	  Writes to the tables that do not go by the counter: two sellers and the owner, who may
 *	  sell and write directly in one transaction.  See gate.inc.
 *
 * It proves what counter.pml does with such writes as well: never oversold, the value of a ready
 * counter is the truth less what is in flight whenever the owner's locks are gone, nothing leaks,
 * and nobody is stuck.
 *
 * broken: WITHOUT_GATE harm
 * broken: PIN_BEFORE_GATE harm
 * broken: LEAVE_GATE_BEFORE_CALLBACK harm
 * broken: GATE_DROPS_LATE harm
 * broken: GATE_DROPS_BEFORE_UNPIN harm
 * broken: GATE_NEVER_DROPS harm
 * broken: WITHOUT_PIN harm
 */

#define SELLERS 2

#include "gate.inc"

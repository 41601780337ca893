/*
 * prepare.c
 *	  PREPARE TRANSACTION is refused once units or a coupon have moved.
 *
 * A prepared transaction outlives its session and a restart, and holds what it
 * took for as long as nobody ends it; what is counted in memory could not know of it.
 */
#include "postgres.h"

#include "access/xact.h"

#include "base/base.h"

static const char *moved = NULL;
static int	moved_level;		/* of the subtransaction that moved it; it may be rolled back */

static void
check_prepare(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_PREPARE:
			if (moved != NULL)
				ereport(ERROR,
						errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cannot prepare a transaction that has changed %s", moved),
						errhint("Commit it in one phase."));
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			moved = NULL;
			break;
		default:
			break;
	}
}

static void
subtransaction_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent,
					 void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (moved == NULL || moved_level < level)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		moved = NULL;
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		moved_level = level - 1;
}

void
ordflow_prepare_init(void)
{
	RegisterXactCallback(check_prepare, NULL);
	RegisterSubXactCallback(subtransaction_ended, NULL);
}

void
ordflow_refuse_prepare(const char *what)
{
	/* what moved first stays moved the longest */
	if (moved != NULL)
		return;
	moved = what;
	moved_level = GetCurrentTransactionNestLevel();
}

/*
 * utility.c
 *	  Commands that workers must make way for, or must hear of.
 *
 * A database with a worker in it can be neither dropped nor renamed, moved or copied:
 * the server counts the worker as a user.  So the workers of that database are sent
 * away before such a command, and kept out until its transaction ends, whatever its end.
 */
#include "postgres.h"

#include <signal.h>

#include "catalog/namespace.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/wait_event.h"

#include "worker/internal.h"

/* how long a worker may take to end by itself, and then by SIGTERM */
#define LEAVE_MS		1000
#define TERMINATE_MS	5000

#define AWAY_MAX 32

static ProcessUtility_hook_type previous_utility = NULL;

/* The databases that this transaction keeps workers out of. */
static Oid	away[AWAY_MAX];
static int	naway = 0;

/* Those whose workers start anew when this transaction has ended. */
static Oid	restarts[AWAY_MAX];
static int	nrestarts = 0;

/* Is a worker in the database, or on its way there?  pids: those that run. */
static bool
is_occupied(DatabaseSlot *slot, Oid database, pid_t *pids, int *npids)
{
	pid_t		coordinator = 0;
	bool		occupied = false;

	/* the coordinator first: it may start companions until it has gone */
	SpinLockAcquire(&slot->mutex);
	if (slot->database == database && slot->state != COORDINATOR_NONE)
	{
		occupied = true;
		coordinator = slot->pid;
	}
	SpinLockRelease(&slot->mutex);
	occupied |= ordflow_companions_present(database, pids, npids);
	if (coordinator != 0)
		pids[(*npids)++] = coordinator;
	return occupied;
}

/* False when time is up. */
static bool
wait_until_empty(DatabaseSlot *slot, Oid database, long timeout_ms)
{
	TimestampTz start = GetCurrentTimestamp();
	bool		empty = true;
	pid_t		pids[COMPANIONS_MAX + 1];
	int			npids;

	ConditionVariablePrepareToSleep(&ordflow_worker_shared->ended);
	while (empty && is_occupied(slot, database, pids, &npids))
	{
		long		left = timeout_ms -
			TimestampDifferenceMilliseconds(start, GetCurrentTimestamp());

		if (left <= 0)
			empty = false;
		else
			ConditionVariableTimedSleep(&ordflow_worker_shared->ended, left, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return empty;
}

static bool
keep_out(DatabaseSlot *slot, Oid database)
{
	Latch	   *latch;
	bool		ours;

	SpinLockAcquire(&slot->mutex);
	ours = slot->database == database;
	if (ours)
		slot->away++;
	latch = ours ? slot->latch : NULL;
	SpinLockRelease(&slot->mutex);
	if (ours)
		away[naway++] = database;
	if (latch != NULL)
		SetLatch(latch);
	return ours;
}

/*
 * Whoever may not run the command is refused by it; he does not get to send the
 * workers away.
 */
static void
send_away(const char *datname)
{
	Oid			database = get_database_oid(datname, true);
	DatabaseSlot *slot;
	pid_t		pids[COMPANIONS_MAX + 1];
	int			npids;

	if (ordflow_worker_shared == NULL || !OidIsValid(database) || naway == AWAY_MAX ||
		!object_ownercheck(DatabaseRelationId, database, GetUserId()))
		return;
	do
	{
		slot = ordflow_slot_claim(database);
		if (slot == NULL)
			return;
	} while (!keep_out(slot, database));

	ordflow_companions_alert(database);
	if (wait_until_empty(slot, database, LEAVE_MS))
		return;
	if (is_occupied(slot, database, pids, &npids))
		for (int i = 0; i < npids; i++)
			kill(pids[i], SIGTERM);
	wait_until_empty(slot, database, TERMINATE_MS);
}

/*
 * Settings of a database reach a worker when it starts: the coordinator leaves at the commit and
 * comes back; which companions there are to be it knows then.
 */
static void
restart_at_end(const char *datname)
{
	Oid			database = get_database_oid(datname, true);

	if (ordflow_worker_shared == NULL || !OidIsValid(database) || nrestarts == AWAY_MAX ||
		!object_ownercheck(DatabaseRelationId, database, GetUserId()))
		return;
	for (int i = 0; i < nrestarts; i++)
		if (restarts[i] == database)
			return;
	restarts[nrestarts++] = database;
}

static void
restart_workers(void)
{
	while (nrestarts > 0)
	{
		Oid			database = restarts[--nrestarts];
		DatabaseSlot *slot = ordflow_slot_claim(database);
		Latch	   *latch = NULL;

		if (slot == NULL)
			continue;
		SpinLockAcquire(&slot->mutex);
		if (slot->database == database)
		{
			ordflow_slot_note(slot, DT_NOBEGIN);
			slot->yield = slot->state != COORDINATOR_NONE;
			latch = slot->latch;
		}
		SpinLockRelease(&slot->mutex);
		if (latch != NULL)
			SetLatch(latch);
		ordflow_launcher_wake();
	}
}

void
ordflow_utility_at_end(bool committed)
{
	if (committed)
		restart_workers();
	nrestarts = 0;
	if (naway == 0)
		return;
	while (naway > 0)
	{
		Oid			database = away[--naway];
		DatabaseSlot *slot = ordflow_slot_find(database);

		if (slot == NULL)
			continue;
		SpinLockAcquire(&slot->mutex);
		if (slot->database == database && slot->away > 0)
		{
			slot->away--;
			/* the command may have opened to workers what was closed to them */
			ordflow_slot_note(slot, DT_NOBEGIN);
		}
		SpinLockRelease(&slot->mutex);
	}
	ordflow_launcher_wake();
}

static const char *
template_of(const CreatedbStmt *stmt)
{
	ListCell   *cell;

	foreach(cell, stmt->options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return "template1";
}

/* The database that the command wants for itself, or NULL. */
static const char *
wanted_database(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			return castNode(DropdbStmt, stmt)->dbname;
		case T_RenameStmt:
			return castNode(RenameStmt, stmt)->renameType == OBJECT_DATABASE ?
				castNode(RenameStmt, stmt)->subname : NULL;
		case T_AlterDatabaseStmt:
			return castNode(AlterDatabaseStmt, stmt)->dbname;
		case T_CreatedbStmt:
			return template_of(castNode(CreatedbStmt, stmt));
		default:
			return NULL;
	}
}

/* Does the command change what this database's coordinator goes by? */
static bool
concerns_us(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_TransactionStmt:
			return castNode(TransactionStmt, stmt)->kind == TRANS_STMT_COMMIT_PREPARED;
		case T_DropStmt:
			return castNode(DropStmt, stmt)->removeType == OBJECT_EXTENSION;
		case T_DropOwnedStmt:
			return true;
		case T_AlterExtensionStmt:
			return strcmp(castNode(AlterExtensionStmt, stmt)->extname, "ordflow") == 0;
		default:
			return false;
	}
}

static void
run_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
			DestReceiver *dest, QueryCompletion *completion)
{
	const char *database = wanted_database(pstmt->utilityStmt);
	bool		wake = false;

	if (database != NULL)
		send_away(database);
	else if (IsA(pstmt->utilityStmt, AlterDatabaseSetStmt))
		restart_at_end(castNode(AlterDatabaseSetStmt, pstmt->utilityStmt)->dbname);
	else if (concerns_us(pstmt->utilityStmt))
		wake = IsTransactionState() && OidIsValid(get_namespace_oid("ordflow", true));

	if (previous_utility)
		previous_utility(pstmt, query, read_only_tree, context, params, environment, dest,
						 completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, environment, dest,
								completion);
	if (wake)
		ordflow_wake_afresh();
}

void
ordflow_utility_init(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = run_utility;
}

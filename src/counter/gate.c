/*
 * gate.c
 *	  The gate between the counters and writes that do not go by them.
 *
 * Whoever uses counters holds the table ordflow.counter_gate RowExclusive (a lock of the fast
 * path); a direct write holds it ShareRowExclusive, from its first row to the end of its
 * transaction.  It has waited for all that was in flight, and nothing is loaded meanwhile: so to
 * drop the counters in its callback, before its locks are let go, makes all be loaded anew.
 *
 * Triggers of statements close it before a row is locked that somebody who has passed may wait for;
 * those of rows close it for logical apply, which fires no others.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "counter/internal.h"

PG_FUNCTION_INFO_V1(ordflow_counter_gate);

static object_access_hook_type previous_object_access = NULL;

/* The nesting level at which the tables were written directly; 0 = they were not. */
static int	direct_level = 0;

/*
 * The tables that statements of ours are writing.  A user's trigger on one of them may call
 * functions of ours, so they nest; and may write it too, which is no write of ours, at a depth
 * of its own.
 */
typedef struct OwnWrite
{
	Oid			table;
	int			trigger_depth;
	int			level;			/* nesting level of the subtransaction */
} OwnWrite;

#define OWN_WRITES_MAX 64

static OwnWrite own_writes[OWN_WRITES_MAX];
static int	nown_writes = 0;

/* A database whose counters mean nothing any more when this transaction has ended. */
static Oid	dropped = InvalidOid;

/* Counters to drop at the end. */
static CounterKey *forgotten = NULL;
static int	nforgotten = 0;
static int	forgotten_room = 0;

void
ordflow_counter_enter(const char *what)
{
	ordflow_require_preload();
	PreventCommandIfReadOnly("INSERT");
	PreventCommandDuringRecovery("INSERT");
	PreventCommandIfParallelMode("INSERT");
	if (direct_level > 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("%s cannot be used after a direct write to ordflow's tables in the same"
					   " transaction", what),
				errhint("Commit first."));
	ordflow_refuse_prepare(what);
	LockRelationOid(ordflow_relid("counter_gate"), RowExclusiveLock);
}

static int
trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

void
ordflow_counter_pass_gate(void)
{
	if (ordflow_counters != NULL && direct_level == 0 && !RecoveryInProgress())
		LockRelationOid(ordflow_relid("counter_gate"), RowExclusiveLock);
}

void
ordflow_counter_own_write(const char *relname)
{
	Oid			table = ordflow_relid(relname);

	if (nown_writes == OWN_WRITES_MAX)
		ereport(ERROR,
				errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
				errmsg("triggers on ordflow's tables call its functions too deeply"));
	own_writes[nown_writes++] = (OwnWrite) {
		.table = table,
		.trigger_depth = trigger_depth(),
		.level = GetCurrentTransactionNestLevel()
	};
}

void
ordflow_counter_own_write_done(void)
{
	nown_writes--;
}

/* Was the trigger fired by the innermost of them? */
static bool
is_own_write(Oid table)
{
	const OwnWrite *own;

	if (nown_writes == 0)
		return false;
	own = &own_writes[nown_writes - 1];
	return own->table == table && own->trigger_depth + 1 == trigger_depth();
}

bool
ordflow_gate_is_closed_by_us(void)
{
	return direct_level > 0;
}

static void
close_gate(void)
{
	int			level = GetCurrentTransactionNestLevel();

	ordflow_refuse_prepare("ordflow's tables");
	LockRelationOid(ordflow_relid("counter_gate"), ShareRowExclusiveLock);
	if (direct_level == 0 || level < direct_level)
		direct_level = level;
}

Datum
ordflow_counter_gate(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("counter_gate() must be called as a BEFORE trigger"));
	if (!is_own_write(RelationGetRelid(trigger->tg_relation)))
	{
		close_gate();
		/* what backends know of its rows, as of the current segment, is old at the commit */
		CacheInvalidateRelcache(trigger->tg_relation);
	}
	if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		return PointerGetDatum(NULL);
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple :
						   trigger->tg_trigtuple);
}

void
ordflow_counter_forget(CounterKind kind, int64 id)
{
	CounterKey	key = ordflow_counter_key(kind, id);

	if (nforgotten == forgotten_room)
	{
		int			more = Max(16, forgotten_room * 2);

		if (forgotten == NULL)
			forgotten = MemoryContextAlloc(TopMemoryContext, sizeof(CounterKey) * more);
		else
			forgotten = repalloc(forgotten, sizeof(CounterKey) * more);
		forgotten_room = more;
	}
	forgotten[nforgotten++] = key;
	ordflow_counter_drop(key);
}

/*
 * What is dropped for good: the oid may be given to another database, and the ids of a new
 * extension begin at 1 again.
 */
static void
object_access(ObjectAccessType access, Oid classid, Oid objectid, int subid, void *arg)
{
	if (previous_object_access)
		previous_object_access(access, classid, objectid, subid, arg);
	if (access != OAT_DROP || ordflow_counters == NULL)
		return;
	if (classid == DatabaseRelationId)
		dropped = objectid;
	else if (classid == ExtensionRelationId)
	{
		char	   *name = get_extension_name(objectid);

		if (name != NULL && strcmp(name, "ordflow") == 0)
			dropped = MyDatabaseId;
	}
}

/* Runs after this transaction's own pins were given back. */
void
ordflow_gate_at_end(void)
{
	nown_writes = 0;
	if (ordflow_counters != NULL)
	{
		if (direct_level > 0)
			ordflow_counter_drop_database(MyDatabaseId);
		if (OidIsValid(dropped))
			ordflow_counter_drop_database(dropped);
		for (int i = 0; i < nforgotten; i++)
			ordflow_counter_drop(forgotten[i]);
	}
	nforgotten = 0;
	direct_level = 0;
	dropped = InvalidOid;
}

void
ordflow_gate_at_subtransaction_end(bool committed, int level)
{
	while (!committed && nown_writes > 0 && own_writes[nown_writes - 1].level >= level)
		nown_writes--;
	if (direct_level >= level)
		direct_level = committed ? level - 1 : 0;
}

void
ordflow_gate_init(void)
{
	previous_object_access = object_access_hook;
	object_access_hook = object_access;
}

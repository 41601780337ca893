/*
 * dual_write_kept.c
 *	  The dual_write syncs that this backend has loaded, by trigger.
 *
 * Each is loaded once, which takes 0.5 ms, and again when its source or target changes or a
 * function in its expressions does.  Statements hold theirs to their end.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_trigger.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "sync/dual_write_internal.h"

#define SYNCS_FIRST 16			/* the table of kept ones grows */

typedef struct KeptSync
{
	Oid			trigger;
	DualSync   *sync;
} KeptSync;

static HTAB *kept = NULL;		/* KeptSync */
static HTAB *progresses = NULL; /* DualProgress */
static List *retired = NIL;		/* replaced while statements held them */
static uint64 changes = 0;		/* of relations, since the first sync was loaded */

static void
relation_changed(Oid relid)
{
	HASH_SEQ_STATUS status;
	KeptSync   *entry;

	changes++;
	hash_seq_init(&status, kept);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		DualSync   *sync = entry->sync;

		if (!OidIsValid(relid) || relid == sync->relation || relid == sync->root ||
			relid == sync->target)
			sync->stale = true;
	}
}

static HTAB *
create_table(const char *name, Size entry)
{
	HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = entry, .hcxt = TopMemoryContext};

	return hash_create(name, SYNCS_FIRST, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
create_tables(void)
{
	if (kept != NULL)
		return;
	if (progresses == NULL)
		progresses = create_table("ordflow dual_write progress", sizeof(DualProgress));
	kept = create_table("ordflow dual_write", sizeof(KeptSync));
	ordflow_on_relation_change(relation_changed);
}

/* The trigger that a partition's is a clone of, and the table it was made on; else itself. */
static Oid
root_trigger(Oid trigger, Oid *root)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);

	for (Oid next = trigger; OidIsValid(next);)
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(next));
		scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
		tuple = systable_getnext(scan);
		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "could not find trigger %u", next);
		trigger = next;
		*root = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
		next = ((Form_pg_trigger) GETSTRUCT(tuple))->tgparentid;
		systable_endscan(scan);
	}
	table_close(catalog, AccessShareLock);
	return trigger;
}

/*
 * The target may have been renamed, so it is what the trigger depends on.  A dump does not keep
 * that, only the name.
 */
static Oid
target_of(Oid trigger, Oid source, const char *name)
{
	Relation	catalog = table_open(DependRelationId, AccessShareLock);
	Oid			target = InvalidOid;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(TriggerRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger));
	scan = systable_beginscan(catalog, DependDependerIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);

		if (form->refclassid == RelationRelationId && form->refobjsubid == 0 &&
			form->refobjid != source)
			target = form->refobjid;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	if (OidIsValid(target))
		return target;
	return DatumGetObjectId(DirectFunctionCall1(regclassin, CStringGetDatum(name)));
}

static DualProgress *
progress_of(Oid trigger)
{
	bool		found;
	DualProgress *progress = hash_search(progresses, &trigger, HASH_ENTER, &found);

	if (!found)
		progress->xid = InvalidTransactionId;
	return progress;
}

static DualSync *
load_trigger(Relation rel, const Trigger *trigger)
{
	Oid			root = RelationGetRelid(rel);
	Oid			oid = root_trigger(trigger->tgoid, &root);
	uint64		before = changes;
	RoleSwitch	saved;
	DualSync   *sync;

	if (trigger->tgnargs < ARG_COLUMNS + 2)
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("trigger \"%s\" is none that ordflow.create_sync() made", trigger->tgname));
	SPI_connect();
	saved = ordflow_dual_write_enter(trigger->tgargs[ARG_ROLE]);
	sync = ordflow_dual_write_load(rel, root,
								   target_of(oid, root, trigger->tgargs[ARG_TARGET]),
								   trigger->tgargs, trigger->tgnargs);
	ordflow_role_leave(saved);
	SPI_finish();
	sync->progress = progress_of(oid);
	sync->stale = changes != before;
	return sync;
}

static void
release(void *arg)
{
	DualSync   *sync = arg;

	sync->users--;
}

static void
hold(DualSync *sync, MemoryContext context)
{
	MemoryContextCallback *callback = MemoryContextAlloc(context, sizeof(MemoryContextCallback));

	callback->func = release;
	callback->arg = sync;
	MemoryContextRegisterResetCallback(context, callback);
	sync->users++;
}

/* What no statement holds any more. */
static void
free_unused(void)
{
	ListCell   *cell;
	HASH_SEQ_STATUS status;
	KeptSync   *entry;

	foreach(cell, retired)
	{
		DualSync   *sync = lfirst(cell);

		if (sync->users > 0)
			continue;
		retired = foreach_delete_current(retired, cell);
		ordflow_dual_write_free(sync);
	}
	hash_seq_init(&status, kept);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		DualSync   *sync = entry->sync;

		if (!sync->stale || sync->users > 0)
			continue;
		hash_search(kept, &entry->trigger, HASH_REMOVE, NULL);
		ordflow_dual_write_free(sync);
	}
}

static bool
is_current(const DualSync *sync)
{
	if (sync->stale || (sync->filter != NULL && !sync->filter->is_valid))
		return false;
	for (int i = 0; i < sync->ncolumns; i++)
		if (sync->columns[i].expression != NULL && !sync->columns[i].expression->is_valid)
			return false;
	return true;
}

/* In the place of one that is not current. */
static void
keep(Oid trigger, DualSync *sync)
{
	bool		found;
	KeptSync   *entry = hash_search(kept, &trigger, HASH_ENTER, &found);

	if (found)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		retired = lappend(retired, entry->sync);
		MemoryContextSwitchTo(old);
	}
	entry->sync = sync;
}

DualSync *
ordflow_dual_write_sync(Relation rel, const Trigger *trigger, MemoryContext context)
{
	KeptSync   *entry;
	DualSync   *sync;

	create_tables();
	entry = hash_search(kept, &trigger->tgoid, HASH_FIND, NULL);
	if (entry != NULL && is_current(entry->sync))
		sync = entry->sync;
	else
	{
		free_unused();
		sync = load_trigger(rel, trigger);
		keep(trigger->tgoid, sync);
	}
	hold(sync, context);
	return sync;
}

/*
 * compat.h
 *	  The only place that tests the server's version.  Shims are written in
 *	  terms of the newer API.
 */
#ifndef ORDFLOW_COMPAT_H
#define ORDFLOW_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "ordflow needs PostgreSQL 15 or later"
#endif

/* object_aclcheck() replaced the check of each kind of object in PostgreSQL 16. */
#if PG_VERSION_NUM < 160000
#include "utils/acl.h"
#define object_aclcheck(classid, objectid, roleid, mode) \
	ordflow_object_aclcheck(classid, objectid, roleid, mode)
#define object_ownercheck(classid, objectid, roleid) \
	ordflow_object_ownercheck(classid, objectid, roleid)

#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_proc.h"

static inline AclResult
ordflow_object_aclcheck(Oid classid, Oid objectid, Oid roleid, AclMode mode)
{
	Assert(classid == ProcedureRelationId || classid == ForeignServerRelationId);
	return classid == ForeignServerRelationId ? pg_foreign_server_aclcheck(objectid, roleid, mode) :
		pg_proc_aclcheck(objectid, roleid, mode);
}

static inline bool
ordflow_object_ownercheck(Oid classid, Oid objectid, Oid roleid)
{
	Assert(classid == RelationRelationId || classid == DatabaseRelationId);
	return classid == DatabaseRelationId ? pg_database_ownercheck(objectid, roleid) :
		pg_class_ownercheck(objectid, roleid);
}
#endif

/* pg_noreturn, before the declaration, replaced pg_attribute_noreturn() in PostgreSQL 18. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/*
 * ExecInsertIndexTuples() was given onlySummarizing in PostgreSQL 16, where an update tells
 * by an enum which indexes need it: "which", as the update has set it.  An entry in one that
 * does not would point into the middle of a chain of versions.
 */
#if PG_VERSION_NUM < 160000
#define ordflow_update_indexes bool
#define ordflow_update_index_tuples(target, slot, estate, which) \
	list_free(ExecInsertIndexTuples(target, slot, estate, true, false, NULL, NIL))
#define ordflow_insert_index_tuples(target, slot, estate) \
	list_free(ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL))
#else
#define ordflow_update_indexes TU_UpdateIndexes
#define ordflow_update_index_tuples(target, slot, estate, which) \
	list_free(ExecInsertIndexTuples(target, slot, estate, true, false, NULL, NIL, \
									(which) == TU_Summarizing))
#define ordflow_insert_index_tuples(target, slot, estate) \
	list_free(ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL, false))
#endif

/* index_beginscan() was given a place for its instrumentation in PostgreSQL 18. */
#if PG_VERSION_NUM < 180000
#define ordflow_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, nkeys, 0)
#else
#define ordflow_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, NULL, nkeys, 0)
#endif

/*
 * A generated column may be virtual since PostgreSQL 18: in a trigger its value is not there
 * yet.
 */
#if PG_VERSION_NUM < 180000
#define ordflow_expand_generated(expr, rel) (expr)
#else
#include "rewrite/rewriteHandler.h"
#define ordflow_expand_generated(expr, rel) expand_generated_columns_in_expr(expr, rel, 1)
#endif

/* The number of this process among all that may connect, below MaxBackends. */
#if PG_VERSION_NUM < 170000
#define ordflow_proc_number (MyProc->pgprocno)
#else
#define ordflow_proc_number MyProcNumber
#endif

/* A background worker may log in as any role since PostgreSQL 17. */
#define ORDFLOW_WORKERS_NEED_LOGIN (PG_VERSION_NUM < 170000)
#if PG_VERSION_NUM < 170000
#define ORDFLOW_BYPASS_ROLELOGINCHECK 0
#else
#define ORDFLOW_BYPASS_ROLELOGINCHECK BGWORKER_BYPASS_ROLELOGINCHECK
#endif

/* The file of a relation got another name in PostgreSQL 16. */
#if PG_VERSION_NUM < 160000
#define ordflow_locator RelFileNode
#define ordflow_locator_of(rel) (&(rel)->rd_node)
#else
#define ordflow_locator RelFileLocator
#define ordflow_locator_of(rel) (&(rel)->rd_locator)
#endif

/* Replication slots were given failover and synced in PostgreSQL 17. */
#if PG_VERSION_NUM < 170000
#define ordflow_slot_create(name) \
	ReplicationSlotCreate((name), true, RS_EPHEMERAL, false)
#else
#define ordflow_slot_create(name) \
	ReplicationSlotCreate((name), true, RS_EPHEMERAL, false, false, false)
#endif

/* And an acquisition that may find them invalidated in PostgreSQL 18. */
#if PG_VERSION_NUM < 180000
#define ordflow_slot_acquire(name) ReplicationSlotAcquire((name), true)
#else
#define ordflow_slot_acquire(name) ReplicationSlotAcquire((name), true, true)
#endif

/* Why a slot is of no use any more has a name since PostgreSQL 16. */
#if PG_VERSION_NUM < 160000
#define ordflow_slot_is_invalidated(slot) ((slot)->data.invalidated_at != InvalidXLogRecPtr)
#else
#define ordflow_slot_is_invalidated(slot) ((slot)->data.invalidated != RS_INVAL_NONE)
#endif

/* The tuples of a decoded change have no wrapping since PostgreSQL 17. */
#if PG_VERSION_NUM < 170000
#define ordflow_change_tuple(buffer) ((buffer) ? &(buffer)->tuple : NULL)
#else
#define ordflow_change_tuple(buffer) (buffer)
#endif

/* Generated columns without a stored value came with PostgreSQL 18. */
#if PG_VERSION_NUM < 180000
#define ordflow_is_virtual(attribute) false
#else
#define ordflow_is_virtual(attribute) \
	((attribute)->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL)
#endif

/* LockHeldByMe() was told of stronger locks too in PostgreSQL 17. */
#if PG_VERSION_NUM < 170000
#define ordflow_lock_is_held(tag, mode) LockHeldByMe((tag), (mode))
#else
#define ordflow_lock_is_held(tag, mode) LockHeldByMe((tag), (mode), false)
#endif

/* Soft errors came in PostgreSQL 16. */
#if PG_VERSION_NUM < 160000
#define ordflow_qualified_names(text) stringToQualifiedNameList(text)
#else
#define ordflow_qualified_names(text) stringToQualifiedNameList((text), NULL)
#endif

#endif							/* ORDFLOW_COMPAT_H */

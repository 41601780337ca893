/*
 * catalog.c
 *	  Our own objects in the catalogs, the role we act as, and who acts.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/base.h"

bool		ordflow_preloaded = false;

/*
 * What pg_extension says of us.  Its rows send no invalidation of their own, but
 * CREATE, DROP and ALTER EXTENSION touch our relations or functions, so
 * the copy is dropped whenever the schema's name cache is.
 */
static struct
{
	bool		valid;
	Oid			owner;
	bool		same_version;
	char		version[64];
}			extension;

static void
extension_forget(Datum arg, int cacheid, uint32 hashvalue)
{
	extension.valid = false;
}

/* False when there is none. */
static bool
extension_read(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Datum		version;
	bool		isnull;
	bool		found;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("ordflow"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	found = HeapTupleIsValid(tuple);
	if (found)
	{
		extension.owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
		version = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel),
							   &isnull);
		strlcpy(extension.version, TextDatumGetCString(version), sizeof(extension.version));
		extension.same_version = strcmp(extension.version, ORDFLOW_VERSION) == 0;
		extension.valid = true;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

static bool
extension_exists(void)
{
	static bool registered = false;

	if (!registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, extension_forget, (Datum) 0);
		registered = true;
	}
	return extension.valid || extension_read();
}

static void
extension_ensure(void)
{
	if (!extension_exists())
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("extension \"ordflow\" is not created in this database"));
}

bool
ordflow_version_is_current(void)
{
	return extension_exists() && extension.same_version;
}

void
ordflow_require_version(void)
{
	extension_ensure();
	if (!extension.same_version && !creating_extension)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_VERSION_DIFFERS),
				errmsg("the library is ordflow %s, the extension in this database is %s",
					   ORDFLOW_VERSION, extension.version),
				errhint("Run ALTER EXTENSION ordflow UPDATE; and restart the server if it still runs the old library."));
}

void
ordflow_require_preload(void)
{
	if (!ordflow_preloaded)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NOT_PRELOADED),
				errmsg("ordflow is not preloaded"),
				errhint("Add this line to postgresql.conf, keeping what is listed there already, and restart the server: shared_preload_libraries = 'ordflow'"));
	ordflow_require_version();
}

Oid
ordflow_owner(void)
{
	extension_ensure();
	return extension.owner;
}

Oid
ordflow_relid(const char *relname)
{
	Oid			relid = get_relname_relid(relname, get_namespace_oid("ordflow", false));

	if (!OidIsValid(relid))
		elog(ERROR, "relation ordflow.%s is missing", relname);
	return relid;
}

RoleSwitch
ordflow_role_enter(Oid roleid, bool restricted)
{
	RoleSwitch	saved;
	int			sec_context;

	GetUserIdAndSecContext(&saved.userid, &saved.sec_context);
	sec_context = saved.sec_context | SECURITY_LOCAL_USERID_CHANGE;
	if (restricted)
		sec_context |= SECURITY_RESTRICTED_OPERATION;
	saved.guc_level = restricted ? NewGUCNestLevel() : 0;
	SetUserIdAndSecContext(roleid, sec_context);
	return saved;
}

void
ordflow_role_leave(RoleSwitch saved)
{
	if (saved.guc_level > 0)
		AtEOXact_GUC(false, saved.guc_level);
	SetUserIdAndSecContext(saved.userid, saved.sec_context);
}

const char *
ordflow_actor(void)
{
	if (ordflow_actor_setting[0] != '\0')
		return ordflow_actor_setting;
	return GetUserNameFromId(GetSessionUserId(), false);
}

/* ---- relations that change ---- */

#define WATCHERS_MAX 16

static void (*watchers[WATCHERS_MAX]) (Oid relid);
static int	nwatchers = 0;

static void
relation_changed(Datum arg, Oid relid)
{
	for (int i = 0; i < nwatchers; i++)
		watchers[i] (relid);
}

void
ordflow_on_relation_change(void (*callback) (Oid relid))
{
	if (nwatchers == WATCHERS_MAX)
		elog(FATAL, "out of places for those who are told of changed relations");
	if (nwatchers == 0)
		CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	watchers[nwatchers++] = callback;
}

/*
 * verbs.c
 *	  Syncs are made, changed, paused, resumed and dropped; messages are emitted.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "catalog/catalog.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "pgtime.h"

#include "base/json.h"
#include "server/server.h"
#include "sync/dual_write.h"
#include "sync/internal.h"
#include "sync/pull.h"
#include "sync/sync.h"

PG_FUNCTION_INFO_V1(ordflow_create_sync);
PG_FUNCTION_INFO_V1(ordflow_drop_sync);
PG_FUNCTION_INFO_V1(ordflow_alter_sync);
PG_FUNCTION_INFO_V1(ordflow_pause_sync);
PG_FUNCTION_INFO_V1(ordflow_resume_sync);
PG_FUNCTION_INFO_V1(ordflow_resync);
PG_FUNCTION_INFO_V1(ordflow_replay_dead_letters);
PG_FUNCTION_INFO_V1(ordflow_emit);

#define PAYLOAD_MAX (16 * 1024 * 1024)

static Statement insert_sync = {
	.sql = "INSERT INTO ordflow.syncs (name, source, server, target, mode, options, role, "
	"created_at) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, "
	"pg_catalog.clock_timestamp()) ON CONFLICT (name) DO NOTHING RETURNING sync_id",
	.nargs = 7,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID, TEXTOID}
};

static Statement insert_start = {
	.sql = "INSERT INTO ordflow.sync_starts (sync_id, relid, lsn, xid) "
	"VALUES ($1, $2, $3, pg_catalog.pg_current_xact_id())",
	.nargs = 3,
	.argtypes = {INT8OID, OIDOID, LSNOID}
};

static Statement delete_sync = {
	.sql = "WITH starts AS (DELETE FROM ordflow.sync_starts WHERE sync_id = $1), "
	"letters AS (DELETE FROM ordflow.sync_letters WHERE sync_id = $1), "
	"copies AS (DELETE FROM ordflow.sync_copies WHERE sync_id = $1), "
	"places AS (DELETE FROM ordflow.sync_copy_places WHERE sync_id = $1) "
	"DELETE FROM ordflow.syncs WHERE sync_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement set_options = {
	.sql = "UPDATE ordflow.syncs SET options = $2 WHERE sync_id = $1",
	.nargs = 2,
	.argtypes = {INT8OID, JSONBOID}
};

static Statement set_paused = {
	.sql = "UPDATE ordflow.syncs SET paused = $2, problem = NULL WHERE sync_id = $1",
	.nargs = 2,
	.argtypes = {INT8OID, BOOLOID}
};

/* A copy that was going on does not know of the gap. */
static Statement go_on = {
	.sql = "WITH stopped AS (UPDATE ordflow.sync_deliveries SET stopped = false, problem = NULL "
	"WHERE stopped AND delivery_id = $1 RETURNING server, role) "
	"UPDATE ordflow.sync_copies c SET phase = 'waiting', is_fresh = false, snapshot = NULL, "
	"lsn = NULL, restarts = c.restarts + 1, reason = 'the delivery was stopped by a gap' "
	"FROM ordflow.syncs s, stopped d WHERE c.sync_id = s.sync_id AND c.phase <> 'done' "
	"AND s.mode = 'cdc' AND s.role = d.role AND s.server IS NOT DISTINCT FROM d.server",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement ask_replay = {
	.sql = "UPDATE ordflow.sync_letters SET state = 'replay' "
	"WHERE sync_id = $1 AND state IN ('dead', 'parked')",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement merge_options = {
	.sql = "SELECT pg_catalog.jsonb_strip_nulls($1 OPERATOR(pg_catalog.||) $2)",
	.nargs = 2,
	.argtypes = {JSONBOID, JSONBOID}
};

static Statement find_delivery = {
	.sql = "SELECT delivery_id, emits FROM ordflow.sync_deliveries WHERE server = $1 AND role = $2",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

static Statement make_delivery = {
	.sql = "INSERT INTO ordflow.sync_deliveries AS d (server, role, emits) VALUES ($1, $2, true) "
	"ON CONFLICT (server, role) DO UPDATE SET emits = true RETURNING d.delivery_id",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

static Statement insert_message = {
	.sql = "INSERT INTO ordflow.outbox (server, role, topic, key, payload, at) "
	"VALUES ($1, $2, $3, $4, $5, pg_catalog.clock_timestamp())",
	.nargs = 5,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, JSONBOID}
};

void
ordflow_sync_init(void)
{
	ordflow_sync_memory_init();
	ordflow_sync_duty_init();
	ordflow_decoder_init();
	ordflow_delivery_init();
	ordflow_puller_init();
}

RoleSwitch
ordflow_sync_connect(void)
{
	RoleSwitch	saved = ordflow_role_enter(ordflow_owner(), false);

	SPI_connect();
	return saved;
}

void
ordflow_sync_disconnect(RoleSwitch saved)
{
	SPI_finish();
	ordflow_role_leave(saved);
}

/* Who calls the verb, whatever role its statements run as. */
static Oid	caller;

static void
begin_verb(const char *what)
{
	caller = GetUserId();
	ordflow_require_preload();
	PreventCommandIfReadOnly(what);
	PreventCommandDuringRecovery(what);
	ordflow_refuse_prepare("syncs");
}

/* ---- checks ---- */

static void
require_logical(void)
{
	if (wal_level < WAL_LEVEL_LOGICAL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("wal_level is not logical"),
				errhint("ALTER SYSTEM SET wal_level = logical; then restart the server."));
}

/* One that is there already, or room for it. */
static void
require_slot(void)
{
	char	   *name = ordflow_slot_name();
	bool		room = SearchNamedReplicationSlot(name, true) != NULL;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots && !room; i++)
		room = !ReplicationSlotCtl->replication_slots[i].in_use;
	LWLockRelease(ReplicationSlotControlLock);
	if (!room)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("all %d replication slots are in use", max_replication_slots),
				errhint("ALTER SYSTEM SET max_replication_slots = %d; then restart the server.",
						max_replication_slots + 5));
}

/* A materialized view's rows come late: not by a cursor. */
static bool
is_source(char kind, const char *mode)
{
	if (kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE)
		return true;
	if (kind == RELKIND_MATVIEW)
		return strcmp(mode, PULL_FULL) == 0;
	return ordflow_is_pulled(mode) && (kind == RELKIND_VIEW || kind == RELKIND_FOREIGN_TABLE);
}

/*
 * The decoder reads past privileges: so the caller must be allowed to read every row.  What is
 * pulled is read by his own queries.
 */
static void
require_source(Oid source, const char *mode)
{
	Relation	rel;
	char		kind = get_rel_relkind(source);

	if (kind == '\0')
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("relation with OID %u does not exist", source));
	rel = relation_open(source, AccessShareLock);
	if (!is_source(kind, mode))
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("\"%s\" is no table", RelationGetRelationName(rel)),
				errhint("A view or foreign table can be the source of the modes full and scheduled, a materialized view of full."));
	if (strcmp(mode, "cdc") == 0 &&
		(rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT || IsCatalogRelation(rel)))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("changes of \"%s\" are not in the WAL", RelationGetRelationName(rel)),
				errdetail("It is temporary, unlogged, or a system catalog."));
	if (pg_class_aclcheck(source, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(kind), RelationGetRelationName(rel));
	if (rel->rd_rel->relrowsecurity && !ordflow_is_pulled(mode) &&
		!object_ownercheck(RelationRelationId, source, GetUserId()) &&
		!has_bypassrls_privilege(GetUserId()))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("row level security of \"%s\" applies to role \"%s\"",
					   RelationGetRelationName(rel), GetUserNameFromId(GetUserId(), false)),
				errdetail("The WAL shows every row: a sync's role must be allowed to read them all."));
	relation_close(rel, NoLock);
}

static void
refuse_mode(const char *mode)
{
	if (strcmp(mode, "emit") == 0)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("mode \"%s\" is none of syncs", mode),
				errhint("Messages are sent by SELECT ordflow.emit(server, topic, key, payload)."));
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("there is no mode \"%s\"", mode),
			errhint("The modes are cdc, scheduled, full and dual_write."));
}

/* The sink of the server, its module loaded; NULL for tables.  As the caller. */
static const Sink *
sink_of(const char *server)
{
	ModuleConfig *config;
	const OrdflowModule *module;

	if (server == NULL)
		return NULL;
	config = ordflow_server_config(server, GetUserId());
	module = ordflow_module_load(config->module);
	if (module->sink == NULL)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("server \"%s\" of wrapper ordflow_%s cannot be the target of a sync", server,
					   config->module));
	return module->sink;
}

/*
 * Does the target lead back to the source, by syncs of tables?  A circle of dual writes ends where
 * it began, in the same transaction; one that goes through the WAL would not.
 */
static Statement leads_back = {
	.sql = "WITH RECURSIVE reached (relid, cdc) AS (SELECT $1, $3 UNION "
	"SELECT pg_catalog.to_regclass(s.target)::pg_catalog.oid, r.cdc OR s.mode <> 'dual_write' "
	"FROM ordflow.syncs s JOIN ordflow.sync_starts b USING (sync_id), reached r "
	"WHERE s.server IS NULL AND b.relid = r.relid) "
	"SELECT EXISTS (SELECT FROM reached WHERE relid = $2 AND cdc)",
	.nargs = 3,
	.argtypes = {OIDOID, OIDOID, BOOLOID}
};

static void
refuse_circle(const SyncDefinition *sync)
{
	Datum		values[3];
	bool		isnull;
	bool		circle;
	RoleSwitch	saved;
	List	   *names = ordflow_qualified_names(sync->target);

	values[0] = ObjectIdGetDatum(RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, false));
	values[1] = ObjectIdGetDatum(sync->source);
	values[2] = BoolGetDatum(strcmp(sync->mode, "dual_write") != 0);
	saved = ordflow_sync_connect();
	ordflow_execute(&leads_back, values, NULL);
	circle = DatumGetBool(ordflow_result(0, 1, &isnull));
	ordflow_sync_disconnect(saved);
	if (circle)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("the target of sync \"%s\" leads back to its source", sync->name),
				errdetail("Each change would come round again, for ever."));
}

/* The target's name with its schema, whatever the caller's search_path is. */
static char *
qualified_target(const char *target)
{
	List	   *names;
	Oid			relid;

	if (target == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("a sync without a server needs a target"),
				errhint("target => 'schema.table', a table of this database."));
	names = ordflow_qualified_names(target);
	relid = RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, true);
	if (!OidIsValid(relid))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("there is no table \"%s\"", target),
				errhint("Name it with its schema: target => 'schema.table'."));
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* ---- create_sync ---- */

static void
write_sync(SyncDefinition *sync)
{
	Datum		values[7];
	char		nulls[7];
	RoleSwitch	saved = ordflow_sync_connect();

	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(sync->name);
	values[1] = CStringGetTextDatum(quote_qualified_identifier(
			get_namespace_name(get_rel_namespace(sync->source)), get_rel_name(sync->source)));
	ORDFLOW_SET_TEXT(values, nulls, 2, sync->server);
	ORDFLOW_SET_TEXT(values, nulls, 3, sync->target);
	values[4] = CStringGetTextDatum(sync->mode);
	values[5] = JsonbPGetDatum(sync->options);
	values[6] = CStringGetTextDatum(sync->role);
	if (ordflow_execute(&insert_sync, values, nulls) == 0)
		ereport(ERROR,
				errcode(ERRCODE_DUPLICATE_OBJECT),
				errmsg("sync \"%s\" exists already", sync->name),
				errhint("SELECT ordflow.alter_sync() changes it, ordflow.drop_sync() ends it."));
	sync->sync_id = ordflow_result_int64(0, 1);
	values[0] = Int64GetDatum(sync->sync_id);
	values[1] = ObjectIdGetDatum(sync->source);
	values[2] = LSNGetDatum(GetXLogInsertRecPtr());
	ordflow_execute(&insert_start, values, NULL);
	ordflow_sync_disconnect(saved);
}

/* One that is done, or none, may be there. */
static Statement insert_copy = {
	.sql = "INSERT INTO ordflow.sync_copies AS c (sync_id, is_fresh, filter) VALUES ($1, $2, $3) "
	"ON CONFLICT (sync_id) DO UPDATE SET phase = 'waiting', is_fresh = excluded.is_fresh, "
	"filter = excluded.filter, snapshot = NULL, lsn = NULL, restarts = 0, reason = NULL, "
	"started_at = NULL, finished_at = NULL WHERE c.phase = 'done'",
	.nargs = 3,
	.argtypes = {INT8OID, BOOLOID, TEXTOID}
};

static void
ask_copy(const SyncDefinition *sync, bool is_fresh, const char *filter)
{
	Datum		values[3] = {Int64GetDatum(sync->sync_id), BoolGetDatum(is_fresh)};
	char		nulls[3] = {' ', ' ', ' '};
	RoleSwitch	saved = ordflow_sync_connect();

	ORDFLOW_SET_TEXT(values, nulls, 2, filter);
	if (ordflow_execute(&insert_copy, values, nulls) == 0)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_IN_USE),
				errmsg("a copy of sync \"%s\" is going on", sync->name),
				errhint("SELECT * FROM ordflow.sync_progress shows how far it is."));
	ordflow_sync_disconnect(saved);
}

static Statement count_same = {
	.sql = "SELECT count(*) FROM ordflow.syncs s JOIN ordflow.sync_starts b USING (sync_id) "
	"WHERE b.relid = $1 AND s.mode = 'cdc' AND s.role = $3 AND s.server IS NOT DISTINCT FROM $2",
	.nargs = 3,
	.argtypes = {OIDOID, TEXTOID, TEXTOID}
};

static void
require_room(const SyncDefinition *sync)
{
	Datum		values[3] = {ObjectIdGetDatum(sync->source)};
	char		nulls[3] = {' ', ' ', ' '};
	int64		n;
	RoleSwitch	saved = ordflow_sync_connect();

	ORDFLOW_SET_TEXT(values, nulls, 1, sync->server);
	ORDFLOW_SET_TEXT(values, nulls, 2, sync->role);
	ordflow_execute(&count_same, values, nulls);
	n = ordflow_result_int64(0, 1);
	ordflow_sync_disconnect(saved);
	if (n >= SYNC_SAME_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("a table can have at most %d syncs to one server", SYNC_SAME_MAX));
}

static void
create_cdc(SyncDefinition *sync)
{
	const Sink *sink;
	Route	   *route;

	require_logical();
	require_slot();
	require_room(sync);
	sink = sink_of(sync->server);
	if (sync->server == NULL)
	{
		sync->target = qualified_target(sync->target);
		refuse_circle(sync);
	}
	route = ordflow_route_make(sync, sink, CurrentMemoryContext);
	ordflow_route_check(route);
	/* no transaction writes before the place that is read now and commits behind it */
	LockRelationOid(sync->source, ShareLock);
	if (get_rel_relkind(sync->source) == RELKIND_PARTITIONED_TABLE)
		(void) find_all_inheritors(sync->source, ShareLock, NULL);
	write_sync(sync);
	if (route->options->copy)
		ask_copy(sync, true, NULL);
	ordflow_worker_activate(DUTY_SYNC);
	ordflow_worker_wake(DUTY_SYNC, DT_NOBEGIN);
}

static Statement add_time_zone = {
	.sql = "SELECT pg_catalog.jsonb_build_object('time_zone', $2) OPERATOR(pg_catalog.||) $1",
	.nargs = 2,
	.argtypes = {JSONBOID, TEXTOID}
};

/* The schedule's, and that of a cursor without one, is the caller's unless the options name one. */
static Jsonb *
with_time_zone(Jsonb *options)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		values[2] = {JsonbPGetDatum(options)};
	bool		isnull;
	Jsonb	   *merged;
	RoleSwitch	saved;

	values[1] = CStringGetTextDatum(pg_get_timezone_name(session_timezone));
	saved = ordflow_sync_connect();
	ordflow_execute(&add_time_zone, values, NULL);
	MemoryContextSwitchTo(context);
	merged = DatumGetJsonbPCopy(ordflow_result(0, 1, &isnull));
	ordflow_sync_disconnect(saved);
	MemoryContextSwitchTo(context);
	return merged;
}

static void
create_pulled(SyncDefinition *sync)
{
	const Sink *sink = sink_of(sync->server);
	Route	   *route;
	RoleSwitch	saved;

	if (sync->server == NULL)
	{
		sync->target = qualified_target(sync->target);
		refuse_circle(sync);
	}
	route = ordflow_route_make(sync, sink, CurrentMemoryContext);
	sync->options = with_time_zone(sync->options);
	ordflow_pull_check_sync(sync, route->options);
	ordflow_route_check(route);
	write_sync(sync);
	saved = ordflow_sync_connect();
	ordflow_pull_created(sync, ordflow_sync_options(sync->options, sink, sync->mode));
	ordflow_sync_disconnect(saved);
	ordflow_worker_activate(DUTY_SYNC);
	ordflow_worker_wake(DUTY_SYNC, DT_NOBEGIN);
}

static void
create_dual_write(SyncDefinition *sync)
{
	SyncOptions *options = ordflow_sync_options(sync->options, NULL, sync->mode);
	DualWrite	spec = {.sync = sync->name,.source = sync->source,.owner = GetUserId()};

	if (sync->server != NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("mode dual_write has no server"),
				errhint("Its target is a table of this database, which may be a foreign table."));
	sync->target = qualified_target(sync->target);
	refuse_circle(sync);
	LockRelationOid(sync->source, ShareRowExclusiveLock);
	spec.target = RangeVarGetRelid(makeRangeVarFromNameList(ordflow_qualified_names(sync->target)),
								   NoLock, false);
	spec.ncolumns = options->ncolumns;
	spec.target_columns = options->columns;
	spec.expressions = options->expressions;
	spec.filter = options->filter;
	spec.nkeys = options->nkeys;
	spec.keys = options->keys;
	write_sync(sync);
	ordflow_dual_write_create(&spec);
}

Datum
ordflow_create_sync(PG_FUNCTION_ARGS)
{
	SyncDefinition sync = {0};

	begin_verb("create_sync()");
	sync.name = ordflow_arg_text(fcinfo, 0, "name");
	ordflow_require_not_null(fcinfo, 1, "source");
	ordflow_require_not_null(fcinfo, 4, "mode");
	ordflow_require_not_null(fcinfo, 5, "options");
	sync.source = PG_GETARG_OID(1);
	if (!PG_ARGISNULL(2))
		sync.server = pstrdup(NameStr(*PG_GETARG_NAME(2)));
	sync.target = ordflow_arg_text_or_null(fcinfo, 3, "target");
	sync.mode = ordflow_arg_text(fcinfo, 4, "mode");
	sync.options = PG_GETARG_JSONB_P(5);
	sync.role = GetUserNameFromId(GetUserId(), false);
	require_source(sync.source, sync.mode);
	if (strcmp(sync.mode, "cdc") == 0)
		create_cdc(&sync);
	else if (strcmp(sync.mode, "dual_write") == 0)
		create_dual_write(&sync);
	else if (ordflow_is_pulled(sync.mode))
		create_pulled(&sync);
	else
		refuse_mode(sync.mode);
	PG_RETURN_VOID();
}

/* ---- the others ---- */

/* The sync, whose role the caller is a member of; connected. */
static SyncDefinition *
find_own(const char *name)
{
	SyncDefinition *sync = ordflow_sync_by_name(name);
	Oid			role;

	if (sync == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("there is no sync \"%s\"", name),
				errhint("SELECT name FROM ordflow.sync_status shows them."));
	role = get_role_oid(sync->role, true);
	if (!OidIsValid(role) ? !superuser_arg(caller) : !has_privs_of_role(caller, role))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be a member of role \"%s\"", sync->role),
				errdetail("It has made the sync."));
	return sync;
}

static void
tell_workers(void)
{
	ordflow_worker_wake(DUTY_SYNC, DT_NOBEGIN);
}

Datum
ordflow_drop_sync(PG_FUNCTION_ARGS)
{
	char	   *name = ordflow_arg_text(fcinfo, 0, "name");
	SyncDefinition *sync;
	Datum		id;
	RoleSwitch	saved;

	begin_verb("drop_sync()");
	saved = ordflow_sync_connect();
	sync = find_own(name);
	if (strcmp(sync->mode, "dual_write") == 0 && get_rel_name(sync->source) != NULL)
		ordflow_dual_write_drop(sync->name, sync->source);
	id = Int64GetDatum(sync->sync_id);
	if (ordflow_is_pulled(sync->mode))
		ordflow_pull_dropped(sync);
	ordflow_execute(&delete_sync, &id, NULL);
	ordflow_sync_disconnect(saved);
	tell_workers();
	PG_RETURN_VOID();
}

static Jsonb *
merged(Jsonb *old, Jsonb *changes)
{
	Datum		values[2] = {JsonbPGetDatum(old), JsonbPGetDatum(changes)};
	bool		isnull;

	ordflow_execute(&merge_options, values, NULL);
	return DatumGetJsonbPCopy(ordflow_result(0, 1, &isnull));
}

/* Triggers hold what they do: they are made anew. */
static void
alter_dual_write(SyncDefinition *sync)
{
	SyncOptions *options = ordflow_sync_options(sync->options, NULL, sync->mode);
	DualWrite	spec = {.sync = sync->name,.source = sync->source,
	.owner = get_role_oid(sync->role, false),.ncolumns = options->ncolumns,
	.target_columns = options->columns,.expressions = options->expressions,
	.filter = options->filter,.nkeys = options->nkeys,.keys = options->keys};

	LockRelationOid(sync->source, ShareRowExclusiveLock);
	spec.target = RangeVarGetRelid(makeRangeVarFromNameList(ordflow_qualified_names(sync->target)),
								   NoLock, false);
	ordflow_dual_write_drop(sync->name, sync->source);
	ordflow_dual_write_create(&spec);
}

/* Another cursor begins anew. */
static void
alter_pulled(SyncDefinition *sync, Jsonb *before)
{
	const Sink *sink = sink_of(sync->server);
	SyncOptions *old = ordflow_sync_options(before, sink, sync->mode);
	Route	   *route = ordflow_route_make(sync, sink, CurrentMemoryContext);

	ordflow_pull_check_sync(sync, route->options);
	ordflow_route_check(route);
	ordflow_pull_altered(sync, route->options, old->cursor != NULL &&
						 strcmp(old->cursor, route->options->cursor) != 0);
}

Datum
ordflow_alter_sync(PG_FUNCTION_ARGS)
{
	char	   *name = ordflow_arg_text(fcinfo, 0, "name");
	SyncDefinition *sync;
	Jsonb	   *before;
	Datum		values[2];
	RoleSwitch	saved;

	begin_verb("alter_sync()");
	ordflow_require_not_null(fcinfo, 1, "options");
	if (!JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(1)))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("options must be a JSON object"));
	saved = ordflow_sync_connect();
	sync = find_own(name);
	before = sync->options;
	sync->options = merged(before, PG_GETARG_JSONB_P(1));
	values[0] = Int64GetDatum(sync->sync_id);
	values[1] = JsonbPGetDatum(sync->options);
	ordflow_execute(&set_options, values, NULL);
	if (strcmp(sync->mode, "dual_write") == 0)
		alter_dual_write(sync);
	else if (ordflow_is_pulled(sync->mode))
		alter_pulled(sync, before);
	else
		ordflow_route_check(ordflow_route_make(sync, sink_of(sync->server),
											   CurrentMemoryContext));
	ordflow_sync_disconnect(saved);
	tell_workers();
	PG_RETURN_VOID();
}

static void
set_pause(FunctionCallInfo fcinfo, const char *what, bool paused)
{
	char	   *name = ordflow_arg_text(fcinfo, 0, "name");
	SyncDefinition *sync;
	Datum		values[2];
	RoleSwitch	saved;

	begin_verb(what);
	saved = ordflow_sync_connect();
	sync = find_own(name);
	if (strcmp(sync->mode, "dual_write") == 0)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("sync \"%s\" is of mode %s, which cannot be paused", name, sync->mode),
				errdetail("It writes in the transaction of whoever changes the source."));
	values[0] = Int64GetDatum(sync->sync_id);
	values[1] = BoolGetDatum(paused);
	ordflow_execute(&set_paused, values, NULL);
	if (!paused && !ordflow_is_pulled(sync->mode))
	{
		values[0] = Int64GetDatum(sync->delivery_id);
		ordflow_execute(&go_on, values, NULL);
	}
	ordflow_sync_disconnect(saved);
	tell_workers();
}

Datum
ordflow_pause_sync(PG_FUNCTION_ARGS)
{
	set_pause(fcinfo, "pause_sync()", true);
	PG_RETURN_VOID();
}

Datum
ordflow_resume_sync(PG_FUNCTION_ARGS)
{
	set_pause(fcinfo, "resume_sync()", false);
	PG_RETURN_VOID();
}

static Statement touch_sync = {
	.sql = "UPDATE ordflow.syncs SET name = name WHERE sync_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* Does it say of each row whether it is meant?  As the role that will ask. */
static void
check_filter(const SyncDefinition *sync, const char *filter)
{
	Oid			role = get_role_oid(sync->role, false);
	char	   *source = quote_qualified_identifier(
			get_namespace_name(get_rel_namespace(sync->source)), get_rel_name(sync->source));
	RoleSwitch	saved;
	SPIPlanPtr	plan;

	ordflow_sync_expression("filter", filter);
	saved = ordflow_role_enter(role, true);
	SPI_connect();
	plan = SPI_prepare(psprintf("SELECT FROM ONLY %s WHERE (%s\n)", source, filter), 0, NULL);
	if (plan == NULL)
		elog(ERROR, "could not prepare the filter \"%s\"", filter);
	SPI_finish();
	ordflow_role_leave(saved);
}

Datum
ordflow_resync(PG_FUNCTION_ARGS)
{
	char	   *name = ordflow_arg_text(fcinfo, 0, "name");
	char	   *filter = ordflow_arg_text_or_null(fcinfo, 1, "filter");
	SyncDefinition *sync;
	Datum		id;
	RoleSwitch	saved;

	begin_verb("resync()");
	saved = ordflow_sync_connect();
	sync = find_own(name);
	if (strcmp(sync->mode, "cdc") != 0)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("sync \"%s\" is of mode %s, whose rows cannot be sent again", name,
					   sync->mode));
	if (get_rel_name(sync->source) == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_TABLE),
				errmsg("the source of sync \"%s\" has been dropped", name));
	if (filter != NULL)
		check_filter(sync, filter);
	ask_copy(sync, false, filter);
	id = Int64GetDatum(sync->sync_id);
	ordflow_execute(&touch_sync, &id, NULL);
	ordflow_sync_disconnect(saved);
	tell_workers();
	PG_RETURN_VOID();
}

/* The sync's row is touched too: so the delivery looks behind this transaction's commit. */
Datum
ordflow_replay_dead_letters(PG_FUNCTION_ARGS)
{
	char	   *name = ordflow_arg_text(fcinfo, 0, "name");
	Datum		id;
	int64		n;
	RoleSwitch	saved;

	begin_verb("replay_dead_letters()");
	saved = ordflow_sync_connect();
	id = Int64GetDatum(find_own(name)->sync_id);
	n = ordflow_execute(&ask_replay, &id, NULL);
	if (n > 0)
		ordflow_execute(&touch_sync, &id, NULL);
	ordflow_sync_disconnect(saved);
	PG_RETURN_INT64(n);
}

/* ---- emit ---- */

/* The delivery of the server with its owner's mapping; made at the first message. */
static void
make_delivery_of(const char *server, const char *role)
{
	Datum		values[2] = {CStringGetTextDatum(server), CStringGetTextDatum(role)};
	bool		isnull;

	if (ordflow_execute(&find_delivery, values, NULL) == 1 &&
		DatumGetBool(ordflow_result(0, 2, &isnull)))
		return;
	require_slot();
	ordflow_execute(&make_delivery, values, NULL);
	ordflow_worker_activate(DUTY_SYNC);
	tell_workers();
}

/* Whose mapping is used; the caller may use the server. */
static char *
server_owner(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	if (server == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("there is no server \"%s\"", name));
	if (object_aclcheck(ForeignServerRelationId, server->serverid, caller,
						ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, name);
	return GetUserNameFromId(server->owner, false);
}

/* Once in a session for each server: the module is asked whether it is a target at all. */
static void
require_sink(const char *server, const char *role)
{
	static char checked[NAMEDATALEN] = "";
	RoleSwitch	saved;

	if (strcmp(checked, server) == 0)
		return;
	saved = ordflow_role_enter(get_role_oid(role, false), false);
	(void) sink_of(server);
	ordflow_role_leave(saved);
	strlcpy(checked, server, sizeof(checked));
}

Datum
ordflow_emit(PG_FUNCTION_ARGS)
{
	char	   *server;
	char	   *role;
	Datum		values[5];
	char		nulls[5];
	char	   *key;
	RoleSwitch	saved;

	begin_verb("emit()");
	ordflow_require_not_null(fcinfo, 0, "server");
	ordflow_require_not_null(fcinfo, 3, "payload");
	server = NameStr(*PG_GETARG_NAME(0));
	memset(nulls, ' ', sizeof(nulls));
	values[2] = CStringGetTextDatum(ordflow_arg_text(fcinfo, 1, "topic"));
	key = ordflow_arg_text_or_null(fcinfo, 2, "key");
	ORDFLOW_SET_TEXT(values, nulls, 3, key);
	values[4] = PointerGetDatum(PG_GETARG_JSONB_P(3));
	if (VARSIZE_ANY_EXHDR(DatumGetPointer(values[4])) > PAYLOAD_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("the payload has more than 16 MB"));
	require_logical();
	role = server_owner(server);
	require_sink(server, role);
	saved = ordflow_sync_connect();
	values[0] = CStringGetTextDatum(server);
	values[1] = CStringGetTextDatum(role);
	make_delivery_of(server, role);
	ordflow_execute(&insert_message, values, nulls);
	ordflow_sync_disconnect(saved);
	PG_RETURN_VOID();
}

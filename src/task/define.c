/*
 * define.c
 *	  Kinds of tasks are defined, paused, and opened to submitters.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "task/option.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_define_task);
PG_FUNCTION_INFO_V1(ordflow_grant_kind);
PG_FUNCTION_INFO_V1(ordflow_revoke_kind);
PG_FUNCTION_INFO_V1(ordflow_pause_kind);
PG_FUNCTION_INFO_V1(ordflow_resume_kind);

/* A kind that is paused stays so. */
static Statement put_kind = {
	.sql = "INSERT INTO ordflow.task_kinds AS k (kind, owner, handler, short, max_concurrent, "
	"per_key, rate, max_attempts, max_crashes, backoff, backoff_max, timeout, retention, notify, "
	"paused, defined_at) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, false, $15) "
	"ON CONFLICT (kind) DO UPDATE SET owner = excluded.owner, handler = excluded.handler, "
	"short = excluded.short, max_concurrent = excluded.max_concurrent, "
	"per_key = excluded.per_key, rate = excluded.rate, max_attempts = excluded.max_attempts, "
	"max_crashes = excluded.max_crashes, backoff = excluded.backoff, "
	"backoff_max = excluded.backoff_max, timeout = excluded.timeout, "
	"retention = excluded.retention, notify = excluded.notify, "
	"defined_at = excluded.defined_at RETURNING k.kind_id",
	.nargs = 15,
	.argtypes = {TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT4OID, INT4OID, FLOAT8OID, INT4OID,
	INT4OID, INTERVALOID, INTERVALOID, INTERVALOID, INTERVALOID, BOOLOID, TIMESTAMPTZOID}
};

static Statement set_paused = {
	.sql = "UPDATE ordflow.task_kinds SET paused = $2 WHERE kind_id = $1 AND paused <> $2",
	.nargs = 2,
	.argtypes = {INT4OID, BOOLOID}
};

static Statement put_grant = {
	.sql = "INSERT INTO ordflow.task_grants (kind_id, role) VALUES ($1, $2) ON CONFLICT DO NOTHING",
	.nargs = 2,
	.argtypes = {INT4OID, TEXTOID}
};

static Statement delete_grant = {
	.sql = "DELETE FROM ordflow.task_grants WHERE kind_id = $1 AND role = $2",
	.nargs = 2,
	.argtypes = {INT4OID, TEXTOID}
};

/* Definitions come one after the other; what the one before has written is seen. */
static void
lock_kinds(void)
{
	LockRelationOid(ordflow_relid("task_kinds"), ShareRowExclusiveLock);
}

/* All sessions are to know, and whoever waits for tasks of the kind is to look. */
static void
note_changed(int32 kind_id)
{
	TaskAction	action = {.kind = ACTION_WAKE, .kind_id = kind_id};

	ordflow_kinds_changed();
	ordflow_queue();
	ordflow_journal_room(1);
	ordflow_journal_add(&action);
}

static void
require_member(Oid role, const char *detail)
{
	if (has_privs_of_role(GetUserId(), role))
		return;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("must be a member of role \"%s\"", GetUserNameFromId(role, false)),
			errdetail("%s", detail));
}

/* ---- handlers ---- */

static void
require_login(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		can = HeapTupleIsValid(tuple) &&
		((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (can || !ORDFLOW_WORKERS_NEED_LOGIN)
		return;
	ereport(ERROR,
			errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			errmsg("role \"%s\" may not log in", GetUserNameFromId(role, false)),
			errdetail("It owns the handler, so background workers log in as it; before PostgreSQL 17 that takes the right."),
			errhint("ALTER ROLE %s LOGIN; without a password, and without a line in pg_hba.conf, nobody else can.",
					quote_identifier(GetUserNameFromId(role, false))));
}

/* The text that stands for the function, and whose it is. */
static char *
handler_text(Oid function, Oid *owner)
{
	char	   *name = get_func_name(function);

	if (name == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("function with OID %u does not exist", function));
	if (!ordflow_handler_fits(function, owner))
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("function %s cannot be the handler of tasks", name),
				errdetail("It must be a function of (payload jsonb) that returns jsonb."));
	require_member(*owner, "It owns the handler, which runs as it.");
	require_login(*owner);
	return psprintf("%s(jsonb)",
					quote_qualified_identifier(get_namespace_name(get_func_namespace(function)),
											   name));
}

/* ---- define_task ---- */

static void
set_count(Datum *values, char *nulls, int i, int32 count)
{
	values[i] = Int32GetDatum(count);
	nulls[i] = count == 0 ? 'n' : ' ';
}

static void
set_interval(Datum *values, char *nulls, int i, Interval *interval)
{
	values[i] = IntervalPGetDatum(interval);
	nulls[i] = interval == NULL ? 'n' : ' ';
}

static int32
write_kind(const char *kind, const char *owner, const char *handler, const KindOptions *options)
{
	Datum		values[15];
	char		nulls[15];
	bool		isnull;
	int32		kind_id;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = CStringGetTextDatum(kind);
	values[1] = CStringGetTextDatum(owner);
	ORDFLOW_SET_TEXT(values, nulls, 2, handler);
	values[3] = BoolGetDatum(options->is_short);
	set_count(values, nulls, 4, options->max_concurrent);
	set_count(values, nulls, 5, options->per_key);
	values[6] = Float8GetDatum(options->rate);
	nulls[6] = options->rate == 0 ? 'n' : ' ';
	values[7] = Int32GetDatum(options->max_attempts);
	values[8] = Int32GetDatum(options->max_crashes);
	values[9] = IntervalPGetDatum(options->backoff);
	values[10] = IntervalPGetDatum(options->backoff_max);
	set_interval(values, nulls, 11, options->timeout);
	set_interval(values, nulls, 12, options->retention);
	values[13] = BoolGetDatum(options->notify);
	values[14] = TimestampTzGetDatum(GetCurrentTimestamp());
	ordflow_task_own_write();
	ordflow_execute_latest(&put_kind, values, nulls);
	ordflow_task_own_write_done();
	kind_id = DatumGetInt32(ordflow_result(0, 1, &isnull));
	return kind_id;
}

Datum
ordflow_define_task(PG_FUNCTION_ARGS)
{
	bool		has_handler = !PG_ARGISNULL(1);
	Oid			owner = GetUserId();
	char	   *handler = NULL;
	KindOptions options;
	char	   *name;
	const TaskKind *replaced;
	const char *owner_name;
	bool		is_first;
	RoleSwitch	saved;

	ordflow_task_begin_verb("ordflow.define_task()");
	name = ordflow_arg_text(fcinfo, 0, "kind");
	if (has_handler)
		handler = handler_text(PG_GETARG_OID(1), &owner);
	ordflow_kind_options(fcinfo, 2, has_handler, &options);
	lock_kinds();
	is_first = ordflow_kinds_count() == 0;
	replaced = ordflow_kind_look(name);
	if (replaced != NULL)
		ordflow_kind_require_owner(replaced);
	if (replaced != NULL && !has_handler && OidIsValid(replaced->owner))
		owner = replaced->owner;
	owner_name = GetUserNameFromId(owner, false);
	saved = ordflow_task_connect();
	note_changed(write_kind(name, owner_name, handler, &options));
	ordflow_task_disconnect(saved);
	/* a copy has kinds, and sleeps until it is told to wake */
	if (is_first)
		ordflow_worker_activate(DUTY_TASK);
	PG_RETURN_VOID();
}

/* ---- pausing ---- */

static const TaskKind *
arg_own_kind(FunctionCallInfo fcinfo)
{
	const TaskKind *kind = ordflow_kind_by_name(ordflow_arg_text(fcinfo, 0, "kind"));

	ordflow_kind_require_owner(kind);
	return kind;
}

static void
pause_or_resume(FunctionCallInfo fcinfo, const char *what, bool paused)
{
	const TaskKind *kind;
	Datum		values[2];
	RoleSwitch	saved;

	ordflow_task_begin_verb(what);
	kind = arg_own_kind(fcinfo);
	values[0] = Int32GetDatum(kind->kind_id);
	values[1] = BoolGetDatum(paused);
	lock_kinds();
	saved = ordflow_task_connect();
	ordflow_task_own_write();
	if (ordflow_execute_latest(&set_paused, values, NULL) > 0)
		note_changed(kind->kind_id);
	ordflow_task_own_write_done();
	ordflow_task_disconnect(saved);
}

Datum
ordflow_pause_kind(PG_FUNCTION_ARGS)
{
	pause_or_resume(fcinfo, "ordflow.pause_kind()", true);
	PG_RETURN_VOID();
}

Datum
ordflow_resume_kind(PG_FUNCTION_ARGS)
{
	pause_or_resume(fcinfo, "ordflow.resume_kind()", false);
	PG_RETURN_VOID();
}

/* ---- grants ---- */

static const char *
arg_role(FunctionCallInfo fcinfo)
{
	Oid			role;
	char	   *name;

	ordflow_require_not_null(fcinfo, 1, "role");
	role = PG_GETARG_OID(1);
	name = GetUserNameFromId(role, true);
	if (name == NULL)
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("role with OID %u does not exist", role));
	return name;
}

static void
grant_or_revoke(FunctionCallInfo fcinfo, const char *what, Statement *statement)
{
	const TaskKind *kind;
	const char *role;
	Datum		values[2];
	RoleSwitch	saved;

	ordflow_task_begin_verb(what);
	kind = arg_own_kind(fcinfo);
	role = arg_role(fcinfo);
	values[0] = Int32GetDatum(kind->kind_id);
	values[1] = CStringGetTextDatum(role);
	saved = ordflow_task_connect();
	ordflow_task_own_write();
	ordflow_execute_latest(statement, values, NULL);
	ordflow_task_own_write_done();
	ordflow_kinds_changed();
	ordflow_task_disconnect(saved);
}

Datum
ordflow_grant_kind(PG_FUNCTION_ARGS)
{
	grant_or_revoke(fcinfo, "ordflow.grant_kind()", &put_grant);
	PG_RETURN_VOID();
}

Datum
ordflow_revoke_kind(PG_FUNCTION_ARGS)
{
	grant_or_revoke(fcinfo, "ordflow.revoke_kind()", &delete_grant);
	PG_RETURN_VOID();
}

/*
 * schedule.c
 *	  Tasks that come back: schedule_task(), and the coordinator that submits them.
 *
 * When a schedule fires, the task and the row that says so are written in one transaction, so
 * nothing is lost and nothing doubled whenever the server stops.  Whether the last task is still
 * open is not looked up: the task has a unique key, so to submit it is to find out.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "task/internal.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_schedule_task);
PG_FUNCTION_INFO_V1(ordflow_unschedule_task);

static const char *const misfires[] = {"skip", "once", "all"};
static const char *const overlaps[] = {"skip", "queue", "allow"};

static Statement find_schedule = {
	.sql = "SELECT s.owner, s.kind_id FROM ordflow.task_schedules s WHERE s.name = $1 FOR UPDATE",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

/* What waited for the last task is as old as the schedule that it belonged to. */
static Statement put_schedule = {
	.sql = "INSERT INTO ordflow.task_schedules AS s (name, schedule, kind_id, payload, time_zone, "
	"misfire, overlap, owner, last_slot, defined_at) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) "
	"ON CONFLICT (name) DO UPDATE SET schedule = excluded.schedule, kind_id = excluded.kind_id, "
	"payload = excluded.payload, time_zone = excluded.time_zone, misfire = excluded.misfire, "
	"overlap = excluded.overlap, owner = excluded.owner, last_slot = excluded.last_slot, "
	"pending = 0, defined_at = excluded.defined_at WHERE s.owner = $10",
	.nargs = 10,
	.argtypes = {TEXTOID, TEXTOID, INT4OID, JSONBOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
	TIMESTAMPTZOID, TEXTOID}
};

static Statement delete_schedule = {
	.sql = "DELETE FROM ordflow.task_schedules WHERE name = $1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static RoleSwitch
enter(void)
{
	RoleSwitch	saved = ordflow_role_enter(ordflow_owner(), false);

	SPI_connect();
	return saved;
}

static void
leave(RoleSwitch saved)
{
	SPI_finish();
	ordflow_role_leave(saved);
}

static void
begin_verb(const char *what)
{
	ordflow_require_preload();
	PreventCommandIfReadOnly(what);
	PreventCommandDuringRecovery(what);
	ordflow_refuse_prepare("schedules");
}

/*
 * The schedule of that name, locked, whose owner is returned; NULL: there is none.  42501 unless
 * the caller, who is not the current user here, may change it.
 */
static char *
require_ours(const char *name, Oid caller)
{
	Datum		values[] = {CStringGetTextDatum(name)};
	const TaskKind *kind;
	char	   *owner;
	Oid			role;
	bool		isnull;

	if (ordflow_execute_latest(&find_schedule, values, NULL) == 0)
		return NULL;
	owner = ordflow_result_text(0, 1);
	kind = ordflow_kind_by_id(DatumGetInt32(ordflow_result(0, 2, &isnull)));
	role = get_role_oid(owner, true);
	if ((!OidIsValid(role) || !has_privs_of_role(caller, role)) &&
		(kind == NULL || !OidIsValid(kind->owner) || !has_privs_of_role(caller, kind->owner)))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("schedule \"%s\" belongs to role %s", name, owner));
	return owner;
}

/* ---- schedule_task() ---- */

typedef struct ScheduleOptions
{
	const char *time_zone;
	const char *misfire;
	const char *overlap;
} ScheduleOptions;

static const char *
one_of(const char *const *words, const JsonItem *item, const char *name, const char *otherwise)
{
	if (item->null)
		return otherwise;
	for (int i = 0; i < 3; i++)
		if (strcmp(words[i], item->text) == 0)
			return words[i];
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("option %s cannot be \"%s\"", name, item->text),
			errhint("It is %s, %s or %s.", words[0], words[1], words[2]));
	return NULL;
}

static void
read_options(FunctionCallInfo fcinfo, ScheduleOptions *options)
{
	static const JsonField fields[] = {
		{"time_zone", JSON_TEXT, false},
		{"misfire", JSON_TEXT, false},
		{"overlap", JSON_TEXT, false}
	};
	JsonItem	items[lengthof(fields)];

	ordflow_require_not_null(fcinfo, 4, "options");
	ordflow_json_read(&PG_GETARG_JSONB_P(4)->root, "options", fields, lengthof(fields), items,
					  NULL);
	options->time_zone = items[0].null ? pg_get_timezone_name(session_timezone) : items[0].text;
	options->misfire = one_of(misfires, &items[1], "misfire", "once");
	options->overlap = one_of(overlaps, &items[2], "overlap", "skip");
}

/* The unique key of its tasks has a prefix. */
static char *
schedule_name(FunctionCallInfo fcinfo)
{
	char	   *name = ordflow_arg_text(fcinfo, 0, "name");

	if (strlen(SCHEDULE_KEY) + strlen(name) > ORDFLOW_TEXT_MAX)
		ereport(ERROR,
				errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				errmsg("name is too long"),
				errdetail("The name of a schedule may have %d bytes.",
						  (int) (ORDFLOW_TEXT_MAX - strlen(SCHEDULE_KEY))));
	return name;
}

static void
require_times(const char *schedule, const char *time_zone, TimestampTz now)
{
	Crontab		crontab;
	pg_tz	   *zone = ordflow_crontab_zone(time_zone);

	ordflow_crontab_parse(schedule, &crontab, NULL);
	if (zone == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("time zone \"%s\" is not known", time_zone));
	if (ordflow_crontab_next(&crontab, zone, now) == DT_NOEND)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("schedule \"%s\" has no time", schedule));
}

/* Where there was none, and somebody else was faster, it is his, and we look again. */
static void
put(const char *name, Datum *values, Oid caller)
{
	uint64		n;

	do
	{
		const char *owner = require_ours(name, caller);

		values[9] = CStringGetTextDatum(owner == NULL ? "" : owner);
		ordflow_task_own_write();
		n = ordflow_execute_latest(&put_schedule, values, NULL);
		ordflow_task_own_write_done();
	} while (n == 0);
}

Datum
ordflow_schedule_task(PG_FUNCTION_ARGS)
{
	Oid			caller = GetUserId();
	TimestampTz now = GetCurrentTimestamp();
	const char *name;
	const char *schedule;
	const TaskKind *kind;
	ScheduleOptions options;
	RoleSwitch	saved;
	Datum		values[10];

	begin_verb("ordflow.schedule_task()");
	name = schedule_name(fcinfo);
	schedule = ordflow_arg_text(fcinfo, 1, "schedule");
	kind = ordflow_kind_by_name(ordflow_arg_text(fcinfo, 2, "kind"));
	ordflow_require_not_null(fcinfo, 3, "payload");
	if (VARSIZE(PG_GETARG_JSONB_P(3)) > TASK_PAYLOAD_MAX)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("a payload may have at most %d bytes", TASK_PAYLOAD_MAX));
	read_options(fcinfo, &options);
	ordflow_kind_require_submit(kind);
	require_times(schedule, options.time_zone, now);
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(schedule);
	values[2] = Int32GetDatum(kind->kind_id);
	values[3] = PG_GETARG_DATUM(3);
	values[4] = CStringGetTextDatum(options.time_zone);
	values[5] = CStringGetTextDatum(options.misfire);
	values[6] = CStringGetTextDatum(options.overlap);
	values[7] = CStringGetTextDatum(GetUserNameFromId(caller, false));
	values[8] = TimestampTzGetDatum(now);
	saved = enter();
	put(name, values, caller);
	leave(saved);
	ordflow_worker_wake(DUTY_TASK, DT_NOBEGIN);
	PG_RETURN_VOID();
}

Datum
ordflow_unschedule_task(PG_FUNCTION_ARGS)
{
	Oid			caller = GetUserId();
	const char *name;
	RoleSwitch	saved;
	Datum		values[1];
	bool		found;

	begin_verb("ordflow.unschedule_task()");
	name = ordflow_arg_text(fcinfo, 0, "name");
	values[0] = CStringGetTextDatum(name);
	saved = enter();
	found = require_ours(name, caller) != NULL;
	ordflow_task_own_write();
	found = found && ordflow_execute_latest(&delete_schedule, values, NULL) > 0;
	ordflow_task_own_write_done();
	leave(saved);
	ordflow_worker_wake(DUTY_TASK, DT_NOBEGIN);
	PG_RETURN_BOOL(found);
}

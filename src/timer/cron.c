/*
 * cron.c
 *	  The timer driver pg_cron: a job that calls run_due(), where that extension is.
 *
 * pg_cron keeps its jobs in a table of one database of the server, and runs them as the
 * role that scheduled them.  We are its user there like any other, by SQL.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/base.h"
#include "timer/internal.h"

PG_FUNCTION_INFO_V1(ordflow_schedule_run_due);
PG_FUNCTION_INFO_V1(ordflow_unschedule_run_due);

/* Each turn is a transaction of its own, so that locks and a failure are of a thousand rows. */
#define COMMAND \
	"DO $$ BEGIN WHILE ordflow.run_due() > 0 LOOP COMMIT; END LOOP; END $$"

static object_access_hook_type previous_object_access = NULL;

static char *
job_name(void)
{
	return psprintf("ordflow run_due %s", get_database_name(MyDatabaseId));
}

/* How to get there from here, as a sentence. */
static char *
way_to_cron(const char *schedule)
{
	const char *home = GetConfigOption("cron.database_name", true, false);
	char	   *here = get_database_name(MyDatabaseId);

	if (home == NULL)
		return psprintf("Install pg_cron (Debian: postgresql-" PG_MAJORVERSION "-cron), "
						"add it to shared_preload_libraries with cron.database_name = %s, "
						"restart the server and CREATE EXTENSION pg_cron here; "
						"or have any other scheduler call ordflow.run_due().",
						quote_literal_cstr(here));
	if (strcmp(home, here) == 0)
		return pstrdup("CREATE EXTENSION pg_cron;");
	return psprintf("Where pg_cron lives, in database %s: "
					"SELECT cron.schedule_in_database(%s, %s, %s, %s);",
					quote_identifier(home), quote_literal_cstr(job_name()),
					quote_literal_cstr(schedule), quote_literal_cstr(COMMAND),
					quote_literal_cstr(here));
}

static void
require_cron(const char *schedule)
{
	if (!OidIsValid(get_extension_oid("pg_cron", true)))
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("extension \"pg_cron\" is not created in this database"),
				errhint("%s", way_to_cron(schedule)));
}

/* Runs a statement of pg_cron's; what it returns in its first row, or NULL. */
static char *
run(const char *sql, int nargs, const char *const *args)
{
	Oid			types[3] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[3];

	Assert(nargs <= lengthof(values));
	for (int i = 0; i < nargs; i++)
		values[i] = CStringGetTextDatum(args[i]);
	if (SPI_execute_with_args(sql, nargs, types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not run: %s", sql);
	return SPI_processed == 0 || SPI_tuptable == NULL ? NULL :
		SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

Datum
ordflow_schedule_run_due(PG_FUNCTION_ARGS)
{
	const char *args[3];
	char	   *job;
	int64		id;

	ordflow_require_preload();
	args[0] = job_name();
	args[1] = ordflow_arg_text(fcinfo, 0, "schedule");
	args[2] = COMMAND;
	require_cron(args[1]);

	SPI_connect();
	job = run("SELECT cron.schedule($1, $2, $3)", 3, args);
	id = job ? pg_strtoint64(job) : 0;
	SPI_finish();
	PG_RETURN_INT64(id);
}

Datum
ordflow_unschedule_run_due(PG_FUNCTION_ARGS)
{
	const char *args[] = {job_name()};
	bool		found;

	ordflow_require_version();
	require_cron("* * * * *");

	SPI_connect();
	found = run("SELECT cron.unschedule(jobid) FROM cron.job "
				"WHERE jobname = $1 AND username = current_user", 1, args) != NULL;
	SPI_finish();
	PG_RETURN_BOOL(found);
}

/* The role that owns pg_cron, whose table of jobs shows it the jobs of all. */
static Oid
owner_of_cron(void)
{
	Oid			schema = get_namespace_oid("cron", true);
	Oid			jobs = OidIsValid(schema) ? get_relname_relid("job", schema) : InvalidOid;
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(jobs));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/*
 * Whoever drops ordflow need not be who scheduled.  Looks first: where pg_cron is created but not
 * loaded, its table cannot be written, and there is nothing of ours in it.
 */
static void
remove_jobs(void)
{
	const char *args[2] = {job_name(), get_database_name(MyDatabaseId)};
	Oid			owner;
	RoleSwitch	saved;

	if (!OidIsValid(get_extension_oid("pg_cron", true)))
		return;
	owner = owner_of_cron();
	if (!OidIsValid(owner))
		return;
	saved = ordflow_role_enter(owner, false);
	SPI_connect();
	if (run("SELECT 1 FROM cron.job WHERE jobname = $1 AND database = $2", 2, args) != NULL)
		run("DELETE FROM cron.job WHERE jobname = $1 AND database = $2", 2, args);
	SPI_finish();
	ordflow_role_leave(saved);
}

static void
object_access(ObjectAccessType access, Oid classid, Oid objectid, int subid, void *arg)
{
	char	   *name;

	if (previous_object_access)
		previous_object_access(access, classid, objectid, subid, arg);
	if (access != OAT_DROP || classid != ExtensionRelationId)
		return;
	name = get_extension_name(objectid);
	if (name != NULL && strcmp(name, "ordflow") == 0)
		remove_jobs();
}

void
ordflow_cron_init(void)
{
	previous_object_access = object_access_hook;
	object_access_hook = object_access;
}

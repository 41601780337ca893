/*
 * access.c
 *	  grant_access, revoke_access and what the library says of itself.
 *
 * The list of privileges is data: ordflow.parts, in grants.sql.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "base/base.h"

PG_FUNCTION_INFO_V1(ordflow_grant_access);
PG_FUNCTION_INFO_V1(ordflow_revoke_access);
PG_FUNCTION_INFO_V1(ordflow_library);

static Statement read_part = {
	.sql = "SELECT privilege, object FROM ordflow.parts WHERE part = $1 ORDER BY 1, 2",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

/*
 * What the parts that a role still holds need of the objects of the part that was
 * revoked: the schema, and columns, whose privileges go with their table's.
 */
static Statement read_shared = {
	.sql = "SELECT DISTINCT o.privilege, o.object FROM ordflow.parts o WHERE o.part <> $1 "
	"AND o.object IN (SELECT object FROM ordflow.parts WHERE part = $1) "
	"AND EXISTS (SELECT FROM ordflow.parts f, pg_proc p, aclexplode(p.proacl) a "
	"WHERE f.part = o.part AND a.grantee = $2 AND p.oid = "
	"CASE f.privilege WHEN 'EXECUTE' THEN substr(f.object, strpos(f.object, ' ') + 1)::regprocedure END) ORDER BY 1, 2",
	.nargs = 2,
	.argtypes = {TEXTOID, OIDOID}
};

static Statement part_names = {
	.sql = "SELECT string_agg(DISTINCT part, ', ' ORDER BY part) FROM ordflow.parts",
};

static void
unknown_part(const char *part)
{
	ordflow_execute(&part_names, NULL, NULL);
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("there is no part \"%s\"", part),
			errhint("The parts are %s.", ordflow_result_text(0, 1)));
}

/*
 * Privileges that a script of an extension grants are part of the extension, and left out by
 * pg_dump.  Those of a role are the user's, so that an update script can grant them anew.
 */
static void
run_as_of_the_user(char **commands, uint64 n)
{
	bool		in_script = creating_extension;

	creating_extension = false;
	PG_TRY();
	{
		for (uint64 i = 0; i < n; i++)
			SPI_execute(commands[i], false, 0);
	}
	PG_FINALLY();
	{
		creating_extension = in_script;
	}
	PG_END_TRY();
}

/* Runs a command for each privilege and object that the statement finds; returns how many. */
static uint64
run_for_each(Statement *statement, Datum *values, const char *format, Oid roleid)
{
	const char *role = quote_identifier(GetUserNameFromId(roleid, false));
	uint64		n = ordflow_execute(statement, values, NULL);
	char	  **commands = palloc(sizeof(char *) * Max(n, 1));

	for (uint64 i = 0; i < n; i++)
		commands[i] = psprintf(format, ordflow_result_text(i, 1), ordflow_result_text(i, 2), role);
	run_as_of_the_user(commands, n);
	return n;
}

static Datum
change_access(FunctionCallInfo fcinfo, const char *format, bool keep_shared)
{
	Datum		values[2];
	char	   *part;
	Oid			roleid;

	ordflow_require_version();
	ordflow_require_not_null(fcinfo, 0, "role");
	part = ordflow_arg_text(fcinfo, 1, "part");
	roleid = PG_GETARG_OID(0);

	SPI_connect();
	values[0] = CStringGetTextDatum(part);
	values[1] = ObjectIdGetDatum(roleid);
	if (run_for_each(&read_part, values, format, roleid) == 0)
		unknown_part(part);
	if (keep_shared)
		run_for_each(&read_shared, values, "GRANT %s ON %s TO %s", roleid);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
ordflow_grant_access(PG_FUNCTION_ARGS)
{
	return change_access(fcinfo, "GRANT %s ON %s TO %s", false);
}

Datum
ordflow_revoke_access(PG_FUNCTION_ARGS)
{
	return change_access(fcinfo, "REVOKE %s ON %s FROM %s", true);
}

Datum
ordflow_library(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	values[0] = CStringGetTextDatum(ORDFLOW_VERSION);
	values[1] = BoolGetDatum(ordflow_preloaded);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

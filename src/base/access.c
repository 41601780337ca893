/*
 * access.c
 *	  grant_access, revoke_access and what the library says of itself.
 *
 * The list of privileges is data: ordflow.parts, in grants.sql.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
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

/* Objects of the part that no other part the role holds needs: all but the schema, mostly. */
static Statement read_part_to_revoke = {
	.sql = "SELECT p.privilege, p.object FROM ordflow.parts p WHERE p.part = $1 "
	"AND NOT (p.object = 'SCHEMA ordflow' AND EXISTS (SELECT FROM ordflow.parts o "
	"WHERE o.part <> $1 AND o.privilege = 'EXECUTE' "
	"AND has_function_privilege($2, substr(o.object, 10), 'EXECUTE'))) ORDER BY 1, 2",
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

static Datum
change_access(FunctionCallInfo fcinfo, Statement *statement, const char *format)
{
	Datum		values[2];
	char	   *part;
	const char *role;
	uint64		n;
	char	  **commands;

	ordflow_require_version();
	ordflow_require_not_null(fcinfo, 0, "role");
	part = ordflow_arg_text(fcinfo, 1, "part");
	role = quote_identifier(GetUserNameFromId(PG_GETARG_OID(0), false));

	SPI_connect();
	values[0] = CStringGetTextDatum(part);
	values[1] = ObjectIdGetDatum(PG_GETARG_OID(0));
	n = ordflow_execute(statement, values, NULL);
	if (n == 0)
		unknown_part(part);

	commands = palloc(sizeof(char *) * n);
	for (uint64 i = 0; i < n; i++)
		commands[i] = psprintf(format, ordflow_result_text(i, 1), ordflow_result_text(i, 2), role);
	for (uint64 i = 0; i < n; i++)
		SPI_execute(commands[i], false, 0);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
ordflow_grant_access(PG_FUNCTION_ARGS)
{
	return change_access(fcinfo, &read_part, "GRANT %s ON %s TO %s");
}

Datum
ordflow_revoke_access(PG_FUNCTION_ARGS)
{
	return change_access(fcinfo, &read_part_to_revoke, "REVOKE %s ON %s FROM %s");
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

/*
 * options.c
 *	  The options of servers and user mappings: one table, and the validators of the
 *	  wrappers, which all read it.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "server/internal.h"

PG_FUNCTION_INFO_V1(ordflow_server_validator);

#define TIMEOUT_MAX 60
#define HEARTBEAT_MAX 3600
#define SECRET_MAX	8192		/* bytes; as of a file */

const ServerOption ordflow_server_options_known[] = {
	{"redis", ON_SERVER, "host", OPTION_TEXT, "127.0.0.1"},
	{"redis", ON_SERVER, "port", OPTION_INT, "6379", 1, 65535},
	{"redis", ON_SERVER, "database", OPTION_INT, "0", 0, 1000000},
	{"redis", ON_SERVER, "prefix", OPTION_TEXT, "ordflow"},
	{"redis", ON_SERVER, "tls", OPTION_BOOLEAN, "off"},
	{"redis", ON_SERVER, "tls_ca", OPTION_FILE},
	{"redis", ON_SERVER, "timeout", OPTION_INT, "5", 1, TIMEOUT_MAX},
	{"redis", ON_MAPPING, "username", OPTION_TEXT},
	{"redis", ON_MAPPING, "password", OPTION_SECRET},
	{"redis", ON_MAPPING, "password_file", OPTION_SECRET_FILE},
	{"redis", ON_MAPPING, "password_env", OPTION_SECRET_ENV},
	{"amqp", ON_SERVER, "host", OPTION_TEXT, "127.0.0.1"},
	{"amqp", ON_SERVER, "port", OPTION_INT, "5672", 1, 65535},
	{"amqp", ON_SERVER, "vhost", OPTION_TEXT, "/"},
	{"amqp", ON_SERVER, "prefix", OPTION_TEXT, "ordflow"},
	{"amqp", ON_SERVER, "heartbeat", OPTION_INT, "30", 1, HEARTBEAT_MAX},
	{"amqp", ON_SERVER, "timeout", OPTION_INT, "5", 1, TIMEOUT_MAX},
	{"amqp", ON_SERVER, "tls", OPTION_BOOLEAN, "off"},
	{"amqp", ON_SERVER, "tls_ca", OPTION_FILE},
	{"amqp", ON_MAPPING, "username", OPTION_TEXT, "guest"},
	{"amqp", ON_MAPPING, "password", OPTION_SECRET},
	{"amqp", ON_MAPPING, "password_file", OPTION_SECRET_FILE},
	{"amqp", ON_MAPPING, "password_env", OPTION_SECRET_ENV},
	{"script", ON_SERVER, "path", OPTION_WRITTEN},
	{"postgres", ON_SERVER, "host", OPTION_TEXT, "127.0.0.1"},
	{"postgres", ON_SERVER, "port", OPTION_INT, "5432", 1, 65535},
	{"postgres", ON_SERVER, "dbname", OPTION_TEXT, "postgres"},
	{"postgres", ON_SERVER, "schema", OPTION_TEXT, "public"},
	{"postgres", ON_SERVER, "prefix", OPTION_TEXT, "ordflow"},
	{"postgres", ON_SERVER, "timeout", OPTION_INT, "5", 1, TIMEOUT_MAX},
	{"postgres", ON_SERVER, "sslmode", OPTION_CHOICE, "prefer", .choices =
	"disable, allow, prefer, require, verify-ca, verify-full"},
	{"postgres", ON_SERVER, "sslrootcert", OPTION_FILE},
	{"postgres", ON_SERVER, "sslcert", OPTION_FILE},
	{"postgres", ON_SERVER, "sslkey", OPTION_FILE},
	{"postgres", ON_SERVER, "password_required", OPTION_GUARD, "on"},
	{"postgres", ON_MAPPING, "user", OPTION_TEXT},
	{"postgres", ON_MAPPING, "password", OPTION_SECRET},
	{"postgres", ON_MAPPING, "password_file", OPTION_SECRET_FILE},
	{"postgres", ON_MAPPING, "password_env", OPTION_SECRET_ENV},
	{"script", ON_SERVER, "timeout", OPTION_INT, "5", 1, TIMEOUT_MAX},
};

const int	ordflow_server_noptions_known = lengthof(ordflow_server_options_known);

static const ServerOption *
find_option(const char *module, OptionPlace place, const char *name)
{
	for (int i = 0; i < ordflow_server_noptions_known; i++)
	{
		const ServerOption *option = &ordflow_server_options_known[i];

		if (option->place == place && strcmp(option->module, module) == 0 &&
			strcmp(option->name, name) == 0)
			return option;
	}
	return NULL;
}

static char *
valid_names(const char *module, OptionPlace place)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < ordflow_server_noptions_known; i++)
	{
		const ServerOption *option = &ordflow_server_options_known[i];

		if (option->place == place && strcmp(option->module, module) == 0)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", option->name);
	}
	return names.data;
}

static void
refuse_unknown(const char *module, OptionPlace place, const char *name)
{
	char	   *names = valid_names(module, place);
	const char *detail = NULL;

	if (place == ON_SERVER && find_option(module, ON_MAPPING, name))
		detail = "It is an option of user mappings: CREATE USER MAPPING ... OPTIONS (...).";
	else if (place == ON_MAPPING && find_option(module, ON_SERVER, name))
		detail = "It is an option of servers: CREATE SERVER ... OPTIONS (...).";

	ereport(ERROR,
			errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			errmsg("invalid option \"%s\"", name),
			detail ? errdetail_internal("%s", detail) : 0,
			names[0] != '\0' ? errhint("Valid options here are: %s.", names) :
			errhint("There are no valid options here."));
}

static bool
is_seconds(const ServerOption *option)
{
	return option->max == TIMEOUT_MAX || option->max == HEARTBEAT_MAX;
}

static bool
is_choice(const ServerOption *option, const char *value)
{
	size_t		length = strlen(value);

	for (const char *at = strstr(option->choices, value); at; at = strstr(at + 1, value))
		if ((at == option->choices || at[-1] == ' ') && (at[length] == ',' || at[length] == '\0'))
			return true;
	return false;
}

/* What a value must be, as a sentence; NULL when it is that. */
static const char *
value_problem(const ServerOption *option, const char *value)
{
	bool		on;
	char	   *end;
	long		number;

	if (value[0] == '\0')
		return "It may not be empty; leave the option out instead.";
	switch (option->kind)
	{
		case OPTION_INT:
			errno = 0;
			number = strtol(value, &end, 10);
			if (errno != 0 || *end != '\0' || number < option->min || number > option->max)
				return psprintf("It is a whole number from %d to %d%s.", option->min, option->max,
								is_seconds(option) ? ", in seconds" : "");
			return NULL;
		case OPTION_CHOICE:
			return is_choice(option, value) ? NULL : psprintf("It is one of %s.", option->choices);
		case OPTION_BOOLEAN:
		case OPTION_GUARD:
			return parse_bool(value, &on) ? NULL : "It is on or off.";
		case OPTION_FILE:
		case OPTION_WRITTEN:
		case OPTION_SECRET_FILE:
			return is_absolute_path(value) ? NULL :
				"It is an absolute path on the server's machine.";
		case OPTION_SECRET:
			return strlen(value) <= SECRET_MAX ? NULL :
				psprintf("It has at most %d bytes.", SECRET_MAX);
		default:
			return strlen(value) <= ORDFLOW_TEXT_MAX ? NULL :
				psprintf("It has at most %d bytes.", ORDFLOW_TEXT_MAX);
	}
}

static void
check_value(const ServerOption *option, const char *value)
{
	const char *problem = value_problem(option, value);

	if (problem != NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				option->kind == OPTION_SECRET ?
				errmsg("invalid value for option \"%s\"", option->name) :
				errmsg("invalid value for option \"%s\": \"%s\"", option->name, value),
				errhint("%s", problem));
}

void
ordflow_options_require_files(Oid role, const char *option)
{
	if (!has_privs_of_role(role, ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("role \"%s\" may not use the option \"%s\"",
					   GetUserNameFromId(role, false), option),
				errdetail("Only members of pg_read_server_files may name files and environment variables of the server."));
}

void
ordflow_options_require_writing(Oid role, const char *option)
{
	if (!has_privs_of_role(role, ROLE_PG_WRITE_SERVER_FILES))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("role \"%s\" may not use the option \"%s\"",
					   GetUserNameFromId(role, false), option),
				errdetail("Only members of pg_write_server_files may have files written on the server."));
}

void
ordflow_options_require_superuser(Oid role, const char *option)
{
	if (!superuser_arg(role))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("role \"%s\" may not switch off the option \"%s\"",
					   GetUserNameFromId(role, false), option),
				errdetail("Without it the server's own identity is lent to whoever uses it: only superusers may."));
}

static bool
is_off(const ServerOption *option, const char *value)
{
	return strcmp(ordflow_option_normal(option, value), "off") == 0;
}

void
ordflow_options_check(const char *module, OptionPlace place, List *options)
{
	const char *secret = NULL;
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *given = lfirst(cell);
		const ServerOption *option = find_option(module, place, given->defname);

		if (option == NULL)
			refuse_unknown(module, place, given->defname);
		if (OPTION_IS_OF_MACHINE(option->kind))
			ordflow_options_require_files(GetUserId(), option->name);
		if (option->kind == OPTION_WRITTEN)
			ordflow_options_require_writing(GetUserId(), option->name);
		check_value(option, defGetString(given));
		if (option->kind == OPTION_GUARD && is_off(option, defGetString(given)))
			ordflow_options_require_superuser(GetUserId(), option->name);
		if (option->kind < OPTION_SECRET || option->kind > OPTION_SECRET_ENV)
			continue;
		if (secret != NULL)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("options \"%s\" and \"%s\" exclude each other", secret, option->name),
					errhint("Take one of them out: ALTER USER MAPPING ... OPTIONS (DROP %s).",
							secret));
		secret = option->name;
	}
}

const char *
ordflow_option_normal(const ServerOption *option, const char *value)
{
	bool		on;

	if (value == NULL || (option->kind != OPTION_BOOLEAN && option->kind != OPTION_GUARD))
		return value;
	return parse_bool(value, &on) && on ? "on" : "off";
}

/*
 * The validator of every wrapper.  PostgreSQL does not tell which it is called for, so each has
 * a name of its own in SQL: <module>_options.
 */
Datum
ordflow_server_validator(PG_FUNCTION_ARGS)
{
	char	   *name = get_func_name(fcinfo->flinfo->fn_oid);
	char	   *suffix;
	Oid			catalog;
	OptionPlace place;

	ordflow_require_not_null(fcinfo, 0, "options");
	ordflow_require_not_null(fcinfo, 1, "catalog");
	catalog = PG_GETARG_OID(1);
	suffix = strrchr(name, '_');
	if (suffix == NULL || strcmp(suffix, "_options") != 0)
		elog(ERROR, "the validator of a wrapper has been renamed to \"%s\"", name);
	*suffix = '\0';
	place = catalog == ForeignServerRelationId ? ON_SERVER :
		catalog == UserMappingRelationId ? ON_MAPPING : NOWHERE;

	ordflow_options_check(name, place, untransformRelOptions(PG_GETARG_DATUM(0)));

	/* no error: a dump must be restored where the module is still to be installed */
	if (place == ON_SERVER && !ordflow_module_installed(name))
		ereport(WARNING,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("module ordflow_%s is not installed", name),
				errhint("Nothing can use the server until it is: see SELECT * FROM ordflow.modules();"));
	PG_RETURN_VOID();
}

/*
 * server.c
 *	  A server as a module is told of it: options, defaults, and secrets from where they are.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/syscache.h"

#include "server/internal.h"

PG_FUNCTION_INFO_V1(ordflow_server_options);

#define WRAPPER_PREFIX	"ordflow_"
#define SECRET_BYTES_MAX 8192

/* A mapping's options, and whose they are. */
typedef struct Mapping
{
	List	   *options;
	Oid			user;			/* invalid: PUBLIC's, or there is none */
} Mapping;

const char *
ordflow_wrapper_module(const char *wrapper)
{
	if (strncmp(wrapper, WRAPPER_PREFIX, strlen(WRAPPER_PREFIX)) != 0)
		return NULL;
	wrapper += strlen(WRAPPER_PREFIX);
	for (int i = 0; i < ordflow_nmodules_known; i++)
		if (strcmp(ordflow_modules_known[i].name, wrapper) == 0)
			return ordflow_modules_known[i].name;
	return NULL;
}

static ForeignServer *
find_server(const char *name, Oid user, const char **module)
{
	ForeignServer *server = GetForeignServerByName(name, true);
	char	   *wrapper;

	if (server == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("there is no server \"%s\"", name),
				errhint("Make it by CREATE SERVER %s FOREIGN DATA WRAPPER ordflow_redis OPTIONS (...).",
						quote_identifier(name)));
	wrapper = GetForeignDataWrapper(server->fdwid)->fdwname;
	*module = ordflow_wrapper_module(wrapper);
	if (*module == NULL)
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("server \"%s\" is none of ordflow's: its wrapper is \"%s\"", name, wrapper),
				errhint("Make one by CREATE SERVER ... FOREIGN DATA WRAPPER ordflow_redis OPTIONS (...)."));
	if (object_aclcheck(ForeignServerRelationId, server->serverid, user, ACL_USAGE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, name);
	return server;
}

/* False when that user has none. */
static bool
read_mapping(Oid server, Oid user, Mapping *mapping)
{
	HeapTuple	tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(user),
										ObjectIdGetDatum(server));
	Datum		options;
	bool		isnull;

	if (!HeapTupleIsValid(tuple))
		return false;
	options = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions,
							  &isnull);
	mapping->options = isnull ? NIL : untransformRelOptions(options);
	mapping->user = user;
	ReleaseSysCache(tuple);
	return true;
}

static Mapping
find_mapping(Oid server, Oid user)
{
	Mapping		mapping = {0};

	if (!read_mapping(server, user, &mapping))
		read_mapping(server, InvalidOid, &mapping);
	return mapping;
}

static const char *
given_value(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *given = lfirst(cell);

		if (strcmp(given->defname, name) == 0)
			return defGetString(given);
	}
	return NULL;
}

/*
 * Who may name files may have lost that right since, and whoever owns the server decides where
 * the secret is sent.
 */
static void
require_files(const ForeignServer *server, const Mapping *mapping, const char *option)
{
	ordflow_options_require_files(server->owner, option);
	if (mapping != NULL && OidIsValid(mapping->user))
		ordflow_options_require_files(mapping->user, option);
}

/* A pipe would be waited for, a device might have no end: a secret stands in a plain file. */
static const char *
secret_of_file(const char *path)
{
	char	   *secret = palloc(SECRET_BYTES_MAX + 1);
	struct stat st;
	FILE	   *file;
	size_t		n;

	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		ereport(ERROR,
				errcode(ERRCODE_WRONG_OBJECT_TYPE),
				errmsg("password_file \"%s\" is no regular file", path));
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL)
		ereport(ERROR,
				errcode_for_file_access(),
				errmsg("could not open password_file \"%s\": %m", path));
	n = fread(secret, 1, SECRET_BYTES_MAX + 1, file);
	if (ferror(file))
		ereport(ERROR,
				errcode_for_file_access(),
				errmsg("could not read password_file \"%s\": %m", path));
	FreeFile(file);

	if (n <= SECRET_BYTES_MAX)
	{
		if (n > 0 && secret[n - 1] == '\n')
			n--;
		if (n > 0 && secret[n - 1] == '\r')
			n--;
		secret[n] = '\0';
	}
	if (n == 0 || n > SECRET_BYTES_MAX || strlen(secret) != n)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("password_file \"%s\" holds no password", path),
				errdetail("It holds the password and at most one newline after it, 1 to %d bytes without a zero.",
						  SECRET_BYTES_MAX));
	return secret;
}

static const char *
secret_of_environment(const char *variable)
{
	const char *secret = getenv(variable);

	if (secret == NULL || secret[0] == '\0')
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("environment variable \"%s\" of option password_env is not set", variable),
				errhint("Set it for the process of the PostgreSQL server, and restart that."));
	return pstrdup(secret);
}

static const char *
read_secret(const ForeignServer *server, const Mapping *mapping)
{
	const char *path = given_value(mapping->options, "password_file");
	const char *variable = given_value(mapping->options, "password_env");

	if (path != NULL)
	{
		require_files(server, mapping, "password_file");
		return secret_of_file(path);
	}
	if (variable != NULL)
	{
		require_files(server, mapping, "password_env");
		return secret_of_environment(variable);
	}
	return given_value(mapping->options, "password");
}

static const char *
read_option(const ServerOption *option, const ForeignServer *server, const Mapping *mapping)
{
	const char *value;

	if (option->kind == OPTION_SECRET)
		return read_secret(server, mapping);
	value = given_value(option->place == ON_SERVER ? server->options : mapping->options,
						option->name);
	if (value != NULL && OPTION_IS_OF_MACHINE(option->kind))
		require_files(server, NULL, option->name);
	if (value != NULL && option->kind == OPTION_WRITTEN)
		ordflow_options_require_writing(server->owner, option->name);
	value = ordflow_option_normal(option, value ? value : option->default_value);
	if (option->kind == OPTION_GUARD && strcmp(value, "off") == 0)
	{
		ordflow_options_require_superuser(server->owner, option->name);
		if (OidIsValid(mapping->user))
			ordflow_options_require_superuser(mapping->user, option->name);
	}
	return value;
}

/* known: NULL, or an array as long as that of all options, for those that stand in the result. */
static ModuleConfig *
read_config(const char *name, Oid user, const ServerOption **known)
{
	ModuleConfig *config = palloc0(sizeof(ModuleConfig));
	ModuleOption *options = palloc0(ordflow_server_noptions_known * sizeof(ModuleOption));
	ForeignServer *server = find_server(name, user, &config->module);
	Mapping		mapping = find_mapping(server->serverid, user);

	for (int i = 0; i < ordflow_server_noptions_known; i++)
	{
		const ServerOption *option = &ordflow_server_options_known[i];

		if (strcmp(option->module, config->module) != 0 ||
			option->kind == OPTION_SECRET_FILE || option->kind == OPTION_SECRET_ENV)
			continue;
		if (known != NULL)
			known[config->noptions] = option;
		options[config->noptions].name = option->name;
		options[config->noptions].value = read_option(option, server, &mapping);
		config->noptions++;
	}
	config->server = pstrdup(server->servername);
	config->encoding = GetDatabaseEncodingName();
	config->options = options;
	return config;
}

ModuleConfig *
ordflow_server_config(const char *server, Oid user)
{
	return read_config(server, user, NULL);
}

Datum
ordflow_server_options(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const ServerOption **known = palloc(ordflow_server_noptions_known * sizeof(ServerOption *));
	ModuleConfig *config;

	ordflow_require_version();
	ordflow_require_not_null(fcinfo, 0, "server");
	config = read_config(NameStr(*PG_GETARG_NAME(0)), GetUserId(), known);
	ordflow_module_load(config->module);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < config->noptions; i++)
	{
		const ModuleOption *option = &config->options[i];
		bool		is_secret = known[i]->kind == OPTION_SECRET && option->value != NULL;
		Datum		values[2];
		bool		nulls[2] = {false};

		values[0] = CStringGetTextDatum(option->name);
		ORDFLOW_PUT_TEXT(values, nulls, 1, is_secret ? "********" : option->value);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

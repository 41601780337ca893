/*
 * module.c
 *	  Modules: found, loaded and checked at first use.
 *
 * A shared object does not load at all where a library that it links is missing.  So each
 * client library is linked by a module of its own, and a server without it goes on without
 * that module.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "server/internal.h"

PG_FUNCTION_INFO_V1(ordflow_modules);

const KnownModule ordflow_modules_known[] = {
	{"redis", "libhiredis-dev"},
	{"amqp", "librabbitmq-dev"},
	{"postgres", "libpq-dev"},
	{"script", NULL},
};

const int	ordflow_nmodules_known = lengthof(ordflow_modules_known);

static const char *
package_of(const char *name)
{
	for (int i = 0; i < ordflow_nmodules_known; i++)
		if (strcmp(ordflow_modules_known[i].name, name) == 0)
			return ordflow_modules_known[i].package;
	return NULL;
}

/* The file in a folder of dynamic_library_path, or NULL. */
static char *
file_in(const char *folder, size_t length, const char *name)
{
	char	   *expanded = pnstrdup(folder, length);
	char	   *path;
	struct stat st;

	if (strncmp(expanded, "$libdir", strlen("$libdir")) == 0)
		expanded = psprintf("%s%s", pkglib_path, expanded + strlen("$libdir"));
	path = psprintf("%s/ordflow_%s%s", expanded, name, DLSUFFIX);
	return stat(path, &st) == 0 && !S_ISDIR(st.st_mode) ? path : NULL;
}

/* Where PostgreSQL looks for libraries, or NULL. */
static char *
module_file(const char *name)
{
	const char *folder = Dynamic_library_path;

	while (*folder != '\0')
	{
		size_t		length = strcspn(folder, ":");
		char	   *path = length > 0 ? file_in(folder, length, name) : NULL;

		if (path != NULL)
			return path;
		folder += length;
		folder += *folder == ':';
	}
	return NULL;
}

bool
ordflow_module_installed(const char *name)
{
	return module_file(name) != NULL;
}

static const char *
install_hint(const char *name)
{
	const char *package = package_of(name);

	if (package == NULL)
		return "Run make && make install.";
	return psprintf("Install its client library (Debian: apt-get install %s), "
					"then run make && make install.", package);
}

/* The error that loading ended with becomes the detail of ours. */
static OrdflowModuleFunction
load_function(const char *name, const char *path)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;
	OrdflowModuleFunction volatile function = NULL;

	PG_TRY();
	{
		function = (OrdflowModuleFunction)
			load_external_function(path, "ordflow_module", false, NULL);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();

	if (error == NULL)
		return function;
	if (ordflow_error_is_callers(error->sqlerrcode))
		ReThrowError(error);
	ereport(ERROR,
			errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
			errmsg("module ordflow_%s cannot be loaded", name),
			errdetail_internal("%s", error->message),
			errhint("%s", install_hint(name)));
}

const OrdflowModule *
ordflow_module_load(const char *name)
{
	const char *path = module_file(name);
	OrdflowModuleFunction function;
	const OrdflowModule *module;

	if (path == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_UNAVAILABLE),
				errmsg("module ordflow_%s is not installed", name),
				errhint("%s", install_hint(name)));
	function = load_function(name, path);
	module = function ? function() : NULL;
	if (module == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_VERSION_DIFFERS),
				errmsg("\"%s\" is no module of ordflow", path));
	if (module->abi != ORDFLOW_MODULE_ABI || strcmp(module->version, ORDFLOW_VERSION) != 0)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_VERSION_DIFFERS),
				errmsg("module ordflow_%s is of another version than ordflow %s",
					   name, ORDFLOW_VERSION),
				errhint("Run make && make install, and restart the server."));
	return module;
}

Datum
ordflow_modules(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < ordflow_nmodules_known; i++)
	{
		const KnownModule *known = &ordflow_modules_known[i];
		Datum		values[3];
		bool		nulls[3] = {false};

		values[0] = CStringGetTextDatum(known->name);
		values[1] = BoolGetDatum(ordflow_module_installed(known->name));
		nulls[2] = known->package == NULL;
		values[2] = nulls[2] ? (Datum) 0 : CStringGetTextDatum(known->package);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

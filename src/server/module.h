/*
 * module.h
 *	  What a module, one ordflow_<name>.so for each external system, and the core know of
 *	  each other.  A module includes this file by timer/driver.h or sync/sink.h and nothing else
 *	  of ours, and calls no function of the server: its callbacks run outside transactions, allocate
 *	  by malloc() and report by ModuleError, so that no error of a client library, and no
 *	  thread of it, can meet PostgreSQL's error handling.
 */
#ifndef ORDFLOW_MODULE_H
#define ORDFLOW_MODULE_H

#include "postgres.h"
#include "fmgr.h"

/* Raised whenever a structure below, or one of timer/driver.h or sync/sink.h, changes. */
#define ORDFLOW_MODULE_ABI 4

typedef struct ModuleOption
{
	const char *name;
	const char *value;			/* NULL: not set, and without a default */
} ModuleOption;

/*
 * A server's options merged with its user mapping's and with the defaults.  Every option
 * that the module's wrapper knows has an entry, and every value has been checked against
 * its kind when it was set; only secrets are free text.
 *
 * A password comes as the option "password", wherever it was read from.
 */
typedef struct ModuleConfig
{
	const char *server;			/* the name of CREATE SERVER */
	int			noptions;
	const ModuleOption *options;
	const char *module;			/* "redis" for a server of the wrapper ordflow_redis */
	const char *encoding;		/* of all texts, as PostgreSQL names it; NULL: UTF8 */

	/* Asked at least every 100 ms while waiting: true = give up now.  May be NULL. */
	bool		(*cancelled) (void);
} ModuleConfig;

/* Why a call failed; filled by the call, shown to users: never with a secret in it. */
typedef struct ModuleError
{
	bool		misconfigured;	/* waiting will not help: somebody has to change something */
	char		message[512];	/* as of an ereport: lower case, no period */
	char		hint[512];		/* a sentence, or empty */
} ModuleError;

struct TimerDriver;
struct Sink;

typedef struct OrdflowModule
{
	int			abi;			/* first for good: the rest may differ where it differs */
	const char *version;		/* ordflow's, of the build */
	const char *name;
	const struct TimerDriver *driver;	/* NULL: it offers none */
	const struct Sink *sink;	/* the same */
} OrdflowModule;

typedef const OrdflowModule *(*OrdflowModuleFunction) (void);

/*
 * Stands once in each module, at file level:
 *
 *		ORDFLOW_MODULE("redis", &driver, &sink);
 */
#define ORDFLOW_MODULE(name_, driver_, sink_) \
	PG_MODULE_MAGIC; \
	extern PGDLLEXPORT const OrdflowModule *ordflow_module(void); \
	const OrdflowModule * \
	ordflow_module(void) \
	{ \
		static const OrdflowModule module = { \
			ORDFLOW_MODULE_ABI, ORDFLOW_VERSION, (name_), (driver_), (sink_) \
		}; \
		return &module; \
	} \
	extern int	ordflow_module_ends_here

/* The value of an option; NULL where it is not set. */
static inline const char *
module_option(const ModuleConfig *config, const char *name)
{
	for (int i = 0; i < config->noptions; i++)
		if (strcmp(config->options[i].name, name) == 0)
			return config->options[i].value;
	return NULL;
}

/* Of kind int, port or seconds; 0 where it is not set. */
static inline int
module_option_int(const ModuleConfig *config, const char *name)
{
	const char *value = module_option(config, name);

	return value ? (int) strtol(value, NULL, 10) : 0;
}

/* Of kind boolean: the core hands over "on" or "off", however it was written. */
static inline bool
module_option_bool(const ModuleConfig *config, const char *name)
{
	const char *value = module_option(config, name);

	return value != NULL && strcmp(value, "on") == 0;
}

/*
 * Fills the error of a call that fails; false, for the call to return.  What an external
 * system said may be in any encoding, or none: what is not ASCII becomes a question mark.
 */
static inline bool pg_attribute_printf(4, 5)
module_fail(ModuleError *error, bool misconfigured, const char *hint, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(error->message, sizeof(error->message), format, arguments);
	va_end(arguments);
	for (char *c = error->message; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
	error->misconfigured = misconfigured;
	snprintf(error->hint, sizeof(error->hint), "%s", hint ? hint : "");
	return false;
}

#endif							/* ORDFLOW_MODULE_H */

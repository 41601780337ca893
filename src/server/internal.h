/*
 * internal.h
 *	  What the files of the server feature share; nobody else includes it.
 */
#ifndef ORDFLOW_SERVER_INTERNAL_H
#define ORDFLOW_SERVER_INTERNAL_H

#include "postgres.h"
#include "nodes/pg_list.h"

#include "base/base.h"
#include "server/server.h"

/* ---- options.c: what each module's servers and user mappings can be told ---- */

typedef enum OptionPlace
{
	ON_SERVER,
	ON_MAPPING,
	NOWHERE						/* wrappers, foreign tables: they have no options */
} OptionPlace;

typedef enum OptionKind
{
	OPTION_TEXT,
	OPTION_SECRET,
	OPTION_SECRET_FILE,			/* where a secret is read; not handed to modules */
	OPTION_SECRET_ENV,
	OPTION_FILE,
	OPTION_WRITTEN,				/* a directory in which files are written */
	OPTION_INT,
	OPTION_BOOLEAN,
	OPTION_GUARD,				/* a boolean that superusers alone switch off */
	OPTION_CHOICE
} OptionKind;

/*
 * A file or the environment of the server: for members of pg_read_server_files; what is written
 * for those of pg_write_server_files too.
 */
#define OPTION_IS_OF_MACHINE(kind) ((kind) >= OPTION_SECRET_FILE && (kind) <= OPTION_WRITTEN)

typedef struct ServerOption
{
	const char *module;
	OptionPlace place;
	const char *name;
	OptionKind	kind;
	const char *default_value;	/* NULL: none */
	int			min;			/* of kind OPTION_INT */
	int			max;
	const char *choices;		/* "a, b"; of kind OPTION_CHOICE */
} ServerOption;

extern const ServerOption ordflow_server_options_known[];
extern const int ordflow_server_noptions_known;

/* Raises what is wrong with the options, a list of DefElem, of that place. */
extern void ordflow_options_check(const char *module, OptionPlace place, List *options);

/* The value as modules get it. */
extern const char *ordflow_option_normal(const ServerOption *option, const char *value);

/* 42501 unless the role may name files and the environment of the server's machine, and write. */
extern void ordflow_options_require_files(Oid role, const char *option);
extern void ordflow_options_require_writing(Oid role, const char *option);

/* 42501 unless the role is a superuser, who alone may switch the option off. */
extern void ordflow_options_require_superuser(Oid role, const char *option);

/* ---- server.c ---- */

/* "redis" for "ordflow_redis"; NULL for a wrapper that is none of ours. */
extern const char *ordflow_wrapper_module(const char *wrapper);

/* ---- module.c ---- */

typedef struct KnownModule
{
	const char *name;
	const char *package;		/* of Debian, to build it with; NULL: it needs none */
} KnownModule;

extern const KnownModule ordflow_modules_known[];
extern const int ordflow_nmodules_known;

#endif							/* ORDFLOW_SERVER_INTERNAL_H */

/*
 * server.h
 *	  Other systems: what CREATE SERVER and CREATE USER MAPPING say of them, and the modules
 *	  that speak to them.
 */
#ifndef ORDFLOW_SERVER_H
#define ORDFLOW_SERVER_H

#include "server/module.h"

/*
 * What a module is to know of a server, in the current context: its options, those of the
 * user's mapping or else of PUBLIC's, and the defaults; secrets are read.  Needs a transaction.
 * OF004 there is no such server; 42809 its wrapper is none of ours; 42501 the user may not use
 * it, or not read the file that it names.  No error has a secret in it.
 */
extern ModuleConfig *ordflow_server_config(const char *server, Oid user);

/*
 * The module, loaded into this process.  OF007 it is not installed, or its client library is
 * not; OF011 it is of another version.
 */
extern const OrdflowModule *ordflow_module_load(const char *name);

/* Is its file there? */
extern bool ordflow_module_installed(const char *name);

#endif							/* ORDFLOW_SERVER_H */

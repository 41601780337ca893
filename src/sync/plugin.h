/*
 * plugin.h
 *	  The output plugin "ordflow": what its files share, and how our own decoder takes its place.
 */
#ifndef ORDFLOW_PLUGIN_H
#define ORDFLOW_PLUGIN_H

#include "nodes/pg_list.h"
#include "replication/output_plugin.h"

#include "sync/format.h"

/*
 * Set by a process that decodes with callbacks of its own, before it makes its context: the server
 * only knows the library.  NULL: the plugin's own.
 */
extern void (*ordflow_decoder_callbacks) (OutputPluginCallbacks *callbacks);

/* An item of tables or exclude_columns: "schema.table", "schema.*", "schema.table.column". */
typedef struct PluginName
{
	const char *schema;
	const char *table;			/* NULL: all of the schema */
	const char *column;			/* NULL of tables */
} PluginName;

typedef struct PluginOptions
{
	ChangeFormat format;
	List	   *tables;			/* of PluginName; NIL: all */
	List	   *exclude_columns;	/* of PluginName */
	List	   *message_prefixes;	/* of char *; NIL: all */
	const char *server_name;	/* NULL: the database's */
	bool		local_only;		/* nothing that was replicated from elsewhere */
	bool		include_transactions;
	bool		include_key;
	bool		publish_via_root;
	bool		tombstones;
	bool		streaming;
} PluginOptions;

/* From the list of DefElem that the client gives, in the current context; 22023. */
extern void ordflow_plugin_options(List *given, PluginOptions *options);

extern bool ordflow_plugin_wants_table(const PluginOptions *options, const char *schema,
									   const char *table);
extern bool ordflow_plugin_wants_column(const PluginOptions *options, const char *schema,
										const char *table, const char *column);
extern bool ordflow_plugin_wants_prefix(const PluginOptions *options, const char *prefix);

#endif							/* ORDFLOW_PLUGIN_H */

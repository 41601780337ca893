/*
 * dual_write_internal.h
 *	  What the files of dual_write share: a sync as its triggers tell it.
 */
#ifndef ORDFLOW_DUAL_WRITE_INTERNAL_H
#define ORDFLOW_DUAL_WRITE_INTERNAL_H

#include "postgres.h"

#include "executor/spi.h"
#include "utils/plancache.h"
#include "utils/reltrigger.h"

#include "base/base.h"

#define DUAL_WRITE_CHANGED "dual_write_changed"
#define DUAL_WRITE_TRUNCATED "dual_write_truncated"

/*
 * A trigger is given these, and then a target column and its expression in turn, those of the key
 * first: names, so that a dump tells all.
 */
enum
{
	ARG_SYNC,
	ARG_ROLE,
	ARG_TARGET,					/* schema.name, when the trigger was made */
	ARG_FILTER,					/* or '' */
	ARG_NKEYS,
	ARG_COLUMNS
};

typedef struct DualColumn
{
	const char *name;			/* of the target's column */
	Oid			type;
	int32		typmod;
	int16		length;
	bool		byval;
	const char *plain;			/* the source's column that it is made of alone, or NULL */
	AttrNumber	source;			/* that column, where nothing is to be converted; else 0 */
	Expr	   *parsed;			/* while it is loaded */
	CachedExpression *expression;	/* NULL where source is set */
	FmgrInfo	output;			/* of a key */
} DualColumn;

/* How far the changes of a sync's source have been carried over in this transaction. */
typedef struct DualProgress
{
	Oid			trigger;		/* the root's, which partitions share */
	TransactionId xid;
	CommandId	command;		/* the latest that changed a row */
} DualProgress;

/* A sync over one relation: the source, or a partition of it whose columns may lie elsewhere. */
typedef struct DualSync
{
	MemoryContext context;
	bool		stale;			/* to be loaded again by the next statement */
	int			users;			/* statements that hold it */
	const char *name;
	const char *role;
	const char *key_names;		/* "id, line" */
	const char *target_name;
	Oid			relation;
	Oid			root;			/* that the sync was made on */
	Oid			target;
	bool		is_foreign;
	bool		may_defer;		/* the target has deferrable constraints */
	bool		runs_code;		/* expressions or a filter */
	Expr	   *parsed_filter;
	CachedExpression *filter;	/* or NULL */
	int			ncolumns;
	int			nkeys;
	DualColumn *columns;		/* those of the key first */
	int			nplain;			/* of the key: columns that are the source's own */
	int		   *plain;			/* which of columns */
	DualProgress *progress;
	SPIPlanPtr	upsert;			/* of a local target */
	SPIPlanPtr	insert;			/* of a foreign one */
	SPIPlanPtr	update;
	SPIPlanPtr	remove;
	SPIPlanPtr	reread;			/* the source's row of a key */
} DualSync;

/* Runs code as the role of the sync, with a search_path of ours; the caller leaves. */
extern RoleSwitch ordflow_dual_write_enter(const char *role);

/* To read the source as its owner does, past its policies: triggers see every row, too. */
extern RoleSwitch ordflow_dual_write_enter_source(Oid relid);

/*
 * Reads, plans and checks what the arguments of a trigger tell; the caller is connected to SPI and
 * frees it.
 */
extern DualSync *ordflow_dual_write_load(Relation rel, Oid root, Oid target, char **args,
										 int nargs);
extern void ordflow_dual_write_free(DualSync *sync);

/* That of a trigger, kept; valid until its context goes. */
extern DualSync *ordflow_dual_write_sync(Relation rel, const Trigger *trigger,
										 MemoryContext context);

/* Of whatever is "schema.name" */
extern char *ordflow_dual_write_table(Oid relid);

/* The oid of a trigger function of ours. */
extern Oid	ordflow_dual_write_function(const char *name);

#endif							/* ORDFLOW_DUAL_WRITE_INTERNAL_H */

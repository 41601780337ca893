/*
 * format.h
 *	  Changes as messages, field by field as Debezium, Canal and Maxwell write them, and in a
 *	  plain JSON of our own.
 */
#ifndef ORDFLOW_FORMAT_H
#define ORDFLOW_FORMAT_H

#include "sync/change.h"

typedef enum ChangeFormat
{
	FORMAT_JSON,
	FORMAT_DEBEZIUM,
	FORMAT_CANAL,
	FORMAT_MAXWELL
} ChangeFormat;

/* False: no such format.  The names stand in ordflow_format_names, separated by ", ". */
extern bool ordflow_format_parse(const char *name, ChangeFormat *format);
extern const char *const ordflow_format_names;

typedef struct FormatContext
{
	ChangeFormat format;
	const char *database;		/* current_database() */
	const char *origin;			/* Debezium's source.name: the topic prefix */
	bool		tombstones;		/* Debezium: an empty message follows a delete */
	bool		without_keys;	/* who is told has no use for them: key is NULL */
	uint64		collection_order;	/* Debezium's transaction block; 0: null */
	XLogRecPtr	previous_commit;	/* Debezium's sequence: of the transaction before; may be 0 */
} FormatContext;

/*
 * Called once for each message, in order.  key: JSON, or as the format has it; NULL: none.  value
 * NULL: a tombstone.  Both end with a zero byte and are good until the function returns.
 */
typedef void (*FormatEmit) (void *arg, const char *key, int key_length,
							const char *value, int value_length);

/*
 * The messages of one change: one, or of an update that changes the key in Debezium's format up
 * to three.  Allocates in the current context, which is the caller's to reset.
 */
extern void ordflow_format_change(const FormatContext *context, const Change *change,
								  FormatEmit emit, void *arg);

/*
 * The row as one JSON object, numbers and booleans as such, json as it is, all else as strings:
 * {"id": 1}.  skip_unknown: without columns that are unchanged or absent; else those are null.
 */
extern void ordflow_format_row(StringInfo out, const ChangeRelation *relation,
							   const ChangeValue *values, bool skip_unknown);

/*
 * What messages of one table have in common, kept with it in the current context.  A relation
 * without it will do, but takes longer.
 */
extern void ordflow_format_relation(ChangeRelation *relation);

/* A value of that type in that JSON. */
extern void ordflow_format_value(StringInfo out, Oid type, const char *text, int length);

#endif							/* ORDFLOW_FORMAT_H */

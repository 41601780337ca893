/*
 * change.h
 *	  A committed change of one row, as it was decoded from the WAL: what the formats encode,
 *	  what the spool keeps and what deliveries send.
 *
 * Values are texts in the database's encoding, as the types' output functions write them with
 * the settings of ordflow_change_settings().  All memory is the reader's to copy: it lives as
 * long as the call that hands the change over.
 */
#ifndef ORDFLOW_CHANGE_H
#define ORDFLOW_CHANGE_H

#include "postgres.h"

#include "access/htup.h"
#include "access/xlogdefs.h"
#include "lib/stringinfo.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

typedef enum ChangeOp
{
	CHANGE_INSERT = 'i',
	CHANGE_UPDATE = 'u',
	CHANGE_DELETE = 'd',
	CHANGE_TRUNCATE = 't',		/* has no values */
	CHANGE_MESSAGE = 'm'		/* pg_logical_emit_message(): has prefix and content only */
} ChangeOp;

typedef enum ValueState
{
	VALUE_NULL,
	VALUE_TEXT,
	VALUE_UNCHANGED,			/* a TOASTed value that the update left as it was */
	VALUE_ABSENT				/* the WAL does not tell: no part of the replica identity */
} ValueState;

typedef struct ChangeValue
{
	ValueState	state;
	int			length;
	const char *text;			/* ends with a zero byte; NULL unless VALUE_TEXT */
} ChangeValue;

typedef struct ChangeColumn
{
	const char *name;
	const char *label;			/* "name": as JSON has it; NULL: not made yet */
	int			label_length;
	Oid			type;			/* domains are what they are made of */
	Oid			element;		/* of an array its elements' type, else InvalidOid */
	int32		typmod;
	bool		is_key;			/* part of the primary key, else of the replica identity index */
	bool		is_generated;
} ChangeColumn;

/* Without dropped columns, and without virtual generated ones: those have no value in the WAL. */
typedef struct ChangeRelation
{
	Oid			relid;			/* the table that the row lies in: of partitions the leaf */
	const char *schema;
	const char *name;
	int			ncolumns;
	ChangeColumn *columns;
	int			nkeys;			/* columns with is_key, in the key's own order: */
	const int  *keys;			/* indexes into columns; 0 of a table without a key */
	const char *types;			/* as Canal tells them; NULL: not made yet */
	int			types_length;
} ChangeRelation;

typedef struct Change
{
	ChangeOp	op;
	const ChangeRelation *relation; /* NULL of a message */
	const ChangeValue *values;	/* after it, one for each column; NULL for delete and truncate */
	const ChangeValue *old;		/* before it; NULL where the WAL does not tell */
	bool		old_is_whole;	/* REPLICA IDENTITY FULL; else old has key columns only */
	XLogRecPtr	lsn;			/* of the change */
	XLogRecPtr	commit_lsn;		/* of its transaction's commit record */
	TransactionId xid;
	TimestampTz committed_at;
	uint64		ordinal;		/* in its transaction, from 1, of those that the reader is given */
	bool		is_last;		/* in its transaction; only where the reader asked for it */
	bool		is_snapshot;	/* a row as it stands, not a change of it */
	bool		cascade;		/* of a truncate */
	bool		restart_identity;
	const char *prefix;			/* of a message */
	const char *content;
	Size		content_length;
} Change;

#endif							/* ORDFLOW_CHANGE_H */

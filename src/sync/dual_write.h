/*
 * dual_write.h
 *	  Syncs of mode dual_write: triggers on the source write the target in the same transaction.
 */
#ifndef ORDFLOW_DUAL_WRITE_H
#define ORDFLOW_DUAL_WRITE_H

#include "postgres.h"

typedef struct DualWrite
{
	const char *sync;
	Oid			source;
	Oid			target;
	Oid			owner;			/* of the sync: the target is written as that role */
	int			ncolumns;		/* 0: the columns that both tables have, by name */
	const char **target_columns;
	const char **expressions;	/* SQL over the source's columns; none of them NULL */
	const char *filter;			/* SQL, or NULL */
	int			nkeys;			/* 0: the target's primary key */
	const char **keys;			/* target columns that identify a row */
} DualWrite;

/*
 * Makes the triggers on the source.  The caller has checked privileges and holds
 * ShareRowExclusiveLock on it.  Raises 42501 where the owner has no TRIGGER on the source; 42703,
 * 42701, 42601, 42804, 42883 and 0A000 for columns and expressions, 428C9 for generated columns;
 * 42P10 where keys do not identify a row on both sides; 42809 and 0A000 for what is no table that
 * can be written; 22023 for a table written to itself; 42710 where the target belongs to another
 * sync, or the sync has its triggers already.
 */
extern void ordflow_dual_write_create(const DualWrite *spec);

/* Drops the triggers of the sync; that there are none is no error. */
extern void ordflow_dual_write_drop(const char *sync, Oid source);

#endif							/* ORDFLOW_DUAL_WRITE_H */

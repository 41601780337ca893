/*
 * row.h
 *	  Tuples of the WAL as changes: relations as the historic snapshot shows them, values as text.
 */
#ifndef ORDFLOW_ROW_H
#define ORDFLOW_ROW_H

#include "sync/change.h"

/*
 * How values are written, whatever the database, the role or the session says: DateStyle ISO,
 * IntervalStyle iso_8601, TimeZone UTC, extra_float_digits 1, bytea_output hex, lc_monetary C.
 * Sets these for the process, or until the returned nest level is ended by AtEOXact_GUC().
 */
extern int	ordflow_change_settings(void);

/* A relation with what writing its values needs; kept until the relation's cache entry changes. */
typedef struct RowRelation
{
	Oid			relid;			/* hash key */
	bool		valid;
	ChangeRelation relation;
	/* what follows is row.c's */
	struct RowColumn *columns;
	Datum	   *datums;			/* of one tuple, deformed */
	bool	   *nulls;
	MemoryContext context;
	void	   *user;			/* of whoever keeps something beside; freed with the context */
} RowRelation;

/*
 * In a transaction, or in an output plugin's callback; kept for the life of the process.  The
 * result is good until the next call, which may find it invalidated and make it anew.
 */
extern RowRelation *ordflow_row_relation(Relation rel);

/*
 * The values of a tuple, in the current context.  keys_only: of an old tuple that holds the
 * replica identity alone; other columns are absent.  Unchanged TOAST is told as such, never read.
 * values has relation.ncolumns places.
 */
extern void ordflow_row_values(RowRelation *relation, Relation rel, HeapTuple tuple, bool keys_only,
							   ChangeValue *values);

#endif							/* ORDFLOW_ROW_H */

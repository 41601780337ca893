/*
 * ledger.h
 *	  The partitions of the ledger; private to ledger.c and fold.c.
 *
 * Segments are numbered upwards.  2^20 of them, or fewer where retention ends them earlier, make
 * a stretch; the stretches take turns in the partitions, a ring.
 */
#ifndef ORDFLOW_STOCK_LEDGER_H
#define ORDFLOW_STOCK_LEDGER_H

#include "postgres.h"

#define LEDGER_PARTITIONS 8
#define LEDGER_STRETCH_BITS 20

/* as in the partition key of ordflow.stock_movements */
#define LEDGER_STRETCH(segment) ((segment) >> LEDGER_STRETCH_BITS)
#define LEDGER_PARTITION(segment) ((int) (LEDGER_STRETCH(segment) & (LEDGER_PARTITIONS - 1)))

/*
 * A segment that has grown to about so many movements is not let grow further, so a first use
 * never sums many more than twice that: those of the segment that is being folded, and of the one
 * that is written meanwhile.  Twice 200,000 of one stock row take 50 ms.
 */
#define LEDGER_MOVEMENTS_MAX 200000

/* The name of the i-th partition. */
extern const char *ordflow_ledger_partition(int i);

#endif							/* ORDFLOW_STOCK_LEDGER_H */

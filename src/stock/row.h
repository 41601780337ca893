/*
 * row.h
 *	  The rows of ordflow.stock, found, locked and changed without the executor.
 *
 * Private to available.c: the escrow counter takes the place of both.
 */
#ifndef ORDFLOW_STOCK_ROW_H
#define ORDFLOW_STOCK_ROW_H

#include "postgres.h"
#include "access/genam.h"
#include "storage/itemptr.h"

#include "base/base.h"

/* A row as it was found; locked or not. */
typedef struct StockRowRef
{
	ItemPointerData tid;
	int64		stock_id;		/* 0: there is no such row */
	int64		available;
	const char *sku;			/* the name it was found by; the caller's */
	const char *location;
} StockRowRef;

/* The table while it is open. */
typedef struct StockRows
{
	Relation	rel;
	Relation	index;
	struct SnapshotData *snapshot;
	IndexScanDesc scan;
	struct TupleTableSlot *slot;
	struct TupleTableSlot *changed;
	struct EState *estate;		/* where it was needed */
	struct ResultRelInfo *target;
	AttrNumber	stock_id;
	AttrNumber	sku;
	AttrNumber	location;
	AttrNumber	available;
} StockRows;

typedef enum StockIndex
{
	STOCK_BY_NAME,				/* (sku, location) */
	STOCK_BY_ID
} StockIndex;

/*
 * Opens the table for look-ups by an index, with a snapshot that is new at READ COMMITTED.
 * Close it before anything else is executed.
 */
extern void ordflow_stock_rows_open(StockRows *rows, StockIndex index);
extern void ordflow_stock_rows_close(StockRows *rows);

/* As the snapshot sees it, without a lock. */
extern void ordflow_stock_row_find(StockRows *rows, const char *sku, const char *location,
								   StockRowRef *ref);
extern void ordflow_stock_row_find_id(StockRows *rows, int64 stock_id, StockRowRef *ref);

/*
 * Locks a row that was found (FOR NO KEY UPDATE) and reads its latest version;
 * waits for whoever changes it.  At the higher isolation levels a row that was changed
 * since the snapshot is 40001.  A row that is gone, or has another name now, has stock_id 0.
 */
extern void ordflow_stock_row_lock(StockRows *rows, StockRowRef *ref);

/* Writes available into a row that is locked. */
extern void ordflow_stock_row_set(StockRows *rows, StockRowRef *ref, int64 available);

#endif							/* ORDFLOW_STOCK_ROW_H */

/*
 * names.h
 *	  Stock rows by their names; for the files of the stock feature alone.
 */
#ifndef ORDFLOW_STOCK_NAMES_H
#define ORDFLOW_STOCK_NAMES_H

#include "base/base.h"

/* A look-up under way: the table is opened by the first name that must be read. */
typedef struct StockNames
{
	bool		in_gate;
	bool		open;
	RowReader	reader;
	AttrNumber	stock_id;
} StockNames;

/*
 * in_gate: the caller has passed the gate of the counters, so nobody renames a row before his
 * transaction ends, and what was found in earlier transactions is remembered.
 */
extern void ordflow_stock_names_open(StockNames *names, bool in_gate);

/* The stock_id that (sku, location) has now, whatever the isolation level; 0 = there is none. */
extern int64 ordflow_stock_names_find(StockNames *names, const char *sku, const char *location);
extern void ordflow_stock_names_close(StockNames *names);

#endif							/* ORDFLOW_STOCK_NAMES_H */

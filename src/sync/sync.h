/*
 * sync.h
 *	  Tables in step with other systems, from the WAL: see internal.h.
 */
#ifndef ORDFLOW_SYNC_H
#define ORDFLOW_SYNC_H

/* Called from _PG_init. */
extern void ordflow_sync_init(void);

#endif							/* ORDFLOW_SYNC_H */

/*
 * batch.h
 *	  What batch.c, progress.c and cancel.c share of batches.
 */
#ifndef ORDFLOW_BATCH_H
#define ORDFLOW_BATCH_H

#include "storage/lock.h"

#include "task/internal.h"

/* A row of ordflow.task_batches. */
typedef struct Batch
{
	int64		batch_id;
	int64		first;			/* of its tasks */
	int32		kind_id;
	int32		total;
	int32		on_finish;		/* a kind; 0: none */
	int			part;			/* that its tasks were written to */
	int			priority;
	bool		shards;
	char	   *submitter;
} Batch;

typedef struct BatchFigures
{
	int32		succeeded;
	int32		dead;
	int32		cancelled;
	int32		failed;			/* open ones that have failed before */
} BatchFigures;

/* A row of ordflow.task_batch_ends. */
typedef struct BatchEnd
{
	bool		reopened;
	bool		cancelled;
	BatchFigures figures;		/* failed: 0 */
} BatchEnd;

/* Locks of a batch.  Tasks have none, as a transaction may cancel, or put back, very many. */
typedef enum BatchLock
{
	BATCH_LOCK_END,				/* finishers in common; whoever ends the batch alone */
	BATCH_LOCK_RETRY			/* who puts its dead tasks back */
} BatchLock;

/* To the end of the transaction. */
extern void ordflow_batch_lock(BatchLock what, int64 id, LOCKMODE mode);

/* In the latest snapshot.  False: there is none. */
extern bool ordflow_batch_find(int64 batch_id, Batch *batch);
extern bool ordflow_batch_end_find(int64 batch_id, BatchEnd *end);

/* As committed by now, counted where memory does not know.  False: there is no such batch. */
extern bool ordflow_batch_figures(int64 batch_id, BatchFigures *figures);

/* The partition that its tasks are in now, locked so that it is not emptied. */
extern int	ordflow_batch_part(const Batch *batch);

/* What rows tell, all that this transaction has written included. */
extern void ordflow_batch_count(const Batch *batch, BatchFigures *figures);

/* What this transaction has made of a batch's tasks so far. */
extern void ordflow_batch_own(int64 batch_id, BatchFigures *figures);

/*
 * Writes the end, with on_finish where this is the first, or writes it anew: not that of a
 * batch that was cancelled.  BATCH_LOCK_END is held alone.  Connected to SPI, as the extension's
 * owner.
 */
extern void ordflow_batch_end_write(const Batch *batch, const BatchFigures *figures,
									bool is_cancelled);

#endif							/* ORDFLOW_BATCH_H */

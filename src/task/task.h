/*
 * task.h
 *	  Batch tasks: submitted by SQL, run by background workers or claimed by services.
 *
 * Rows are the truth: a task is a row of ordflow.task_queue, and over when it has a row in
 * ordflow.task_outcomes.  Who works on it is kept in shared memory alone, so it ends with
 * whoever that was, and nothing ever has to be repaired.
 */
#ifndef ORDFLOW_TASK_H
#define ORDFLOW_TASK_H

/* Called from _PG_init; asks for shared memory, gives the coordinator its duty. */
extern void ordflow_task_init(void);

#endif							/* ORDFLOW_TASK_H */

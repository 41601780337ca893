/*
 * timer.h
 *	  Objects whose state is left by itself when its time is up.
 */
#ifndef ORDFLOW_TIMER_H
#define ORDFLOW_TIMER_H

/* Called from _PG_init; gives the coordinator its duty. */
extern void ordflow_timer_init(void);

#endif							/* ORDFLOW_TIMER_H */

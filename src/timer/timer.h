/*
 * timer.h
 *	  Objects whose state is left by itself when its time is up.
 */
#ifndef ORDFLOW_TIMER_H
#define ORDFLOW_TIMER_H

#include "postgres.h"
#include "utils/timestamp.h"

/* the most objects that one run takes */
#define ORDFLOW_DUE_ROWS_MAX 100000

/*
 * Fires what is due at now, at most max_rows objects and holds; returns how many
 * fired.  An object that fails is parked and holds up no other.  Runs as the
 * extension's owner; connects to SPI by itself.
 */
extern int	ordflow_timer_run(TimestampTz now, int max_rows);

#endif							/* ORDFLOW_TIMER_H */

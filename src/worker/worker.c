/*
 * worker.c
 *	  Sets the feature up.
 */
#include "postgres.h"

#include "worker/internal.h"

void
ordflow_worker_init(void)
{
	ordflow_slots_init();
	ordflow_feed_init();
	ordflow_wake_init();
	ordflow_activation_init();
	ordflow_utility_init();
	ordflow_launcher_init();
}

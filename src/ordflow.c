/*
 * ordflow.c
 *	  The module: one call for each feature.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "base/base.h"
#include "counter/counter.h"
#include "coupon/coupon.h"
#include "machine/machine.h"
#include "order/order.h"
#include "stock/stock.h"
#include "sync/sync.h"
#include "task/task.h"
#include "timer/timer.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	ordflow_preloaded = process_shared_preload_libraries_in_progress;

	ordflow_settings_init();
	ordflow_statements_init();
	ordflow_prepare_init();
	ordflow_machine_init();
	ordflow_counter_init();
	ordflow_stock_init();
	ordflow_coupon_init();
	ordflow_order_init();
	ordflow_timer_init();
	ordflow_fold_init();
	ordflow_task_init();
	ordflow_sync_init();
	ordflow_worker_init();
}

/*
 * task.c
 *	  Where the feature begins: its parts, and what its verbs have in common.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/rel.h"

#include "task/internal.h"

void
ordflow_task_init(void)
{
	ordflow_task_memory_init();
	ordflow_kinds_init();
	ordflow_segments_init();
	ordflow_journal_init();
	ordflow_session_init();
	ordflow_pool_init();
	ordflow_task_duty_init();
}

void
ordflow_task_begin_verb(const char *what)
{
	ordflow_require_preload();
	PreventCommandIfReadOnly(what);
	PreventCommandDuringRecovery(what);
	ordflow_refuse_prepare("tasks");
}

RoleSwitch
ordflow_task_connect(void)
{
	RoleSwitch	saved = ordflow_role_enter(ordflow_owner(), false);

	SPI_connect();
	return saved;
}

void
ordflow_task_disconnect(RoleSwitch saved)
{
	SPI_finish();
	ordflow_role_leave(saved);
}

/*
 * query.c
 *	  SQL that names users' tables: plans kept by their text.
 *
 * Names in the text are qualified and search_path is pinned, so one text always
 * means the same; PostgreSQL plans it again after DDL.  A plan is never freed: an
 * outer call may be in the middle of it.  Beyond PLANS_MAX plans are made for
 * one run each.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "machine/internal.h"

#define OWN_SEARCH_PATH "pg_catalog, pg_temp"

#define PLANS_MAX		1000
#define PLAN_ARGS_MAX	8

/* not asked by PostgreSQL when it uses a plan again: whether owners stand above their policies */
#define PLAN_NOFORCE_RLS (1 << 28)

#define PLAN_GENERIC	CURSOR_OPT_GENERIC_PLAN
#define PLAN_CUSTOM		CURSOR_OPT_CUSTOM_PLAN
#define PLAN_BY_INDEX	(CURSOR_OPT_GENERIC_PLAN | ORDFLOW_PLAN_LARGE | ORDFLOW_PLAN_BY_INDEX)

typedef struct KeptPlan
{
	uint64		hash;			/* of all that follows but the plan */
	char	   *sql;
	int			nargs;
	Oid			argtypes[PLAN_ARGS_MAX];
	int			kind;			/* its options, and PLAN_NOFORCE_RLS */
	SPIPlanPtr	plan;
} KeptPlan;

static HTAB *plans = NULL;

static void
plans_create(void)
{
	HASHCTL		ctl = {.keysize = sizeof(uint64), .entrysize = sizeof(KeptPlan)};

	plans = hash_create("ordflow plans by text", 64, &ctl, HASH_ELEM | HASH_BLOBS);
}

static uint64
plan_hash(const char *sql, int nargs, const Oid *argtypes, int kind)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) sql, strlen(sql), kind);

	return hash_bytes_extended((const unsigned char *) argtypes, nargs * sizeof(Oid), hash);
}

static bool
plan_is(const KeptPlan *kept, const char *sql, int nargs, const Oid *argtypes, int kind)
{
	return kept->plan != NULL && kept->nargs == nargs && kept->kind == kind &&
		memcmp(kept->argtypes, argtypes, nargs * sizeof(Oid)) == 0 &&
		strcmp(kept->sql, sql) == 0;
}

static SPIPlanPtr
plan_prepare(const char *sql, int nargs, const Oid *argtypes, int options)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(sql, nargs, (Oid *) argtypes, options);

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	return plan;
}

static SPIPlanPtr
plan_for(const char *sql, int nargs, const Oid *argtypes, int options)
{
	int			kind = options | (InNoForceRLSOperation() ? PLAN_NOFORCE_RLS : 0);
	uint64		hash = plan_hash(sql, nargs, argtypes, kind);
	KeptPlan   *kept;
	SPIPlanPtr	plan;

	Assert(nargs <= PLAN_ARGS_MAX);
	if (plans == NULL)
		plans_create();
	kept = hash_search(plans, &hash, HASH_FIND, NULL);
	if (kept != NULL && plan_is(kept, sql, nargs, argtypes, kind))
		return kept->plan;

	plan = plan_prepare(sql, nargs, argtypes, options);
	if (kept == NULL && hash_get_num_entries(plans) < PLANS_MAX)
	{
		char	   *text = MemoryContextStrdup(TopMemoryContext, sql);

		kept = hash_search(plans, &hash, HASH_ENTER, NULL);
		kept->sql = text;
		kept->nargs = nargs;
		memcpy(kept->argtypes, argtypes, nargs * sizeof(Oid));
		kept->kind = kind;
		SPI_keepplan(plan);
		kept->plan = plan;
	}
	return plan;
}

OwnWork
ordflow_machine_own_enter(void)
{
	OwnWork		work;

	work.guc_level = NewGUCNestLevel();
	set_config_option("search_path", OWN_SEARCH_PATH, PGC_USERSET, PGC_S_SESSION,
					  GUC_ACTION_SAVE, true, 0, false);
	work.role = ordflow_role_enter(ordflow_owner(), false);
	return work;
}

void
ordflow_machine_own_leave(OwnWork work)
{
	ordflow_role_leave(work.role);
	AtEOXact_GUC(true, work.guc_level);
}

static uint64
plan_result(int status, const char *sql)
{
	if (status < 0)
		elog(ERROR, "could not execute \"%s\": %s", sql, SPI_result_code_string(status));
	return SPI_processed;
}

uint64
ordflow_machine_query(const char *sql, int nargs, const Oid *argtypes, Datum *values, bool custom)
{
	SPIPlanPtr	plan = plan_for(sql, nargs, argtypes,
								custom ? PLAN_CUSTOM : PLAN_GENERIC);

	return plan_result(SPI_execute_plan(plan, values, NULL, false, 0), sql);
}

uint64
ordflow_machine_query_by_index(const char *sql, int nargs, const Oid *argtypes, Datum *values)
{
	SPIPlanPtr	plan = plan_for(sql, nargs, argtypes, PLAN_BY_INDEX);

	return plan_result(SPI_execute_plan(plan, values, NULL, false, 0), sql);
}

uint64
ordflow_machine_query_at(Snapshot snapshot, const char *sql, int nargs, const Oid *argtypes,
						 Datum *values)
{
	SPIPlanPtr	plan = plan_for(sql, nargs, argtypes, PLAN_GENERIC);

	return plan_result(SPI_execute_snapshot(plan, values, NULL, snapshot, InvalidSnapshot,
											false, true, 0), sql);
}

/*
 * At REPEATABLE READ too what is kept beyond the transaction, or stands against
 * other sessions, must be read as it is now.
 */
uint64
ordflow_machine_query_now(const char *sql, int nargs, const Oid *argtypes, Datum *values)
{
	return ordflow_machine_query_at(GetLatestSnapshot(), sql, nargs, argtypes, values);
}

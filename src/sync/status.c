/*
 * status.c
 *	  How syncs are: figures, waiting, checks, previews.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "base/json.h"
#include "server/server.h"
#include "sync/internal.h"
#include "sync/pull.h"
#include "sync/row.h"

PG_FUNCTION_INFO_V1(ordflow_delivery_figures);
PG_FUNCTION_INFO_V1(ordflow_sync_figures);
PG_FUNCTION_INFO_V1(ordflow_wait_for_sync);
PG_FUNCTION_INFO_V1(ordflow_check_sync);
PG_FUNCTION_INFO_V1(ordflow_preview_sync);

#define WAIT_MAX		(60 * USECS_PER_SEC)
#define WAIT_STEP_MS	1L
#define WAIT_READ_MS	20L		/* of what is in no shared memory */
#define PREVIEW_MAX		1000

/* ---- figures ---- */

static const char *
delivery_state(const DeliveryShared *delivery, const DecoderShared *decoder)
{
	if (delivery->problem[0] != '\0')
		return delivery->misconfigured ? "misconfigured" : "retrying";
	if (decoder != NULL && decoder->creating)
		return "creating";
	if (decoder == NULL || decoder->latch == NULL || delivery->latch == NULL ||
		delivery->spool_serial == 0)
		return "starting";
	return "streaming";
}

/* All that the spool holds is done: then everything that was decoded is. */
static XLogRecPtr
durable_of(const DeliveryShared *delivery, XLogRecPtr decoded)
{
	return delivery->durable >= delivery->spooled ? Max(decoded, delivery->durable) :
		delivery->durable;
}

static void
put_delivery(ReturnSetInfo *result, const DeliveryShared *delivery, const DecoderShared *decoder,
			 XLogRecPtr decoded)
{
	XLogRecPtr	durable = durable_of(delivery, decoded);
	XLogRecPtr	sent = delivery->sent >= delivery->spooled ? Max(decoded, durable) :
		Max(delivery->sent, durable);
	double		lag = delivery->pending_since == 0 || durable >= decoded ? 0 :
		(GetCurrentTimestamp() - delivery->pending_since) / (double) USECS_PER_SEC;
	Datum		values[10];
	bool		nulls[10] = {false};

	values[0] = Int64GetDatum(delivery->delivery_id);
	values[1] = CStringGetTextDatum(delivery_state(delivery, decoder));
	values[2] = LSNGetDatum(decoded);
	values[3] = LSNGetDatum(sent);
	values[4] = LSNGetDatum(durable);
	nulls[2] = nulls[3] = nulls[4] = XLogRecPtrIsInvalid(decoded);
	values[5] = Float8GetDatum(Max(lag, 0));
	values[6] = Int64GetDatum(delivery->items);
	values[7] = Int64GetDatum(delivery->errors);
	values[8] = TimestampTzGetDatum(delivery->retry_at);
	nulls[8] = delivery->retry_at == 0;
	ORDFLOW_PUT_TEXT(values, nulls, 9, delivery->problem[0] ? delivery->problem : NULL);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
ordflow_delivery_figures(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	DecoderShared *decoder = ordflow_decoder_shared(false);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; ordflow_sync_shared != NULL && i < SYNC_DELIVERIES_MAX; i++)
	{
		DeliveryShared *place = &ordflow_sync_shared->deliveries[i];
		DeliveryShared copy;
		XLogRecPtr	decoded = decoder != NULL ? decoder->decoded : InvalidXLogRecPtr;

		/* decoded first: what it covers is spooled by then */
		pg_read_barrier();
		SpinLockAcquire(&place->mutex);
		copy = *place;
		SpinLockRelease(&place->mutex);
		if (copy.database == MyDatabaseId)
			put_delivery(result, &copy, decoder, decoded);
	}
	return (Datum) 0;
}

Datum
ordflow_sync_figures(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	SyncFigure	figure;
	Datum		values[2];
	bool		nulls[2] = {false};

	ordflow_require_not_null(fcinfo, 0, "sync_id");
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "the result is no row");
	figure = ordflow_sync_figure(PG_GETARG_INT64(0));
	values[0] = Int64GetDatum(figure.rows);
	values[1] = Int64GetDatum(figure.letters);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* ---- the sync by its name ---- */

/* For its role's members, in the caller's memory. */
SyncDefinition *
ordflow_sync_of_caller(FunctionCallInfo fcinfo)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *name = ordflow_arg_text(fcinfo, 0, "name");
	Oid			caller = GetUserId();
	SyncDefinition *sync;
	SyncDefinition *copy;
	Oid			role;
	RoleSwitch	saved = ordflow_sync_connect();

	sync = ordflow_sync_by_name(name);
	if (sync == NULL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("there is no sync \"%s\"", name),
				errhint("SELECT name FROM ordflow.sync_status shows them."));
	role = get_role_oid(sync->role, true);
	if (!OidIsValid(role) ? !superuser_arg(caller) : !has_privs_of_role(caller, role))
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("must be a member of role \"%s\"", sync->role),
				errdetail("It has made the sync."));
	MemoryContextSwitchTo(context);
	copy = palloc(sizeof(SyncDefinition));
	*copy = *sync;
	copy->name = pstrdup(sync->name);
	copy->server = sync->server ? pstrdup(sync->server) : NULL;
	copy->target = sync->target ? pstrdup(sync->target) : NULL;
	copy->mode = pstrdup(sync->mode);
	copy->role = pstrdup(sync->role);
	copy->options = (Jsonb *) memcpy(palloc(VARSIZE(sync->options)), sync->options,
									 VARSIZE(sync->options));
	ordflow_sync_disconnect(saved);
	MemoryContextSwitchTo(context);
	return copy;
}

/* ---- wait_for_sync ---- */

/* A place at the beginning of a page is that of the page's first record, or the end of the last. */
static XLogRecPtr
before_page_header(XLogRecPtr lsn)
{
	uint64		in_page = lsn % XLOG_BLCKSZ;

	return in_page <= SizeOfXLogLongPHD ? lsn - in_page : lsn;
}

static bool
is_durable(const SyncDefinition *sync, XLogRecPtr lsn)
{
	DecoderShared *decoder = ordflow_decoder_shared(false);
	DeliveryShared *delivery = ordflow_delivery_shared(sync->delivery_id, false);
	XLogRecPtr	decoded;
	bool		durable;

	if (decoder == NULL || delivery == NULL)
		return false;
	SpinLockAcquire(&decoder->mutex);
	decoded = decoder->decoded;
	SpinLockRelease(&decoder->mutex);
	if (decoded < lsn)
		return false;
	SpinLockAcquire(&delivery->mutex);
	durable = delivery->spool_serial != 0 && delivery->problem[0] == '\0' &&
		(delivery->durable >= delivery->spooled || delivery->durable >= lsn);
	SpinLockRelease(&delivery->mutex);
	return durable;
}

static Statement count_waiting = {
	.sql = "SELECT EXISTS (SELECT FROM ordflow.sync_letters "
	"WHERE sync_id = $1 AND state IN ('waiting', 'replay')) "
	"OR EXISTS (SELECT FROM ordflow.sync_copies WHERE sync_id = $1 AND phase <> 'done')",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* What was kept while it was paused, or is to be copied, is not sent yet. */
static bool
has_waiting(const SyncDefinition *sync)
{
	Datum		id = Int64GetDatum(sync->sync_id);
	bool		isnull;
	bool		waiting;
	RoleSwitch	saved = ordflow_sync_connect();

	ordflow_execute_latest(&count_waiting, &id, NULL);
	waiting = DatumGetBool(ordflow_result(0, 1, &isnull));
	ordflow_sync_disconnect(saved);
	return waiting;
}

static TimestampTz
wait_until(FunctionCallInfo fcinfo)
{
	Interval   *timeout = PG_GETARG_INTERVAL_P(2);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
																TimestampTzGetDatum(now),
																IntervalPGetDatum(timeout)));

	if (until < now)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("timeout must not be below zero"));
	return Min(until, now + WAIT_MAX);
}

Datum
ordflow_wait_for_sync(PG_FUNCTION_ARGS)
{
	SyncDefinition *sync;
	XLogRecPtr	lsn;
	TimestampTz until;

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 0, "name");
	ordflow_require_not_null(fcinfo, 1, "lsn");
	ordflow_require_not_null(fcinfo, 2, "timeout");
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(ERROR,
				errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				errmsg("wait_for_sync() cannot be called in a transaction that has written"),
				errhint("What it has written is delivered after its commit: wait in a transaction of its own."));
	sync = ordflow_sync_of_caller(fcinfo);
	if (ordflow_is_pulled(sync->mode))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("sync \"%s\" is of mode %s, which does not follow the WAL", sync->name,
					   sync->mode),
				errhint("SELECT ordflow.run_sync(%s) pulls now, and returns when all is there.",
						quote_literal_cstr(sync->name)));
	if (strcmp(sync->mode, "cdc") != 0)
		PG_RETURN_BOOL(true);
	lsn = before_page_header(PG_GETARG_LSN(1));
	until = wait_until(fcinfo);
	if (lsn <= GetXLogInsertRecPtr())
		XLogFlush(lsn);
	ordflow_decoder_wake();
	while (sync->paused || !is_durable(sync, lsn) || has_waiting(sync))
	{
		/* its delivery is made by the workers; somebody may resume it */
		bool		read_again = sync->delivery_id == 0 || sync->paused;

		if (GetCurrentTimestamp() >= until)
			PG_RETURN_BOOL(false);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 read_again ? WAIT_READ_MS : WAIT_STEP_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (read_again)
			sync = ordflow_sync_of_caller(fcinfo);
	}
	PG_RETURN_BOOL(true);
}

/* ---- check_sync ---- */

static void
put_problem(ReturnSetInfo *result, const char *severity, const char *problem, const char *fix)
{
	Datum		values[3];
	bool		nulls[3] = {false};

	values[0] = CStringGetTextDatum(severity);
	values[1] = CStringGetTextDatum(problem);
	ORDFLOW_PUT_TEXT(values, nulls, 2, fix);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
check_server(ReturnSetInfo *result, const SyncDefinition *sync, const Sink *sink,
			 const ModuleConfig *config)
{
	ModuleError error = {0};
	void	   *state;

	state = sink->open(config, "ordflow:check:");
	if (state == NULL)
		return;
	if (!sink->connect(state, &error))
		put_problem(result, "error", psprintf("server \"%s\" does not answer: %s", sync->server,
											  error.message), error.hint[0] ? error.hint : NULL);
	sink->close(state);
}

/* What create_sync() would raise today. */
static void
check_definition(ReturnSetInfo *result, SyncDefinition *sync)
{
	const Sink *sink = NULL;
	ModuleConfig *config = NULL;
	Route	   *route;

	if (sync->server != NULL)
	{
		config = ordflow_server_config(sync->server, get_role_oid(sync->role, false));
		sink = ordflow_module_load(config->module)->sink;
	}
	if (pg_class_aclcheck(sync->source, get_role_oid(sync->role, false), ACL_SELECT) != ACLCHECK_OK)
		put_problem(result, "error", psprintf("role \"%s\" may not read the source", sync->role),
					psprintf("GRANT SELECT ON %s TO %s;", get_rel_name(sync->source),
							 quote_identifier(sync->role)));
	route = ordflow_route_make(sync, sink, CurrentMemoryContext);
	if (ordflow_is_pulled(sync->mode))
		ordflow_pull_check_sync(sync, route->options);
	ordflow_route_check(route);
	if (sink != NULL)
		check_server(result, sync, sink, config);
}

static void
check_settings(ReturnSetInfo *result, const SyncDefinition *sync)
{
	if (wal_level < WAL_LEVEL_LOGICAL && !ordflow_is_pulled(sync->mode))
		put_problem(result, "error", "wal_level is not logical",
					"ALTER SYSTEM SET wal_level = logical;   -- then restart the server");
	if (!ordflow_activation_is_on(DUTY_SYNC))
		put_problem(result, "error", "syncs are not active in this database",
					"SELECT ordflow.activate();");
	if (!ordflow_workers)
		put_problem(result, "error", "ordflow.workers is off",
					"ALTER SYSTEM SET ordflow.workers = on;   -- then restart the server");
}

Datum
ordflow_check_sync(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext context = CurrentMemoryContext;
	SyncDefinition *sync;
	ErrorData  *volatile error = NULL;

	ordflow_require_preload();
	InitMaterializedSRF(fcinfo, 0);
	sync = ordflow_sync_of_caller(fcinfo);
	check_settings(result, sync);
	if (strcmp(sync->mode, "dual_write") == 0)
		return (Datum) 0;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		check_definition(result, sync);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (error != NULL && ordflow_error_is_callers(error->sqlerrcode))
		ReThrowError(error);
	if (error != NULL)
		put_problem(result, "error", error->message, error->hint);
	return (Datum) 0;
}

/* ---- preview_sync ---- */

static char *
source_sql(Oid source, const ChangeRelation *relation, int max_rows)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < relation->ncolumns; i++)
		appendStringInfo(&sql, "%s%s::pg_catalog.text", i > 0 ? ", " : "",
						 quote_identifier(relation->columns[i].name));
	appendStringInfo(&sql, " FROM %s LIMIT %d",
					 quote_qualified_identifier(get_namespace_name(get_rel_namespace(source)),
												get_rel_name(source)), max_rows);
	return sql.data;
}

static void
put_item(ReturnSetInfo *result, const SinkItem *item)
{
	static const char *const ops[] = {"put", "delete", "truncate", "append"};
	Datum		values[5];
	bool		nulls[5] = {false};
	JsonBuild	json = {0};

	values[0] = CStringGetTextDatum(ops[item->op]);
	ORDFLOW_PUT_TEXT(values, nulls, 1, item->target);
	ORDFLOW_PUT_TEXT(values, nulls, 2, item->key);
	nulls[3] = item->nfields == 0;
	if (!nulls[3])
	{
		ordflow_json_begin_object(&json);
		for (int i = 0; i < item->nfields; i++)
			ordflow_json_put_text(&json, item->fields[i].name, item->fields[i].value);
		ordflow_json_end_object(&json);
		values[3] = JsonbPGetDatum(ordflow_json_finish(&json));
	}
	ORDFLOW_PUT_TEXT(values, nulls, 4, item->body);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* As the sync's role: what it may not read is not shown. */
static void
preview(ReturnSetInfo *result, Route *route, int max_rows)
{
	MemoryContext context = CurrentMemoryContext;
	Relation	source = relation_open(route->sync->source, AccessShareLock);
	RowRelation *row = ordflow_row_relation(source);
	const ChangeRelation *relation = &row->relation;
	SPITupleTable *rows;
	uint64		n;
	RoleSwitch	saved = ordflow_role_enter(route->role, true);
	int			nest = ordflow_change_settings();

	SPI_connect();
	if (SPI_execute(source_sql(route->sync->source, relation, max_rows), true, 0) != SPI_OK_SELECT)
		elog(ERROR, "the source could not be read");
	rows = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		ItemList	items = {0};
		ChangeValue *values;
		SinkPosition at = {.generation = 1,.lsn = 1,.ordinal = i + 1};
		Change		change = {.op = CHANGE_INSERT,.relation = relation,.is_snapshot = true,
		.committed_at = GetCurrentTimestamp()};

		MemoryContextSwitchTo(context);
		values = palloc0((relation->ncolumns + 1) * sizeof(ChangeValue));
		for (int c = 0; c < relation->ncolumns; c++)
		{
			char	   *text = SPI_getvalue(rows->vals[i], rows->tupdesc, c + 1);

			if (text != NULL && relation->columns[c].type == BOOLOID)
				text[1] = '\0';
			values[c].text = text;
			values[c].state = text ? VALUE_TEXT : VALUE_NULL;
			values[c].length = text ? strlen(text) : 0;
		}
		change.values = values;
		ordflow_route_change(route, &change, &at, &items);
		for (int k = 0; k < items.n; k++)
			put_item(result, &items.items[k]);
	}
	SPI_finish();
	AtEOXact_GUC(true, nest);
	ordflow_role_leave(saved);
	MemoryContextSwitchTo(context);
	ordflow_route_forget_relation(route);
	relation_close(source, AccessShareLock);
}

Datum
ordflow_preview_sync(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	SyncDefinition *sync;
	const Sink *sink = NULL;

	ordflow_require_preload();
	ordflow_require_not_null(fcinfo, 1, "max_rows");
	if (PG_GETARG_INT32(1) < 1 || PG_GETARG_INT32(1) > PREVIEW_MAX)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("max_rows must be from 1 to %d", PREVIEW_MAX));
	InitMaterializedSRF(fcinfo, 0);
	sync = ordflow_sync_of_caller(fcinfo);
	if (sync->server != NULL)
	{
		ModuleConfig *config = ordflow_server_config(sync->server,
													 get_role_oid(sync->role, false));

		sink = ordflow_module_load(config->module)->sink;
	}
	preview(result, ordflow_route_make(sync, sink, CurrentMemoryContext), PG_GETARG_INT32(1));
	return (Datum) 0;
}

/*
 * bound.c
 *	  What a submit could reach at best: its rows, with no check at all.
 *
 * Copies the rows that submit_order() wrote for one order, the template, with new
 * ids, into tables of the same shape, straight into heap and indexes: no parser,
 * no plan, no look at stock.  The update of the stock row is left out, being the
 * check itself.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(bound_submit);

/* What a column of a copy holds. */
typedef enum ColumnRole
{
	COLUMN_SAME,				/* the template's value */
	COLUMN_ORDER_ID,
	COLUMN_ORDER_NO,
	COLUMN_CUSTOMER,
	COLUMN_SKU,
	COLUMN_STOCK_ID,
	COLUMN_SERIAL,
	COLUMN_TIME					/* as long after now as the template's was */
} ColumnRole;

static const struct
{
	const char *column;
	ColumnRole	role;
}			column_roles[] = {
	{"order_id", COLUMN_ORDER_ID},
	{"order_no", COLUMN_ORDER_NO},
	{"customer", COLUMN_CUSTOMER},
	{"sku", COLUMN_SKU},
	{"stock_id", COLUMN_STOCK_ID},
	{"movement_id", COLUMN_SERIAL},
};

/* One table's rows of the template, kept for the life of the backend. */
typedef struct TemplateTable
{
	const char *name;
	Oid			relid;			/* of the table to write */
	int			natts;
	ColumnRole *roles;
	uint64		nrows;
	Datum	  **values;
	bool	  **nulls;
} TemplateTable;

static TemplateTable tables[] = {
	{"orders"}, {"order_lines"}, {"order_history"}, {"stock_movements"}
};

static int64 loaded_template = 0;
static TimestampTz loaded_at;
static Oid	serial;

static ColumnRole
column_role(Form_pg_attribute column)
{
	for (int i = 0; i < lengthof(column_roles); i++)
		if (strcmp(NameStr(column->attname), column_roles[i].column) == 0)
			return column_roles[i].role;
	return column->atttypid == TIMESTAMPTZOID ? COLUMN_TIME : COLUMN_SAME;
}

/* Connected to SPI. */
static void
load_table(TemplateTable *table, int64 template, Oid schema)
{
	char	   *query = psprintf("SELECT * FROM ordflow.%s WHERE order_id = %lld ORDER BY 2",
								 table->name, (long long) template);
	MemoryContext caller;

	if (SPI_execute(query, true, 0) != SPI_OK_SELECT || SPI_processed == 0)
		elog(ERROR, "order %lld has no rows in %s", (long long) template, table->name);
	caller = MemoryContextSwitchTo(TopMemoryContext);
	table->relid = get_relname_relid(table->name, schema);
	table->natts = SPI_tuptable->tupdesc->natts;
	table->nrows = SPI_processed;
	table->roles = palloc(sizeof(ColumnRole) * table->natts);
	for (int i = 0; i < table->natts; i++)
		table->roles[i] = column_role(TupleDescAttr(SPI_tuptable->tupdesc, i));
	table->values = palloc(sizeof(Datum *) * table->nrows);
	table->nulls = palloc(sizeof(bool *) * table->nrows);
	for (uint64 row = 0; row < table->nrows; row++)
	{
		HeapTuple	tuple = heap_copytuple(SPI_tuptable->vals[row]);

		table->values[row] = palloc(sizeof(Datum) * table->natts);
		table->nulls[row] = palloc(sizeof(bool) * table->natts);
		heap_deform_tuple(tuple, SPI_tuptable->tupdesc, table->values[row], table->nulls[row]);
	}
	MemoryContextSwitchTo(caller);
}

static void
load_template(int64 template)
{
	Oid			schema = get_namespace_oid("bound", false);

	SPI_connect();
	for (int i = 0; i < lengthof(tables); i++)
		load_table(&tables[i], template, schema);
	SPI_finish();
	serial = get_relname_relid("serial", schema);
	loaded_at = GetCurrentTimestamp();
	loaded_template = template;
}

static Datum
column_value(ColumnRole role, Datum same, int64 order_id, Datum customer, int32 sku,
			 TimestampTz now)
{
	switch (role)
	{
		case COLUMN_ORDER_ID:
			return Int64GetDatum(order_id);
		case COLUMN_ORDER_NO:
			return CStringGetTextDatum(psprintf("%lld", (long long) order_id));
		case COLUMN_CUSTOMER:
			return customer;
		case COLUMN_SKU:
			return CStringGetTextDatum(psprintf("%d", sku));
		case COLUMN_STOCK_ID:
			return Int64GetDatum(sku);
		case COLUMN_SERIAL:
			return Int64GetDatum(nextval_internal(serial, false));
		case COLUMN_TIME:
			return TimestampTzGetDatum(DatumGetTimestampTz(same) + (now - loaded_at));
		case COLUMN_SAME:
			break;
	}
	return same;
}

static void
fill_slot(TupleTableSlot *slot, const TemplateTable *table, uint64 row, int64 order_id,
		  Datum customer, int32 sku, TimestampTz now)
{
	for (int i = 0; i < table->natts; i++)
	{
		slot->tts_isnull[i] = table->nulls[row][i];
		if (!slot->tts_isnull[i])
			slot->tts_values[i] = column_value(table->roles[i], table->values[row][i],
											   order_id, customer, sku, now);
	}
	ExecStoreVirtualTuple(slot);
}

static void
write_index_entries(ResultRelInfo *result, EState *estate, TupleTableSlot *slot)
{
	ExprContext *context = GetPerTupleExprContext(estate);
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];

	context->ecxt_scantuple = slot;
	for (int i = 0; i < result->ri_NumIndices; i++)
	{
		Relation	index = result->ri_IndexRelationDescs[i];
		IndexInfo  *info = result->ri_IndexRelationInfo[i];

		if (info->ii_Predicate != NIL && info->ii_PredicateState == NULL)
			info->ii_PredicateState = ExecPrepareQual(info->ii_Predicate, estate);
		if (!ExecQual(info->ii_PredicateState, context))
			continue;
		FormIndexDatum(info, slot, estate, values, nulls);
		index_insert(index, values, nulls, &slot->tts_tid, result->ri_RelationDesc,
					 info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, info);
	}
}

/* All rows of one table at once, as COPY writes them. */
static void
write_rows(const TemplateTable *table, int64 order_id, Datum customer, const int32 *skus,
		   int nskus, TimestampTz now)
{
	Relation	relation = table_open(table->relid, RowExclusiveLock);
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *result = makeNode(ResultRelInfo);
	TupleTableSlot **slots = palloc(sizeof(TupleTableSlot *) * table->nrows);

	InitResultRelInfo(result, relation, 1, NULL, 0);
	ExecOpenIndices(result, false);
	for (uint64 row = 0; row < table->nrows; row++)
	{
		slots[row] = table_slot_create(relation, NULL);
		fill_slot(slots[row], table, row, order_id, customer, skus[Min(row, nskus - 1)], now);
	}
	if (table->nrows == 1)
		table_tuple_insert(relation, slots[0], GetCurrentCommandId(true), 0, NULL);
	else
		table_multi_insert(relation, slots, table->nrows, GetCurrentCommandId(true), 0, NULL);
	for (uint64 row = 0; row < table->nrows; row++)
	{
		write_index_entries(result, estate, slots[row]);
		ExecDropSingleTupleTableSlot(slots[row]);
	}
	ExecCloseIndices(result);
	FreeExecutorState(estate);
	table_close(relation, NoLock);
}

Datum
bound_submit(PG_FUNCTION_ARGS)
{
	int64		template = PG_GETARG_INT64(0);
	Datum		customer = PG_GETARG_DATUM(1);
	ArrayType  *skus = PG_GETARG_ARRAYTYPE_P(2);
	TimestampTz now = GetCurrentTimestamp();
	int64		order_id;

	if (template != loaded_template)
		load_template(template);
	order_id = nextval_internal(serial, false);
	for (int i = 0; i < lengthof(tables); i++)
		write_rows(&tables[i], order_id, customer, (int32 *) ARR_DATA_PTR(skus),
				   ArrayGetNItems(ARR_NDIM(skus), ARR_DIMS(skus)), now);
	PG_RETURN_INT64(order_id);
}

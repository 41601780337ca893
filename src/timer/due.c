/*
 * due.c
 *	  Tables with deadlines, and SQL that finds their rows.
 *
 * The statements run some hundred times a second on tables of any size, whose
 * statistics may be of yesterday, so they are planned once and by the index on the deadline or on
 * the key.  They read and lock as the owner of the table.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "timer/internal.h"

/* ---- tables ---- */

MachineTarget *
ordflow_due_holds(void)
{
	MachineTarget *target = palloc0(sizeof(MachineTarget));

	target->relid = ordflow_relid("holds");
	target->state_column = "state";
	target->key_column = "reference";
	target->key_type = TEXTOID;
	target->due_column = "expires_at";
	return target;
}

static bool
columns_exist(const MachineTarget *target)
{
	for (int i = 0; i < ordflow_machine_key_width(target); i++)
		if (get_attnum(target->relid, ordflow_machine_key_column(target, i)) == InvalidAttrNumber)
			return false;
	return get_attnum(target->relid, target->state_column) != InvalidAttrNumber &&
		get_atttype(target->relid, get_attnum(target->relid, target->due_column)) == TIMESTAMPTZOID;
}

/* Does a subscription write to the table, or to a partition of it? */
static bool
is_subscribed(const MachineTarget *target)
{
	List	   *relids = list_make1_oid(target->relid);
	ListCell   *cell;
	bool		found = false;

	if (target->partitioned)
		relids = find_all_inheritors(target->relid, NoLock, NULL);
	foreach(cell, relids)
	{
		CatCList   *list = SearchSysCacheList1(SUBSCRIPTIONRELMAP,
											   ObjectIdGetDatum(lfirst_oid(cell)));

		found = found || list->n_members > 0;
		ReleaseSysCacheList(list);
	}
	return found;
}

DueOpening
ordflow_due_open(DueTable *table, const MachineTarget *target)
{
	HeapTuple	tuple;
	Form_pg_class class;
	bool		foreign_temp;

	memset(table, 0, sizeof(DueTable));
	if (!ConditionalLockRelationOid(target->relid, RowExclusiveLock))
		return DUE_LOCKED;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(target->relid));
	if (!HeapTupleIsValid(tuple))
		return DUE_GONE;
	class = (Form_pg_class) GETSTRUCT(tuple);
	foreign_temp = isOtherTempNamespace(class->relnamespace);
	table->target = target;
	table->name = ordflow_machine_table(target->relid);
	table->owner = class->relowner;
	table->ours = class->relnamespace == get_namespace_oid("ordflow", false);
	ReleaseSysCache(tuple);
	if (foreign_temp || is_subscribed(target))
		return DUE_GONE;
	return columns_exist(target) ? DUE_OPEN : DUE_BROKEN;
}

void
ordflow_due_warn_broken(const DueTable *table)
{
	ereport(WARNING,
			errcode(ERRCODE_UNDEFINED_COLUMN),
			errmsg("timeouts of table %s are not run: a column that its machine needs is gone",
				   table->name),
			errhint("Call ordflow.detach(), then ordflow.attach() with the column's new name."));
}

void
ordflow_due_warn_failed(const DueTable *table, const ErrorData *error)
{
	ereport(WARNING,
			errcode(error->sqlerrcode),
			errmsg("timeouts of table %s could not be run: %s", table->name, error->message));
}

/* ---- keys ---- */

typedef struct KeyReading
{
	const MachineTarget *target;
	const char **texts;
	int			n;
	Datum	   *keys;
} KeyReading;

static void
read_keys(void *arg)
{
	KeyReading *reading = arg;

	for (int i = 0; i < reading->n; i++)
		reading->keys[i] = ordflow_machine_key_from_text(reading->target, reading->texts[i]);
}

/* The keys that the texts are.  A text that is no key, of the type as it is now, is no row's. */
static Datum
keys_from_texts(const DueTable *table, const char **texts, int ntexts)
{
	Datum	   *keys = palloc(sizeof(Datum) * Max(ntexts, 1));
	KeyReading	all = {table->target, texts, ntexts, keys};
	int			n = 0;

	if (ordflow_due_attempt(read_keys, &all) == NULL)
		n = ntexts;
	else
		for (int i = 0; i < ntexts; i++)
		{
			KeyReading	one = {table->target, &texts[i], 1, &keys[n]};

			if (ordflow_due_attempt(read_keys, &one) == NULL)
				n++;
		}
	return ordflow_machine_key_array(table->target, keys, n);
}

Datum
ordflow_due_key_texts(const DueTable *table, const DueObject *objects, int n)
{
	const char **keys = palloc(sizeof(char *) * Max(n, 1));

	for (int i = 0; i < n; i++)
		keys[i] = ordflow_machine_key_text(table->target, objects[i].key);
	return ordflow_text_array(keys, n);
}

/* ---- rows ---- */

/*
 * FROM and WHERE of a search: $1 is from, or the keys, $2 until, $3 the limit, $4 what
 * is parked.
 */
static char *
condition(const DueTable *table, const DueSearch *search)
{
	const MachineTarget *target = table->target;
	const char *due = quote_identifier(target->due_column);

	return psprintf("FROM %s AS o WHERE %s AND o.%s <= $2 AND %s%s%s%s",
					ordflow_machine_from(target),
					search->nkeys > 0 ? ordflow_machine_key_condition(target, 1, true) :
					psprintf("o.%s >= $1", due),
					due, ordflow_machine_key_not_null(target),
					target->machine == NULL ? " AND o.state = 'held'" : "",
					table->nwaiting == 0 ? "" : " AND ",
					table->nwaiting == 0 ? "" : ordflow_machine_key_exclusion(target, 4));
}

/* SPI leaves its own memory context behind, which does not outlast the transaction. */
static uint64
query(const DueTable *table, const DueSearch *search, const char *sql)
{
	MemoryContext context = CurrentMemoryContext;
	Oid			keys = get_array_type(table->target->key_type);
	Oid			types[4] = {TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, keys};
	Datum		values[4];
	RoleSwitch	saved;
	uint64		n;

	values[0] = TimestampTzGetDatum(search->from);
	if (search->nkeys > 0)
	{
		types[0] = keys;
		values[0] = keys_from_texts(table, search->keys, search->nkeys);
	}
	values[1] = TimestampTzGetDatum(search->until);
	values[2] = Int32GetDatum(search->limit);
	if (table->nwaiting > 0)
		values[3] = keys_from_texts(table, table->waiting, table->nwaiting);
	saved = ordflow_machine_owner_enter(table->target->relid);
	n = ordflow_machine_query_by_index(sql, table->nwaiting > 0 ? 4 : 3, types, values);
	ordflow_role_leave(saved);
	MemoryContextSwitchTo(context);
	return n;
}

static const char *
order_by(const DueTable *table, const DueSearch *search)
{
	if (search->nkeys > 0)
		return "";
	return psprintf("ORDER BY o.%s ", quote_identifier(table->target->due_column));
}

int
ordflow_due_lock(const DueTable *table, const DueSearch *search, DueObject **objects)
{
	const MachineTarget *target = table->target;
	int			width = ordflow_machine_key_width(target);
	char	   *sql = psprintf("SELECT %s, o.%s::text, o.%s %s %sLIMIT $3 "
							   "FOR NO KEY UPDATE OF o SKIP LOCKED",
							   ordflow_machine_key_list(target),
							   quote_identifier(target->state_column),
							   quote_identifier(target->due_column),
							   condition(table, search), order_by(table, search));
	int			n = query(table, search, sql);
	bool		isnull;

	*objects = palloc0(sizeof(DueObject) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		DueObject  *object = &(*objects)[i];

		object->key = ordflow_machine_key_result(target, i);
		object->state = ordflow_result_text(i, width + 1);
		object->due = DatumGetTimestampTz(ordflow_result(i, width + 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return n;
}

int
ordflow_due_read(const DueTable *table, const DueSearch *search, DueRow **rows)
{
	const MachineTarget *target = table->target;
	int			width = ordflow_machine_key_width(target);
	char	   *sql = psprintf("SELECT %s, o.%s %s %sLIMIT $3", ordflow_machine_key_list(target),
							   quote_identifier(target->due_column),
							   condition(table, search), order_by(table, search));
	int			n = query(table, search, sql);
	bool		isnull;

	*rows = palloc(sizeof(DueRow) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		(*rows)[i].key = ordflow_machine_key_text(target, ordflow_machine_key_result(target, i));
		(*rows)[i].due = DatumGetTimestampTz(ordflow_result(i, width + 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return n;
}

int64
ordflow_due_count(const DueTable *table, const DueSearch *search)
{
	query(table, search, psprintf("SELECT count(*) FROM (SELECT %s LIMIT $3) AS s",
								  condition(table, search)));
	return ordflow_result_int64(0, 1);
}

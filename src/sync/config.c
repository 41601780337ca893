/*
 * config.c
 *	  The syncs and deliveries of this database, as their tables have them.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/pg_lsn.h"

#include "sync/internal.h"

#define SYNC_COLUMNS \
	"s.sync_id, s.name, coalesce(b.relid, pg_catalog.to_regclass(s.source)::pg_catalog.oid, 0), " \
	"s.server, s.target, s.mode, s.role, s.paused, " \
	"s.options, b.lsn, b.xid::pg_catalog.text::pg_catalog.int8, d.delivery_id " \
	"FROM ordflow.syncs s LEFT JOIN ordflow.sync_starts b USING (sync_id) " \
	"LEFT JOIN ordflow.sync_deliveries d " \
	"ON d.server IS NOT DISTINCT FROM s.server AND d.role = s.role AND s.mode = 'cdc' "

static Statement read_syncs = {
	.sql = "SELECT " SYNC_COLUMNS "WHERE s.mode = 'cdc' ORDER BY s.sync_id"
};

static Statement read_sync = {
	.sql = "SELECT " SYNC_COLUMNS "WHERE s.name = $1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static Statement read_sync_by_id = {
	.sql = "SELECT " SYNC_COLUMNS "WHERE s.sync_id = $1",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement read_deliveries = {
	.sql = "SELECT delivery_id, server, role, token::pg_catalog.text, generation, stopped, "
	"problem, "
	"sent, released, backlog FROM ordflow.sync_deliveries ORDER BY delivery_id"
};

static Statement make_deliveries = {
	.sql = "INSERT INTO ordflow.sync_deliveries (server, role, emits) "
	"SELECT n.server, n.role, pg_catalog.bool_or(n.emits) FROM ("
	"SELECT server, role, false AS emits FROM ordflow.syncs WHERE mode = 'cdc' "
	"UNION SELECT server, role, true FROM ordflow.outbox) AS n WHERE NOT EXISTS ("
	"SELECT FROM ordflow.sync_deliveries d WHERE d.server IS NOT DISTINCT FROM n.server "
	"AND d.role = n.role) GROUP BY n.server, n.role ON CONFLICT DO NOTHING"
};

/* Of a database that was restored or copied. */
static Statement make_starts = {
	.sql = "WITH starts AS (INSERT INTO ordflow.sync_starts (sync_id, relid, lsn, xid) "
	"SELECT s.sync_id, pg_catalog.to_regclass(s.source), '0/0', '0' FROM ordflow.syncs s "
	"WHERE pg_catalog.to_regclass(s.source) IS NOT NULL AND NOT EXISTS ("
	"SELECT FROM ordflow.sync_starts b WHERE b.sync_id = s.sync_id) ON CONFLICT DO NOTHING "
	"RETURNING sync_id) "
	"INSERT INTO ordflow.sync_copies (sync_id, is_fresh, sweeps) SELECT s.sync_id, false, true "
	"FROM ordflow.syncs s JOIN starts USING (sync_id) WHERE s.mode = 'cdc' "
	"AND s.options OPERATOR(pg_catalog.->) 'copy' IS DISTINCT FROM 'false'::pg_catalog.jsonb "
	"ON CONFLICT DO NOTHING"
};

/* Sources that were renamed: a dump is to find them. */
static Statement follow_names = {
	.sql = "UPDATE ordflow.syncs s SET source = n.name FROM ordflow.sync_starts b, "
	"LATERAL (SELECT pg_catalog.format('%I.%I', k.nspname, c.relname) AS name "
	"FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace k ON k.oid = c.relnamespace "
	"WHERE c.oid = b.relid) AS n WHERE b.sync_id = s.sync_id AND s.source <> n.name"
};

static XLogRecPtr
result_lsn(uint64 row, int column)
{
	bool		isnull;
	Datum		value = ordflow_result(row, column, &isnull);

	return isnull ? InvalidXLogRecPtr : DatumGetLSN(value);
}

static bool
result_bool(uint64 row, int column)
{
	bool		isnull;
	Datum		value = ordflow_result(row, column, &isnull);

	return !isnull && DatumGetBool(value);
}

static SyncDefinition *
read_definition(uint64 row)
{
	SyncDefinition *sync = palloc0(sizeof(SyncDefinition));
	bool		isnull;
	Datum		options = ordflow_result(row, 9, &isnull);

	sync->sync_id = ordflow_result_int64(row, 1);
	sync->name = ordflow_result_text(row, 2);
	sync->source = DatumGetObjectId(ordflow_result(row, 3, &isnull));
	sync->server = ordflow_result_text(row, 4);
	sync->target = ordflow_result_text(row, 5);
	sync->mode = ordflow_result_text(row, 6);
	sync->role = ordflow_result_text(row, 7);
	sync->paused = result_bool(row, 8);
	sync->options = DatumGetJsonbPCopy(options);
	sync->start = result_lsn(row, 10);
	sync->start_xid = ordflow_result_int64(row, 11);
	sync->delivery_id = ordflow_result_int64(row, 12);
	return sync;
}

/* A statement leaves SPI's own context behind as the current one. */
static List *
each_row(Statement *statement, Datum *values, void *(*read) (uint64 row))
{
	MemoryContext context = CurrentMemoryContext;
	List	   *list = NIL;
	uint64		n = ordflow_execute(statement, values, NULL);

	MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < n; i++)
		list = lappend(list, read(i));
	return list;
}

static void *
read_one_definition(uint64 row)
{
	return read_definition(row);
}

static void *
read_delivery(uint64 row)
{
	SyncDelivery *delivery = palloc0(sizeof(SyncDelivery));

	delivery->delivery_id = ordflow_result_int64(row, 1);
	delivery->server = ordflow_result_text(row, 2);
	delivery->role = ordflow_result_text(row, 3);
	delivery->token = ordflow_result_text(row, 4);
	delivery->generation = ordflow_result_int64(row, 5);
	delivery->stopped = result_bool(row, 6);
	delivery->problem = ordflow_result_text(row, 7);
	delivery->sent = ordflow_result_text(row, 8);
	delivery->released = result_lsn(row, 9);
	delivery->backlog = result_bool(row, 10);
	return delivery;
}

List *
ordflow_sync_definitions(void)
{
	return each_row(&read_syncs, NULL, read_one_definition);
}

List *
ordflow_sync_deliveries(void)
{
	return each_row(&read_deliveries, NULL, read_delivery);
}

void
ordflow_sync_make_deliveries(void)
{
	ordflow_execute(&make_deliveries, NULL, NULL);
	ordflow_execute(&make_starts, NULL, NULL);
}

SyncDefinition *
ordflow_sync_by_name(const char *name)
{
	Datum		value = CStringGetTextDatum(name);
	List	   *found = each_row(&read_sync, &value, read_one_definition);

	return found != NIL ? linitial(found) : NULL;
}

SyncDefinition *
ordflow_sync_by_id(int64 sync_id)
{
	Datum		value = Int64GetDatum(sync_id);
	List	   *found = each_row(&read_sync_by_id, &value, read_one_definition);

	return found != NIL ? linitial(found) : NULL;
}

void
ordflow_sync_follow_names(void)
{
	ordflow_execute(&follow_names, NULL, NULL);
}

char *
ordflow_delivery_name(const SyncDelivery *delivery)
{
	char	   *name = psprintf(INT64_FORMAT " %s", delivery->delivery_id,
								delivery->server ? delivery->server : "tables");

	if (strlen(name) >= COMPANION_NAME_MAX)
		name[COMPANION_NAME_MAX - 1] = '\0';
	return name;
}

/*
 * activation.c
 *	  Whether workers may act in this database: a copy sleeps.
 *
 * Rows of ordflow.activation count that hold this database's own oid: those of a
 * copied database hold another's, and a dump has none.  A row that somebody wrote by
 * activate() or deactivate() counts more than one that came by itself, and of
 * several the last one counts.  Rows are only added, so that two first submits at
 * the same time never wait for each other.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "worker/internal.h"

PG_FUNCTION_INFO_V1(ordflow_activate);
PG_FUNCTION_INFO_V1(ordflow_deactivate);
PG_FUNCTION_INFO_V1(ordflow_is_active);
PG_FUNCTION_INFO_V1(ordflow_activation_changed);

/* the columns of ordflow.activation */
enum
{
	ATTNUM_ID = 1, ATTNUM_PART, ATTNUM_DATABASE, ATTNUM_ACTIVE, ATTNUM_AUTOMATIC
};

typedef enum Activation
{
	ACTIVATION_UNKNOWN,			/* not read yet */
	ACTIVATION_NONE,			/* nothing was ever said */
	ACTIVATION_OFF,
	ACTIVATION_ON
} Activation;

/* What the table says, as long as nobody invalidates it. */
static Activation known[DUTY_KINDS];
static Oid	table = InvalidOid;

/* This transaction has written into it: what is known may be rolled back. */
static bool written = false;

static Statement add_row = {
	.sql = "INSERT INTO ordflow.activation (part, database, active, automatic, at, actor) "
	"VALUES ($1, $2, $3, $4, $5, $6)",
	.nargs = 6,
	.argtypes = {TEXTOID, OIDOID, BOOLOID, BOOLOID, TIMESTAMPTZOID, TEXTOID}
};

static void
forget(Oid relid)
{
	if (OidIsValid(relid) && relid != table && OidIsValid(table))
		return;
	table = InvalidOid;
	for (int i = 0; i < DUTY_KINDS; i++)
		known[i] = ACTIVATION_UNKNOWN;
}

void
ordflow_activation_init(void)
{
	ordflow_on_relation_change(forget);
}

void
ordflow_activation_rolled_back(void)
{
	if (written)
		forget(InvalidOid);
}

void
ordflow_activation_ended(void)
{
	written = false;
}

/* A row of this part and database against the one that counted so far. */
typedef struct ActivationRow
{
	bool		found;
	bool		automatic;
	int64		id;
	bool		active;
} ActivationRow;

static void
consider(ActivationRow *best, const ActivationRow *row)
{
	if (!best->found || (best->automatic && !row->automatic) ||
		(best->automatic == row->automatic && row->id > best->id))
		*best = *row;
}

/*
 * With a snapshot of this moment at any isolation level.  The scan finds every version of a row and
 * so takes no predicate lock: the first two orders ever are no conflict.
 */
static Activation
read_table(const char *part)
{
	Relation	rel = table_open(table, AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, SnapshotAny, 0, NULL);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ActivationRow best = {0};

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		ActivationRow row = {.found = true};
		bool		isnull;
		char	   *row_part;

		if (!table_tuple_satisfies_snapshot(rel, slot, snapshot))
			continue;
		row_part = TextDatumGetCString(slot_getattr(slot, ATTNUM_PART, &isnull));
		if (strcmp(row_part, part) != 0 ||
			DatumGetObjectId(slot_getattr(slot, ATTNUM_DATABASE, &isnull)) != MyDatabaseId)
			continue;
		row.id = DatumGetInt64(slot_getattr(slot, ATTNUM_ID, &isnull));
		row.active = DatumGetBool(slot_getattr(slot, ATTNUM_ACTIVE, &isnull));
		row.automatic = DatumGetBool(slot_getattr(slot, ATTNUM_AUTOMATIC, &isnull));
		consider(&best, &row);
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	if (!best.found)
		return ACTIVATION_NONE;
	return best.active ? ACTIVATION_ON : ACTIVATION_OFF;
}

static Activation
look_up(DutyKind kind)
{
	Oid			schema;

	if (known[kind] != ACTIVATION_UNKNOWN)
		return known[kind];
	schema = get_namespace_oid("ordflow", true);
	table = OidIsValid(schema) ? get_relname_relid("activation", schema) : InvalidOid;
	if (!OidIsValid(table))
		return ACTIVATION_NONE;
	known[kind] = read_table(ordflow_duty_part(kind));
	return known[kind];
}

bool
ordflow_activation_is_on(DutyKind kind)
{
	return look_up(kind) == ACTIVATION_ON;
}

/* The trigger on the table makes everybody look again, this session too. */
static void
write_row(DutyKind kind, bool active, bool automatic)
{
	Datum		values[6];
	RoleSwitch	saved;

	values[0] = CStringGetTextDatum(ordflow_duty_part(kind));
	values[1] = ObjectIdGetDatum(MyDatabaseId);
	values[2] = BoolGetDatum(active);
	values[3] = BoolGetDatum(automatic);
	values[4] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[5] = CStringGetTextDatum(ordflow_actor());
	SPI_connect();
	saved = ordflow_role_enter(ordflow_owner(), false);
	ordflow_execute(&add_row, values, NULL);
	ordflow_role_leave(saved);
	SPI_finish();
}

void
ordflow_worker_activate(DutyKind kind)
{
	if (ordflow_preloaded && look_up(kind) == ACTIVATION_NONE)
		write_row(kind, true, true);
}

static void
set_all(bool active)
{
	ordflow_require_preload();
	for (int i = 0; i < DUTY_KINDS; i++)
		write_row(i, active, false);
}

Datum
ordflow_activate(PG_FUNCTION_ARGS)
{
	set_all(true);
	PG_RETURN_VOID();
}

Datum
ordflow_deactivate(PG_FUNCTION_ARGS)
{
	set_all(false);
	PG_RETURN_VOID();
}

Datum
ordflow_is_active(PG_FUNCTION_ARGS)
{
	char	   *part;

	ordflow_require_not_null(fcinfo, 0, "part");
	part = text_to_cstring(PG_GETARG_TEXT_PP(0));
	for (int i = 0; i < DUTY_KINDS; i++)
		if (strcmp(part, ordflow_duty_part(i)) == 0)
			PG_RETURN_BOOL(ordflow_activation_is_on(i));
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("there is no part \"%s\" to activate", part));
}

Datum
ordflow_activation_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("function ordflow.activation_changed must be called as a trigger"));
	written = true;
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	ordflow_wake_afresh();
	return PointerGetDatum(NULL);
}

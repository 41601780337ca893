/*
 * hold.c
 *	  Units held under a reference: a checkout, or orders that the shop keeps itself.
 *
 * The row of the hold is its lock: it is inserted first, so a twin waits, and
 * locked before any stock.  A hold counts as released from its expires_at
 * on, whether or not anybody has come by to write that.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "counter/counter.h"
#include "stock/stock.h"
#include "worker/worker.h"

/* references that begin so belong to orders */
#define ORDER_REFERENCE "order:"

/* expired holds released by one statement when a sale falls short */
#define RELEASE_BATCH 1000

#define DEFAULT_LOCATION "main"

PG_FUNCTION_INFO_V1(ordflow_reserve_stock);
PG_FUNCTION_INFO_V1(ordflow_commit_stock);
PG_FUNCTION_INFO_V1(ordflow_release_stock);
PG_FUNCTION_INFO_V1(ordflow_hold_deadline);

typedef struct Hold
{
	const char *reference;
	char	   *state;
	TimestampTz expires_at;		/* DT_NOEND: never */
	TimestampTz now;			/* the clock, read after the lock */
} Hold;

/* A line as it was asked for. */
typedef struct HoldLine
{
	const char *sku;
	const char *location;
	int64		quantity;
	int			position;		/* in the argument, from 1 */
} HoldLine;

/* The lines of one call, and what they make for each (sku, location). */
typedef struct HoldRequest
{
	HoldLine   *lines;			/* by (sku, location, position) */
	int			nlines;
	StockDemand *demands;
	int		   *first_line;		/* of each demand; one more as an end mark */
	int			ndemands;
	int64		units;
} HoldRequest;

static Statement insert_hold = {
	.sql = "INSERT INTO ordflow.holds (reference, state, expires_at, actor, created_at)"
	" VALUES ($1, 'held', $2, $3, $4) ON CONFLICT (reference) DO NOTHING",
	.nargs = 4,
	.argtypes = {TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID}
};

static Statement reuse_hold = {
	.sql = "UPDATE ordflow.holds SET state = 'held', expires_at = $2, actor = $3,"
	" created_at = $4, ended_at = NULL WHERE reference = $1",
	.nargs = 4,
	.argtypes = {TEXTOID, TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID}
};

static Statement lock_hold = {
	.sql = "SELECT state, expires_at FROM ordflow.holds WHERE reference = $1 FOR UPDATE",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static Statement end_holds = {
	.sql = "UPDATE ordflow.holds SET state = $2, ended_at = $3 WHERE reference = ANY ($1)",
	.nargs = 3,
	.argtypes = {TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID}
};

static Statement insert_lines = {
	.sql = "INSERT INTO ordflow.hold_lines (reference, line_no, stock_id, quantity)"
	" SELECT $1, l.n, l.stock_id, l.quantity"
	" FROM unnest($2, $3) WITH ORDINALITY AS l (stock_id, quantity, n)",
	.nargs = 3,
	.argtypes = {TEXTOID, INT8ARRAYOID, INT8ARRAYOID}
};

static Statement delete_lines = {
	.sql = "DELETE FROM ordflow.hold_lines WHERE reference = $1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static Statement read_lines = {
	.sql = "SELECT s.sku, s.location, l.quantity"
	" FROM ordflow.hold_lines l JOIN ordflow.stock s ON s.stock_id = l.stock_id"
	" WHERE l.reference = $1 ORDER BY s.sku, s.location",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static Statement read_units = {
	.sql = "SELECT reference, stock_id, quantity FROM ordflow.hold_lines"
	" WHERE reference = ANY ($1)",
	.nargs = 1,
	.argtypes = {TEXTARRAYOID}
};

/* OFFSET 0: expired holds are few, lines many, so no hash over all the lines */
static Statement find_expired_on = {
	.sql = "SELECT h.reference, h.ctid FROM ordflow.holds h"
	" WHERE h.state = 'held' AND h.expires_at <= $1 AND EXISTS ("
	"  SELECT FROM ordflow.hold_lines l"
	"  WHERE l.reference = h.reference AND l.stock_id = $3 OFFSET 0)"
	" ORDER BY h.expires_at LIMIT $2",
	.nargs = 3,
	.argtypes = {TIMESTAMPTZOID, INT8OID, INT8OID}
};

static Statement next_expiry = {
	.sql = "SELECT min(expires_at) FROM ordflow.holds WHERE state = 'held'",
};

/* The last transaction of this backend that has ended holds. */
static FullTransactionId ended_by = {0};

void
ordflow_stock_check_reference(const char *reference)
{
	if (strncmp(reference, ORDER_REFERENCE, strlen(ORDER_REFERENCE)) == 0)
		ereport(ERROR,
				errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("reference \"%s\" belongs to an order", reference),
				errhint("References that begin with \"%s\" are kept for orders.",
						ORDER_REFERENCE));
}

static char *
arg_reference(FunctionCallInfo fcinfo)
{
	char	   *reference = ordflow_arg_text(fcinfo, 0, "reference");

	ordflow_stock_check_reference(reference);
	return reference;
}

/* Locks the hold's row and reads it and the clock; false = no such hold. */
static bool
hold_lock(const char *reference, Hold *hold)
{
	Datum		values[1] = {CStringGetTextDatum(reference)};
	bool		isnull;
	Datum		expires_at;

	ordflow_counter_pass_gate();
	ordflow_worker_wake_blocked();
	if (ordflow_execute(&lock_hold, values, NULL) == 0)
		return false;
	hold->reference = reference;
	hold->state = ordflow_result_text(0, 1);
	expires_at = ordflow_result(0, 2, &isnull);
	hold->expires_at = isnull ? DT_NOEND : DatumGetTimestampTz(expires_at);
	hold->now = GetCurrentTimestamp();
	return true;
}

static bool
hold_is(const Hold *hold, const char *state)
{
	return strcmp(hold->state, state) == 0;
}

static bool
hold_has_expired(const Hold *hold)
{
	return hold_is(hold, "held") && hold->expires_at <= hold->now;
}

/*
 * Ends holds whose rows are locked: their units leave the shelf (committed) or
 * become available again (released, expired).  A hold that somebody else began after our
 * snapshot was taken may be among those that have expired.
 */
static void
holds_end(const char *const *references, int n, const char *state, TimestampTz now)
{
	bool		committed = strcmp(state, "committed") == 0;
	Datum		values[3];
	StockMovement *movements;
	int			nmovements;

	values[0] = ordflow_text_array(references, n);
	nmovements = ordflow_execute_latest(&read_units, values, NULL);
	movements = palloc0(sizeof(StockMovement) * Max(nmovements, 1));
	for (int i = 0; i < nmovements; i++)
	{
		StockMovement *movement = &movements[i];

		CHECK_FOR_INTERRUPTS();
		movement->kind = committed ? "shipped" : "released";
		movement->reference = ordflow_result_text(i, 1);
		movement->stock_id = ordflow_result_int64(i, 2);
		movement->reserved = -ordflow_result_int64(i, 3);
		movement->on_hand = committed ? movement->reserved : 0;
		movement->reason = strcmp(state, "expired") == 0 ? "expired" : NULL;
	}
	ordflow_stock_apply(movements, nmovements);

	values[1] = CStringGetTextDatum(state);
	values[2] = TimestampTzGetDatum(now);
	ordflow_execute_latest(&end_holds, values, NULL);
	ended_by = GetTopFullTransactionId();
}

/* A rollback may bring them back, which this transaction no longer sees. */
bool
ordflow_stock_has_ended_holds(void)
{
	return FullTransactionIdIsValid(ended_by) &&
		FullTransactionIdEquals(ended_by, GetTopFullTransactionIdIfAny());
}

/*
 * The references in the last result of those holds that could be locked as they were found.  SKIP
 * LOCKED would not do: at the higher isolation levels it fails where somebody has changed a row
 * since, who in this case has just released the hold.
 */
static int
lock_found(int n, const char **references)
{
	Relation	rel = table_open(ordflow_relid("holds"), RowShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	int			locked = 0;

	for (int i = 0; i < n; i++)
	{
		bool		isnull;
		ItemPointerData tid = *(ItemPointer) DatumGetPointer(ordflow_result(i, 2, &isnull));
		TM_FailureData failure;

		if (table_tuple_lock(rel, &tid, snapshot, slot, GetCurrentCommandId(true),
							 LockTupleExclusive, LockWaitSkip, 0, &failure) == TM_Ok)
			references[locked++] = ordflow_result_text(i, 1);
		ExecClearTuple(slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(rel, NoLock);
	return locked;
}

void
ordflow_stock_expire_holds(const char *const *references, int n, TimestampTz now)
{
	if (n > 0)
		holds_end(references, n, "expired", now);
}

int
ordflow_stock_release_expired(int64 stock_id, TimestampTz now)
{
	Datum		values[3];
	int			released = 0;
	int			found;
	int			locked;

	values[0] = TimestampTzGetDatum(now);
	values[1] = Int64GetDatum(RELEASE_BATCH);
	values[2] = Int64GetDatum(stock_id);
	do
	{
		const char **references;

		CHECK_FOR_INTERRUPTS();
		found = ordflow_execute_latest(&find_expired_on, values, NULL);
		references = palloc(sizeof(char *) * Max(found, 1));
		locked = lock_found(found, references);
		if (locked > 0)
			holds_end(references, locked, "expired", now);
		released += locked;

		/* what could not be locked would be found again */
	} while (locked == RELEASE_BATCH);
	return released;
}

TimestampTz
ordflow_stock_next_expiry(void)
{
	Datum		at;
	bool		never;

	ordflow_execute_latest(&next_expiry, NULL, NULL);
	at = ordflow_result(0, 1, &never);
	return never ? DT_NOEND : DatumGetTimestampTz(at);
}

static int
compare_places(const char *sku_a, const char *location_a, const char *sku_b,
			   const char *location_b)
{
	int			cmp = strcmp(sku_a, sku_b);

	return cmp != 0 ? cmp : strcmp(location_a, location_b);
}

static int
compare_lines(const void *a, const void *b)
{
	const HoldLine *l = a;
	const HoldLine *r = b;
	int			cmp = compare_places(l->sku, l->location, r->sku, r->location);

	return cmp != 0 ? cmp : l->position - r->position;
}

static void
read_request_lines(HoldRequest *request, JsonbContainer *lines)
{
	enum
	{
		SKU, QUANTITY, LOCATION, NFIELDS
	};
	static const JsonField fields[NFIELDS] = {
		{"sku", JSON_TEXT, true},
		{"quantity", JSON_QUANTITY, true},
		{"location", JSON_TEXT, false}
	};

	if (!JsonContainerIsArray(lines) || JsonContainerIsScalar(lines) ||
		JsonContainerSize(lines) == 0)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("lines must be an array of at least one line"),
				errhint("As in [{\"sku\": \"85123A\", \"quantity\": 6}]."));
	request->nlines = JsonContainerSize(lines);
	if (request->nlines > ordflow_max_lines)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("there are %d lines, at most %d are allowed",
					   request->nlines, ordflow_max_lines),
				errhint("The setting ordflow.max_lines holds the limit."));

	request->lines = palloc(sizeof(HoldLine) * request->nlines);
	for (int i = 0; i < request->nlines; i++)
	{
		HoldLine   *line = &request->lines[i];
		JsonItem	items[NFIELDS];
		char		what[32];

		CHECK_FOR_INTERRUPTS();
		snprintf(what, sizeof(what), "line %d", i + 1);
		ordflow_json_read(ordflow_json_element(lines, i), what, fields, NFIELDS, items, NULL);
		line->sku = items[SKU].text;
		line->quantity = items[QUANTITY].quantity;
		line->location = items[LOCATION].null ? DEFAULT_LOCATION : items[LOCATION].text;
		line->position = i + 1;
	}
}

/* Adds the lines up for each (sku, location). */
static void
request_init(HoldRequest *request, Jsonb *lines)
{
	memset(request, 0, sizeof(HoldRequest));
	read_request_lines(request, &lines->root);
	qsort(request->lines, request->nlines, sizeof(HoldLine), compare_lines);
	request->demands = palloc0(sizeof(StockDemand) * request->nlines);
	request->first_line = palloc(sizeof(int) * (request->nlines + 1));
	for (int i = 0; i < request->nlines; i++)
	{
		HoldLine   *line = &request->lines[i];
		StockDemand *demand;

		if (i == 0 || compare_places(line->sku, line->location,
									 line[-1].sku, line[-1].location) != 0)
		{
			request->first_line[request->ndemands] = i;
			request->demands[request->ndemands].sku = line->sku;
			request->demands[request->ndemands++].location = line->location;
		}
		demand = &request->demands[request->ndemands - 1];
		demand->quantity = ordflow_stock_sum(demand->quantity, line->quantity);
		request->units = ordflow_stock_sum(request->units, line->quantity);
	}
	request->first_line[request->ndemands] = request->nlines;
}

/* Every demand that stood in the way, with the positions of its lines. */
pg_noreturn static void
request_refuse(const HoldRequest *request)
{
	JsonBuild	b = {0};
	bool		unknown = false;

	ordflow_json_begin_array(&b);
	for (int i = 0; i < request->ndemands; i++)
	{
		const StockDemand *demand = &request->demands[i];

		if (demand->stock_id != 0 && demand->quantity <= demand->available)
			continue;
		unknown |= demand->stock_id == 0;
		ordflow_json_begin_object(&b);
		ordflow_json_put_text(&b, "problem",
							  demand->stock_id == 0 ? "unknown_object" : "insufficient_stock");
		ordflow_json_key(&b, "lines");
		ordflow_json_begin_array(&b);
		for (int j = request->first_line[i]; j < request->first_line[i + 1]; j++)
			ordflow_json_put_int64(&b, NULL, request->lines[j].position);
		ordflow_json_end_array(&b);
		ordflow_stock_put_problem(&b, demand);
		ordflow_json_end_object(&b);
	}
	ordflow_json_end_array(&b);
	ordflow_stock_refuse(unknown, &b);
}

/* OF005 unless the hold has the very units that are asked for. */
static void
require_same_lines(const Hold *hold, const HoldRequest *request)
{
	Datum		values[1] = {CStringGetTextDatum(hold->reference)};
	int			n = ordflow_execute(&read_lines, values, NULL);
	bool		same = n == request->ndemands;

	for (int i = 0; i < n && same; i++)
		same = compare_places(ordflow_result_text(i, 1), ordflow_result_text(i, 2),
							  request->demands[i].sku, request->demands[i].location) == 0 &&
			ordflow_result_int64(i, 3) == request->demands[i].quantity;
	if (!same)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_KEY_REUSED),
				errmsg("reference \"%s\" was given other lines before", hold->reference),
				hold_is(hold, "held") ? errhint("Release it first, or take another reference.") :
				errhint("Take another reference."));
}

/* Takes the units of a new hold, whose row stands, and writes its lines and movements. */
static void
request_reserve(const char *reference, const HoldRequest *request, TimestampTz expires_at)
{
	int			n = request->ndemands;
	bool		granted = true;
	StockMovement *movements = palloc0(sizeof(StockMovement) * n);
	int64	   *stock_ids = palloc(sizeof(int64) * n);
	int64	   *quantities = palloc(sizeof(int64) * n);
	Datum		values[3];

	ordflow_stock_reserve(request->demands, n, &granted, 1);
	if (!granted)
		request_refuse(request);

	for (int i = 0; i < n; i++)
	{
		stock_ids[i] = request->demands[i].stock_id;
		quantities[i] = request->demands[i].quantity;
		movements[i].kind = "reserved";
		movements[i].stock_id = stock_ids[i];
		movements[i].reserved = quantities[i];
		movements[i].reference = reference;
		ordflow_counter_note_expiry(COUNTER_STOCK, stock_ids[i], expires_at);
	}
	values[0] = CStringGetTextDatum(reference);
	values[1] = ordflow_int8_array(stock_ids, n);
	values[2] = ordflow_int8_array(quantities, n);
	ordflow_execute(&insert_lines, values, NULL);
	ordflow_stock_record(movements, n);
}

/*
 * Writes the hold's row.  True: a new hold begins under the reference; false: the
 * same hold stands already.
 */
static bool
hold_begin(const char *reference, TimestampTz expires_at, const HoldRequest *request)
{
	Hold		hold;
	Datum		values[4];
	char		nulls[4] = {' ', expires_at == DT_NOEND ? 'n' : ' ', ' ', ' '};

	values[0] = CStringGetTextDatum(reference);
	values[1] = TimestampTzGetDatum(expires_at);
	values[2] = CStringGetTextDatum(ordflow_actor());
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp());
	if (ordflow_execute(&insert_hold, values, nulls) == 1)
		return true;

	if (!hold_lock(reference, &hold))
		ereport(ERROR,
				errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				errmsg("hold \"%s\" was deleted at the same time", reference));
	if (hold_is(&hold, "committed") || (hold_is(&hold, "held") && !hold_has_expired(&hold)))
	{
		require_same_lines(&hold, request);
		return false;
	}
	if (hold_is(&hold, "held"))
		holds_end(&reference, 1, "expired", hold.now);
	ordflow_execute(&delete_lines, values, NULL);
	values[3] = TimestampTzGetDatum(hold.now);
	ordflow_execute(&reuse_hold, values, nulls);
	return true;
}

Datum
ordflow_reserve_stock(PG_FUNCTION_ARGS)
{
	char	   *reference;
	HoldRequest request;
	TimestampTz expires_at;

	ordflow_require_preload();
	reference = arg_reference(fcinfo);
	ordflow_require_not_null(fcinfo, 1, "lines");
	request_init(&request, PG_GETARG_JSONB_P(1));
	expires_at = PG_ARGISNULL(2) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(2);
	if (expires_at <= GetCurrentTimestamp())
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("expires_at is in the past"));

	SPI_connect();
	ordflow_counter_enter("stock");
	if (expires_at != DT_NOEND)
	{
		ordflow_worker_activate(DUTY_TIMER);
		ordflow_worker_wake(DUTY_TIMER, expires_at);
		if (ordflow_worker_is_heard())
			ordflow_worker_deadline(ordflow_relid("holds"), reference, expires_at);
	}
	if (hold_begin(reference, expires_at, &request))
		request_reserve(reference, &request, expires_at);
	SPI_finish();

	PG_RETURN_INT64(request.units);
}

/* Locks the hold; OF004 when there is none. */
static void
hold_require(const char *reference, Hold *hold)
{
	if (!hold_lock(reference, hold))
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("there is no hold \"%s\"", reference));
}

pg_noreturn static void
hold_illegal(const Hold *hold, const char *done, const char *state)
{
	ereport(ERROR,
			errcode(ERRCODE_ORDFLOW_ILLEGAL_TRANSITION),
			errmsg("hold \"%s\" cannot be %s, it is %s", hold->reference, done, state));
	pg_unreachable();
}

Datum
ordflow_commit_stock(PG_FUNCTION_ARGS)
{
	char	   *reference;
	const char *result = "applied";
	Hold		hold;

	ordflow_require_preload();
	reference = arg_reference(fcinfo);

	SPI_connect();
	hold_require(reference, &hold);
	if (hold_is(&hold, "committed"))
		result = "duplicate";
	else if (hold_has_expired(&hold))
		hold_illegal(&hold, "committed", "expired");
	else if (!hold_is(&hold, "held"))
		hold_illegal(&hold, "committed", hold.state);
	else
		holds_end(&hold.reference, 1, "committed", hold.now);
	SPI_finish();

	PG_RETURN_TEXT_P(cstring_to_text(result));
}

Datum
ordflow_release_stock(PG_FUNCTION_ARGS)
{
	char	   *reference;
	const char *result = "duplicate";
	Hold		hold;

	ordflow_require_preload();
	reference = arg_reference(fcinfo);

	SPI_connect();
	hold_require(reference, &hold);
	if (hold_is(&hold, "committed"))
		hold_illegal(&hold, "released", hold.state);
	if (hold_has_expired(&hold))
		holds_end(&hold.reference, 1, "expired", hold.now);
	else if (hold_is(&hold, "held"))
	{
		holds_end(&hold.reference, 1, "released", hold.now);
		result = "applied";
	}
	SPI_finish();

	PG_RETURN_TEXT_P(cstring_to_text(result));
}

/* A deadline that is moved by hand; those that reserve_stock() gives are noted there too. */
Datum
ordflow_hold_deadline(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	Datum		expires_at;
	bool		never;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("function ordflow.hold_deadline must be called as a BEFORE UPDATE trigger"));
	desc = RelationGetDescr(trigger->tg_relation);
	expires_at = SPI_getbinval(trigger->tg_newtuple, desc, SPI_fnumber(desc, "expires_at"),
							   &never);
	if (!never)
		ordflow_worker_wake(DUTY_TIMER, DatumGetTimestampTz(expires_at));
	if (!never && ordflow_worker_is_heard())
		ordflow_worker_deadline(RelationGetRelid(trigger->tg_relation),
								SPI_getvalue(trigger->tg_newtuple, desc,
											 SPI_fnumber(desc, "reference")),
								DatumGetTimestampTz(expires_at));
	ordflow_counter_forget_expiries();
	return PointerGetDatum(trigger->tg_newtuple);
}

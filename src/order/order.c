/*
 * order.c
 *	  The locked order, and what machine "order" does beside its data.
 *
 * Whatever moves an order (a verb, fire, a plain UPDATE, a timer) ends in the
 * ops below, set-based: so stock, coupon and refund follow the state on every path.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/numeric.h"
#include "utils/rel.h"

#include "order/order.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_order_deadline);
PG_FUNCTION_INFO_V1(ordflow_refuse_truncate);

static Statement lock_order = {
	.sql = "SELECT customer, state, currency, payable, coupon, expires_at, due_at "
	"FROM ordflow.orders WHERE order_id = $1 FOR NO KEY UPDATE",
	.nargs = 1,
	.argtypes = {INT8OID}
};

/* What a plain UPDATE of the state left out. */
static Statement complete_update = {
	.sql = "UPDATE ordflow.orders SET updated_at = $2, "
	"cancel_reason = CASE WHEN state = 'cancelled' THEN coalesce(cancel_reason, $3) "
	"ELSE cancel_reason END WHERE order_id = ANY ($1)",
	.nargs = 3,
	.argtypes = {INT8ARRAYOID, TIMESTAMPTZOID, TEXTOID}
};

/* A step that keeps the state: its deadline stays. */
static Statement touch_orders = {
	.sql = "UPDATE ordflow.orders SET updated_at = $2 WHERE order_id = ANY ($1)",
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, TIMESTAMPTZOID}
};

/* Without LIMIT: on a table not yet analysed it makes the planner prefer a scan of all. */
static Statement find_not_due = {
	.sql = "SELECT order_id FROM ordflow.orders WHERE order_id = ANY ($1) AND expires_at > $2",
	.nargs = 2,
	.argtypes = {INT8ARRAYOID, TIMESTAMPTZOID}
};

static Statement find_shipped = {
	.sql = "SELECT order_id FROM ordflow.order_lines WHERE order_id = ANY ($1) AND shipped > 0",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

/* The lines of cancelled orders that still hold something, or count against a limit. */
static Statement find_held = {
	.sql = "SELECT order_id, CASE WHEN shipped + cancelled < quantity THEN stock_id END, "
	"quantity - shipped - cancelled, limit_id IS NOT NULL FROM ordflow.order_lines "
	"WHERE order_id = ANY ($1) AND (limit_id IS NOT NULL "
	"OR (stock_id IS NOT NULL AND shipped + cancelled < quantity))",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

static Statement find_limited = {
	.sql = "SELECT l.limit_id, (SELECT o.customer FROM ordflow.orders o "
	"WHERE o.order_id = l.order_id), sum(l.quantity - l.returned - l.cancelled)::bigint "
	"FROM ordflow.order_lines l WHERE l.order_id = ANY ($1) AND l.limit_id IS NOT NULL "
	"GROUP BY l.limit_id, l.order_id",
	.nargs = 1,
	.argtypes = {INT8ARRAYOID}
};

/* ---- the locked order ---- */

const MachineTarget *
ordflow_order_target(void)
{
	static MachineTarget target = {
		.machine = "order",
		.state_column = "state",
		.key_column = "order_id",
		.key_type = INT8OID,
		.due_column = "due_at"
	};

	target.relid = ordflow_relid("orders");
	return &target;
}

bool
ordflow_order_lock(int64 order_id, Order *order)
{
	Datum		values[1] = {Int64GetDatum(order_id)};
	bool		isnull;
	Datum		value;

	memset(order, 0, sizeof(Order));
	order->order_id = order_id;
	ordflow_worker_wake_blocked();
	if (ordflow_execute(&lock_order, values, NULL) == 0)
		return false;

	order->now = GetCurrentTimestamp();
	order->customer = ordflow_result_text(0, 1);
	order->state = ordflow_result_text(0, 2);
	order->currency = ordflow_result_text(0, 3);
	order->decimals = ordflow_currency_decimals(order->currency);
	ordflow_money_exact(ordflow_result(0, 4, &isnull), order->decimals, "payable",
						&order->payable, NULL);
	order->coupon = ordflow_result_text(0, 5);
	order->expires_at = DatumGetTimestampTz(ordflow_result(0, 6, &isnull));
	value = ordflow_result(0, 7, &isnull);
	order->due_at = isnull ? DT_NOEND : DatumGetTimestampTz(value);
	return true;
}

void
ordflow_order_require(int64 order_id, Order *order)
{
	if (!ordflow_order_lock(order_id, order))
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("order %lld does not exist", (long long) order_id));
}

bool
ordflow_order_is(const Order *order, const char *state)
{
	return strcmp(order->state, state) == 0;
}

void
ordflow_order_illegal(const Order *order, const char *event, const char *hint)
{
	ordflow_machine_illegal("order", order->state, event,
							psprintf("order %lld", (long long) order->order_id), hint);
}

/*
 * The row is touched as well: so who reads the history in an older snapshot and then locks the
 * order gets 40001, and seq stays without a gap or a repeat.
 */
void
ordflow_order_note(const Order *order, const char *event, const char *reason, Jsonb *data)
{
	OrderEvent	noted = {event, order->state, order->state, reason, data, order->now};
	Datum		values[2];

	values[0] = ordflow_int8_array(&order->order_id, 1);
	values[1] = TimestampTzGetDatum(order->now);
	ordflow_execute(&touch_orders, values, NULL);
	ordflow_orders_record(&order->order_id, 1, &noted);
}

void
ordflow_order_apply(Order *order, const char *event, const char *to_state,
					const char *reason, Jsonb *data)
{
	MachineStep step = {0};
	Datum		key = Int64GetDatum(order->order_id);

	step.target = ordflow_order_target();
	step.event = event;
	step.from_state = order->state;
	step.to_state = to_state;
	step.reason = reason;
	step.data = data;
	step.now = order->now;
	step.nkeys = 1;
	step.keys = &key;
	ordflow_machine_apply(&step);
	order->state = pstrdup(step.to_state);
}

/* ---- ops ---- */

/* The events that only their functions may do: they need more than the event's name. */
static const struct
{
	const char *event;
	const char *verb;
}			verbs[] = {
	{"submit", "ordflow.submit_order()"},
	{"pay", "ordflow.pay_order()"},
	{"ship", "ordflow.ship_order()"},
	{"refund", "ordflow.refund_order()"},
};

static const char *
order_verb(const char *event)
{
	for (int i = 0; i < lengthof(verbs); i++)
		if (strcmp(verbs[i].event, event) == 0)
			return verbs[i].verb;
	return NULL;
}

static int64 *
step_order_ids(const MachineStep *step)
{
	int64	   *order_ids = palloc(sizeof(int64) * step->nkeys);

	for (int i = 0; i < step->nkeys; i++)
		order_ids[i] = DatumGetInt64(step->keys[i]);
	return order_ids;
}

static bool
is(const char *a, const char *b)
{
	return a != NULL && strcmp(a, b) == 0;
}

static const char *
next_state(const MachineStep *step)
{
	if (step->to_state != NULL)
		return step->to_state;
	return step->transition ? step->transition->to_state : NULL;
}

/* Is this step an order's end by cancel, expire or an event of the shop's own? */
static bool
cancels(const MachineStep *step)
{
	return is(next_state(step), "cancelled") && !is(step->from_state, "cancelled") &&
		!is(step->event, "refund");
}

static const char *
cancel_reason(const MachineStep *step)
{
	if (is(step->event, "refund"))
		return "refund";
	if (is(step->event, "expire"))
		return "timeout";
	return step->reason ? step->reason : step->event;
}

static void
order_guard(MachineStep *step)
{
	Datum		values[2];

	/* also a plain UPDATE moves stock */
	ordflow_require_preload();

	/* what a cancelled order held may be another's by now, so no event revives it */
	if (is(step->from_state, "cancelled") && !is(next_state(step), "cancelled"))
		ordflow_machine_illegal("order", step->from_state, step->event,
								psprintf("order %lld", (long long) DatumGetInt64(step->keys[0])),
								"Its units and its coupon were given back: submit a new order.");
	values[0] = ordflow_int8_array(step_order_ids(step), step->nkeys);
	values[1] = TimestampTzGetDatum(step->now);
	if (is(step->event, "expire") && ordflow_execute(&find_not_due, values, NULL) > 0)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_GUARD_REFUSED),
				errmsg("order %lld is not due yet", (long long) ordflow_result_int64(0, 1)),
				errdetail("Guard \"not before expires_at\" refused event \"expire\"."),
				errhint("Event \"cancel\" needs no deadline."));
	if (cancels(step) && !is(step->from_state, "pending_payment") &&
		ordflow_execute(&find_shipped, values, NULL) > 0)
		ordflow_machine_illegal("order", step->from_state, step->event,
								psprintf("order %lld, of which something has shipped,",
										 (long long) ordflow_result_int64(0, 1)),
								"Refund what has not shipped: ordflow.refund_order().");
}

static TimestampTz
deadline(const char *state, TimestampTz now)
{
	const Transition *timeout = ordflow_machine_timeout("order", state);

	return timeout ? ordflow_machine_deadline(timeout, now) : DT_NOEND;
}

/* An event that keeps the state keeps its deadline, but the timeout itself comes again. */
static bool
keeps_deadline(const MachineStep *step)
{
	const Transition *timeout = ordflow_machine_timeout("order", step->to_state);

	return is(step->from_state, step->to_state) &&
		!(timeout && is(timeout->event, step->event));
}

/* Of what leads back to an order's own deadline a companion is told to look at once. */
static void
tell_deadlines(const int64 *order_ids, int n, const MachineStep *step, TimestampTz due)
{
	if (!ordflow_worker_is_heard())
		return;
	for (int i = 0; i < n; i++)
		ordflow_worker_deadline_of_id(ordflow_relid("orders"), order_ids[i],
									  is(step->to_state, "pending_payment") ? step->now : due);
}

static void
order_update(MachineStep *step)
{
	int64	   *order_ids = step_order_ids(step);
	TimestampTz due;

	if (keeps_deadline(step))
	{
		Datum		values[2];

		values[0] = ordflow_int8_array(order_ids, step->nkeys);
		values[1] = TimestampTzGetDatum(step->now);
		ordflow_execute(&touch_orders, values, NULL);
		return;
	}
	due = deadline(step->to_state, step->now);
	/* an event of the shop's may lead back to an order's own deadline */
	ordflow_worker_wake(DUTY_TIMER, is(step->to_state, "pending_payment") ? step->now : due);
	tell_deadlines(order_ids, step->nkeys, step, due);
	ordflow_orders_set_state(order_ids, step->nkeys, step->to_state, step->now, due,
							 cancel_reason(step));
}

static void
order_history(MachineStep *step)
{
	OrderEvent	event = {step->event, step->from_state, step->to_state, step->reason, step->data,
	step->now};

	ordflow_orders_record(step_order_ids(step), step->nkeys, &event);
}

static int
compare_movements(const void *a, const void *b)
{
	const StockMovement *l = a;
	const StockMovement *r = b;

	if (l->order_id != r->order_id)
		return l->order_id < r->order_id ? -1 : 1;
	return (l->stock_id > r->stock_id) - (l->stock_id < r->stock_id);
}

/* One movement for each (order, stock row); returns how many are left. */
static int
add_up_movements(StockMovement *movements, int n)
{
	int			kept = 0;

	qsort(movements, n, sizeof(StockMovement), compare_movements);
	for (int i = 0; i < n; i++)
	{
		if (kept > 0 && compare_movements(&movements[kept - 1], &movements[i]) == 0)
			movements[kept - 1].reserved += movements[i].reserved;
		else
			movements[kept++] = movements[i];
	}
	return kept;
}

static void
return_limits(Datum order_ids)
{
	uint64		n = ordflow_execute(&find_limited, &order_ids, NULL);
	LimitReturn *returns = palloc(sizeof(LimitReturn) * Max(n, 1));

	for (uint64 i = 0; i < n; i++)
	{
		returns[i].limit_id = ordflow_result_int64(i, 1);
		returns[i].customer = ordflow_result_text(i, 2);
		returns[i].quantity = ordflow_result_int64(i, 3);
	}
	ordflow_limit_return(returns, n);
}

/* Units back to stock, purchases off their limits. */
static void
release_lines(Datum order_ids)
{
	uint64		nlines = ordflow_execute(&find_held, &order_ids, NULL);
	StockMovement *movements = palloc0(sizeof(StockMovement) * Max(nlines, 1));
	int			n = 0;
	bool		limited = false;
	bool		isnull;

	for (uint64 i = 0; i < nlines; i++)
	{
		limited |= DatumGetBool(ordflow_result(i, 4, &isnull));
		movements[n].kind = "released";
		movements[n].order_id = ordflow_result_int64(i, 1);
		movements[n].stock_id = ordflow_result_int64(i, 2);
		movements[n].reserved = -ordflow_result_int64(i, 3);
		if (movements[n].stock_id != 0)
			n++;
	}
	n = add_up_movements(movements, n);
	if (n > 0)
		ordflow_stock_apply(movements, n);
	if (limited)
		return_limits(order_ids);
}

static void
complete_plain_update(const MachineStep *step, const int64 *order_ids)
{
	Datum		values[3];

	values[0] = ordflow_int8_array(order_ids, step->nkeys);
	values[1] = TimestampTzGetDatum(step->now);
	values[2] = CStringGetTextDatum(cancel_reason(step));
	ordflow_execute(&complete_update, values, NULL);
}

static void
order_effects(MachineStep *step)
{
	int64	   *order_ids = step_order_ids(step);

	if (step->written)
		complete_plain_update(step, order_ids);
	if (cancels(step))
	{
		release_lines(ordflow_int8_array(order_ids, step->nkeys));
		ordflow_coupon_return(order_ids, step->nkeys, step->now);
		ordflow_refund_rest(order_ids, step->nkeys, cancel_reason(step), step->now);
	}
	else if (is(step->event, "refund") && is(step->from_state, "pending_shipment") &&
			 is(step->to_state, "cancelled"))
		ordflow_coupon_return(order_ids, step->nkeys, step->now);
	else if (is(step->from_state, "pending_payment") && is(step->to_state, "pending_shipment"))
		ordflow_coupon_use(order_ids, step->nkeys);
}

/* An unpaid order is due when its payment is. */
static TimestampTz
order_due(const Transition *timeout, HeapTuple row, TupleDesc desc, TimestampTz now)
{
	bool		isnull;
	Datum		expires_at;

	if (!is(timeout->from_state, "pending_payment"))
		return ordflow_machine_deadline(timeout, now);
	expires_at = SPI_getbinval(row, desc, SPI_fnumber(desc, "expires_at"), &isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(expires_at);
}

static const MachineOps order_ops = {
	.machine = "order",
	.verb = order_verb,
	.guard = order_guard,
	.update = order_update,
	.history = order_history,
	.effects = order_effects,
	.due = order_due,
};

void
ordflow_order_init(void)
{
	ordflow_machine_register(&order_ops);
}

/* Has the payment deadline of an unpaid order been moved? */
static bool
expires_anew(HeapTuple old, HeapTuple new, TupleDesc desc)
{
	int			expires_at = SPI_fnumber(desc, "expires_at");
	bool		isnull;

	return is(SPI_getvalue(new, desc, SPI_fnumber(desc, "state")), "pending_payment") &&
		SPI_getbinval(old, desc, expires_at, &isnull) != SPI_getbinval(new, desc, expires_at,
																	   &isnull);
}

Datum
ordflow_order_deadline(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	HeapTuple	row;
	TupleDesc	desc;
	int			due_at;
	Datum		due;
	bool		never;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("function ordflow.order_deadline must be called as a BEFORE UPDATE trigger"));
	row = trigger->tg_newtuple;
	desc = RelationGetDescr(trigger->tg_relation);
	due_at = SPI_fnumber(desc, "due_at");
	if (expires_anew(trigger->tg_trigtuple, row, desc))
	{
		due = SPI_getbinval(row, desc, SPI_fnumber(desc, "expires_at"), &never);
		row = heap_modify_tuple_by_cols(row, desc, 1, &due_at, &due, &never);
	}
	due = SPI_getbinval(row, desc, due_at, &never);
	if (!never)
		ordflow_worker_wake(DUTY_TIMER, DatumGetTimestampTz(due));
	if (ordflow_worker_is_heard())
		ordflow_worker_deadline_of_id(RelationGetRelid(trigger->tg_relation),
									  DatumGetInt64(SPI_getbinval(row, desc,
																  SPI_fnumber(desc, "order_id"),
																  &isnull)),
									  never ? DT_NOEND : DatumGetTimestampTz(due));
	return PointerGetDatum(row);
}

Datum
ordflow_refuse_truncate(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				errmsg("function ordflow.refuse_truncate must be called as a trigger"));
	ereport(ERROR,
			errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			errmsg("table ordflow.%s cannot be truncated",
				   RelationGetRelationName(((TriggerData *) fcinfo->context)->tg_relation)),
			errhint("DROP EXTENSION ordflow CASCADE and CREATE EXTENSION ordflow start anew."));
}

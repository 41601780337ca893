/*
 * trigger.c
 *	  The triggers of attached tables, and that of the machine's own tables.
 *
 * machine_due		BEFORE ROW, named to fire last: sets the due column, nothing
 *					else, since a later BEFORE trigger, or ON CONFLICT, may
 *					still undo what it saw.
 * machine_changed	AFTER ROW, on the final row: legality, guards, history,
 *					effects.
 *
 * Both are given (machine, state column, key column, due column or '').
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "machine/internal.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_machine_changed);
PG_FUNCTION_INFO_V1(ordflow_machine_due);
PG_FUNCTION_INFO_V1(ordflow_machine_rows_changed);

#define TARGET_ARGS 4

/* A row on its way through a trigger. */
typedef struct RowChange
{
	TriggerData *trigger;
	TupleDesc	desc;
	MachineTarget *target;
	HeapTuple	row;			/* the new row */
	char	   *from_state;		/* NULL on INSERT */
	char	   *to_state;
	Datum		key;			/* of the row as it was before the UPDATE */
	bool		key_is_null;	/* where it may be; no step is of such a row */
} RowChange;

static void
protocol_error(const char *function, const char *expected)
{
	ereport(ERROR,
			errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
			errmsg("function %s must be called as %s", function, expected));
}

static Datum
column_value(const RowChange *change, HeapTuple row, const char *column, bool *isnull)
{
	int			attnum = SPI_fnumber(change->desc, column);

	if (attnum <= 0)
		ordflow_machine_require_columns(change->target);
	return SPI_getbinval(row, change->desc, attnum, isnull);
}

/* NULL where the state is NULL */
static char *
column_state(const RowChange *change, HeapTuple row)
{
	int			attnum = SPI_fnumber(change->desc, change->target->state_column);

	if (attnum <= 0)
		ordflow_machine_require_columns(change->target);
	return SPI_getvalue(row, change->desc, attnum);
}

static Datum
key_value(const RowChange *change, HeapTuple row)
{
	bool		isnull;
	Datum		key = column_value(change, row, change->target->key_column, &isnull);

	if (isnull)
		ereport(ERROR,
				errcode(ERRCODE_NOT_NULL_VIOLATION),
				errmsg("key column \"%s\" of table %s may not be NULL",
					   change->target->key_column, ordflow_machine_table(change->target->relid)));
	return key;
}

static bool
states_equal(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

static RowChange
read_change(TriggerData *trigger)
{
	RowChange	change = {.trigger = trigger};
	bool		update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);

	change.desc = RelationGetDescr(trigger->tg_relation);
	change.target = ordflow_machine_target_from_args(trigger->tg_relation,
													 trigger->tg_trigger->tgargs);
	change.row = update ? trigger->tg_newtuple : trigger->tg_trigtuple;
	change.from_state = update ? column_state(&change, trigger->tg_trigtuple) : NULL;
	change.to_state = column_state(&change, change.row);
	/* before an INSERT a generated key is not there yet */
	if (update || TRIGGER_FIRED_AFTER(trigger->tg_event))
		change.key = column_value(&change, trigger->tg_trigtuple, change.target->key_column,
								  &change.key_is_null);
	return change;
}

/* Is this the update of a step that is under way? */
static bool
is_pending(const RowChange *change, bool consume, PendingMatch *match)
{
	return TRIGGER_FIRED_BY_UPDATE(change->trigger->tg_event) && !change->key_is_null &&
		ordflow_pending_match(change->target->relid, change->target->state_column, change->key,
							  change->from_state, change->to_state, consume, match);
}

/* A moving UPDATE through the parent fires none of the triggers that attach made. */
static void
require_no_partition(const RowChange *change)
{
	if (change->trigger->tg_relation->rd_rel->relispartition)
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("table %s has a machine and became a partition, which is not supported yet",
					   ordflow_machine_table(change->target->relid)),
				errhint("Detach the partition, or call ordflow.detach()."));
}

static bool
is_row_trigger(FunctionCallInfo fcinfo, bool before)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	return CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_FOR_ROW(trigger->tg_event) &&
		(before ? TRIGGER_FIRED_BEFORE(trigger->tg_event)
		 : TRIGGER_FIRED_AFTER(trigger->tg_event)) &&
		(TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		 TRIGGER_FIRED_BY_UPDATE(trigger->tg_event)) &&
		trigger->tg_trigger->tgnargs == TARGET_ARGS;
}

/* ---- BEFORE: the due column ---- */

static TimestampTz
due_of(const RowChange *change, TimestampTz now)
{
	const Machine *machine = ordflow_machine_load(change->target->machine);
	const MachineState *state = ordflow_machine_state(machine, change->to_state);

	/* an unknown state is refused by the AFTER trigger */
	if (state == NULL || state->timeout == NULL)
		return DT_NOEND;
	if (machine->ops != NULL && machine->ops->due != NULL)
		return machine->ops->due(state->timeout, change->row, change->desc, now);
	return ordflow_machine_deadline(state->timeout, now);
}

/* Is this the event that ends the state by itself?  It may lead back to it. */
static bool
is_timeout(const RowChange *change, const char *event)
{
	const Transition *timeout = ordflow_machine_timeout(change->target->machine, change->to_state);

	return timeout != NULL && strcmp(timeout->event, event) == 0;
}

/* Is the due column left as it stands in the row? */
static bool
due_is_kept(const RowChange *change, int attnum, PendingMatch *match)
{
	bool		isnull;

	match->now = GetCurrentTimestamp();
	if (change->to_state == NULL)
		return true;
	if (!TRIGGER_FIRED_BY_UPDATE(change->trigger->tg_event))
	{
		SPI_getbinval(change->row, change->desc, attnum, &isnull);
		return !isnull;
	}
	if (!is_pending(change, false, match))
		return states_equal(change->from_state, change->to_state);
	return match->keeps_due || (states_equal(change->from_state, change->to_state) &&
								!is_timeout(change, match->event));
}

/* The timer may remember the row by its key. */
static bool
key_is_changed(const RowChange *change, HeapTuple row)
{
	bool		isnull;
	int16		length;
	bool		byval;
	Datum		key = column_value(change, row, change->target->key_column, &isnull);

	get_typlenbyval(change->target->key_type, &length, &byval);
	return !isnull && (change->key_is_null || !datum_image_eq(key, change->key, byval, length));
}

static void
tell_due(const RowChange *change, HeapTuple row, TimestampTz due)
{
	bool		isnull;
	Datum		key = column_value(change, row, change->target->key_column, &isnull);

	if (!isnull)
		ordflow_worker_deadline(change->target->relid,
								ordflow_machine_key_text(change->target, key), due);
}

/* Tells the timer of a deadline that is new in the row, or under a new key. */
static void
note_due(const RowChange *change, int attnum, HeapTuple row)
{
	bool		never;
	bool		was_never = true;
	Datum		due = SPI_getbinval(row, change->desc, attnum, &never);
	Datum		was = (Datum) 0;

	ordflow_worker_wake_blocked();
	if (TRIGGER_FIRED_BY_UPDATE(change->trigger->tg_event))
		was = SPI_getbinval(change->trigger->tg_trigtuple, change->desc, attnum, &was_never);
	if (!never && (was_never || DatumGetTimestampTz(due) != DatumGetTimestampTz(was) ||
				   key_is_changed(change, row)))
		ordflow_worker_wake(DUTY_TIMER, DatumGetTimestampTz(due));
	if (ordflow_worker_is_heard())
		tell_due(change, row, never ? DT_NOEND : DatumGetTimestampTz(due));
}

Datum
ordflow_machine_due(PG_FUNCTION_ARGS)
{
	RowChange	change;
	PendingMatch match;
	int			attnum;
	HeapTuple	row;

	if (!is_row_trigger(fcinfo, true))
		protocol_error("ordflow.machine_due",
					   "a BEFORE ROW trigger on INSERT or UPDATE with four arguments");
	change = read_change((TriggerData *) fcinfo->context);
	require_no_partition(&change);
	if (change.target->due_column == NULL)
		return PointerGetDatum(change.row);
	attnum = SPI_fnumber(change.desc, change.target->due_column);
	if (attnum <= 0)
		ordflow_machine_require_columns(change.target);
	row = change.row;
	if (!due_is_kept(&change, attnum, &match))
	{
		Datum		due = TimestampTzGetDatum(due_of(&change, match.now));
		bool		never = TIMESTAMP_IS_NOEND(DatumGetTimestampTz(due));

		row = heap_modify_tuple_by_cols(row, change.desc, 1, &attnum, &due, &never);
	}
	note_due(&change, attnum, row);
	return PointerGetDatum(row);
}

/* ---- AFTER: the transition ---- */

static void
step_begin(MachineStep *step, RowChange *change)
{
	memset(step, 0, sizeof(MachineStep));
	step->target = change->target;
	step->from_state = change->from_state;
	step->to_state = change->to_state;
	step->now = GetCurrentTimestamp();
	step->written = true;
	step->nkeys = 1;
	step->keys = &change->key;
}

/*
 * The transition that is meant by a change between two states: the event that
 * the setting names, else the first by ordinal.  Events that a verb keeps to itself come last.
 */
static const Transition *
transition_meant(const Machine *machine, const char *from_state, const char *to_state)
{
	int			n;
	const Transition *exits = ordflow_machine_exits(machine, from_state, &n);
	const Transition *best = NULL;

	for (int i = 0; i < n; i++)
	{
		const Transition *exit = &exits[i];
		bool		reserved = ordflow_machine_verb(machine, exit->event) != NULL;
		bool		best_reserved = best != NULL &&
			ordflow_machine_verb(machine, best->event) != NULL;

		if (strcmp(exit->to_state, to_state) != 0)
			continue;
		if (strcmp(exit->event, ordflow_event_setting) == 0)
			return exit;
		if (best == NULL || (best_reserved && !reserved) ||
			(best_reserved == reserved && exit->ordinal < best->ordinal))
			best = exit;
	}
	return best;
}

static void
refuse_update(const Machine *machine, const RowChange *change)
{
	ereport(ERROR,
			errcode(ERRCODE_ORDFLOW_ILLEGAL_TRANSITION),
			errmsg("%s cannot go from state \"%s\" to \"%s\"",
				   ordflow_machine_object(machine, change->target, change->key),
				   change->from_state, change->to_state),
			errdetail_internal("%s", ordflow_machine_legal_events(machine, change->from_state)));
}

static void
refuse_verb(const Machine *machine, const RowChange *change, const char *verb)
{
	ereport(ERROR,
			errcode(ERRCODE_ORDFLOW_ILLEGAL_TRANSITION),
			errmsg("%s cannot go from state \"%s\" to \"%s\" by UPDATE",
				   ordflow_machine_object(machine, change->target, change->key),
				   change->from_state, change->to_state),
			errhint("Call %s.", verb));
}

static void
apply_update(const Machine *machine, RowChange *change)
{
	const Transition *transition = transition_meant(machine, change->from_state, change->to_state);
	const char *verb;
	MachineStep step;

	if (transition == NULL)
		refuse_update(machine, change);
	verb = ordflow_machine_verb(machine, transition->event);
	if (verb != NULL)
		refuse_verb(machine, change, verb);
	step_begin(&step, change);
	step.event = transition->event;
	ordflow_machine_apply(&step);
}

static void
apply_insert(const Machine *machine, RowChange *change)
{
	const MachineState *state = ordflow_machine_state(machine, change->to_state);
	const Transition *transition;
	MachineStep step;

	if (state == NULL || state->kind != STATE_INITIAL)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_ILLEGAL_TRANSITION),
				errmsg("%s cannot begin in state \"%s\"",
					   ordflow_machine_object(machine, change->target, change->key),
					   change->to_state),
				errdetail("It is no initial state of machine \"%s\".", machine->name));
	step_begin(&step, change);
	transition = transition_meant(machine, NULL, change->to_state);
	if (transition == NULL)
	{
		step.event = "insert";
		ordflow_machine_record(&step);
		return;
	}
	step.event = transition->event;
	ordflow_machine_apply(&step);
}

Datum
ordflow_machine_changed(PG_FUNCTION_ARGS)
{
	RowChange	change;
	const Machine *machine;
	PendingMatch match;

	if (!is_row_trigger(fcinfo, false))
		protocol_error("ordflow.machine_changed",
					   "an AFTER ROW trigger on INSERT or UPDATE with four arguments");
	change = read_change((TriggerData *) fcinfo->context);
	require_no_partition(&change);
	if (TRIGGER_FIRED_BY_UPDATE(change.trigger->tg_event) &&
		states_equal(change.from_state, change.to_state))
		return PointerGetDatum(NULL);
	if (change.to_state == NULL)
		ereport(ERROR,
				errcode(ERRCODE_NOT_NULL_VIOLATION),
				errmsg("state column \"%s\" of table %s may not be NULL",
					   change.target->state_column, ordflow_machine_table(change.target->relid)));
	if (is_pending(&change, true, &match))
		return PointerGetDatum(NULL);

	machine = ordflow_machine_load(change.target->machine);
	change.key = key_value(&change, change.row);
	if (change.from_state == NULL)
		apply_insert(machine, &change);
	else
		apply_update(machine, &change);
	return PointerGetDatum(NULL);
}

/* ---- the machine's own tables ---- */

/*
 * Row changes send no invalidation by themselves.  This one reaches every backend
 * at commit, and our own at the end of the command.
 */
Datum
ordflow_machine_rows_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		protocol_error("ordflow.machine_rows_changed", "a trigger");
	CacheInvalidateRelcacheByRelid(RelationGetRelid(trigger->tg_relation));
	return PointerGetDatum(NULL);
}

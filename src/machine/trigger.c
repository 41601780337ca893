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
 * Both are given (machine, state column, key column, due column or '', further key columns).
 * Partitions have them too, on DELETE as well: see move.c.
 *
 * They are called for every row, so neither has a search_path or a role of its own, which
 * PostgreSQL would set for each call: they cost as much as all the rest.  Where SQL is to run it is
 * ordflow_machine_own_enter() that sets them.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "machine/internal.h"
#include "worker/worker.h"

PG_FUNCTION_INFO_V1(ordflow_machine_changed);
PG_FUNCTION_INFO_V1(ordflow_machine_due);
PG_FUNCTION_INFO_V1(ordflow_machine_rows_changed);

/* What a trigger needs to know of its table, found out once a statement. */
typedef struct Attached
{
	MachineTarget *target;
	const char *table;			/* its name */
	Oid			state_type;		/* base type */
	int			state_attnum;
	int			due_attnum;		/* 0: none */
	int			key_attnums[KEY_COLUMNS_MAX];
	int16		key_length;
	bool		key_byval;
	bool		checked;		/* for the next */
	bool		gathers;		/* nobody looks at the history before the statement ends */
} Attached;

/* A row on its way through a trigger. */
typedef struct RowChange
{
	TriggerData *trigger;
	TupleDesc	desc;
	Attached   *attached;
	MachineTarget *target;
	HeapTuple	row;			/* the new row */
	bool		updates;		/* it was there before, maybe in another partition */
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

/* ---- the table ---- */

/* A moving UPDATE through the parent fires none of the triggers that attach made. */
static void
require_no_partition(Oid relid)
{
	if (get_rel_relispartition(relid))
		ereport(ERROR,
				errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("table %s has a machine and became a partition",
					   ordflow_machine_table(relid)),
				errhint("Detach the partition, or call ordflow.detach() and attach the machine to %s.",
						ordflow_machine_table(ordflow_machine_root(relid))));
}

static int
column_attnum(const MachineTarget *target, TupleDesc desc, const char *column)
{
	int			attnum = SPI_fnumber(desc, column);

	if (attnum <= 0)
		ordflow_machine_require_columns(target);
	return attnum;
}

static Attached *
attached_make(TriggerData *data)
{
	const Trigger *trigger = data->tg_trigger;
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	Oid			relid = trigger->tgisclone ? ordflow_machine_trigger_table(trigger->tgoid) :
		RelationGetRelid(data->tg_relation);
	Attached   *attached = palloc0(sizeof(Attached));
	MachineTarget *target = ordflow_machine_target_make(relid, trigger->tgargs, trigger->tgnargs);

	require_no_partition(relid);
	attached->target = target;
	attached->table = ordflow_machine_table(relid);
	attached->state_attnum = column_attnum(target, desc, target->state_column);
	attached->state_type = getBaseType(TupleDescAttr(desc, attached->state_attnum - 1)->atttypid);
	for (int i = 0; i < ordflow_machine_key_width(target); i++)
		attached->key_attnums[i] = column_attnum(target, desc,
												 ordflow_machine_key_column(target, i));
	if (target->due_column != NULL)
		attached->due_attnum = column_attnum(target, desc, target->due_column);
	get_typlenbyval(target->key_type, &attached->key_length, &attached->key_byval);
	return attached;
}

/* Kept for the statement, during which nobody can change the table. */
static Attached *
attached_of(FunctionCallInfo fcinfo)
{
	FmgrInfo   *flinfo = fcinfo->flinfo;

	if (flinfo->fn_extra == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(flinfo->fn_mcxt);

		flinfo->fn_extra = attached_make((TriggerData *) fcinfo->context);
		MemoryContextSwitchTo(old);
	}
	return flinfo->fn_extra;
}

/* ---- the row ---- */

static Datum
row_key(const RowChange *change, HeapTuple row, bool *isnull)
{
	const Attached *attached = change->attached;
	Datum		values[KEY_COLUMNS_MAX];
	bool		nulls[KEY_COLUMNS_MAX];

	for (int i = 0; i < ordflow_machine_key_width(change->target); i++)
		values[i] = heap_getattr(row, attached->key_attnums[i], change->desc, &nulls[i]);
	return ordflow_machine_key_make(change->target, values, nulls, isnull);
}

/* NULL where the state is NULL */
static char *
row_state(const RowChange *change, HeapTuple row)
{
	bool		isnull;
	Datum		state = heap_getattr(row, change->attached->state_attnum, change->desc, &isnull);

	return isnull ? NULL : ordflow_state_text(change->attached->state_type, state);
}

static Datum
require_key(const RowChange *change, HeapTuple row)
{
	bool		isnull;
	Datum		key = row_key(change, row, &isnull);

	if (isnull)
		ereport(ERROR,
				errcode(ERRCODE_NOT_NULL_VIOLATION),
				errmsg("key column \"%s\" of table %s may not be NULL",
					   change->target->key_column, change->attached->table));
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
read_change(FunctionCallInfo fcinfo)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	RowChange	change = {.trigger = trigger};

	change.desc = RelationGetDescr(trigger->tg_relation);
	change.attached = attached_of(fcinfo);
	change.target = change.attached->target;
	change.updates = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
	change.row = change.updates ? trigger->tg_newtuple : trigger->tg_trigtuple;
	change.from_state = change.updates ? row_state(&change, trigger->tg_trigtuple) : NULL;
	change.to_state = row_state(&change, change.row);
	/* before an INSERT a generated key is not there yet */
	if (change.updates || TRIGGER_FIRED_AFTER(trigger->tg_event))
		change.key = row_key(&change, trigger->tg_trigtuple, &change.key_is_null);
	return change;
}

/* Is this the update of a step that is under way? */
static bool
is_pending(const RowChange *change, bool consume, PendingMatch *match)
{
	return ordflow_pending_any() && change->updates && !change->key_is_null &&
		ordflow_pending_match(change->target->relid, change->target->state_column, change->key,
							  change->from_state, change->to_state, consume, match);
}

static bool
is_row_trigger(FunctionCallInfo fcinfo, bool before)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	return CALLED_AS_TRIGGER(fcinfo) && TRIGGER_FIRED_FOR_ROW(trigger->tg_event) &&
		(before ? TRIGGER_FIRED_BEFORE(trigger->tg_event)
		 : TRIGGER_FIRED_AFTER(trigger->tg_event)) &&
		trigger->tg_trigger->tgnargs >= TARGET_ARGS &&
		trigger->tg_trigger->tgnargs < TARGET_ARGS + KEY_COLUMNS_MAX;
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
	if (!change->updates)
	{
		heap_getattr(change->row, attnum, change->desc, &isnull);
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
	const Attached *attached = change->attached;
	bool		isnull;
	Datum		key = row_key(change, row, &isnull);

	return !isnull && (change->key_is_null ||
					   !datum_image_eq(key, change->key, attached->key_byval,
									   attached->key_length));
}

static void
tell_due(const RowChange *change, HeapTuple row, TimestampTz due)
{
	bool		isnull;
	Datum		key = row_key(change, row, &isnull);

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
	Datum		due = heap_getattr(row, attnum, change->desc, &never);
	Datum		was = (Datum) 0;

	ordflow_worker_wake_blocked();
	if (change->updates)
		was = heap_getattr(change->trigger->tg_trigtuple, attnum, change->desc, &was_never);
	if (!never && (was_never || DatumGetTimestampTz(due) != DatumGetTimestampTz(was) ||
				   key_is_changed(change, row)))
		ordflow_worker_wake(DUTY_TIMER, DatumGetTimestampTz(due));
	if (ordflow_worker_is_heard())
		tell_due(change, row, never ? DT_NOEND : DatumGetTimestampTz(due));
}

/* The row with its deadline. */
static HeapTuple
set_due(const RowChange *change)
{
	int			attnum = change->attached->due_attnum;
	HeapTuple	row = change->row;
	PendingMatch match;

	if (!due_is_kept(change, attnum, &match))
	{
		Datum		due = TimestampTzGetDatum(due_of(change, match.now));
		bool		never = TIMESTAMP_IS_NOEND(DatumGetTimestampTz(due));

		row = heap_modify_tuple_by_cols(row, change->desc, 1, &attnum, &due, &never);
	}
	note_due(change, attnum, row);
	return row;
}

/* Of the machine's key in the new row. */
static uint64
key_hash(const RowChange *change)
{
	bool		isnull;
	Datum		key = row_key(change, change->row, &isnull);
	const char *text = isnull ? "" : ordflow_machine_key_text(change->target, key);
	const char *column = change->target->state_column;

	return hash_combine64(hash_bytes_extended((const unsigned char *) text, strlen(text), 0),
						  hash_bytes_extended((const unsigned char *) column, strlen(column), 0));
}

Datum
ordflow_machine_due(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Attached   *attached;
	RowChange	change;

	if (!is_row_trigger(fcinfo, true))
		protocol_error("ordflow.machine_due",
					   "a BEFORE ROW trigger with four arguments or more");
	attached = attached_of(fcinfo);
	if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
	{
		ordflow_move_deleting(trigger->tg_relation, &trigger->tg_trigtuple->t_self);
		return PointerGetDatum(trigger->tg_trigtuple);
	}
	change = read_change(fcinfo);
	/* what moves has been given its deadline by the UPDATE */
	if (attached->target->partitioned && !change.updates &&
		ordflow_move_inserting(key_hash(&change)))
		return PointerGetDatum(change.row);
	if (attached->target->partitioned && change.updates)
		ordflow_move_updating(trigger->tg_relation, &trigger->tg_trigtuple->t_self,
							  key_hash(&change));
	return PointerGetDatum(attached->due_attnum > 0 ? set_due(&change) : change.row);
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

/* May a function that an AFTER trigger calls look at the history, or run code that does? */
static bool
is_harmless(Oid function)
{
	static const Oid harmless[] = {F_RI_FKEY_CHECK_INS, F_RI_FKEY_CHECK_UPD,
		F_RI_FKEY_NOACTION_UPD, F_RI_FKEY_RESTRICT_UPD, F_RI_FKEY_NOACTION_DEL,
	F_RI_FKEY_RESTRICT_DEL, F_UNIQUE_KEY_RECHECK};

	for (int i = 0; i < lengthof(harmless); i++)
		if (function == harmless[i])
			return true;
	return false;
}

static bool
has_other_triggers(Oid relid, Oid ours)
{
	Relation	rel = table_open(relid, AccessShareLock);
	bool		found = false;

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		found = found || (TRIGGER_FOR_AFTER(trigger->tgtype) && trigger->tgfoid != ours &&
						  trigger->tgenabled != TRIGGER_DISABLED && !is_harmless(trigger->tgfoid));
	}
	table_close(rel, AccessShareLock);
	return found;
}

/*
 * Is the history of the statement's rows written together?  Not for its first row: most statements
 * have no second, which makes this worth its cost.
 */
static bool
gathers(const RowChange *change)
{
	Attached   *attached = change->attached;
	Relation	rel = change->trigger->tg_relation;
	List	   *relids;
	ListCell   *cell;

	if (!change->updates || attached->checked)
		return change->updates && attached->gathers;
	attached->checked = true;
	relids = rel->rd_rel->relispartition ? get_partition_ancestors(RelationGetRelid(rel)) : NIL;
	attached->gathers = relids != NIL || !has_superclass(RelationGetRelid(rel));
	foreach(cell, lappend_oid(relids, RelationGetRelid(rel)))
		if (has_other_triggers(lfirst_oid(cell), change->trigger->tg_trigger->tgfoid))
			attached->gathers = false;
	return false;
}

/* What is not only to be recorded. */
static void
apply_step(MachineStep *step)
{
	OwnWork		work;

	/* guards and effects may look at it */
	ordflow_history_flush();
	work = ordflow_machine_own_enter();
	ordflow_machine_apply(step);
	ordflow_machine_own_leave(work);
}

static void
record_step(const RowChange *change, const MachineStep *step)
{
	if (gathers(change))
		ordflow_history_add(step, change->attached->table);
	else
		ordflow_history_write(step);
}

static void
apply_transition(const Machine *machine, RowChange *change, const Transition *transition)
{
	MachineStep step;

	step_begin(&step, change);
	step.event = transition->event;
	ordflow_worker_wake_blocked();
	if (ordflow_machine_is_plain(machine, transition))
		record_step(change, &step);
	else
		apply_step(&step);
}

static void
apply_update(const Machine *machine, RowChange *change)
{
	const Transition *transition = transition_meant(machine, change->from_state, change->to_state);
	const char *verb;

	if (transition == NULL)
		refuse_update(machine, change);
	verb = ordflow_machine_verb(machine, transition->event);
	if (verb != NULL)
		refuse_verb(machine, change, verb);
	apply_transition(machine, change, transition);
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
	transition = transition_meant(machine, NULL, change->to_state);
	if (transition != NULL)
	{
		apply_transition(machine, change, transition);
		return;
	}
	step_begin(&step, change);
	step.event = "insert";
	record_step(change, &step);
}

/* A row that is gone, perhaps to another partition. */
static void
leave(RowChange *change)
{
	TriggerData *trigger = change->trigger;

	/* the row is the old one, whose state stands in to_state */
	if (ordflow_move_deleted(trigger->tg_relation, &trigger->tg_trigtuple->t_self) &&
		change->to_state != NULL)
		ordflow_move_leave(change->target, change->to_state, change->key, change->key_is_null);
}

/* A row that is new, or comes from another partition: then it is updated. */
static void
arrive(RowChange *change)
{
	if (!change->target->partitioned || !TRIGGER_FIRED_BY_INSERT(change->trigger->tg_event))
		return;
	if (ordflow_move_arrive(change->target, &change->from_state, &change->key,
							&change->key_is_null))
		change->updates = true;
}

Datum
ordflow_machine_changed(PG_FUNCTION_ARGS)
{
	RowChange	change;
	const Machine *machine;
	PendingMatch match;

	if (!is_row_trigger(fcinfo, false))
		protocol_error("ordflow.machine_changed",
					   "an AFTER ROW trigger with four arguments or more");
	change = read_change(fcinfo);
	if (TRIGGER_FIRED_BY_DELETE(change.trigger->tg_event))
	{
		leave(&change);
		return PointerGetDatum(NULL);
	}
	arrive(&change);
	if (change.updates && states_equal(change.from_state, change.to_state))
		return PointerGetDatum(NULL);
	if (change.to_state == NULL)
		ereport(ERROR,
				errcode(ERRCODE_NOT_NULL_VIOLATION),
				errmsg("state column \"%s\" of table %s may not be NULL",
					   change.target->state_column, change.attached->table));
	if (is_pending(&change, true, &match))
		return PointerGetDatum(NULL);

	machine = ordflow_machine_load(change.target->machine);
	change.key = require_key(&change, change.row);
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

/*
 * machine.h
 *	  State machines as data, and the one function that applies an event.
 */
#ifndef ORDFLOW_MACHINE_H
#define ORDFLOW_MACHINE_H

#include "postgres.h"
#include "access/htup.h"
#include "access/tupdesc.h"
#include "nodes/pg_list.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "base/base.h"

typedef struct Machine Machine; /* compiled; see internal.h */
typedef struct Hook Hook;		/* a user's guard or effect; see internal.h */

/* A transition of a compiled machine; valid until the end of the transaction. */
typedef struct Transition
{
	const char *from_state;		/* NULL: this event creates the object */
	const char *event;
	const char *to_state;
	int			ordinal;
	const Hook *guard;			/* a user's, or NULL */
	const Hook *effect;			/* a user's, or NULL */
	Interval   *after;			/* fires by itself after this long, or NULL */
	const char *after_setting;	/* the setting that holds the interval, or NULL */
	bool		builtin;
} Transition;

/* A column of a composite key. */
typedef struct KeyColumn
{
	const char *name;
	Oid			type;			/* the base type of a domain */
} KeyColumn;

/*
 * A machine on a table: read from the table's own trigger, so it follows renames,
 * dump and restore.
 */
typedef struct MachineTarget
{
	Oid			relid;			/* of partitions the table that was attached */
	bool		partitioned;
	const char *machine;
	const char *state_column;
	const char *key_column;		/* the first of a composite key */
	Oid			key_type;		/* of a key as Datum: the base type of a domain; text where it is
								 * composite */
	const char *due_column;		/* NULL: none */
	int			nkey_columns;	/* of a composite key, else 0 */
	const KeyColumn *key_columns;	/* all of them */
} MachineTarget;

/*
 * One step: an event applied to objects that all stand in the same state, whose
 * rows the caller has locked (FOR NO KEY UPDATE) in this transaction.
 */
typedef struct MachineStep
{
	const MachineTarget *target;
	const char *event;
	const char *from_state;		/* NULL: the objects are being created */
	const char *to_state;		/* in: NULL = the first transition whose guard
								 * lets it pass (one object); out: set */
	Jsonb	   *args;			/* what fire() was given; NULL = {} */
	const char *reason;			/* for the history; may be NULL */
	Jsonb	   *data;			/* for the history; may be NULL */
	TimestampTz now;			/* the clock, read after the rows were locked */
	bool		written;		/* the state stands in the rows already: a plain
								 * UPDATE, or an INSERT */
	int			nkeys;
	Datum	   *keys;			/* of target->key_type, as they stand in the rows */
	const Transition *transition;	/* out */
	void	   *private_data;	/* for the machine's ops */
} MachineStep;

/*
 * What a built-in machine does beside its data.  Every member but machine may be
 * NULL.  All run as the extension's owner, connected to SPI.
 */
typedef struct MachineOps
{
	const char *machine;

	/*
	 * The public function for an event that fire and plain UPDATE must not
	 * take (OF001, hint: call it), as in "ordflow.pay_order()", else NULL.
	 */
	const char *(*verb) (const char *event);

	/*
	 * Raises when the step may not be done now.  step->transition is set
	 * when only one comes into question.
	 */
	void		(*guard) (MachineStep *step);

	/*
	 * Writes step->to_state (and due) into every row of the step, or raises;
	 * default: a generic UPDATE.
	 */
	void		(*update) (MachineStep *step);

	/* Writes the history; default: ordflow.object_history. */
	void		(*history) (MachineStep *step);

	/* Built-in effects: run after the history, before the users' effects. */
	void		(*effects) (MachineStep *step);

	/*
	 * When the state that a plain UPDATE has just put into the row is left by
	 * timeout, DT_NOEND for never; default: ordflow_machine_deadline().  Not
	 * asked for the machine's own update.
	 */
	TimestampTz (*due) (const Transition *timeout, HeapTuple row, TupleDesc desc,
						TimestampTz now);
} MachineOps;

/* Registers the ops of a built-in machine; called from _PG_init. */
extern void ordflow_machine_register(const MachineOps *ops);

extern void ordflow_machine_init(void);

/*
 * Applies step->event: finds the transition (OF001 naming the legal events), runs
 * guards (OF009), sets the state unless step->written, writes history, runs
 * built-in and users' effects.  Connects to SPI by itself; the caller may or
 * may not be connected.  The generic UPDATE runs as the table's owner, restricted,
 * or as the caller where policies bind him; everything else of ours as the
 * extension's owner, users' guards and effects as the role that registered
 * them, restricted.
 */
extern void ordflow_machine_apply(MachineStep *step);

/*
 * The users' effects alone, for submit, whose other work is set-based.  The
 * step's to_state is set.
 */
extern void ordflow_machine_user_effects(MachineStep *step);

/* Does an event of the machine have effects or guards of users? */
extern bool ordflow_machine_has_hooks(const char *machine, const char *event);

/* The transition, or NULL; to_state NULL = the first by ordinal. */
extern const Transition *ordflow_machine_find(const char *machine, const char *from_state,
											  const char *event, const char *to_state);

/* The transition that leaves a state by itself, or NULL. */
extern const Transition *ordflow_machine_timeout(const char *machine, const char *state);

/* True when guards decide between several transitions of the event from the state. */
extern bool ordflow_machine_branches(const char *machine, const char *state, const char *event);

/* Is there such a machine? */
extern bool ordflow_machine_exists(const char *machine);

/* now + after (or the setting's interval). */
extern TimestampTz ordflow_machine_deadline(const Transition *timeout, TimestampTz now);

/*
 * OF001: the event is not legal for the object ("order 7") in its state; names
 * the legal events; hint may be NULL.
 */
pg_noreturn extern void ordflow_machine_illegal(const char *machine, const char *state,
												const char *event, const char *object,
												const char *hint);

/*
 * The targets that are attached, a List of MachineTarget *: all of the database, but for the
 * temporary tables of other sessions, when relid is invalid.  No lock is taken.
 */
extern List *ordflow_machine_targets(Oid relid);

/*
 * SQL that names a table at run time: the plan is kept by its text.  custom: a
 * plan for the values, not a generic one.  The caller is connected to SPI; rows
 * are in SPI_tuptable.
 */
extern uint64 ordflow_machine_query(const char *sql, int nargs, const Oid *argtypes,
									Datum *values, bool custom);

/*
 * The same with a plan by an index in its order where there is one, whatever the statistics
 * say: for rows that are few among many.
 */
extern uint64 ordflow_machine_query_by_index(const char *sql, int nargs, const Oid *argtypes,
											 Datum *values);

/* The table's qualified and quoted name; OF004 when there is none. */
extern char *ordflow_machine_table(Oid relid);

/*
 * Becomes the table's owner to read or write the table, until ordflow_role_leave().
 * Planning alone may run code of the owner (index expressions, constraints), so it is
 * his role, restricted; all rows are seen, whatever policies say.
 */
extern RoleSwitch ordflow_machine_owner_enter(Oid relid);

/*
 * The same on behalf of the current role, whose privileges have been checked: where
 * policies bind him he stays himself, restricted, so that they are asked.
 */
extern RoleSwitch ordflow_machine_visitor_enter(Oid relid);

/* For keeping it. */
extern MachineTarget *ordflow_machine_target_copy(MemoryContext context,
												  const MachineTarget *target);
extern bool ordflow_machine_target_equal(const MachineTarget *a, const MachineTarget *b);

/* The table as FROM and UPDATE name it, with ONLY unless its rows are in partitions. */
extern char *ordflow_machine_from(const MachineTarget *target);

/* 42501 unless the current role may read the column. */
extern void ordflow_machine_require_select(Oid relid, const char *column);

/* ---- keys: one column, or a JSON array of the texts of several ---- */

/* How many columns, and their names. */
extern int	ordflow_machine_key_width(const MachineTarget *target);
extern const char *ordflow_machine_key_column(const MachineTarget *target, int i);

/* A key as text. */
extern char *ordflow_machine_key_text(const MachineTarget *target, Datum key);

/* The key that a text is; raises what the types' input functions do. */
extern Datum ordflow_machine_key_from_text(const MachineTarget *target, const char *text);

/* The key of a row's key columns, NULL where one of them is. */
extern Datum ordflow_machine_key_make(const MachineTarget *target, const Datum *values,
									  const bool *nulls, bool *isnull);

/* "o.a, o.b", to be read again by the next from the first columns of a row of the last result. */
extern char *ordflow_machine_key_list(const MachineTarget *target);
extern Datum ordflow_machine_key_result(const MachineTarget *target, uint64 row);

/* "o.a IS NOT NULL AND o.b IS NOT NULL" */
extern char *ordflow_machine_key_not_null(const MachineTarget *target);

/* "the row has the key $n" by the types' own equality, or one of the keys in the array $n. */
extern char *ordflow_machine_key_condition(const MachineTarget *target, int param, bool any);

/* "the row has none of the keys in the array $n" */
extern char *ordflow_machine_key_exclusion(const MachineTarget *target, int param);

/* An array of the keys. */
extern Datum ordflow_machine_key_array(const MachineTarget *target, const Datum *keys, int n);

#endif							/* ORDFLOW_MACHINE_H */

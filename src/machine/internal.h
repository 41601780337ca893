/*
 * internal.h
 *	  What the files of the machine feature share; nobody else includes it.
 */
#ifndef ORDFLOW_MACHINE_INTERNAL_H
#define ORDFLOW_MACHINE_INTERNAL_H

#include "postgres.h"
#include "catalog/pg_attribute.h"
#include "pg_config_manual.h"
#include "storage/itemptr.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "machine/machine.h"

#define MACHINE_STATES_MAX		1000
#define MACHINE_TRANSITIONS_MAX 10000

/* ---- compile.c: the compiled form ---- */

typedef enum StateKind
{
	STATE_INITIAL,
	STATE_NORMAL,
	STATE_FINAL
} StateKind;

typedef struct MachineState
{
	const char *name;
	const char *label;			/* NULL = the name */
	StateKind	kind;
	bool		builtin;
	int			first;			/* its transitions: first .. first + n - 1 */
	int			n;
	const Transition *timeout;	/* leaves it by itself; may be NULL */
} MachineState;

/* A guard or effect that a user registered. */
struct Hook
{
	const char *kind;			/* "guard" or "effect" */
	const char *signature;		/* schema.name(argument types) */
	const char *role;			/* who registered it */
	Oid			function;		/* invalid: there is none now, or one of another kind */
	Oid			roleid;			/* invalid: there is no such role now */
};

/* A row of ordflow.effects. */
typedef struct MachineEffect
{
	const char *event;
	int			ordinal;
	const Hook *hook;
	bool		builtin;
} MachineEffect;

struct Machine
{
	MemoryContext context;		/* holds all of it */
	const char *name;
	bool		builtin;
	const MachineOps *ops;		/* NULL for users' machines */
	int			nstates;
	MachineState *states;		/* by name */
	int			ntransitions;
	Transition *transitions;	/* by from_state (NULL first), event, ordinal */
	int			neffects;
	MachineEffect *effects;		/* by event, ordinal */
};

/* Reads the rows into a context under the current one; NULL when there is no such machine. */
extern Machine *ordflow_machine_compile(const char *name);

/* ---- registry.c: where compiled machines are kept, and when they are dropped ---- */

/* OF004 when there is none.  Valid until the end of the transaction. */
extern const Machine *ordflow_machine_load(const char *name);

/* NULL when there is none. */
extern const Machine *ordflow_machine_load_or_null(const char *name);

extern const MachineOps *ordflow_machine_ops(const char *machine);

/* ---- lookup.c: questions to a compiled machine ---- */

extern const MachineState *ordflow_machine_state(const Machine *machine, const char *name);

/* Transitions of an event that leave a state (NULL = that create), by ordinal; *n = how many. */
extern const Transition *ordflow_machine_candidates(const Machine *machine, const char *from_state,
													const char *event, int *n);

/* Transitions that leave a state (NULL = that create), by event and ordinal. */
extern const Transition *ordflow_machine_exits(const Machine *machine, const char *state, int *n);

/* The effects of an event, by ordinal. */
extern const MachineEffect *ordflow_machine_effects_of(const Machine *machine, const char *event,
													   int *n);

/* Is there a transition of the event, from whatever state? */
extern bool ordflow_machine_knows(const Machine *machine, const char *event);

/* The verb that the event is reserved to, or NULL. */
extern const char *ordflow_machine_verb(const Machine *machine, const char *event);

/* Does an event fire by itself in some state? */
extern bool ordflow_machine_has_timeouts(const Machine *machine);

/* The legal events of a state as a full sentence. */
extern char *ordflow_machine_legal_events(const Machine *machine, const char *state);

/* ---- query.c ---- */

/* ordflow_machine_query() with a snapshot, in which the transaction's own changes show too. */
extern uint64 ordflow_machine_query_at(Snapshot snapshot, const char *sql, int nargs,
									   const Oid *argtypes, Datum *values);

/* The same with one of this moment at any isolation level. */
extern uint64 ordflow_machine_query_now(const char *sql, int nargs, const Oid *argtypes,
										Datum *values);

/*
 * As the extension's owner, with the search_path that SQL of ours is written for, until left: for
 * triggers, which are called for every row and so have neither by themselves.
 */
typedef struct OwnWork
{
	RoleSwitch	role;
	int			guc_level;
} OwnWork;

extern OwnWork ordflow_machine_own_enter(void);
extern void ordflow_machine_own_leave(OwnWork work);

/* ---- target.c: attached tables ---- */

/* The most columns of a key: those of an index. */
#define KEY_COLUMNS_MAX INDEX_MAX_KEYS

/*
 * What attach gives its triggers: machine, state column, key column, due column or '', and the
 * further columns of a composite key.
 */
#define TARGET_ARGS 4

extern MachineTarget *ordflow_machine_target_make(Oid relid, char **args, int nargs);

/* The table that a trigger was put on, from which partitions have theirs. */
extern Oid	ordflow_machine_trigger_table(Oid trigger);

/* 42703 when a column that the trigger names is gone. */
extern void ordflow_machine_require_columns(const MachineTarget *target);

/* What the object is called in messages: order 7, row 7 of table shop.orders. */
extern char *ordflow_machine_object(const Machine *machine, const MachineTarget *target, Datum key);

/* The oid of one of our trigger functions. */
extern Oid	ordflow_machine_trigger_oid(const char *function);

/* The names of the triggers that attach made on a table, of one state column or (NULL) of all. */
extern List *ordflow_machine_trigger_names(Oid relid, const char *state_column);

/* The uppermost table that a partition belongs to; the table itself where it is none. */
extern Oid	ordflow_machine_root(Oid relid);

/* ---- key.c ---- */

/* The type's name in SQL, qualified, without any length. */
extern char *ordflow_machine_type_name(Oid type);

/* ---- column.c: state columns ---- */

/* May a state column be of that type, or of a domain over it? */
extern bool ordflow_state_type_fits(Oid type);

/* The state that a value of such a base type is. */
extern char *ordflow_state_text(Oid type, Datum value);

/* 22023 when a state cannot stand in the column, as its name is spelled. */
extern void ordflow_state_require(Oid relid, const char *column, const char *machine,
								  const char *state);

/* ---- attach.c, attach_key.c, attach_report.c ---- */

typedef struct AttachArgs
{
	Oid			relid;
	const char *machine;
	const char *state_column;
	const char *key_column;		/* NULL: the primary key */
	const char *due_column;		/* NULL: none */
} AttachArgs;

/* 42703 */
extern Form_pg_attribute ordflow_attach_require_column(Relation rel, const char *column);

/* The arguments with the key that they mean; 55000, 0A000 where there is none. */
extern MachineTarget *ordflow_attach_target(Relation rel, const AttachArgs *args);

/* The same by the primary key; NULL where there is none. */
extern MachineTarget *ordflow_attach_target_or_null(Relation rel, const char *state_column);

/* Is the table, or one of its partitions, partitioned by the column? */
extern bool ordflow_attach_is_spread_by(Relation rel, const char *column);

/* Does an index begin with the column? */
extern bool ordflow_attach_has_index(Relation rel, AttrNumber attnum);

/* The names of the machine's states as a text[]. */
extern Datum ordflow_attach_state_names(const Machine *machine);

/* "the row stands in no state of $1" */
extern char *ordflow_attach_unknown_state(const char *state_column);

/* ---- apply.c ---- */

/* Has a step of that transition nothing to run, no guard, no effect, no part of ours? */
extern bool ordflow_machine_is_plain(const Machine *machine, const Transition *transition);

/* ---- history.c ---- */

/* Writes the history of a step. */
extern void ordflow_history_write(const MachineStep *step);

/*
 * The same for one object of a table of that name, at the latest when the statement ends whose
 * AFTER triggers are running.
 */
extern void ordflow_history_add(const MachineStep *step, const char *table);

/* Writes what was added by now. */
extern void ordflow_history_flush(void);

extern void ordflow_history_init(void);

/* ---- move.c: rows on their way from one partition to another ---- */

/* From the BEFORE triggers: of an UPDATE, of the DELETE that may follow, of the INSERT after it. */
extern void ordflow_move_updating(Relation partition, ItemPointer row, uint64 key_hash);
extern void ordflow_move_deleting(Relation partition, ItemPointer row);
extern bool ordflow_move_inserting(uint64 key_hash);

/* From the AFTER trigger of the DELETE: has the row moved? */
extern bool ordflow_move_deleted(Relation partition, ItemPointer row);

/* Then it tells the next AFTER INSERT trigger, to which it is an update. */
extern void ordflow_move_leave(const MachineTarget *target, const char *from_state, Datum key,
							   bool key_is_null);
extern bool ordflow_move_arrive(const MachineTarget *target, char **from_state, Datum *key,
								bool *key_is_null);

/* No BEFORE trigger of the statement comes any more. */
extern void ordflow_move_statement_ended(void);

/* Its AFTER triggers are through. */
extern void ordflow_move_triggers_ended(void);

extern void ordflow_move_init(void);

/* ---- pending.c: updates of ours that are under way ---- */

typedef struct Pending Pending;

extern void ordflow_pending_init(void);

/* Is there any? */
extern bool ordflow_pending_any(void);
extern Pending *ordflow_pending_push(const MachineStep *step, bool keeps_due);
extern void ordflow_pending_pop(Pending *pending);

/* The update under way that brings this row from this state to that one. */
typedef struct PendingMatch
{
	const char *event;
	TimestampTz now;			/* its clock */
	bool		keeps_due;		/* the update writes the due column itself */
} PendingMatch;

/* consume: the row's AFTER trigger, which comes once. */
extern bool ordflow_pending_match(Oid relid, const char *state_column, Datum key,
								  const char *from_state, const char *to_state, bool consume,
								  PendingMatch *match);

/* ---- hook.c: users' guards and effects ---- */

/* What a hook is told of one object of a step. */
typedef struct HookCall
{
	const Machine *machine;
	const MachineStep *step;
	const Transition *transition;
	Datum		key;
	Jsonb	   *row;			/* fetched when the first hook runs */
} HookCall;

/* For a callback of error_context_stack: a hint that was given already, a user's own, is left. */
extern void ordflow_hint_where_none(const char *hint);

extern bool ordflow_hook_guard(const Hook *hook, HookCall *call);
extern void ordflow_hook_effect(const Hook *hook, HookCall *call);

/* Is it a function of (jsonb, jsonb) with the result of that kind of hook? */
extern bool ordflow_hook_fits(Oid function, const char *kind);

/* The signature of a function fit to be a hook of that kind; OF004, 42804, 42501. */
extern char *ordflow_hook_signature(Oid function, const char *kind);

/* The same, of a function named in text: schema.name(jsonb,jsonb). */
extern char *ordflow_hook_signature_from_text(const char *text, const char *kind);

#endif							/* ORDFLOW_MACHINE_INTERNAL_H */

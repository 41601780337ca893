/*
 * internal.h
 *	  What the files of the machine feature share; nobody else includes it.
 */
#ifndef ORDFLOW_MACHINE_INTERNAL_H
#define ORDFLOW_MACHINE_INTERNAL_H

#include "postgres.h"
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

/* ---- target.c: attached tables ---- */
extern MachineTarget *ordflow_machine_target_from_args(Relation rel, char **args);

/* 42703 when a column that the trigger names is gone. */
extern void ordflow_machine_require_columns(const MachineTarget *target);

/* What the object is called in messages: order 7, row 7 of table shop.orders. */
extern char *ordflow_machine_object(const Machine *machine, const MachineTarget *target, Datum key);

/* The oid of one of our trigger functions. */
extern Oid	ordflow_machine_trigger_oid(const char *function);

/* The names of the triggers that attach made on a table, of one state column or (NULL) of all. */
extern List *ordflow_machine_trigger_names(Oid relid, const char *state_column);

/* ---- apply.c ---- */

/* History of a creation that no transition describes: event "insert". */
extern void ordflow_machine_record(MachineStep *step);

/* ---- pending.c: updates of ours that are under way ---- */

typedef struct Pending Pending;

extern void ordflow_pending_init(void);
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

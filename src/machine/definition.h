/*
 * definition.h
 *	  A machine as define_machine() is given it.
 */
#ifndef ORDFLOW_MACHINE_DEFINITION_H
#define ORDFLOW_MACHINE_DEFINITION_H

#include "postgres.h"
#include "utils/jsonb.h"

#include "machine/internal.h"

typedef struct DefinedState
{
	char	   *name;
	const char *kind;			/* initial, normal, final */
	char	   *label;			/* NULL = the name */
} DefinedState;

typedef struct DefinedTransition
{
	int			number;			/* from 1, for messages */
	char	   *from_state;		/* NULL: creates the object */
	char	   *event;
	char	   *to_state;
	char	   *guard;			/* signature, or NULL */
	char	   *effect;
	char	   *after;			/* an interval in text, or NULL */
} DefinedTransition;

typedef struct Definition
{
	int			nstates;
	DefinedState *states;		/* by name */
	int			ntransitions;
	DefinedTransition *transitions; /* as given */
} Definition;

/* Parses; 22023, 22001, 54000 for what is no definition, OF004, 42804, 42501 for functions. */
extern Definition *ordflow_definition_read(Jsonb *json);

/*
 * Checks that it fits together (22023).  base: the built-in machine that it adds to,
 * whose states it may name but not redefine (OF001), or NULL.
 */
extern void ordflow_definition_check(const Definition *definition, const Machine *base);

#endif							/* ORDFLOW_MACHINE_DEFINITION_H */

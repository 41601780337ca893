/*
 * claim.h
 *	  What claim.c, finish.c and current.c share.
 */
#ifndef ORDFLOW_CLAIM_H
#define ORDFLOW_CLAIM_H

#include "task/internal.h"

/* Raises 53400. */
pg_noreturn extern void ordflow_claims_are_full(void);

/* 42501, 22023 for a kind that background workers run. */
extern void ordflow_require_claimable(const TaskKind *kind);

/* In microseconds; 0: the argument is null. */
extern int64 ordflow_arg_lease(FunctionCallInfo fcinfo, int argno);

#endif							/* ORDFLOW_CLAIM_H */

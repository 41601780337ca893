/*
 * error.h
 *	  The SQLSTATEs of class OF, and problems: errors that a bulk call reports
 *	  as a row and a single call raises.
 *
 * A code is never reused for another meaning.  Bad input of the usual kinds has
 * PostgreSQL's own states (22xxx, 23xxx, 42501).
 */
#ifndef ORDFLOW_ERROR_H
#define ORDFLOW_ERROR_H

#include "postgres.h"
#include "utils/jsonb.h"

#include "base/compat.h"

#define ERRCODE_ORDFLOW_ILLEGAL_TRANSITION	MAKE_SQLSTATE('O', 'F', '0', '0', '1')
#define ERRCODE_ORDFLOW_INSUFFICIENT_STOCK	MAKE_SQLSTATE('O', 'F', '0', '0', '2')
#define ERRCODE_ORDFLOW_COUPON_REFUSED		MAKE_SQLSTATE('O', 'F', '0', '0', '3')
#define ERRCODE_ORDFLOW_NO_SUCH_OBJECT		MAKE_SQLSTATE('O', 'F', '0', '0', '4')
#define ERRCODE_ORDFLOW_KEY_REUSED			MAKE_SQLSTATE('O', 'F', '0', '0', '5')
#define ERRCODE_ORDFLOW_LIMIT_REACHED		MAKE_SQLSTATE('O', 'F', '0', '0', '6')
#define ERRCODE_ORDFLOW_UNAVAILABLE			MAKE_SQLSTATE('O', 'F', '0', '0', '7')
#define ERRCODE_ORDFLOW_NOT_PRELOADED		MAKE_SQLSTATE('O', 'F', '0', '0', '8')
#define ERRCODE_ORDFLOW_GUARD_REFUSED		MAKE_SQLSTATE('O', 'F', '0', '0', '9')
#define ERRCODE_ORDFLOW_NOT_HOLDER			MAKE_SQLSTATE('O', 'F', '0', '1', '0')
#define ERRCODE_ORDFLOW_VERSION_DIFFERS		MAKE_SQLSTATE('O', 'F', '0', '1', '1')

/*
 * A refusal that has not been raised.  Functions that take a "Problem *" fill it
 * and return false; given NULL they raise instead.  All strings live in the
 * memory context that was current when the problem was noted.
 */
typedef struct Problem
{
	int			sqlerrcode;		/* 0 = no problem */
	const char *message;
	const char *detail;			/* may be NULL */
	const char *hint;			/* may be NULL */
} Problem;

/* Notes the problem in *problem, or raises it when problem is NULL.  Returns false. */
extern bool ordflow_refuse(Problem *problem, int sqlerrcode,
						   const char *detail, const char *hint,
						   const char *fmt,...) pg_attribute_printf(5, 6);

/* Raises a noted problem. */
pg_noreturn extern void ordflow_problem_raise(const Problem *problem);

/*
 * Errors that are the caller's to repeat or to accept, so no subtransaction of
 * ours may swallow them: serialization failures, deadlocks, cancellation and
 * shutdown, a read-only transaction, lack of memory or disk.
 */
extern bool ordflow_error_is_callers(int sqlerrcode);

#endif							/* ORDFLOW_ERROR_H */

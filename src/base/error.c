/*
 * error.c
 *	  Problems: refusals that are either noted or raised.
 */
#include "postgres.h"

#include "base/error.h"

bool
ordflow_refuse(Problem *problem, int sqlerrcode, const char *detail, const char *hint,
			   const char *fmt,...)
{
	StringInfoData message;
	Problem		noted;

	initStringInfo(&message);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&message, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}

	noted.sqlerrcode = sqlerrcode;
	noted.message = message.data;
	noted.detail = detail;
	noted.hint = hint;
	if (problem == NULL)
		ordflow_problem_raise(&noted);
	*problem = noted;
	return false;
}

void
ordflow_problem_raise(const Problem *problem)
{
	ereport(ERROR,
			errcode(problem->sqlerrcode),
			errmsg_internal("%s", problem->message),
			problem->detail ? errdetail_internal("%s", problem->detail) : 0,
			problem->hint ? errhint("%s", problem->hint) : 0);
	pg_unreachable();
}

bool
ordflow_error_is_callers(int sqlerrcode)
{
	switch (sqlerrcode)
	{
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
		case ERRCODE_READ_ONLY_SQL_TRANSACTION:
			return true;
		default:
			return ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
				ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES;
	}
}

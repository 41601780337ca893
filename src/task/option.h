/*
 * option.h
 *	  The options of define_task() and of submitting, read from JSON.
 */
#ifndef ORDFLOW_OPTION_H
#define ORDFLOW_OPTION_H

#include "task/internal.h"

/*
 * An argument, which may be null, as the options of a batch, or of one task.  The right to submit
 * on_finish has been checked.
 */
extern void ordflow_submit_options(FunctionCallInfo fcinfo, int argno, bool batch,
								   SubmitOptions *options);

/* What define_task() is told beside the handler; 0 and NULL: none. */
typedef struct KindOptions
{
	bool		is_short;
	int32		max_concurrent;
	int32		per_key;
	double		rate;
	int32		max_attempts;
	int32		max_crashes;
	Interval   *backoff;
	Interval   *backoff_max;
	Interval   *timeout;
	Interval   *retention;
	bool		notify;
} KindOptions;

extern void ordflow_kind_options(FunctionCallInfo fcinfo, int argno, bool has_handler,
								 KindOptions *options);

#endif							/* ORDFLOW_OPTION_H */

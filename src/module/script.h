/*
 * script.h
 *	  What the two files of the sink of files share.
 */
#ifndef ORDFLOW_SCRIPT_H
#define ORDFLOW_SCRIPT_H

#include "sync/sink.h"

#define SCRIPT_LINE_BYTES 1024

typedef struct Script
{
	const ModuleConfig *config;
	const char *path;
	const char *name_space;
	long long	length;			/* of items, as the file position has it */
	bool		found;
	SinkPosition at;
} Script;

/* ---- script.c ---- */

extern FILE *script_open(const Script *script, const char *name, const char *mode);

/* The first n items of the batch, without the position; how long the file is then, or -1. */
extern long long script_write_items(const Script *script, const SinkBatch *batch, int n,
									ModuleError *error);

/* The first n items, and the position behind them. */
extern SinkOutcome script_send(const Script *script, const SinkBatch *batch, int n,
							   SinkResult *result);

/* ---- script_outcome.c ---- */

/* Does what the file outcomes says; without one it sends all. */
extern SinkOutcome script_answer(const Script *script, const SinkBatch *batch, SinkResult *result);

#endif							/* ORDFLOW_SCRIPT_H */

/*
 * script_outcome.c
 *	  How the sink of files fails as it is told to; not for copying.
 *
 * Each apply() takes the next line of the file outcomes and puts # before it:
 *
 *		done
 *		retry MESSAGE
 *		misconfigured MESSAGE
 *		moved
 *		reject N MESSAGE	the items before item N, from 0, are done
 *		reject ? MESSAGE	nothing is done, and it is not known which item is to blame
 *		poison KEY			the same, where the batch has that key; the line is not used up
 *		slow MS				done, after so long
 *		lost MESSAGE		done, and the answer is lost
 *		crash				half of the items are written, and the process ends
 *
 * Where there is no line, all is done.
 */
#include "module/script.h"

#include <unistd.h>

#define TICK_MS 10

static SinkOutcome
fail(SinkOutcome outcome, const char *message, SinkResult *result)
{
	(void) module_fail(&result->error, outcome == SINK_MISCONFIGURED, NULL, "%s", message);
	return outcome;
}

/* reject N: the items before N are done; reject ?: none is, and nobody knows why. */
static SinkOutcome
reject(const Script *script, const SinkBatch *batch, const char *rest, SinkResult *result)
{
	int			n = Max(0, Min(atoi(rest), batch->n - 1));
	SinkOutcome outcome = n > 0 ? script_send(script, batch, n, result) : SINK_DONE;

	if (outcome != SINK_DONE)
		return outcome;
	result->ndone = n;
	result->rejected = rest[0] == '?' ? -1 : n;
	rest += strcspn(rest, " ");
	return fail(SINK_REJECT, rest + strspn(rest, " "), result);
}

/* Of poison KEY. */
static bool
has_key(const SinkBatch *batch, const char *key)
{
	for (int i = 0; i < batch->n; i++)
		if (batch->items[i].key != NULL && strcmp(batch->items[i].key, key) == 0)
			return true;
	return false;
}

/* As a sink waits: never longer than it may, and not when it is told to leave. */
static const char *
wait_ms(const Script *script, long ms)
{
	long		timeout = module_option_int(script->config, "timeout") * 1000L;

	for (long waited = 0; waited < ms; waited += TICK_MS)
	{
		if (waited >= timeout)
			return "no answer in time";
		if (script->config->cancelled != NULL && script->config->cancelled())
			return "cancelled";
		usleep(TICK_MS * 1000);
	}
	return NULL;
}

/* The next line of outcomes; one of poison is not used up. */
static void
next_line(const Script *script, char *line)
{
	FILE	   *file = script_open(script, "outcomes", "r+");
	long		at = 0;

	while (file != NULL && fgets(line, SCRIPT_LINE_BYTES, file) != NULL)
	{
		if (line[0] == '#')
		{
			at = ftell(file);
			continue;
		}
		if (strncmp(line, "poison ", 7) != 0 && fseek(file, at, SEEK_SET) == 0)
			putc('#', file);
		fclose(file);
		line[strcspn(line, "\n")] = '\0';
		return;
	}
	if (file != NULL)
		fclose(file);
	strcpy(line, "done");
}

SinkOutcome
script_answer(const Script *script, const SinkBatch *batch, SinkResult *result)
{
	char		line[SCRIPT_LINE_BYTES];
	size_t		length;
	const char *rest;
	const char *problem;

	next_line(script, line);
	length = strcspn(line, " ");
	rest = line + length + strspn(line + length, " ");
#define IS(word) (length == strlen(word) && strncmp(line, word, length) == 0)
	if (IS("retry"))
		return fail(SINK_RETRY, rest, result);
	if (IS("moved"))
		return SINK_MOVED;
	if (IS("reject"))
		return reject(script, batch, rest, result);
	if (IS("poison") && has_key(batch, rest))
		return reject(script, batch, "? poison", result);
	if (IS("slow") && (problem = wait_ms(script, atol(rest))) != NULL)
		return fail(SINK_RETRY, problem, result);
	if (IS("lost") && script_send(script, batch, batch->n, result) == SINK_DONE)
		return fail(SINK_RETRY, rest, result);
	if (IS("crash"))
	{
		(void) script_write_items(script, batch, (batch->n + 1) / 2, &result->error);
		_exit(2);
	}
	if (IS("done") || IS("poison") || IS("slow"))
		return script_send(script, batch, batch->n, result);
	return fail(SINK_MISCONFIGURED, IS("misconfigured") ? rest : line, result);
}

/*
 * script.c
 *	  The sink to copy, and the one of tests: it writes into files.
 *
 * The server's option path names a directory of one delivery.  In it lie
 *
 *		items		what was sent: a JSON object a line
 *		position	a line: how many bytes of items count, up to where that is, and whose it is
 *		outcomes	how apply() is to fail, for tests: see script_outcome.c
 *
 * A batch is done when position has been replaced, by rename(): so items and position move in one
 * step, and what a crash has left behind the bytes that count is cut off by whoever writes next.
 *
 * docs/writing-a-sink.md goes through this file.
 */
#include "module/script.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const SinkOption options[] = {
	{"shape", SINK_OPTION_CHOICE, "fields", 0, 0, "fields, document, event, key"}
};

/* ---- routes ---- */

static bool
route(SinkRoute *route, ModuleError *error)
{
	static const char *const names[] = {"key", "fields", "document", "event"};
	const ModuleConfig given = {.noptions = route->noptions,.options = route->options};
	const char *shape = module_option(&given, "shape");

	route->shape = route->is_emit ? SHAPE_EVENT : SHAPE_FIELDS;
	for (int i = 0; shape != NULL && i < (int) lengthof(names); i++)
		if (strcmp(names[i], shape) == 0)
			route->shape = (SinkShape) i;
	return true;
}

/* ---- files ---- */

FILE *
script_open(const Script *script, const char *name, const char *mode)
{
	char		path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/%s", script->path, name);
	return fopen(path, mode);
}

/* Closes what was written; true when it is on disk. */
static bool
finish(FILE *file)
{
	bool		good = fflush(file) == 0 && fsync(fileno(file)) == 0;

	return fclose(file) == 0 && good;
}

/* Always false.  What a person has to mend is told apart from what may pass. */
static bool
failed(ModuleError *error, const Script *script, const char *what)
{
	bool		misconfigured = errno == ENOENT || errno == ENOTDIR || errno == EACCES;

	return module_fail(error, misconfigured, misconfigured ?
					   "Its option path names a directory that the server may write to." : NULL,
					   "could not %s in \"%s\": %m", what, script->path);
}

/* A file's new name is on disk when its directory is. */
static bool
sync_directory(const Script *script)
{
	int			directory = open(script->path, O_RDONLY);
	bool		good = directory >= 0 && fsync(directory) == 0;

	if (directory >= 0)
		close(directory);
	return good;
}

/* at: "-" before the first batch. */
static bool
write_position(const Script *script, long long length, const char *at, ModuleError *error)
{
	char		from[MAXPGPATH];
	char		to[MAXPGPATH];
	FILE	   *file = script_open(script, "position.new", "w");

	if (file == NULL)
		return failed(error, script, "create file position.new");
	fprintf(file, "%lld %s %s\n", length, at, script->name_space);
	snprintf(from, sizeof(from), "%s/position.new", script->path);
	snprintf(to, sizeof(to), "%s/position", script->path);
	return (finish(file) && rename(from, to) == 0 && sync_directory(script)) ||
		failed(error, script, "write file position");
}

/* False with errno ENOENT: there is none. */
static bool
read_position(Script *script, ModuleError *error)
{
	char		line[SCRIPT_LINE_BYTES] = "";
	char		at[SINK_POSITION_TEXT_MAX];
	int			end = 0;
	FILE	   *file = script_open(script, "position", "r");

	if (file == NULL)
		return failed(error, script, "read file position");
	if (fgets(line, sizeof(line), file) == NULL)
		line[0] = '\0';
	fclose(file);
	errno = 0;
	line[strcspn(line, "\n")] = '\0';
	if (sscanf(line, "%lld %79s %n", &script->length, at, &end) != 2 ||
		strcmp(line + end, script->name_space) != 0)
		return module_fail(error, true, "Give each server a directory of its own.",
						   "file position in \"%s\" is another delivery's", script->path);
	script->found = strcmp(at, "-") != 0;
	return !script->found || sink_position_parse(at, &script->at) ||
		module_fail(error, true, NULL, "file position in \"%s\" holds none", script->path);
}

/* ---- the connection ---- */

static void *
open_sink(const ModuleConfig *config, const char *name_space)
{
	Script	   *script = calloc(1, sizeof(Script));

	if (script == NULL)
		return NULL;
	script->config = config;
	script->path = module_option(config, "path");
	script->name_space = name_space;
	return script;
}

/* What lies in items before the first batch, of an earlier delivery, stays there. */
static bool
connect_sink(void *state, ModuleError *error)
{
	Script	   *script = state;
	struct stat items = {0};
	FILE	   *file;

	if (script->path == NULL)
		return module_fail(error, true, "ALTER SERVER ... OPTIONS (ADD path '/a/directory').",
						   "server \"%s\" has no option path", script->config->server);
	if (read_position(script, error))
		return true;
	if (errno != ENOENT)
		return false;
	file = script_open(script, "items", "a");
	if (file == NULL)
		return failed(error, script, "create file items");
	(void) fstat(fileno(file), &items);
	fclose(file);
	return write_position(script, items.st_size, "-", error);
}

static bool
position(void *state, SinkPosition *at, bool *found, ModuleError *error)
{
	Script	   *script = state;

	if (!read_position(script, error))
		return false;
	*found = script->found;
	*at = script->at;
	return true;
}

static bool
clear(void *state, ModuleError *error)
{
	Script	   *script = state;
	char		path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/position", script->path);
	return unlink(path) == 0 || errno == ENOENT || failed(error, script, "remove file position");
}

/* ---- items ---- */

static void
put_string(FILE *file, const char *text, size_t length)
{
	if (text == NULL)
	{
		fputs("null", file);
		return;
	}
	putc('"', file);
	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = text[i];

		if (c < ' ' || c == '"' || c == '\\')
			fprintf(file, "\\u%04x", c);
		else
			putc(c, file);
	}
	putc('"', file);
}

static void
put_member(FILE *file, const char *name, const char *text, size_t length)
{
	fprintf(file, ", \"%s\": ", name);
	put_string(file, text, length);
}

static void
put_item(FILE *file, const SinkItem *item)
{
	static const char *const ops[] = {"put", "delete", "truncate", "append"};
	char		at[SINK_POSITION_TEXT_MAX];

	sink_position_print(&item->at, at);
	fprintf(file, "{\"at\": \"%s\", \"op\": \"%s\"", at,
			item->op == SINK_PUT && item->is_insert ? "insert" : ops[item->op]);
	put_member(file, "sync", item->route->sync, strlen(item->route->sync));
	put_member(file, "target", item->target, item->target_length);
	put_member(file, "key", item->key, item->key_length);
	put_member(file, "body", item->body, item->body_length);
	fputs(", \"fields\": {", file);
	for (int i = 0; i < item->nfields; i++)
	{
		const SinkField *field = &item->fields[i];

		fputs(i > 0 ? ", " : "", file);
		put_string(file, field->name, strlen(field->name));
		fputs(": ", file);
		put_string(file, field->value, field->length);
	}
	fputs("}}\n", file);
}

/* The first n items of the batch; how long the file is with them, or -1. */
long long
script_write_items(const Script *script, const SinkBatch *batch, int n, ModuleError *error)
{
	FILE	   *file = script_open(script, "items", "a");
	long long	length = -1;
	struct stat items;

	if (file != NULL && fstat(fileno(file), &items) == 0 && items.st_size < script->length)
	{
		fclose(file);
		(void) module_fail(error, true, "Remove the file position, and it begins anew.",
						   "file items in \"%s\" has lost what was sent", script->path);
		return -1;
	}
	if (file != NULL && ftruncate(fileno(file), script->length) == 0)
	{
		for (int i = 0; i < n; i++)
			put_item(file, &batch->items[i]);
		(void) fseek(file, 0, SEEK_END);
		length = ftell(file);
	}
	if (file == NULL || !finish(file) || length < 0)
	{
		(void) failed(error, script, "write file items");
		return -1;
	}
	return length;
}

/* ---- batches ---- */

/* The first n items, and the position behind them. */
SinkOutcome
script_send(const Script *script, const SinkBatch *batch, int n, SinkResult *result)
{
	long long	length = script_write_items(script, batch, n, &result->error);
	char		at[SINK_POSITION_TEXT_MAX];

	sink_position_print(n == batch->n ? &batch->to : &batch->items[n - 1].at, at);
	if (length >= 0 && write_position(script, length, at, &result->error))
		return SINK_DONE;
	return result->error.misconfigured ? SINK_MISCONFIGURED : SINK_RETRY;
}

static SinkOutcome
apply(void *state, const SinkBatch *batch, SinkResult *result)
{
	Script	   *script = state;

	if (!read_position(script, &result->error))
		return errno == ENOENT ? SINK_MOVED :
			result->error.misconfigured ? SINK_MISCONFIGURED : SINK_RETRY;
	if (script->found == batch->was_empty ||
		(script->found && sink_position_compare(&script->at, &batch->from) != 0))
		return SINK_MOVED;
	/* a position alone is no business of the script's */
	return batch->n == 0 ? script_send(script, batch, 0, result) :
		script_answer(script, batch, result);
}

static const Sink sink = {
	.name = "script",
	.flags = SINK_KEEPS_POSITION,
	.options = options,
	.noptions = lengthof(options),
	.route = route,
	.open = open_sink,
	.connect = connect_sink,
	.position = position,
	.apply = apply,
	.clear = clear,
	.close = free
};

ORDFLOW_MODULE("script", NULL, &sink);

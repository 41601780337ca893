/*
 * redis_sink.c
 *	  The sink of Redis: hashes, strings, JSON, streams, or keys that are deleted on every change.
 *
 * A batch is one Lua script: it compares the position, runs the commands, and moves the position.
 * Redis runs it at one go, so what a killed delivery had still in the socket either comes before
 * its successor's batch, which then finds another position, or finds another position itself.
 *
 * The script stops at the first command that Redis refuses, with the position at the one before it.
 */
#include "module/redis.h"

#include <ctype.h>
#include <stdlib.h>

#define SCAN_COUNT "1000"
#define POSITION "position"
#define NAME_SPACE_MAX 400
#define ID_PART_BITS 8

enum
{
	OPTION_TYPE, OPTION_TTL, OPTION_VALUE, OPTION_MAXLEN
};

static const SinkOption options[] = {
	{"type", SINK_OPTION_CHOICE, "hash", 0, 0, "hash, string, json, stream, evict"},
	{"ttl", SINK_OPTION_SECONDS, NULL, 1, INT64CONST(1) << 31},
	{"value", SINK_OPTION_TEXT},
	{"maxlen", SINK_OPTION_INT, NULL, 1, INT64CONST(1) << 40}
};

typedef struct RedisSink
{
	RedisServer server;
	redisContext *connection;
	char		position_key[NAME_SPACE_MAX + sizeof(POSITION)];

	/* Arguments of a script that is being made; texts of our own are freed with it. */
	const char **argv;
	size_t	   *lengths;
	int			argc;
	int			argv_max;
	char	  **own;
	int			nown;
	int			own_max;
	bool		failed;			/* out of memory */
} RedisSink;

/*
 * ARGV: the position before, the position after, "grows" or "", then for each item its position,
 * how many commands it has, and of each the number of its words and the words.  No position is "".
 * Answers {"ok"}, {"moved"}, {"lacks", the number of items done} where an EXISTS finds nothing, or
 * {"refused", the number of items done, the error}.
 *
 * What a script does after its first write Redis lets pass even above maxmemory, and the first may
 * well be a DEL, which it always lets pass.  So what needs memory begins with a SET, of what is
 * there.
 */
static const char script[] =
"local at = redis.call('GET', KEYS[1]) or ''\n"
"if at ~= ARGV[1] then return {'moved'} end\n"
"if ARGV[3] == 'grows' then\n"
"  local answer = redis.pcall('SET', KEYS[1], at, 'XX')\n"
"  if type(answer) == 'table' and answer.err then return {'refused', 0, answer.err} end\n"
"end\n"
"local i, n, last = 4, 0, ''\n"
"while i <= #ARGV do\n"
"  local here, commands = ARGV[i], tonumber(ARGV[i + 1])\n"
"  i = i + 2\n"
"  for c = 1, commands do\n"
"    local words = tonumber(ARGV[i])\n"
"    local answer = redis.pcall(unpack(ARGV, i + 1, i + words))\n"
"    if type(answer) == 'table' and answer.err then\n"
"      if last ~= '' then redis.pcall('SET', KEYS[1], last) end\n"
"      return {'refused', n, answer.err}\n"
"    end\n"
"    if answer == 0 and ARGV[i + 1] == 'EXISTS' then\n"
"      if last ~= '' then redis.pcall('SET', KEYS[1], last) end\n"
"      return {'lacks', n}\n"
"    end\n"
"    i = i + 1 + words\n"
"  end\n"
"  n = n + 1\n"
"  last = here\n"
"end\n"
"if ARGV[2] ~= '' then redis.call('SET', KEYS[1], ARGV[2]) end\n"
"return {'ok'}\n";

/*
 * Refusals that are not about the item: it will be taken another time, or by another Redis.
 * Scripts of Redis 7.0 hear of rights by sentences, those of later ones by NOPERM.
 */
static const struct
{
	const char *word;
	SinkOutcome outcome;
}			passing[] = {
	{"ERR The user executing the script can't", SINK_MISCONFIGURED},
	{"ERR Unknown Redis command", SINK_MISCONFIGURED},
	{"OOM", SINK_RETRY}, {"MISCONF", SINK_RETRY}, {"READONLY", SINK_RETRY},
	{"LOADING", SINK_RETRY}, {"BUSY", SINK_RETRY}, {"MASTERDOWN", SINK_RETRY},
	{"TRYAGAIN", SINK_RETRY}, {"NOREPLICAS", SINK_RETRY}, {"NOPERM", SINK_MISCONFIGURED},
	{"NOAUTH", SINK_MISCONFIGURED}, {"MOVED", SINK_MISCONFIGURED},
	{"CROSSSLOT", SINK_MISCONFIGURED}
};

static const char *
option(const SinkRoute *route, int which)
{
	return module_option(&(ModuleConfig) {.noptions = route->noptions,.options = route->options},
						 options[which].name);
}

static const char *
type_of(const SinkRoute *route)
{
	const char *type = route->is_emit ? "stream" : option(route, OPTION_TYPE);

	return type != NULL ? type : "hash";
}

static bool
is(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/* ---- routes ---- */

static bool
route(SinkRoute *sink_route, ModuleError *error)
{
	const char *type = type_of(sink_route);
	const char *hint = "See docs/redis.md: type, ttl, value and maxlen.";

	if (sink_route->is_emit)
	{
		sink_route->shape = SHAPE_EVENT;
		return true;
	}
	if (sink_route->target == NULL)
		return module_fail(error, true, "Give it as target => 'order:{id}'.",
						   "a key of Redis is needed");
	if (is(type, "string") != (option(sink_route, OPTION_VALUE) != NULL))
		return module_fail(error, true, hint,
						   "option value, a column, goes with type string, which needs it");
	if (option(sink_route, OPTION_MAXLEN) != NULL && !is(type, "stream"))
		return module_fail(error, true, hint, "option maxlen goes with type stream");
	if (option(sink_route, OPTION_TTL) != NULL && (is(type, "stream") || is(type, "evict")))
		return module_fail(error, true, hint, "option ttl does not go with type %s", type);
	/* when the source is emptied, keys are found by the target's pattern */
	if (!is(type, "stream") && sink_route->target[0] == '{' && sink_route->target[1] != '{')
		return module_fail(error, true, "As in target => 'order:{id}'.",
						   "the keys must begin with a text of their own");
	sink_route->shape = is(type, "stream") ? SHAPE_EVENT : is(type, "evict") ? SHAPE_KEY :
		is(type, "json") ? SHAPE_DOCUMENT : SHAPE_FIELDS;
	return true;
}

/* ---- words ---- */

static void
put(RedisSink *redis, const char *word, size_t length)
{
	if (redis->argc == redis->argv_max)
	{
		int			max = Max(1024, redis->argv_max * 2);
		const char **argv = realloc(redis->argv, max * sizeof(char *));
		size_t	   *lengths;

		if (argv != NULL)
			redis->argv = argv;
		lengths = argv != NULL ? realloc(redis->lengths, max * sizeof(size_t)) : NULL;
		if (lengths == NULL)
		{
			redis->failed = true;
			return;
		}
		redis->lengths = lengths;
		redis->argv_max = max;
	}
	redis->argv[redis->argc] = word;
	redis->lengths[redis->argc++] = length;
}

static void
put_text(RedisSink *redis, const char *word)
{
	put(redis, word, strlen(word));
}

/* A text that is made here. */
static void pg_attribute_printf(2, 3)
put_own(RedisSink *redis, const char *format,...)
{
	char		text[SINK_POSITION_TEXT_MAX + 32];
	char	   *copy;
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	copy = strdup(text);
	if (redis->nown == redis->own_max)
	{
		int			max = Max(1024, redis->own_max * 2);
		char	  **own = realloc(redis->own, max * sizeof(char *));

		if (own == NULL)
		{
			free(copy);
			redis->failed = true;
			return;
		}
		redis->own = own;
		redis->own_max = max;
	}
	if (copy == NULL)
	{
		redis->failed = true;
		return;
	}
	redis->own[redis->nown++] = copy;
	put_text(redis, copy);
}

/* NULL: none. */
static void
put_position(RedisSink *redis, const SinkPosition *at)
{
	char		text[SINK_POSITION_TEXT_MAX] = "";

	if (at != NULL)
		sink_position_print(at, text);
	put_own(redis, "%s", text);
}

static void
clear_words(RedisSink *redis)
{
	for (int i = 0; i < redis->nown; i++)
		free(redis->own[i]);
	redis->nown = 0;
	redis->argc = 0;
	redis->failed = false;
}

/* ---- items as commands ---- */

static void
put_key_command(RedisSink *redis, const char *command, const SinkItem *item)
{
	put_text(redis, "2");
	put_text(redis, command);
	put(redis, item->target, item->target_length);
}

static int
put_expiry(RedisSink *redis, const SinkItem *item)
{
	const char *ttl = option(item->route, OPTION_TTL);

	if (ttl == NULL)
		return 0;
	put_text(redis, "3");
	put_text(redis, "EXPIRE");
	put(redis, item->target, item->target_length);
	put_text(redis, ttl);
	return 1;
}

/* What has expired, was evicted or never came is not to be there in part. */
static int
put_check(RedisSink *redis, const SinkItem *item)
{
	if (item->is_insert || !item->is_partial)
		return 0;
	put_key_command(redis, "EXISTS", item);
	return 1;
}

/* HSET of what has a value, HDEL of what has none. */
static int
put_hash(RedisSink *redis, const SinkItem *item)
{
	int			commands = put_check(redis, item);

	if (item->is_insert)
	{
		put_key_command(redis, "DEL", item);
		commands++;
	}
	for (int null = 0; null < (item->is_insert ? 1 : 2); null++)
	{
		int			n = 0;

		for (int i = 0; i < item->nfields; i++)
			n += (item->fields[i].value == NULL) == null;
		if (n == 0)
			continue;
		put_own(redis, "%d", 2 + (null ? n : 2 * n));
		put_text(redis, null ? "HDEL" : "HSET");
		put(redis, item->target, item->target_length);
		for (int i = 0; i < item->nfields; i++)
		{
			const SinkField *field = &item->fields[i];

			if ((field->value == NULL) != null)
				continue;
			put_text(redis, field->name);
			if (!null)
				put(redis, field->value, field->length);
		}
		commands++;
	}
	return commands + put_expiry(redis, item);
}

static int
put_value(RedisSink *redis, const SinkItem *item, const char *value, size_t length)
{
	if (value == NULL)
	{
		put_key_command(redis, "DEL", item);
		return 1;
	}
	put_text(redis, "3");
	put_text(redis, "SET");
	put(redis, item->target, item->target_length);
	put(redis, value, length);
	return 1 + put_expiry(redis, item);
}

/* The column of the option value; one that has not changed leaves the key as it is. */
static int
put_string(RedisSink *redis, const SinkItem *item)
{
	const char *column = option(item->route, OPTION_VALUE);
	int			commands;

	for (int i = 0; i < item->nfields; i++)
		if (is(item->fields[i].name, column))
			return put_value(redis, item, item->fields[i].value, item->fields[i].length);
	commands = put_check(redis, item);
	return commands + put_expiry(redis, item);
}

/* Ids rise with the position, so Redis refuses one that was there before. */
static int
put_stream(RedisSink *redis, const SinkItem *item)
{
	const char *maxlen = option(item->route, OPTION_MAXLEN);
	unsigned long long version = sink_position_version(&item->at);

	put_own(redis, "%d", 3 + (maxlen ? 3 : 0) + (item->key ? 2 : 0) + (item->body ? 2 : 0) +
			(item->key || item->body ? 0 : 2));
	put_text(redis, "XADD");
	put(redis, item->target, item->target_length);
	if (maxlen != NULL)
	{
		put_text(redis, "MAXLEN");
		put_text(redis, "~");
		put_text(redis, maxlen);
	}
	if (item->is_replay)
		put_own(redis, "%llu-*", version);
	else
		put_own(redis, "%llu-%llu", version,
				(unsigned long long) item->at.ordinal << ID_PART_BITS | item->at.part);
	if (item->key != NULL)
	{
		put_text(redis, "key");
		put(redis, item->key, item->key_length);
	}
	if (item->body != NULL)
	{
		put_text(redis, "value");
		put(redis, item->body, item->body_length);
	}
	else if (item->key == NULL)
	{
		put_text(redis, "value");
		put_text(redis, "");
	}
	return 1;
}

static int
put_row(RedisSink *redis, const SinkItem *item)
{
	const char *type = type_of(item->route);

	if (item->op == SINK_TRUNCATE)
		return 0;
	if (item->op == SINK_APPEND)
		return put_stream(redis, item);
	if (item->op == SINK_DELETE || is(type, "evict"))
	{
		put_key_command(redis, "DEL", item);
		return 1;
	}
	if (is(type, "json"))
		return put_value(redis, item, item->body, item->body_length);
	return is(type, "string") ? put_string(redis, item) : put_hash(redis, item);
}

static void
put_item(RedisSink *redis, const SinkItem *item)
{
	int			place;
	int			commands;
	static const char *const counts[] = {"0", "1", "2", "3", "4"};

	put_position(redis, &item->at);
	place = redis->argc;
	put_text(redis, "0");
	commands = put_row(redis, item);
	if (redis->failed)
		return;
	redis->argv[place] = counts[commands];
	redis->lengths[place] = 1;
}

/* ---- the connection ---- */

static void
disconnect(RedisSink *redis)
{
	if (redis->connection)
		redisFree(redis->connection);
	redis->connection = NULL;
}

static void *
open_sink(const ModuleConfig *config, const char *name_space)
{
	RedisSink  *redis = calloc(1, sizeof(RedisSink));

	if (redis == NULL || strlen(name_space) > NAME_SPACE_MAX)
	{
		free(redis);
		return NULL;
	}
	redis->server.config = config;
	snprintf(redis->position_key, sizeof(redis->position_key), "%s" POSITION, name_space);
	return redis;
}

static bool
connect_sink(void *state, ModuleError *error)
{
	RedisSink  *redis = state;

	disconnect(redis);
	redis->connection = redis_open_connection(&redis->server, error);
	return redis->connection != NULL;
}

static bool
position(void *state, SinkPosition *at, bool *found, ModuleError *error)
{
	RedisSink  *redis = state;
	redisReply *reply = REDIS_ASK(&redis->server, redis->connection, error, "GET",
								  redis->position_key);
	bool		good;

	if (reply == NULL || redis_is_error(reply))
		return redis_succeeded(reply, error);
	*found = reply->type == REDIS_REPLY_STRING;
	good = !*found || sink_position_parse(reply->str, at);
	freeReplyObject(reply);
	return good || module_fail(error, true, "Remove the key, and the delivery begins anew.",
							   "key \"%s\" of Redis holds no position", redis->position_key);
}

static bool
clear(void *state, ModuleError *error)
{
	RedisSink  *redis = state;

	return redis_succeeded(REDIS_ASK(&redis->server, redis->connection, error, "DEL",
									 redis->position_key), error);
}

static void
close_sink(void *state)
{
	RedisSink  *redis = state;

	disconnect(redis);
#ifdef HAVE_HIREDIS_SSL
	if (redis->server.ssl)
		redisFreeSSLContext(redis->server.ssl);
#endif
	clear_words(redis);
	free(redis->argv);
	free(redis->lengths);
	free(redis->own);
	free(redis);
}

/* ---- batches ---- */

/* Redis 6 has a minus sign before what it says to a script. */
static SinkOutcome
outcome_of(const char *message)
{
	message += *message == '-';
	for (int i = 0; i < (int) lengthof(passing); i++)
		if (strncmp(message, passing[i].word, strlen(passing[i].word)) == 0)
			return passing[i].outcome;
	return SINK_REJECT;
}

static const char *
element(const redisReply *reply, size_t i)
{
	return reply->type == REDIS_REPLY_ARRAY && reply->elements > i && reply->element[i]->str ?
		reply->element[i]->str : "";
}

/* What the script, or Redis in its place, has said. */
static SinkOutcome
read_answer(const redisReply *reply, int before, SinkResult *result)
{
	const char *message = reply->type == REDIS_REPLY_ERROR ? reply->str : element(reply, 2);
	SinkOutcome outcome;

	if (is(element(reply, 0), "ok"))
		return SINK_DONE;
	if (is(element(reply, 0), "moved"))
		return SINK_MOVED;
	if (is(element(reply, 0), "lacks"))
	{
		result->ndone = result->rejected = before + (int) reply->element[1]->integer;
		result->lacks_row = true;
		(void) module_fail(&result->error, false, NULL, "Redis has nothing of the row, of which "
						   "the change tells a part");
		return SINK_REJECT;
	}
	outcome = outcome_of(message);
	if (reply->type == REDIS_REPLY_ERROR && outcome == SINK_REJECT)
		outcome = SINK_MISCONFIGURED;
	if (outcome == SINK_REJECT)
	{
		result->ndone = result->rejected = before + (int) reply->element[1]->integer;
		(void) module_fail(&result->error, false, strstr(message, "equal or smaller") ?
						   "The stream has later entries than this source: somebody else writes "
						"to it." :
						   NULL, "Redis refused: %s", message);
	}
	else if (outcome == SINK_MISCONFIGURED)
		(void) module_fail(&result->error, true, "See docs/redis.md for the commands and keys that "
						   "the user of Redis needs.", "Redis refused: %s", message);
	else
		(void) redis_fail_reply(&(redisReply) {.str = unconstify(char *, message)},
								&result->error);
	return outcome;
}

static SinkOutcome
run_script(RedisSink *redis, int before, SinkResult *result)
{
	redisReply *reply;
	SinkOutcome outcome;

	if (redis->failed ||
		redisAppendCommandArgv(redis->connection, redis->argc, redis->argv,
							   redis->lengths) != REDIS_OK)
	{
		(void) module_fail(&result->error, false, NULL, "out of memory");
		return SINK_RETRY;
	}
	reply = redis_answer(&redis->server, redis->connection, &result->error);
	if (reply == NULL)
		return SINK_RETRY;
	outcome = read_answer(reply, before, result);
	freeReplyObject(reply);
	return outcome;
}

static void
begin_script(RedisSink *redis, const SinkPosition *from, const SinkPosition *to, bool grows)
{
	clear_words(redis);
	put_text(redis, "EVAL");
	put_text(redis, script);
	put_text(redis, "1");
	put_text(redis, redis->position_key);
	put_position(redis, from);
	put_position(redis, to);
	put_text(redis, grows ? "grows" : "");
}

/* Where the target must be for the item, of this number; NULL: it must have no position. */
static const SinkPosition *
position_before(const SinkBatch *batch, int number)
{
	if (number > 0)
		return &batch->items[number - 1].at;
	return batch->was_empty ? NULL : &batch->from;
}

static bool
grows(const SinkItem *item)
{
	return item->op == SINK_APPEND ||
		(item->op == SINK_PUT && item->route->shape != SHAPE_KEY);
}

/* Of items that a script can do. */
static SinkOutcome
apply_some(RedisSink *redis, const SinkBatch *batch, int first, int end, SinkResult *result)
{
	bool		any_grows = false;
	SinkOutcome outcome;

	for (int i = first; i < end; i++)
		any_grows = any_grows || grows(&batch->items[i]);
	begin_script(redis, position_before(batch, first),
				 end == batch->n ? &batch->to : &batch->items[end - 1].at, any_grows);
	for (int i = first; i < end; i++)
		put_item(redis, &batch->items[i]);
	outcome = run_script(redis, first, result);
	clear_words(redis);
	return outcome;
}

/* A pattern may fit them: positions, and the deadlines of the timer driver. */
static bool
is_ours(const RedisSink *redis, const redisReply *key)
{
	const char *prefix = module_option(redis->server.config, "prefix");
	size_t		length = prefix ? strlen(prefix) : 0;

	if (is(key->str, redis->position_key))
		return true;
	return prefix != NULL && strncmp(key->str, prefix, length) == 0 && key->str[length] == ':';
}

/* By the script, so that nothing is removed which a successor has written. */
static SinkOutcome
remove_keys(RedisSink *redis, const redisReply *keys, const SinkPosition *from, SinkResult *result)
{
	SinkOutcome outcome;
	int			n = 0;

	for (size_t i = 0; i < keys->elements; i++)
		n += !is_ours(redis, keys->element[i]);
	if (n == 0)
		return SINK_DONE;
	begin_script(redis, from, from, false);
	put_position(redis, from);
	put_own(redis, "%d", n);
	for (size_t i = 0; i < keys->elements; i++)
	{
		if (is_ours(redis, keys->element[i]))
			continue;
		put_text(redis, "2");
		put_text(redis, "UNLINK");
		put(redis, keys->element[i]->str, keys->element[i]->len);
	}
	outcome = run_script(redis, 0, result);
	clear_words(redis);
	return outcome == SINK_REJECT ? SINK_RETRY : outcome;
}

/*
 * The keys of a sync that was emptied, by its pattern.  What comes later has not been sent, so this
 * may be done twice.
 */
static SinkOutcome
truncate_keys(RedisSink *redis, const SinkItem *item, const SinkPosition *from, SinkResult *result)
{
	char		cursor[32] = "0";
	SinkOutcome outcome;

	do
	{
		redisReply *reply = REDIS_ASK(&redis->server, redis->connection, &result->error, "SCAN",
									  cursor, "MATCH", item->target, "COUNT", SCAN_COUNT);

		if (reply == NULL)
			return SINK_RETRY;
		if (redis_is_error(reply))
		{
			outcome = read_answer(reply, 0, result);
			freeReplyObject(reply);
			return outcome;
		}
		snprintf(cursor, sizeof(cursor), "%s", element(reply, 0));
		outcome = remove_keys(redis, reply->element[1], from, result);
		freeReplyObject(reply);
	} while (outcome == SINK_DONE && !is(cursor, "0"));
	return outcome;
}

static bool
scan(void *state, SinkRoute *sink_route, const char *pattern, char *cursor, SinkMeet meet,
	 void *context, ModuleError *error)
{
	RedisSink  *redis = state;
	redisReply *reply = REDIS_ASK(&redis->server, redis->connection, error, "SCAN",
								  cursor[0] != '\0' ? cursor : "0", "MATCH", pattern,
								  "COUNT", SCAN_COUNT);
	bool		goes_on = true;

	if (reply == NULL || redis_is_error(reply))
		return redis_succeeded(reply, error);
	snprintf(cursor, SINK_CURSOR_MAX, "%s", is(element(reply, 0), "0") ? "" : element(reply, 0));
	for (size_t i = 0; i < reply->element[1]->elements && goes_on; i++)
	{
		const redisReply *key = reply->element[1]->element[i];

		if (!is_ours(redis, key))
			goes_on = meet(context, key->str, key->len, NULL, 0);
	}
	freeReplyObject(reply);
	return goes_on || module_fail(error, false, NULL, "the search for keys was ended");
}

static SinkOutcome
apply(void *state, const SinkBatch *batch, SinkResult *result)
{
	RedisSink  *redis = state;
	int			first = 0;

	if (batch->n == 0)
		return apply_some(redis, batch, 0, 0, result);
	for (int end = 1; end <= batch->n; end++)
	{
		const SinkItem *next = end < batch->n ? &batch->items[end] : NULL;
		SinkOutcome outcome;

		if (next != NULL && next->op != SINK_TRUNCATE &&
			batch->items[end - 1].op != SINK_TRUNCATE)
			continue;
		outcome = batch->items[first].op != SINK_TRUNCATE ? SINK_DONE :
			truncate_keys(redis, &batch->items[first], position_before(batch, first), result);
		if (outcome == SINK_DONE)
			outcome = apply_some(redis, batch, first, end, result);
		if (outcome != SINK_DONE)
			return outcome;
		first = end;
	}
	return SINK_DONE;
}

const Sink	redis_sink = {
	.name = "redis",
	.flags = SINK_KEEPS_POSITION,
	.options = options,
	.noptions = lengthof(options),
	.route = route,
	.open = open_sink,
	.connect = connect_sink,
	.position = position,
	.apply = apply,
	.clear = clear,
	.scan = scan,
	.close = close_sink
};

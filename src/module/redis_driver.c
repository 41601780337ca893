/*
 * redis_driver.c
 *	  The timer driver of Redis: each deadline is a key that expires.
 *
 * A deadline is the key <name space><item> with the rest of its time as PX.  Redis tells by
 * its channel of expired keys when it has removed one.  Pub/Sub keeps nothing: what is told
 * while nobody listens is lost, so the core publishes everything again after each connect().
 *
 * Redis removes an expired key when somebody asks for it; by itself it only looks at some of all
 * keys that expire, ten times a second, and may take minutes where most are far from due.  So what
 * put() has told is remembered here too, in a heap of some 60 bytes each, and asked for when it
 * is due: then Redis finds that it has expired, and tells.  A key that is still there has been set
 * anew, to a later time, or Redis' clock is behind: it is asked for again, at longer and longer
 * intervals.
 *
 * Two connections: one that subscribes can send nothing else.  Both are non-blocking, and every
 * wait asks whether to go on: whoever wants the process to leave must not wait for Redis.
 */
#include "module/redis.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>


#define ASK(redis, ...) REDIS_ASK(&(redis)->server, __VA_ARGS__)

#define PIPELINE_MAX 1000
#define SCAN_COUNT "1000"
#define READS_MAX 100			/* of one poll(): a flood of others' events must not hold us */
#define NAME_SPACE_MAX 400
#define DELAY_MS_MAX (INT64CONST(1) << 40)	/* 34 years: asked again then */
#define PROBE_MS 2000
#define PROBE_STEP_MS 50
#define HEAP_MAX 1000000
#define HEAP_MIN 1024
#define ASK_AGAIN_MS 2

/*
 * A key of ours that is no deadline: where it is gone, somebody has emptied Redis, and the
 * deadlines are gone with it.  It expires by itself if nobody comes back to remove it.
 */
#define MARK "driver"
#define MARK_MS "86400000"
#define PROBE "probe"

/* When a key is to be asked for. */
typedef struct Expiry
{
	int64		at;				/* on redis_clock_ms() */
	int64		wait;			/* ms until the next look, where it is still there */
	char	   *item;
} Expiry;

typedef struct Redis
{
	RedisServer server;
	const char *name_space;
	size_t		name_space_length;
	char		channel[48];
	redisContext *commands;
	redisContext *events;
	int64		pinged;			/* ms; 0: no answer is outstanding */
	redisReply **taken;			/* what the last poll() has handed out */
	int			ntaken;
	int			taken_max;
	bool		asks_config;	/* CONFIG may be used */
	int64		probed;			/* ms; 0: no event of the probe is outstanding */
	Expiry	   *heap;			/* the earliest first */
	int			nheap;
	int			heap_size;
	unsigned	next_leaf;		/* of those that may make room */
} Redis;

static void
disconnect(Redis *redis)
{
	for (int i = 0; i < redis->ntaken; i++)
		freeReplyObject(redis->taken[i]);
	redis->ntaken = 0;
	if (redis->commands)
		redisFree(redis->commands);
	if (redis->events)
		redisFree(redis->events);
	redis->commands = redis->events = NULL;
	redis->pinged = redis->probed = 0;
}

/* ---- does Redis tell of expired keys? ---- */

/*
 * Where CONFIG may not be used: a key that expires must be told of.  It is asked for, which
 * makes Redis look at it: in a database of many keys Redis would come to it much later.
 */
static bool
probe(Redis *redis, ModuleError *error)
{
	char		key[512];
	int64		until = redis_clock_ms() + PROBE_MS;

	snprintf(key, sizeof(key), "%s" PROBE, redis->name_space);
	if (!redis_succeeded(ASK(redis, redis->commands, error, "SET", key, "1", "PX", "1"), error))
		return false;
	while (redis_clock_ms() < until)
	{
		struct pollfd readable = {.fd = redis->events->fd,.events = POLLIN};
		void	   *reply = NULL;

		(void) poll(&readable, 1, PROBE_STEP_MS);
		if (!redis_succeeded(ASK(redis, redis->commands, error, "GET", key), error))
			return false;
		if (readable.revents == 0)
			continue;
		if (redisBufferRead(redis->events) != REDIS_OK)
			return redis_fail_connection(redis->events, error);
		while (redisGetReplyFromReader(redis->events, &reply) == REDIS_OK && reply != NULL)
		{
			redisReply *event = reply;
			bool		ours = event->type == REDIS_REPLY_ARRAY && event->elements == 3 &&
				event->element[2]->str && strcmp(event->element[2]->str, key) == 0;

			freeReplyObject(reply);
			if (ours)
				return true;
		}
	}
	return module_fail(error, true, "Put the line \"notify-keyspace-events Ex\" into redis.conf, "
					   "with the flags that are there besides, and restart Redis.",
					   "Redis does not tell of expired keys");
}

/* The flags that Redis has, in answer to CONFIG GET; NULL where it is another answer. */
static const char *
flags_of(const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
		return NULL;
	return reply->element[1]->str;
}

static bool
set_flags(Redis *redis, const char *flags, ModuleError *error)
{
	char		wanted[64];
	char		hint[256];
	redisReply *reply;

	snprintf(wanted, sizeof(wanted), "%s%s%s", flags, strchr(flags, 'E') ? "" : "E",
			 strpbrk(flags, "xA") ? "" : "x");
	if (strcmp(wanted, flags) == 0)
		return true;
	reply = ASK(redis, redis->commands, error, "CONFIG", "SET", "notify-keyspace-events", wanted);
	if (!redis_is_error(reply))
		return redis_succeeded(reply, error);
	freeReplyObject(reply);
	snprintf(hint, sizeof(hint), "Put the line \"notify-keyspace-events %s\" into redis.conf and "
			 "restart Redis, or let its user do CONFIG SET.", wanted);
	return module_fail(error, true, hint, "Redis does not tell of expired keys: "
					   "notify-keyspace-events is \"%s\" and may not be set", flags);
}

static bool
require_events(Redis *redis, ModuleError *error)
{
	redisReply *reply = ASK(redis, redis->commands, error,
							"CONFIG", "GET", "notify-keyspace-events");
	const char *flags;
	bool		done;

	if (reply == NULL)
		return false;
	flags = flags_of(reply);
	redis->asks_config = flags != NULL;
	done = flags ? set_flags(redis, flags, error) : probe(redis, error);
	freeReplyObject(reply);
	return done;
}

/* ---- what is to be asked for ---- */

static void
heap_swap(Redis *redis, int a, int b)
{
	Expiry		kept = redis->heap[a];

	redis->heap[a] = redis->heap[b];
	redis->heap[b] = kept;
}

static void
heap_rise(Redis *redis, int i)
{
	while (i > 0 && redis->heap[i].at < redis->heap[(i - 1) / 2].at)
	{
		heap_swap(redis, i, (i - 1) / 2);
		i = (i - 1) / 2;
	}
}

static void
heap_sink(Redis *redis)
{
	int			i = 0;

	for (;;)
	{
		int			least = i;

		for (int child = 2 * i + 1; child <= 2 * i + 2 && child < redis->nheap; child++)
			if (redis->heap[child].at < redis->heap[least].at)
				least = child;
		if (least == i)
			return;
		heap_swap(redis, i, least);
		i = least;
	}
}

/* A place for one that is to come sooner than some other; that one is any that is later. */
static bool
heap_make_room(Redis *redis, int64 at)
{
	int			inner = redis->nheap / 2;
	int			leaf;

	if (redis->nheap == 0)
		return false;
	leaf = inner + redis->next_leaf++ % (redis->nheap - inner);
	if (redis->heap[leaf].at <= at)
		return false;
	free(redis->heap[leaf].item);
	redis->nheap--;
	redis->heap[leaf] = redis->heap[redis->nheap];
	if (leaf < redis->nheap)
		heap_rise(redis, leaf);
	return true;
}

/* Where there is no room, or no memory, Redis comes to the key in its own time. */
static void
heap_add(Redis *redis, int64 at, int64 wait, char *item)
{
	if (redis->nheap == redis->heap_size && redis->heap_size < HEAP_MAX)
	{
		int			size = Min(Max(2 * redis->heap_size, HEAP_MIN), HEAP_MAX);
		Expiry	   *more = realloc(redis->heap, size * sizeof(Expiry));

		if (more != NULL)
		{
			redis->heap = more;
			redis->heap_size = size;
		}
	}
	if (item == NULL || (redis->nheap == redis->heap_size && !heap_make_room(redis, at)))
	{
		free(item);
		return;
	}
	redis->heap[redis->nheap] = (Expiry) {.at = at,.wait = wait,.item = item};
	heap_rise(redis, redis->nheap++);
}

/* The first; its item is the caller's. */
static Expiry
heap_take(Redis *redis)
{
	Expiry		first = redis->heap[0];

	redis->heap[0] = redis->heap[--redis->nheap];
	heap_sink(redis);
	return first;
}

static void
heap_forget(Redis *redis)
{
	for (int i = 0; i < redis->nheap; i++)
		free(redis->heap[i].item);
	redis->nheap = 0;
}

/* Deadlines that Redis has just been told of: none of its keys expires later than that. */
static void
remember(Redis *redis, const Deadline *deadlines, int n)
{
	int64		now = redis_clock_ms();

	for (int i = 0; i < n; i++)
		if (deadlines[i].delay_ms >= 0)
			heap_add(redis, now + Min(Max(deadlines[i].delay_ms, 1), DELAY_MS_MAX) + 1,
					 ASK_AGAIN_MS, strdup(deadlines[i].item));
}

/* One answer to EXISTS: a key that is still there is asked for again. */
static bool
ask_again(Redis *redis, Expiry *asked, ModuleError *error)
{
	redisReply *reply = redis_answer(&redis->server, redis->commands, error);

	if (reply != NULL && reply->type == REDIS_REPLY_INTEGER && reply->integer > 0)
	{
		heap_add(redis, redis_clock_ms() + asked->wait, 2 * asked->wait, asked->item);
		asked->item = NULL;
	}
	return redis_succeeded(reply, error);
}

/* Asks for keys whose time is up. */
static bool
ask_for_due(Redis *redis, ModuleError *error)
{
	Expiry		asked[PIPELINE_MAX];
	int64		now = redis_clock_ms();
	bool		good = true;
	int			n = 0;

	while (n < PIPELINE_MAX && redis->nheap > 0 && redis->heap[0].at <= now)
		asked[n++] = heap_take(redis);
	for (int i = 0; i < n && good; i++)
		good = redisAppendCommand(redis->commands, "EXISTS %s%s", redis->name_space,
								  asked[i].item) == REDIS_OK ||
			module_fail(error, false, NULL, "out of memory");
	for (int i = 0; i < n && good; i++)
		good = ask_again(redis, &asked[i], error);
	for (int i = 0; i < n; i++)
		free(asked[i].item);
	return good;
}

static int64
redis_next(void *state)
{
	Redis	   *redis = state;

	return redis->nheap > 0 ? Max(redis->heap[0].at - redis_clock_ms(), 0) : -1;
}

/* ---- the driver ---- */

static void *
redis_open(const ModuleConfig *config, const char *name_space)
{
	Redis	   *redis = calloc(1, sizeof(Redis));

	if (redis == NULL)
		return NULL;
	redis->server.config = config;
	redis->name_space = name_space;
	redis->name_space_length = strlen(name_space);
	snprintf(redis->channel, sizeof(redis->channel), "__keyevent@%d__:expired",
			 module_option_int(config, "database"));
	return redis;
}

static bool
mark(Redis *redis, ModuleError *error)
{
	char		key[512];

	snprintf(key, sizeof(key), "%s" MARK, redis->name_space);
	return redis_succeeded(ASK(redis, redis->commands, error, "SET", key, "1", "PX", MARK_MS),
						   error);
}

static bool
redis_connect(void *state, ModuleError *error)
{
	Redis	   *redis = state;

	disconnect(redis);
	heap_forget(redis);
	if (redis->name_space_length > NAME_SPACE_MAX)
		return module_fail(error, true, "Set a shorter one.", "the option \"prefix\" is too long");
	redis->commands = redis_open_connection(&redis->server, error);
	if (redis->commands != NULL)
		redis->events = redis_open_connection(&redis->server, error);
	if (redis->events != NULL &&
		redis_succeeded(ASK(redis, redis->events, error, "SUBSCRIBE", redis->channel), error) &&
		require_events(redis, error) &&
		mark(redis, error))
		return true;
	disconnect(redis);
	return false;
}

static bool
require_connection(Redis *redis, ModuleError *error)
{
	return redis->commands != NULL ||
		module_fail(error, false, NULL, "there is no connection to Redis");
}

static bool
append(Redis *redis, const Deadline *deadline)
{
	int64		ms = deadline->delay_ms;

	if (ms < 0)
		return redisAppendCommand(redis->commands, "DEL %s%s", redis->name_space,
								  deadline->item) == REDIS_OK;
	ms = Min(Max(ms, 1), DELAY_MS_MAX);
	return redisAppendCommand(redis->commands, "SET %s%s 1 PX %lld", redis->name_space,
							  deadline->item, (long long) ms) == REDIS_OK;
}

/* Reads every answer, so that the next command gets its own; tells of the first refusal. */
static bool
read_answers(Redis *redis, int n, ModuleError *error)
{
	bool		good = true;

	for (int i = 0; i < n; i++)
	{
		redisReply *reply = redis_answer(&redis->server, redis->commands, error);

		if (reply == NULL)
			return false;
		if (redis_is_error(reply) && good)
			good = redis_fail_reply(reply, error);
		freeReplyObject(reply);
	}
	return good;
}

static bool
redis_put(void *state, const Deadline *deadlines, int n, ModuleError *error)
{
	Redis	   *redis = state;

	if (!require_connection(redis, error))
		return false;
	for (int done = 0; done < n;)
	{
		int			chunk = Min(n - done, PIPELINE_MAX);

		for (int i = 0; i < chunk; i++)
			if (!append(redis, &deadlines[done + i]))
				return module_fail(error, false, NULL, "out of memory");
		if (!read_answers(redis, chunk, error))
			return false;
		remember(redis, &deadlines[done], chunk);
		done += chunk;
	}
	return true;
}

/* The item of an event; NULL: it is of somebody else, or no event at all. */
static const char *
item_of(Redis *redis, const redisReply *reply)
{
	const redisReply *key;
	const char *item;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 1 || !reply->element[0]->str)
		return NULL;
	if (strcmp(reply->element[0]->str, "pong") == 0)
		redis->pinged = 0;
	if (reply->elements != 3 || strcmp(reply->element[0]->str, "message") != 0)
		return NULL;
	key = reply->element[2];
	if (key->str == NULL || strlen(key->str) != key->len ||
		strncmp(key->str, redis->name_space, redis->name_space_length) != 0)
		return NULL;
	item = key->str + redis->name_space_length;
	if (strcmp(item, PROBE) == 0)
		redis->probed = 0;
	return strcmp(item, MARK) == 0 || strcmp(item, PROBE) == 0 ? NULL : item;
}

static bool
forget_taken(Redis *redis, int max)
{
	redisReply **more;

	for (int i = 0; i < redis->ntaken; i++)
		freeReplyObject(redis->taken[i]);
	redis->ntaken = 0;
	if (redis->taken_max >= max)
		return true;
	more = realloc(redis->taken, max * sizeof(redisReply *));
	if (more == NULL)
		return false;
	redis->taken = more;
	redis->taken_max = max;
	return true;
}

/* Reads what is there: 1 something, 0 nothing, -1 the connection is lost. */
static int
read_input(Redis *redis, ModuleError *error)
{
	struct pollfd readable = {.fd = redis->events->fd,.events = POLLIN};

	if (poll(&readable, 1, 0) <= 0)
		return 0;
	if (redisBufferRead(redis->events) == REDIS_OK)
		return 1;
	(void) redis_fail_connection(redis->events, error);
	return -1;
}

static int
redis_poll(void *state, const char **items, int max, ModuleError *error)
{
	Redis	   *redis = state;
	int			input = 1;
	int			reads = 0;

	if (!require_connection(redis, error))
		return -1;
	if (!forget_taken(redis, max))
	{
		(void) module_fail(error, false, NULL, "out of memory");
		return -1;
	}
	if (!ask_for_due(redis, error))
		return -1;
	while (redis->ntaken < max && input > 0)
	{
		void	   *reply = NULL;

		if (redisGetReplyFromReader(redis->events, &reply) != REDIS_OK)
		{
			(void) redis_fail_connection(redis->events, error);
			return -1;
		}
		if (reply == NULL)
			input = reads++ < READS_MAX ? read_input(redis, error) : 0;
		else if ((items[redis->ntaken] = item_of(redis, reply)) != NULL)
			redis->taken[redis->ntaken++] = reply;
		else
			freeReplyObject(reply);
	}
	return input < 0 ? -1 : redis->ntaken;
}

/* Redis keeps no events: there is nothing to acknowledge. */
static bool
redis_done(void *state, ModuleError *error)
{
	return true;
}

static int
redis_socket(void *state)
{
	Redis	   *redis = state;

	return redis->events ? redis->events->fd : -1;
}

/* A subscription of which nothing is heard may be one that is cut off: its pong tells. */
static bool
ping_events(Redis *redis, ModuleError *error)
{
	if (redis->pinged != 0)
		return redis_clock_ms() - redis->pinged < redis_timeout_ms(&redis->server) ||
			module_fail(error, false, NULL, "the subscription of Redis does not answer");
	if (redisAppendCommand(redis->events, "PING") != REDIS_OK)
		return module_fail(error, false, NULL, "out of memory");
	if (!redis_flush(&redis->server, redis->events,
					 redis_clock_ms() + redis_timeout_ms(&redis->server), error))
		return false;
	redis->pinged = redis_clock_ms();
	return true;
}

/* Somebody may have taken the flags away: they are looked at, or a key shows it. */
static bool
check_events(Redis *redis, ModuleError *error)
{
	char		key[512];

	if (redis->asks_config)
		return require_events(redis, error);
	if (redis->probed != 0)
		return redis_clock_ms() - redis->probed < redis_timeout_ms(&redis->server) ||
			module_fail(error, true, "Put the line \"notify-keyspace-events Ex\" into redis.conf, "
						"with the flags that are there besides, and restart Redis.",
						"Redis does not tell of expired keys");
	snprintf(key, sizeof(key), "%s" PROBE, redis->name_space);
	if (!redis_succeeded(ASK(redis, redis->commands, error, "SET", key, "1", "PX", "1"), error))
		return false;
	redis->probed = redis_clock_ms();
	heap_add(redis, redis->probed + ASK_AGAIN_MS, ASK_AGAIN_MS, strdup(PROBE));
	return true;
}

static bool
redis_idle(void *state, ModuleError *error)
{
	Redis	   *redis = state;
	char		key[512];
	redisReply *reply;
	bool		gone;

	if (!require_connection(redis, error))
		return false;
	snprintf(key, sizeof(key), "%s" MARK, redis->name_space);
	reply = ASK(redis, redis->commands, error, "SET", key, "1", "XX", "PX", MARK_MS);
	gone = reply != NULL && reply->type == REDIS_REPLY_NIL;
	if (!redis_succeeded(reply, error))
		return false;
	if (gone)
		return module_fail(error, false, "All deadlines are published again. If nobody has "
						   "flushed Redis, see maxmemory-policy in redis.conf.",
						   "the keys of ordflow are gone from Redis");
	return check_events(redis, error) && ping_events(redis, error);
}

/* ---- nothing is left behind ---- */

/* The name space as a pattern that matches it alone. */
static void
write_pattern(Redis *redis, char pattern[2 * NAME_SPACE_MAX + 2])
{
	size_t		length = 0;

	for (const char *c = redis->name_space; *c; c++)
	{
		if (strchr("*?[]^-\\", *c))
			pattern[length++] = '\\';
		pattern[length++] = *c;
	}
	strcpy(pattern + length, "*");
}

static bool
delete_keys(Redis *redis, const redisReply *keys, ModuleError *error)
{
	for (size_t i = 0; i < keys->elements; i++)
		if (redisAppendCommand(redis->commands, "DEL %b", keys->element[i]->str,
							   (size_t) keys->element[i]->len) != REDIS_OK)
			return module_fail(error, false, NULL, "out of memory");
	return read_answers(redis, (int) keys->elements, error);
}

/* What we know of: in a Redis of many other keys SCAN takes long. */
static bool
delete_remembered(Redis *redis, int64 until, ModuleError *error)
{
	while (redis->nheap > 0 && redis_clock_ms() < until)
	{
		int			n = 0;

		while (n < PIPELINE_MAX && redis->nheap > 0)
		{
			Expiry		known = heap_take(redis);
			int			status = redisAppendCommand(redis->commands, "DEL %s%s",
													redis->name_space, known.item);

			free(known.item);
			if (status != REDIS_OK)
				return module_fail(error, false, NULL, "out of memory");
			n++;
		}
		if (!read_answers(redis, n, error))
			return false;
	}
	return true;
}

/* One step of SCAN: moves the cursor, and deletes what it has found. */
static bool
clear_some(Redis *redis, const char *pattern, char *cursor, size_t size, ModuleError *error)
{
	redisReply *reply = ASK(redis, redis->commands, error,
							"SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT);
	bool		good = false;

	if (reply == NULL)
		return false;
	if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && reply->element[0]->str)
	{
		strlcpy(cursor, reply->element[0]->str, size);
		good = delete_keys(redis, reply->element[1], error);
	}
	else if (redis_is_error(reply))
		(void) redis_fail_reply(reply, error);
	else
		(void) module_fail(error, false, NULL, "Redis answers SCAN in an unknown way");
	freeReplyObject(reply);
	return good;
}

static bool
redis_clear(void *state, ModuleError *error)
{
	Redis	   *redis = state;
	int64		until = redis_clock_ms() + redis_timeout_ms(&redis->server);
	char		pattern[2 * NAME_SPACE_MAX + 2];
	char		cursor[32] = "0";

	if (redis->name_space_length > NAME_SPACE_MAX)
		return true;
	write_pattern(redis, pattern);
	if (redis->commands == NULL &&
		(redis->commands = redis_open_connection(&redis->server, error)) == NULL)
		return false;
	if (!delete_remembered(redis, until, error))
		return false;
	do
	{
		if (redis_clock_ms() > until)
			return module_fail(error, false, "They expire by themselves.",
							   "not all keys were removed from Redis in time");
		if (!clear_some(redis, pattern, cursor, sizeof(cursor), error))
			return false;
	} while (strcmp(cursor, "0") != 0);
	return true;
}

static void
redis_close(void *state)
{
	Redis	   *redis = state;

	disconnect(redis);
	heap_forget(redis);
	free(redis->heap);
#ifdef HAVE_HIREDIS_SSL
	if (redis->server.ssl)
		redisFreeSSLContext(redis->server.ssl);
#endif
	free(redis->taken);
	free(redis);
}

const TimerDriver redis_driver = {
	.name = "redis",
	.open = redis_open,
	.connect = redis_connect,
	.put = redis_put,
	.poll = redis_poll,
	.done = redis_done,
	.socket = redis_socket,
	.next = redis_next,
	.idle = redis_idle,
	.clear = redis_clear,
	.close = redis_close
};


/*
 * redis.c
 *	  The module of Redis: its timer driver, its sink, and the connections of both.
 *
 * Connections are non-blocking, and every wait asks whether to go on: whoever wants the process to
 * leave must not wait for Redis.
 */
#include "module/redis.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#define WAIT_STEP_MS 100

/* What Redis answers by its first word, and what can be done about it. */
static const struct
{
	const char *word;
	bool		misconfigured;
	const char *hint;
}			answers[] = {
	{"NOAUTH", true, "Redis asks for a password: set it by CREATE USER MAPPING."},
	{"NOPERM", true, "Give the user of Redis the commands and keys that docs/redis.md (syncs) and "
	"docs/timeouts.md (timers) name."},
	{"DENIED", true, "Redis answers its own machine only: see protected-mode in redis.conf."},
	{"MOVED", true, "Redis Cluster is not supported: name a single server."},
	{"READONLY", false, "This is a replica: name the primary as the host of the server."},
	{"OOM", false, "Redis has no memory left: see maxmemory in redis.conf."},
	{"MISCONF", false, "Redis cannot save its data: see its log."}
};

int64
redis_clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int
redis_timeout_ms(RedisServer *redis)
{
	int			seconds = module_option_int(redis->config, "timeout");

	return (seconds > 0 ? seconds : 1) * 1000;
}

/* ---- answers ---- */

bool
redis_fail_connection(const redisContext *connection, ModuleError *error)
{
	return module_fail(error, false, NULL, "connection to Redis lost: %s",
					   connection->errstr[0] ? connection->errstr : "unknown reason");
}

/* Waits for the socket, in steps; false: time is up, or we are to leave. */
bool
redis_wait(RedisServer *redis, const redisContext *connection, short events, int64 until,
		 ModuleError *error)
{
	for (;;)
	{
		struct pollfd ready = {.fd = connection->fd,.events = events};
		int64		left = until - redis_clock_ms();

		if (redis->config->cancelled && redis->config->cancelled())
			return module_fail(error, false, NULL, "given up waiting for Redis");
		if (left <= 0)
			return module_fail(error, false, NULL, "no answer of Redis within %d s",
							   redis_timeout_ms(redis) / 1000);
		if (poll(&ready, 1, (int) Min(left, WAIT_STEP_MS)) > 0)
			return true;
	}
}

/* Sends what has been appended; as long as something of it goes, there is time. */
bool
redis_flush(RedisServer *redis, redisContext *connection, int64 until, ModuleError *error)
{
	int			sent = 0;

	for (;;)
	{
		if (redisBufferWrite(connection, &sent) != REDIS_OK)
			return redis_fail_connection(connection, error);
		if (sent)
			return true;
		if (!redis_wait(redis, connection, POLLOUT, until, error))
			return false;
		until = Max(until, redis_clock_ms() + redis_timeout_ms(redis));
	}
}

/* Redis quotes the arguments of a command that it does not know: nothing here has secrets. */
bool
redis_fail_reply(const redisReply *reply, ModuleError *error)
{
	for (int i = 0; i < (int) lengthof(answers); i++)
	{
		size_t		length = strlen(answers[i].word);

		if (strncmp(reply->str, answers[i].word, length) == 0 && reply->str[length] == ' ')
			return module_fail(error, answers[i].misconfigured, answers[i].hint,
							   "Redis refused: %s", reply->str);
	}
	return module_fail(error, false, NULL, "Redis refused: %s", reply->str);
}

/* The next answer on a connection, an error as any other; NULL: there is none in time. */
redisReply *
redis_answer(RedisServer *redis, redisContext *connection, ModuleError *error)
{
	int64		until = redis_clock_ms() + redis_timeout_ms(redis);
	void	   *reply = NULL;

	if (!redis_flush(redis, connection, until, error))
		return NULL;
	until = redis_clock_ms() + redis_timeout_ms(redis);
	for (;;)
	{
		if (redisGetReplyFromReader(connection, &reply) != REDIS_OK)
			break;
		if (reply != NULL)
			return reply;
		if (!redis_wait(redis, connection, POLLIN, until, error))
			return NULL;
		if (redisBufferRead(connection) != REDIS_OK)
			break;
	}
	(void) redis_fail_connection(connection, error);
	return NULL;
}

redisReply *
redis_ask(RedisServer *redis, redisContext *connection, ModuleError *error, int argc,
		  const char **argv)
{
	if (redisAppendCommandArgv(connection, argc, argv, NULL) != REDIS_OK)
	{
		(void) module_fail(error, false, NULL, "out of memory");
		return NULL;
	}
	return redis_answer(redis, connection, error);
}


/* Frees the reply; whether it was a good one. */
bool
redis_succeeded(redisReply *reply, ModuleError *error)
{
	bool		good = reply != NULL && reply->type != REDIS_REPLY_ERROR;

	if (reply != NULL && !good)
		(void) redis_fail_reply(reply, error);
	if (reply != NULL)
		freeReplyObject(reply);
	return good;
}

bool
redis_is_error(const redisReply *reply)
{
	return reply != NULL && reply->type == REDIS_REPLY_ERROR;
}

/* ---- connections ---- */

#ifdef HAVE_HIREDIS_SSL
static bool
encrypt(RedisServer *redis, redisContext *connection, ModuleError *error)
{
	const char *authority = module_option(redis->config, "tls_ca");
	redisSSLContextError problem = REDIS_SSL_CTX_NONE;

	if (authority == NULL)
		return module_fail(error, true, "Set it to the file of the authority that has signed "
						   "the certificate of Redis.", "option \"tls\" needs \"tls_ca\"");
	if (redis->ssl == NULL)
	{
		redisInitOpenSSL();
		redis->ssl = redisCreateSSLContext(authority, NULL, NULL, NULL,
										   module_option(redis->config, "host"), &problem);
	}
	if (redis->ssl == NULL)
		return module_fail(error, true, "Check the option tls_ca.", "no TLS: %s",
						   redisSSLContextGetError(problem));
	if (redisInitiateSSLWithContext(connection, redis->ssl) != REDIS_OK)
		return module_fail(error, true, NULL, "no TLS with Redis: %s", connection->errstr);
	return true;
}
#else
static bool
encrypt(RedisServer *redis, redisContext *connection, ModuleError *error)
{
	return module_fail(error, true, "Install hiredis 1.0 or later with hiredis_ssl and build "
					   "ordflow again, or let stunnel encrypt.",
					   "the hiredis that ordflow_redis was built with has no TLS");
}
#endif

/* Whatever Redis says to AUTH is not repeated: a server without AUTH quotes the password. */
static bool
authenticate(RedisServer *redis, redisContext *connection, ModuleError *error)
{
	const char *username = module_option(redis->config, "username");
	const char *password = module_option(redis->config, "password");
	redisReply *reply;
	char		word[32];
	bool		full;

	if (password == NULL && username == NULL)
		return true;
	if (password == NULL)
		password = "";
	reply = username ? REDIS_ASK(redis, connection, error, "AUTH", username, password)
		: REDIS_ASK(redis, connection, error, "AUTH", password);
	if (!redis_is_error(reply))
		return redis_succeeded(reply, error);
	full = strstr(reply->str, "max number of clients") != NULL;
	snprintf(word, sizeof(word), "%.*s", (int) strcspn(reply->str, " "), reply->str);
	freeReplyObject(reply);
	/* these pass */
	if (full)
		return module_fail(error, false, "See maxclients in redis.conf.",
						   "Redis takes no more clients");
	if (strcmp(word, "LOADING") == 0 || strcmp(word, "MASTERDOWN") == 0)
		return module_fail(error, false, NULL, "Redis is not ready (%s)", word);
	return module_fail(error, true, "Check username and password of the user mapping.",
					   "Redis refused the password (%s)", word);
}

/* Connected, or it fails. */
static bool
finish_connect(RedisServer *redis, redisContext *connection, ModuleError *error)
{
	int64		until = redis_clock_ms() + redis_timeout_ms(redis);
	int			problem = 0;
	socklen_t	length = sizeof(problem);

	if (connection->err == 0 && !redis_wait(redis, connection, POLLOUT, until, error))
		return false;
	if (connection->err == 0)
		(void) getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &problem, &length);
	if (connection->err == 0 && problem == 0)
		return true;
	return module_fail(error, false, NULL, "no connection to Redis at %s port %d: %s",
					   module_option(redis->config, "host"),
					   module_option_int(redis->config, "port"),
					   problem != 0 ? strerror(problem) : connection->errstr);
}

/* A connection that may be used; NULL with the error. */
redisContext *
redis_open_connection(RedisServer *redis, ModuleError *error)
{
	const char *database = module_option(redis->config, "database");
	redisContext *connection = redisConnectNonBlock(module_option(redis->config, "host"),
													module_option_int(redis->config, "port"));

	if (connection == NULL)
	{
		(void) module_fail(error, false, NULL, "out of memory");
		return NULL;
	}
	if (finish_connect(redis, connection, error) &&
		fcntl(connection->fd, F_SETFD, FD_CLOEXEC) == 0 &&
		(!module_option_bool(redis->config, "tls") || encrypt(redis, connection, error)) &&
		authenticate(redis, connection, error) &&
		redis_succeeded(REDIS_ASK(redis, connection, error, "SELECT", database), error))
		return connection;
	redisFree(connection);
	return NULL;
}

ORDFLOW_MODULE("redis", &redis_driver, &redis_sink);

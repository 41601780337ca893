/*
 * redis.h
 *	  What the files of the module of Redis share.
 */
#ifndef ORDFLOW_REDIS_H
#define ORDFLOW_REDIS_H

#include "sync/sink.h"
#include "timer/driver.h"

#include <hiredis/hiredis.h>
#ifdef HAVE_HIREDIS_SSL
#include <hiredis/hiredis_ssl.h>
#endif

extern const TimerDriver redis_driver;
extern const Sink redis_sink;

/* A server, as its connections need it. */
typedef struct RedisServer
{
	const ModuleConfig *config;
#ifdef HAVE_HIREDIS_SSL
	redisSSLContext *ssl;
#endif
} RedisServer;

extern int64 redis_clock_ms(void);
extern int	redis_timeout_ms(RedisServer *redis);

/* A connection that may be used; NULL with the error. */
extern redisContext *redis_open_connection(RedisServer *redis, ModuleError *error);

/* Fill in the error; false. */
extern bool redis_fail_connection(const redisContext *connection, ModuleError *error);
extern bool redis_fail_reply(const redisReply *reply, ModuleError *error);

/* Waits for the socket until that time; false: it is over, or we are to leave. */
extern bool redis_wait(RedisServer *redis, const redisContext *connection, short events,
					   int64 until, ModuleError *error);

/* Sends what has been appended. */
extern bool redis_flush(RedisServer *redis, redisContext *connection, int64 until,
						ModuleError *error);

/*
 * Sends what has been appended, and gives the next answer, an error as any other; NULL: none in
 * time.
 */
extern redisReply *redis_answer(RedisServer *redis, redisContext *connection, ModuleError *error);
extern redisReply *redis_ask(RedisServer *redis, redisContext *connection, ModuleError *error,
							 int argc, const char **argv);

#define REDIS_ASK(redis, connection, error, ...) \
	redis_ask(redis, connection, error, (int) lengthof(((const char *[]) {__VA_ARGS__})), \
		(const char *[]) {__VA_ARGS__})

/* Frees the reply; whether it was a good one. */
extern bool redis_succeeded(redisReply *reply, ModuleError *error);
extern bool redis_is_error(const redisReply *reply);

#endif							/* ORDFLOW_REDIS_H */

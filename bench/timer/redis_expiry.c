/*
 * redis_expiry.c
 *	  How late the expired events of Redis are: redis_expiry PORT KEYS SPAN_MS.
 *
 * Keys are set with deadlines spread over SPAN_MS, the first 3 s from now; a subscriber compares
 * each event's arrival with its key's deadline.
 */
#include <hiredis/hiredis.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LEAD_MS 3000.0
#define PIPELINE 1000
#define PATIENCE_S 60			/* without any event: Redis lost one */

static double
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static int
compare(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

static redisContext *
open_connection(int port)
{
	struct timeval patience = {.tv_sec = PATIENCE_S};
	redisContext *connection = redisConnect("127.0.0.1", port);

	if (connection == NULL || connection->err || redisSetTimeout(connection, patience) != REDIS_OK)
	{
		fprintf(stderr, "no Redis server at port %d\n", port);
		exit(1);
	}
	return connection;
}

static redisReply *
next_reply(redisContext *connection)
{
	void	   *reply;

	if (redisGetReply(connection, &reply) != REDIS_OK)
	{
		fprintf(stderr, "Redis: %s\n", connection->errstr);
		exit(1);
	}
	return reply;
}

static void
command(redisContext *connection, const char *text)
{
	redisAppendCommand(connection, text);
	freeReplyObject(next_reply(connection));
}

static void
set_keys(redisContext *writer, double *due, int nkeys, double span)
{
	double		first = clock_ms() + LEAD_MS;
	int			unanswered = 0;

	for (int i = 0; i < nkeys; i++)
	{
		double		now = clock_ms();
		long long	ttl = first + span * i / nkeys - now;

		ttl = ttl > 0 ? ttl : 1;
		due[i] = now + ttl;
		redisAppendCommand(writer, "SET due:%d 1 PX %lld", i, ttl);
		if (++unanswered == PIPELINE || i == nkeys - 1)
			for (; unanswered > 0; unanswered--)
				freeReplyObject(next_reply(writer));
	}
}

int
main(int argc, char **argv)
{
	int			port = argc == 4 ? atoi(argv[1]) : 0;
	int			nkeys = argc == 4 ? atoi(argv[2]) : 0;
	double	   *due = calloc(nkeys + 1, sizeof(double));
	double	   *late = calloc(nkeys + 1, sizeof(double));
	redisContext *writer;
	redisContext *listener;

	if (nkeys < 1 || due == NULL || late == NULL)
	{
		fprintf(stderr, "usage: redis_expiry PORT KEYS SPAN_MS\n");
		return 1;
	}
	writer = open_connection(port);
	listener = open_connection(port);
	command(writer, "CONFIG SET notify-keyspace-events Ex");
	command(listener, "SUBSCRIBE __keyevent@0__:expired");
	set_keys(writer, due, nkeys, atof(argv[3]));
	for (int i = 0; i < nkeys; i++)
	{
		redisReply *event = next_reply(listener);
		int			key = atoi(event->element[2]->str + sizeof("due:") - 1);

		late[i] = clock_ms() - due[key];
		freeReplyObject(event);
	}
	qsort(late, nkeys, sizeof(double), compare);
	printf("keys %d late_ms p50 %.1f p90 %.1f p99 %.1f max %.1f\n", nkeys, late[nkeys / 2],
		   late[nkeys * 9 / 10], late[nkeys * 99 / 100], late[nkeys - 1]);
	return 0;
}

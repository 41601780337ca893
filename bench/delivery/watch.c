/*
 * watch.c
 *	  watch PORT SECONDS KEY ...: reads the keys of a Redis on 127.0.0.1 by one MGET every 0.2 ms,
 *	  and prints a line "n value time" whenever the n-th (from 0) shows another number.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVERY	0.0002
#define KEYS_MAX 64

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void
rest_until(double at)
{
	double		left = at - now();
	struct timespec t = {0, (long) (left * 1e9)};

	if (left > 0)
		nanosleep(&t, NULL);
}

static int
fail(const char *what)
{
	perror(what);
	return 1;
}

static int
dial(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,.sin_port = htons(port)};
	int			one = 1;
	int			file = socket(AF_INET, SOCK_STREAM, 0);

	inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
	setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return connect(file, (struct sockaddr *) &address, sizeof(address)) == 0 ? file : -1;
}

static int
make_request(char *request, size_t size, int n, char **keys)
{
	int			length = snprintf(request, size, "*%d\r\n$4\r\nMGET\r\n", n + 1);

	for (int i = 0; i < n; i++)
		length += snprintf(request + length, size - length, "$%zu\r\n%s\r\n", strlen(keys[i]),
						   keys[i]);
	return length;
}

/*
 * Numbers of "*2\r\n$1\r\n7\r\n$-1\r\n"; -1: none.  False: there is more of the answer to come.
 */
static int
read_answer(char *answer, int n, long *values)
{
	char	   *at = strstr(answer, "\r\n");

	for (int i = 0; i < n; i++)
	{
		char	   *end;

		if (at == NULL || (end = strstr(at + 2, "\r\n")) == NULL)
			return 0;
		values[i] = -1;
		at = end;
		if (strncmp(end - 3, "$-1", 3) == 0)
			continue;
		if ((end = strstr(at + 2, "\r\n")) == NULL)
			return 0;
		values[i] = atol(at + 2);
		at = end;
	}
	return 1;
}

int
main(int argc, char **argv)
{
	int			n = argc - 3;
	long		seen[KEYS_MAX];
	long		values[KEYS_MAX];
	char		request[8192];
	char		answer[8192];
	int			length;
	int			file;
	double		end;

	if (n < 1 || n > KEYS_MAX)
		return 2;
	file = dial(atoi(argv[1]));
	if (file < 0)
		return fail("connect");
	length = make_request(request, sizeof(request), n, argv + 3);
	memset(seen, -1, sizeof(seen));
	end = now() + atof(argv[2]);
	for (double next = now(); next < end; next += EVERY)
	{
		size_t		filled = 0;
		double		at;

		rest_until(next);
		if (write(file, request, length) != length)
			return fail("write");
		do
		{
			ssize_t		got = read(file, answer + filled, sizeof(answer) - 1 - filled);

			if (got <= 0)
				return fail("read");
			filled += got;
			answer[filled] = '\0';
		} while (!read_answer(answer, n, values));
		at = now();
		for (int i = 0; i < n; i++)
		{
			if (values[i] == seen[i])
				continue;
			seen[i] = values[i];
			printf("%d %ld %.6f\n", i, values[i], at);
		}
		if (at > next + EVERY)
			next = at - EVERY;
	}
	return 0;
}

/*
 * amqp.c
 *	  The timer driver of AMQP brokers (RabbitMQ): each deadline is a message that waits.
 *
 * A queue whose messages live for a fixed time is exact, one with times of their own is not:
 * only its head expires.  So delays go into at most 64 queues <name space>delay.<ms>, each into
 * that with the longest time that is not longer than what is left.  What has waited goes by the
 * default exchange into the queue <name space>fire, where we read it.  A message carries its
 * deadline: if that is still to come, it goes into the next queue, down to the millisecond.
 *
 * All queues expire by themselves when nobody uses them any more.
 *
 * Messages are not kept on disk: a broker that starts again has cut our connection, and after
 * that the core publishes everything again.  At 500 a second that makes a deadline 6 ms late
 * (median) instead of 110: a broker confirms what it has to write no sooner than written.
 *
 * Two connections: a broker that is short of memory stops those that publish, and what has
 * come due must be acknowledged all the same.
 *
 * Every wait but that of the login goes by steps, which ask whether to go on: whoever wants the
 * process to leave must not wait for the broker.  So frames are read one by one.
 */
#include "timer/driver.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <time.h>

/* from version 0.12 on the headers have a directory of their own */
#ifdef __has_include
#if __has_include(<rabbitmq-c/amqp.h>)
#define HAVE_RABBITMQ_C_DIRECTORY
#endif
#endif
#ifdef HAVE_RABBITMQ_C_DIRECTORY
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

#define BUCKETS 64
#define EXACT_BUCKETS 16		/* of 1, 2, 3 ... ms; then each 1.456 times the last, to 12 days */
#define BUCKET_GROWTH_PERMILLE 456
#define CHUNK_MAX 200			/* messages for whose confirmation put() waits together */
#define PREFETCH 500
#define FRAME_MAX 131072
#define HEARTBEAT_MIN 20		/* s: idle() comes every 10 s */
#define WAIT_STEP_MS 100
#define BODY_MAX (16 * 1024 * 1024)
#define EARLY_MS 1000			/* clocks differ; beyond that a message has been sent back early */
#define EARLY_MAX 100
#define FIRE_EXPIRES_MS INT64CONST(604800000)
#define SLACK_MS INT64CONST(60000)	/* how long a queue outlives the use that we make of it */
#define NAME_MAX_LENGTH 255
#define CHANNEL 1
#define TRANSIENT 1

typedef struct Bucket
{
	int64		ms;
	int64		declared;		/* on clock_ms(); 0: not by this connection */
} Bucket;

/* The message that is being read, which comes in several frames. */
typedef struct Incoming
{
	bool		begun;
	int64		since;			/* on clock_ms() */
	uint64		tag;
	char	   *body;			/* NULL: its header has not come */
	size_t		size;
	size_t		got;
} Incoming;

typedef struct Amqp
{
	const ModuleConfig *config;
	const char *name_space;
	amqp_connection_state_t publisher;
	amqp_connection_state_t consumer;
	Bucket		buckets[BUCKETS];
	uint64		published;		/* messages on this connection: the last one's number */
	uint64		taken_tag;		/* of the last message that poll() has handed out; 0: none */
	char	  **taken;			/* what the last poll() has handed out */
	int			ntaken;
	int			taken_max;
	Incoming	incoming;
	int			nearly;			/* messages that came back before their queue's time was up */
} Amqp;

/* A message that has waited and is not due yet. */
typedef struct Hop
{
	uint64		tag;
	int64		due;
	char	   *item;
} Hop;

/* What to publish; many at once. */
typedef struct Message
{
	int64		due;			/* ms of the epoch */
	const char *item;
} Message;

/* What a broker refuses with, and what can be done about it. */
static const struct
{
	int			code;
	bool		misconfigured;
	const char *hint;
}			refusals[] = {
	{AMQP_ACCESS_REFUSED, true, "Check the user mapping, and give the user its permissions: "
	"rabbitmqctl set_permissions -p vhost user \"^ordflow:.*\" \"^(ordflow:.*|amq\\.default)$\" "
	"\"^ordflow:.*\"."},
	{AMQP_NOT_ALLOWED, true, "Check the option vhost, and that the user may use that vhost."},
	{AMQP_PRECONDITION_FAILED, true, "Somebody else has a queue of this name, or a policy or a "
	"limit of the vhost forbids ours: delete the queue, or set another prefix for the server."},
	{AMQP_RESOURCE_LOCKED, true, "Another driver, or a copy of this database, uses the same names "
	"at this broker: set another prefix for the server."},
	{AMQP_NO_ROUTE, false, "Somebody has deleted a queue of ordflow; it is declared again."}
};

static int64
read_clock(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* For spans. */
static int64
clock_ms(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

/* For deadlines. */
static int64
epoch_ms(void)
{
	return read_clock(CLOCK_REALTIME);
}

static struct timeval
timeout(Amqp *amqp)
{
	struct timeval timeout = {.tv_sec = Max(module_option_int(amqp->config, "timeout"), 1)};

	return timeout;
}

/* ---- answers ---- */

static bool
fail_by_status(int status, ModuleError *error)
{
	if (status == AMQP_STATUS_TIMEOUT)
		return module_fail(error, false, "A broker that is short of memory or disk takes nothing: "
						   "see its log.", "no answer of the broker in time");
	return module_fail(error, false, NULL, "connection to the broker lost: %s",
					   amqp_error_string2(status));
}

static bool
fail_by_refusal(int code, amqp_bytes_t text, ModuleError *error)
{
	const char *hint = NULL;
	bool		misconfigured = false;

	for (int i = 0; i < (int) lengthof(refusals); i++)
		if (refusals[i].code == code)
		{
			misconfigured = refusals[i].misconfigured;
			hint = refusals[i].hint;
		}
	return module_fail(error, misconfigured, hint, "the broker refused (%d): %.*s", code,
					   (int) text.len, text.len ? (char *) text.bytes : "");
}

/* A method of the broker that ends something. */
static bool
fail_by_method(const amqp_method_t *method, ModuleError *error)
{
	if (method->id == AMQP_CHANNEL_CLOSE_METHOD)
	{
		amqp_channel_close_t *closed = method->decoded;

		return fail_by_refusal(closed->reply_code, closed->reply_text, error);
	}
	if (method->id == AMQP_CONNECTION_CLOSE_METHOD)
	{
		amqp_connection_close_t *closed = method->decoded;

		return fail_by_refusal(closed->reply_code, closed->reply_text, error);
	}
	if (method->id == AMQP_BASIC_RETURN_METHOD)
	{
		amqp_basic_return_t *returned = method->decoded;

		return fail_by_refusal(returned->reply_code, returned->reply_text, error);
	}
	if (method->id == AMQP_BASIC_NACK_METHOD)
		return module_fail(error, false, NULL, "the broker could not keep a message");
	if (method->id == AMQP_BASIC_CANCEL_METHOD)
		return module_fail(error, false, NULL, "the queue of ordflow is gone from the broker");
	return module_fail(error, false, NULL, "unexpected answer of the broker (%08X)", method->id);
}

static bool
succeeded(amqp_rpc_reply_t reply, ModuleError *error)
{
	switch (reply.reply_type)
	{
		case AMQP_RESPONSE_NORMAL:
			return true;
		case AMQP_RESPONSE_SERVER_EXCEPTION:
			return fail_by_method(&reply.reply, error);
		case AMQP_RESPONSE_LIBRARY_EXCEPTION:
			return fail_by_status(reply.library_error, error);
		default:
			return fail_by_status(AMQP_STATUS_CONNECTION_CLOSED, error);
	}
}

static bool
sent(int status, ModuleError *error)
{
	return status == AMQP_STATUS_OK || fail_by_status(status, error);
}

/* ---- frames ---- */

/* The next frame, until that time on clock_ms(). */
static bool
wait_frame(Amqp *amqp, amqp_connection_state_t connection, amqp_frame_t *frame, int64 until,
		   ModuleError *error)
{
	for (;;)
	{
		int64		left = until - clock_ms();
		int64		step = Min(Max(left, 0), WAIT_STEP_MS);
		struct timeval wait = {.tv_sec = 0,.tv_usec = step * 1000};
		int			status = amqp_simple_wait_frame_noblock(connection, frame, &wait);

		if (status != AMQP_STATUS_TIMEOUT)
			return sent(status, error);
		if (amqp->config->cancelled && amqp->config->cancelled())
			return module_fail(error, false, NULL, "given up waiting for the broker");
		if (left <= 0)
			return fail_by_status(AMQP_STATUS_TIMEOUT, error);
	}
}

/* Sends a method and waits for the answer; nothing else is under way on the connection. */
static bool
call(Amqp *amqp, amqp_connection_state_t connection, amqp_method_number_t method, void *arguments,
	 amqp_method_number_t expected, ModuleError *error)
{
	int64		until = clock_ms() + timeout(amqp).tv_sec * 1000;
	amqp_frame_t frame;

	if (!sent(amqp_send_method(connection, CHANNEL, method, arguments), error))
		return false;
	do
	{
		if (!wait_frame(amqp, connection, &frame, until, error))
			return false;
	} while (frame.frame_type != AMQP_FRAME_METHOD);
	return frame.payload.method.id == expected || fail_by_method(&frame.payload.method, error);
}

/* ---- connections ---- */

static void
forget_taken(Amqp *amqp)
{
	for (int i = 0; i < amqp->ntaken; i++)
		free(amqp->taken[i]);
	amqp->ntaken = 0;
}

static void
forget_incoming(Amqp *amqp)
{
	free(amqp->incoming.body);
	amqp->incoming = (Incoming) {0};
}

static void
close_connection(amqp_connection_state_t *connection)
{
	if (*connection)
		amqp_destroy_connection(*connection);
	*connection = NULL;
}

static void
disconnect(Amqp *amqp)
{
	forget_taken(amqp);
	forget_incoming(amqp);
	close_connection(&amqp->consumer);
	close_connection(&amqp->publisher);
	for (int i = 0; i < BUCKETS; i++)
		amqp->buckets[i].declared = 0;
	amqp->published = 0;
	amqp->taken_tag = 0;
	amqp->nearly = 0;
}

static amqp_socket_t *
new_socket(Amqp *amqp, amqp_connection_state_t connection, ModuleError *error)
{
	const char *authority = module_option(amqp->config, "tls_ca");
	amqp_socket_t *socket;

	if (!module_option_bool(amqp->config, "tls"))
		return amqp_tcp_socket_new(connection);
	if (authority == NULL)
	{
		(void) module_fail(error, true, "Set it to the file of the authority that has signed the "
						   "certificate of the broker.", "option \"tls\" needs \"tls_ca\"");
		return NULL;
	}
	socket = amqp_ssl_socket_new(connection);
	if (socket == NULL)
		return NULL;
	amqp_ssl_socket_set_verify_peer(socket, 1);
	amqp_ssl_socket_set_verify_hostname(socket, 1);
	if (amqp_ssl_socket_set_cacert(socket, authority) == AMQP_STATUS_OK)
		return socket;
	(void) module_fail(error, true, NULL, "option \"tls_ca\" names no file of certificates");
	return NULL;
}

/* The broker tells when the queue that we read is deleted. */
static bool
login(Amqp *amqp, amqp_connection_state_t connection, ModuleError *error)
{
	const char *username = module_option(amqp->config, "username");
	const char *password = module_option(amqp->config, "password");
	int			heartbeat = module_option_int(amqp->config, "heartbeat");
	amqp_table_entry_t notify = {.key = amqp_cstring_bytes("consumer_cancel_notify")};
	amqp_table_entry_t capabilities = {.key = amqp_cstring_bytes("capabilities")};
	amqp_table_t properties = {.num_entries = 1,.entries = &capabilities};

	notify.value.kind = AMQP_FIELD_KIND_BOOLEAN;
	notify.value.value.boolean = 1;
	capabilities.value.kind = AMQP_FIELD_KIND_TABLE;
	capabilities.value.value.table = (amqp_table_t) {.num_entries = 1,.entries = &notify};
	heartbeat = Max(heartbeat, HEARTBEAT_MIN);
	if (!succeeded(amqp_login_with_properties(connection, module_option(amqp->config, "vhost"),
											  CHANNEL, FRAME_MAX, heartbeat, &properties,
											  AMQP_SASL_METHOD_PLAIN,
											  username ? username : "guest",
											  password ? password : "guest"), error))
		return false;
	return call(amqp, connection, AMQP_CHANNEL_OPEN_METHOD, &(amqp_channel_open_t) {0},
				AMQP_CHANNEL_OPEN_OK_METHOD, error);
}

/* Writing waits for a broker that has stopped reading: the system gives up in time. */
static bool
limit_writes(Amqp *amqp, amqp_connection_state_t connection, ModuleError *error)
{
	unsigned int ms = timeout(amqp).tv_sec * 1000;
	int			on = 1;
	int			fd = amqp_get_sockfd(connection);

	return (setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms)) == 0 &&
			setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0) ||
		module_fail(error, false, NULL, "the socket takes no limits");
}

/* A connection with its channel open; NULL with the error. */
static amqp_connection_state_t
open_connection(Amqp *amqp, ModuleError *error)
{
	const char *host = module_option(amqp->config, "host");
	int			port = module_option_int(amqp->config, "port");
	struct timeval limit = timeout(amqp);
	amqp_connection_state_t connection = amqp_new_connection();
	amqp_socket_t *socket;
	int			status;

	(void) module_fail(error, false, NULL, "out of memory");
	if (connection == NULL)
		return NULL;
	if (amqp_set_handshake_timeout(connection, &limit) == AMQP_STATUS_OK &&
		amqp_set_rpc_timeout(connection, &limit) == AMQP_STATUS_OK &&
		(socket = new_socket(amqp, connection, error)) != NULL)
	{
		status = amqp_socket_open_noblock(socket, host, port, &limit);
		if (status == AMQP_STATUS_OK && limit_writes(amqp, connection, error) &&
			login(amqp, connection, error))
			return connection;
		if (status != AMQP_STATUS_OK)
			(void) module_fail(error, false, NULL, "no connection to the broker at %s port %d: %s",
							   host, port, amqp_error_string2(status));
	}
	amqp_destroy_connection(connection);
	return NULL;
}

/* ---- queues ---- */

static amqp_bytes_t
fire_name(Amqp *amqp, char name[NAME_MAX_LENGTH + 1])
{
	snprintf(name, NAME_MAX_LENGTH + 1, "%sfire", amqp->name_space);
	return amqp_cstring_bytes(name);
}

static amqp_bytes_t
bucket_name(Amqp *amqp, const Bucket *bucket, char name[NAME_MAX_LENGTH + 1])
{
	snprintf(name, NAME_MAX_LENGTH + 1, "%sdelay." INT64_FORMAT, amqp->name_space, bucket->ms);
	return amqp_cstring_bytes(name);
}

static amqp_table_entry_t
number_argument(const char *key, int64 value)
{
	amqp_table_entry_t entry = {.key = amqp_cstring_bytes(key)};

	entry.value.kind = AMQP_FIELD_KIND_I64;
	entry.value.value.i64 = value;
	return entry;
}

static amqp_table_entry_t
text_argument(const char *key, amqp_bytes_t value)
{
	amqp_table_entry_t entry = {.key = amqp_cstring_bytes(key)};

	entry.value.kind = AMQP_FIELD_KIND_UTF8;
	entry.value.value.bytes = value;
	return entry;
}

static bool
declare(Amqp *amqp, amqp_connection_state_t connection, amqp_bytes_t name, int n,
		amqp_table_entry_t *arguments, ModuleError *error)
{
	amqp_queue_declare_t queue = {
		.queue = name,.durable = 1,.arguments = {.num_entries = n,.entries = arguments}
	};

	return call(amqp, connection, AMQP_QUEUE_DECLARE_METHOD, &queue,
				AMQP_QUEUE_DECLARE_OK_METHOD, error);
}

static amqp_bytes_t
owner_name(Amqp *amqp, char name[NAME_MAX_LENGTH + 1])
{
	snprintf(name, NAME_MAX_LENGTH + 1, "%sowner", amqp->name_space);
	return amqp_cstring_bytes(name);
}

/* Ours as long as the connection lasts, and nobody else's: whose queues the others are. */
static bool
declare_owner(Amqp *amqp, ModuleError *error)
{
	char		name[NAME_MAX_LENGTH + 1];
	amqp_queue_declare_t queue = {
		.queue = owner_name(amqp, name),.exclusive = 1,.auto_delete = 1
	};

	return call(amqp, amqp->publisher, AMQP_QUEUE_DECLARE_METHOD, &queue,
				AMQP_QUEUE_DECLARE_OK_METHOD, error);
}

static bool
declare_fire(Amqp *amqp, ModuleError *error)
{
	char		name[NAME_MAX_LENGTH + 1];
	amqp_table_entry_t arguments[] = {
		number_argument("x-expires", FIRE_EXPIRES_MS),
		text_argument("x-queue-type", amqp_cstring_bytes("classic"))
	};

	return declare(amqp, amqp->consumer, fire_name(amqp, name), lengthof(arguments), arguments,
				   error);
}

/*
 * Publishing into a queue is no use of it that would keep it, declaring it is: so it is declared
 * again in good time, and never goes with messages in it.
 */
static bool
require_bucket(Amqp *amqp, Bucket *bucket, ModuleError *error)
{
	char		name[NAME_MAX_LENGTH + 1];
	char		fire[NAME_MAX_LENGTH + 1];
	int64		now = clock_ms();

	if (bucket->declared != 0 && now - bucket->declared < bucket->ms / 2 + SLACK_MS / 2)
		return true;
	{
		amqp_table_entry_t arguments[] = {
			number_argument("x-message-ttl", bucket->ms),
			number_argument("x-expires", 2 * bucket->ms + SLACK_MS),
			text_argument("x-queue-type", amqp_cstring_bytes("classic")),
			text_argument("x-dead-letter-exchange", amqp_empty_bytes),
			text_argument("x-dead-letter-routing-key", fire_name(amqp, fire))
		};

		if (!declare(amqp, amqp->publisher, bucket_name(amqp, bucket, name), lengthof(arguments),
					 arguments, error))
			return false;
	}
	bucket->declared = now;
	return true;
}

/* A queue that is not there counts as deleted. */
static bool
delete_queue(Amqp *amqp, amqp_bytes_t name, ModuleError *error)
{
	return call(amqp, amqp->publisher, AMQP_QUEUE_DELETE_METHOD,
				&(amqp_queue_delete_t) {.queue = name}, AMQP_QUEUE_DELETE_OK_METHOD, error);
}

static bool
delete_queues(Amqp *amqp, ModuleError *error)
{
	char		name[NAME_MAX_LENGTH + 1];

	for (int i = 0; i < BUCKETS; i++)
	{
		if (!delete_queue(amqp, bucket_name(amqp, &amqp->buckets[i], name), error))
			return false;
		amqp->buckets[i].declared = 0;
	}
	return delete_queue(amqp, fire_name(amqp, name), error);
}

/* ---- publishing ---- */

/* The one with the longest time that is not longer than the delay. */
static Bucket *
bucket_for(Amqp *amqp, int64 delay_ms)
{
	int			i = BUCKETS - 1;

	while (i > 0 && amqp->buckets[i].ms > delay_ms)
		i--;
	return &amqp->buckets[i];
}

static bool
publish_text(Amqp *amqp, amqp_bytes_t queue, const char *text, ModuleError *error)
{
	amqp_basic_properties_t properties = {
		._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,.delivery_mode = TRANSIENT
	};

	amqp->published++;
	return sent(amqp_basic_publish(amqp->publisher, CHANNEL, amqp_empty_bytes, queue, 1, 0,
								   &properties, amqp_cstring_bytes(text)), error);
}

/* The text is "<due> <when it comes back> <item>". */
static bool
publish(Amqp *amqp, const Message *message, const Bucket *bucket, int64 now, ModuleError *error)
{
	char		name[NAME_MAX_LENGTH + 1];
	char		stack[512];
	char	   *body = stack;
	size_t		size = strlen(message->item) + 64;
	bool		done;

	if (size > sizeof(stack) && (body = malloc(size)) == NULL)
		return module_fail(error, false, NULL, "out of memory");
	snprintf(body, size, INT64_FORMAT " " INT64_FORMAT " %s", message->due, now + bucket->ms,
			 message->item);
	done = publish_text(amqp, bucket_name(amqp, bucket, name), body, error);
	if (body != stack)
		free(body);
	return done;
}

/* Marks what an answer confirms; how many that are. */
static int
mark_confirmed(bool *confirmed, uint64 first, int n, const amqp_basic_ack_t *ack)
{
	int			marked = 0;

	for (int i = 0; i < n; i++)
	{
		uint64		number = first + i;

		if (!confirmed[i] &&
			(number == ack->delivery_tag || (ack->multiple && number < ack->delivery_tag)))
		{
			confirmed[i] = true;
			marked++;
		}
	}
	return marked;
}

/* The broker has the messages numbered from first on. */
static bool
wait_confirmed(Amqp *amqp, uint64 first, int n, ModuleError *error)
{
	bool		confirmed[CHUNK_MAX] = {false};
	int64		until = clock_ms() + timeout(amqp).tv_sec * 1000;

	for (int left = n; left > 0;)
	{
		amqp_frame_t frame;

		if (!wait_frame(amqp, amqp->publisher, &frame, until, error))
			return false;
		if (frame.frame_type != AMQP_FRAME_METHOD)
			continue;
		if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
			return fail_by_method(&frame.payload.method, error);
		left -= mark_confirmed(confirmed, first, n, frame.payload.method.decoded);
		amqp_maybe_release_buffers(amqp->publisher);
	}
	return true;
}

/* All queues before all messages: an answer must not come among confirmations. */
static bool
publish_chunk(Amqp *amqp, const Message *messages, int n, ModuleError *error)
{
	uint64		first = amqp->published + 1;
	int64		now = epoch_ms();

	for (int i = 0; i < n; i++)
		if (!require_bucket(amqp, bucket_for(amqp, messages[i].due - now), error))
			return false;
	for (int i = 0; i < n; i++)
		if (!publish(amqp, &messages[i], bucket_for(amqp, messages[i].due - now), now, error))
			return false;
	return wait_confirmed(amqp, first, n, error);
}

static bool
publish_all(Amqp *amqp, const Message *messages, int n, ModuleError *error)
{
	for (int done = 0; done < n; done += CHUNK_MAX)
		if (!publish_chunk(amqp, &messages[done], Min(n - done, CHUNK_MAX), error))
			return false;
	return true;
}

/* ---- the driver ---- */

static void *
amqp_open(const ModuleConfig *config, const char *name_space)
{
	Amqp	   *amqp = calloc(1, sizeof(Amqp));

	if (amqp == NULL)
		return NULL;
	amqp->config = config;
	amqp->name_space = name_space;
	for (int i = 0; i < BUCKETS; i++)
	{
		int64		last = i > 0 ? amqp->buckets[i - 1].ms : 0;

		amqp->buckets[i].ms = i < EXACT_BUCKETS ? i + 1
			: last + last * BUCKET_GROWTH_PERMILLE / 1000;
	}
	return amqp;
}

static bool
start_publisher(Amqp *amqp, ModuleError *error)
{
	amqp->publisher = open_connection(amqp, error);
	return amqp->publisher != NULL &&
		call(amqp, amqp->publisher, AMQP_CONFIRM_SELECT_METHOD, &(amqp_confirm_select_t) {0},
			 AMQP_CONFIRM_SELECT_OK_METHOD, error);
}

/*
 * Nobody else deletes our queues, and we his, and the broker takes messages: what waits in
 * the queues stays there until then.
 */
static bool
become_owner(Amqp *amqp, ModuleError *error)
{
	char		name[NAME_MAX_LENGTH + 1];

	return declare_owner(amqp, error) &&
		publish_text(amqp, owner_name(amqp, name), "", error) &&
		wait_confirmed(amqp, amqp->published, 1, error);
}

static bool
start_consumer(Amqp *amqp, ModuleError *error)
{
	char		name[NAME_MAX_LENGTH + 1];
	amqp_basic_qos_t qos = {.prefetch_count = PREFETCH};
	amqp_basic_consume_t consume = {.queue = fire_name(amqp, name)};

	amqp->consumer = open_connection(amqp, error);
	return amqp->consumer != NULL && declare_fire(amqp, error) &&
		call(amqp, amqp->consumer, AMQP_BASIC_QOS_METHOD, &qos, AMQP_BASIC_QOS_OK_METHOD,
			 error) &&
		call(amqp, amqp->consumer, AMQP_BASIC_CONSUME_METHOD, &consume,
			 AMQP_BASIC_CONSUME_OK_METHOD, error);
}

/*
 * What an earlier connection has left goes: the core publishes everything again, and each outage
 * would double the messages.
 */
static bool
amqp_connect(void *state, ModuleError *error)
{
	Amqp	   *amqp = state;

	disconnect(amqp);
	if (strlen(amqp->name_space) + 32 > NAME_MAX_LENGTH)
		return module_fail(error, true, "Set a shorter one.", "the option \"prefix\" is too long");
	if (start_publisher(amqp, error) && become_owner(amqp, error) &&
		delete_queues(amqp, error) && start_consumer(amqp, error))
		return true;
	disconnect(amqp);
	return false;
}

static bool
require_connection(Amqp *amqp, ModuleError *error)
{
	return amqp->publisher != NULL && amqp->consumer != NULL ? true
		: module_fail(error, false, NULL, "there is no connection to the broker");
}

/* A message cannot be taken back: it will find an order that is paid. */
static bool
amqp_put(void *state, const Deadline *deadlines, int n, ModuleError *error)
{
	Amqp	   *amqp = state;
	int64		now = epoch_ms();
	Message    *messages;
	int			nmessages = 0;
	bool		done;

	if (!require_connection(amqp, error))
		return false;
	messages = malloc(Max(n, 1) * sizeof(Message));
	if (messages == NULL)
		return module_fail(error, false, NULL, "out of memory");
	for (int i = 0; i < n; i++)
		if (deadlines[i].delay_ms >= 0)
			messages[nmessages++] = (Message) {
				.due = now + Min(deadlines[i].delay_ms, PG_INT64_MAX / 2),
				.item = deadlines[i].item
			};
	done = publish_all(amqp, messages, nmessages, error);
	free(messages);
	return done;
}

static bool
read_header(Incoming *incoming, const amqp_frame_t *frame, ModuleError *error)
{
	uint64		size = frame->payload.properties.body_size;

	if (size > BODY_MAX)
		return module_fail(error, true, "Let nobody else send to the queues of ordflow.",
						   "a message of " UINT64_FORMAT " bytes has come", size);
	incoming->size = size;
	incoming->body = malloc(size + 1);
	return incoming->body != NULL || module_fail(error, false, NULL, "out of memory");
}

static bool
read_body(Incoming *incoming, const amqp_frame_t *frame, ModuleError *error)
{
	const amqp_bytes_t *part = &frame->payload.body_fragment;

	if (incoming->body == NULL || part->len > incoming->size - incoming->got)
		return module_fail(error, false, NULL, "the broker sends a message in disorder");
	memcpy(incoming->body + incoming->got, part->bytes, part->len);
	incoming->got += part->len;
	return true;
}

/* Takes one frame of what is coming. */
static bool
read_frame(Amqp *amqp, const amqp_frame_t *frame, ModuleError *error)
{
	Incoming   *incoming = &amqp->incoming;

	if (frame->frame_type == AMQP_FRAME_METHOD)
	{
		if (frame->payload.method.id != AMQP_BASIC_DELIVER_METHOD)
			return fail_by_method(&frame->payload.method, error);
		forget_incoming(amqp);
		incoming->begun = true;
		incoming->since = clock_ms();
		incoming->tag = ((amqp_basic_deliver_t *) frame->payload.method.decoded)->delivery_tag;
		return true;
	}
	if (frame->frame_type == AMQP_FRAME_HEADER && incoming->begun && incoming->body == NULL)
		return read_header(incoming, frame, error);
	if (frame->frame_type == AMQP_FRAME_BODY)
		return read_body(incoming, frame, error);
	return true;
}

/* A policy that cuts our queues sends messages back at once, again and again. */
static bool
count_early(Amqp *amqp, int64 back, ModuleError *error)
{
	if (back <= epoch_ms() + EARLY_MS || ++amqp->nearly <= EARLY_MAX)
		return true;
	return module_fail(error, true, "See rabbitmqctl list_policies: none that limits length or age "
					   "may hold for the queues of ordflow.",
					   "the broker sends messages back before their time");
}

/* Makes a message of what is complete. */
static bool
take_incoming(Amqp *amqp, Hop *message, ModuleError *error)
{
	char	   *body = amqp->incoming.body;
	char	   *end;
	int64		back;

	amqp->incoming.body = NULL;
	body[amqp->incoming.size] = '\0';
	message->tag = amqp->incoming.tag;
	message->due = strtoll(body, &end, 10);
	back = strtoll(end, &end, 10);
	memmove(body, *end == ' ' ? end + 1 : end, strlen(*end == ' ' ? end + 1 : end) + 1);
	message->item = body;
	forget_incoming(amqp);
	return count_early(amqp, back, error);
}

/*
 * The next message that has come whole; *item is NULL where there is none.  The item is the
 * caller's to free.
 */
static bool
next_message(Amqp *amqp, Hop *message, ModuleError *error)
{
	const Incoming *incoming = &amqp->incoming;
	struct timeval at_once = {0};

	message->item = NULL;
	for (;;)
	{
		amqp_frame_t frame;
		int			status;

		amqp_maybe_release_buffers(amqp->consumer);
		status = amqp_simple_wait_frame_noblock(amqp->consumer, &frame, &at_once);
		if (status == AMQP_STATUS_TIMEOUT)
			return !incoming->begun ||
				clock_ms() - incoming->since < timeout(amqp).tv_sec * 1000 ||
				module_fail(error, false, NULL, "the broker does not go on with a message");
		if (!sent(status, error) || !read_frame(amqp, &frame, error))
			return false;
		if (incoming->body != NULL && incoming->got == incoming->size)
			return take_incoming(amqp, message, error);
	}
}

/* What is not due yet waits again; then the broker may forget it as it was. */
static bool
hop(Amqp *amqp, Hop *hops, int n, ModuleError *error)
{
	Message		messages[PREFETCH] = {{0}};

	for (int i = 0; i < n; i++)
		messages[i] = (Message) {.due = hops[i].due,.item = hops[i].item};
	if (!publish_all(amqp, messages, n, error))
		return false;
	for (int i = 0; i < n; i++)
		if (!sent(amqp_basic_ack(amqp->consumer, CHANNEL, hops[i].tag, 0), error))
			return false;
	return true;
}

static bool
make_room(Amqp *amqp, int max)
{
	char	  **more;

	if (amqp->taken_max >= max)
		return true;
	more = realloc(amqp->taken, max * sizeof(char *));
	if (more == NULL)
		return false;
	amqp->taken = more;
	amqp->taken_max = max;
	return true;
}

/*
 * Sorts what has come into items and hops.  The broker sends at most PREFETCH messages before we
 * acknowledge: with as many hops nothing is left in the library's buffer, where no wait for the
 * socket would notice it.
 */
static bool
take_messages(Amqp *amqp, const char **items, int max, Hop *hops, int *nhops, ModuleError *error)
{
	while (amqp->ntaken < max && *nhops < PREFETCH)
	{
		Hop			message;

		if (!next_message(amqp, &message, error))
		{
			free(message.item);
			return false;
		}
		if (message.item == NULL)
			return true;
		if (message.due > epoch_ms())
			hops[(*nhops)++] = message;
		else
		{
			items[amqp->ntaken] = amqp->taken[amqp->ntaken] = message.item;
			amqp->ntaken++;
			amqp->taken_tag = message.tag;
		}
	}
	return true;
}

static int
amqp_poll(void *state, const char **items, int max, ModuleError *error)
{
	Amqp	   *amqp = state;
	Hop			hops[PREFETCH];
	int			nhops = 0;
	bool		good;

	if (!require_connection(amqp, error))
		return -1;
	forget_taken(amqp);
	if (!make_room(amqp, max))
	{
		(void) module_fail(error, false, NULL, "out of memory");
		return -1;
	}
	good = take_messages(amqp, items, max, hops, &nhops, error) &&
		hop(amqp, hops, nhops, error);
	for (int i = 0; i < nhops; i++)
		free(hops[i].item);
	return good ? amqp->ntaken : -1;
}

static bool
amqp_done(void *state, ModuleError *error)
{
	Amqp	   *amqp = state;
	uint64		tag = amqp->taken_tag;

	if (!require_connection(amqp, error))
		return false;
	amqp->taken_tag = 0;
	return tag == 0 || sent(amqp_basic_ack(amqp->consumer, CHANNEL, tag, 1), error);
}

static int
amqp_socket(void *state)
{
	Amqp	   *amqp = state;

	return amqp->consumer ? amqp_get_sockfd(amqp->consumer) : -1;
}

/* Waiting for no time sends heartbeats and takes those of the broker. */
static bool
amqp_idle(void *state, ModuleError *error)
{
	Amqp	   *amqp = state;
	struct timeval at_once = {0};
	amqp_frame_t frame;
	int			status;

	if (!require_connection(amqp, error))
		return false;
	if (amqp->incoming.begun &&
		clock_ms() - amqp->incoming.since >= timeout(amqp).tv_sec * 1000)
		return module_fail(error, false, NULL, "the broker does not go on with a message");
	status = amqp_simple_wait_frame_noblock(amqp->publisher, &frame, &at_once);
	if (status == AMQP_STATUS_OK && frame.frame_type == AMQP_FRAME_METHOD)
		return fail_by_method(&frame.payload.method, error);
	return status == AMQP_STATUS_OK || status == AMQP_STATUS_TIMEOUT ||
		fail_by_status(status, error);
}

/* Who has no connection may be one that waits for another to leave: those queues are not ours. */
static bool
amqp_clear(void *state, ModuleError *error)
{
	Amqp	   *amqp = state;

	forget_taken(amqp);
	forget_incoming(amqp);
	close_connection(&amqp->consumer);
	if (amqp->publisher == NULL && !(start_publisher(amqp, error) && declare_owner(amqp, error)))
	{
		disconnect(amqp);
		return false;
	}
	return delete_queues(amqp, error);
}

static void
amqp_close(void *state)
{
	Amqp	   *amqp = state;

	disconnect(amqp);
	free(amqp->taken);
	free(amqp);
}

static const TimerDriver driver = {
	.name = "amqp",
	.adds = true,
	.open = amqp_open,
	.connect = amqp_connect,
	.put = amqp_put,
	.poll = amqp_poll,
	.done = amqp_done,
	.socket = amqp_socket,
	.idle = amqp_idle,
	.clear = amqp_clear,
	.close = amqp_close
};

ORDFLOW_MODULE("amqp", &driver, NULL);

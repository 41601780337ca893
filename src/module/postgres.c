/*
 * postgres.c
 *	  The module of PostgreSQL: its connection, and the position that it keeps there.
 *
 * What a batch does stands in postgres_apply.c.  Connections are non-blocking, and every wait asks
 * whether to go on: whoever wants the process to leave must not wait for the other server.
 *
 * Without a password libpq would offer what the operating system's user of our own server is, or
 * has, such as ~/.pgpass.  That is not lent to whoever may make a server: see password_required.
 */
#include "module/postgres.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

#define WAIT_STEP_MS 100
#define MAPPING_HINT "CREATE USER MAPPING ... OPTIONS (user '...', password '...')."
#define OLDEST_VERSION 120000
#define POSITIONS "ordflow_sync_positions"
#define COLUMNS "(name_space text PRIMARY KEY, position text NOT NULL)"

int64
pgsink_clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int
pgsink_timeout_ms(const Postgres *postgres)
{
	int			seconds = module_option_int(postgres->config, "timeout");

	return (seconds > 0 ? seconds : 1) * 1000;
}

/* ---- waiting ---- */

bool
pgsink_lose(Postgres *postgres)
{
	if (postgres->connection != NULL)
		PQfinish(postgres->connection);
	postgres->connection = NULL;
	postgres->is_open = false;
	return false;
}

bool
pgsink_fail_memory(Postgres *postgres, ModuleError *error)
{
	postgres->sqlstate[0] = '\0';
	pgsink_lose(postgres);
	return module_fail(error, false, NULL, "out of memory");
}

static bool
fail_connection(Postgres *postgres, ModuleError *error)
{
	const char *message = PQerrorMessage(postgres->connection);

	postgres->sqlstate[0] = '\0';
	(void) module_fail(error, false, NULL, "connection to PostgreSQL lost: %.*s",
					   (int) strcspn(message, "\n"), message);
	return pgsink_lose(postgres);
}

/* What the socket is ready for; 0 with the error, and without the connection. */
static short
wait_for(Postgres *postgres, short events, int64 until, ModuleError *error)
{
	for (;;)
	{
		struct pollfd ready = {.fd = PQsocket(postgres->connection),.events = events};
		int64		left = until - pgsink_clock_ms();

		if (postgres->config->cancelled && postgres->config->cancelled())
			(void) module_fail(error, false, NULL, "given up waiting for PostgreSQL");
		else if (left <= 0)
			(void) module_fail(error, false, NULL, "no answer of PostgreSQL within %d s",
							   pgsink_timeout_ms(postgres) / 1000);
		else if (poll(&ready, 1, (int) Min(left, WAIT_STEP_MS)) > 0)
			return ready.revents;
		else
			continue;
		postgres->sqlstate[0] = '\0';
		pgsink_lose(postgres);
		return 0;
	}
}

static int64
answer_until(const Postgres *postgres)
{
	return Min(pgsink_clock_ms() + pgsink_timeout_ms(postgres), postgres->until);
}

bool
pgsink_next_result(Postgres *postgres, PGresult **result, ModuleError *error)
{
	int64		until = answer_until(postgres);

	for (;;)
	{
		int			unsent = PQflush(postgres->connection);
		short		ready;

		if (unsent < 0)
			return fail_connection(postgres, error);
		if (!PQisBusy(postgres->connection))
			break;
		ready = wait_for(postgres, unsent ? POLLIN | POLLOUT : POLLIN, until, error);
		if (ready == 0)
			return false;
		if (ready & POLLOUT)
			until = answer_until(postgres);
		if ((ready & ~POLLOUT) && !PQconsumeInput(postgres->connection))
			return fail_connection(postgres, error);
	}
	*result = PQgetResult(postgres->connection);
	return true;
}

bool
pgsink_wait_to_send(Postgres *postgres, ModuleError *error)
{
	short		ready = wait_for(postgres, POLLIN | POLLOUT, answer_until(postgres), error);

	if (ready == 0)
		return false;
	if ((ready & ~POLLOUT) && !PQconsumeInput(postgres->connection))
		return fail_connection(postgres, error);
	return PQflush(postgres->connection) >= 0 || fail_connection(postgres, error);
}

/* ---- statements by themselves ---- */

PGresult *
pgsink_query(Postgres *postgres, ModuleError *error, const char *sql, int nparameters,
			 const char *const *parameters)
{
	PGresult   *answer = NULL;
	PGresult   *result;
	bool		good;

	if (postgres->connection == NULL)
		return (void) module_fail(error, false, NULL, "there is no connection"), NULL;
	postgres->until = PG_INT64_MAX;
	good = nparameters == 0 ? PQsendQuery(postgres->connection, sql) :
		PQsendQueryParams(postgres->connection, sql, nparameters, NULL, parameters, NULL, NULL, 0);
	if (!good)
		return (void) fail_connection(postgres, error), NULL;
	for (;;)
	{
		if (!pgsink_next_result(postgres, &result, error))
		{
			PQclear(answer);
			return NULL;
		}
		if (result == NULL)
			break;
		/* of several statements the first error stays: the others are not run */
		PQclear(answer);
		answer = result;
	}
	if (PQresultStatus(answer) == PGRES_TUPLES_OK || PQresultStatus(answer) == PGRES_COMMAND_OK)
		return answer;
	(void) pgsink_fail_result(postgres, answer, error);
	PQclear(answer);
	if (PQstatus(postgres->connection) != CONNECTION_OK)
		pgsink_lose(postgres);
	return NULL;
}

bool
pgsink_do(Postgres *postgres, ModuleError *error, const char *sql)
{
	PGresult   *result = pgsink_query(postgres, error, sql, 0, NULL);

	PQclear(result);
	return result != NULL;
}

/* ---- the connection ---- */

static bool
dial(Postgres *postgres, ModuleError *error)
{
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	int64		until = pgsink_clock_ms() + pgsink_timeout_ms(postgres);

	if (PQstatus(postgres->connection) == CONNECTION_BAD)
		return pgsink_fail_connect(postgres, error);
	(void) PQsetErrorVerbosity(postgres->connection, PQERRORS_VERBOSE);
	while (status == PGRES_POLLING_READING || status == PGRES_POLLING_WRITING)
	{
		if (!wait_for(postgres, status == PGRES_POLLING_READING ? POLLIN : POLLOUT, until, error))
			return false;
		status = PQconnectPoll(postgres->connection);
	}
	if (status == PGRES_POLLING_OK)
		return true;
	if (PQconnectionNeedsPassword(postgres->connection))
		return module_fail(error, true, MAPPING_HINT, "PostgreSQL asks for a password");
	return pgsink_fail_connect(postgres, error);
}

static bool
may_dial(Postgres *postgres, ModuleError *error)
{
	const ModuleConfig *config = postgres->config;

	if (module_option(config, "user") == NULL)
		return module_fail(error, true, MAPPING_HINT,
						   "server \"%s\" has no user mapping with a user", config->server);
	if (module_option_bool(config, "password_required") &&
		module_option(config, "password") == NULL)
		return module_fail(error, true, "Set a password in the user mapping; a superuser may set "
						   "the option password_required of the server to off.",
						   "server \"%s\" has no user mapping with a password", config->server);
	return true;
}

static void
ignore_notice(void *context, const PGresult *result)
{
}

static bool
open_connection(Postgres *postgres, ModuleError *error)
{
	const ModuleConfig *config = postgres->config;
	static const char *const names[] = {
		"host", "port", "dbname", "user", "password", "sslmode", "sslrootcert", "sslcert", "sslkey"
	};
	const char *keywords[lengthof(names) + 4] = {NULL};
	const char *values[lengthof(names) + 4] = {NULL};
	int			n = 0;

	for (int i = 0; i < (int) lengthof(names); i++)
	{
		keywords[n] = names[i];
		values[n++] = module_option(config, names[i]);
	}
	keywords[n] = "application_name";
	values[n++] = "ordflow";
	keywords[n] = "client_encoding";
	values[n++] = config->encoding ? config->encoding : "UTF8";
	keywords[n] = "gssencmode";
	values[n++] = "disable";
	postgres->connection = PQconnectStartParams(keywords, values, 0);
	if (postgres->connection == NULL)
		return pgsink_fail_memory(postgres, error);
	(void) PQsetNoticeReceiver(postgres->connection, ignore_notice, NULL);
	if (!dial(postgres, error))
		return pgsink_lose(postgres);
	if (module_option_bool(config, "password_required") &&
		!PQconnectionUsedPassword(postgres->connection))
	{
		(void) module_fail(error, true, "Have pg_hba.conf of that server ask for it, or let a "
						   "superuser set the option password_required of the server to off.",
						   "PostgreSQL has not asked for the password");
		return pgsink_lose(postgres);
	}
	if (PQserverVersion(postgres->connection) < OLDEST_VERSION)
	{
		(void) module_fail(error, true, "Version 12 or later can be a target.",
						   "PostgreSQL %d is too old",
						   PQserverVersion(postgres->connection) / 10000);
		return pgsink_lose(postgres);
	}
	return PQsetnonblocking(postgres->connection, 1) == 0 || fail_connection(postgres, error);
}

/* ---- the session ---- */

/*
 * Texts as ordflow_change_settings() has them made; nothing waits for ever; a commit is on disk
 * when it is answered.  $1, $2: milliseconds for a statement, for a lock; less than what we wait,
 * so that it is told what for.
 */
static const char settings[] =
"SELECT pg_catalog.set_config(name, value, false) FROM (VALUES"
" ('search_path', 'pg_catalog, pg_temp'), ('datestyle', 'ISO, YMD'), ('intervalstyle', 'iso_8601'),"
" ('timezone', 'UTC'), ('extra_float_digits', '1'), ('bytea_output', 'hex'), ('lc_monetary', 'C'),"
" ('xmloption', 'content'), ('array_nulls', 'on'), ('standard_conforming_strings', 'on'),"
" ('default_transaction_read_only', 'off'), ('default_transaction_isolation', 'read committed'),"
" ('client_min_messages', 'error'), ('tcp_keepalives_idle', '60'),"
" ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '6'),"
" ('statement_timeout', $1), ('lock_timeout', $2), ('synchronous_commit',"
" CASE WHEN pg_catalog.current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply'"
" ELSE 'on' END)) AS s (name, value)";

static bool
make_session(Postgres *postgres, ModuleError *error)
{
	char		statement[32];
	char		lock[32];
	const char *parameters[] = {statement, lock};
	PGresult   *result;

	snprintf(statement, sizeof(statement), "%d", pgsink_timeout_ms(postgres) / 10 * 9);
	snprintf(lock, sizeof(lock), "%d", pgsink_timeout_ms(postgres) / 10 * 8);
	result = pgsink_query(postgres, error, settings, 2, parameters);
	PQclear(result);
	return result != NULL;
}

/* The table of positions, made where it is missing. */
static bool
find_positions(Postgres *postgres, ModuleError *error)
{
	const char *parameters[] = {postgres->positions};
	PGresult   *result = pgsink_query(postgres, error, "SELECT pg_catalog.to_regclass($1) IS NULL",
									  1, parameters);
	char		sql[sizeof(error->hint)];
	bool		missing;

	if (result == NULL)
		return false;
	missing = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
	PQclear(result);
	if (!missing)
		return true;
	snprintf(sql, sizeof(sql), "CREATE TABLE IF NOT EXISTS %s " COLUMNS, postgres->positions);
	if (pgsink_do(postgres, error, sql))
		return true;
	if (error->misconfigured)
		snprintf(error->hint, sizeof(error->hint), "There: CREATE TABLE %s " COLUMNS
				 "; GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO \"%s\"; or set the option schema of "
				 "the server.", postgres->positions, postgres->positions,
				 module_option(postgres->config, "user"));
	return false;
}

static bool
connect_sink(void *state, ModuleError *error)
{
	Postgres   *postgres = state;

	pgsink_lose(postgres);
	pgsink_forget_tables(postgres);
	while (postgres->nprepared > 0)
		free(postgres->prepared[--postgres->nprepared]);
	postgres->until = PG_INT64_MAX;
	return may_dial(postgres, error) && open_connection(postgres, error) &&
		((make_session(postgres, error) && find_positions(postgres, error)) ||
		 pgsink_lose(postgres));
}

/* ---- the position ---- */

static bool
position(void *state, SinkPosition *at, bool *found, ModuleError *error)
{
	Postgres   *postgres = state;
	const char *parameters[] = {postgres->name_space};
	PGresult   *result;
	bool		good = true;

	pgsink_text_empty(&postgres->sql);
	pgsink_text_printf(&postgres->sql, "SELECT position FROM %s WHERE name_space = $1",
					   postgres->positions);
	if (postgres->sql.failed)
		return pgsink_fail_memory(postgres, error);
	result = pgsink_query(postgres, error, postgres->sql.data, 1, parameters);
	if (result == NULL)
		return false;
	*found = PQntuples(result) == 1;
	if (*found && !sink_position_parse(PQgetvalue(result, 0, 0), at))
		good = module_fail(error, true, NULL, "table %s has no position in the row of \"%s\"",
						   postgres->positions, postgres->name_space);
	PQclear(result);
	return good;
}

static bool
clear(void *state, ModuleError *error)
{
	Postgres   *postgres = state;
	const char *parameters[] = {postgres->name_space};
	PGresult   *result;

	if (postgres->is_open && !pgsink_do(postgres, error, "ROLLBACK"))
		return false;
	postgres->is_open = false;
	pgsink_text_empty(&postgres->sql);
	pgsink_text_printf(&postgres->sql, "DELETE FROM %s WHERE name_space = $1", postgres->positions);
	if (postgres->sql.failed)
		return pgsink_fail_memory(postgres, error);
	result = pgsink_query(postgres, error, postgres->sql.data, 1, parameters);
	PQclear(result);
	return result != NULL;
}

/* ---- routes and states ---- */

/* A target is looked at when it is there: the other server may be down now. */
static bool
route(SinkRoute *route, ModuleError *error)
{
	route->shape = route->is_emit ? SHAPE_EVENT : SHAPE_FIELDS;
	if (route->is_emit)
		return true;
	if (route->target == NULL || route->target[0] == '\0')
		return module_fail(error, true, "As in target => 'shop.orders'.", "a table is needed");
	if (strpbrk(route->target, "{}") != NULL)
		return module_fail(error, true, "As in target => 'shop.orders'.",
						   "the target is a table, of which no column is a part");
	return true;
}

static void
close_sink(void *state)
{
	Postgres   *postgres = state;

	pgsink_lose(postgres);
	pgsink_forget_tables(postgres);
	while (postgres->nprepared > 0)
		free(postgres->prepared[--postgres->nprepared]);
	free(postgres->positions);
	free(postgres->steps);
	free(postgres->sql.data);
	free(postgres->values.data);
	free(postgres->offsets);
	free(postgres->parameters);
	free(postgres->types);
	free(postgres);
}

static void *
open_sink(const ModuleConfig *config, const char *name_space)
{
	Postgres   *postgres = calloc(1, sizeof(Postgres));
	const char *schema = module_option(config, "schema");
	Text		name = {0};

	if (postgres == NULL)
		return NULL;
	postgres->config = config;
	postgres->name_space = name_space;
	/* quotes are doubled: an encoding of a server has no byte of ASCII within a character */
	pgsink_text_add(&name, "\"", 1);
	for (const char *c = schema ? schema : "public"; *c; c++)
		pgsink_text_add(&name, *c == '"' ? "\"\"" : c, *c == '"' ? 2 : 1);
	pgsink_text_printf(&name, "\"." POSITIONS);
	postgres->positions = name.data;
	if (!name.failed)
		return postgres;
	close_sink(postgres);
	return NULL;
}

static const Sink sink = {
	.name = "postgres",
	.flags = SINK_KEEPS_POSITION | SINK_TRANSACTIONS,
	.route = route,
	.open = open_sink,
	.connect = connect_sink,
	.position = position,
	.apply = pgsink_apply,
	.clear = clear,
	.compare = pgsink_compare,
	.scan = pgsink_scan,
	.close = close_sink
};

ORDFLOW_MODULE("postgres", NULL, &sink);

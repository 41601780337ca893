/*
 * postgres_error.c
 *	  What PostgreSQL's errors mean for a sink.
 */
#include "module/postgres.h"

#include <ctype.h>

/*
 * By SQLSTATE, or the beginning of one; the first that fits.  What passes by itself is named, and
 * what somebody has to mend.  All else is about the row: a constraint, a value, what a trigger
 * raises.
 */
static const struct
{
	const char *prefix;
	SinkOutcome outcome;
	const char *hint;
}			outcomes[] = {
	{"08", SINK_RETRY},			/* connection */
	{"25", SINK_RETRY},			/* a standby, a transaction that was ended */
	{"40", SINK_RETRY},			/* serialization, deadlock */
	{"53", SINK_RETRY},			/* disk, memory, connections */
	{"55000", SINK_MISCONFIGURED},	/* such as a published table without replica identity */
	{"55P04", SINK_REJECT},		/* a value that its enum will have soon */
	{"55", SINK_RETRY},			/* locks */
	{"57", SINK_RETRY},			/* shutdown, timeouts */
	{"58", SINK_RETRY},			/* the machine */
	{"XX", SINK_RETRY},
	{"F0", SINK_RETRY},
	{"28P01", SINK_MISCONFIGURED, "Check user and password of the user mapping."},
	{"28", SINK_MISCONFIGURED, "See pg_hba.conf of that server, and the user mapping."},
	{"3D", SINK_MISCONFIGURED, "Check the option dbname of the server."},
	{"3F", SINK_MISCONFIGURED},
	{"42501", SINK_MISCONFIGURED, "Grant it there, to the user of the user mapping."},
	{"42", SINK_MISCONFIGURED},
	{"0A", SINK_MISCONFIGURED},
	{"", SINK_REJECT}
};

static int
outcome_index(const char *sqlstate)
{
	int			i = 0;

	while (strncmp(outcomes[i].prefix, sqlstate, strlen(outcomes[i].prefix)) != 0)
		i++;
	return i;
}

SinkOutcome
pgsink_outcome(const char *sqlstate)
{
	return sqlstate[0] == '\0' ? SINK_RETRY : outcomes[outcome_index(sqlstate)].outcome;
}

bool
pgsink_fail_result(Postgres *postgres, const PGresult *result, ModuleError *error)
{
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	snprintf(postgres->sqlstate, sizeof(postgres->sqlstate), "%s", sqlstate ? sqlstate : "");
	if (sqlstate == NULL)
	{
		message = PQerrorMessage(postgres->connection);
		return module_fail(error, false, NULL, "connection to PostgreSQL lost: %.*s",
						   (int) strcspn(message, "\n"), message);
	}
	return module_fail(error, pgsink_outcome(sqlstate) == SINK_MISCONFIGURED,
					   outcomes[outcome_index(sqlstate)].hint, "%s (SQLSTATE %s)",
					   message ? message : "PostgreSQL refused", sqlstate);
}

/* ---- failures to connect, of which libpq gives a text alone ---- */

/* What libpq says itself where something is set wrong. */
static const char *const wrong[] = {
	"certificate", "does not support SSL", "SSL error", "sslmode", "private key",
	"no password supplied", "authentication method"
};

/* The last attempt's line: a name may have several addresses. */
static const char *
last_line(const char *message)
{
	static const char begin[] = "connection to server";
	const char *last = message;

	for (const char *at = message; (at = strstr(at, begin)) != NULL; at++)
		last = at;
	return last;
}

/* Where errors are verbose, the SQLSTATE stands behind the severity, whatever language that is. */
static bool
find_sqlstate(const char *line, char *sqlstate)
{
	for (const char *at = line; (at = strstr(at, ":  ")) != NULL; at++)
	{
		int			n = 0;

		while (n < 5 && (isdigit((unsigned char) at[3 + n]) || isupper((unsigned char) at[3 + n])))
			n++;
		if (n < 5 || at[8] != ':')
			continue;
		memcpy(sqlstate, at + 3, 5);
		sqlstate[5] = '\0';
		return true;
	}
	return false;
}

bool
pgsink_fail_connect(Postgres *postgres, ModuleError *error)
{
	const char *line = last_line(PQerrorMessage(postgres->connection));
	int			length = strcspn(line, "\n");
	const char *hint = NULL;
	bool		misconfigured = false;

	postgres->sqlstate[0] = '\0';
	for (int i = 0; i < (int) lengthof(wrong); i++)
		misconfigured |= strstr(line, wrong[i]) != NULL;
	if (find_sqlstate(line, postgres->sqlstate))
	{
		misconfigured = pgsink_outcome(postgres->sqlstate) != SINK_RETRY;
		hint = outcomes[outcome_index(postgres->sqlstate)].hint;
	}
	return module_fail(error, misconfigured, hint, "no connection to PostgreSQL: %.*s", length,
					   line);
}

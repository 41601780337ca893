/*
 * postgres_copy.c
 *	  The first copy of a table: rows that are not there yet, by COPY.
 *
 * COPY cannot be among statements that are sent at one go, so a batch takes three answers.  One
 * that meets rows that are there is done again by the statements of any other batch, and so are
 * those that follow on this connection.
 */
#include "module/postgres.h"

#define CHUNK_BYTES (64 * 1024)

static void
put_copy(Text *sql, const Run *run)
{
	pgsink_text_empty(sql);
	pgsink_text_printf(sql, "COPY %s (", run->table->name);
	for (int i = 0; i < run->ncolumns; i++)
		pgsink_text_printf(sql, "%s%s", i > 0 ? ", " : "",
						   run->table->columns[run->columns[i]].quoted);
	pgsink_text_printf(sql, ") FROM STDIN");
}

static void
put_rows(Text *rows, const Run *run)
{
	pgsink_text_empty(rows);
	for (int i = 0; i < run->n; i++)
		for (int column = 0; column < run->ncolumns; column++)
		{
			SinkField	field = pgsink_value(run, i, column);

			pgsink_text_copied(rows, field.value, field.length);
			pgsink_text_add(rows, column + 1 < run->ncolumns ? "\t" : "\n", 1);
		}
}

static bool
send_rows(Postgres *postgres, const Text *rows, ModuleError *error)
{
	int			sent;

	for (size_t at = 0; at < rows->length; at += CHUNK_BYTES)
		while ((sent = PQputCopyData(postgres->connection, rows->data + at,
									 Min(CHUNK_BYTES, rows->length - at))) != 1)
			if (sent < 0)
				return pgsink_fail_memory(postgres, error);
			else if (!pgsink_wait_to_send(postgres, error))
				return false;
	while ((sent = PQputCopyEnd(postgres->connection, NULL)) == 0)
		if (!pgsink_wait_to_send(postgres, error))
			return false;
	return sent == 1 || pgsink_fail_memory(postgres, error);
}

/* All results of the COPY; *refused: there was an error among them.  False: no connection. */
static bool
copy_rows(Postgres *postgres, const Run *run, bool *refused, ModuleError *error)
{
	PGresult   *result;
	bool		begun = false;

	*refused = false;
	put_copy(&postgres->sql, run);
	put_rows(&postgres->values, run);
	if (postgres->sql.failed || postgres->values.failed ||
		!PQsendQuery(postgres->connection, postgres->sql.data))
		return pgsink_fail_memory(postgres, error);
	for (;;)
	{
		ExecStatusType status;

		if (!pgsink_next_result(postgres, &result, error))
			return false;
		if (result == NULL)
			return true;
		status = PQresultStatus(result);
		if (status == PGRES_FATAL_ERROR)
		{
			*refused = true;
			(void) pgsink_fail_result(postgres, result, error);
		}
		PQclear(result);
		if (PQstatus(postgres->connection) != CONNECTION_OK)
			return pgsink_lose(postgres);
		if (status == PGRES_COPY_IN && !begun)
		{
			begun = true;
			if (!send_rows(postgres, &postgres->values, error))
				return false;
		}
	}
}

/* The beginning of the batch, or its end, by itself.  True: *failed is what was refused. */
static bool
do_steps(Postgres *postgres, const SinkBatch *batch,
		 bool (*add) (Postgres *postgres, const SinkBatch *batch), const Step **failed,
		 ModuleError *error)
{
	*failed = NULL;
	if (!pgsink_begin_steps(postgres, error))
		return false;
	if (!add(postgres, batch))
		return pgsink_fail_memory(postgres, error);
	return pgsink_end_steps(postgres, failed, error);
}

SinkOutcome
pgsink_copy(Postgres *postgres, const SinkBatch *batch, const Run *run, SinkResult *result)
{
	const Step *failed;
	bool		refused = false;
	ModuleError *error = &result->error;

	if (!do_steps(postgres, batch, pgsink_add_begin, &failed, error))
		return SINK_RETRY;
	if (failed == NULL && !copy_rows(postgres, run, &refused, error))
		return SINK_RETRY;
	if (refused)
		run->table->has_rows |= strcmp(postgres->sqlstate, SQLSTATE_UNIQUE_VIOLATION) == 0;
	if (failed == NULL && !refused)
	{
		if (!do_steps(postgres, batch, pgsink_add_end, &failed, error))
			return SINK_RETRY;
		if (failed == NULL)
		{
			postgres->is_open = batch->goes_on;
			return SINK_DONE;
		}
	}
	pgsink_roll_back(postgres, failed ? failed->kind : STEP_ITEMS);
	return postgres->connection != NULL ? SINK_REJECT : SINK_RETRY;
}

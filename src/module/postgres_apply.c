/*
 * postgres_apply.c
 *	  A batch as one transaction there, or a part of one.
 *
 * All its statements are sent at one go, COMMIT included, and their answers read after that.  The
 * first one moves the position from where it has to be, or fails, and with it all that follow: so
 * what a killed process had still in its socket either comes before its successor's batch, which
 * then finds another position, or finds another position itself.
 *
 * A transaction of the source that goes over several batches is one there, too: it stays open, and
 * each further batch is a subtransaction, as one that is refused must not take those before it
 * along.
 */
#include "module/postgres.h"

#define NAME_MAX_BYTES 32

/* ---- steps ---- */

static bool
add_step(Postgres *postgres, Step step)
{
	if (postgres->nsteps == postgres->steps_max)
	{
		int			max = Max(64, postgres->steps_max * 2);
		Step	   *steps = realloc(postgres->steps, max * sizeof(Step));

		if (steps == NULL)
			return false;
		postgres->steps = steps;
		postgres->steps_max = max;
	}
	postgres->steps[postgres->nsteps++] = step;
	return true;
}

static bool
send_control(Postgres *postgres, StepKind kind, const char *sql)
{
	return add_step(postgres, (Step) {.kind = kind}) &&
		PQsendQueryParams(postgres->connection, sql, 0, NULL, NULL, NULL, NULL, 0) == 1;
}

bool
pgsink_begin_steps(Postgres *postgres, ModuleError *error)
{
	postgres->nsteps = 0;
	if (PQenterPipelineMode(postgres->connection) == 1)
		return true;
	pgsink_lose(postgres);
	return module_fail(error, false, NULL, "the connection is busy");
}

/* ---- prepared statements ---- */

static void
print_name(char *name, const Postgres *postgres, int statement)
{
	snprintf(name, NAME_MAX_BYTES, "ordflow_%u", postgres->numbers[statement]);
}

static bool
make_room(Postgres *postgres)
{
	if (postgres->nprepared < STATEMENTS_MAX)
		return true;
	while (postgres->nprepared > 0)
	{
		free(postgres->prepared[--postgres->nprepared]);
		postgres->prepared[postgres->nprepared] = NULL;
	}
	return send_control(postgres, STEP_CONTROL, "DEALLOCATE ALL");
}

/* The place of postgres->sql, -1: out of memory.  May send what prepares it. */
static int
prepare(Postgres *postgres, int nparameters)
{
	char		name[NAME_MAX_BYTES];
	int			place = postgres->nprepared;
	int			unused = -1;

	for (int i = 0; i < postgres->nprepared; i++)
	{
		if (postgres->prepared[i] == NULL)
			unused = i;
		else if (strcmp(postgres->prepared[i], postgres->sql.data) == 0)
			return i;
	}
	if (unused >= 0)
		place = unused;
	else if (!make_room(postgres))
		return -1;
	else
		place = postgres->nprepared++;
	postgres->prepared[place] = strdup(postgres->sql.data);
	postgres->numbers[place] = ++postgres->last_number;
	print_name(name, postgres, place);
	if (postgres->prepared[place] == NULL ||
		!add_step(postgres, (Step) {.kind = STEP_PREPARE,.statement = place}) ||
		!PQsendPrepare(postgres->connection, name, postgres->sql.data, nparameters,
					   postgres->types))
		return -1;
	return place;
}

static bool
send_run(Postgres *postgres, const Run *run)
{
	char		name[NAME_MAX_BYTES];
	int			statement;

	pgsink_put_statement(postgres, run);
	if (postgres->sql.failed || !pgsink_set_parameters(postgres, run))
		return false;
	statement = prepare(postgres, run->ncolumns);
	if (statement < 0 || !add_step(postgres, (Step) {.kind = STEP_ITEMS,.run = run}))
		return false;
	print_name(name, postgres, statement);
	return PQsendQueryPrepared(postgres->connection, name, run->ncolumns, postgres->parameters,
							   NULL, NULL, 0) == 1;
}

/* ---- a batch ---- */

/* Another position, or one where there is to be none, is a division by zero. */
static bool
send_position(Postgres *postgres, const SinkBatch *batch)
{
	char		from[SINK_POSITION_TEXT_MAX];
	char		to[SINK_POSITION_TEXT_MAX];
	const char *parameters[] = {postgres->name_space, to, from};

	sink_position_print(&batch->from, from);
	sink_position_print(&batch->to, to);
	pgsink_text_empty(&postgres->sql);
	if (batch->was_empty)
		pgsink_text_printf(&postgres->sql, "WITH moved AS (INSERT INTO %s (name_space, position) "
						   "VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1)",
						   postgres->positions);
	else
		pgsink_text_printf(&postgres->sql, "WITH moved AS (UPDATE %s SET position = $2 WHERE "
						   "name_space = $1 AND position = $3 RETURNING 1)", postgres->positions);
	pgsink_text_printf(&postgres->sql, " SELECT 1 / pg_catalog.count(*) FROM moved");
	return !postgres->sql.failed && add_step(postgres, (Step) {.kind = STEP_POSITION}) &&
		PQsendQueryParams(postgres->connection, postgres->sql.data, batch->was_empty ? 2 : 3, NULL,
						  parameters, NULL, NULL, 0) == 1;
}

bool
pgsink_add_begin(Postgres *postgres, const SinkBatch *batch)
{
	postgres->until = pgsink_clock_ms() + BATCH_TIMEOUTS * pgsink_timeout_ms(postgres);
	return send_control(postgres, STEP_CONTROL, postgres->is_open ? "SAVEPOINT ordflow" :
						"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE") &&
		send_position(postgres, batch);
}

bool
pgsink_add_end(Postgres *postgres, const SinkBatch *batch)
{
	if (postgres->is_open && !send_control(postgres, STEP_CONTROL, "RELEASE SAVEPOINT ordflow"))
		return false;
	return batch->goes_on || send_control(postgres, STEP_COMMIT, "COMMIT");
}

/* ---- answers ---- */

/* What could not be prepared is not there. */
static void
forget_prepared(Postgres *postgres, const Step *step)
{
	if (step->kind != STEP_PREPARE)
		return;
	free(postgres->prepared[step->statement]);
	postgres->prepared[step->statement] = NULL;
}

/* The answer to one step, and the nothing behind it. */
static bool
end_step(Postgres *postgres, const Step *step, const Step **failed, ModuleError *error)
{
	PGresult   *result;
	ExecStatusType status;

	if (!pgsink_next_result(postgres, &result, error))
		return false;
	status = PQresultStatus(result);
	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
	{
		forget_prepared(postgres, step);
		if (*failed == NULL)
		{
			*failed = step;
			(void) pgsink_fail_result(postgres, result, error);
		}
	}
	PQclear(result);
	if (PQstatus(postgres->connection) != CONNECTION_OK)
		return pgsink_lose(postgres);
	if (!pgsink_next_result(postgres, &result, error))
		return false;
	PQclear(result);
	return true;
}

bool
pgsink_end_steps(Postgres *postgres, const Step **failed, ModuleError *error)
{
	PGresult   *result;

	*failed = NULL;
	if (!PQpipelineSync(postgres->connection))
		return pgsink_fail_memory(postgres, error);
	for (int i = 0; i < postgres->nsteps; i++)
		if (!end_step(postgres, &postgres->steps[i], failed, error))
			return false;
	if (!pgsink_next_result(postgres, &result, error))
		return false;
	PQclear(result);
	if (PQexitPipelineMode(postgres->connection) == 1)
		return true;
	pgsink_lose(postgres);
	return module_fail(error, false, NULL, "PostgreSQL answered out of turn");
}

/* ---- what becomes of a batch ---- */

/* Or the connection is lost, which does the same. */
void
pgsink_roll_back(Postgres *postgres, StepKind at)
{
	ModuleError ignored;
	char		sqlstate[sizeof(postgres->sqlstate)];
	bool		to_savepoint = postgres->is_open && at != STEP_COMMIT;

	memcpy(sqlstate, postgres->sqlstate, sizeof(sqlstate));
	if (!pgsink_do(postgres, &ignored, to_savepoint ?
				   "ROLLBACK TO SAVEPOINT ordflow; RELEASE SAVEPOINT ordflow" : "ROLLBACK"))
		pgsink_lose(postgres);
	postgres->is_open &= to_savepoint;
	memcpy(postgres->sqlstate, sqlstate, sizeof(sqlstate));
}

/* Of a statement that was refused: whose fault is it? */
static SinkOutcome
judge(Postgres *postgres, const SinkBatch *batch, const Step *failed, SinkResult *result)
{
	bool		by_zero = strcmp(postgres->sqlstate, SQLSTATE_DIVISION_BY_ZERO) == 0;
	SinkOutcome outcome = pgsink_outcome(postgres->sqlstate);

	if (failed->kind == STEP_POSITION && by_zero)
		return SINK_MOVED;
	/* of earlier batches, too, whose items nobody has any more: all of it is sent again */
	if (failed->kind == STEP_COMMIT && postgres->is_open && outcome == SINK_REJECT)
		return SINK_MISCONFIGURED;
	if (failed->kind == STEP_POSITION && outcome == SINK_REJECT)
		return SINK_MISCONFIGURED;
	if (failed->run == NULL)
		return outcome;
	if (failed->run->n == 1)
		result->rejected = failed->run->items - batch->items;
	if (failed->run->items->op == SINK_PUT && failed->run->items->is_partial && by_zero)
	{
		result->rejected = failed->run->items - batch->items;
		result->lacks_row = true;
		return SINK_REJECT;
	}
	return outcome;
}

static bool
send_all(Postgres *postgres, const SinkBatch *batch, const Runs *runs)
{
	if (!pgsink_add_begin(postgres, batch))
		return false;
	for (int i = 0; i < runs->n; i++)
		if (!send_run(postgres, &runs->runs[i]))
			return false;
	return pgsink_add_end(postgres, batch);
}

static SinkOutcome
apply_runs(Postgres *postgres, const SinkBatch *batch, const Runs *runs, SinkResult *result)
{
	const Step *failed;
	SinkOutcome outcome;

	if (!pgsink_begin_steps(postgres, &result->error))
		return SINK_RETRY;
	if (!send_all(postgres, batch, runs))
	{
		(void) pgsink_fail_memory(postgres, &result->error);
		return SINK_RETRY;
	}
	if (!pgsink_end_steps(postgres, &failed, &result->error))
		return SINK_RETRY;
	if (failed == NULL)
	{
		postgres->is_open = batch->goes_on;
		return SINK_DONE;
	}
	outcome = judge(postgres, batch, failed, result);
	pgsink_roll_back(postgres, failed->kind);
	return outcome;
}

/* Once: by runs, by a COPY, or singly.  *many: something in a run of several is refused. */
static SinkOutcome
attempt(Postgres *postgres, const SinkBatch *batch, bool singly, bool *many, SinkResult *result)
{
	Runs		runs;
	SinkOutcome outcome;

	*many = false;
	result->rejected = -1;
	result->lacks_row = false;
	if (!pgsink_make_runs(postgres, batch->items, batch->n, singly, &runs, &result->error))
		outcome = result->error.misconfigured ? SINK_MISCONFIGURED : SINK_RETRY;
	else
	{
		bool		copied = batch->is_copy && runs.n == 1 && !singly &&
			!runs.runs[0].table->has_rows && runs.runs[0].items->op == SINK_PUT &&
			!runs.runs[0].items->is_partial;

		outcome = copied ? pgsink_copy(postgres, batch, &runs.runs[0], result) : SINK_REJECT;
		if (!copied || outcome == SINK_REJECT)
			outcome = apply_runs(postgres, batch, &runs, result);
		*many = runs.n < batch->n;
	}
	pgsink_free_runs(&runs);
	return outcome;
}

/*
 * Of a table that was altered there the statements are made anew, once.  Where one of many items is
 * refused each goes by itself, which tells which; or that it was their being together, as of keys
 * that differ here and not there.
 */
SinkOutcome
pgsink_apply(void *state, const SinkBatch *batch, SinkResult *result)
{
	Postgres   *postgres = state;
	SinkOutcome outcome;
	bool		many;
	bool		was_open = postgres->is_open;

	if (postgres->connection == NULL)
	{
		(void) module_fail(&result->error, false, NULL, "there is no connection");
		return SINK_RETRY;
	}
	outcome = attempt(postgres, batch, false, &many, result);
	if (outcome == SINK_MISCONFIGURED && !was_open && postgres->connection != NULL)
	{
		pgsink_forget_tables(postgres);
		outcome = attempt(postgres, batch, false, &many, result);
	}
	if (outcome == SINK_REJECT && many && result->rejected < 0 && postgres->connection != NULL)
		outcome = attempt(postgres, batch, true, &many, result);
	if (outcome == SINK_DONE)
		result->rejected = -1;
	return outcome;
}

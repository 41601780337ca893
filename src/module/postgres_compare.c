/*
 * postgres_compare.c
 *	  What a target holds: compared with items, and met row by row.
 *
 * Values are compared as what the columns are, so that 1.0 is 1.00; what has no equality, and
 * texts, whose collation may have another sense of it, as texts, byte by byte.
 */
#include "module/postgres.h"

#define SCAN_ROWS 500

/* ---- compare ---- */

static void
put_same(Text *sql, const Run *run)
{
	pgsink_text_printf(sql, "true");
	for (int i = 0; i < run->ncolumns; i++)
	{
		const TableColumn *column = &run->table->columns[run->columns[i]];

		pgsink_text_printf(sql, " AND t.%s%s IS NOT DISTINCT FROM ", column->quoted,
						   column->by_type ? "" : "::text COLLATE \"C\"");
		pgsink_put_cast(sql, run, i);
		pgsink_text_printf(sql, "%s", column->by_type ? "" : "::text COLLATE \"C\"");
	}
}

/* Gives the numbers, from 1, of the items whose rows are there, and whether they are the same. */
static void
put_comparison(Text *sql, const Run *run)
{
	pgsink_text_empty(sql);
	pgsink_text_printf(sql, "SELECT u.n, ");
	put_same(sql, run);
	pgsink_text_printf(sql, " FROM ");
	pgsink_put_unnest(sql, run);
	pgsink_text_printf(sql, " WITH ORDINALITY AS u (");
	for (int i = 0; i < run->ncolumns; i++)
		pgsink_text_printf(sql, "c%d, ", i);
	pgsink_text_printf(sql, "n) JOIN %s AS t ON ", run->table->name);
	pgsink_put_key_equals(sql, run);
}

/* A value that its column there cannot have is another one. */
static bool
is_other(const Postgres *postgres, const Run *run)
{
	return run->n == 1 && postgres->connection != NULL &&
		pgsink_outcome(postgres->sqlstate) == SINK_REJECT;
}

static bool
compare_run(Postgres *postgres, const Run *run, SinkFound *found, ModuleError *error)
{
	PGresult   *result;

	for (int i = 0; i < run->n; i++)
		found[i] = SINK_FOUND_NOTHING;
	put_comparison(&postgres->sql, run);
	if (postgres->sql.failed || !pgsink_set_parameters(postgres, run))
		return pgsink_fail_memory(postgres, error);
	result = pgsink_query(postgres, error, postgres->sql.data, run->ncolumns, postgres->parameters);
	if (result == NULL && !is_other(postgres, run))
		return false;
	if (result == NULL)
		found[0] = SINK_FOUND_OTHER;
	for (int i = 0; i < PQntuples(result); i++)
		found[atoi(PQgetvalue(result, i, 0)) - 1] = PQgetvalue(result, i, 1)[0] == 't' ?
			SINK_FOUND_SAME : SINK_FOUND_OTHER;
	PQclear(result);
	return true;
}

static bool
compare_all(Postgres *postgres, const SinkItem *items, int n, bool singly, SinkFound *found,
			ModuleError *error)
{
	Runs		runs;
	bool		good = pgsink_make_runs(postgres, items, n, singly, &runs, error);

	for (int i = 0; i < runs.n && good; i++)
		good = compare_run(postgres, &runs.runs[i], found + (runs.runs[i].items - items), error);
	pgsink_free_runs(&runs);
	return good;
}

/* Where a value does not fit its column each item is asked for by itself. */
bool
pgsink_compare(void *state, const SinkItem *items, int n, SinkFound *found, ModuleError *error)
{
	Postgres   *postgres = state;

	postgres->sqlstate[0] = '\0';
	if (postgres->connection == NULL)
		return module_fail(error, false, NULL, "there is no connection");
	if (compare_all(postgres, items, n, false, found, error))
		return true;
	return postgres->connection != NULL && !error->misconfigured &&
		pgsink_outcome(postgres->sqlstate) == SINK_REJECT &&
		compare_all(postgres, items, n, true, found, error);
}

/* ---- scan ---- */

static void
put_key(Text *sql, const TableColumn *key)
{
	pgsink_text_printf(sql, "t.%s%s", key->quoted, key->is_ordered ? "" : "::text COLLATE \"C\"");
}

/* The key as text: as output functions write it, which of booleans is not what a cast says. */
static void
put_key_text(Text *sql, const Table *table)
{
	pgsink_text_printf(sql, "%s", table->nkeys > 1 ? "pg_catalog.jsonb_build_array(" : "");
	for (int i = 0; i < table->nkeys; i++)
		pgsink_text_printf(sql, "%spg_catalog.format('%%s', t.%s)", i > 0 ? ", " : "",
						   table->columns[table->keys[i]].quoted);
	pgsink_text_printf(sql, "%s", table->nkeys > 1 ? ")::text" : "");
}

/* cursor: $1, the key of the row that was met last. */
static void
put_scan(Text *sql, const Table *table, bool is_begun)
{
	pgsink_text_empty(sql);
	pgsink_text_printf(sql, "SELECT ");
	put_key_text(sql, table);
	pgsink_text_printf(sql, " FROM %s AS t WHERE ", table->name);
	for (int i = 0; i < table->nkeys; i++)
		pgsink_text_printf(sql, "%st.%s IS NOT NULL", i > 0 ? " AND " : "",
						   table->columns[table->keys[i]].quoted);
	pgsink_text_printf(sql, "%s", is_begun ? " AND ROW(" : "");
	for (int i = 0; i < table->nkeys && is_begun; i++)
	{
		pgsink_text_printf(sql, "%s", i > 0 ? ", " : "");
		put_key(sql, &table->columns[table->keys[i]]);
	}
	pgsink_text_printf(sql, "%s", is_begun ? ") > ROW(" : "");
	for (int i = 0; i < table->nkeys && is_begun; i++)
	{
		const TableColumn *key = &table->columns[table->keys[i]];

		pgsink_text_printf(sql, "%s(", i > 0 ? ", " : "");
		if (table->nkeys > 1)
			pgsink_text_printf(sql, "$1::jsonb ->> %d", i);
		else
			pgsink_text_printf(sql, "$1::text");
		pgsink_text_printf(sql, ")::%s%s", key->type,
						   key->is_ordered ? "" : "::text COLLATE \"C\"");
	}
	pgsink_text_printf(sql, "%s ORDER BY ", is_begun ? ")" : "");
	for (int i = 0; i < table->nkeys; i++)
	{
		pgsink_text_printf(sql, "%s", i > 0 ? ", " : "");
		put_key(sql, &table->columns[table->keys[i]]);
	}
	pgsink_text_printf(sql, " LIMIT %d", SCAN_ROWS);
}

static bool
move_cursor(const PGresult *result, char *cursor, ModuleError *error)
{
	int			n = PQntuples(result);

	if (n < SCAN_ROWS)
	{
		cursor[0] = '\0';
		return true;
	}
	if (PQgetlength(result, n - 1, 0) >= SINK_CURSOR_MAX)
		return module_fail(error, true, NULL, "a key has more than %d bytes", SINK_CURSOR_MAX - 1);
	strcpy(cursor, PQgetvalue(result, n - 1, 0));
	return true;
}

bool
pgsink_scan(void *state, SinkRoute *route, const char *pattern, char *cursor, SinkMeet meet,
			void *context, ModuleError *error)
{
	Postgres   *postgres = state;
	const SinkItem any = {.op = SINK_PUT,.route = route};
	const char *parameters[] = {cursor};
	Table	   *table;
	PGresult   *result;
	bool		good;

	postgres->sqlstate[0] = '\0';
	if (postgres->connection == NULL)
		return module_fail(error, false, NULL, "there is no connection");
	table = pgsink_table_of(postgres, &any, error);
	if (table == NULL)
		return false;
	put_scan(&postgres->sql, table, cursor[0] != '\0');
	if (postgres->sql.failed)
		return pgsink_fail_memory(postgres, error);
	result = pgsink_query(postgres, error, postgres->sql.data, cursor[0] != '\0' ? 1 : 0,
						  parameters);
	if (result == NULL)
		return false;
	for (int i = 0; i < PQntuples(result); i++)
		if (!meet(context, NULL, 0, PQgetvalue(result, i, 0), PQgetlength(result, i, 0)))
			break;
	good = move_cursor(result, cursor, error);
	PQclear(result);
	return good;
}

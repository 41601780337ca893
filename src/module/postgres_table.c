/*
 * postgres_table.c
 *	  Targets: what the catalog of the other server says of a table.
 *
 * It is read once for each connection, and again when a statement does not fit the table any more.
 * All names in statements come from there, quoted by that server.
 */
#include "module/postgres.h"

enum
{
	RESULT_TABLE, RESULT_NAME, RESULT_QUOTED, RESULT_TYPE, RESULT_GENERATED, RESULT_FIXED,
	RESULT_BY_TYPE, RESULT_ORDERED, RESULT_KEY, RESULT_EQUALS
};

/*
 * $1 the table, $2 the names of the key, none for the primary key.  A row for each column; of a
 * column of the key with its place in the index, from 1, and the index's operator of equality.
 *
 * What has a default operator class of pg_catalog is compared by type, so that 1.0 is 1.00; texts
 * are not, as a collation may take different ones for equal.
 */
static const char read_table[] =
"WITH t AS (SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name"
" FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
" WHERE c.oid = pg_catalog.to_regclass($1)),"
" k AS (SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] AS columns,"
" (i.indclass::oid[])[0:i.indnkeyatts - 1] AS classes"
" FROM t JOIN pg_catalog.pg_index i ON i.indrelid = t.oid"
" WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL"
" AND i.indexprs IS NULL AND CASE WHEN $2::text[] = '{}' THEN i.indisprimary ELSE"
" (SELECT pg_catalog.array_agg(a.attname::text COLLATE \"C\" ORDER BY a.attname::text COLLATE \"C\")"
" FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid"
" AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) ="
" (SELECT pg_catalog.array_agg(x ORDER BY x COLLATE \"C\") FROM pg_catalog.unnest($2::text[]) AS x)"
" END ORDER BY i.indisprimary DESC LIMIT 1)"
" SELECT t.name, a.attname, pg_catalog.quote_ident(a.attname),"
" pg_catalog.format_type(a.atttypid, -1), a.attgenerated <> '', a.attidentity = 'a',"
" b.typcategory <> 'S' AND (b.typtype IN ('r', 'm') OR EXISTS (SELECT FROM pg_catalog.pg_opclass o"
" WHERE o.opcdefault AND o.opcnamespace = 'pg_catalog'::regnamespace"
" AND o.opcintype IN (b.oid, CASE b.typcategory WHEN 'A' THEN b.typelem END))),"
" b.typnamespace = 'pg_catalog'::regnamespace OR b.typtype = 'e',"
" pg_catalog.array_position(k.columns, a.attnum), e.name"
" FROM t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0"
" AND NOT a.attisdropped JOIN pg_catalog.pg_type y ON y.oid = a.atttypid"
" JOIN pg_catalog.pg_type b ON b.oid = CASE y.typtype WHEN 'd' THEN y.typbasetype ELSE y.oid END"
" LEFT JOIN k ON a.attnum = ANY (k.columns)"
" LEFT JOIN LATERAL (SELECT pg_catalog.format('OPERATOR(%I.%s)', n.nspname, o.oprname) AS name"
" FROM pg_catalog.pg_opclass c JOIN pg_catalog.pg_amop m ON m.amopfamily = c.opcfamily"
" AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype AND m.amopstrategy = 3"
" JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr"
" JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace"
" WHERE c.oid = k.classes[pg_catalog.array_position(k.columns, a.attnum)]) e ON true"
" ORDER BY a.attnum";

static void
free_table(Table *table)
{
	PQclear(table->result);
	free(table->target);
	free(table->wanted);
	free(table->columns);
	free(table->keys);
	free(table);
}

void
pgsink_forget_tables(Postgres *postgres)
{
	while (postgres->tables != NULL)
	{
		Table	   *table = postgres->tables;

		postgres->tables = table->next;
		free_table(table);
	}
}

/* A name without a schema is one of schema public; a dot within quotes is none. */
static char *
qualified(const char *target)
{
	bool		quoted = false;
	char	   *name = malloc(strlen(target) + sizeof("public."));

	if (name == NULL)
		return NULL;
	for (const char *c = target; *c; c++)
	{
		quoted ^= *c == '"';
		if (*c == '.' && !quoted)
			return strcpy(name, target);
	}
	return strcat(strcpy(name, "public."), target);
}

static bool
is_true(const PGresult *result, int row, int column)
{
	return strcmp(PQgetvalue(result, row, column), "t") == 0;
}

static void
describe_column(Table *table, int i)
{
	const PGresult *result = table->result;
	TableColumn *column = &table->columns[i];

	column->name = PQgetvalue(result, i, RESULT_NAME);
	column->quoted = PQgetvalue(result, i, RESULT_QUOTED);
	column->type = PQgetvalue(result, i, RESULT_TYPE);
	column->is_generated = is_true(result, i, RESULT_GENERATED);
	column->is_fixed = is_true(result, i, RESULT_FIXED);
	column->by_type = is_true(result, i, RESULT_BY_TYPE);
	column->is_ordered = is_true(result, i, RESULT_ORDERED);
	if (!PQgetisnull(result, i, RESULT_EQUALS))
		column->equals = PQgetvalue(result, i, RESULT_EQUALS);
}

/* In the order of the names, or else in that of the index. */
static void
order_keys(Table *table, int nkeys, const char *const *keys)
{
	for (int i = 0; i < table->ncolumns; i++)
	{
		int			place = atoi(PQgetvalue(table->result, i, RESULT_KEY)) - 1;

		if (table->columns[i].equals == NULL)
			continue;
		table->nkeys++;
		for (int k = 0; k < nkeys; k++)
			if (strcmp(keys[k], table->columns[i].name) == 0)
				place = k;
		table->keys[place] = i;
	}
}

static bool
describe(Table *table, int nkeys, const char *const *keys)
{
	table->ncolumns = PQntuples(table->result);
	table->columns = calloc(table->ncolumns + 1, sizeof(TableColumn));
	table->keys = calloc(table->ncolumns + 1, sizeof(int));
	if (table->columns == NULL || table->keys == NULL)
		return false;
	if (table->ncolumns > 0)
		table->name = PQgetvalue(table->result, 0, RESULT_TABLE);
	for (int i = 0; i < table->ncolumns; i++)
		describe_column(table, i);
	order_keys(table, nkeys, keys);
	return true;
}

static Table *
load(Postgres *postgres, const char *target, const char *wanted, ModuleError *error)
{
	Table	   *table = calloc(1, sizeof(Table));
	char	   *name = qualified(target);
	const char *parameters[] = {name, wanted};
	bool		answered;

	if (table != NULL && name != NULL)
	{
		table->target = strdup(target);
		table->wanted = strdup(wanted);
		table->result = pgsink_query(postgres, error, read_table, 2, parameters);
	}
	free(name);
	answered = table != NULL && table->result != NULL;
	if (answered && table->target != NULL && table->wanted != NULL)
		return table;
	if (table != NULL)
		free_table(table);
	if (answered || table == NULL)
		(void) pgsink_fail_memory(postgres, error);
	return NULL;
}

static Table *
find(Postgres *postgres, const char *target, const char *wanted)
{
	for (Table *table = postgres->tables; table != NULL; table = table->next)
		if (strcmp(table->target, target) == 0 && strcmp(table->wanted, wanted) == 0)
			return table;
	return NULL;
}

Table *
pgsink_table(Postgres *postgres, const char *target, int nkeys, const char *const *keys,
			 ModuleError *error)
{
	Text		wanted = {0};
	Table	   *table = NULL;

	pgsink_text_add(&wanted, "{", 1);
	for (int i = 0; i < nkeys; i++)
	{
		pgsink_text_add(&wanted, ",", i > 0);
		pgsink_text_element(&wanted, keys[i], strlen(keys[i]));
	}
	pgsink_text_add(&wanted, "}", 1);
	if (wanted.failed)
		(void) pgsink_fail_memory(postgres, error);
	else
		table = find(postgres, target, wanted.data);
	if (table == NULL && !wanted.failed)
	{
		table = load(postgres, target, wanted.data, error);
		if (table != NULL && !describe(table, nkeys, keys))
		{
			free_table(table);
			table = NULL;
			(void) pgsink_fail_memory(postgres, error);
		}
		if (table != NULL)
		{
			table->next = postgres->tables;
			postgres->tables = table;
		}
	}
	free(wanted.data);
	return table;
}

Table *
pgsink_table_of(Postgres *postgres, const SinkItem *item, ModuleError *error)
{
	const SinkRoute *route = item->route;
	bool		is_message = item->op == SINK_APPEND;
	const char *target = is_message ? item->target : route->target;
	Table	   *table = pgsink_table(postgres, target, is_message ? 0 : route->nkeys, route->keys,
									 error);

	if (table == NULL)
		return NULL;
	if (table->ncolumns == 0)
		return (void) module_fail(error, true, "Create it there; without a schema it is one of "
								  "schema public.", "there is no table %s", target), NULL;
	if (table->nkeys > 0 || is_message)
		return table;
	if (route->nkeys == 0)
		return (void) module_fail(error, true, "There: ALTER TABLE ... ADD PRIMARY KEY (...);",
								  "table %s has no primary key", table->name), NULL;
	return (void) module_fail(error, true, "There: ALTER TABLE ... ADD PRIMARY KEY (...); or name "
							  "the columns of a unique index by the option key.",
							  "table %s has no unique index on the key %s", table->name,
							  table->wanted), NULL;
}

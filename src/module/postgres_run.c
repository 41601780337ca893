/*
 * postgres_run.c
 *	  Items as statements: what follows each other and is alike goes in one, as arrays.
 *
 * Each parameter is an array of texts, and each of its elements is cast to the type of the column
 * there, without its modifier: a text that is too long is refused and not cut.
 */
#include "module/postgres.h"

#define OID_OF_TEXTS 1009		/* text[] */
#define RUN_BYTES_MAX (16 * 1024 * 1024)

/* ---- runs ---- */

void
pgsink_free_runs(Runs *runs)
{
	for (int i = 0; i < runs->n; i++)
	{
		free(runs->runs[i].columns);
		free(runs->runs[i].fields);
	}
	free(runs->runs);
	free(runs->seen);
	*runs = (Runs) {0};
}

static int
find_field(const SinkItem *item, const char *name)
{
	for (int i = 0; i < item->nfields; i++)
		if (strcmp(item->fields[i].name, name) == 0)
			return i;
	return -1;
}

static int
find_column(const Table *table, const char *name)
{
	for (int i = 0; i < table->ncolumns; i++)
		if (strcmp(table->columns[i].name, name) == 0)
			return i;
	return -1;
}

static bool
is_key_name(const Table *table, const char *name)
{
	int			column = find_column(table, name);

	return column >= 0 && table->columns[column].equals != NULL;
}

/* A message has two columns, which are no fields. */
static const char *const message_columns[] = {"key", "payload"};

static bool
add_column(Run *run, const char *name, int field, ModuleError *error)
{
	int			column = find_column(run->table, name);

	if (column < 0)
		return module_fail(error, true, "Add it there, or name the columns that are to be sent by "
						   "the option columns.", "table %s has no column \"%s\"",
						   run->table->name, name);
	if (run->table->columns[column].is_generated)
		return true;
	run->columns[run->ncolumns] = column;
	run->fields[run->ncolumns++] = field;
	return true;
}

static bool
set_columns(Postgres *postgres, Run *run, ModuleError *error)
{
	const SinkItem *item = run->items;
	bool		is_message = item->op == SINK_APPEND;
	int			n = is_message ? (int) lengthof(message_columns) : item->nfields;

	run->columns = calloc(n + 1, sizeof(int));
	run->fields = calloc(n + 1, sizeof(int));
	if (run->columns == NULL || run->fields == NULL)
		return pgsink_fail_memory(postgres, error);
	if (item->op == SINK_TRUNCATE)
		return true;
	for (int i = 0; i < n; i++)
		if (!(item->op == SINK_DELETE && !is_key_name(run->table, item->fields[i].name)) &&
			!add_column(run, is_message ? message_columns[i] : item->fields[i].name, i, error))
			return false;
	for (int i = 0; i < run->table->nkeys && !is_message; i++)
	{
		const char *key = run->table->columns[run->table->keys[i]].name;

		if (find_field(item, key) < 0)
			return module_fail(error, true, "Name the columns of a unique index there by the "
							   "option key.",
							   "sync \"%s\" is told of rows without \"%s\", the key of %s",
							   item->route->sync, key, run->table->name);
	}
	return true;
}

static bool
begin_run(Postgres *postgres, Runs *runs, const SinkItem *item, ModuleError *error)
{
	Run		   *run;

	if (runs->n == runs->max)
	{
		int			max = Max(16, runs->max * 2);
		Run		   *more = realloc(runs->runs, max * sizeof(Run));

		if (more == NULL)
			return pgsink_fail_memory(postgres, error);
		runs->runs = more;
		runs->max = max;
	}
	run = &runs->runs[runs->n++];
	*run = (Run) {.items = item,.n = 1};
	run->table = pgsink_table_of(postgres, item, error);
	return run->table != NULL && set_columns(postgres, run, error);
}

static uint64
hash_of(const char *text, size_t length)
{
	uint64		hash = UINT64CONST(14695981039346656037);

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char) text[i]) * UINT64CONST(1099511628211);
	return hash | 1;			/* 0 is a free place */
}

/* Notes the key of an item; false: the run has one of that hash already. */
static bool
is_new(Runs *runs, const SinkItem *item)
{
	uint64		hash = hash_of(item->key ? item->key : "", item->key_length);
	int			place = (hash >> 1) & (runs->nseen - 1);

	while (runs->seen[place] != 0)
	{
		if (runs->seen[place] == hash)
			return false;
		place = (place + 1) & (runs->nseen - 1);
	}
	runs->seen[place] = hash;
	return true;
}

static bool
is_alike(const SinkItem *a, const SinkItem *b)
{
	if (a->route != b->route || a->op != b->op || a->is_partial != b->is_partial ||
		a->nfields != b->nfields || a->op == SINK_TRUNCATE)
		return false;
	if (a->op == SINK_APPEND)
		return strcmp(a->target, b->target) == 0;
	for (int i = 0; i < a->nfields; i++)
		if (a->fields[i].name != b->fields[i].name &&
			strcmp(a->fields[i].name, b->fields[i].name) != 0)
			return false;
	return true;
}

static size_t
bytes_of(const SinkItem *item)
{
	size_t		bytes = item->body_length;

	for (int i = 0; i < item->nfields; i++)
		bytes += item->fields[i].length;
	return bytes;
}

bool
pgsink_make_runs(Postgres *postgres, const SinkItem *items, int n, bool singly, Runs *runs,
				 ModuleError *error)
{
	size_t		bytes = 0;

	*runs = (Runs) {.singly = singly,.nseen = 64};
	while (runs->nseen < 2 * n)
		runs->nseen *= 2;
	runs->seen = calloc(runs->nseen, sizeof(uint64));
	if (runs->seen == NULL)
		return pgsink_fail_memory(postgres, error);
	for (int i = 0; i < n; i++)
	{
		Run		   *last = runs->n > 0 ? &runs->runs[runs->n - 1] : NULL;

		bytes += bytes_of(&items[i]);
		if (last != NULL && !singly && bytes <= RUN_BYTES_MAX && is_alike(last->items, &items[i]) &&
			(items[i].op == SINK_APPEND || is_new(runs, &items[i])))
		{
			last->n++;
			continue;
		}
		memset(runs->seen, 0, runs->nseen * sizeof(uint64));
		(void) is_new(runs, &items[i]);
		bytes = bytes_of(&items[i]);
		if (!begin_run(postgres, runs, &items[i], error))
			return false;
	}
	return true;
}

/* ---- values ---- */

SinkField
pgsink_value(const Run *run, int item, int column)
{
	const SinkItem *from = &run->items[item];
	int			field = run->fields[column];

	if (from->op != SINK_APPEND)
		return from->fields[field];
	return field == 0 ? (SinkField) {message_columns[0], from->key, from->key_length} :
		(SinkField) {message_columns[1], from->body, from->body_length};
}

int
pgsink_key_column(const Run *run, int key)
{
	int			column = 0;

	while (run->columns[column] != run->table->keys[key])
		column++;
	return column;
}

static bool
reserve_parameters(Postgres *postgres, int n)
{
	size_t	   *offsets;
	const char **parameters;
	Oid		   *types;

	if (n <= postgres->parameters_max)
		return true;
	offsets = realloc(postgres->offsets, n * sizeof(size_t));
	if (offsets != NULL)
		postgres->offsets = offsets;
	parameters = realloc(postgres->parameters, n * sizeof(char *));
	if (parameters != NULL)
		postgres->parameters = parameters;
	types = realloc(postgres->types, n * sizeof(Oid));
	if (types != NULL)
		postgres->types = types;
	if (offsets == NULL || parameters == NULL || types == NULL)
		return false;
	for (int i = 0; i < n; i++)
		types[i] = OID_OF_TEXTS;
	postgres->parameters_max = n;
	return true;
}

bool
pgsink_set_parameters(Postgres *postgres, const Run *run)
{
	Text	   *values = &postgres->values;

	pgsink_text_empty(values);
	if (!reserve_parameters(postgres, run->ncolumns + 1))
		return false;
	for (int column = 0; column < run->ncolumns; column++)
	{
		postgres->offsets[column] = values->length;
		for (int i = 0; i < run->n; i++)
		{
			SinkField	field = pgsink_value(run, i, column);

			pgsink_text_add(values, i > 0 ? "," : "{", 1);
			pgsink_text_element(values, field.value, field.length);
		}
		pgsink_text_add(values, "}", 2);
	}
	for (int column = 0; column < run->ncolumns && !values->failed; column++)
		postgres->parameters[column] = values->data + postgres->offsets[column];
	return !values->failed;
}

/* ---- statements ---- */

static const char *
quoted(const Run *run, int column)
{
	return run->table->columns[run->columns[column]].quoted;
}

void
pgsink_put_cast(Text *sql, const Run *run, int column)
{
	pgsink_text_printf(sql, "u.c%d::%s", column, run->table->columns[run->columns[column]].type);
}

void
pgsink_put_unnest(Text *sql, const Run *run)
{
	/* of several arguments it is known by this name alone */
	pgsink_text_printf(sql, "unnest(");
	for (int i = 0; i < run->ncolumns; i++)
		pgsink_text_printf(sql, "%s$%d::text[]", i > 0 ? ", " : "", i + 1);
	pgsink_text_printf(sql, ")");
}

static void
put_source(Text *sql, const Run *run)
{
	pgsink_put_unnest(sql, run);
	pgsink_text_printf(sql, " AS u (");
	for (int i = 0; i < run->ncolumns; i++)
		pgsink_text_printf(sql, "%sc%d", i > 0 ? ", " : "", i);
	pgsink_text_printf(sql, ")");
}

void
pgsink_put_key_equals(Text *sql, const Run *run)
{
	for (int i = 0; i < run->table->nkeys; i++)
	{
		const TableColumn *key = &run->table->columns[run->table->keys[i]];

		pgsink_text_printf(sql, "%st.%s %s ", i > 0 ? " AND " : "", key->quoted, key->equals);
		pgsink_put_cast(sql, run, pgsink_key_column(run, i));
	}
}

static bool
is_key(const Run *run, int column)
{
	return run->table->columns[run->columns[column]].equals != NULL;
}

static void
put_insert(Text *sql, const Run *run)
{
	pgsink_text_printf(sql, "INSERT INTO %s (", run->table->name);
	for (int i = 0; i < run->ncolumns; i++)
		pgsink_text_printf(sql, "%s%s", i > 0 ? ", " : "", quoted(run, i));
	pgsink_text_printf(sql, ") OVERRIDING SYSTEM VALUE SELECT ");
	for (int i = 0; i < run->ncolumns; i++)
	{
		pgsink_text_printf(sql, "%s", i > 0 ? ", " : "");
		pgsink_put_cast(sql, run, i);
	}
	pgsink_text_printf(sql, " FROM ");
	put_source(sql, run);
}

static void
put_upsert(Text *sql, const Run *run)
{
	bool		any = false;

	put_insert(sql, run);
	pgsink_text_printf(sql, " ON CONFLICT (");
	for (int i = 0; i < run->table->nkeys; i++)
		pgsink_text_printf(sql, "%s%s", i > 0 ? ", " : "",
						   run->table->columns[run->table->keys[i]].quoted);
	pgsink_text_printf(sql, ") DO ");
	for (int i = 0; i < run->ncolumns; i++)
	{
		if (is_key(run, i) || run->table->columns[run->columns[i]].is_fixed)
			continue;
		pgsink_text_printf(sql, "%s%s = excluded.%s", any ? ", " : "UPDATE SET ", quoted(run, i),
						   quoted(run, i));
		any = true;
	}
	if (!any)
		pgsink_text_printf(sql, "NOTHING");
}

/*
 * What an update left alone is not told, so a row that is missing cannot be made: the division by
 * zero then ends the batch, COMMIT, which is on its way, included.
 */
static void
put_update(Text *sql, const Run *run)
{
	bool		any = false;

	pgsink_text_printf(sql, "WITH done AS (");
	for (int i = 0; i < run->ncolumns; i++)
	{
		if (is_key(run, i) || run->table->columns[run->columns[i]].is_fixed)
			continue;
		if (!any)
			pgsink_text_printf(sql, "UPDATE %s AS t SET ", run->table->name);
		pgsink_text_printf(sql, "%s%s = ", any ? ", " : "", quoted(run, i));
		pgsink_put_cast(sql, run, i);
		any = true;
	}
	if (any)
		pgsink_text_printf(sql, " FROM ");
	else
		pgsink_text_printf(sql, "SELECT 1 FROM %s AS t, ", run->table->name);
	put_source(sql, run);
	pgsink_text_printf(sql, " WHERE ");
	pgsink_put_key_equals(sql, run);
	pgsink_text_printf(sql, "%s) SELECT 1 / (pg_catalog.count(*) = "
					   "pg_catalog.cardinality($1::text[]))::int FROM done",
					   any ? " RETURNING 1" : "");
}

static void
put_delete(Text *sql, const Run *run)
{
	pgsink_text_printf(sql, "DELETE FROM %s AS t USING ", run->table->name);
	put_source(sql, run);
	pgsink_text_printf(sql, " WHERE ");
	pgsink_put_key_equals(sql, run);
}

void
pgsink_put_statement(Postgres *postgres, const Run *run)
{
	Text	   *sql = &postgres->sql;

	pgsink_text_empty(sql);
	if (run->items->op == SINK_TRUNCATE)
		pgsink_text_printf(sql, "TRUNCATE %s", run->table->name);
	else if (run->items->op == SINK_DELETE)
		put_delete(sql, run);
	else if (run->items->op == SINK_APPEND)
		put_insert(sql, run);
	else if (run->items->is_partial)
		put_update(sql, run);
	else
		put_upsert(sql, run);
}

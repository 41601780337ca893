/*
 * attach_key.c
 *	  By which columns the rows of a table are told apart.
 *
 * A unique index of a partitioned table has the columns that it is partitioned by.  Where the
 * state column is one of them it is no part of the key: a row would lose its name with each event.
 * Whoever names a key column may leave out the others too.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_inherits.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "machine/internal.h"

/* An index of the table as it concerns us. */
typedef struct IndexColumns
{
	bool		primary;
	bool		unique;			/* no two rows have the same values */
	int			n;
	AttrNumber	attnums[INDEX_MAX_KEYS];	/* 0: an expression */
} IndexColumns;

/* False where it is of no use, as it is not complete. */
static bool
read_index(Oid indexid, IndexColumns *columns)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(indexid));
	Form_pg_index index;
	bool		valid;

	if (!HeapTupleIsValid(tuple))
		return false;
	index = (Form_pg_index) GETSTRUCT(tuple);
	valid = index->indisvalid;
	columns->primary = index->indisprimary;
	columns->unique = index->indisunique &&
		heap_attisnull(tuple, Anum_pg_index_indpred, NULL);
	columns->n = index->indnkeyatts;
	for (int i = 0; i < columns->n; i++)
		columns->attnums[i] = index->indkey.values[i];
	ReleaseSysCache(tuple);
	return valid;
}

bool
ordflow_attach_has_index(Relation rel, AttrNumber attnum)
{
	ListCell   *cell;
	IndexColumns columns;

	foreach(cell, RelationGetIndexList(rel))
		if (read_index(lfirst_oid(cell), &columns) && columns.attnums[0] == attnum)
			return true;
	return false;
}

bool
ordflow_attach_is_spread_by(Relation rel, const char *column)
{
	ListCell   *cell;
	bool		found = false;

	if (rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return false;
	foreach(cell, find_all_inheritors(RelationGetRelid(rel), NoLock, NULL))
	{
		Relation	part = table_open(lfirst_oid(cell), NoLock);
		AttrNumber	attnum = get_attnum(RelationGetRelid(part), column);
		Bitmapset  *attnums = bms_make_singleton(attnum - FirstLowInvalidHeapAttributeNumber);
		bool		in_expression;

		found = found || (part->rd_rel->relkind == RELKIND_PARTITIONED_TABLE &&
						  has_partition_attrs(part, attnums, &in_expression));
		table_close(part, NoLock);
	}
	return found;
}

/* Is the index of this column alone, or of others too, but only such as rows are spread by? */
static bool
tells_rows_apart(Relation rel, const IndexColumns *columns, AttrNumber attnum)
{
	bool		found = false;

	for (int i = 0; i < columns->n; i++)
	{
		char	   *name = get_attname(RelationGetRelid(rel), columns->attnums[i], true);

		if (columns->attnums[i] != attnum &&
			(name == NULL || !ordflow_attach_is_spread_by(rel, name)))
			return false;
		found = found || columns->attnums[i] == attnum;
	}
	return found && columns->unique;
}

static void
require_unique(Relation rel, const AttachArgs *args)
{
	AttrNumber	attnum = ordflow_attach_require_column(rel, args->key_column)->attnum;
	ListCell   *cell;
	IndexColumns columns;

	foreach(cell, RelationGetIndexList(rel))
		if (read_index(lfirst_oid(cell), &columns) && tells_rows_apart(rel, &columns, attnum))
			return;
	ereport(ERROR,
			errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			errmsg("key column \"%s\" is not unique", args->key_column),
			errhint("Create a unique index on this column alone, or leave key_column out to take the primary key."));
}

/* The columns of the primary key in its order, but for the state column of a partitioned table. */
static List *
primary_key_columns(Relation rel, const char *state_column)
{
	bool		spread = rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
	List	   *names = NIL;
	ListCell   *cell;
	IndexColumns columns;

	foreach(cell, RelationGetIndexList(rel))
	{
		if (!read_index(lfirst_oid(cell), &columns) || !columns.primary)
			continue;
		for (int i = 0; i < columns.n; i++)
		{
			char	   *name = get_attname(RelationGetRelid(rel), columns.attnums[i], false);

			if (!spread || strcmp(name, state_column) != 0)
				names = lappend(names, name);
		}
	}
	return names;
}

static void
require_key(Relation rel, const AttachArgs *args, List *names)
{
	char	   *table = ordflow_machine_table(args->relid);
	ListCell   *cell;

	if (names == NIL)
		ereport(ERROR,
				errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("table %s has no primary key that tells its rows apart", table),
				errhint("Name a unique column as key_column."));
	foreach(cell, names)
		if (strcmp(lfirst(cell), args->state_column) == 0)
			ereport(ERROR,
					errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("state column \"%s\" is part of the key of table %s", args->state_column,
						   table),
					errdetail("A row would have another key after each event."),
					errhint("Name a unique column as key_column."));
}

static MachineTarget *
make_target(const AttachArgs *args, List *names)
{
	char	  **values = palloc(sizeof(char *) * (TARGET_ARGS + KEY_COLUMNS_MAX));
	int			n = TARGET_ARGS;

	values[0] = pstrdup(args->machine != NULL ? args->machine : "");
	values[1] = pstrdup(args->state_column);
	values[2] = linitial(names);
	values[3] = pstrdup(args->due_column != NULL ? args->due_column : "");
	for (int i = 1; i < list_length(names); i++)
		values[n++] = list_nth(names, i);
	return ordflow_machine_target_make(args->relid, values, n);
}

MachineTarget *
ordflow_attach_target(Relation rel, const AttachArgs *args)
{
	List	   *names;

	if (args->key_column != NULL)
	{
		require_unique(rel, args);
		names = list_make1(pstrdup(args->key_column));
	}
	else
		names = primary_key_columns(rel, args->state_column);
	require_key(rel, args, names);
	return make_target(args, names);
}

MachineTarget *
ordflow_attach_target_or_null(Relation rel, const char *state_column)
{
	AttachArgs	args = {.relid = RelationGetRelid(rel), .state_column = state_column};
	List	   *names = primary_key_columns(rel, state_column);

	return names != NIL ? make_target(&args, names) : NULL;
}

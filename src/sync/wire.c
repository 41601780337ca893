/*
 * wire.c
 *	  Changes as records of the spool.
 *
 * Numbers are written as they lie in memory: a spool is read on the machine that wrote it.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "sync/internal.h"

/* What is left of a record. */
typedef struct Cursor
{
	const char *at;
	const char *end;
} Cursor;

static const char *
take(Cursor *cursor, Size n)
{
	const char *taken = cursor->at;

	if ((Size) (cursor->end - cursor->at) < n)
		ereport(ERROR,
				errcode(ERRCODE_DATA_CORRUPTED),
				errmsg("a record of the spool ends too early"));
	cursor->at += n;
	return taken;
}

#define TAKE(cursor, variable) \
	memcpy(&(variable), take((cursor), sizeof(variable)), sizeof(variable))
#define PUT(out, variable) \
	appendBinaryStringInfo((out), (const char *) &(variable), sizeof(variable))

static void
put_text(StringInfo out, const char *text)
{
	uint32		length = strlen(text);

	PUT(out, length);
	appendBinaryStringInfo(out, text, length + 1);
}

static const char *
take_text(Cursor *cursor)
{
	uint32		length;

	TAKE(cursor, length);
	return take(cursor, (Size) length + 1);
}

void
ordflow_wire_relation(StringInfo out, uint32 number, const ChangeRelation *relation)
{
	PUT(out, number);
	PUT(out, relation->relid);
	put_text(out, relation->schema);
	put_text(out, relation->name);
	PUT(out, relation->ncolumns);
	for (int i = 0; i < relation->ncolumns; i++)
	{
		const ChangeColumn *column = &relation->columns[i];

		put_text(out, column->name);
		PUT(out, column->type);
		PUT(out, column->element);
		PUT(out, column->typmod);
		PUT(out, column->is_key);
		PUT(out, column->is_generated);
	}
	PUT(out, relation->nkeys);
	for (int i = 0; i < relation->nkeys; i++)
		PUT(out, relation->keys[i]);
}

/* The relation, with all that it points to, in the current context. */
ChangeRelation *
ordflow_wire_read_relation(const char *data, Size length, uint32 *number)
{
	Cursor		cursor = {data, data + length};
	ChangeRelation *relation = palloc0(sizeof(ChangeRelation));
	int		   *keys;

	TAKE(&cursor, *number);
	TAKE(&cursor, relation->relid);
	relation->schema = pstrdup(take_text(&cursor));
	relation->name = pstrdup(take_text(&cursor));
	TAKE(&cursor, relation->ncolumns);
	relation->columns = palloc0((relation->ncolumns + 1) * sizeof(ChangeColumn));
	for (int i = 0; i < relation->ncolumns; i++)
	{
		ChangeColumn *column = &relation->columns[i];

		column->name = pstrdup(take_text(&cursor));
		TAKE(&cursor, column->type);
		TAKE(&cursor, column->element);
		TAKE(&cursor, column->typmod);
		TAKE(&cursor, column->is_key);
		TAKE(&cursor, column->is_generated);
	}
	TAKE(&cursor, relation->nkeys);
	keys = palloc0((relation->nkeys + 1) * sizeof(int));
	for (int i = 0; i < relation->nkeys; i++)
		TAKE(&cursor, keys[i]);
	relation->keys = keys;
	ordflow_format_relation(relation);
	return relation;
}

static void
put_values(StringInfo out, const ChangeValue *values, int n)
{
	for (int i = 0; i < n; i++)
	{
		char		state = values[i].state;
		uint32		length = values[i].length;

		appendStringInfoCharMacro(out, state);
		if (values[i].state != VALUE_TEXT)
			continue;
		PUT(out, length);
		appendBinaryStringInfo(out, values[i].text, length + 1);
	}
}

static ChangeValue *
take_values(Cursor *cursor, int n)
{
	ChangeValue *values = palloc0((n + 1) * sizeof(ChangeValue));

	for (int i = 0; i < n; i++)
	{
		uint32		length;

		values[i].state = (ValueState) *take(cursor, 1);
		if (values[i].state != VALUE_TEXT)
			continue;
		TAKE(cursor, length);
		values[i].length = length;
		values[i].text = take(cursor, (Size) length + 1);
	}
	return values;
}

/*
 * All but the syncs, which differ from spool to spool: those come behind it, by
 * ordflow_wire_syncs().
 */
void
ordflow_wire_change(StringInfo out, uint32 number, const Change *change, uint64 place,
					bool too_large)
{
	char		op = change->op;
	char		flags = (change->values != NULL ? 1 : 0) | (change->old != NULL ? 2 : 0) |
		(change->old_is_whole ? 4 : 0) | (change->cascade ? 8 : 0) |
		(change->restart_identity ? 16 : 0) | (too_large ? 32 : 0);
	int			n = change->relation->ncolumns;

	PUT(out, number);
	appendStringInfoCharMacro(out, op);
	appendStringInfoCharMacro(out, flags);
	PUT(out, change->lsn);
	PUT(out, place);
	PUT(out, n);
	if (change->values != NULL)
		put_values(out, change->values, n);
	if (change->old != NULL)
		put_values(out, change->old, n);
}

void
ordflow_wire_syncs(StringInfo out, const int64 *sync_ids, int n)
{
	PUT(out, n);
	appendBinaryStringInfo(out, (const char *) sync_ids, n * sizeof(int64));
}

void
ordflow_wire_read_change(const char *data, Size length, WireChange *wire)
{
	Cursor		cursor = {data, data + length};
	Change	   *change = &wire->change;
	char		flags;
	int			n;

	*wire = (WireChange) {0};
	TAKE(&cursor, wire->relation);
	change->op = (ChangeOp) *take(&cursor, 1);
	flags = *take(&cursor, 1);
	TAKE(&cursor, change->lsn);
	TAKE(&cursor, wire->place);
	TAKE(&cursor, n);
	change->old_is_whole = (flags & 4) != 0;
	change->cascade = (flags & 8) != 0;
	change->restart_identity = (flags & 16) != 0;
	wire->too_large = (flags & 32) != 0;
	if (flags & 1)
		change->values = take_values(&cursor, n);
	if (flags & 2)
		change->old = take_values(&cursor, n);
	TAKE(&cursor, wire->nsyncs);
	wire->sync_ids = palloc((wire->nsyncs + 1) * sizeof(int64));
	memcpy(wire->sync_ids, take(&cursor, wire->nsyncs * sizeof(int64)),
		   wire->nsyncs * sizeof(int64));
}

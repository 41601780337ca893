/*
 * format_maxwell.c
 *	  Maxwell's JSON: one row a message.
 *
 *	ts				the commit's time in seconds
 *	xoffset			of the change in its transaction, from 0; of the last one "commit": true
 *					instead
 *	database		the database; the schema, which Maxwell has no place for, is a field of ours
 *					at the end
 *	data, old		numbers, booleans and json as such, bytea as base64, times in UTC without a
 *					zone, infinite ones as the ends of MySQL's range, all else as strings.  What
 *					the WAL does not tell is left out, as of Canal's messages; so is the
 *					truncation of a table, of which Maxwell tells nothing.
 *
 * The key is that of Maxwell's producer for Kafka: {"database":..,"table":..,"pk.id":..}.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "utils/builtins.h"

#include "sync/format_internal.h"

static void
put_value(StringInfo out, const ChangeColumn *column, const ChangeValue *value)
{
	uint8	   *bytes;
	int			nbytes;

	if (value->state != VALUE_TEXT)
	{
		put_literal(out, "null");
		return;
	}
	switch (column->type)
	{
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			ordflow_put_mysql_time(out, column->type, value->text, value->length);
			break;
		case BYTEAOID:
			bytes = ordflow_hex_bytes(value->text, value->length, &nbytes);
			ordflow_put_base64(out, bytes, nbytes);
			break;
		default:
			ordflow_format_value(out, column->type, value->text, value->length);
	}
}

static void
put_row(StringInfo out, const Change *change)
{
	bool		is_first = true;

	put_char(out, '{');
	for (int i = 0; i < change->relation->ncolumns; i++)
	{
		const ChangeValue *value = change->values ? value_after(change, i) : &change->old[i];

		if (!is_known(value))
			continue;
		put_label(out, &change->relation->columns[i], &is_first);
		put_value(out, &change->relation->columns[i], value);
	}
	put_char(out, '}');
}

static void
put_changed(StringInfo out, const Change *change)
{
	bool		is_first = true;

	put_char(out, '{');
	for (int i = 0; change->old && i < change->relation->ncolumns; i++)
	{
		if (!ordflow_column_changed(change, i))
			continue;
		put_label(out, &change->relation->columns[i], &is_first);
		put_value(out, &change->relation->columns[i], &change->old[i]);
	}
	put_char(out, '}');
}

static const ChangeValue *
key_value(const Change *change, int i)
{
	int			column = change->relation->keys[i];

	return change->values ? value_after(change, column) : &change->old[column];
}

static void
put_primary_key(StringInfo out, const Change *change)
{
	const ChangeRelation *relation = change->relation;

	if (relation->nkeys == 0)
		return;
	put_literal(out, ",\"primary_key\":[");
	for (int i = 0; i < relation->nkeys; i++)
	{
		if (i > 0)
			put_char(out, ',');
		put_value(out, &relation->columns[relation->keys[i]], key_value(change, i));
	}
	put_literal(out, "],\"primary_key_columns\":[");
	for (int i = 0; i < relation->nkeys; i++)
	{
		const char *name = relation->columns[relation->keys[i]].name;

		if (i > 0)
			put_char(out, ',');
		ordflow_put_string(out, name, strlen(name));
	}
	put_char(out, ']');
}

static void
put_transaction(StringInfo out, const Change *change)
{
	int64		micros = change->commit_lsn == InvalidXLogRecPtr ?
		ordflow_unix_micros_now() : ordflow_unix_micros(change->committed_at);

	put_literal(out, ",\"ts\":");
	ordflow_put_int64(out, micros / USECS_PER_SEC);
	put_literal(out, ",\"xid\":");
	ordflow_put_int64(out, change->xid);
	if (change->is_last)
		put_literal(out, ",\"commit\":true");
	else
	{
		put_literal(out, ",\"xoffset\":");
		ordflow_put_int64(out, change->ordinal - 1);
	}
}

static void
put_key(StringInfo out, const FormatContext *context, const Change *change)
{
	const ChangeRelation *relation = change->relation;

	put_literal(out, "{\"database\":");
	ordflow_put_string(out, context->database, strlen(context->database));
	put_literal(out, ",\"table\":");
	ordflow_put_string(out, relation->name, strlen(relation->name));
	for (int i = 0; i < relation->nkeys; i++)
	{
		const ChangeColumn *column = &relation->columns[relation->keys[i]];
		char	   *name = psprintf("pk.%s", column->name);
		bool		is_first = false;

		ordflow_put_name(out, name, &is_first);
		put_value(out, column, key_value(change, i));
	}
	put_char(out, '}');
}

static const char *
type_of(const Change *change)
{
	if (change->op == CHANGE_INSERT)
		return change->is_snapshot ? "bootstrap-insert" : "insert";
	return change->op == CHANGE_UPDATE ? "update" : "delete";
}

void
ordflow_format_maxwell(const FormatContext *context, const Change *change, FormatEmit emit,
					   void *arg)
{
	StringInfoData out;
	StringInfoData key = {0};

	if (change->op == CHANGE_TRUNCATE || change->op == CHANGE_MESSAGE ||
		is_nameless_delete(change))
		return;
	initStringInfo(&out);
	put_literal(&out, "{\"database\":");
	ordflow_put_string(&out, context->database, strlen(context->database));
	put_literal(&out, ",\"table\":");
	ordflow_put_string(&out, change->relation->name, strlen(change->relation->name));
	appendStringInfo(&out, ",\"type\":\"%s\"", type_of(change));
	put_transaction(&out, change);
	put_primary_key(&out, change);
	put_literal(&out, ",\"data\":");
	put_row(&out, change);
	if (change->op == CHANGE_UPDATE)
	{
		put_literal(&out, ",\"old\":");
		put_changed(&out, change);
	}
	put_literal(&out, ",\"schema\":");
	ordflow_put_string(&out, change->relation->schema, strlen(change->relation->schema));
	put_char(&out, '}');

	if (!context->without_keys)
	{
		initStringInfo(&key);
		put_key(&key, context, change);
	}
	emit(arg, key.data, key.len, out.data, out.len);
}

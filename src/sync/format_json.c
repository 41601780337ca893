/*
 * format_json.c
 *	  Our own plain JSON.  One object a change, in this order:
 *
 *	op				insert, update, delete, truncate, message
 *	snapshot		true: the row as it stands, from the first load; else left out
 *	schema, table
 *	key				the primary key's columns (else those of the replica identity), of the row
 *					after the change, of a deleted row before it; null: there is none
 *	old				what the WAL tells of the row before: all of it with REPLICA IDENTITY FULL,
 *					else the columns of the replica identity, if the update changed them or the
 *					row was deleted; left out where it tells nothing
 *	new				the row after it; not of a delete
 *	unchanged		names of columns that the WAL does not tell, as the update left their TOASTed
 *					values alone; left out where there are none.  They are not in new.
 *	cascade			of a truncate, and restart_identity
 *	prefix, content	of a message; content as base64
 *	lsn				of the change
 *	xid				of its transaction, and commit_lsn and committed_at, which are left out of a
 *					change that is streamed before it commits; a message without one has none
 *	ordinal			of the change in its transaction, from 1
 *
 * Numbers, booleans and json are themselves; NaN and infinite numbers and all other types are
 * strings as PostgreSQL writes them: dates and times in ISO 8601's way and in UTC, bytea as hex.
 * (lsn, ordinal) grows with every change of a transaction, (commit_lsn, ordinal) from transaction
 * to transaction: who has seen one takes nothing up to it again.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "utils/timestamp.h"
#include "utils/datetime.h"

#include "sync/format_internal.h"

static void
put_hex(StringInfo out, uint32 number)
{
	static const char hex[] = "0123456789ABCDEF";
	int			shift = 28;

	while (shift > 0 && number >> shift == 0)
		shift -= 4;
	for (; shift >= 0; shift -= 4)
		put_char(out, hex[number >> shift & 15]);
}

static void
put_lsn(StringInfo out, XLogRecPtr lsn)
{
	put_char(out, '"');
	put_hex(out, lsn >> 32);
	put_char(out, '/');
	put_hex(out, (uint32) lsn);
	put_char(out, '"');
}

static void
put_two_digits(StringInfo out, int number)
{
	put_char(out, '0' + number / 10);
	put_char(out, '0' + number % 10);
}

static void
put_time(StringInfo out, TimestampTz timestamp)
{
	int64		days = timestamp / USECS_PER_DAY;
	int64		time = timestamp % USECS_PER_DAY;
	int			year;
	int			month;
	int			day;

	if (time < 0)
	{
		time += USECS_PER_DAY;
		days--;
	}
	j2date((int) days + POSTGRES_EPOCH_JDATE, &year, &month, &day);
	put_char(out, '"');
	put_two_digits(out, year / 100);
	put_two_digits(out, year % 100);
	put_char(out, '-');
	put_two_digits(out, month);
	put_char(out, '-');
	put_two_digits(out, day);
	put_char(out, 'T');
	put_two_digits(out, time / USECS_PER_HOUR);
	put_char(out, ':');
	put_two_digits(out, time / USECS_PER_MINUTE % 60);
	put_char(out, ':');
	put_two_digits(out, time / USECS_PER_SEC % 60);
	put_char(out, '.');
	put_two_digits(out, time / 10000 % 100);
	put_two_digits(out, time / 100 % 100);
	put_two_digits(out, time % 100);
	put_literal(out, "Z\"");
}

static void
put_commit(StringInfo out, const Change *change)
{
	put_literal(out, ",\"commit_lsn\":");
	put_lsn(out, change->commit_lsn);
	put_literal(out, ",\"committed_at\":");
	put_time(out, change->committed_at);
}

/* All changes of a transaction have the same: it is written once. */
static void
put_transaction(StringInfo out, const Change *change)
{
	static XLogRecPtr commit_lsn = InvalidXLogRecPtr;
	static TimestampTz committed_at;
	static char text[128];
	static int	length;
	int			start;

	if (TransactionIdIsValid(change->xid))
	{
		put_literal(out, ",\"xid\":");
		ordflow_put_int64(out, change->xid);
	}
	if (change->commit_lsn == InvalidXLogRecPtr)
		return;
	if (change->commit_lsn == commit_lsn && change->committed_at == committed_at)
	{
		put_bytes(out, text, length);
		return;
	}
	start = out->len;
	put_commit(out, change);
	length = out->len - start;
	Assert(length <= sizeof(text));
	memcpy(text, out->data + start, length);
	commit_lsn = change->commit_lsn;
	committed_at = change->committed_at;
}

/* The object of the key's columns, in its order; false, and nothing is put: none is known. */
static bool
put_key(StringInfo out, const ChangeRelation *relation, const ChangeValue *values)
{
	int			start = out->len;
	bool		is_first = true;

	put_char(out, '{');
	for (int i = 0; values && i < relation->nkeys; i++)
	{
		const ChangeColumn *column = &relation->columns[relation->keys[i]];
		const ChangeValue *value = &values[relation->keys[i]];

		if (!is_known(value))
			continue;
		put_label(out, column, &is_first);
		if (value->state == VALUE_TEXT)
			ordflow_format_value(out, column->type, value->text, value->length);
		else
			put_literal(out, "null");
	}
	put_char(out, '}');
	if (!is_first)
		return true;
	out->len = start;
	return false;
}

static void
put_new(StringInfo out, const Change *change)
{
	const ChangeRelation *relation = change->relation;
	bool		is_first = true;
	int			nunchanged = 0;

	put_literal(out, ",\"new\":{");
	for (int i = 0; i < relation->ncolumns; i++)
	{
		const ChangeColumn *column = &relation->columns[i];
		const ChangeValue *value = value_after(change, i);

		if (value->state == VALUE_UNCHANGED)
			nunchanged++;
		if (!is_known(value))
			continue;
		put_label(out, column, &is_first);
		if (value->state == VALUE_TEXT)
			ordflow_format_value(out, column->type, value->text, value->length);
		else
			put_literal(out, "null");
	}
	put_char(out, '}');
	if (nunchanged == 0)
		return;

	put_literal(out, ",\"unchanged\":[");
	for (int i = 0; i < relation->ncolumns; i++)
	{
		if (value_after(change, i)->state != VALUE_UNCHANGED)
			continue;
		ordflow_put_string(out, relation->columns[i].name, strlen(relation->columns[i].name));
		put_char(out, --nunchanged > 0 ? ',' : ']');
	}
}

static void
put_op(StringInfo out, const Change *change)
{
	switch (change->op)
	{
		case CHANGE_INSERT:
			put_literal(out, "{\"op\":\"insert\"");
			break;
		case CHANGE_UPDATE:
			put_literal(out, "{\"op\":\"update\"");
			break;
		case CHANGE_DELETE:
			put_literal(out, "{\"op\":\"delete\"");
			break;
		case CHANGE_TRUNCATE:
			put_literal(out, "{\"op\":\"truncate\"");
			break;
		case CHANGE_MESSAGE:
			put_literal(out, "{\"op\":\"message\"");
			break;
	}
	if (change->is_snapshot)
		put_literal(out, ",\"snapshot\":true");
	if (change->relation == NULL)
		return;
	put_literal(out, ",\"schema\":");
	ordflow_put_string(out, change->relation->schema, strlen(change->relation->schema));
	put_literal(out, ",\"table\":");
	ordflow_put_string(out, change->relation->name, strlen(change->relation->name));
}

static void
put_message(StringInfo out, const Change *change)
{
	put_literal(out, ",\"prefix\":");
	ordflow_put_string(out, change->prefix, strlen(change->prefix));
	put_literal(out, ",\"content\":");
	ordflow_put_base64(out, (const uint8 *) change->content, change->content_length);
}

static void
put_truncate(StringInfo out, const Change *change)
{
	put_literal(out, ",\"cascade\":");
	ordflow_format_value(out, BOOLOID, change->cascade ? "t" : "f", 1);
	put_literal(out, ",\"restart_identity\":");
	ordflow_format_value(out, BOOLOID, change->restart_identity ? "t" : "f", 1);
}

static void
put_rows(StringInfo out, const Change *change)
{
	const ChangeValue *named = change->values ? change->values : change->old;

	put_literal(out, ",\"key\":");
	if (!put_key(out, change->relation, named))
		put_literal(out, "null");
	if (change->old)
	{
		put_literal(out, ",\"old\":");
		ordflow_format_row(out, change->relation, change->old, true);
	}
	if (change->values)
		put_new(out, change);
}

void
ordflow_format_json(const FormatContext *context, const Change *change, FormatEmit emit, void *arg)
{
	const ChangeValue *named = change->values ? change->values : change->old;
	StringInfoData out;
	StringInfoData key;
	bool		has_key = false;

	initStringInfo(&out);
	put_op(&out, change);
	if (change->op == CHANGE_MESSAGE)
		put_message(&out, change);
	else if (change->op == CHANGE_TRUNCATE)
		put_truncate(&out, change);
	else
		put_rows(&out, change);
	put_literal(&out, ",\"lsn\":");
	put_lsn(&out, change->lsn);
	put_transaction(&out, change);
	if (change->ordinal > 0)
	{
		put_literal(&out, ",\"ordinal\":");
		ordflow_put_int64(&out, change->ordinal);
	}
	put_char(&out, '}');

	if (!context->without_keys && change->relation)
	{
		initStringInfo(&key);
		has_key = put_key(&key, change->relation, named);
	}
	emit(arg, has_key ? key.data : NULL, has_key ? key.len : 0, out.data, out.len);
}

void
ordflow_format_json_transaction(const Change *change, const char *op, TransactionId top,
								uint64 changes, FormatEmit emit, void *arg)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfo(&out, "{\"op\":\"%s\"", op);
	put_transaction(&out, change);
	if (TransactionIdIsValid(top))
		appendStringInfo(&out, ",\"top_xid\":%u", top);
	if (changes > 0)
		appendStringInfo(&out, ",\"changes\":" UINT64_FORMAT, changes);
	put_char(&out, '}');
	emit(arg, NULL, 0, out.data, out.len);
}

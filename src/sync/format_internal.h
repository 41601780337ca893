/*
 * format_internal.h
 *	  What the formats share: pieces of JSON, and which value of a change stands where.
 */
#ifndef ORDFLOW_FORMAT_INTERNAL_H
#define ORDFLOW_FORMAT_INTERNAL_H

#include "sync/format.h"

/* Of a transaction that Debezium tells of: how many changes a table had in it. */
typedef struct CollectionCount
{
	const char *schema;
	const char *table;
	uint64		count;
} CollectionCount;

extern void ordflow_format_json(const FormatContext *context, const Change *change,
								FormatEmit emit, void *arg);
extern void ordflow_format_debezium(const FormatContext *context, const Change *change,
									FormatEmit emit, void *arg);
extern void ordflow_format_canal(const FormatContext *context, const Change *change,
								 FormatEmit emit, void *arg);
extern void ordflow_format_maxwell(const FormatContext *context, const Change *change,
								   FormatEmit emit, void *arg);

/*
 * The messages at a transaction's begin and end; of change only what tells of the transaction is
 * read.  op: "begin", "commit", and of streamed parts "stream_start", "stream_abort",
 * "stream_commit"; top: of an aborted subtransaction the one it belongs to.
 */
extern void ordflow_format_json_transaction(const Change *change, const char *op,
											TransactionId top, uint64 changes, FormatEmit emit,
											void *arg);
extern void ordflow_format_debezium_transaction(const FormatContext *context, const Change *change,
												bool is_end, uint64 changes,
												const CollectionCount *collections,
												int ncollections, FormatEmit emit, void *arg);

/* ---- pieces ---- */

static inline void
put_bytes(StringInfo out, const char *bytes, int length)
{
	if (unlikely(out->len + length >= out->maxlen))
		enlargeStringInfo(out, length);
	memcpy(out->data + out->len, bytes, length);
	out->len += length;
	out->data[out->len] = '\0';
}

/* a string literal */
#define put_literal(out, literal) put_bytes(out, literal, sizeof(literal) - 1)

static inline void
put_char(StringInfo out, char c)
{
	appendStringInfoCharMacro(out, c);
}

extern void ordflow_put_int64(StringInfo out, int64 number);

/* Quoted, with what JSON does not take as it is escaped. */
extern void ordflow_put_string(StringInfo out, const char *text, int length);

/* "name": with a comma before it, unless it comes first. */
extern void ordflow_put_name(StringInfo out, const char *name, bool *is_first);

static inline void
put_label(StringInfo out, const ChangeColumn *column, bool *is_first)
{
	if (column->label == NULL)
	{
		ordflow_put_name(out, column->name, is_first);
		return;
	}
	if (!*is_first)
		put_char(out, ',');
	*is_first = false;
	put_bytes(out, column->label, column->label_length);
}

extern void ordflow_put_base64(StringInfo out, const uint8 *bytes, int length);

/* The bytes of bytea's hex notation, in the current context. */
extern uint8 *ordflow_hex_bytes(const char *text, int length, int *nbytes);

/*
 * A date or a time as MySQL writes it: without the offset that timestamptz has in UTC, infinities
 * as the ends of its range.
 */
extern void ordflow_put_mysql_time(StringInfo out, Oid type, const char *text, int length);

/* Is the text of a float or a numeric one that JSON has: neither NaN nor an infinity? */
extern bool ordflow_is_finite(const char *text, int length);

/* ,"sqlType":{..},"mysqlType":{..} */
extern void ordflow_put_canal_types(StringInfo out, const ChangeRelation *relation);

/* ---- changes ---- */

extern int64 ordflow_unix_micros(TimestampTz timestamp);
extern int64 ordflow_unix_micros_now(void);

/*
 * The value after a change; an unchanged TOASTed one comes from the row before where that is known
 * as a whole.
 */
static inline const ChangeValue *
value_after(const Change *change, int i)
{
	if (change->values[i].state == VALUE_UNCHANGED && change->old && change->old_is_whole)
		return &change->old[i];
	return &change->values[i];
}

static inline bool
is_known(const ChangeValue *value)
{
	return value->state == VALUE_NULL || value->state == VALUE_TEXT;
}

/* Did the update change the column?  False where that is not known. */
extern bool ordflow_column_changed(const Change *change, int i);
extern bool ordflow_key_changed(const Change *change);

/*
 * In these formats a delete is told by its row: there is no message where the WAL has nothing of
 * it, as the table has neither a primary key nor a replica identity.
 */
static inline bool
is_nameless_delete(const Change *change)
{
	return change->op == CHANGE_DELETE && change->old == NULL;
}

#endif							/* ORDFLOW_FORMAT_INTERNAL_H */

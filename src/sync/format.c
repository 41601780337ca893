/*
 * format.c
 *	  The formats by name, and what they share.
 *
 * Messages are in the database's encoding, as PostgreSQL's own JSON is: only what JSON asks for is
 * escaped.  In a database that is not UTF8 the reader has to know its encoding.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "datatype/timestamp.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "sync/format_internal.h"

#define UNIX_TO_POSTGRES_MICROS \
	((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

const char *const ordflow_format_names = "json, debezium, canal, maxwell";

static const struct
{
	const char *name;
	void		(*encode) (const FormatContext *context, const Change *change, FormatEmit emit,
						   void *arg);
}			formats[] = {
	[FORMAT_JSON] = {"json", ordflow_format_json},
	[FORMAT_DEBEZIUM] = {"debezium", ordflow_format_debezium},
	[FORMAT_CANAL] = {"canal", ordflow_format_canal},
	[FORMAT_MAXWELL] = {"maxwell", ordflow_format_maxwell}
};

bool
ordflow_format_parse(const char *name, ChangeFormat *format)
{
	for (int i = 0; i < lengthof(formats); i++)
	{
		if (strcmp(name, formats[i].name) != 0)
			continue;
		*format = i;
		return true;
	}
	return false;
}

void
ordflow_format_change(const FormatContext *context, const Change *change, FormatEmit emit,
					  void *arg)
{
	formats[context->format].encode(context, change, emit, arg);
}

/* ---- pieces ---- */

void
ordflow_put_int64(StringInfo out, int64 number)
{
	char		digits[MAXINT8LEN + 1];

	put_bytes(out, digits, pg_lltoa(number, digits));
}

static void
put_escaped(StringInfo out, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	char		escape[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

	switch (c)
	{
		case '"':
			put_literal(out, "\\\"");
			break;
		case '\\':
			put_literal(out, "\\\\");
			break;
		case '\b':
			put_literal(out, "\\b");
			break;
		case '\f':
			put_literal(out, "\\f");
			break;
		case '\n':
			put_literal(out, "\\n");
			break;
		case '\r':
			put_literal(out, "\\r");
			break;
		case '\t':
			put_literal(out, "\\t");
			break;
		default:
			put_bytes(out, escape, sizeof(escape));
	}
}

static inline bool
needs_escape(unsigned char c)
{
	return c < ' ' || c == '"' || c == '\\';
}

void
ordflow_put_string(StringInfo out, const char *text, int length)
{
	const char *end = text + length;

	put_char(out, '"');
	for (;;)
	{
		const char *p = text;

		while (p < end && !needs_escape(*p))
			p++;
		put_bytes(out, text, p - text);
		if (p == end)
			break;
		put_escaped(out, *p);
		text = p + 1;
	}
	put_char(out, '"');
}

void
ordflow_put_name(StringInfo out, const char *name, bool *is_first)
{
	if (!*is_first)
		put_char(out, ',');
	*is_first = false;
	ordflow_put_string(out, name, strlen(name));
	put_char(out, ':');
}

void
ordflow_put_base64(StringInfo out, const uint8 *bytes, int length)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char	   *p;

	enlargeStringInfo(out, (length + 2) / 3 * 4 + 2);
	p = out->data + out->len;
	*p++ = '"';
	for (; length >= 3; bytes += 3, length -= 3)
	{
		*p++ = digits[bytes[0] >> 2];
		*p++ = digits[(bytes[0] & 3) << 4 | bytes[1] >> 4];
		*p++ = digits[(bytes[1] & 15) << 2 | bytes[2] >> 6];
		*p++ = digits[bytes[2] & 63];
	}
	if (length > 0)
	{
		*p++ = digits[bytes[0] >> 2];
		*p++ = digits[(bytes[0] & 3) << 4 | (length == 2 ? bytes[1] >> 4 : 0)];
		*p++ = length == 2 ? digits[(bytes[1] & 15) << 2] : '=';
		*p++ = '=';
	}
	*p++ = '"';
	*p = '\0';
	out->len = p - out->data;
}

static inline int
hex_digit(char c)
{
	return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

uint8 *
ordflow_hex_bytes(const char *text, int length, int *nbytes)
{
	uint8	   *bytes;

	/* "\x" */
	text += 2;
	*nbytes = (length - 2) / 2;
	bytes = palloc(*nbytes + 1);
	for (int i = 0; i < *nbytes; i++)
		bytes[i] = hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]);
	return bytes;
}

bool
ordflow_is_finite(const char *text, int length)
{
	char		last = text[length - 1];

	return last >= '0' && last <= '9';
}

/* Control characters in JSON are white space: inside of its strings they are escaped. */
static void
put_json(StringInfo out, const char *text, int length)
{
	char	   *p;

	put_bytes(out, text, length);
	p = out->data + out->len - length;
	for (int i = 0; i < length; i++)
		if ((unsigned char) p[i] < ' ')
			p[i] = ' ';
}

void
ordflow_format_value(StringInfo out, Oid type, const char *text, int length)
{
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
			put_bytes(out, text, length);
			return;
		case FLOAT4OID:
		case FLOAT8OID:
		case NUMERICOID:
			if (!ordflow_is_finite(text, length))
				break;
			put_bytes(out, text, length);
			return;
		case BOOLOID:
			if (text[0] == 't')
				put_literal(out, "true");
			else
				put_literal(out, "false");
			return;
		case JSONOID:
		case JSONBOID:
			put_json(out, text, length);
			return;
		default:
			break;
	}
	ordflow_put_string(out, text, length);
}

void
ordflow_format_row(StringInfo out, const ChangeRelation *relation, const ChangeValue *values,
				   bool skip_unknown)
{
	bool		is_first = true;

	put_char(out, '{');
	for (int i = 0; i < relation->ncolumns; i++)
	{
		const ChangeColumn *column = &relation->columns[i];
		const ChangeValue *value = &values[i];

		if (skip_unknown && !is_known(value))
			continue;
		put_label(out, column, &is_first);
		if (value->state == VALUE_TEXT)
			ordflow_format_value(out, column->type, value->text, value->length);
		else
			put_literal(out, "null");
	}
	put_char(out, '}');
}

void
ordflow_put_mysql_time(StringInfo out, Oid type, const char *text, int length)
{
	bool		is_date = type == DATEOID;

	/* BC stands behind a date: what begins with a sign is an infinity */
	if (text[0] == 'i')
		appendStringInfo(out, "\"9999-12-31%s\"", is_date ? "" : " 23:59:59.999999");
	else if (text[0] == '-')
		appendStringInfo(out, "\"0001-01-01%s\"", is_date ? "" : " 00:00:00");
	else if (type == TIMESTAMPTZOID && length > 3 && strcmp(text + length - 3, "+00") == 0)
		ordflow_put_string(out, text, length - 3);
	else
		ordflow_put_string(out, text, length);
}

static void
make_label(ChangeColumn *column)
{
	StringInfoData label;
	bool		is_first = true;

	initStringInfo(&label);
	ordflow_put_name(&label, column->name, &is_first);
	column->label = label.data;
	column->label_length = label.len;
}

void
ordflow_format_relation(ChangeRelation *relation)
{
	StringInfoData types;

	for (int i = 0; i < relation->ncolumns; i++)
		make_label(&relation->columns[i]);
	initStringInfo(&types);
	ordflow_put_canal_types(&types, relation);
	relation->types = types.data;
	relation->types_length = types.len;
}

/* ---- changes ---- */

int64
ordflow_unix_micros(TimestampTz timestamp)
{
	return timestamp + UNIX_TO_POSTGRES_MICROS;
}

int64
ordflow_unix_micros_now(void)
{
	return ordflow_unix_micros(GetCurrentTimestamp());
}

bool
ordflow_column_changed(const Change *change, int i)
{
	const ChangeValue *before = &change->old[i];
	const ChangeValue *after = value_after(change, i);

	if (!is_known(before) || !is_known(after))
		return false;
	return before->state != after->state || before->length != after->length ||
		(before->length > 0 && memcmp(before->text, after->text, before->length) != 0);
}

bool
ordflow_key_changed(const Change *change)
{
	if (change->op != CHANGE_UPDATE || change->old == NULL)
		return false;
	for (int i = 0; i < change->relation->nkeys; i++)
		if (ordflow_column_changed(change, change->relation->keys[i]))
			return true;
	return false;
}

/*
 * format_debezium.c
 *	  Messages as the Debezium connector for PostgreSQL writes them with schemas.enable=false, in
 *	  its defaults: adaptive times, precise decimals, json as a string.
 *
 * Where it has no answer, or one that readers of JSON cannot tell from another:
 *
 *	numeric			NaN and infinities are null: the unscaled value has no such thing
 *	date			infinities are the ends of int32
 *	interval		beyond int64, and infinite: its ends
 *	user-defined	as a string (include.unknown.datatypes would have bytes); no hstore to JSON
 *
 * A delete is no message where the WAL does not tell which row it was.
 */
#include "postgres.h"

#include <math.h>

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "sync/format_internal.h"

#define UNAVAILABLE "__debezium_unavailable_value"

/* What it makes of infinite timestamps: the JDBC driver's, in microseconds and as an instant. */
#define POSITIVE_INFINITY INT64CONST(9223372036825200000)
#define NEGATIVE_INFINITY (-INT64CONST(9223372036832400000))
#define POSITIVE_INSTANT "+292278994-08-16T23:00:00Z"
#define NEGATIVE_INSTANT "-292275055-05-16T23:00:00Z"

#define MICROS_PER_MONTH (USECS_PER_DAY * 365.25 / 12)

/* of typmods */
#define NUMERIC_SCALE(typmod) (((((typmod) - (int32) sizeof(int32)) & 0x7ff) ^ 1024) - 1024)

static void put_value(StringInfo out, Oid type, Oid element, int32 typmod, const char *text,
					  int length);

/* ---- dates and times ---- */

static int64
read_digits(const char **at, int *ndigits)
{
	const char *p = *at;
	int64		number = 0;

	for (; *p >= '0' && *p <= '9'; p++)
		number = number * 10 + (*p - '0');
	if (ndigits)
		*ndigits = p - *at;
	*at = p;
	return number;
}

/* hh:mm:ss, with a fraction or without one */
static int64
read_time(const char **at)
{
	int64		time = read_digits(at, NULL) * USECS_PER_HOUR;
	int			ndigits;
	int64		fraction;

	(*at)++;
	time += read_digits(at, NULL) * USECS_PER_MINUTE;
	(*at)++;
	time += read_digits(at, NULL) * USECS_PER_SEC;
	if (**at != '.')
		return time;
	(*at)++;
	fraction = read_digits(at, &ndigits);
	for (; ndigits < 6; ndigits++)
		fraction *= 10;
	return time + fraction;
}

/* Days of a date since 1970; p is left behind it, at the time if there is one. */
static int64
read_date(const char **at, bool is_bc)
{
	int			year = read_digits(at, NULL);
	int			month;
	int			day;

	(*at)++;
	month = read_digits(at, NULL);
	(*at)++;
	day = read_digits(at, NULL);
	return date2j(is_bc ? 1 - year : year, month, day) - UNIX_EPOCH_JDATE;
}

static bool
is_bc(const char *text, int length)
{
	return length > 3 && strcmp(text + length - 3, " BC") == 0;
}

static bool
is_infinite(const char *text)
{
	return text[0] == 'i' || (text[0] == '-' && text[1] == 'i');
}

static void
put_date(StringInfo out, const char *text, int length)
{
	if (is_infinite(text))
		ordflow_put_int64(out, text[0] == '-' ? PG_INT32_MIN : PG_INT32_MAX);
	else
		ordflow_put_int64(out, read_date(&text, is_bc(text, length)));
}

static void
put_timestamp(StringInfo out, const char *text, int length, int32 typmod)
{
	int64		days;
	int64		time;
	int64		micros;

	if (is_infinite(text))
	{
		ordflow_put_int64(out, text[0] == '-' ? NEGATIVE_INFINITY : POSITIVE_INFINITY);
		return;
	}
	/* what begins in 2000 reaches further than what begins in 1970 */
	days = read_date(&text, is_bc(text, length));
	text++;
	time = read_time(&text);
	if (pg_mul_s64_overflow(days, USECS_PER_DAY, &micros) ||
		pg_add_s64_overflow(micros, time, &micros))
		micros = PG_INT64_MAX;
	ordflow_put_int64(out, typmod >= 0 && typmod <= 3 ? micros / 1000 : micros);
}

/* ISO 8601 as java.time writes it: years of four digits at least, with a sign beyond; 1 BC is 0 */
static void
put_timestamptz(StringInfo out, const char *text, int length)
{
	bool		bc = is_bc(text, length);
	const char *rest = text;
	const char *time;
	int64		year;

	if (is_infinite(text))
	{
		if (text[0] == '-')
			put_literal(out, "\"" NEGATIVE_INSTANT "\"");
		else
			put_literal(out, "\"" POSITIVE_INSTANT "\"");
		return;
	}
	year = read_digits(&rest, NULL);
	if (bc)
		year = 1 - year;
	put_char(out, '"');
	if (year >= 0 && year <= 9999)
		appendStringInfo(out, "%04d", (int) year);
	else
		appendStringInfo(out, "%c%04d", year < 0 ? '-' : '+', abs((int) year));
	put_bytes(out, rest, 6);
	put_char(out, 'T');
	time = rest + 7;
	put_bytes(out, time, strcspn(time, "+"));
	put_literal(out, "Z\"");
}

/* hh:mm:ss with its own offset, told in GMT */
static void
put_timetz(StringInfo out, const char *text)
{
	int64		time = read_time(&text);
	int			sign = *text++ == '-' ? -1 : 1;
	int64		offset = read_digits(&text, NULL) * USECS_PER_HOUR;
	int			fraction;

	if (*text == ':')
	{
		text++;
		offset += read_digits(&text, NULL) * USECS_PER_MINUTE;
	}
	if (*text == ':')
	{
		text++;
		offset += read_digits(&text, NULL) * USECS_PER_SEC;
	}
	time = (time - sign * offset) % USECS_PER_DAY;
	if (time < 0)
		time += USECS_PER_DAY;
	fraction = time % USECS_PER_SEC;
	appendStringInfo(out, "\"%02d:%02d:%02d", (int) (time / USECS_PER_HOUR),
					 (int) (time / USECS_PER_MINUTE % 60), (int) (time / USECS_PER_SEC % 60));
	if (fraction != 0)
	{
		appendStringInfo(out, ".%06d", fraction);
		while (out->data[out->len - 1] == '0')
			out->len--;
	}
	put_literal(out, "Z\"");
}

/* ISO 8601's PnYnMnDTnHnMnS, each number with its own sign; a month has 365.25 / 12 days. */
static void
put_interval(StringInfo out, const char *text)
{
	bool		in_time = false;
	double		micros = 0;

	if (is_infinite(text))
	{
		ordflow_put_int64(out, text[0] == '-' ? PG_INT64_MIN : PG_INT64_MAX);
		return;
	}
	for (text++; *text; text++)
	{
		char	   *end;
		double		number;

		if (*text == 'T')
		{
			in_time = true;
			continue;
		}
		number = strtod(text, &end);
		text = end;
		if (*text == 'Y')
			micros += number * 12 * MICROS_PER_MONTH;
		else if (*text == 'M')
			micros += number * (in_time ? (double) USECS_PER_MINUTE : MICROS_PER_MONTH);
		else if (*text == 'D')
			micros += number * USECS_PER_DAY;
		else if (*text == 'H')
			micros += number * USECS_PER_HOUR;
		else
			micros += number * USECS_PER_SEC;
	}
	if (fabs(micros) >= 9.2e18)
		ordflow_put_int64(out, micros < 0 ? PG_INT64_MIN : PG_INT64_MAX);
	else
		ordflow_put_int64(out, llrint(micros));
}

/* ---- decimals ---- */

/* The shortest big-endian two's complement, as BigInteger.toByteArray() has it. */
static void
put_int64_bytes(StringInfo out, int64 number)
{
	uint8		bytes[8];
	int			first = 0;

	for (int i = 0; i < 8; i++)
		bytes[i] = (uint64) number >> (56 - 8 * i);
	while (first < 7 && ((bytes[first] == 0 && bytes[first + 1] < 128) ||
						 (bytes[first] == 255 && bytes[first + 1] >= 128)))
		first++;
	ordflow_put_base64(out, bytes + first, 8 - first);
}

/* The same of any number of digits, of which nine at a time are taken up into limbs. */
static void
put_digits_bytes(StringInfo out, const char *digits, int ndigits, bool negative)
{
	/* 9 digits are less than 32 bits; one more limb for the sign */
	int			nlimbs = ndigits / 9 + 2;
	uint32	   *limbs = palloc0(nlimbs * sizeof(uint32));	/* the lowest first */
	int			used = 0;
	uint8	   *bytes;
	int			first = 0;

	for (int i = 0; i < ndigits;)
	{
		uint64		carry = 0;
		uint32		power = 1;

		for (int n = 0; n < 9 && i < ndigits; n++, i++, power *= 10)
			carry = carry * 10 + (digits[i] - '0');
		for (int j = 0; j < used || carry > 0; j++)
		{
			carry += (uint64) limbs[j] * power;
			limbs[j] = (uint32) carry;
			carry >>= 32;
			used = Max(used, j + 1);
		}
	}
	if (negative)
	{
		uint64		carry = 1;

		for (int j = 0; j < nlimbs; j++)
		{
			carry += (uint32) ~limbs[j];
			limbs[j] = (uint32) carry;
			carry >>= 32;
		}
	}
	bytes = palloc(nlimbs * sizeof(uint32));
	for (int i = 0; i < nlimbs * 4; i++)
		bytes[i] = limbs[nlimbs - 1 - i / 4] >> (24 - 8 * (i % 4));
	/* of zero, which may have many digits, one byte stays */
	while (first < nlimbs * 4 - 1 && ((bytes[first] == 0 && bytes[first + 1] < 128) ||
									  (bytes[first] == 255 && bytes[first + 1] >= 128)))
		first++;
	ordflow_put_base64(out, bytes + first, nlimbs * 4 - first);
	pfree(bytes);
	pfree(limbs);
}

static void
put_unscaled(StringInfo out, const char *digits, int ndigits, bool negative)
{
	const char *p = digits;
	int64		number;

	if (ndigits > 18)
	{
		put_digits_bytes(out, digits, ndigits, negative);
		return;
	}
	number = read_digits(&p, NULL);
	put_int64_bytes(out, negative ? -number : number);
}

/* Without a scale of its own the column's values tell theirs. */
static void
put_decimal(StringInfo out, const char *text, int length, int scale, bool own_scale)
{
	char	   *digits = palloc(length + Max(scale, 0) + 1);
	int			ndigits = 0;
	int			nfraction = 0;
	bool		in_fraction = false;

	for (int i = 0; i < length; i++)
	{
		in_fraction |= text[i] == '.';
		if (text[i] < '0' || text[i] > '9')
			continue;
		digits[ndigits++] = text[i];
		nfraction += in_fraction;
	}
	if (own_scale)
		for (; nfraction < scale; nfraction++)
			digits[ndigits++] = '0';
	/* a scale below zero: the digits it leaves out are zeros, but of zero itself there is one */
	if (own_scale && scale < 0)
		ndigits = Max(ndigits + scale, 1);
	digits[ndigits] = '\0';
	if (own_scale)
		put_unscaled(out, digits, ndigits, text[0] == '-');
	else
	{
		put_literal(out, "{\"scale\":");
		ordflow_put_int64(out, nfraction);
		put_literal(out, ",\"value\":");
		put_unscaled(out, digits, ndigits, text[0] == '-');
		put_char(out, '}');
	}
	pfree(digits);
}

static void
put_numeric(StringInfo out, const char *text, int length, int32 typmod)
{
	if (ordflow_is_finite(text, length))
		put_decimal(out, text, length, typmod < 0 ? 0 : NUMERIC_SCALE(typmod), typmod >= 0);
	else
		put_literal(out, "null");
}

/* ---- other types ---- */

static void
put_bytea(StringInfo out, const char *text, int length)
{
	int			nbytes;
	uint8	   *bytes = ordflow_hex_bytes(text, length, &nbytes);

	ordflow_put_base64(out, bytes, nbytes);
	pfree(bytes);
}

/* Little-endian: the last digit is the lowest bit of the first byte. */
static void
put_bits(StringInfo out, const char *text, int length)
{
	uint8	   *bytes = palloc0(length / 8 + 1);

	for (int i = 0; i < length; i++)
		if (text[length - 1 - i] == '1')
			bytes[i / 8] |= 1 << (i % 8);
	ordflow_put_base64(out, bytes, (length + 7) / 8);
	pfree(bytes);
}

/* (x,y), and once more in the well-known binary form of GIS */
static void
put_point(StringInfo out, const char *text)
{
	char	   *end;
	double		xy[2];
	uint8		wkb[21] = {1, 1};

	xy[0] = strtod(text + 1, &end);
	xy[1] = strtod(end + 1, NULL);
	if (!isfinite(xy[0]) || !isfinite(xy[1]))
	{
		ordflow_put_string(out, text, strlen(text));
		return;
	}
	for (int i = 0; i < 16; i++)
	{
		uint64		bits;

		memcpy(&bits, &xy[i / 8], sizeof(bits));
		wkb[5 + i] = bits >> (8 * (i % 8));
	}
	put_literal(out, "{\"x\":");
	put_bytes(out, text + 1, end - text - 1);
	put_literal(out, ",\"y\":");
	put_bytes(out, end + 1, strlen(end + 1) - 1);
	put_literal(out, ",\"wkb\":");
	ordflow_put_base64(out, wkb, sizeof(wkb));
	put_literal(out, ",\"srid\":null}");
}

/* ---- arrays ---- */

/* One element, quoted or not; p is left behind it. */
static void
put_element(StringInfo out, Oid element, int32 typmod, const char **at)
{
	const char *p = *at;
	bool		quoted = *p == '"';
	StringInfoData text;

	initStringInfo(&text);
	if (quoted)
		p++;
	while (*p && (quoted ? *p != '"' : *p != ',' && *p != '}'))
	{
		if (*p == '\\')
			p++;
		put_char(&text, *p++);
	}
	*at = quoted ? p + 1 : p;
	if (!quoted && strcmp(text.data, "NULL") == 0)
		put_literal(out, "null");
	else
		put_value(out, element, InvalidOid, typmod, text.data, text.len);
	pfree(text.data);
}

/* Arrays of arrays are told as they are; of "[2:3]={1,2}" JSON has no place for the bounds. */
static void
put_array(StringInfo out, Oid element, int32 typmod, const char *text)
{
	const char *p = text;
	int			depth = 0;

	if (*p == '[')
		p = strchr(p, '=') + 1;
	do
	{
		if (*p == '{')
		{
			put_char(out, '[');
			depth++;
			p++;
		}
		else if (*p == '}')
		{
			put_char(out, ']');
			depth--;
			p++;
		}
		else if (*p == ',')
			put_char(out, *p++);
		else
			put_element(out, element, typmod, &p);
	} while (depth > 0);
}

/* ---- values ---- */

static void
put_time_of_day(StringInfo out, const char *text, int32 typmod)
{
	int64		micros = read_time(&text);

	ordflow_put_int64(out, typmod >= 0 && typmod <= 3 ? micros / 1000 : micros);
}

static void
put_value(StringInfo out, Oid type, Oid element, int32 typmod, const char *text, int length)
{
	switch (type)
	{
		case NUMERICOID:
			put_numeric(out, text, length, typmod);
			return;
		case CASHOID:
			put_decimal(out, text, length, 2, true);
			return;
		case DATEOID:
			put_date(out, text, length);
			return;
		case TIMEOID:
			put_time_of_day(out, text, typmod);
			return;
		case TIMETZOID:
			put_timetz(out, text);
			return;
		case TIMESTAMPOID:
			put_timestamp(out, text, length, typmod);
			return;
		case TIMESTAMPTZOID:
			put_timestamptz(out, text, length);
			return;
		case INTERVALOID:
			put_interval(out, text);
			return;
		case BYTEAOID:
			put_bytea(out, text, length);
			return;
		case BITOID:
			if (typmod == 1)
				ordflow_format_value(out, BOOLOID, text[0] == '1' ? "t" : "f", 1);
			else
				put_bits(out, text, length);
			return;
		case VARBITOID:
			put_bits(out, text, length);
			return;
		case POINTOID:
			put_point(out, text);
			return;
		case JSONOID:
		case JSONBOID:
			ordflow_put_string(out, text, length);
			return;
		default:
			break;
	}
	if (OidIsValid(element) && (text[0] == '{' || text[0] == '['))
		put_array(out, element, typmod, text);
	else
		ordflow_format_value(out, type, text, length);
}

static void
put_unavailable(StringInfo out, const ChangeColumn *column)
{
	const char *placeholder = UNAVAILABLE;

	if (OidIsValid(column->element))
		put_char(out, '[');
	if (column->type == BYTEAOID || column->element == BYTEAOID)
		ordflow_put_base64(out, (const uint8 *) placeholder, strlen(placeholder));
	else
		ordflow_put_string(out, placeholder, strlen(placeholder));
	if (OidIsValid(column->element))
		put_char(out, ']');
}

static void
put_column(StringInfo out, const ChangeColumn *column, const ChangeValue *value, bool *is_first)
{
	put_label(out, column, is_first);
	switch (value->state)
	{
		case VALUE_TEXT:
			put_value(out, column->type, column->element, column->typmod, value->text,
					  value->length);
			break;
		case VALUE_UNCHANGED:
			put_unavailable(out, column);
			break;
		default:
			put_literal(out, "null");
	}
}

static void
put_row(StringInfo out, const Change *change, bool is_after)
{
	bool		is_first = true;

	if (is_after ? change->values == NULL : change->old == NULL)
	{
		put_literal(out, "null");
		return;
	}
	put_char(out, '{');
	for (int i = 0; i < change->relation->ncolumns; i++)
		put_column(out, &change->relation->columns[i],
				   is_after ? value_after(change, i) : &change->old[i], &is_first);
	put_char(out, '}');
}

/* ---- messages ---- */

/* One number three times; nanoseconds are told as digits, so no year is too late for int64. */
static void
put_times(StringInfo out, int64 micros)
{
	char		digits[MAXINT8LEN + 1];
	int			length = pg_lltoa(micros, digits);

	put_literal(out, "\"ts_ms\":");
	ordflow_put_int64(out, micros / 1000);
	put_literal(out, ",\"ts_us\":");
	put_bytes(out, digits, length);
	put_literal(out, ",\"ts_ns\":");
	put_bytes(out, digits, length);
	put_literal(out, "000");
}

/* The sequence is a string that holds a JSON array of two strings. */
static void
put_sequence(StringInfo out, const FormatContext *context, const Change *change)
{
	put_literal(out, ",\"sequence\":\"[");
	if (context->previous_commit == InvalidXLogRecPtr)
		put_literal(out, "null");
	else
	{
		put_literal(out, "\\\"");
		ordflow_put_int64(out, context->previous_commit);
		put_literal(out, "\\\"");
	}
	put_literal(out, ",\\\"");
	ordflow_put_int64(out, change->lsn);
	put_literal(out, "\\\"]\"");
}

static void
put_source(StringInfo out, const FormatContext *context, const Change *change)
{
	/* a message has no table */
	const char *schema = change->relation ? change->relation->schema : "";
	const char *table = change->relation ? change->relation->name : "";
	int64		committed_at = change->commit_lsn == InvalidXLogRecPtr ?
		ordflow_unix_micros_now() : ordflow_unix_micros(change->committed_at);

	put_literal(out, "\"source\":{\"version\":\"" ORDFLOW_VERSION
				"\",\"connector\":\"postgresql\",\"name\":");
	ordflow_put_string(out, context->origin, strlen(context->origin));
	put_char(out, ',');
	put_times(out, committed_at);
	if (change->is_snapshot)
		put_literal(out, ",\"snapshot\":\"true\",\"db\":");
	else
		put_literal(out, ",\"snapshot\":\"false\",\"db\":");
	ordflow_put_string(out, context->database, strlen(context->database));
	put_sequence(out, context, change);
	put_literal(out, ",\"schema\":");
	ordflow_put_string(out, schema, strlen(schema));
	put_literal(out, ",\"table\":");
	ordflow_put_string(out, table, strlen(table));
	put_literal(out, ",\"txId\":");
	if (TransactionIdIsValid(change->xid))
		ordflow_put_int64(out, change->xid);
	else
		put_literal(out, "null");
	put_literal(out, ",\"lsn\":");
	ordflow_put_int64(out, change->lsn);
	put_literal(out, ",\"xmin\":null}");
}

static void
put_transaction_id(StringInfo out, const Change *change)
{
	put_literal(out, "\"id\":\"");
	ordflow_put_int64(out, change->xid);
	put_char(out, ':');
	ordflow_put_int64(out, change->commit_lsn);
	put_char(out, '"');
}

/* All that stands behind the row. */
static void
put_rest(StringInfo out, const FormatContext *context, const Change *change, char op)
{
	put_source(out, context, change);
	put_literal(out, ",\"op\":\"");
	put_char(out, op);
	put_literal(out, "\",");
	put_times(out, ordflow_unix_micros_now());
	put_literal(out, ",\"transaction\":");
	if (context->collection_order == 0)
		put_literal(out, "null");
	else
	{
		put_char(out, '{');
		put_transaction_id(out, change);
		put_literal(out, ",\"total_order\":");
		ordflow_put_int64(out, change->ordinal);
		put_literal(out, ",\"data_collection_order\":");
		ordflow_put_int64(out, context->collection_order);
		put_char(out, '}');
	}
}

/* NULL: no key. */
static char *
make_key(const FormatContext *context, const Change *change, bool is_after, int *length)
{
	const ChangeRelation *relation = change->relation;
	StringInfoData key;
	bool		is_first = true;

	*length = 0;
	if (context->without_keys || relation->nkeys == 0)
		return NULL;
	initStringInfo(&key);
	put_char(&key, '{');
	for (int i = 0; i < relation->nkeys; i++)
	{
		int			column = relation->keys[i];

		put_column(&key, &relation->columns[column],
				   is_after ? value_after(change, column) : &change->old[column], &is_first);
	}
	put_char(&key, '}');
	*length = key.len;
	return key.data;
}

/* before and after say which of the two rows are told. */
static void
emit_row(const FormatContext *context, const Change *change, char op, bool before, bool after,
		 FormatEmit emit, void *arg)
{
	StringInfoData out;
	int			key_length;
	char	   *key = make_key(context, change, after, &key_length);

	initStringInfo(&out);
	put_literal(&out, "{\"before\":");
	if (before)
		put_row(&out, change, false);
	else
		put_literal(&out, "null");
	put_literal(&out, ",\"after\":");
	if (after)
		put_row(&out, change, true);
	else
		put_literal(&out, "null");
	put_char(&out, ',');
	put_rest(&out, context, change, op);
	put_char(&out, '}');
	emit(arg, key, key_length, out.data, out.len);
	if (op == 'd' && context->tombstones && (key || context->without_keys))
		emit(arg, key, key_length, NULL, 0);
}

static void
emit_truncate(const FormatContext *context, const Change *change, FormatEmit emit, void *arg)
{
	StringInfoData out;

	initStringInfo(&out);
	put_literal(&out, "{\"before\":null,\"after\":null,");
	put_rest(&out, context, change, 't');
	put_char(&out, '}');
	emit(arg, NULL, 0, out.data, out.len);
}

static void
emit_message(const FormatContext *context, const Change *change, FormatEmit emit, void *arg)
{
	StringInfoData key;
	StringInfoData out;

	initStringInfo(&key);
	put_literal(&key, "{\"prefix\":");
	ordflow_put_string(&key, change->prefix, strlen(change->prefix));
	put_char(&key, '}');

	initStringInfo(&out);
	put_char(&out, '{');
	put_rest(&out, context, change, 'm');
	put_literal(&out, ",\"message\":{\"prefix\":");
	ordflow_put_string(&out, change->prefix, strlen(change->prefix));
	put_literal(&out, ",\"content\":");
	ordflow_put_base64(&out, (const uint8 *) change->content, change->content_length);
	put_literal(&out, "}}");
	emit(arg, context->without_keys ? NULL : key.data, context->without_keys ? 0 : key.len,
		 out.data, out.len);
}

void
ordflow_format_debezium(const FormatContext *context, const Change *change, FormatEmit emit,
						void *arg)
{
	if (is_nameless_delete(change))
		return;
	switch (change->op)
	{
		case CHANGE_INSERT:
			emit_row(context, change, change->is_snapshot ? 'r' : 'c', false, true, emit, arg);
			break;
		case CHANGE_UPDATE:
			if (ordflow_key_changed(change))
			{
				emit_row(context, change, 'd', true, false, emit, arg);
				emit_row(context, change, 'c', false, true, emit, arg);
			}
			else
				emit_row(context, change, 'u', true, true, emit, arg);
			break;
		case CHANGE_DELETE:
			emit_row(context, change, 'd', true, false, emit, arg);
			break;
		case CHANGE_TRUNCATE:
			emit_truncate(context, change, emit, arg);
			break;
		case CHANGE_MESSAGE:
			emit_message(context, change, emit, arg);
			break;
	}
}

/* ---- transactions ---- */

static void
put_collections(StringInfo out, const CollectionCount *collections, int ncollections)
{
	for (int i = 0; i < ncollections; i++)
	{
		char	   *name = psprintf("%s.%s", collections[i].schema, collections[i].table);

		put_literal(out, "{\"data_collection\":");
		ordflow_put_string(out, name, strlen(name));
		put_literal(out, ",\"event_count\":");
		ordflow_put_int64(out, collections[i].count);
		put_char(out, '}');
		if (i < ncollections - 1)
			put_char(out, ',');
	}
}

void
ordflow_format_debezium_transaction(const FormatContext *context, const Change *change,
									bool is_end, uint64 changes,
									const CollectionCount *collections, int ncollections,
									FormatEmit emit, void *arg)
{
	StringInfoData key;
	StringInfoData out;

	initStringInfo(&key);
	put_char(&key, '{');
	put_transaction_id(&key, change);
	put_char(&key, '}');

	initStringInfo(&out);
	appendStringInfo(&out, "{\"status\":\"%s\",", is_end ? "END" : "BEGIN");
	put_transaction_id(&out, change);
	put_literal(&out, ",\"ts_ms\":");
	ordflow_put_int64(&out, ordflow_unix_micros(change->committed_at) / 1000);
	if (is_end)
	{
		put_literal(&out, ",\"event_count\":");
		ordflow_put_int64(&out, changes);
		put_literal(&out, ",\"data_collections\":[");
		put_collections(&out, collections, ncollections);
		put_literal(&out, "]}");
	}
	else
		put_literal(&out, ",\"event_count\":null,\"data_collections\":null}");
	emit(arg, context->without_keys ? NULL : key.data, context->without_keys ? 0 : key.len,
		 out.data, out.len);
}

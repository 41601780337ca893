/*
 * format_canal.c
 *	  Canal's FlatMessage: one row a message, every value a string or null.
 *
 * Canal knows MySQL, so types and values are told as MySQL has them: booleans 1 and 0, times in
 * UTC without a zone, bytea as its bytes taken for characters of ISO 8859-1, infinite times as the
 * ends of MySQL's range.  Types it has not are strings as PostgreSQL writes them.
 *
 *	id				the change's LSN as a number
 *	database		the database; the schema, which Canal has no place for, is a field of ours at
 *					the end
 *	data			without columns that the WAL does not tell: TOASTed values that the update
 *					left alone, and of a deleted row what is not in the replica identity.  A
 *					reader that takes what is missing for null needs REPLICA IDENTITY FULL: with
 *					it nothing is missing.
 *	old				the columns that the update changed, as far as the WAL tells: with REPLICA
 *					IDENTITY FULL all of them, else those of the key; [{}] where it tells none
 *	isDdl, sql		of a TRUNCATE, which has no data; "type" is TRUNCATE
 *
 * Messages of pg_logical_emit_message() and deletes without a replica identity are left out.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "sync/format_internal.h"

/* java.sql.Types */
enum
{
	SQL_BIT = -7, SQL_BIGINT = -5, SQL_CHAR = 1, SQL_DECIMAL = 3, SQL_INTEGER = 4, SQL_SMALLINT = 5,
	SQL_REAL = 7, SQL_DOUBLE = 8, SQL_VARCHAR = 12, SQL_DATE = 91, SQL_TIME = 92,
	SQL_TIMESTAMP = 93, SQL_BLOB = 2004, SQL_CLOB = 2005
};

static const struct
{
	Oid			type;
	int			sql;
	const char *mysql;
}			types[] = {
	{BOOLOID, SQL_BIT, "tinyint(1)"},
	{INT2OID, SQL_SMALLINT, "smallint"},
	{INT4OID, SQL_INTEGER, "int"},
	{INT8OID, SQL_BIGINT, "bigint"},
	{OIDOID, SQL_BIGINT, "int unsigned"},
	{FLOAT4OID, SQL_REAL, "float"},
	{FLOAT8OID, SQL_DOUBLE, "double"},
	{NUMERICOID, SQL_DECIMAL, "decimal"},
	{BPCHAROID, SQL_CHAR, "char"},
	{VARCHAROID, SQL_VARCHAR, "varchar"},
	{UUIDOID, SQL_CHAR, "char(36)"},
	{TEXTOID, SQL_CLOB, "longtext"},
	{DATEOID, SQL_DATE, "date"},
	{TIMEOID, SQL_TIME, "time(6)"},
	{TIMESTAMPOID, SQL_TIMESTAMP, "datetime(6)"},
	{TIMESTAMPTZOID, SQL_TIMESTAMP, "timestamp(6)"},
	{BYTEAOID, SQL_BLOB, "longblob"},
	{JSONOID, SQL_VARCHAR, "json"},
	{JSONBOID, SQL_VARCHAR, "json"}
};

#define NTYPES lengthof(types)

static int
type_of(Oid type)
{
	int			i = 0;

	while (i < NTYPES && types[i].type != type)
		i++;
	return i;
}

static void
put_mysql_type(StringInfo out, const ChangeColumn *column)
{
	int			i = type_of(column->type);
	int32		typmod = column->typmod - (int32) sizeof(int32);

	if (i == NTYPES)
		put_literal(out, "\"longtext\"");
	else if (column->type == NUMERICOID && typmod >= 0)
		appendStringInfo(out, "\"decimal(%d,%d)\"", typmod >> 16 & 0xffff,
						 ((typmod & 0x7ff) ^ 1024) - 1024);
	else if (column->type == VARCHAROID && typmod < 0)
		put_literal(out, "\"longtext\"");
	else if ((column->type == VARCHAROID || column->type == BPCHAROID) && typmod >= 0)
		appendStringInfo(out, "\"%s(%d)\"", types[i].mysql, typmod);
	else
		appendStringInfo(out, "\"%s\"", types[i].mysql);
}

void
ordflow_put_canal_types(StringInfo out, const ChangeRelation *relation)
{
	bool		is_first = true;

	put_literal(out, ",\"sqlType\":{");
	for (int i = 0; i < relation->ncolumns; i++)
	{
		int			type = type_of(relation->columns[i].type);

		put_label(out, &relation->columns[i], &is_first);
		ordflow_put_int64(out, type < NTYPES ? types[type].sql : SQL_VARCHAR);
	}
	put_literal(out, "},\"mysqlType\":{");
	is_first = true;
	for (int i = 0; i < relation->ncolumns; i++)
	{
		put_label(out, &relation->columns[i], &is_first);
		put_mysql_type(out, &relation->columns[i]);
	}
	put_char(out, '}');
}

/* Above ASCII escaped, as the database's encoding may have other characters there. */
static void
put_latin1(StringInfo out, const char *text, int length)
{
	int			nbytes;
	uint8	   *bytes = ordflow_hex_bytes(text, length, &nbytes);

	put_char(out, '"');
	for (int i = 0; i < nbytes; i++)
	{
		if (bytes[i] < ' ' || bytes[i] > '~' || bytes[i] == '"' || bytes[i] == '\\')
			appendStringInfo(out, "\\u%04x", bytes[i]);
		else
			put_char(out, bytes[i]);
	}
	put_char(out, '"');
	pfree(bytes);
}

static void
put_value(StringInfo out, Oid type, const char *text, int length)
{
	switch (type)
	{
		case BOOLOID:
			if (text[0] == 't')
				put_literal(out, "\"1\"");
			else
				put_literal(out, "\"0\"");
			break;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			ordflow_put_mysql_time(out, type, text, length);
			break;
		case BYTEAOID:
			put_latin1(out, text, length);
			break;
		default:
			ordflow_put_string(out, text, length);
	}
}

static void
put_column(StringInfo out, const ChangeColumn *column, const ChangeValue *value, bool *is_first)
{
	put_label(out, column, is_first);
	if (value->state == VALUE_TEXT)
		put_value(out, column->type, value->text, value->length);
	else
		put_literal(out, "null");
}

static void
put_data(StringInfo out, const Change *change)
{
	bool		is_first = true;

	put_literal(out, ",\"data\":[{");
	for (int i = 0; i < change->relation->ncolumns; i++)
	{
		const ChangeValue *value = change->values ? value_after(change, i) : &change->old[i];

		if (is_known(value))
			put_column(out, &change->relation->columns[i], value, &is_first);
	}
	put_literal(out, "}]");
}

static void
put_old(StringInfo out, const Change *change)
{
	bool		is_first = true;

	if (change->op != CHANGE_UPDATE)
	{
		put_literal(out, ",\"old\":null");
		return;
	}
	put_literal(out, ",\"old\":[{");
	for (int i = 0; change->old && i < change->relation->ncolumns; i++)
		if (ordflow_column_changed(change, i))
			put_column(out, &change->relation->columns[i], &change->old[i], &is_first);
	put_literal(out, "}]");
}

static void
put_key_names(StringInfo out, const ChangeRelation *relation)
{
	if (relation->nkeys == 0)
	{
		put_literal(out, ",\"pkNames\":null");
		return;
	}
	put_literal(out, ",\"pkNames\":[");
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
put_head(StringInfo out, const FormatContext *context, const Change *change, const char *type)
{
	bool		is_ddl = change->op == CHANGE_TRUNCATE;
	int64		now = ordflow_unix_micros_now();
	int64		committed_at = change->commit_lsn == InvalidXLogRecPtr ? now :
		ordflow_unix_micros(change->committed_at);

	put_literal(out, "{\"id\":");
	ordflow_put_int64(out, change->lsn);
	put_literal(out, ",\"database\":");
	ordflow_put_string(out, context->database, strlen(context->database));
	put_literal(out, ",\"table\":");
	ordflow_put_string(out, change->relation->name, strlen(change->relation->name));
	put_key_names(out, change->relation);
	put_literal(out, ",\"isDdl\":");
	ordflow_format_value(out, BOOLOID, is_ddl ? "t" : "f", 1);
	put_literal(out, ",\"type\":\"");
	put_bytes(out, type, strlen(type));
	put_literal(out, "\",\"es\":");
	ordflow_put_int64(out, committed_at / 1000);
	put_literal(out, ",\"ts\":");
	ordflow_put_int64(out, now / 1000);
	put_literal(out, ",\"sql\":");
	if (is_ddl)
	{
		const char *sql = psprintf("TRUNCATE TABLE %s",
								   quote_qualified_identifier(change->relation->schema,
															  change->relation->name));

		ordflow_put_string(out, sql, strlen(sql));
	}
	else
		put_literal(out, "\"\"");
}

void
ordflow_format_canal(const FormatContext *context, const Change *change, FormatEmit emit, void *arg)
{
	static const char *const names[] = {
		[CHANGE_INSERT] = "INSERT",
		[CHANGE_UPDATE] = "UPDATE",
		[CHANGE_DELETE] = "DELETE",
		[CHANGE_TRUNCATE] = "TRUNCATE"
	};
	StringInfoData out;

	if (change->op == CHANGE_MESSAGE || is_nameless_delete(change))
		return;
	initStringInfo(&out);
	put_head(&out, context, change, names[change->op]);
	if (change->op == CHANGE_TRUNCATE)
		put_literal(&out, ",\"sqlType\":null,\"mysqlType\":null,\"data\":null,\"old\":null");
	else
	{
		if (change->relation->types)
			put_bytes(&out, change->relation->types, change->relation->types_length);
		else
			ordflow_put_canal_types(&out, change->relation);
		put_data(&out, change);
		put_old(&out, change);
	}
	put_literal(&out, ",\"gtid\":\"\",\"schema\":");
	ordflow_put_string(&out, change->relation->schema, strlen(change->relation->schema));
	put_char(&out, '}');
	emit(arg, NULL, 0, out.data, out.len);
}

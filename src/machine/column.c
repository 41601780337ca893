/*
 * column.c
 *	  State columns: of which types they may be, and states as text.
 *
 * A state is the text of its value: 'paid', '20', 'true'.  The types are those whose values have
 * one text each, so that comparing texts is comparing values.
 */
#include "postgres.h"

#include "catalog/pg_attribute.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "machine/internal.h"

/* the text of any bigint, with its sign */
#define NUMBER_LENGTH 24

bool
ordflow_state_type_fits(Oid type)
{
	static const Oid types[] = {TEXTOID, VARCHAROID, BPCHAROID, INT2OID, INT4OID, INT8OID, BOOLOID};

	for (int i = 0; i < lengthof(types); i++)
		if (getBaseType(type) == types[i])
			return true;
	return get_typtype(getBaseType(type)) == TYPTYPE_ENUM;
}

static char *
enum_text(Oid value)
{
	HeapTuple	tuple = SearchSysCache1(ENUMOID, ObjectIdGetDatum(value));
	char	   *text;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for enum value %u", value);
	text = pstrdup(NameStr(((Form_pg_enum) GETSTRUCT(tuple))->enumlabel));
	ReleaseSysCache(tuple);
	return text;
}

static char *
number_text(int64 value)
{
	char	   *text = palloc(NUMBER_LENGTH);

	pg_lltoa(value, text);
	return text;
}

char *
ordflow_state_text(Oid type, Datum value)
{
	char	   *state;

	switch (type)
	{
		case TEXTOID:
		case VARCHAROID:
			return TextDatumGetCString(value);
		case BPCHAROID:
			state = TextDatumGetCString(value);
			state[bpchartruelen(state, strlen(state))] = '\0';
			return state;
		case INT2OID:
			return number_text(DatumGetInt16(value));
		case INT4OID:
			return number_text(DatumGetInt32(value));
		case INT8OID:
			return number_text(DatumGetInt64(value));
		case BOOLOID:
			return pstrdup(DatumGetBool(value) ? "true" : "false");
		default:
			return enum_text(DatumGetObjectId(value));
	}
}

static bool
is_number(const char *state, int64 limit)
{
	char	   *end;
	int64		value;

	errno = 0;
	value = strtoll(state, &end, 10);
	return errno == 0 && *end == '\0' && value <= limit && value >= -limit - 1 &&
		strcmp(number_text(value), state) == 0;
}

/* typmod: of varchar(n) or char(n), as the column has it; -1 where there is none. */
static bool
is_short_enough(const char *state, int32 typmod)
{
	return typmod < (int32) VARHDRSZ ||
		pg_mbstrlen_with_len(state, strlen(state)) <= typmod - (int32) VARHDRSZ;
}

/* Is the state's name, as it is spelled, the text of a value of the type? */
static bool
is_state_of(Oid type, int32 typmod, const char *state)
{
	switch (type)
	{
		case TEXTOID:
			return true;
		case VARCHAROID:
			return is_short_enough(state, typmod);
		case BPCHAROID:
			return is_short_enough(state, typmod) &&
				bpchartruelen((char *) state, strlen(state)) == strlen(state);
		case INT2OID:
			return is_number(state, PG_INT16_MAX);
		case INT4OID:
			return is_number(state, PG_INT32_MAX);
		case INT8OID:
			return is_number(state, PG_INT64_MAX);
		case BOOLOID:
			return strcmp(state, "true") == 0 || strcmp(state, "false") == 0;
		default:
			return strlen(state) < NAMEDATALEN &&
				SearchSysCacheExists2(ENUMTYPOIDNAME, ObjectIdGetDatum(type),
									  CStringGetDatum(state));
	}
}

void
ordflow_state_require(Oid relid, const char *column, const char *machine, const char *state)
{
	HeapTuple	tuple = SearchSysCacheAttName(relid, column);
	Form_pg_attribute attribute;
	int32		typmod;
	Oid			type;

	if (!HeapTupleIsValid(tuple))
		return;
	attribute = (Form_pg_attribute) GETSTRUCT(tuple);
	typmod = attribute->atttypmod;
	type = getBaseTypeAndTypmod(attribute->atttypid, &typmod);
	if (!is_state_of(type, typmod, state))
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("state \"%s\" of machine \"%s\" cannot stand in column \"%s\" of table %s",
					   state, machine, column, ordflow_machine_table(relid)),
				errdetail("The column is of type %s; a state is the text of a value as PostgreSQL writes it.",
						  format_type_with_typemod(type, typmod)));
	ReleaseSysCache(tuple);
}

/*
 * key.c
 *	  Keys of attached tables.
 *
 * A key of one column is a Datum of the column's type.  A composite key is a text: a JSON array
 * of the columns' texts, which is also what people see and write, always spelled in one way.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "machine/internal.h"

static bool
is_composite(const MachineTarget *target)
{
	return target->nkey_columns > 0;
}

int
ordflow_machine_key_width(const MachineTarget *target)
{
	return is_composite(target) ? target->nkey_columns : 1;
}

const char *
ordflow_machine_key_column(const MachineTarget *target, int i)
{
	return is_composite(target) ? target->key_columns[i].name : target->key_column;
}

static Oid
column_type(const MachineTarget *target, int i)
{
	return is_composite(target) ? target->key_columns[i].type : target->key_type;
}

/* ---- texts ---- */

/* Types that no setting of a session writes in another way. */
static bool
is_plain_type(Oid type)
{
	static const Oid types[] = {INT8OID, INT4OID, INT2OID, TEXTOID, VARCHAROID, UUIDOID, BPCHAROID,
	NUMERICOID, BOOLOID, OIDOID, NAMEOID, INETOID, CIDROID, MACADDROID};

	for (int i = 0; i < lengthof(types); i++)
		if (type == types[i])
			return true;
	return get_typtype(type) == TYPTYPE_ENUM;
}

/* As one and the same session would write it, so that it is the same key for all. */
static char *
pinned_text(Oid output, Datum value)
{
	static const char *const settings[][2] = {
		{"DateStyle", "ISO, YMD"}, {"IntervalStyle", "postgres"}, {"TimeZone", "UTC"},
		{"extra_float_digits", "1"}, {"bytea_output", "hex"}, {"lc_monetary", "C"}
	};
	int			level = NewGUCNestLevel();
	char	   *text;

	for (int i = 0; i < lengthof(settings); i++)
		set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
						  GUC_ACTION_SAVE, true, 0, false);
	text = OidOutputFunctionCall(output, value);
	AtEOXact_GUC(true, level);
	return text;
}

static char *
value_text(Oid type, Datum value)
{
	char		buffer[MAXDATELEN + 1];
	int			utc = 0;
	Oid			output;
	bool		varlena;

	if (type == TIMESTAMPTZOID || type == TIMESTAMPOID || type == DATEOID)
		return pstrdup(JsonEncodeDateTime(buffer, value, type,
										  type == TIMESTAMPTZOID ? &utc : NULL));
	getTypeOutputInfo(type, &output, &varlena);
	return is_plain_type(type) ? OidOutputFunctionCall(output, value) : pinned_text(output, value);
}

char *
ordflow_machine_key_text(const MachineTarget *target, Datum key)
{
	return is_composite(target) ? TextDatumGetCString(key) : value_text(target->key_type, key);
}

static void
append_element(StringInfo json, const char *text)
{
	appendStringInfoString(json, json->len > 0 ? ", " : "[");
	escape_json(json, text);
}

Datum
ordflow_machine_key_make(const MachineTarget *target, const Datum *values, const bool *nulls,
						 bool *isnull)
{
	StringInfoData json;

	*isnull = false;
	for (int i = 0; i < ordflow_machine_key_width(target); i++)
		*isnull = *isnull || nulls[i];
	if (*isnull || !is_composite(target))
		return *isnull ? (Datum) 0 : values[0];
	initStringInfo(&json);
	for (int i = 0; i < target->nkey_columns; i++)
		append_element(&json, value_text(target->key_columns[i].type, values[i]));
	appendStringInfoChar(&json, ']');
	return PointerGetDatum(cstring_to_text_with_len(json.data, json.len));
}

Datum
ordflow_machine_key_result(const MachineTarget *target, uint64 row)
{
	Datum	   *values = palloc(sizeof(Datum) * ordflow_machine_key_width(target));
	bool	   *nulls = palloc(sizeof(bool) * ordflow_machine_key_width(target));
	bool		isnull;
	Datum		key;
	int16		length;
	bool		byval;

	for (int i = 0; i < ordflow_machine_key_width(target); i++)
		values[i] = ordflow_result(row, i + 1, &nulls[i]);
	key = ordflow_machine_key_make(target, values, nulls, &isnull);
	if (isnull)
		elog(ERROR, "a row of table %s has no key", ordflow_machine_table(target->relid));
	get_typlenbyval(target->key_type, &length, &byval);
	return datumCopy(key, byval, length);
}

/* ---- keys from texts ---- */

static Datum
value_from_text(const MachineTarget *target, int i, char *text)
{
	Oid			input;
	Oid			param;

	getTypeInputInfo(column_type(target, i), &input, &param);
	return OidInputFunctionCall(input, text, param, -1);
}

static void
refuse_text(const MachineTarget *target, const char *text)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < target->nkey_columns; i++)
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", target->key_columns[i].name);
	ereport(ERROR,
			errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
			errmsg("\"%s\" is no key of table %s", text, ordflow_machine_table(target->relid)),
			errhint("A key of several columns is a JSON array of their values, here of %s.",
					names.data));
}

/* NULL: no value that could be one of a column. */
static char *
element_text(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out,
													   NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

static Datum
composite_from_text(const MachineTarget *target, const char *text)
{
	Jsonb	   *json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
	int			n = target->nkey_columns;
	Datum	   *values = palloc(sizeof(Datum) * n);
	bool	   *nulls = palloc0(sizeof(bool) * n);
	bool		isnull;

	if (!JB_ROOT_IS_ARRAY(json) || JB_ROOT_IS_SCALAR(json) || JB_ROOT_COUNT(json) != n)
		refuse_text(target, text);
	for (int i = 0; i < n; i++)
	{
		char	   *element = element_text(getIthJsonbValueFromContainer(&json->root, i));

		if (element == NULL)
			refuse_text(target, text);
		values[i] = value_from_text(target, i, element);
	}
	return ordflow_machine_key_make(target, values, nulls, &isnull);
}

/* As the table's owner: the input of a type made of domains runs their CHECKs. */
Datum
ordflow_machine_key_from_text(const MachineTarget *target, const char *text)
{
	RoleSwitch	saved;
	Datum		key;

	ordflow_machine_require_columns(target);
	saved = ordflow_machine_owner_enter(target->relid);
	key = is_composite(target) ? composite_from_text(target, text) :
		value_from_text(target, 0, pstrdup(text));
	ordflow_role_leave(saved);
	return key;
}

/* ---- SQL ---- */

char *
ordflow_machine_type_name(Oid type)
{
	return format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

char *
ordflow_machine_key_list(const MachineTarget *target)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < ordflow_machine_key_width(target); i++)
		appendStringInfo(&list, "%so.%s", i > 0 ? ", " : "",
						 quote_identifier(ordflow_machine_key_column(target, i)));
	return list.data;
}

/* "o.a IS NOT NULL AND o.b IS NOT NULL" */
char *
ordflow_machine_key_not_null(const MachineTarget *target)
{
	StringInfoData condition;

	initStringInfo(&condition);
	for (int i = 0; i < ordflow_machine_key_width(target); i++)
		appendStringInfo(&condition, "%so.%s IS NOT NULL", i > 0 ? " AND " : "",
						 quote_identifier(ordflow_machine_key_column(target, i)));
	return condition.data;
}

/*
 * "o.column OPERATOR(schema.=)".  Operators are named in full: search_path is pinned, and an
 * extension's type has its own equality elsewhere.
 */
static char *
column_equals(const MachineTarget *target, int i)
{
	const char *column = ordflow_machine_key_column(target, i);
	TypeCacheEntry *type = lookup_type_cache(column_type(target, i), TYPECACHE_EQ_OPR);
	HeapTuple	tuple;
	Form_pg_operator operator;
	char	   *result;

	if (!OidIsValid(type->eq_opr))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_FUNCTION),
				errmsg("type %s of key column \"%s\" has no equality operator",
					   format_type_be(column_type(target, i)), column));
	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(type->eq_opr));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", type->eq_opr);
	operator = (Form_pg_operator) GETSTRUCT(tuple);
	result = psprintf("o.%s OPERATOR(%s.%s)", quote_identifier(column),
					  quote_identifier(get_namespace_name(operator->oprnamespace)),
					  NameStr(operator->oprname));
	ReleaseSysCache(tuple);
	return result;
}

/* "o.a = (key ->> 0)::type AND ..." */
static char *
composite_equals(const MachineTarget *target, const char *key)
{
	StringInfoData condition;

	initStringInfo(&condition);
	for (int i = 0; i < target->nkey_columns; i++)
		appendStringInfo(&condition, "%s%s ((%s::jsonb ->> %d)::%s)", i > 0 ? " AND " : "",
						 column_equals(target, i), key, i,
						 ordflow_machine_type_name(target->key_columns[i].type));
	return condition.data;
}

char *
ordflow_machine_key_condition(const MachineTarget *target, int param, bool any)
{
	if (!is_composite(target))
		return psprintf("%s %s($%d)", column_equals(target, 0), any ? "ANY " : "", param);
	if (!any)
		return composite_equals(target, psprintf("$%d", param));
	return psprintf("EXISTS (SELECT FROM unnest($%d) AS k (key) WHERE %s)", param,
					composite_equals(target, "k.key"));
}

/* By a hash of the list, which may be long. */
char *
ordflow_machine_key_exclusion(const MachineTarget *target, int param)
{
	if (!is_composite(target))
		return psprintf("NOT (%s ANY (SELECT unnest($%d)))", column_equals(target, 0), param);
	return psprintf("NOT EXISTS (SELECT FROM unnest($%d) AS k (key) WHERE %s)", param,
					composite_equals(target, "k.key"));
}

Datum
ordflow_machine_key_array(const MachineTarget *target, const Datum *keys, int n)
{
	int16		length;
	bool		byval;
	char		align;

	get_typlenbyvalalign(target->key_type, &length, &byval, &align);
	return PointerGetDatum(construct_array((Datum *) keys, n, target->key_type,
										   length, byval, align));
}

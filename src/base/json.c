/*
 * json.c
 *	  Reading JSON arguments by a table of fields, and building JSON answers.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "base/base.h"
#include "base/json.h"

/* a number in a string longer than this is no amount of money */
#define NUMBER_TEXT_MAX 64

static const char *const kind_names[] = {
	[JSON_TEXT] = "a string",
	[JSON_QUANTITY] = "a whole number",
	[JSON_AMOUNT] = "a number",
	[JSON_BOOLEAN] = "true or false",
	[JSON_OBJECT] = "an object",
	[JSON_ARRAY] = "an array"
};

static bool
refuse_kind(const char *what, const JsonField *field, Problem *problem)
{
	return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL, NULL,
						  "%s: \"%s\" must be %s", what, field->name, kind_names[field->kind]);
}

/*
 * numeric_in() takes NaN, Infinity and white space, and raises on the rest:
 * only plain decimal notation gets through to it.
 */
static bool
number_from_text(const char *text, int len, Datum *number)
{
	char		buf[NUMBER_TEXT_MAX + 1];
	const char *p = buf;
	int			digits = 0;

	if (len < 1 || len > NUMBER_TEXT_MAX)
		return false;
	memcpy(buf, text, len);
	buf[len] = '\0';

	if (*p == '-' || *p == '+')
		p++;
	for (; *p >= '0' && *p <= '9'; p++)
		digits++;
	if (*p == '.')
		for (p++; *p >= '0' && *p <= '9'; p++)
			digits++;
	if (*p != '\0' || digits == 0)
		return false;

	*number = DirectFunctionCall3(numeric_in, CStringGetDatum(buf),
								  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	return true;
}

static bool
read_text(const char *what, const JsonField *field, JsonItem *item, Problem *problem)
{
	if (item->value.type != jbvString)
		return refuse_kind(what, field, problem);
	item->text = pnstrdup(item->value.val.string.val, item->value.val.string.len);
	return ordflow_check_text(item->text, psprintf("%s: \"%s\"", what, field->name), problem);
}

static bool
read_quantity(const char *what, const JsonField *field, JsonItem *item, Problem *problem)
{
	Numeric		number;
	Datum		limit;

	if (item->value.type != jbvNumeric)
		return refuse_kind(what, field, problem);
	number = item->value.val.numeric;
	limit = NumericGetDatum(int64_to_numeric(ORDFLOW_QUANTITY_MAX));
	if (DatumGetBool(DirectFunctionCall2(numeric_gt, NumericGetDatum(number), limit)))
		return ordflow_refuse(problem, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, NULL, NULL,
							  "%s: \"%s\" may be at most %lld", what, field->name,
							  (long long) ORDFLOW_QUANTITY_MAX);
	if (DatumGetBool(DirectFunctionCall2(numeric_lt, NumericGetDatum(number),
										 NumericGetDatum(int64_to_numeric(1)))))
		return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL, NULL,
							  "%s: \"%s\" must be at least 1", what, field->name);
	item->quantity = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(number)));
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, NumericGetDatum(number),
										  NumericGetDatum(int64_to_numeric(item->quantity)))))
		return refuse_kind(what, field, problem);
	return true;
}

static bool
read_amount(const char *what, const JsonField *field, JsonItem *item, Problem *problem)
{
	switch (item->value.type)
	{
		case jbvNumeric:
			item->amount = NumericGetDatum(item->value.val.numeric);
			return true;
		case jbvString:
			if (number_from_text(item->value.val.string.val, item->value.val.string.len,
								 &item->amount))
				return true;
			break;
		default:
			break;
	}
	return refuse_kind(what, field, problem);
}

static bool
read_item(const char *what, const JsonField *field, JsonItem *item, Problem *problem)
{
	JsonbContainer *container;

	switch (field->kind)
	{
		case JSON_TEXT:
			return read_text(what, field, item, problem);
		case JSON_QUANTITY:
			return read_quantity(what, field, item, problem);
		case JSON_AMOUNT:
			return read_amount(what, field, item, problem);
		case JSON_BOOLEAN:
			if (item->value.type != jbvBool)
				return refuse_kind(what, field, problem);
			item->boolean = item->value.val.boolean;
			return true;
		case JSON_OBJECT:
		case JSON_ARRAY:
			if (item->value.type != jbvBinary)
				return refuse_kind(what, field, problem);
			container = item->value.val.binary.data;
			if ((field->kind == JSON_OBJECT) != JsonContainerIsObject(container))
				return refuse_kind(what, field, problem);
			return true;
	}
	pg_unreachable();
}

static const char *
valid_names(const JsonField *fields, int nfields)
{
	StringInfoData names;

	initStringInfo(&names);
	appendStringInfoString(&names, "Valid keys are");
	for (int i = 0; i < nfields; i++)
		appendStringInfo(&names, "%s \"%s\"", i > 0 ? "," : "", fields[i].name);
	appendStringInfoChar(&names, '.');
	return names.data;
}

static int
field_index(const JsonbValue *key, const JsonField *fields, int nfields)
{
	for (int i = 0; i < nfields; i++)
		if (strlen(fields[i].name) == key->val.string.len &&
			memcmp(fields[i].name, key->val.string.val, key->val.string.len) == 0)
			return i;
	return -1;
}

bool
ordflow_json_read(JsonbContainer *object, const char *what, const JsonField *fields,
				  int nfields, JsonItem *items, Problem *problem)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue	value;

	for (int i = 0; i < nfields; i++)
	{
		memset(&items[i], 0, sizeof(JsonItem));
		items[i].null = true;
	}
	if (object == NULL || !JsonContainerIsObject(object))
		return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL, NULL,
							  "%s must be a JSON object", what);

	it = JsonbIteratorInit(object);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		int			i;

		if (token != WJB_KEY)
			continue;
		i = field_index(&value, fields, nfields);
		if (i < 0)
			return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
								  valid_names(fields, nfields), "%s: unknown key \"%s\"", what,
								  pnstrdup(value.val.string.val,
										   pg_mbcliplen(value.val.string.val, value.val.string.len,
													ORDFLOW_TEXT_MAX)));
		token = JsonbIteratorNext(&it, &value, true);
		Assert(token == WJB_VALUE);
		items[i].given = true;
		items[i].value = value;
		items[i].null = value.type == jbvNull;
		if (!items[i].null && !read_item(what, &fields[i], &items[i], problem))
			return false;
	}

	for (int i = 0; i < nfields; i++)
		if (fields[i].required && items[i].null)
			return ordflow_refuse(problem, ERRCODE_INVALID_PARAMETER_VALUE, NULL, NULL,
								  "%s: \"%s\" is missing", what, fields[i].name);
	return true;
}

JsonbContainer *
ordflow_json_element(JsonbContainer *array, uint32 i)
{
	JsonbValue *value = getIthJsonbValueFromContainer(array, i);

	return value != NULL && value->type == jbvBinary ? value->val.binary.data : NULL;
}

JsonbContainer *
ordflow_json_container(const JsonbValue *value)
{
	Assert(value->type == jbvBinary);
	return value->val.binary.data;
}

Datum
ordflow_json_datum(JsonbValue *value)
{
	return JsonbPGetDatum(JsonbValueToJsonb(value));
}

void
ordflow_json_begin_object(JsonBuild *b)
{
	b->result = pushJsonbValue(&b->state, WJB_BEGIN_OBJECT, NULL);
}

void
ordflow_json_end_object(JsonBuild *b)
{
	b->result = pushJsonbValue(&b->state, WJB_END_OBJECT, NULL);
}

void
ordflow_json_begin_array(JsonBuild *b)
{
	b->result = pushJsonbValue(&b->state, WJB_BEGIN_ARRAY, NULL);
}

void
ordflow_json_end_array(JsonBuild *b)
{
	b->result = pushJsonbValue(&b->state, WJB_END_ARRAY, NULL);
}

void
ordflow_json_key(JsonBuild *b, const char *key)
{
	JsonbValue	value = {.type = jbvString};

	value.val.string.val = pstrdup(key);
	value.val.string.len = strlen(key);
	b->result = pushJsonbValue(&b->state, WJB_KEY, &value);
}

/* A scalar: an element where key is NULL, else the value of the key. */
static void
put(JsonBuild *b, const char *key, JsonbValue *value)
{
	if (key != NULL)
		ordflow_json_key(b, key);
	b->result = pushJsonbValue(&b->state, key == NULL ? WJB_ELEM : WJB_VALUE, value);
}

void
ordflow_json_put_text(JsonBuild *b, const char *key, const char *text)
{
	JsonbValue	value = {.type = jbvString};

	if (text == NULL)
	{
		ordflow_json_put_null(b, key);
		return;
	}
	value.val.string.val = pstrdup(text);
	value.val.string.len = strlen(text);
	put(b, key, &value);
}

void
ordflow_json_put_int64(JsonBuild *b, const char *key, int64 number)
{
	JsonbValue	value = {.type = jbvNumeric};

	value.val.numeric = int64_to_numeric(number);
	put(b, key, &value);
}

void
ordflow_json_put_numeric(JsonBuild *b, const char *key, Datum number)
{
	JsonbValue	value = {.type = jbvNumeric};

	value.val.numeric = DatumGetNumeric(number);
	put(b, key, &value);
}

void
ordflow_json_put_bool(JsonBuild *b, const char *key, bool boolean)
{
	JsonbValue	value = {.type = jbvBool};

	value.val.boolean = boolean;
	put(b, key, &value);
}

void
ordflow_json_put_null(JsonBuild *b, const char *key)
{
	JsonbValue	value = {.type = jbvNull};

	put(b, key, &value);
}

void
ordflow_json_put_jsonb(JsonBuild *b, const char *key, Jsonb *jsonb)
{
	JsonbValue	value;

	JsonbToJsonbValue(jsonb, &value);
	if (value.type == jbvBinary && JsonContainerIsScalar(&jsonb->root))
		JsonbExtractScalar(&jsonb->root, &value);
	put(b, key, &value);
}

Jsonb *
ordflow_json_finish(JsonBuild *b)
{
	return JsonbValueToJsonb(b->result);
}

char *
ordflow_json_text(Jsonb *value)
{
	return JsonbToCString(NULL, &value->root, VARSIZE(value));
}

/*
 * json.h
 *	  Reading JSON arguments by a table of fields, and building JSON answers.
 */
#ifndef ORDFLOW_JSON_H
#define ORDFLOW_JSON_H

#include "postgres.h"
#include "utils/jsonb.h"

#include "base/error.h"

typedef enum JsonKind
{
	JSON_TEXT,					/* a string */
	JSON_QUANTITY,				/* a whole number from 1 to ORDFLOW_QUANTITY_MAX */
	JSON_AMOUNT,				/* a number, or a string that is one; finite */
	JSON_BOOLEAN,
	JSON_OBJECT,
	JSON_ARRAY
} JsonKind;

typedef struct JsonField
{
	const char *name;
	JsonKind	kind;
	bool		required;
} JsonField;

/*
 * A field that was read; null means missing or JSON null.  Which member counts
 * follows from the field's kind.
 */
typedef struct JsonItem
{
	bool		null;
	bool		given;			/* the key was there, with null or not */
	char	   *text;			/* JSON_TEXT: at most ORDFLOW_TEXT_MAX bytes, not empty */
	int64		quantity;		/* JSON_QUANTITY */
	Datum		amount;			/* JSON_AMOUNT: a numeric */
	bool		boolean;		/* JSON_BOOLEAN */
	JsonbValue	value;			/* every kind: the value as it was given */
} JsonItem;

/*
 * Reads the fields of one JSON object into items[nfields].  Refuses anything
 * but an object (22023), an unknown key (22023, the hint names the valid ones), a
 * missing required field (22023), a value of another kind (22023), a number out
 * of range (22003), a text too long (22001).  "what" names the object in messages, as in "line 3".
 */
extern bool ordflow_json_read(JsonbContainer *object, const char *what,
							  const JsonField *fields, int nfields,
							  JsonItem *items, Problem *problem);

/*
 * The i-th element of an array as a container; NULL when it is no object or array.
 */
extern JsonbContainer *ordflow_json_element(JsonbContainer *array, uint32 i);

/* The container of a value of kind JSON_OBJECT or JSON_ARRAY (jbvBinary). */
extern JsonbContainer *ordflow_json_container(const JsonbValue *value);

/* A jsonb datum of any JsonbValue. */
extern Datum ordflow_json_datum(JsonbValue *value);

/*
 * Building: a state machine over pushJsonbValue.
 *
 *		JsonBuild	b = {0};
 *		ordflow_json_begin_object(&b);
 *		ordflow_json_put_text(&b, "sku", sku);		(NULL writes null)
 *		ordflow_json_end_object(&b);
 *		result = ordflow_json_finish(&b);
 *
 * The key is NULL inside an array.
 */
typedef struct JsonBuild
{
	JsonbParseState *state;
	JsonbValue *result;
} JsonBuild;

extern void ordflow_json_begin_object(JsonBuild *b);
extern void ordflow_json_end_object(JsonBuild *b);
extern void ordflow_json_begin_array(JsonBuild *b);
extern void ordflow_json_end_array(JsonBuild *b);
extern void ordflow_json_key(JsonBuild *b, const char *key);
extern void ordflow_json_put_text(JsonBuild *b, const char *key, const char *value);
extern void ordflow_json_put_int64(JsonBuild *b, const char *key, int64 value);
extern void ordflow_json_put_numeric(JsonBuild *b, const char *key, Datum value);
extern void ordflow_json_put_bool(JsonBuild *b, const char *key, bool value);
extern void ordflow_json_put_null(JsonBuild *b, const char *key);
extern void ordflow_json_put_jsonb(JsonBuild *b, const char *key, Jsonb *value);
extern Jsonb *ordflow_json_finish(JsonBuild *b);

extern char *ordflow_json_text(Jsonb *value);	/* as a C string */

#endif							/* ORDFLOW_JSON_H */

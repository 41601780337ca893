/*
 * array.c
 *	  C arrays as datums for unnest().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "base/base.h"

static Datum
array_of(Datum *values, bool *nulls, int n, Oid type, int16 typlen, bool typbyval, char typalign)
{
	int			dims[1] = {n};
	int			lbs[1] = {1};

	if (n == 0)
		return PointerGetDatum(construct_empty_array(type));
	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lbs,
											  type, typlen, typbyval, typalign));
}

Datum
ordflow_int8_array(const int64 *values, int n)
{
	Datum	   *datums = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		datums[i] = Int64GetDatum(values[i]);
	return array_of(datums, NULL, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

Datum
ordflow_id_array(const int64 *ids, int n)
{
	Datum	   *datums = palloc(sizeof(Datum) * Max(n, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		datums[i] = Int64GetDatum(ids[i]);
		nulls[i] = ids[i] == 0;
	}
	return array_of(datums, nulls, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

Datum
ordflow_text_array(const char *const *values, int n)
{
	Datum	   *datums = palloc(sizeof(Datum) * Max(n, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		nulls[i] = values[i] == NULL;
		datums[i] = nulls[i] ? (Datum) 0 : CStringGetTextDatum(values[i]);
	}
	return array_of(datums, nulls, n, TEXTOID, -1, false, TYPALIGN_INT);
}

Datum
ordflow_numeric_array(const Datum *values, const bool *nulls, int n)
{
	return array_of((Datum *) values, (bool *) nulls, n, NUMERICOID, -1, false, TYPALIGN_INT);
}

Datum
ordflow_jsonb_array(const Datum *values, const bool *nulls, int n)
{
	return array_of((Datum *) values, (bool *) nulls, n, JSONBOID, -1, false, TYPALIGN_INT);
}

Datum
ordflow_timestamptz_array(const Datum *values, int n)
{
	return array_of((Datum *) values, NULL, n, TIMESTAMPTZOID, sizeof(int64),
					FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

/*
 * refund_outcome.c
 *	  What became of a refund: done, failed, or released after a look at it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "order/order.h"

PG_FUNCTION_INFO_V1(ordflow_refund_done);
PG_FUNCTION_INFO_V1(ordflow_refund_failed);
PG_FUNCTION_INFO_V1(ordflow_release_refund);

static Statement lock_refund = {
	.sql = "SELECT state, provider_refund_id FROM ordflow.refunds WHERE refund_id = $1 "
	"FOR NO KEY UPDATE",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement set_refund = {
	.sql = "UPDATE ordflow.refunds SET state = $2, "
	"provider_refund_id = coalesce($3, provider_refund_id), error = $4, actor = $5, updated_at = $6 WHERE refund_id = $1",
	.nargs = 6,
	.argtypes = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID}
};

/* Locks a refund and returns its state: OF004 when there is none. */
static char *
lock_refund_state(int64 refund_id, char **provider_refund_id)
{
	Datum		values[1] = {Int64GetDatum(refund_id)};

	if (ordflow_execute(&lock_refund, values, NULL) == 0)
		ereport(ERROR,
				errcode(ERRCODE_ORDFLOW_NO_SUCH_OBJECT),
				errmsg("refund %lld does not exist", (long long) refund_id));
	*provider_refund_id = ordflow_result_text(0, 2);
	return ordflow_result_text(0, 1);
}

static void
set_refund_state(int64 refund_id, const char *state, const char *provider_refund_id,
				 const char *error)
{
	Datum		values[6];
	char		nulls[7] = "      ";

	values[0] = Int64GetDatum(refund_id);
	values[1] = CStringGetTextDatum(state);
	ORDFLOW_SET_TEXT(values, nulls, 2, provider_refund_id);
	ORDFLOW_SET_TEXT(values, nulls, 3, error);
	values[4] = CStringGetTextDatum(ordflow_actor());
	values[5] = TimestampTzGetDatum(GetCurrentTimestamp());
	ordflow_execute(&set_refund, values, nulls);
}

static void
refund_illegal(int64 refund_id, const char *state, const char *what, const char *hint)
{
	ereport(ERROR,
			errcode(ERRCODE_ORDFLOW_ILLEGAL_TRANSITION),
			errmsg("refund %lld is %s and cannot be %s", (long long) refund_id, state, what),
			hint ? errhint("%s", hint) : 0);
}

Datum
ordflow_refund_done(PG_FUNCTION_ARGS)
{
	int64		refund_id;
	char	   *provider_refund_id;
	char	   *known_id;
	char	   *state;
	const char *result = "applied";

	ordflow_require_version();
	ordflow_require_not_null(fcinfo, 0, "refund_id");
	refund_id = PG_GETARG_INT64(0);
	provider_refund_id = ordflow_arg_text(fcinfo, 1, "provider_refund_id");

	SPI_connect();
	state = lock_refund_state(refund_id, &known_id);
	if (strcmp(state, "done") == 0 && known_id != NULL && strcmp(known_id, provider_refund_id) == 0)
		result = "duplicate";
	else if (strcmp(state, "done") == 0)
		refund_illegal(refund_id, state, "done again with another provider_refund_id", NULL);
	else if (strcmp(state, "held") == 0)
		refund_illegal(refund_id, state, "done",
					   "Look at its payment, then call ordflow.release_refund() or ordflow.refund_failed().");
	else
		set_refund_state(refund_id, "done", provider_refund_id, NULL);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

Datum
ordflow_refund_failed(PG_FUNCTION_ARGS)
{
	int64		refund_id;
	char	   *error;
	char	   *known_id;
	char	   *state;
	const char *result = "applied";

	ordflow_require_version();
	ordflow_require_not_null(fcinfo, 0, "refund_id");
	ordflow_require_not_null(fcinfo, 1, "error");
	refund_id = PG_GETARG_INT64(0);
	error = text_to_cstring(PG_GETARG_TEXT_PP(1));

	SPI_connect();
	state = lock_refund_state(refund_id, &known_id);
	if (strcmp(state, "failed") == 0)
		result = "duplicate";
	else if (strcmp(state, "done") == 0)
		refund_illegal(refund_id, state, "failed", NULL);
	else
		set_refund_state(refund_id, "failed", NULL, error);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

Datum
ordflow_release_refund(PG_FUNCTION_ARGS)
{
	int64		refund_id;
	char	   *known_id;
	char	   *state;
	const char *result = "applied";

	ordflow_require_version();
	ordflow_require_not_null(fcinfo, 0, "refund_id");
	refund_id = PG_GETARG_INT64(0);

	SPI_connect();
	state = lock_refund_state(refund_id, &known_id);
	if (strcmp(state, "due") == 0)
		result = "duplicate";
	else if (strcmp(state, "held") != 0)
		refund_illegal(refund_id, state, "released", NULL);
	else
		set_refund_state(refund_id, "due", NULL, NULL);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

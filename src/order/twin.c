/*
 * twin.c
 *	  What a taken idempotency key or order number stands for.
 *
 * Arguments are compared as parsed values: 2.55 equals 2.550, and the order of keys
 * in an object means nothing.
 */
#include "postgres.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"

#include "order/order.h"

static Statement find_twin = {
	.sql = "SELECT order_id, currency, coupon FROM ordflow.orders "
	"WHERE customer = $1 AND idempotency_key = $2",
	.nargs = 2,
	.argtypes = {TEXTOID, TEXTOID}
};

static Statement find_guest_twin = {
	.sql = "SELECT order_id, currency, coupon FROM ordflow.orders "
	"WHERE customer IS NULL AND idempotency_key = $1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static Statement find_number = {
	.sql = "SELECT 1 FROM ordflow.orders WHERE order_no = $1",
	.nargs = 1,
	.argtypes = {TEXTOID}
};

static Statement twin_lines = {
	.sql = "SELECT sku, location, quantity, unit_price, metadata FROM ordflow.order_lines "
	"WHERE order_id = $1 ORDER BY line_no",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static Statement twin_charges = {
	.sql = "SELECT code, amount FROM ordflow.order_charges WHERE order_id = $1 AND NOT added "
	"ORDER BY charge_no",
	.nargs = 1,
	.argtypes = {INT8OID}
};

static bool
same_text(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

static bool
same_lines(const OrderRequest *request, int64 order_id)
{
	Datum		values[1] = {Int64GetDatum(order_id)};

	if (ordflow_execute(&twin_lines, values, NULL) != request->nlines)
		return false;
	for (int i = 0; i < request->nlines; i++)
	{
		const OrderLine *line = &request->lines[i];
		bool		isnull;
		Datum		price = ordflow_result(i, 4, &isnull);
		Datum		metadata = ordflow_result(i, 5, &isnull);

		if (!same_text(line->sku, ordflow_result_text(i, 1)) ||
			!same_text(line->location, ordflow_result_text(i, 2)) ||
			line->quantity != ordflow_result_int64(i, 3) ||
			!DatumGetBool(DirectFunctionCall2(numeric_eq, line->unit_price, price)) ||
			isnull != (line->metadata == NULL))
			return false;
		if (!isnull && compareJsonbContainers(&line->metadata->root,
											  &DatumGetJsonbP(metadata)->root) != 0)
			return false;
	}
	return true;
}

static bool
same_charges(const OrderRequest *request, int64 order_id)
{
	Datum		values[1] = {Int64GetDatum(order_id)};

	if (ordflow_execute(&twin_charges, values, NULL) != request->ncharges)
		return false;
	for (int i = 0; i < request->ncharges; i++)
	{
		bool		isnull;
		Datum		amount = ordflow_result(i, 2, &isnull);
		Datum		asked = ordflow_money_numeric(request->charges[i].amount, request->decimals);

		if (!same_text(request->charges[i].code, ordflow_result_text(i, 1)) ||
			!DatumGetBool(DirectFunctionCall2(numeric_eq, amount, asked)))
			return false;
	}
	return true;
}

static bool
twin_found(const OrderRequest *request)
{
	Datum		values[2];

	if (request->idempotency_key == NULL)
		return false;
	if (request->customer == NULL)
	{
		values[0] = CStringGetTextDatum(request->idempotency_key);
		return ordflow_execute(&find_guest_twin, values, NULL) == 1;
	}
	values[0] = CStringGetTextDatum(request->customer);
	values[1] = CStringGetTextDatum(request->idempotency_key);
	return ordflow_execute(&find_twin, values, NULL) == 1;
}

/* The twin that was just found: is it the same order? */
static bool
same_as_twin(const OrderRequest *request, int64 order_id)
{
	return same_text(request->currency, ordflow_result_text(0, 2)) &&
		same_text(request->coupon_code, ordflow_result_text(0, 3)) &&
		same_lines(request, order_id) && same_charges(request, order_id);
}

/* A repeat of the twin, or its key used again. */
static void
settle_with_twin(OrderRequest *request)
{
	int64		order_id = ordflow_result_int64(0, 1);

	request->order_id = order_id;
	if (same_as_twin(request, order_id))
	{
		request->result = SUBMIT_DUPLICATE;
		return;
	}
	ordflow_request_problem_begin(request, SUBMIT_KEY_CONFLICT, "key_conflict");
	ordflow_json_put_text(&request->detail, "idempotency_key", request->idempotency_key);
	ordflow_json_put_int64(&request->detail, "order_id", order_id);
	ordflow_request_problem_end(request);
}

/* What a column of an index must be. */
static void
init_key(ScanKey key, AttrNumber column, const char *value)
{
	if (value == NULL)
		ScanKeyEntryInitialize(key, SK_ISNULL | SK_SEARCHNULL, column, InvalidStrategy,
							   InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
	else
		ScanKeyEntryInitialize(key, 0, column, BTEqualStrategyNumber, InvalidOid,
							   C_COLLATION_OID, F_TEXTEQ, CStringGetTextDatum(value));
}

bool
ordflow_claim_is_free(const OrderRequest *request)
{
	RowReader	reader;
	SnapshotData dirty;
	ScanKeyData keys[2];
	bool		found;

	if (request->order_no != NULL)
		return false;
	if (request->idempotency_key == NULL)
		return true;

	/* sees what transactions have inserted that are still open */
	InitDirtySnapshot(dirty);
	init_key(&keys[0], 1, request->customer);
	init_key(&keys[1], 2, request->idempotency_key);
	ordflow_reader_open(&reader, "orders", "orders_idempotency_key", &dirty, keys, 2);
	found = ordflow_reader_next(&reader, ForwardScanDirection);
	ordflow_reader_close(&reader);
	return !found;
}

void
ordflow_recall_twin(OrderRequest *request)
{
	if (!twin_found(request))
		return;
	ordflow_request_reset(request);
	settle_with_twin(request);
}

bool
ordflow_settle_collision(OrderRequest *request)
{
	Datum		values[1];

	if (twin_found(request))
	{
		settle_with_twin(request);
		return true;
	}

	values[0] = CStringGetTextDatum(request->number);
	/* an order that is numbered by its id tries the next id */
	if (request->order_no == NULL || ordflow_execute(&find_number, values, NULL) == 0)
		return false;
	request->order_id = 0;
	request->result = SUBMIT_INVALID;
	ordflow_refuse(&request->problem, ERRCODE_UNIQUE_VIOLATION, NULL, NULL,
				   "an order with the number \"%s\" exists", request->number);
	return true;
}
